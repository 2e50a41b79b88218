//! The layer, over services and over axum: what it hands on, what it answers by itself, and whom it makes
//! wait.
#![allow(missing_docs)]

#[path = "../../tests/observed/traced.rs"]
mod traced;

use axum::middleware::map_response;
use axum::routing::post;
use axum::{Extension, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use overspill::testing::{Call, Failure, Fault, FaultStore};
use overspill::{CollectError, Collected, MemoryStore, SpillBody, SpillBodyLayer, SpillPool};
use overspill_servers::running::until_empty;
use overspill_servers::scripted::{Scripted, Step, polled_at_most};
use overspill_servers::time_limit::within;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, SeekFrom};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tower::{Layer, Service, ServiceExt};

fn pool(memory: usize, disk: u64) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).disk(disk).page_size(4096);
    builder.store(MemoryStore::new()).build().unwrap()
}

/// Sends back what it gets, in the number of times that its body says.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicU64>,
    /// Clones that were made ready and not called.
    is_ready: bool,
}

impl Service<Request<SpillBody>> for Echo {
    type Response = Response<SpillBody>;
    type Error = io::Error;
    type Future = Ready<io::Result<Response<SpillBody>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SpillBody>) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = match request.uri().path() {
            "/fails" => Err(io::Error::other("its own")),
            _ => Ok(Response::new(request.into_body())),
        };
        ready(answer)
    }
}

fn request<B>(path: &str, body: B) -> Request<B> {
    Request::post(path).header("kept", "yes").body(body).unwrap()
}

#[tokio::test]
async fn a_body_is_handed_on_whole_with_its_trailers_and_errors_of_the_service_pass() {
    let (pool, echo) = (pool(1 << 20, u64::MAX), Echo::default());
    let service = SpillBodyLayer::new(pool.clone()).layer(echo.clone());
    let trailers = HeaderMap::from_iter([("end".parse().unwrap(), HeaderValue::from_static("here"))]);
    let content = vec![7; 100_000];
    for _ in 0..3 {
        let body = Scripted::pieces(&content, 1400).then([Step::Trailers(trailers.clone())]);
        let answer = within(service.clone().oneshot(request("/", body))).await.unwrap();
        let sent = within(answer.into_body().collect()).await.unwrap();
        assert_eq!(sent.trailers(), Some(&trailers));
        assert!(sent.to_bytes() == content);
    }
    let failed = within(service.clone().oneshot(request("/fails", Full::new(&b"x"[..])))).await;
    assert_eq!(failed.unwrap_err().to_string(), "its own");
    assert_eq!(echo.calls.load(Ordering::Relaxed), 4);
    until_empty(&pool).await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_collected_is_answered_and_the_service_not_called() {
    let echo = Echo::default();
    let pieces = |len| Scripted::pieces(&vec![7; len], 1400);
    for (pool, body, status, retries) in [
        (pool(1 << 20, u64::MAX), pieces(20_001), StatusCode::PAYLOAD_TOO_LARGE, None),
        (pool(0, 8192), pieces(10_000), StatusCode::SERVICE_UNAVAILABLE, Some("1")),
        (pool(1 << 20, u64::MAX), pieces(10).then([Step::Fails("gone")]), StatusCode::BAD_REQUEST, None),
        (pool(1 << 20, u64::MAX), pieces(10).then([Step::Stuck]), StatusCode::REQUEST_TIMEOUT, None),
    ] {
        let mut other = pool.buffer();
        io::Write::write_all(&mut other, &[1; 4096]).unwrap();
        let layer = SpillBodyLayer::new(pool.clone()).limit(20_000).idle_timeout(Duration::from_secs(5));
        let answer = within(layer.layer(echo.clone()).oneshot(request("/", body))).await.unwrap();
        drop(other);
        let after = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
        assert_eq!((answer.status(), after), (status, retries));
        let length = http_body::Body::size_hint(answer.body()).exact();
        let text = within(answer.into_body().collect()).await.unwrap().to_bytes();
        assert!(text.len() > 20 && length == Some(text.len() as u64), "{text:?}");
        until_empty(&pool).await;
    }
    assert_eq!(echo.calls.load(Ordering::Relaxed), 0);
}

/// The head of the answer to a request whose head is this, with 100 bytes of its body.
async fn head_of_answer(pool: &SpillPool, head: &str) -> String {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let layer = SpillBodyLayer::new(pool.clone()).limit(1000).idle_timeout(Duration::from_secs(5));
    let service = TowerToHyperService::new(layer.layer(Echo::default()));
    let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), service);
    let exchange = async {
        ours.write_all(format!("{head}\r\nhost: test\r\n\r\n{}", "x".repeat(100)).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(ours.read_buf(&mut answer).await.unwrap() > 0);
        }
        drop(ours);
        String::from_utf8_lossy(&answer).to_ascii_lowercase()
    };
    within(async { tokio::join!(server, exchange) }).await.1
}

/// hyper closes a connection on which the rest of a body would be taken for a request, and does not say so:
/// the client's next request on it was lost.
#[tokio::test(start_paused = true)]
async fn a_connection_whose_body_was_not_received_is_said_to_close() {
    let pool = pool(1 << 20, u64::MAX);
    for (length, status, closes) in [(1001, "413", true), (900, "408", true), (100, "200", false)] {
        let head = head_of_answer(&pool, &format!("POST / HTTP/1.1\r\ncontent-length: {length}")).await;
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert_eq!(head.contains("connection: close"), closes, "{head}");
    }
    let long = request("/", Full::new(&[7; 2000][..]));
    let (mut head, body) = long.into_parts();
    head.version = Version::HTTP_2; // which knows no such header
    let layer = SpillBodyLayer::new(pool).limit(1000).layer(Echo::default());
    let answer = within(layer.oneshot(Request::from_parts(head, body))).await.unwrap();
    assert!(answer.status() == 413 && !answer.headers().contains_key("connection"));
}

/// A layer that answers by itself, as those for timeouts and for CORS do, needs a body for that.
#[tokio::test]
async fn a_layer_around_it_has_a_body_to_answer_with() {
    async fn answer<S, R>(service: S) -> R
    where
        S: tower::Service<Request<Scripted>, Response = Response<R>>,
        R: Default,
    {
        drop(service);
        R::default()
    }
    let pool = pool(1 << 20, u64::MAX);
    let body = answer(SpillBodyLayer::new(pool).layer(Echo::default())).await;
    assert!(http_body::Body::is_end_stream(&body) && http_body::Body::size_hint(&body).exact() == Some(0));
    assert_eq!(within(body.collect()).await.unwrap().to_bytes(), "");
    let empty = SpillBody::default();
    assert_eq!(http_body::Body::size_hint(&empty).exact(), Some(0));
    assert_eq!(within(empty.collect()).await.unwrap().to_bytes(), "");
}

/// The error was dropped in the layer: its answer said 500, and nothing said why.
#[tokio::test]
async fn what_the_layer_answers_by_itself_says_why_to_what_is_around_it() {
    for (failure, status) in [(Failure::io(), 500), (Failure::full(), 507)] {
        let fault = Fault::lasting(0, failure).on(Call::Write);
        let (store, _faults) = FaultStore::new(MemoryStore::new(), fault);
        let pool = SpillPool::builder().memory(0).store(store).build().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let app = Router::new()
            .route("/", post(async |body: Bytes| body))
            .layer(SpillBodyLayer::new(pool.clone()).limit(20_000))
            .layer(map_response(move |answer: axum::response::Response| {
                let error = answer.extensions().get::<Arc<CollectError>>();
                log.lock().unwrap().extend(error.map(|error| format!("{error:#}")));
                ready(answer)
            }));
        traced::listen();
        for (len, status) in [(5000, status), (20_001, 413)] {
            let body = axum::body::Body::from(vec![7; len]);
            let answer = within(app.clone().oneshot(request("/", body))).await.unwrap();
            assert_eq!(answer.status().as_u16(), status);
        }
        let seen = seen.lock().unwrap().clone();
        assert!(seen.len() == 2 && seen[0].contains(" at its offset 0: "), "{seen:?}");
        let lines = traced::lines();
        let traced: Vec<_> = lines.iter().filter(|line| line.contains("not collected")).collect();
        assert!(
            traced.len() == 2 && traced[0].starts_with("WARN") && traced[1].starts_with("DEBUG"),
            "{lines:?}"
        );
        assert!(traced[0].contains(&format!("status={status} error={}", seen[0])), "{lines:?}");
        until_empty(&pool).await;
    }
    let pool = pool(1 << 20, u64::MAX);
    let answer = SpillBodyLayer::new(pool).layer(Echo::default()).oneshot(request("/", Full::new(&b"x"[..])));
    assert!(within(answer).await.unwrap().extensions().get::<Arc<CollectError>>().is_none());
}

/// axum boxes the body, so a handler behind the layer had it once, as a stream, and what the layer had
/// collected it collected again to seek in it.
#[tokio::test]
async fn a_handler_behind_the_layer_has_what_was_collected() {
    async fn ends(Extension(collected): Extension<Collected>) -> Vec<u8> {
        let mut reader = collected.reader().into_async();
        drop(collected);
        let mut ends = vec![0; 2];
        for (end, at) in ends.chunks_mut(1).zip([SeekFrom::End(-1), SeekFrom::Start(0)]) {
            reader.seek(at).await.unwrap();
            reader.read_exact(end).await.unwrap();
        }
        ends
    }
    async fn into_buffer(Extension(collected): Extension<Collected>) -> String {
        let is_alone = collected.into_buffer().is_ok(); // axum has dropped the request
        format!("{is_alone}")
    }
    let pool = pool(8192, u64::MAX);
    let app = Router::new()
        .route("/", post(ends))
        .route("/buffer", post(into_buffer))
        .layer(SpillBodyLayer::new(pool.clone()).limit(1 << 20));
    let content: Vec<u8> = [vec![1], vec![7; 50_000], vec![2]].concat();
    for (path, expected) in [("/", &[2, 1][..]), ("/buffer", b"true")] {
        let sent = request(path, axum::body::Body::from(content.clone()));
        let answer = within(app.clone().oneshot(sent)).await.unwrap();
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), expected);
        until_empty(&pool).await;
    }
}

#[tokio::test]
async fn axum_takes_the_layer_as_it_is() {
    let pool = pool(64 << 10, u64::MAX);
    let app = Router::new()
        .route("/", post(async |body: Bytes| format!("{} bytes", body.len())))
        .layer(SpillBodyLayer::new(pool.clone()).limit(1 << 20));
    let sent =
        within(app.clone().oneshot(request("/", axum::body::Body::from(vec![7; 1 << 20])))).await.unwrap();
    assert_eq!(within(sent.into_body().collect()).await.unwrap().to_bytes(), "1048576 bytes");
    let refused =
        within(app.oneshot(request("/", axum::body::Body::from(vec![7; (1 << 20) + 1])))).await.unwrap();
    assert_eq!(refused.status(), 413);
    until_empty(&pool).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_point_leaves_nothing() {
    let pool = pool(8192, u64::MAX);
    let service =
        SpillBodyLayer::new(pool.clone()).layer(tower::service_fn(async |request: Request<SpillBody>| {
            let body = request.into_body();
            body.clone().collect().await.unwrap();
            Ok::<_, Infallible>(Response::new(body))
        }));
    for polls in 0.. {
        let body = Scripted::pieces(&[7; 50_000], 5000);
        let done = polled_at_most(service.clone().oneshot(request("/", body)), polls).await;
        let is_done = done.is_some();
        drop(done);
        until_empty(&pool).await;
        if is_done {
            assert!(polls > 5);
            break;
        }
    }
}

/// A service with one place, which is taken when a clone is ready and free when its call has begun.
struct OnePlace {
    is_taken: Arc<AtomicBool>,
    is_mine: bool,
}

impl OnePlace {
    fn leave(&mut self) {
        if std::mem::take(&mut self.is_mine) {
            self.is_taken.store(false, Ordering::Relaxed);
        }
    }
}

impl Clone for OnePlace {
    fn clone(&self) -> Self {
        OnePlace { is_taken: Arc::clone(&self.is_taken), is_mine: false }
    }
}

impl Drop for OnePlace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Service<Request<SpillBody>> for OnePlace {
    type Response = Response<SpillBody>;
    type Error = Infallible;
    type Future = Ready<Result<Response<SpillBody>, Infallible>>;

    /// Wakes nobody: the test needs no second attempt.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if !self.is_mine && self.is_taken.swap(true, Ordering::Relaxed) {
            return Poll::Pending;
        }
        self.is_mine = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<SpillBody>) -> Self::Future {
        assert!(self.is_mine, "called before it was ready");
        self.leave();
        ready(Ok(Response::new(request.into_body())))
    }
}

/// The layer asked the service whether it was ready before it collected the body, so a client that sent
/// nothing held a place of the service's limit, and with as many of them nobody was served.
#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_no_place_of_the_service() {
    let pool = pool(1 << 20, u64::MAX);
    let one = OnePlace { is_taken: Arc::default(), is_mine: false };
    let service = SpillBodyLayer::new(pool.clone()).layer(one);
    let never = Scripted::pieces(b"x", 1).then([Step::Stuck]);
    let mut slow = Box::pin(service.clone().oneshot(request("/", never)));
    tokio::time::timeout(Duration::from_secs(1), slow.as_mut()).await.expect_err("its body has not come");
    let quick = service.oneshot(request("/", Full::new(&b"quick"[..])));
    let answer =
        tokio::time::timeout(Duration::from_secs(1), quick).await.expect("the place is free").unwrap();
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), "quick");
    drop(slow);
    until_empty(&pool).await;
}
