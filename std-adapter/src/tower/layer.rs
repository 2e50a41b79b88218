//! A layer that collects the bodies of requests, so that what is below may send them again.
//!
//! Its promises are listed at [`SpillBodyLayer`].
//!
//! Held by: `tests/servers/tests/layer.rs`, `tests/servers/tests/retry.rs`.

use crate::api::pool::SpillPool;
use crate::http::body::SpillBody;
use crate::http::collect::Collect;
use crate::http::collect_error::CollectError;
use crate::http::collected::Collected;
use crate::sync::Arc;
use crate::tower::response_body::SpillResponseBody;
use http::{HeaderValue, Request, Response, Version, header, request};
use http_body::Body;
use pin_project_lite::pin_project;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;

/// A layer for any `Service<Request<SpillBody>>`: it collects the body of each request within a pool, and
/// passes on the same request with a [`SpillBody`], which can be cloned and sent again. It is tested with
/// axum and with services of tower.
///
/// Do not put it above a service that responds before the request body has ended, such as streaming RPCs,
/// upgrades and `CONNECT`: the service is called only once the body is whole. Without an
/// [`idle_timeout`](SpillBodyLayer::idle_timeout), a client that falls silent holds what it has sent for
/// ever.
///
/// It promises:
///
/// - The service is asked whether it is ready, and called, only once the whole body has arrived, trailers
///   included. So a slow client holds no place of a concurrency limit below the layer.
/// - All bodies together keep to the pool's limits, wherever they wait.
/// - A body that cannot be collected is refused here, with the [response](CollectError::to_response) of the
///   error: its status, its text, `Retry-After` where that helps, and over HTTP/1 `Connection: close`, since
///   the rest of the body is not received. The service does not see the request. The service's own errors
///   pass unchanged.
/// - Such a response has the error among its extensions, as `Arc<CollectError>`. A layer around this one sees
///   it there, to log it with its sources or to respond otherwise; a client does not. With the feature
///   `tracing` it is also an event of the target `overspill`: a warning if its status is 500 or more.
/// - The request has the [`Collected`] body among its extensions too, for a service that seeks in it, or
///   reads it twice. Whatever keeps the extensions keeps the content, as each body does.
/// - Everything else in the request's head is passed on as it came. A proxy has to remove the headers that
///   are for one hop, such as `Transfer-Encoding`.
///
/// The service has to be `Clone`, and the body of its response must have `Data = Bytes`. The layer's future
/// must be polled in a tokio runtime, with the time driver enabled if there is an idle timeout.
///
/// # Cancel safety
/// A dropped future gives the memory and disk of what had arrived back to the pool. A call of the service
/// that has begun is dropped with it.
///
/// # Retries
/// Below this layer, [`tower::retry`](https://docs.rs/tower/latest/tower/retry/) can send requests again even
/// if their bodies are longer than the memory: `Request<SpillBody>` is `Clone`, and each clone sends all of
/// the body.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{BodyExt, Full};
/// use overspill::{SpillBody, SpillBodyLayer, SpillPool};
/// use std::convert::Infallible;
/// use std::future::{Ready, ready};
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
/// use std::time::Duration;
/// use tower::retry::{Policy, RetryLayer};
/// use tower::{ServiceBuilder, ServiceExt};
///
/// /// Sends a request again while the response is a failure of the server, so many times.
/// #[derive(Clone)]
/// struct Attempts(u32);
///
/// impl<B, E> Policy<Request<SpillBody>, Response<B>, E> for Attempts {
///     type Future = Ready<()>;
///
///     fn retry(&mut self, _: &mut Request<SpillBody>, answer: &mut Result<Response<B>, E>) -> Option<Ready<()>> {
///         let has_failed = answer.as_ref().map_or(true, |answer| answer.status().is_server_error());
///         self.0 = self.0.checked_sub(u32::from(has_failed))?;
///         has_failed.then(|| ready(()))
///     }
///
///     fn clone_request(&mut self, request: &Request<SpillBody>) -> Option<Request<SpillBody>> {
///         Some(request.clone())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let failures = Arc::new(AtomicU32::new(2)); // it fails twice
/// let upstream = tower::service_fn(move |request: Request<SpillBody>| {
///     let fails = failures.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
///     async move {
///         let body = request.into_body().collect().await.unwrap().to_bytes();
///         let mut answer = Response::new(Full::new(body));
///         *answer.status_mut() = if fails { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
///         Ok::<_, Infallible>(answer)
///     }
/// });
/// let pool = SpillPool::builder().memory(1 << 20).disk(1 << 30).build()?;
/// let service = ServiceBuilder::new()
///     .layer(SpillBodyLayer::new(pool).limit(100 << 20).idle_timeout(Duration::from_secs(30)))
///     .layer(RetryLayer::new(Attempts(2)))
///     .service(upstream);
/// let answer = service.oneshot(Request::new(Full::new(Bytes::from("all of it")))).await?;
/// assert_eq!(answer.status(), StatusCode::OK);
/// assert_eq!(answer.collect().await?.to_bytes(), "all of it");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SpillBodyLayer {
    pool: SpillPool,
    limit: Option<u64>,
    idle: Option<Duration>,
}

impl SpillBodyLayer {
    /// Makes a layer that collects bodies in `pool`, of any length that the pool has room for.
    #[must_use]
    pub fn new(pool: SpillPool) -> Self {
        SpillBodyLayer { pool, limit: None, idle: None }
    }

    /// The longest body, in bytes; see [`Collect::limit`].
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// The longest time between two frames of a body; see [`Collect::idle_timeout`].
    #[must_use]
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    fn collect<B>(&self, body: B) -> Collect<B>
    where
        B: Body,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut collect = self.pool.collect(body);
        if let Some(limit) = self.limit {
            collect = collect.limit(limit);
        }
        if let Some(idle) = self.idle {
            collect = collect.idle_timeout(idle);
        }
        collect
    }
}

impl<S> Layer<S> for SpillBodyLayer {
    type Service = SpillBodyService<S>;

    fn layer(&self, service: S) -> SpillBodyService<S> {
        SpillBodyService { service, layer: self.clone() }
    }
}

/// The service that [`SpillBodyLayer`] makes.
#[derive(Clone, Debug)]
pub struct SpillBodyService<S> {
    service: S,
    layer: SpillBodyLayer,
}

impl<S, B, R> Service<Request<B>> for SpillBodyService<S>
where
    S: Service<Request<SpillBody>, Response = Response<R>> + Clone,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<SpillResponseBody<R>>;
    type Error = S::Error;
    type Future = SpillBodyFuture<S, B>;

    /// Always ready: the service is asked when there is a body for it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> SpillBodyFuture<S, B> {
        let (head, body) = request.into_parts();
        let collect = self.layer.collect(body);
        SpillBodyFuture { step: Step::Collect { collect, next: Some((self.service.clone(), head)) } }
    }
}

pin_project! {
    /// The future of a [`SpillBodyService`].
    #[must_use = "a future does nothing unless it is polled"]
    pub struct SpillBodyFuture<S, B>
    where
        S: Service<Request<SpillBody>>,
        B: Body,
    {
        #[pin]
        step: Step<S, S::Future, B>,
    }
}

pin_project! {
    #[project = StepProjected]
    enum Step<S, F, B>
    where
        B: Body,
    {
        Collect { #[pin] collect: Collect<B>, next: Option<(S, request::Parts)> },
        Ready { service: S, request: Option<Request<SpillBody>> },
        Call { #[pin] call: F },
    }
}

impl<S, B, R> Future for SpillBodyFuture<S, B>
where
    S: Service<Request<SpillBody>, Response = Response<R>>,
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Output = Result<Response<SpillResponseBody<R>>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project().step.project() {
                StepProjected::Call { call } => {
                    let answer = ready!(call.poll(context))?;
                    return Poll::Ready(Ok(answer.map(SpillResponseBody::of_service)));
                }
                StepProjected::Ready { service, request } => {
                    ready!(service.poll_ready(context))?;
                    let request = request.take().expect("a future is not polled after it was ready");
                    Step::Call { call: service.call(request) }
                }
                StepProjected::Collect { collect, next } => {
                    let collected = match ready!(collect.poll(context)) {
                        Ok(collected) => collected,
                        Err(error) => {
                            let version = next.as_ref().map(|(_, head)| head.version);
                            return Poll::Ready(Ok(refusal(error, version)));
                        }
                    };
                    let (service, head) = next.take().expect("a future is not polled after it was ready");
                    Step::Ready { service, request: Some(with_body(head, collected)) }
                }
            };
            self.as_mut().project().step.set(next);
        }
    }
}

/// The request that is passed on.
fn with_body(mut head: request::Parts, collected: Collected) -> Request<SpillBody> {
    let body = collected.body();
    // Not the content by itself: an event loop may drop this.
    head.extensions.insert(collected);
    Request::from_parts(head, body)
}

/// What is answered in the service's place.
fn refusal<R>(error: CollectError, version: Option<Version>) -> Response<SpillResponseBody<R>> {
    let mut answer = error.to_response().map(SpillResponseBody::refusal);
    // Where a message has no frame of its own, the rest of its body would be taken for the next request.
    if version.is_some_and(|version| version <= Version::HTTP_11) {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    #[cfg(feature = "tracing")]
    let _ = crate::foreign::contained(|| trace(&error));
    answer.extensions_mut().insert(Arc::new(error));
    answer
}

#[cfg(feature = "tracing")]
fn trace(error: &CollectError) {
    let (status, error) = (error.status().as_u16(), format_args!("{error:#}"));
    if status >= 500 {
        tracing::warn!(target: "overspill", status, error, "a body was not collected");
    } else {
        tracing::debug!(target: "overspill", status, error, "a body was not collected");
    }
}

/// Shows nothing of the request.
impl<S, B> fmt::Debug for SpillBodyFuture<S, B>
where
    S: Service<Request<SpillBody>>,
    B: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpillBodyFuture").finish_non_exhaustive()
    }
}
