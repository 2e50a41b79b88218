//! The headers `If-Match` and `If-None-Match`: whether a request is for the file as it is, by
//! RFC 9110, section 13.
//!
//! Promise: a change of a name is checked under the lock of the names at which it takes place, so nothing
//! comes between the two. Saving a file changes no name: it is checked as it begins.

use crate::refusal::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use std::convert::Infallible;

/// What a request says of the file that it is for. The default says nothing.
#[derive(Clone, Debug, Default)]
pub struct Precondition {
    /// The file has one of these tags.
    is: Option<Tags>,
    /// The file has none of these tags.
    is_not: Option<Tags>,
}

/// The lines of one of the headers: tags, or `*` for any.
#[derive(Clone, Debug)]
struct Tags(Vec<String>);

impl Tags {
    fn of(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
        let lines = headers.get_all(name).iter();
        let lines = lines.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
        let lines: Vec<_> = lines.collect();
        (!lines.is_empty()).then_some(Tags(lines))
    }

    /// Whether `tag` is one of them as it stands, or once `prefix` is removed. No tag of this server has a
    /// comma, so a tag of another that is cut at one is never taken for it; nor is a star in one, since `*`
    /// stands alone in its line.
    fn have(&self, tag: Option<&str>, prefix: &str) -> bool {
        let is_same = |other: &str| Some(other.strip_prefix(prefix).unwrap_or(other)) == tag;
        tag.is_some() && self.0.iter().any(|line| line == "*" || line.split(',').map(str::trim).any(is_same))
    }
}

impl Precondition {
    /// Whether a client that reads has the file with this tag already, by the weak comparison.
    #[must_use]
    pub fn is_known(&self, tag: &str) -> bool {
        self.is_not.as_ref().is_some_and(|tags| tags.have(Some(tag), "W/"))
    }

    /// Whether a request that reads the file with this tag, if there is one that is whole, may be carried
    /// out: `If-Match` alone decides, by the strong comparison.
    ///
    /// # Errors
    /// Status 412.
    pub fn check_read(&self, tag: Option<&str>) -> Result<(), Refusal> {
        if self.is.as_ref().is_none_or(|tags| tags.have(tag, "")) {
            return Ok(());
        }
        let text = "the file is another than If-Match says, or is not there; look with HEAD, and ask again";
        Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text))
    }

    /// The same for a request that changes it.
    ///
    /// # Errors
    /// Status 412.
    pub fn check(&self, tag: Option<&str>) -> Result<(), Refusal> {
        self.check_read(tag)?;
        if tag.is_some_and(|tag| self.is_known(tag)) {
            let text = "there is a file that If-None-Match rules out; choose another name, or replace it";
            return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, text));
        }
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let tags = |name| Tags::of(&parts.headers, name);
        Ok(Precondition { is: tags(header::IF_MATCH), is_not: tags(header::IF_NONE_MATCH) })
    }
}
