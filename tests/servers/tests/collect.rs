//! Bodies on their way into a pool: what arrives, what is refused and how, and what is left.
#![allow(missing_docs)]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderValue;
use hyper::{HeaderMap, Response};
use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, PoolPlan};
use overspill::{AsyncSpoolReader, CollectError, MemoryStore, SpillError, SpillPool, WhenFull};
use overspill_servers::running::{until, until_empty};
use overspill_servers::scripted::{Scripted, Step, Watched, polled_at_most};
use overspill_servers::time_limit::within;
use std::error::Error;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251).to_le_bytes()[0]).collect()
}

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(4096).store(MemoryStore::new()).build().unwrap()
}

fn trailers(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("checksum".parse().unwrap(), HeaderValue::from_static(value))])
}

#[tokio::test]
async fn what_arrives_is_there_in_memory_or_not_and_no_thread_of_the_loop_waits_for_the_store() {
    for memory in [0, 4096, 100 << 10, 1 << 20] {
        let store = Watched::new();
        let pool = SpillPool::builder().memory(memory).page_size(4096).store(store.clone()).build().unwrap();
        for (len, piece) in [(0, 1), (1, 1), (100_000, 1400), (300_000, 100_000), (10_000, 7)] {
            let content = content(len);
            let collected = within(pool.collect(Scripted::pieces(&content, piece))).await.unwrap();
            assert_eq!((collected.len(), collected.is_empty()), (len as u64, len == 0));
            assert!(collected.trailers().is_none());
            let (one, two) = (collected.body(), collected.clone().body());
            assert!(
                within(one.collect()).await.unwrap().to_bytes() == content,
                "{len} by {piece} in {memory}"
            );
            assert!(within(two.collect()).await.unwrap().to_bytes() == content, "and again");
            let reader = collected.reader();
            drop(collected);
            let read = tokio::task::spawn_blocking(move || {
                let mut reader = reader;
                let mut all = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut all).map(|_| all)
            });
            assert!(within(read).await.unwrap().unwrap() == content);
        }
        until_empty(&pool).await;
        assert_eq!(store.calls(), 0, "with {memory} bytes of memory");
    }
}

/// A frame of any length was taken in one poll: the other tasks of the loop waited for 50 MB to be copied.
#[tokio::test]
async fn a_poll_takes_a_part_of_a_long_frame() {
    let pool = pool(64 << 20);
    let mut collect = std::pin::pin!(pool.collect(Full::new(Bytes::from(content(50 << 20)))));
    assert!(polled_at_most(collect.as_mut(), 1).await.is_none());
    assert!(pool.stats().memory_used <= 2 << 20, "{}", pool.stats().memory_used);
    assert_eq!(within(collect).await.unwrap().len(), 50 << 20);
}

#[tokio::test]
async fn trailers_arrive_and_are_sent_again() {
    let pool = pool(1 << 20);
    let body = Scripted::pieces(b"all of it", 4).then([Step::Trailers(trailers("one"))]);
    let collected = within(pool.collect(body)).await.unwrap();
    assert_eq!(collected.trailers(), Some(&trailers("one")));
    for _ in 0..2 {
        let sent = within(collected.body().collect()).await.unwrap();
        assert_eq!(sent.trailers(), Some(&trailers("one")));
        assert_eq!(sent.to_bytes(), "all of it");
    }
}

/// A poll gave way after a mebibyte alone: a body of frames without a byte, all of which were there, kept the
/// thread until its end.
#[tokio::test]
async fn a_body_of_many_empty_frames_leaves_the_thread_to_others() {
    for step in
        [Step::Data(Bytes::new()), Step::Data(Bytes::from_static(b"x")), Step::Trailers(HeaderMap::new())]
    {
        let (pool, body) = (pool(1 << 20), Scripted::new(vec![step; 100_000]));
        assert!(polled_at_most(pool.collect(body.clone()), 20).await.is_none());
        let collected = polled_at_most(pool.collect(body), 200).await.expect("each poll goes on").unwrap();
        assert!([0, 100_000].contains(&collected.len()));
        drop(collected);
        until_empty(&pool).await;
    }
}

/// Of a body that is longer than it says, what is sent again has the length that came.
#[tokio::test]
async fn a_body_that_lies_about_its_length_is_as_long_as_what_came() {
    let pool = pool(1 << 20);
    for said in [0, 3, 9] {
        let body = Scripted::pieces(b"all of it", 4).says(said);
        let collected = within(pool.collect(body.clone()).limit(20)).await.unwrap();
        let sent = collected.body();
        assert_eq!(http_body::Body::size_hint(&sent).exact(), Some(9), "it said {said}");
        assert_eq!(within(sent.collect()).await.unwrap().to_bytes(), "all of it");
        let refused = within(pool.collect(body).limit(8)).await.unwrap_err();
        assert!(matches!(refused, CollectError::TooLong { limit: 8, .. }));
    }
    let long = Scripted::new([Step::Stuck]).says(21);
    let refused = within(pool.collect(long).limit(20)).await.unwrap_err();
    assert!(matches!(refused, CollectError::TooLong { received: 0, .. }), "not a byte was awaited");
    until_empty(&pool).await;
}

#[tokio::test]
async fn each_failure_has_its_status_and_leaves_nothing() {
    let limited = || SpillPool::builder().memory(0).disk(8192).page_size(4096).store(MemoryStore::new());
    let failing = |fault: Fault| {
        let (store, _) = FaultStore::new(MemoryStore::new(), fault);
        SpillPool::builder().memory(0).page_size(4096).store(store).build().unwrap()
    };
    let long = || Scripted::pieces(&content(20_000), 1400);
    let full = Fault::lasting(1, Failure::full()).on(Call::Write);
    let broken = Fault::lasting(1, Failure::io()).on(Call::Write);
    for (pool, body, limit, status) in [
        (pool(1 << 20), long(), 19_999, 413),
        (pool(1 << 20), long().then([Step::Fails("gone")]), u64::MAX, 400),
        (limited().build().unwrap(), long(), u64::MAX, 503),
        (failing(full), long(), u64::MAX, 507),
        (failing(broken), long(), u64::MAX, 500),
    ] {
        let mut other = pool.buffer();
        other.write_all(&[1; 4096][..if status == 503 { 4096 } else { 0 }]).unwrap();
        let error = within(pool.collect(body).limit(limit)).await.unwrap_err();
        drop(other);
        let told = (error.status().as_u16(), error.retry_after().is_some());
        assert_eq!(told, (status, status == 503), "{error}");
        assert!(error.source().is_some() || status == 413);
        let answer: Response<String> = error.to_response();
        assert_eq!((answer.status(), answer.body()), (error.status(), &format!("{error}\n")));
        assert_eq!(answer.headers().get("retry-after").is_some(), status == 503);
        until_empty(&pool).await;
    }
}

/// A body came into a buffer of the pool's limits alone: so one that passed a limit of its own was never 413,
/// though that is promised.
#[tokio::test]
async fn a_body_is_collected_into_a_buffer_of_the_callers() {
    let store = Watched::new();
    let pool = SpillPool::builder().memory(8192).page_size(4096).store(store.clone()).build().unwrap();
    let content = content(20_000);
    let mut buffer = pool.buffer();
    buffer.write_all(b"head, body, tail").unwrap();
    buffer.seek(SeekFrom::Start(6)).unwrap();
    let body = || Scripted::pieces(b"BODY", 3);
    let collected = within(pool.collect(body()).limit(4).buffer(buffer)).await.unwrap();
    assert_eq!((collected.len(), collected.frozen().to_vec().unwrap()), (16, b"head, BODY, tail".to_vec()));
    drop(collected);

    let longest = |memory: usize| pool.buffer_builder().memory(memory).disk(8192 - memory as u64);
    for memory in [0, 4096] {
        let fits = pool.collect(Scripted::pieces(&content[..8192], 1400)).buffer(longest(memory).build());
        assert!(
            within(within(fits).await.unwrap().body().collect()).await.unwrap().to_bytes() == content[..8192]
        );
        // It cannot wait for itself.
        let waits = longest(memory).when_full(WhenFull::Wait { at_most: Duration::MAX }).build();
        for mut buffer in [longest(memory).build(), waits] {
            buffer.seek(SeekFrom::Start(5)).unwrap();
            let error =
                within(pool.collect(Scripted::pieces(&content, 1400)).buffer(buffer)).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.retry_after()), (413, None), "{error}");
            let received = match error {
                CollectError::NoRoom { received, .. } => received,
                error => panic!("{error:?}"),
            };
            assert!((4096 - 5..=8192 - 5).contains(&received), "{received} bytes of the body");
        }
    }
    for polls in 0.. {
        let body = Scripted::pieces(&content, 1400);
        let is_done = polled_at_most(pool.collect(body).buffer(pool.buffer()), polls).await.is_some();
        until_empty(&pool).await;
        if is_done {
            break;
        }
    }
    assert_eq!(store.calls(), 0);
}

/// Collected first and persisted then, a body was copied, though the buffer could have been where the file is
/// to be.
#[cfg(target_os = "linux")] // where files have no name at first
#[tokio::test]
async fn a_body_for_a_path_becomes_a_file_without_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("upload");
    let content = content(100_000);
    let pool = SpillPool::builder().memory(8192).page_size(4096).dir(dir.path()).build().unwrap();
    for (buffer, is_copied) in [(pool.buffer_for(&path), false), (pool.buffer(), true)] {
        let collected = within(pool.collect(Scripted::pieces(&content, 1400)).buffer(buffer)).await.unwrap();
        let before = pool.stats().io;
        let buffer = collected.into_frozen().into_buffer().unwrap();
        let persisted = within(buffer.into_async().persist(&path)).await.unwrap();
        assert_eq!(persisted.durable().unwrap().metadata().unwrap().len(), 100_000);
        let moved = pool.stats().io.since(&before);
        assert_eq!(moved.read_bytes > 0, is_copied, "{moved:?}");
        assert!(std::fs::read(&path).unwrap() == content);
    }
    until_empty(&pool).await;
}

#[tokio::test]
async fn at_the_disk_limit_a_body_waits_in_turn_without_blocking() {
    let wait = WhenFull::Wait { at_most: Duration::from_secs(60) };
    let builder = SpillPool::builder().memory(0).disk(64 << 10).page_size(4096).store(MemoryStore::new());
    let pool = builder.when_full(wait).build().unwrap();
    let first = within(pool.collect(Full::new(&[1; 60_000][..]))).await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.collect(Full::new(&[2; 40_000][..])).await }
    });
    until("it waits", || pool.stats().waiters == 1).await; // on the one thread that there is
    assert_eq!(pool.stats().disk_limit, 64 << 10);
    drop(first);
    let second = within(waiting).await.unwrap().unwrap();
    assert!(second.body().collect().await.unwrap().to_bytes() == [2; 40_000][..]);
    drop(second);
    until_empty(&pool).await;
}

/// Dropped at every point where it waits, with each call of the store failing in turn: nothing is left, and
/// the next body is taken whole.
#[tokio::test]
async fn a_collect_that_is_dropped_at_any_point_leaves_nothing() {
    let content = content(200);
    for memory in [0, 16, 1024] {
        let (pool, faults) = PoolPlan { memory, ..PoolPlan::default() }.pool();
        for n in 0.. {
            let mut failed = 0;
            for polls in 0.. {
                faults.set(FaultPlan::new().with(Fault::lasting(n, Failure::io())));
                let body = Scripted::pieces(&content, 23).then([Step::Trailers(trailers("end"))]);
                let outcome = polled_at_most(pool.collect(body), polls).await;
                failed += faults.failed();
                if let Some(Ok(collected)) = &outcome {
                    faults.lift();
                    assert!(within(collected.body().collect()).await.unwrap().to_bytes() == content);
                }
                let is_done = outcome.is_some();
                drop(outcome);
                until_empty(&pool).await;
                if is_done {
                    break;
                }
            }
            if failed == 0 {
                break;
            }
        }
        faults.lift();
        let collected = within(pool.collect(Scripted::pieces(&content, 23))).await.unwrap();
        assert!(within(collected.body().collect()).await.unwrap().to_bytes() == content);
    }
}

/// The future was ready in a single poll however long the body: all other tasks of the thread
/// stood still meanwhile.
#[tokio::test]
async fn a_body_that_is_all_there_gives_way_to_others() {
    let pool = pool(64 << 20);
    let body = Scripted::new((0..32).map(|_| Step::Data(Bytes::from(vec![7; 1 << 20]))));
    assert!(polled_at_most(pool.collect(body.clone()), 31).await.is_none());
    assert_eq!(polled_at_most(pool.collect(body), 40).await.unwrap().unwrap().len(), 32 << 20);
}

#[test]
fn a_write_that_a_handler_makes_itself_has_the_same_status() {
    use std::io::Write;
    let pool = SpillPool::builder().memory(0).disk(0).store(MemoryStore::new()).build().unwrap();
    let refused = pool.buffer().write_all(b"x").unwrap_err();
    let error = CollectError::of_write(7, refused);
    assert_eq!(error.status(), 503);
    assert!(error.to_string().contains("after 7 bytes"), "{error}");
    let CollectError::NoRoom { source, .. } = error else { panic!() };
    assert!(matches!(SpillError::of(&source), Some(SpillError::DiskLimit { .. })));

    // At a limit of the buffer alone, the client was told that the server has to be looked after.
    let refused = pool.buffer_builder().disk(0).build().write_all(b"x").unwrap_err();
    let error = CollectError::of_write(7, refused);
    assert_eq!((error.status(), error.retry_after()), (413.try_into().unwrap(), None));
    assert!(error.to_string().ends_with("send a shorter one"), "{error}");
}

// ---- into a spool

/// All that the reader gets, and its error.
async fn follow(mut reader: AsyncSpoolReader) -> (Vec<u8>, Option<std::io::Error>) {
    let mut all = Vec::new();
    let error = reader.read_to_end(&mut all).await.err();
    (all, error)
}

#[tokio::test]
async fn a_spooled_body_is_read_while_it_arrives_and_is_whole_at_its_end() {
    for memory in [0, 4096, 100 << 10, 1 << 20] {
        let store = Watched::new();
        let pool = SpillPool::builder().memory(memory).page_size(4096).store(store.clone()).build().unwrap();
        for (len, piece) in [(0, 1), (1, 1), (100_000, 1400), (300_000, 100_000), (10_000, 7)] {
            let content = content(len);
            let body = Scripted::pieces(&content, piece).then([Step::Trailers(trailers("one"))]);
            let (receiving, reader) = pool.spool_body(body);
            let followers = [reader.clone(), reader].map(|reader| tokio::spawn(follow(reader)));
            let collected = within(receiving.limit(len as u64)).await.unwrap();
            for follower in followers {
                let (all, error) = within(follower).await.unwrap();
                assert!(all == content && error.is_none(), "{len} by {piece} in {memory}: {error:?}");
            }
            assert_eq!((collected.len(), collected.trailers()), (len as u64, Some(&trailers("one"))));
            assert!(within(collected.body().collect()).await.unwrap().to_bytes() == content);
            drop(collected);
            // Without a reader.
            let (receiving, reader) = pool.spool_body(Scripted::pieces(&content, piece));
            drop(reader);
            assert_eq!(within(receiving).await.unwrap().len(), len as u64);
        }
        until_empty(&pool).await;
        assert_eq!(store.calls(), 0, "with {memory} bytes of memory");
    }
}

/// The handler has begun with what has come, before the body goes on.
#[tokio::test]
async fn a_handler_begins_before_the_body_has_ended() {
    let pool = pool(1 << 20);
    let (receiving, mut reader) = pool.spool_body(Scripted::new([Step::Data("head".into()), Step::Stuck]));
    let receiving = tokio::spawn(receiving);
    let mut head = [0; 4];
    within(reader.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"head");
    receiving.abort();
    assert!(within(receiving).await.unwrap_err().is_cancelled());
    let (rest, error) = within(follow(reader.clone())).await;
    let error = error.unwrap();
    assert_eq!((rest.len(), error.kind()), (0, ErrorKind::ConnectionAborted));
    assert!(matches!(SpillError::of(&error), Some(SpillError::Unfinished { written: 4, reason: None, .. })));
    within(reader.rewind()).await.unwrap();
    assert_eq!(within(follow(reader)).await.0, b"head", "what had arrived is there");
    until_empty(&pool).await;
}

/// The future's error says why, and so does the reader's.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_whole_is_an_error_of_its_readers() {
    let limited = || SpillPool::builder().memory(0).disk(8192).page_size(4096).store(MemoryStore::new());
    let long = || Scripted::pieces(&content(20_000), 1400);
    for (pool, body, limit, status, why) in [
        (pool(1 << 20), long(), 19_999, 413, "longer than the 19999 bytes"),
        (pool(1 << 20), long().then([Step::Fails("gone")]), u64::MAX, 400, "before its end"),
        (pool(1 << 20), long().then([Step::Stuck]), u64::MAX, 408, "nothing of the body arrived for 10s"),
        (limited().build().unwrap(), long(), u64::MAX, 413, "longer than the 8192 bytes"),
    ] {
        let (receiving, reader) = pool.spool_body(body);
        let follower = tokio::spawn(follow(reader));
        let error = within(receiving.limit(limit).idle_timeout(Duration::from_secs(10))).await.unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        let (all, error) = within(follower).await.unwrap();
        assert!(all == content(20_000)[..all.len()], "{status}");
        let error = error.unwrap().to_string();
        assert!(error.contains(why), "{error}");
        until_empty(&pool).await;
    }
}

/// Room that was there for the last bytes was gone at the end. The readers then got another text than the
/// future's error: that of the limit, with how much of it is in use.
#[tokio::test]
async fn a_body_whose_end_finds_no_room_is_the_same_error_for_its_readers() {
    let builder = SpillPool::builder().memory(0).disk(2 * 4096).page_size(4096);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let body = Scripted::pieces(b"accepted", 8).then(vec![Step::Pause; 100]);
    let (receiving, mut reader) = pool.spool_body(body);
    let (mut receiving, mut head) = (std::pin::pin!(receiving), [0; 8]);
    tokio::select! {
        biased;
        early = &mut receiving => panic!("the end has not come: {early:?}"),
        read = reader.read_exact(&mut head) => drop(read.unwrap()),
    }
    let mut other = pool.buffer();
    std::io::Write::write_all(&mut other, &[1; 2 * 4096]).unwrap();
    let error = within(receiving).await.unwrap_err();
    assert_eq!(error.status(), 503, "{error}");
    let (_, ended) = within(follow(reader)).await;
    let ended = ended.unwrap();
    let Some(SpillError::Unfinished { reason, .. }) = SpillError::of(&ended) else { panic!("{ended}") };
    assert_eq!(*reason, Some(error.to_string()));
}

/// A body of any length, in no more room than its reader lags behind.
#[tokio::test]
async fn a_body_that_is_read_once_needs_little_room() {
    let wait = WhenFull::Wait { at_most: Duration::from_secs(60) };
    let builder = SpillPool::builder().memory(8192).disk(64 << 10).page_size(4096).store(MemoryStore::new());
    let pool = builder.when_full(wait).build().unwrap();
    let content = content(2_000_000);
    let (receiving, reader) = pool.spool_body(Scripted::pieces(&content, 10_000));
    let follower = tokio::spawn(follow(reader.once()));
    let collected = within(receiving).await.unwrap();
    let (all, error) = within(follower).await.unwrap();
    assert!(all == content && error.is_none(), "{error:?}");
    let gone = collected.frozen().read_at(&mut [0], 0).unwrap_err();
    assert!(matches!(SpillError::of(&gone), Some(SpillError::Passed { position: 0, .. })), "{gone}");
    assert!(pool.stats().disk_high_water <= 64 << 10);
    drop(collected);
    until_empty(&pool).await;
}

/// Dropped at every point where it waits, with each call of the store failing in turn.
#[tokio::test]
async fn a_spooled_body_that_is_dropped_at_any_point_leaves_nothing_and_looks_whole_to_nobody() {
    let content = content(200);
    for memory in [0, 16, 1024] {
        let (pool, faults) = PoolPlan { memory, ..PoolPlan::default() }.pool();
        for n in 0.. {
            let mut failed = 0;
            for polls in 0.. {
                faults.set(FaultPlan::new().with(Fault::lasting(n, Failure::io())));
                let body = Scripted::pieces(&content, 23).then([Step::Trailers(trailers("end"))]);
                let (receiving, reader) = pool.spool_body(body);
                let outcome = polled_at_most(receiving, polls).await;
                failed += faults.failed();
                faults.lift();
                let (all, error) = within(follow(reader)).await;
                assert_eq!(error.is_none(), matches!(outcome, Some(Ok(_))), "{error:?}");
                assert!(all == content[..all.len()] && (error.is_some() || all.len() == content.len()));
                let is_done = outcome.is_some();
                drop(outcome);
                until_empty(&pool).await;
                if is_done {
                    break;
                }
            }
            if failed == 0 {
                break;
            }
        }
    }
}
