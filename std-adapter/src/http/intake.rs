//! A body on its way into a pool: limits, timeouts, and frames that are taken in part.
//!
//! Promises:
//!
//! - The body is asked for its next frame only when the last one was taken whole, so the sender is held back
//!   by what the pool takes.
//! - A poll that has taken 64 KiB, or 1,024 frames, lets the other tasks of its thread have their turn: where
//!   a thousand uploads are ready at once, each waits for all the others. A chunk of up to 1 MiB is taken
//!   without a look at that, so a poll takes less than 1 MiB and 64 KiB.
//! - The time that the pool needs does not count as the sender's.
//! - A body that ends before the length that it said is broken. hyper ends one as if it were whole when a
//!   client resets its stream of HTTP/2 with `NO_ERROR`.
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/idle.rs`,
//! `tests/servers/tests/too_long.rs`, `tests/servers/tests/too_short.rs`.

use crate::http::collect_error::CollectError;
use crate::polled::runtime::Runtime;
use crate::tokio::runtime::Tokio;
use bytes::Buf;
use http::HeaderMap;
use http_body::Body;
use pin_project_lite::pin_project;
use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes after which a poll gives way.
const TAKEN_AT_ONCE_MAX: u64 = 64 << 10;

/// Bytes of a frame that are taken without a look at that: a tenth of a millisecond's.
const PIECE_MAX: usize = 1 << 20;

/// Frames after which a poll gives way, however little they hold.
const FRAMES_AT_ONCE_MAX: u32 = 1024;

/// Where a body goes.
pub(crate) trait Accept {
    /// Takes at least one byte of `data`, which is not empty; or nothing, and wakes the task when it
    /// is to be tried again.
    fn poll_accept(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;

    /// The most bytes that it could ever take, as is known before it has any. A longer body is too long, and
    /// not one that has no room yet.
    fn most(&self) -> u64;

    /// The same, when it has refused some, since the pool has not `requested` more bytes of the disk.
    fn most_when_refused(&self, requested: u64) -> u64;
}

pin_project! {
    /// A body, how much of it came, and how much may come.
    pub(crate) struct Intake<B>
    where
        B: Body,
    {
        #[pin]
        body: B,
        // A frame of which some is still to be taken.
        rest: Option<B::Data>,
        trailers: Option<HeaderMap>,
        pub(crate) limit: u64,
        pub(crate) idle: Option<Duration>,
        pub(crate) received: u64,
        // Bytes that the sink had before, which take some of its room.
        pub(crate) before: u64,
        // Whether a frame is awaited, and since when.
        awaited_since: Option<Instant>,
        // With the number of its runtime.
        timer: Option<(u64, Pin<Box<Sleep>>)>,
    }
}

impl<B> Intake<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) fn new(body: B) -> Self {
        Intake {
            body,
            rest: None,
            trailers: None,
            limit: u64::MAX,
            idle: None,
            received: 0,
            before: 0,
            awaited_since: None,
            timer: None,
        }
    }

    /// Moves the body into `sink`. Ready, with the trailers, at its end.
    pub(crate) fn poll_into(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        sink: &mut impl Accept,
    ) -> Poll<Result<Option<HeaderMap>, CollectError>> {
        let (mut taken, mut frames) = (0, 0);
        loop {
            while let Some(rest) = self.as_mut().project().rest {
                if !rest.has_remaining() {
                    self.as_mut().project().rest.take();
                    break;
                }
                if taken >= TAKEN_AT_ONCE_MAX {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let chunk = &rest.chunk()[..rest.chunk().len().min(PIECE_MAX)];
                let accepted = match ready!(sink.poll_accept(context, chunk)) {
                    Ok(accepted) => accepted,
                    Err(source) => {
                        let (left, received) = (rest.remaining() as u64, self.received);
                        let len = received.saturating_add(left).saturating_add(self.body.size_hint().lower());
                        let most = |requested| sink.most_when_refused(requested).saturating_sub(self.before);
                        return Poll::Ready(Err(CollectError::of_sink(received, len, source, most)));
                    }
                };
                let this = self.as_mut().project();
                this.rest.as_mut().into_iter().for_each(|rest| rest.advance(accepted));
                *this.received += accepted as u64;
                taken += accepted as u64;
            }
            if frames == FRAMES_AT_ONCE_MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            frames += 1;
            // What is known of a body before it has begun may show that it never has room.
            let most = sink.most().saturating_sub(self.before);
            let limit = if self.received == 0 { self.limit.min(most) } else { self.limit };
            if !ready!(self.as_mut().poll_frame(context, limit))? {
                return Poll::Ready(Ok(self.project().trailers.take()));
            }
        }
    }

    /// Receives the next frame of a body of at most `limit` bytes. Ready with false at the end of the body.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        limit: u64,
    ) -> Poll<Result<bool, CollectError>> {
        let received = self.received;
        // The least that is still to come. The answer to `HEAD` names a length of which nothing comes.
        let least = if self.body.is_end_stream() { 0 } else { self.body.size_hint().lower() };
        if received.saturating_add(least) > limit {
            return Poll::Ready(Err(CollectError::TooLong { limit, received }));
        }
        let Poll::Ready(frame) = self.as_mut().project().body.poll_frame(context) else {
            return self.poll_idle(context).map(Err);
        };
        let this = self.project();
        *this.awaited_since = None;
        let frame = match frame {
            None if least == 0 => return Poll::Ready(Ok(false)),
            None => {
                let early =
                    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{least} bytes did not come"));
                return Poll::Ready(Err(CollectError::of_body(received, early.into())));
            }
            Some(Err(error)) => {
                return Poll::Ready(Err(CollectError::of_body(received, error.into())));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(data) if received.saturating_add(data.remaining() as u64) > limit => {
                return Poll::Ready(Err(CollectError::TooLong { limit, received }));
            }
            Ok(data) => *this.rest = Some(data),
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    match this.trailers {
                        Some(all) => all.extend(trailers),
                        None => *this.trailers = Some(trailers),
                    }
                }
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Ready when nothing has arrived for as long as it may.
    fn poll_idle(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<CollectError> {
        let this = self.project();
        let Some(idle) = *this.idle else { return Poll::Pending };
        let since = *this.awaited_since.get_or_insert_with(Instant::now);
        let Some(deadline) = since.checked_add(idle) else { return Poll::Pending };
        // One of another runtime goes off only if something runs that, and panics once it is shut down.
        let runtime = Tokio.number();
        let timer = this.timer.take().filter(|(of, _)| *of == runtime);
        let (_, timer) =
            this.timer.insert(timer.unwrap_or_else(|| (runtime, Box::pin(sleep_until(deadline)))));
        // One timer for all waits: moved only when it has gone off too early for this one.
        while timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(CollectError::Idle { received: *this.received, idle });
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
