//! Bodies and stores that do what a test says, step by step.

use crate::time_limit::within;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;
use overspill::{MemoryStore, Store};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread::{self, ThreadId};

/// What a body does when it is polled.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes come.
    Data(Bytes),
    /// These trailers come.
    Trailers(HeaderMap),
    /// Nothing comes yet, but soon.
    Pause,
    /// Nothing comes any more, and no end either.
    Stuck,
    /// It fails.
    Fails(&'static str),
}

/// A body by a script, which says of its length whatever it is told to.
#[derive(Clone, Debug)]
pub struct Scripted {
    steps: VecDeque<Step>,
    /// Bytes that it says are still to come.
    says: Option<u64>,
}

impl Scripted {
    /// A body that takes these steps, and then ends.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Scripted { steps: steps.into_iter().collect(), says: None }
    }

    /// `content` in pieces of `len` bytes, with a pause before each.
    #[must_use]
    pub fn pieces(content: &[u8], len: usize) -> Self {
        let pieces = content.chunks(len).map(Bytes::copy_from_slice);
        Scripted::new(pieces.flat_map(|piece| [Step::Pause, Step::Data(piece)]))
    }

    /// It says that it has so many bytes.
    #[must_use]
    pub fn says(mut self, len: u64) -> Self {
        self.says = Some(len);
        self
    }

    /// With further steps.
    #[must_use]
    pub fn then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(match self.steps.pop_front() {
            None => None,
            Some(Step::Data(data)) => {
                self.says = self.says.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Fails(why)) => Some(Err(io::Error::other(why))),
            Some(Step::Pause) => {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Stuck) => {
                self.steps.push_front(Step::Stuck);
                return Poll::Pending;
            }
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.says.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Polls `future` at most so many times, each when it was woken, and then drops it. `None` if it
/// was not ready by then.
///
/// # Panics
/// If it is neither woken nor ready within [`FOREVER`](crate::time_limit::FOREVER).
pub async fn polled_at_most<F: Future>(future: F, most: usize) -> Option<F::Output> {
    let (mut future, mut polls) = (std::pin::pin!(future), 0);
    let polled = poll_fn(|context| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        future.as_mut().poll(context).map(Some)
    });
    within(polled).await
}

/// A store in memory that counts its calls by one thread, which is to make none.
#[derive(Clone, Debug)]
pub struct Watched {
    inner: Arc<MemoryStore>,
    thread: ThreadId,
    calls: Arc<AtomicU64>,
}

impl Watched {
    /// Watches the calling thread.
    #[must_use]
    pub fn new() -> Self {
        Watched { inner: Arc::default(), thread: thread::current().id(), calls: Arc::default() }
    }

    /// The calls that the thread has made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn note(&self) {
        let is_watched = thread::current().id() == self.thread;
        self.calls.fetch_add(u64::from(is_watched), Ordering::Relaxed);
    }
}

impl Default for Watched {
    fn default() -> Self {
        Watched::new()
    }
}

impl Store for Watched {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.note();
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.note();
        self.inner.write_at(offset, data)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.note();
        self.inner.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.note();
        self.inner.set_len(len)
    }
}
