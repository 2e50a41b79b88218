//! Bodies on their way out: frames, lengths, clones, failures.
#![allow(missing_docs)]

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use overspill::testing::{Call, Failure, Fault, FaultPlan, PoolPlan};
use overspill::{BodyError, CollectError, Frozen, MemoryStore, SpillBody, SpillError, SpillPool};
use overspill_servers::running::until_empty;
use overspill_servers::scripted::{Watched, polled_at_most};
use overspill_servers::time_limit::within;
use std::error::Error;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

const PAGE: usize = 4096;

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect()
}

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

fn frozen(pool: &SpillPool, content: &[u8]) -> Frozen {
    let mut buffer = pool.buffer();
    buffer.write_all(content).unwrap();
    buffer.freeze()
}

/// The next frame, which must be there at once, with no runtime.
fn now(body: &mut SpillBody) -> Option<Result<Bytes, BodyError>> {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(frame) => frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())),
        Poll::Pending => panic!("it is in memory"),
    }
}

#[test]
fn what_is_in_memory_leaves_at_once_and_is_not_copied() {
    let (pool, content) = (pool(64 * PAGE), content(2 * PAGE + PAGE / 2));
    let frozen = frozen(&pool, &content);
    let mut body = frozen.body();
    for page in 0..3 {
        let (start, end) = (page * PAGE, content.len().min((page + 1) * PAGE));
        assert_eq!(body.size_hint().exact(), Some((content.len() - start) as u64));
        assert!(!body.is_end_stream());
        let frame = now(&mut body).unwrap().unwrap();
        assert!(frame == content[start..end], "one page a frame");
        let lent = frozen.bytes_at(start as u64, end - start).unwrap();
        assert_eq!(frame.as_ptr(), lent.as_ptr(), "the pool's own page");
    }
    assert!(body.is_end_stream() && now(&mut body).is_none() && now(&mut body).is_none());
    assert_eq!((body.size_hint().exact(), pool.stats().memory_lent), (Some(0), 0));
    assert!(frozen.slice(5..5).body().is_end_stream());
    let mut part = frozen.slice(PAGE as u64 - 1..PAGE as u64 + 1).body();
    assert_eq!(part.size_hint().exact(), Some(2));
    assert_eq!(now(&mut part).unwrap().unwrap(), content[PAGE - 1..PAGE]);
    assert_eq!(now(&mut part).unwrap().unwrap(), content[PAGE..PAGE + 1]);
}

#[test]
fn a_body_fits_where_bodies_are_sent() {
    fn fits<B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Sync + 'static>(_: &B) {
    }
    let body = SpillBody::from(frozen(&pool(PAGE), b"x"));
    fits(&body);
    let boxed = http_body_util::combinators::BoxBody::new(body);
    assert_eq!(boxed.size_hint().exact(), Some(1));
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("checksum".parse().unwrap(), HeaderValue::from_static(value))])
}

/// Only frozen content became a body: what a handler made by itself went through three types first.
#[tokio::test]
async fn what_has_bytes_becomes_a_body() {
    let pool = pool(4 * PAGE);
    let mut buffer = pool.buffer();
    buffer.write_all(&content(PAGE)).unwrap();
    let body = SpillBody::from(buffer); // it stands at its end
    assert_eq!((body.size_hint().exact(), pool.stats().memory_used), (Some(PAGE as u64), PAGE as u64));
    assert!(body.collect().await.unwrap().to_bytes() == content(PAGE));

    let large = Bytes::from(content(10 << 20));
    let made = [
        (SpillBody::from_bytes(large.clone()), &large[..]),
        (SpillBody::from_bytes(content(100)), &content(100)[..]),
        (SpillBody::from_bytes("static"), b"static"),
        (SpillBody::from_bytes(&b"bytes"[..]), b"bytes"),
        (SpillBody::from_bytes(String::from("text")), b"text"),
        (SpillBody::from_bytes(Bytes::new()), b""),
    ];
    for (body, content) in made {
        let body = body.unwrap();
        let stats = body.frozen().stats();
        assert_eq!((stats.disk_used, body.is_end_stream()), (0, content.is_empty()));
        assert!(stats.memory_used >= content.len() as u64, "it is charged to a limit of its own");
        assert!(
            body.clone().collect().await.unwrap().to_bytes() == content && body.size_hint().exact().is_some()
        );
    }
    let mut body = SpillBody::from_bytes(large.clone()).unwrap();
    let mut sent = Vec::new();
    while let Some(frame) = body.frame().await {
        sent.push(frame.unwrap().into_data().unwrap());
    }
    assert_eq!(sent.len(), large.len().div_ceil(64 << 10));
    for (page, kept) in std::iter::zip(large.chunks(64 << 10), sent) {
        assert_eq!((kept.as_ptr(), kept.len()), (page.as_ptr(), page.len()), "no page is copied");
    }
    assert_eq!(pool.stats().memory_used, 0, "none of it is a pool's");
}

#[tokio::test]
async fn trailers_are_given_to_a_body_and_taken_from_what_came() {
    let pool = pool(4 * PAGE);
    let body = SpillBody::from_bytes("all of it").unwrap().with_trailers(trailers("one"));
    let two = body.clone().with_trailers(trailers("two"));
    let empty = SpillBody::default().with_trailers(trailers("of nothing"));
    assert!(!empty.is_end_stream());
    for (body, value, len) in [(body.clone(), "one", 9), (two, "two", 9), (empty, "of nothing", 0)] {
        let sent = body.collect().await.unwrap();
        assert_eq!((sent.trailers().cloned(), sent.to_bytes().len()), (Some(trailers(value)), len));
    }
    let collected = within(pool.collect(body)).await.unwrap();
    let shared = collected.clone().into_parts();
    assert_eq!((shared.0.len(), shared.1), (9, Some(trailers("one"))));
    let sent = SpillBody::from(collected.clone()).collect().await.unwrap();
    assert_eq!((sent.trailers().cloned(), &sent.to_bytes()[..]), (Some(trailers("one")), &b"all of it"[..]));
    let (frozen, alone) = collected.into_parts();
    assert_eq!((frozen.len(), alone), (9, Some(trailers("one"))));
    assert_eq!(within(pool.collect(SpillBody::default())).await.unwrap().into_parts().1, None);
}

/// A message with a length has no trailers in HTTP/1, and a `SpillBody` has one: without the headers they
/// were not sent.
#[tokio::test]
async fn trailers_pass_a_connection_both_ways_if_the_headers_say_so() {
    let pool = pool(4 * PAGE);
    for (says_so, expected) in [(true, Some(trailers("one"))), (false, None)] {
        let head = move |headers: &mut HeaderMap| {
            if says_so {
                headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
                headers.insert("trailer", HeaderValue::from_static("checksum"));
                headers.insert("te", HeaderValue::from_static("trailers")); // for the answer
            }
        };
        let (ours, theirs) = tokio::io::duplex(PAGE);
        let echo = service_fn(|request: Request<Incoming>| {
            let pool = pool.clone();
            async move {
                let collected = pool.collect(request.into_body()).await?;
                let mut answer = Response::new(SpillBody::from(collected));
                head(answer.headers_mut());
                Ok::<_, CollectError>(answer)
            }
        });
        let server = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(theirs), echo);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        let exchange = async {
            let body = SpillBody::from_bytes("all of it").unwrap().with_trailers(trailers("one"));
            let mut request = Request::post("/").header("host", "test").body(body).unwrap();
            head(request.headers_mut());
            let answer = sender.send_request(request).await.unwrap();
            let answer = answer.into_body().collect().await.unwrap();
            assert_eq!(answer.trailers(), expected.as_ref());
            assert_eq!(answer.to_bytes(), "all of it");
            drop(sender);
        };
        let (_, client, _) = within(async { tokio::join!(server, connection, exchange) }).await;
        client.unwrap();
    }
}

#[tokio::test]
async fn a_clone_starts_at_the_beginning() {
    let (pool, content) = (pool(4 * PAGE), content(40 * PAGE));
    let frozen = frozen(&pool, &content);
    let mut body = frozen.body();
    for _ in 0..10 {
        within(body.frame()).await.unwrap().unwrap();
    }
    let (clone, rest) = (body.clone(), usize::try_from(body.size_hint().exact().unwrap()).unwrap());
    assert!(clone.frozen().len() == content.len() as u64 && rest < content.len());
    assert!(within(clone.collect()).await.unwrap().to_bytes() == content);
    assert!(within(body.collect()).await.unwrap().to_bytes() == content[content.len() - rest..]);
}

/// Any memory, at once and with a receiver that keeps every frame; the loop's thread makes no call of the
/// store.
#[tokio::test]
async fn what_is_spilled_is_read_ahead_off_the_loop() {
    let content = content(100 * PAGE + 17);
    for memory in [0, 1, 2, 10, 50, 200] {
        let store = Watched::new();
        let pool =
            SpillPool::builder().memory(memory * PAGE).page_size(PAGE).store(store.clone()).build().unwrap();
        let written = tokio::task::spawn_blocking({
            let (pool, content) = (pool.clone(), content.clone());
            move || frozen(&pool, &content)
        });
        let frozen = within(written).await.unwrap();
        let (mut bodies, mut sent) = (vec![frozen.body(); 5], vec![Vec::new(); 5]);
        for turn in 0.. {
            let (body, sent) = (&mut bodies[turn % 5], &mut sent[turn % 5]);
            match within(body.frame()).await {
                Some(frame) => sent.push(frame.unwrap().into_data().unwrap()),
                None if turn % 5 == 4 => break,
                None => {}
            }
            let stats = pool.stats();
            assert!(stats.memory_used <= stats.memory_limit && stats.memory_lent <= stats.memory_limit / 4);
        }
        for sent in sent {
            assert!(sent.concat() == content, "in {memory} pages");
            assert!(sent.iter().all(|frame| frame.len() <= 16 << 10));
        }
        drop(frozen);
        drop(bodies); // the last handles, and on the loop
        until_empty(&pool).await;
        assert_eq!(store.calls(), 0, "in {memory} pages");
    }
}

/// Sends all bodies, a frame of each in turn. Returns what was moved for it, but for the 32 pages that are
/// loaded until it is known that they share nothing, for each byte that was sent.
async fn moved_for(pool: &SpillPool, mut bodies: Vec<SpillBody>) -> f64 {
    let (before, mut sent) = (pool.stats().io, 0);
    let mut is_sending = true;
    while std::mem::take(&mut is_sending) {
        for body in &mut bodies {
            if let Some(frame) = within(body.frame()).await {
                sent += frame.unwrap().into_data().unwrap().len();
                is_sending = true;
            }
        }
    }
    let io = pool.stats().io.since(&before);
    let loaded = 32 * (pool.stats().memory_limit / 16).min(64 << 10);
    (io.read_bytes + io.written_bytes).saturating_sub(loaded) as f64 / sent as f64
}

/// Each page was loaded for a copy of a quarter of it, and gone before the next: 3.7 bytes for one, and 20
/// for ranges of 3,000 bytes. Those that are sent together share what is loaded.
#[tokio::test]
async fn many_bodies_at_different_places_move_their_bytes_once() {
    const LEN: usize = 4 << 20;
    for memory in [256 << 10, 1 << 20] {
        let pool = SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap();
        let frozen = frozen(&pool, &content(LEN));
        for count in [10, 50] {
            let apart = |number| frozen.slice((LEN / count * number) as u64..).body();
            let moved = moved_for(&pool, (0..count).map(apart).collect()).await;
            assert!(moved < 1.3, "{count} at different places, in {memory}: {moved}");
            let moved = moved_for(&pool, vec![frozen.body(); count]).await;
            assert!(moved < 0.5, "{count} together, in {memory}: {moved}");
        }
        let range = |number: usize| (number * 7919 * 4099 % (LEN - 3000)) as u64;
        let ranges = (0..300).map(|number| frozen.slice(range(number)..range(number) + 3000).body());
        let moved = moved_for(&pool, ranges.collect()).await;
        assert!(moved < 1.6, "ranges, in {memory}: {moved}");
    }
}

/// A poll that may not call the store took a page's memory for a load that it could not make, and waited for
/// the content's lock to say so: it is held while a page is written.
#[test]
fn a_poll_of_what_is_spilled_moves_no_page_out() {
    let pool = pool(2 * PAGE);
    let frozen = frozen(&pool, &content(8 * PAGE));
    pool.set_memory_limit(0);
    pool.set_memory_limit(2 * PAGE);
    for page in [0, 1, 0, 1] {
        frozen.read_exact_at(&mut [0; 100], page * PAGE as u64).unwrap();
    }
    let before = pool.stats();
    assert_eq!(before.memory_used, 2 * PAGE as u64, "of pages that can leave");
    for page in 0..8 {
        let _ = now(&mut frozen.slice(page * PAGE as u64..).body());
    }
    let after = pool.stats();
    assert_eq!((after.evictions, after.io.reads), (before.evictions, before.io.reads));
    pool.check_invariants();
}

#[tokio::test]
async fn a_page_that_cannot_be_read_ends_the_body_with_its_place() {
    let (pool, faults) = PoolPlan::default().pool(); // pages of 8 bytes, all in the store
    let content = content(100);
    let frozen = tokio::task::spawn_blocking({
        let content = content.clone();
        move || frozen(&pool, &content)
    });
    let frozen = within(frozen).await.unwrap();
    for n in 0.. {
        faults.set(FaultPlan::new().with(Fault::lasting(n, Failure::io()).on(Call::Read)));
        let (mut body, mut sent) = (frozen.body(), Vec::new());
        let error = loop {
            match within(body.frame()).await {
                None => break None,
                Some(Ok(frame)) => sent.extend(frame.into_data().unwrap()),
                Some(Err(error)) => break Some(error),
            }
        };
        assert!(sent == content[..sent.len()]);
        let Some(error) = error else {
            assert_eq!((sent.len(), faults.failed()), (content.len(), 0));
            break;
        };
        assert_eq!(error.position, sent.len() as u64);
        assert!(matches!(SpillError::of(&error.source), Some(SpillError::Store { .. })), "{error:?}");
        assert!(error.source().is_some() && body.is_end_stream());
        assert!(within(body.frame()).await.is_none());
        faults.lift();
        assert!(within(body.clone().collect()).await.unwrap().to_bytes() == content, "a clone starts anew");
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_at_any_point_leaves_nothing() {
    let content = content(30 * PAGE);
    for memory in [0, 3 * PAGE, 16 * PAGE] {
        let pool = pool(memory);
        for polls in 0.. {
            let written = tokio::task::spawn_blocking({
                let (pool, content) = (pool.clone(), content.clone());
                move || frozen(&pool, &content)
            });
            let body = within(written).await.unwrap().body();
            let done = polled_at_most(body.collect(), polls).await;
            let is_done = done.is_some();
            drop(done);
            until_empty(&pool).await;
            if is_done {
                break;
            }
        }
    }
}

/// The runtime ends in the middle: the body says so, or its bytes come.
#[test]
fn a_body_outlives_its_runtime() {
    let (pool, content) = (pool(0), content(30 * PAGE));
    let mut body = frozen(&pool, &content).body();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let first =
        runtime().block_on(async { within(body.frame()).await.unwrap().unwrap().into_data().unwrap() });
    assert!(first == content[..first.len()]);
    let rest = runtime().block_on(async { within(body.collect()).await.unwrap().to_bytes() });
    assert!(rest == content[first.len()..]);
}

/// The last handle of a body is dropped by an event loop, as a rule, and the blocks of a megabyte
/// would be freed there.
#[tokio::test]
async fn dropping_the_last_handle_calls_no_store() {
    let store = Watched::new();
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store.clone()).build().unwrap();
    let written = tokio::task::spawn_blocking({
        let pool = pool.clone();
        move || frozen(&pool, &content(400 * PAGE))
    });
    let body = SpillBody::from(within(written).await.unwrap());
    assert_eq!(pool.stats().disk_used, 400 * PAGE as u64);
    drop(body);
    assert_eq!((pool.stats().disk_used, store.calls()), (0, 0));
    pool.trim(); // which may
    assert!(store.calls() > 0);
}

/// What is in memory is ready at every poll, so a loop over the frames of a body ended before any other task
/// ran: timers and accepts stood still for as long as a gigabyte takes.
#[test]
fn a_body_in_memory_lets_other_tasks_run() {
    const LEN: usize = 64 << 20;
    for lent in [0, u64::MAX] {
        let pool = SpillPool::builder().memory(2 * LEN).lend(lent).store(MemoryStore::new()).build().unwrap();
        let mut body = frozen(&pool, &content(LEN)).body();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let turns = tokio::task::LocalSet::new().block_on(&runtime, async {
            let turns = std::rc::Rc::new(std::cell::Cell::new(0));
            let counted = std::rc::Rc::clone(&turns);
            let other = tokio::task::spawn_local(async move {
                loop {
                    counted.set(counted.get() + 1);
                    tokio::task::yield_now().await;
                }
            });
            let sending = async move { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
            tokio::task::spawn_local(sending).await.unwrap();
            other.abort();
            turns.get()
        });
        assert!(turns >= LEN / (16 << 20), "{turns} turns of another task, {lent} bytes lent");
    }
}
