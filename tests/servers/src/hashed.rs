//! A body whose sum is computed while it passes.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A sum of bytes.
pub trait Sum: Default + Unpin {
    /// Takes further bytes.
    fn add(&mut self, bytes: &[u8]);

    /// The sum, in hexadecimal digits.
    fn finish(self) -> String;
}

impl Sum for Sha256 {
    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn finish(self) -> String {
        digits(self)
    }
}

/// A body that hashes each frame on its way through.
#[derive(Debug)]
pub struct Hashed<B, S = Sha256> {
    body: B,
    sum: S,
}

impl<B> Hashed<B> {
    /// Hashes `body`.
    pub fn new(body: B) -> Self {
        Hashed::with_sum(body)
    }
}

impl<B, S: Sum> Hashed<B, S> {
    /// Computes another sum of `body`.
    pub fn with_sum(body: B) -> Self {
        Hashed { body, sum: S::default() }
    }

    /// The sum of what has passed, in hexadecimal digits.
    pub fn finish(self) -> String {
        self.into_sum().finish()
    }

    /// The sum of what has passed.
    pub fn into_sum(self) -> S {
        self.sum
    }
}

/// A sum in hexadecimal digits.
#[must_use]
pub fn digits(sum: Sha256) -> String {
    sum.finalize().iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}"); // a string takes all
        digits
    })
}

impl<B: Body<Data = Bytes> + Unpin, S: Sum> Body for Hashed<B, S> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.sum.add(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
