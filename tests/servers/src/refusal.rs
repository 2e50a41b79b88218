//! The answer to a request that was not carried out: a status, and a line of text that says
//! what would have worked. And what each answer says that comes before the whole request.

use crate::log::{chain, log};
use axum::body::Body as AxumBody;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use overspill::{CollectError, SpillError};
use std::error::Error;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

/// A status, a line for the client, and at most one header.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    text: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refusal {
    /// A refusal with this status and text.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Refusal { status, text: text.into(), header: None }
    }

    /// There is no file of that name.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, format!("there is no file {name:?}"))
    }

    /// Something failed that is not the client's to know in detail: it goes to the log.
    #[must_use]
    pub fn internal(error: &dyn Error) -> Self {
        log(chain(error));
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says how")
    }

    /// A file could not be saved: its name is that of a directory, there is no room for it, or what failed is
    /// not the client's to know in detail. All but the first goes to the log.
    #[must_use]
    pub fn not_saved(name: &str, error: &SpillError) -> Self {
        if error.kind() == ErrorKind::IsADirectory {
            let text = format!("a directory has the name {name:?} there; upload the file under another");
            return Refusal::new(StatusCode::CONFLICT, text);
        }
        let refusal = Refusal::internal(error);
        if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return refusal;
        }
        Refusal::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "the disk has no room for the file; the operator makes some",
        )
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.header = Some((name, value.into()));
        self
    }
}

impl From<CollectError> for Refusal {
    fn from(error: CollectError) -> Self {
        if error.status().is_server_error() {
            log(chain(&error));
        }
        let refusal = Refusal::new(error.status(), error.to_string());
        match error.retry_after() {
            Some(after) => refusal.with(header::RETRY_AFTER, after.as_secs().max(1)),
            None => refusal,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let headers: HeaderMap = self.header.into_iter().collect();
        (self.status, headers, self.text + "\n").into_response()
    }
}

/// A body that notes in a flag that its end was received.
struct Noted(AxumBody, Arc<AtomicBool>);

impl Body for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        if frame.is_none() || self.0.is_end_stream() {
            self.1.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// Says `Connection: close` with each answer, axum's own included, to a request of whose body the end was not
/// received. Its rest would be taken for the next request, so hyper closes the connection, without a word.
/// Unless the rest comes with one read: a client of a small body that nobody reads connects once more than it
/// has to.
pub async fn close_before_end(request: Request, next: Next) -> Response {
    let is_received = Arc::new(AtomicBool::new(request.body().is_end_stream()));
    let noted = request.map(|body| AxumBody::new(Noted(body, Arc::clone(&is_received))));
    let mut answer = next.run(noted).await;
    if !is_received.load(Ordering::Relaxed) {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use overspill::testing::{Call, Failure, Fault, FaultStore};
    use overspill::{MemoryStore, SpillPool};
    use std::io::Write;

    /// A full disk was 500 here, and the client was told to read a log that it cannot.
    #[test]
    fn a_disk_without_room_has_a_status_of_its_own() {
        for (failure, status) in [(Failure::full(), 507), (Failure::io(), 500)] {
            let fault = Fault::lasting(0, failure).on(Call::Write);
            let (store, _) = FaultStore::new(MemoryStore::new(), fault);
            let pool = SpillPool::builder().memory(0).store(store).build().unwrap();
            let error = pool.buffer().write_all(&[1; 1 << 20]).unwrap_err();
            assert_eq!(Refusal::not_saved("a", SpillError::of(&error).unwrap()).status, status);
        }
        let pool = SpillPool::builder().memory(0).disk(0).store(MemoryStore::new()).build().unwrap();
        let error = pool.buffer().write_all(b"over a quota").unwrap_err();
        assert_eq!(Refusal::not_saved("a", SpillError::of(&error).unwrap()).status, 507);
    }
}
