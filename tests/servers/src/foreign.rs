//! Requests that a page of another site has its visitor's browser send: a form needs no leave of the
//! server that it goes to, so a server that listens on 127.0.0.1 alone is within reach of every page that
//! its operator visits.
//!
//! It does not help against a site whose name is made to lead to this machine (DNS rebinding): the browser
//! takes both for one site.
//!
//! Promises: such a request changes nothing; a client that is no browser, and says nothing of where it comes
//! from, is let through.

use crate::refusal::Refusal;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses requests of other sites' pages, but those that read: a browser keeps the answers to them from the
/// page.
///
/// # Errors
/// Status 403; 400 if it does not name one host (RFC 9112, section 3.2).
pub async fn refuse(request: Request, next: Next) -> Result<Response, Refusal> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || hosts == 0 && request.version() == Version::HTTP_11 {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "a request has one line `Host`"));
    }
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if reads || !is_foreign(request.headers()) {
        return Ok(next.run(request).await);
    }
    let text = "a page of another site sent this; use the server's own, or a client that is no browser";
    Err(Refusal::new(StatusCode::FORBIDDEN, text))
}

/// What the browser says of the page decides. One that does not say that names the page's origin at least.
/// Another port of this host is another site here: what listens there is another program.
fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let text = |value: &HeaderValue| value.to_str().map(str::to_ascii_lowercase).ok();
    let origin = text(origin).and_then(|origin| Some(origin.split_once("://")?.1.to_owned()));
    origin.is_none() || origin != headers.get(header::HOST).and_then(text)
}
