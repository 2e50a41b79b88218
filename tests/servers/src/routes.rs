//! Which request goes where.

use crate::files::Files;
use crate::refusal::{Refusal, close_before_end};
use crate::{download, foreign, metrics, multipart, resume, upload};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::from_fn;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// The page may load nothing from anywhere but this server, and be framed by nobody.
const PAGE_POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
         img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
);

/// The server's routes over `files`.
pub fn routes(files: Arc<Files>) -> Router {
    let file = get(download::get)
        .head(download::head)
        .put(upload::put)
        .patch(resume::patch)
        .delete(download::delete);
    Router::new()
        .route("/", get(page))
        .route("/files", get(list).post(multipart::post))
        .route("/files/{name}", file)
        .route("/files/{name}/persist", post(download::persist))
        .route("/metrics", get(metrics::get))
        .fallback(nowhere)
        .layer(from_fn(foreign::refuse))
        .layer(from_fn(close_before_end))
        .layer(DefaultBodyLimit::disable()) // the pool has limits
        .with_state(files)
}

async fn page() -> impl IntoResponse {
    ([PAGE_POLICY], Html(include_str!("page.html")))
}

async fn list(State(files): State<Arc<Files>>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let after = query.get("after").map_or("", String::as_str);
    Json(Value::Array(files.list(after)))
}

async fn nowhere() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is /, /files, /files/NAME, /files/NAME/persist and /metrics")
}
