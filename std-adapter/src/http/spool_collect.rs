//! Taking a body into a spool, for handlers that begin before all of it is there.
//!
//! Its promises are listed at [`SpillPool::spool_body`].
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/too_long.rs`,
//! `tests/servers/tests/too_short.rs`.

use crate::api::buffer_builder::BufferBuilder;
use crate::api::pool::SpillPool;
use crate::api::spool::SpoolWriter;
use crate::api::spool_reader::SpoolReader;
use crate::http::collect_error::CollectError;
use crate::http::collected::Collected;
use crate::http::intake::{Accept, Intake};
use crate::polled::writer::PolledWriter;
use crate::tokio::runtime::poller;
use crate::tokio::spool_reader::AsyncSpoolReader;
use http::HeaderMap;
use http_body::Body;
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

impl SpillPool {
    /// Takes a body into a [spool](SpillPool::spool). Returns a future that moves the body there, to be run
    /// by a task of its own, and a reader that can follow at once. Clones of the reader are further readers.
    ///
    /// It promises what [`collect`](SpillPool::collect) does about the thread that polls it, about
    /// backpressure, the disk limit and bodies that end early. It also promises:
    ///
    /// - A reader sees every byte in order, and the end only after the end of the body.
    /// - If the body fails, is too long or stops arriving, or the future is dropped, a read past what had
    ///   arrived fails with [`SpillError::Unfinished`](crate::SpillError::Unfinished), with the text of the
    ///   future's error if there is one: a short body never looks whole.
    /// - The body arrives as fast as the pool takes it, whether or not a reader keeps up, and also without
    ///   one.
    ///
    /// If all readers [read once](AsyncSpoolReader::once), the bytes that they have passed are freed
    /// meanwhile, in whole pages. Then a body of any length needs only as much room as the slowest reader
    /// lags behind and up to three pages, of 64 KiB by default, and the [`Collected`] body lacks the freed
    /// part. While some reader does not read once, or there is none, a body that is longer than the memory
    /// limit and the disk limit together is too long, with status 413. It is refused only when the pool has
    /// no room for more of it; with status 503 if other content has most of the room then.
    ///
    /// It must be polled in a tokio runtime, like [`collect`](SpillPool::collect).
    ///
    /// # Cancel safety
    /// A dropped future has received a part of the body, which its readers can still read.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use overspill::SpillPool;
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
    /// let request = Full::new(&[7; 3_000_000][..]); // any body: hyper's, axum's, ...
    /// let (receiving, mut reader) = pool.spool_body(request);
    /// let receiving = tokio::spawn(receiving.limit(100 << 20));
    ///
    /// let mut head = [0; 4];
    /// reader.read_exact(&mut head).await?; // the rest may be on its way
    /// let collected = receiving.await??;
    /// assert_eq!((head, collected.len()), ([7; 4], 3_000_000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn spool_body<B>(&self, body: B) -> (SpoolCollect<B>, AsyncSpoolReader)
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        spool_body(self.spool(), body)
    }
}

impl BufferBuilder<'_> {
    /// Takes a body into a spool, as [`SpillPool::spool_body`] does, within the limits of this builder and
    /// with the file that it names: see [`spool`](BufferBuilder::spool).
    ///
    /// ```
    /// use http_body_util::Full;
    /// use overspill::{PersistError, SpillPool};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload");
    /// let pool = SpillPool::builder().memory(1 << 20).build()?;
    /// let request = Full::new(&[7; 3_000_000][..]);
    /// // What spills lies in the directory of the file that it will become.
    /// let (receiving, reader) = pool.buffer_builder().disk(100 << 20).file(&path).spool_body(request);
    /// # drop(reader);
    /// let collected = receiving.await?;
    /// let buffer = collected.into_buffer().expect("there is no other handle");
    /// // On an event loop, by `buffer.into_async().persist(path).await`.
    /// buffer.persist(&path).map_err(PersistError::into_error)?.durable()?;
    /// assert_eq!(std::fs::metadata(&path)?.len(), 3_000_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spool_body<B>(self, body: B) -> (SpoolCollect<B>, AsyncSpoolReader)
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        spool_body(self.spool(), body)
    }
}

fn spool_body<B>((writer, reader): (SpoolWriter, SpoolReader), body: B) -> (SpoolCollect<B>, AsyncSpoolReader)
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let writer = Some(PolledWriter::new(writer));
    (SpoolCollect { intake: Intake::new(body), writer, trailers: None }, reader.into_async())
}

pin_project! {
    /// A body on its way into a spool; see [`SpillPool::spool_body`].
    #[must_use = "a future does nothing unless it is polled, and its reader waits for it"]
    pub struct SpoolCollect<B>
    where
        B: Body,
    {
        #[pin]
        intake: Intake<B>,
        // `None` once it has ended.
        writer: Option<PolledWriter>,
        // `Some` once the body has ended, with its trailers if there were any.
        trailers: Option<Option<HeaderMap>>,
    }
}

impl<B> SpoolCollect<B>
where
    B: Body,
{
    /// Sets the length of the longest body that is taken, in bytes. Without it, the pool's limits alone
    /// decide.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.intake.limit = bytes;
        self
    }

    /// Sets the longest time between two frames of the body, as in
    /// [`Collect::idle_timeout`](crate::Collect::idle_timeout).
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.intake.idle = Some(idle);
        self
    }
}

impl Accept for PolledWriter {
    fn poll_accept(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write(poller(context), data)
    }

    /// Any number: readers that read once may come, and what they have passed is freed.
    fn most(&self) -> u64 {
        u64::MAX
    }

    fn most_when_refused(&self, requested: u64) -> u64 {
        self.room_when_refused(requested)
    }
}

/// # Panics
/// If it is polled again after it was ready.
impl<B> Future for SpoolCollect<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Collected, CollectError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let writer = this.writer.as_mut().expect("a future is not polled after it was ready");
        if this.trailers.is_none() {
            match ready!(this.intake.as_mut().poll_into(context, writer)) {
                Ok(trailers) => *this.trailers = Some(trailers),
                Err(error) => {
                    writer.fail(&error);
                    *this.writer = None;
                    return Poll::Ready(Err(error));
                }
            }
        }
        let received = writer.len();
        let finished = ready!(writer.poll_finish(poller(context)));
        let most = |requested| writer.most_when_refused(requested);
        let finished = finished.map_err(|error| CollectError::of_sink(received, received, error, most));
        if let Err(error) = &finished {
            writer.fail(error); // its text, which may be shown to a client
        }
        *this.writer = None;
        Poll::Ready(finished.map(|frozen| Collected::new(frozen, this.trailers.take().flatten())))
    }
}

/// Shows nothing of the body.
impl<B: Body> fmt::Debug for SpoolCollect<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolCollect")
            .field("received", &self.writer.as_ref().map(PolledWriter::len))
            .finish_non_exhaustive()
    }
}
