//! A file as the body of a request.

use crate::files::{Files, Stored, check_name};
use crate::hashed::Hashed;
use crate::precondition::Precondition;
use crate::refusal::Refusal;
use crate::resume::is_part;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_RANGE;
use bytes::Bytes;
use http_body::Body;
use serde_json::Value;
use std::error::Error;
use std::sync::Arc;

/// Takes a body of at most `limit` bytes into the pool, and hashes it on its way.
///
/// # Errors
/// As [`CollectError::status`](overspill::CollectError::status).
pub async fn receive<B>(files: &Files, body: B, limit: u64) -> Result<Stored, Refusal>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut body = Hashed::new(body);
    let collected = files.pool.collect(&mut body).limit(limit).idle_timeout(files.config.idle).await?;
    Ok(Stored { body: collected.into(), sha256: body.finish().into() })
}

/// `PUT /files/NAME`: the body is the file: 201 for a new one, 200 if it replaces another. One that does not
/// arrive whole changes nothing.
///
/// # Errors
/// 400 for a bad name, a part of a file or a broken body, 408, 412, 413, 503, 507.
pub async fn put(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    precondition: Precondition,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    check_name(&name)?;
    if request.headers().contains_key(CONTENT_RANGE) || is_part(request.headers()) {
        let text = "a PUT has the whole file; PATCH with the header Upload-Offset appends to one";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, text)); // RFC 9110, section 14.5
    }
    files.check(&name, &precondition)?; // before the body is sent for nothing, and again once it is here
    let stored = receive(&files, request.into_body(), files.config.limit).await?;
    let description = stored.describe(&name);
    let is_new = files.put(&name, stored, &precondition)?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(description)))
}
