//! The answer to a request that was not carried out: a status, and a line of text that says
//! what would have worked.

use crate::log::{chain, log};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::Body;
use overspill::{CollectError, SpillError};
use std::error::Error;
use std::io::ErrorKind;

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

/// Says `Connection: close` with each refusal of a request that has a body, axum's own refusals included.
/// What was not received of it would be taken for the next request, so hyper closes the connection, without a
/// word. Where all of it was received, a client connects once more than it has to.
pub async fn close_after_refusal(request: Request, next: Next) -> Response {
    let has_body = !request.body().is_end_stream();
    let mut answer = next.run(request).await;
    let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
    if has_body && is_refusal {
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
