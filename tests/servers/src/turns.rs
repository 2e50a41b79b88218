//! Turns at reading: a thousand connections that are all ready keep a timer of the runtime waiting for a few
//! of them, and not for all.
//!
//! A runtime looks at its timers and sockets when its queue is empty, or after 61 tasks, and what it finds
//! then comes after what is queued: after every connection that has something to read, each of which is worth
//! tens of microseconds of sums and copies. So a connection asks for a turn before it reads, and the turns
//! are given out anew, sixteen of them, once the runtime has looked.
//!
//! Promises: turns come in the order in which they were asked for; a connection that is dropped gives back
//! its own; a reader that has no rivals waits for a look of the runtime after each sixteen reads, and for
//! nobody; once turns are not given out any more, none is needed. With several workers one of them gives out
//! all turns: so a task that blocks that one holds up the readers of the others.
//!
//! Held by: the tests below, and `--bench uploads`.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio_util::sync::PollSemaphore;

/// Turns between two looks at timers and sockets: half a millisecond of sums and copies, a
/// read being one turn.
const AT_ONCE: usize = 16;

/// The turns of all connections of a server.
#[derive(Clone, Debug)]
pub struct Turns {
    left: Arc<Semaphore>,
    /// Turns between two looks.
    at_once: usize,
    /// None is left, and one was asked for.
    are_short: Arc<Notify>,
}

impl Default for Turns {
    fn default() -> Self {
        Turns::of(AT_ONCE)
    }
}

impl Turns {
    fn of(at_once: usize) -> Self {
        Turns { left: Arc::new(Semaphore::new(at_once)), at_once, are_short: Arc::default() }
    }

    /// Gives out turns for as long as it is polled.
    pub async fn renew(self) {
        /// What still reads as the server ends goes on without turns.
        struct Closing(Arc<Semaphore>);
        impl Drop for Closing {
            fn drop(&mut self) {
                self.0.close();
            }
        }
        let _closing = Closing(Arc::clone(&self.left));
        loop {
            self.are_short.notified().await;
            while self.left.available_permits() < self.at_once {
                yield_now().await; // until the runtime has looked at its timers and sockets
                self.left.add_permits(self.at_once.saturating_sub(self.left.available_permits()));
            }
        }
    }
}

/// A connection that reads in turn.
#[derive(Debug)]
pub struct InTurn {
    stream: TcpStream,
    turns: Turns,
    next: PollSemaphore,
}

impl InTurn {
    /// A connection among those that share `turns`.
    #[must_use]
    pub fn new(stream: TcpStream, turns: Turns) -> Self {
        InTurn { stream, next: PollSemaphore::new(Arc::clone(&turns.left)), turns }
    }
}

impl AsyncRead for InTurn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.stream.poll_read_ready(context))?;
        let Poll::Ready(turn) = self.next.poll_acquire(context) else {
            self.turns.are_short.notify_one();
            return Poll::Pending;
        };
        turn.into_iter().for_each(|turn| turn.forget());
        Pin::new(&mut self.stream).poll_read(context, buf)
    }
}

impl AsyncWrite for InTurn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Fewer than the tasks after which a runtime looks by itself.
    const FEW: usize = 8;

    const FOREVER: Duration = Duration::from_secs(60);

    /// Clients that have sent `sent`, and the connections to them.
    async fn connections(number: usize, sent: &[u8]) -> Vec<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut all = Vec::new();
        for _ in 0..number {
            let client = TcpStream::connect(listener.local_addr().unwrap());
            let (client, accepted) = tokio::join!(client, listener.accept());
            let (mut client, (connection, _)) = (client.unwrap(), accepted.unwrap());
            client.write_all(sent).await.unwrap();
            all.push((client, connection));
        }
        all
    }

    /// A runtime goes on with 61 tasks before it looks at its timers, and puts the timer's behind all that
    /// are queued: with a thousand uploads a tick of a millisecond came sixty milliseconds late.
    #[tokio::test]
    async fn a_runtime_looks_at_its_timers_after_a_few_reads_of_many_that_are_ready() {
        const NUMBER: usize = 20 * FEW;
        let turns = Turns::of(FEW);
        let _renewing = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(turns.clone().renew()));
        let reads = Arc::new(AtomicUsize::new(0));
        for (client, connection) in connections(NUMBER, b"x").await {
            let (mut connection, reads) = (InTurn::new(connection, turns.clone()), Arc::clone(&reads));
            tokio::spawn(async move {
                let _open = client;
                connection.read_exact(&mut [0]).await.unwrap();
                reads.fetch_add(1, Relaxed);
            });
        }
        let most = timeout(FOREVER, async {
            let (mut before, mut most) = (0, 0);
            while before < NUMBER {
                yield_now().await;
                let now = reads.load(Relaxed);
                most = most.max(now - before);
                before = now;
            }
            most
        });
        let most = most.await.expect("each gets its turn");
        assert!((1..=2 * FEW).contains(&most), "{most} reads between two looks");
    }

    #[tokio::test]
    async fn connections_that_are_dropped_as_they_wait_take_no_turns_with_them() {
        let turns = Turns::of(FEW);
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for (at, (client, connection)) in connections(4 * FEW, b"x").await.into_iter().enumerate() {
            let mut connection = InTurn::new(connection, turns.clone());
            let reader = tokio::spawn(async move {
                let _open = client;
                connection.read_exact(&mut [0]).await.unwrap();
            });
            if at % 2 == 0 { kept.push(reader) } else { dropped.push(reader) }
        }
        let has_first = timeout(FOREVER, async {
            while kept.iter().chain(&dropped).filter(|reader| reader.is_finished()).count() < FEW {
                yield_now().await;
            }
        });
        has_first.await.expect("turns are there at first");
        dropped.iter().for_each(|reader| reader.abort());
        let _renewing = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(turns.clone().renew()));
        for reader in kept {
            timeout(FOREVER, reader).await.expect("it gets its turn").unwrap();
        }
        let all_are_back = timeout(FOREVER, async {
            while turns.left.available_permits() < FEW {
                yield_now().await;
            }
        });
        all_are_back.await.expect("no turn is lost");
    }
}
