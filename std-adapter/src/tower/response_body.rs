//! The body of a response: the service's, or the layer's own.
//!
//! Held by: `tests/servers/tests/layer.rs`.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// The body of a response of [`SpillBodyService`](crate::SpillBodyService): that of the
    /// service, or a line of text.
    #[derive(Debug)]
    pub struct SpillResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjected]
    #[derive(Debug)]
    enum Kind<B> {
        Service { #[pin] body: B },
        // `None` once it was sent.
        Refusal { text: Option<Bytes> },
    }
}

impl<B> SpillResponseBody<B> {
    pub(crate) fn of_service(body: B) -> Self {
        SpillResponseBody { kind: Kind::Service { body } }
    }

    pub(crate) fn refusal(text: String) -> Self {
        SpillResponseBody { kind: Kind::Refusal { text: Some(text.into()) } }
    }
}

/// A body without content, which other layers need to respond by themselves.
impl<B> Default for SpillResponseBody<B> {
    fn default() -> Self {
        SpillResponseBody { kind: Kind::Refusal { text: None } }
    }
}

impl<B: Body<Data = Bytes>> Body for SpillResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProjected::Service { body } => body.poll_frame(context),
            KindProjected::Refusal { text } => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Service { body } => body.is_end_stream(),
            Kind::Refusal { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Service { body } => body.size_hint(),
            Kind::Refusal { text } => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
        }
    }
}
