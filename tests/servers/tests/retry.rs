//! A request whose body is longer than the memory is sent again, over real connections, by `tower::retry`.
//!
//! The long form sends a gigabyte: `OVERSPILL_RETRY_MIB=1024 cargo test --release -p overspill-servers --test
//! retry -- --nocapture`. It prints how long that took, and by how much resident memory grew.
#![allow(missing_docs)]

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use overspill::{SpillBody, SpillBodyLayer, SpillPool};
use overspill_servers::hashed::{Hashed, digits};
use overspill_servers::process::peak_resident_kib;
use overspill_servers::running::until_empty;
use overspill_servers::time_limit::{FOREVER, within};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::retry::{Policy, RetryLayer};
use tower::{ServiceBuilder, ServiceExt};

type Failure = Box<dyn Error + Send + Sync>;

/// Sends a request again while the server fails, so many times.
#[derive(Clone)]
struct Attempts(u32);

impl<B> Policy<Request<SpillBody>, Response<B>, Failure> for Attempts {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<SpillBody>,
        answer: &mut Result<Response<B>, Failure>,
    ) -> Option<Ready<()>> {
        let has_failed = answer.as_ref().map_or(true, |answer| answer.status().is_server_error());
        self.0 = self.0.checked_sub(u32::from(has_failed))?;
        has_failed.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<SpillBody>) -> Option<Request<SpillBody>> {
        Some(request.clone())
    }
}

/// A server that fails `failures` times, the first after half of the body by breaking the connection, and
/// then answers with the sum of what it was sent.
async fn upstream(failures: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let calls = Arc::clone(&calls);
            let answer = service_fn(move |request: Request<Incoming>| {
                let call = calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    let mut body = Hashed::new(request.into_body());
                    if call == 0 && failures > 0 {
                        let _ = body.frame().await;
                        return Err("broken off");
                    }
                    while let Some(frame) = body.frame().await {
                        frame.map_err(|_| "a broken body")?;
                    }
                    let mut answer = Response::new(Full::new(Bytes::from(body.finish())));
                    if call < failures {
                        *answer.status_mut() = StatusCode::BAD_GATEWAY;
                    }
                    Ok(answer)
                }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
        }
    });
    address
}

/// Sends a request over a connection of its own.
async fn send(address: SocketAddr, request: Request<SpillBody>) -> Result<Response<Incoming>, Failure> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Each number of a range, as a mebibyte that is made when it is asked for: a gigabyte is
/// never in memory at once.
struct Numbers(Range<u32>);

fn mebibyte_of(number: u32) -> Bytes {
    Bytes::from(number.to_le_bytes().repeat(1 << 18))
}

impl Body for Numbers {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|number| Ok(Frame::data(mebibyte_of(number)))))
    }
}

/// The pool, and the 8 MiB of I2'; both ends of three connections and a piece of the body fit in that.
const GROWN_KIB_MAX: u64 = (1 + 8) << 10;

#[tokio::test]
async fn a_body_longer_than_the_memory_is_sent_three_times() {
    let mebibytes =
        std::env::var("OVERSPILL_RETRY_MIB").ok().and_then(|number| number.parse().ok()).unwrap_or(32);
    let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
    let mut sum = Sha256::new();
    (0..mebibytes).for_each(|number| sum.update(mebibyte_of(number)));
    let address = upstream(2).await;
    let service = ServiceBuilder::new()
        .layer(SpillBodyLayer::new(pool.clone()))
        .layer(RetryLayer::new(Attempts(2)))
        .service_fn(move |request| send(address, request));
    let request = Request::put("/").header("host", "test").body(Numbers(0..mebibytes)).unwrap();
    let (before, began) = (peak_resident_kib(), Instant::now());
    let limit = FOREVER * (1 + mebibytes / 32);
    let answer = timeout(limit, service.clone().oneshot(request)).await.expect("it is sent in time").unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), digits(sum));
    let took = began.elapsed();
    let stats = pool.stats();
    assert!(stats.memory_high_water <= 1 << 20 && stats.disk_high_water >= u64::from(mebibytes - 1) << 20);
    if let (Some(before), Some(after)) = (before, peak_resident_kib()) {
        let (grown, most) = (after - before, stats.memory_high_water >> 10);
        eprintln!("{mebibytes} MiB in {took:.1?}; {most} KiB charged at most, {grown} KiB more resident");
        assert!(grown <= GROWN_KIB_MAX, "{grown} KiB");
    }
    until_empty(&pool).await;

    let address = upstream(3).await;
    let service = ServiceBuilder::new()
        .layer(SpillBodyLayer::new(pool.clone()))
        .layer(RetryLayer::new(Attempts(2)))
        .service_fn(move |request| send(address, request));
    let request = Request::put("/").header("host", "test").body(Full::new(&b"once more"[..])).unwrap();
    assert_eq!(
        within(service.oneshot(request)).await.unwrap().status(),
        StatusCode::BAD_GATEWAY,
        "at the third attempt"
    );
    until_empty(&pool).await;
}

#[test]
fn a_request_is_cloned_with_all_that_it_has() {
    let body = SpillPool::default().buffer().freeze().body();
    let request = Request::put("/path").header("name", "value").body(body).unwrap();
    let clone = Policy::<_, Response<()>, Failure>::clone_request(&mut Attempts(1), &request).unwrap();
    assert_eq!((clone.uri().path(), &clone.headers()["name"]), ("/path", &"value".parse().unwrap()));
}
