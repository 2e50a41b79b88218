//! Files on their way out: whole, in part, to a directory, and away.

use crate::files::{File, Files, Stored, check_name};
use crate::precondition::Precondition;
use crate::range::{Wanted, wanted};
use crate::refusal::Refusal;
use crate::resume::{UPLOAD_COMPLETE, UPLOAD_OFFSET};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use overspill::Persisted;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;

/// What a stranger has uploaded is never shown as a page of this server.
const NEVER_SHOWN: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// `GET /files/NAME`, with `Range` and `If-Range`; 304 for a file that the client has.
///
/// # Errors
/// 404; 409 for a file that is not whole; 412; 416 for a range past the end.
pub async fn get(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    precondition: Precondition,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    content(&files.find_whole(&name)?, &precondition, &headers)
}

/// The answer to a request for a file that is whole.
fn content(stored: &Stored, precondition: &Precondition, headers: &HeaderMap) -> Result<Response, Refusal> {
    let (len, tag) = (stored.frozen().len(), stored.tag());
    precondition.check_read(Some(&tag))?;
    if precondition.is_known(&tag) {
        let mut known = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        known.headers_mut().insert(header::CONTENT_LENGTH, len.into()); // that of `GET`, or none
        return Ok(known);
    }
    let is_same = headers.get(header::IF_RANGE).is_none_or(|other| other == &*tag);
    let is_one = headers.get_all(header::RANGE).iter().count() == 1; // several lines are several ranges
    let range = headers.get(header::RANGE).filter(|_| is_same && is_one);
    let range = range.and_then(|value| value.to_str().ok());
    let (status, start, end) = match wanted(range, len) {
        Wanted::Whole => (StatusCode::OK, 0, len),
        Wanted::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Wanted::Nothing => {
            let refusal =
                Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {len} bytes"));
            return Err(refusal.with(header::CONTENT_RANGE, value(&format!("bytes */{len}"))));
        }
    };
    let mut answer = Response::new(Body::new(stored.frozen().slice(start..end).body()));
    *answer.status_mut() = status;
    let out = answer.headers_mut();
    out.extend(NEVER_SHOWN);
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::ETAG, value(&tag));
    out.insert(header::CONTENT_LENGTH, (end - start).into());
    if status == StatusCode::PARTIAL_CONTENT {
        out.insert(header::CONTENT_RANGE, value(&format!("bytes {start}-{}/{len}", end - 1)));
    }
    Ok(answer)
}

/// A header's value of digits and plain letters.
fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits and letters alone")
}

/// `HEAD /files/NAME`: as `GET` of the whole file, since ranges are for that alone; and how much of it is
/// there, which is where to go on with one that is not whole.
///
/// # Errors
/// 404, 412.
pub async fn head(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    precondition: Precondition,
) -> Result<Response, Refusal> {
    let offset = match files.find(&name)? {
        File::Whole(_) => None,
        File::Partial(partial) => partial.lock().await.offset(), // the lock is held for one write at a time
    };
    let (mut answer, offset, is_whole) = if let Some(offset) = offset {
        precondition.check_read(None)?;
        ((StatusCode::NO_CONTENT, Body::new(Unsized)).into_response(), offset, "?0")
    } else {
        let stored = files.find_whole(&name)?;
        (content(&stored, &precondition, &HeaderMap::new())?, stored.frozen().len(), "?1")
    };
    answer.headers_mut().insert(UPLOAD_OFFSET, offset.into());
    answer.headers_mut().insert(UPLOAD_COMPLETE, HeaderValue::from_static(is_whole));
    Ok(answer)
}

/// A body without bytes that says no length: axum would note that of any other in the answer to a `HEAD`, and
/// a 204 must have none (RFC 9110, section 8.6).
struct Unsized;

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

/// `DELETE /files/NAME`.
///
/// # Errors
/// 404, 412.
pub async fn delete(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    precondition: Precondition,
) -> Result<StatusCode, Refusal> {
    drop(files.remove(&name, &precondition)?);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /files/NAME/persist`: saves the file, whole and synced, under its name in the server's directory:
/// as it is when its turn comes, and of two requests the one that ends last. Four are saved at once, and the
/// others wait. It goes on if its client goes.
///
/// # Errors
/// 404; 409 for a file that is not whole, if the server has no directory, or if one of that name is in it;
/// 412; 503 if a thousand wait; 507 if the disk is full, and 500 if it cannot be written there for another
/// reason.
pub async fn persist(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    precondition: Precondition,
) -> Result<Json<Value>, Refusal> {
    check_name(&name)?;
    current(&files, &name, &precondition)?; // before it waits for nothing, and again once its turn has come
    let Some(dir) = files.config.dir.clone() else {
        return Err(Refusal::new(StatusCode::CONFLICT, "the server was started without --dir"));
    };
    let Ok(asked) = Arc::clone(&files.asked).try_acquire_owned() else {
        let refusal =
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "many files wait to be saved; try again later");
        return Err(refusal.with(header::RETRY_AFTER, 1));
    };
    // A task: the wait would end with this future, which is dropped when the client goes.
    let saved = tokio::spawn(save(files, name, precondition, dir, asked));
    saved.await.map_err(|error| Refusal::internal(&error))?
}

/// The file of that name, if it is whole and the one that is meant.
fn current(files: &Files, name: &str, precondition: &Precondition) -> Result<Stored, Refusal> {
    let stored = files.find_whole(name)?;
    precondition.check(Some(&stored.tag()))?;
    Ok(stored)
}

/// Saves the file in `dir` once its turn has come.
async fn save(
    files: Arc<Files>,
    name: String,
    precondition: Precondition,
    dir: PathBuf,
    asked: OwnedSemaphorePermit,
) -> Result<Json<Value>, Refusal> {
    let turn = Arc::clone(&files.saves).acquire_owned().await.map_err(|error| Refusal::internal(&error))?;
    let stored = current(&files, &name, &precondition)?;
    let (path, frozen) = (dir.join(&name), stored.frozen().clone());
    let mut answer = stored.describe(&name);
    let saved = tokio::task::spawn_blocking(move || {
        let _until_saved = (asked, turn); // though this task may have ended with the server
        let saved = frozen.persist(path).and_then(Persisted::durable);
        // Logged here, since nobody may wait for it any more.
        saved.map(drop).map_err(|error| Refusal::not_saved(&name, &error))
    });
    saved.await.map_err(|error| Refusal::internal(&error))??;
    answer["persisted"] = json!(true);
    Ok(Json(answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{ASKED_MAX, Config};
    use crate::running::config;
    use crate::time_limit::within;
    use axum::extract::FromRequestParts;
    use axum::http::Request;
    use std::time::Duration;
    use tempfile::TempDir;
    use tokio::time::timeout;

    /// Files that can be saved in a directory of their own.
    fn savable() -> (Arc<Files>, TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (Arc::new(Files::new(Config { dir: Some(dir.path().to_owned()), ..config() }).unwrap()), dir)
    }

    fn put(files: &Files, content: &'static str) {
        let body = overspill::SpillBody::from_bytes(content).unwrap();
        files.put("a", Stored { body, sha256: content.into() }, &Precondition::default()).unwrap();
    }

    /// The wait for a turn ended with its client, and the file was not saved: only one whose turn had come
    /// went on. A shutdown did not wait for it either.
    #[tokio::test]
    async fn a_file_is_saved_though_its_client_goes_before_its_turn() {
        let (files, dir) = savable();
        put(&files, "first");
        let save = || persist(State(Arc::clone(&files)), Path("a".to_owned()), Precondition::default());
        let others = files.saves.acquire_many(4).await.unwrap();
        assert!(timeout(Duration::ZERO, save()).await.is_err(), "it waits, and is dropped");
        let mut all_saved = Box::pin(files.all_saved());
        assert!(timeout(Duration::ZERO, &mut all_saved).await.is_err(), "a shutdown waits for it");
        drop(others);
        within(all_saved).await;
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"first");
    }

    /// What waits goes on without its client, so clients that come and go would have any number of them.
    #[tokio::test]
    async fn a_thousand_files_wait_to_be_saved_at_most() {
        let (files, dir) = savable();
        put(&files, "first");
        let save = || persist(State(Arc::clone(&files)), Path("a".to_owned()), Precondition::default());
        let others = files.saves.acquire_many(4).await.unwrap();
        for _ in 0..ASKED_MAX {
            assert!(timeout(Duration::ZERO, save()).await.is_err(), "it waits");
        }
        let refused = save().await.unwrap_err().into_response();
        let after = refused.headers().get(header::RETRY_AFTER).map(HeaderValue::as_bytes);
        assert_eq!((refused.status(), after), (StatusCode::SERVICE_UNAVAILABLE, Some(&b"1"[..])));
        files.remove("a", &Precondition::default()).unwrap(); // so that none of them has anything to do
        drop(others);
        within(files.all_saved()).await;
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
        put(&files, "second");
        drop(save().await.unwrap());
    }

    /// What a request is for was looked at before it waited for its turn: a file that was replaced meanwhile
    /// was saved as it had been, and `If-Match` held for a file that was there no more.
    #[tokio::test]
    async fn a_file_is_saved_as_it_is_when_its_turn_comes() {
        let (files, dir) = savable();
        put(&files, "first");
        let save = async |tag: &str| {
            let request = Request::builder().header(header::IF_MATCH, tag).body(()).unwrap();
            let Ok(precondition) = Precondition::from_request_parts(&mut request.into_parts().0, &()).await;
            persist(State(Arc::clone(&files)), Path("a".to_owned()), precondition).await
        };
        let others = files.saves.acquire_many(4).await.unwrap();
        let (mut of_the_first, mut of_any) = (Box::pin(save("\"first\"")), Box::pin(save("*")));
        assert!(timeout(Duration::ZERO, &mut of_the_first).await.is_err(), "it waits");
        assert!(timeout(Duration::ZERO, &mut of_any).await.is_err(), "it waits");
        put(&files, "second");
        drop(others);
        let refused = of_the_first.await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::PRECONDITION_FAILED);
        assert_eq!(of_any.await.unwrap().0["sha256"], "second");
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"second");
    }
}
