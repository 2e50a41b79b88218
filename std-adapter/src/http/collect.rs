//! Taking a body into a pool.
//!
//! Its promises are listed at [`SpillPool::collect`].
//!
//! Held by: `tests/servers/tests/collect.rs`, `tests/servers/tests/too_long.rs`,
//! `tests/servers/tests/too_short.rs`, `tests/servers/tests/upload.rs`.

use crate::api::buffer::SpillBuffer;
use crate::api::pool::SpillPool;
use crate::http::collect_error::CollectError;
use crate::http::collected::Collected;
use crate::http::intake::{Accept, Intake};
use crate::polled::buffer::Polled;
use crate::tokio::runtime::poller;
use http::HeaderMap;
use http_body::Body;
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

impl SpillPool {
    /// Collects a body within the pool's limits. Returns a future of a [`Collected`] body, whose bytes can be
    /// read and sent any number of times.
    ///
    /// It promises:
    ///
    /// - The thread that polls it never waits for the disk. A part of the body is taken when there is memory
    ///   for it, or when a blocking thread of the runtime has written it.
    /// - The body is polled only as fast as the pool takes it: its sender is held back.
    /// - A body whose announced length is too great is refused before any of it is received, as soon as the
    ///   future is polled. A client that waits with `Expect: 100-continue` is not asked to send it. A body is
    ///   also too long if it is longer than the memory limit and the disk limit together; of each limit, the
    ///   lower one of the pool and the [buffer](Collect::buffer) counts.
    /// - A body that ends before its announced length is an error, with status 400. If a client resets an
    ///   HTTP/2 stream with `NO_ERROR`, hyper ends the body as if it were whole: a body of no announced
    ///   length is then taken for whole.
    /// - After an error, and when the future is dropped, the memory and disk of all that had arrived go back
    ///   to the pool.
    ///
    /// At the pool's disk limit it fails, or waits in turn and without blocking, as the pool's
    /// [`WhenFull`](crate::WhenFull) says.
    ///
    /// It must be polled in a tokio runtime, with the time driver enabled if there is an
    /// [idle timeout](Collect::idle_timeout).
    ///
    /// # Cancel safety
    /// The part of the body that a dropped future has received is lost. Its memory and disk go back to the
    /// pool, at once, or when the blocking thread that is writing has ended.
    ///
    /// ```
    /// use http_body_util::{BodyExt, Full};
    /// use overspill::SpillPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
    /// let request = Full::new(&[7; 3_000_000][..]); // any body: hyper's, axum's, ...
    /// let collected = pool.collect(request).limit(100 << 20).await?;
    ///
    /// assert_eq!(collected.len(), 3_000_000);
    /// for _attempt in 0..3 {
    ///     let sent = collected.body().collect().await?.to_bytes();
    ///     assert_eq!(sent, [7; 3_000_000][..]);
    /// }
    ///
    /// let refused = pool.collect(Full::new(&b"too long"[..])).limit(7).await.unwrap_err();
    /// assert_eq!(refused.status(), 413);
    /// # Ok(())
    /// # }
    /// ```
    pub fn collect<B>(&self, body: B) -> Collect<B>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        Collect { intake: Intake::new(body), buffer: Some(Polled::new(self.buffer())), trailers: None }
    }
}

pin_project! {
    /// A body that is being collected; see [`SpillPool::collect`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct Collect<B>
    where
        B: Body,
    {
        #[pin]
        intake: Intake<B>,
        // `None` once it was returned.
        buffer: Option<Polled>,
        // `Some` once the body has ended, with its trailers if there were any.
        trailers: Option<Option<HeaderMap>>,
    }
}

impl<B> Collect<B>
where
    B: Body,
{
    /// Collects into `buffer`, from its position on, instead of into a new one. It may be a buffer with
    /// [limits of its own](SpillPool::buffer_builder), or one made [for a path](SpillPool::buffer_for), which
    /// becomes a file without a copy. It may belong to another pool. Call this before the future is polled.
    ///
    /// The [`Collected`] body then has all that the buffer has, what was there before included. A body that
    /// passes the buffer's own disk limit is refused with status 413. After an error, and when the future is
    /// dropped, the buffer is dropped too.
    ///
    /// ```
    /// use http_body_util::Full;
    /// use overspill::SpillPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload.bin");
    /// let pool = SpillPool::builder().memory(64 << 10).build()?;
    /// let request = Full::new(&[7; 1_000_000][..]);
    /// let collected = pool.collect(request).buffer(pool.buffer_for(&path)).await?;
    /// let buffer = collected.into_buffer().expect("it has one handle");
    /// buffer.into_async().persist(&path).await?.durable()?; // what was spilled is in that file already
    /// # assert_eq!(std::fs::read(&path)?, [7; 1_000_000]);
    ///
    /// let small = pool.buffer_builder().memory(0).disk(64 << 10).build();
    /// let refused = pool.collect(Full::new(&[7; 100_000][..])).buffer(small).await.unwrap_err();
    /// assert_eq!(refused.status(), 413);
    /// # Ok(())
    /// # }
    /// ```
    pub fn buffer(mut self, buffer: SpillBuffer) -> Self {
        self.intake.before = buffer.position();
        self.buffer = Some(Polled::new(buffer));
        self
    }

    /// Sets the length of the longest body that is taken, in bytes. Without it, the pool's limits alone
    /// decide.
    pub fn limit(mut self, bytes: u64) -> Self {
        self.intake.limit = bytes;
        self
    }

    /// Sets the longest time between two frames of the body. The time that the pool needs to take a frame
    /// does not count.
    ///
    /// A sender that sends one byte just before each deadline is not noticed. To limit the whole time, use a
    /// layer, such as tower-http's `TimeoutLayer`.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.intake.idle = Some(idle);
        self
    }
}

impl Accept for Polled {
    fn poll_accept(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_window(data) {
            return Poll::Ready(Ok(data.len()));
        }
        self.poll_write(poller(context), data)
    }

    fn most(&self) -> u64 {
        self.room_of_limits()
    }

    fn most_when_refused(&self, requested: u64) -> u64 {
        self.room_when_refused(requested)
    }
}

/// # Panics
/// If it is polled again after it was ready.
impl<B> Future for Collect<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Collected, CollectError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut buffer = this.buffer.take().expect("a future is not polled after it was ready");
        let polled = loop {
            if let Some(trailers) = this.trailers.take() {
                if let Some(buffer) = buffer.take_buffer() {
                    return Poll::Ready(Ok(Collected::new(buffer.freeze(), trailers)));
                }
                *this.trailers = Some(trailers);
                match buffer.poll_settled(poller(context)) {
                    Poll::Ready(Ok(())) => continue,
                    settled => {
                        let (received, before) = (this.intake.received, this.intake.before);
                        let most = |requested| buffer.most_when_refused(requested).saturating_sub(before);
                        break settled
                            .map_err(|error| CollectError::of_sink(received, received, error, most));
                    }
                }
            }
            match this.intake.as_mut().poll_into(context, &mut buffer) {
                Poll::Ready(Ok(trailers)) => *this.trailers = Some(trailers),
                ended => break ended.map_ok(drop),
            }
        };
        match polled {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => {
                *this.buffer = Some(buffer);
                Poll::Pending
            }
        }
    }
}

/// Shows nothing of the body.
impl<B: Body> fmt::Debug for Collect<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collect").field("received", &self.intake.received).finish_non_exhaustive()
    }
}
