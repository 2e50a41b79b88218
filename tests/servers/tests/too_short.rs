//! Bodies that end early, and whose fault that is.
#![allow(missing_docs)]

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Full, Limited};
use hyper::HeaderMap;
use overspill::testing::{Call, Failure, Fault, FaultStore};
use overspill::{AsyncSpoolReader, CollectError, MemoryStore, SpillError, SpillPool};
use overspill_servers::running::until_empty;
use overspill_servers::scripted::{Scripted, Step};
use overspill_servers::time_limit::within;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(4096).store(MemoryStore::new()).build().unwrap()
}

/// A client that reset its stream of HTTP/2 with `NO_ERROR`, as proxies do when theirs has gone, ended its
/// body as if it were whole: a handler was called with 4 bytes of 10.
#[tokio::test]
async fn a_body_that_ends_before_its_length_is_broken() {
    let pool = pool(1 << 20);
    let trailers = || Step::Trailers(HeaderMap::new());
    let short = Scripted::pieces(b"all of it", 4).says(12);
    for (body, came) in [(short.clone(), 9), (short.then([trailers()]), 9), (Scripted::new([]).says(1), 0)] {
        let (receiving, mut reader) = pool.spool_body(body.clone());
        for error in [within(pool.collect(body)).await.unwrap_err(), within(receiving).await.unwrap_err()] {
            let CollectError::Broken { received, source, .. } = &error else { panic!("{error:?}") };
            let kind = source.downcast_ref::<io::Error>().unwrap().kind();
            assert_eq!((*received, kind), (came, io::ErrorKind::UnexpectedEof));
            assert_eq!(error.status(), 400, "{error}");
        }
        let error = within(reader.read_to_end(&mut Vec::new())).await.unwrap_err();
        assert!(matches!(SpillError::of(&error), Some(SpillError::Unfinished { .. })), "{error}");
    }
    let whole = Scripted::pieces(b"all of it", 4).says(9).then([trailers()]);
    assert!(within(pool.collect(whole)).await.unwrap().trailers().is_some());
    until_empty(&pool).await;
}

/// The body of an answer to `HEAD`, as hyper has it over HTTP/2.
struct OfHead;

impl Body for OfHead {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(10)
    }
}

#[tokio::test]
async fn a_body_that_has_ended_from_the_start_is_whole_whatever_length_its_head_names() {
    assert!(within(pool(1 << 20).collect(OfHead)).await.unwrap().is_empty());
}

/// A body that came out of a pool, as of a request that is sent on, broke off when the disk failed: its
/// sender was told to send all of it, and no operator was told anything.
#[tokio::test]
async fn a_disk_that_cannot_be_read_is_no_fault_of_the_sender() {
    let (store, _) = FaultStore::new(MemoryStore::new(), Fault::lasting(0, Failure::io()).on(Call::Read));
    let (failing, pool) = (SpillPool::builder().memory(0).store(store).build().unwrap(), pool(1 << 20));
    let content = Bytes::from(vec![7; 300_000]);
    let stored = within(failing.collect(Full::new(content.clone()))).await.unwrap();
    let handed_on = |reader: AsyncSpoolReader| axum::body::Body::from_stream(ReaderStream::new(reader));
    let (receiving, reader) = failing.spool_body(Full::new(content));
    within(receiving).await.unwrap();
    for error in [
        within(pool.collect(stored.body())).await.unwrap_err(),
        within(pool.collect(Limited::new(stored.body(), 1 << 20))).await.unwrap_err(),
        within(pool.collect(handed_on(reader))).await.unwrap_err(),
    ] {
        assert!(matches!(error, CollectError::Broken { .. }), "{error:?}");
        assert_eq!((error.status().as_u16(), error.retry_after()), (500, None), "{error}");
        let line = "the server could not read the body after 0 bytes; trying again will not help";
        assert!(error.to_string().starts_with(line), "{error}");
    }
    let (receiving, reader) =
        pool.spool_body(Scripted::new([Step::Data("head".into()), Step::Fails("gone")]));
    let (received, followed) =
        within(async { tokio::join!(receiving, pool.collect(handed_on(reader))) }).await;
    assert_eq!(
        (received.unwrap_err().status().as_u16(), followed.unwrap_err().status().as_u16()),
        (400, 400)
    );
}
