//! A file that arrives in several requests, each of which goes on where the last one broke off.
//!
//! Promises: what was accepted is kept for [`Config::resume`](crate::files::Config::resume), however its
//! request ends, and no byte is taken twice. A request is told at once if another has gone on with the file,
//! and once more of it comes, or its end, if the file was deleted or replaced: it brings nothing back.

use crate::files::{Files, check_name};
use crate::partial::Partial;
use crate::precondition::Precondition;
use crate::refusal::Refusal;
use axum::Json;
use axum::body::Body as AxumBody;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;
use sha2::Digest;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// Where the bytes of a request begin in the file.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");

/// Whether the file is whole with this request: `?1`, which it is without the header too, or `?0`.
pub const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");

/// `PATCH /files/NAME`: appends the body at the offset of the header `Upload-Offset`, or, without it, of
/// `?offset=`. Offset 0 makes the file. It is whole when a request has arrived whole that has no header
/// `Upload-Complete: ?0`.
///
/// # Errors
/// 409, with the header `Upload-Offset`, if the file ends elsewhere or is whole, and without it, if it was
/// deleted or replaced meanwhile; 404 if there is none to go on with; 412; 400, 408, 413, 503, 507: what was
/// accepted is kept then, and `HEAD` says how much that is. It is 413, and not 503, where the file has the
/// pool for itself.
pub async fn patch(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
    precondition: Precondition,
    request: Request,
) -> Result<Response, Refusal> {
    check_name(&name)?;
    let (mut offset, is_last) = place(request.headers(), &query)?;
    let declared = request.body().size_hint().lower();
    check_limit(offset, declared, files.config.limit)?; // before a name is taken
    let partial = files.find_partial(&name, offset, &precondition)?;
    check_offset(&*partial.lock().await, offset)?;
    let appended = append_all(&files, &name, &partial, &mut offset, request.into_body()).await;
    let mut locked = partial.lock().await;
    if appended.is_err() || !is_last {
        let settled = locked.settle().await;
        appended?;
        files.check_current(&name, &partial)?; // no frame may have come since
        settled.map_err(|error| locked.no_room(&files.pool, error))?;
        check_offset(&locked, offset)?;
        let headers =
            [(UPLOAD_OFFSET, HeaderValue::from(offset)), (UPLOAD_COMPLETE, HeaderValue::from_static("?0"))];
        return Ok((StatusCode::NO_CONTENT, headers).into_response());
    }
    check_offset(&locked, offset)?;
    let stored = locked.finish(&files.pool).await?.ok_or_else(ended)?;
    let description = stored.describe(&name);
    files.complete(&name, &partial, stored)?;
    Ok((StatusCode::CREATED, Json(description)).into_response())
}

/// Appends all of `body` at `offset`, and moves that.
async fn append_all(
    files: &Files,
    name: &str,
    partial: &Arc<Mutex<Partial>>,
    offset: &mut u64,
    mut body: AxumBody,
) -> Result<(), Refusal> {
    while let Some(frame) = timeout(files.config.idle, body.frame()).await.map_err(|_| idle(files))? {
        let frame = frame.map_err(|error| broken(&error))?;
        files.check_current(name, partial)?;
        if let Ok(data) = frame.into_data() {
            append(files, partial, offset, data).await?;
        }
    }
    Ok(())
}

/// Where the bytes of a request begin, and whether they are the last.
fn place(headers: &HeaderMap, query: &[(String, String)]) -> Result<(u64, bool), Refusal> {
    for name in [UPLOAD_OFFSET, UPLOAD_COMPLETE] {
        if headers.get_all(&name).iter().count() > 1 {
            return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("send one header {name}")));
        }
    }
    let mut asked = query.iter().filter(|(name, _)| name == "offset").map(|(_, value)| value.as_str());
    let offset = match (headers.get(UPLOAD_OFFSET), asked.next(), asked.next()) {
        (_, Some(_), Some(_)) => return Err(Refusal::new(StatusCode::BAD_REQUEST, "send one ?offset=")),
        (Some(value), ..) => value.to_str().ok(), // one that cannot be read is refused below
        (None, asked, _) => asked,
    };
    let digits = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit()); // and no sign
    let offset =
        offset.map(str::trim).filter(digits).and_then(|offset| offset.parse().ok()).ok_or_else(|| {
            let text = "say where the bytes begin: the header Upload-Offset, or ?offset=";
            Refusal::new(StatusCode::BAD_REQUEST, text)
        })?;
    let is_last = match headers.get(UPLOAD_COMPLETE).map(HeaderValue::as_bytes) {
        None | Some(b"?1") => true,
        Some(b"?0") => false,
        Some(_) => {
            let text = "Upload-Complete is ?1 with the last part, and ?0 with the others";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
        }
    };
    Ok((offset, is_last))
}

/// Whether a request says by its headers that its body is a part of a file: it begins after 0, or more
/// follows. What cannot be read counts as a part.
pub(crate) fn is_part(headers: &HeaderMap) -> bool {
    let is_zero =
        |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(|byte| *byte == b'0');
    !headers.get_all(UPLOAD_OFFSET).iter().all(is_zero)
        || headers.get_all(UPLOAD_COMPLETE).iter().any(|value| value != "?1")
}

/// Whether `len` bytes at `offset` are within the limit of a file.
fn check_limit(offset: u64, len: u64, limit: u64) -> Result<(), Refusal> {
    if offset.saturating_add(len) <= limit {
        return Ok(());
    }
    let text = format!("a file has at most {limit} bytes");
    Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, text))
}

/// Appends `data` at `offset`, and moves that. The lock is held for one write at a time, so a request that
/// has lost its client stops none that goes on.
async fn append(
    files: &Files,
    partial: &Mutex<Partial>,
    offset: &mut u64,
    mut data: Bytes,
) -> Result<(), Refusal> {
    while data.has_remaining() {
        let mut partial = partial.lock().await;
        check_offset(&partial, *offset)?;
        check_limit(*offset, data.len() as u64, files.config.limit)?;
        let buffer = partial.buffer.as_mut().ok_or_else(ended)?;
        // Nothing is taken if this is dropped while it waits, and from here on nothing waits.
        let written = buffer.write(&data).await;
        let taken = written.map_err(|error| partial.no_room(&files.pool, error))?;
        partial.sum.update(&data[..taken]);
        partial.grown = Instant::now();
        data.advance(taken);
        *offset += taken as u64;
    }
    Ok(())
}

fn check_offset(partial: &Partial, offset: u64) -> Result<(), Refusal> {
    let end = partial.offset().ok_or_else(ended)?;
    if end == offset {
        return Ok(());
    }
    let text = format!("the file ends at {end}, and the bytes begin at {offset}");
    Err(Refusal::new(StatusCode::CONFLICT, text).with(UPLOAD_OFFSET, end))
}

fn ended() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "another request has completed the file")
}

fn idle(files: &Files) -> Refusal {
    let text = format!("nothing arrived for {:?}; go on at the offset that HEAD says", files.config.idle);
    Refusal::new(StatusCode::REQUEST_TIMEOUT, text)
}

fn broken(error: &axum::Error) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("the body ended before its end: {error}"))
}
