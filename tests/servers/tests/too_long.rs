//! Bodies that are too long for what is outside of the pool, or for the pool itself: each is 413, and not an
//! error that sounds like another.
#![allow(missing_docs)]

use http_body_util::{BodyExt, Limited};
use overspill::{CollectError, MemoryStore, SpillPool, WhenFull};
use overspill_servers::files::Config;
use overspill_servers::running::{Running, config, until_empty};
use overspill_servers::scripted::{Scripted, Step, polled_at_most};
use overspill_servers::time_limit::within;
use std::io::{self, Write};
use std::time::Duration;
use tokio::io::AsyncReadExt;

fn pool(memory: usize, disk: u64) -> SpillPool {
    let builder = SpillPool::builder().memory(memory).disk(disk).page_size(4096);
    builder.store(MemoryStore::new()).build().unwrap()
}

/// A body that a layer outside had cut off at its limit was 400, as if its client had gone: it was told to
/// send all of it.
#[tokio::test]
async fn a_body_that_a_limit_outside_cuts_off_is_too_long() {
    let pool = pool(1 << 20, u64::MAX);
    let limited = || Limited::new(Scripted::pieces(&[7; 10_000], 1400), 9_999);
    let bare = within(pool.collect(limited())).await.unwrap_err();
    let of_axum = within(pool.collect(axum::body::Body::new(limited()))).await.unwrap_err();
    // As of a stream of bytes, whose errors are those of I/O, which pass over what they have within.
    let of_a_stream = within(pool.collect(limited().map_err(io::Error::other))).await.unwrap_err();
    let (receiving, reader) = pool.spool_body(limited());
    drop(reader);
    let spooled = within(receiving).await.unwrap_err();
    for error in [bare, of_axum, of_a_stream, spooled] {
        assert_eq!((error.status().as_u16(), error.retry_after()), (413, None), "{error:#}");
        assert!(matches!(error, CollectError::CutOff { received: 9_800, .. }), "{error:?}");
        let (line, chain) = (error.to_string(), format!("{error:#}"));
        assert!(line.ends_with("was cut off after 9800 bytes; send a shorter one"), "{line}");
        assert!(chain.starts_with(&line) && chain.ends_with("length limit exceeded"), "{chain}");
    }
    let exact = Limited::new(Scripted::pieces(&[7; 10_000], 1400), 10_000);
    assert_eq!(within(pool.collect(exact)).await.unwrap().len(), 10_000);
    until_empty(&pool).await;
}

/// A body that said that it is longer than all that the pool has was received up to the disk limit, and then
/// told to try again later, each time.
#[tokio::test]
async fn a_body_that_says_that_it_never_has_room_is_too_long_before_a_byte_of_it_came() {
    let pool = pool(8192, 16_384);
    let stuck = |len| Scripted::new([Step::Stuck]).says(len);
    let own = || pool.buffer_builder().memory(4096).disk(4096).build();
    let larger = || pool.buffer_builder().memory(1 << 20).disk(1 << 20).build();
    for (collect, limit) in [
        (pool.collect(stuck(24_577)), 24_576),
        (pool.collect(stuck(u64::MAX)).limit(1 << 20), 24_576),
        (pool.collect(stuck(24_577)).limit(9), 9),
        (pool.collect(stuck(8_193)).buffer(own()), 8192),
        (pool.collect(stuck(24_577)).buffer(larger()), 24_576),
    ] {
        let error = within(collect).await.unwrap_err();
        assert!(
            matches!(error, CollectError::TooLong { limit: of, received: 0, .. } if of == limit),
            "{error:?}"
        );
        assert_eq!((error.status().as_u16(), error.retry_after()), (413, None));
    }
    let fits = Scripted::pieces(&[7; 24_576], 1400).says(24_576);
    assert_eq!(within(pool.collect(fits)).await.unwrap().len(), 24_576);
    until_empty(&pool).await;
    let unlimited = SpillPool::builder().memory(0).store(MemoryStore::new()).build().unwrap();
    let awaited = Scripted::new([Step::Pause]).says(u64::MAX);
    assert!(polled_at_most(unlimited.collect(awaited), 1).await.is_none(), "there is room for any length");
}

#[tokio::test]
async fn a_client_that_waits_is_told_before_it_sends() {
    let server = Running::start(Config { memory: 64 << 10, disk: 64 << 10, ..config() }).await;
    let mut client = server.client().await;
    client.begin("PUT", "/files/a", &["content-length: 131073", "expect: 100-continue"]).await.unwrap();
    let refused = client.reply("PUT").await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (413, None), "{}", refused.text());
    assert_eq!(server.request("PUT", "/files/a", &[], &[7; 131_072]).await.status, 201);
}

/// So was one that had not said its length, though it alone had taken all there is.
#[tokio::test]
async fn a_body_that_has_outgrown_the_pool_is_too_long() {
    for (memory, disk, len, piece) in [
        (0, 8192, 8193, 1400),
        (0, 8192, 20_000, 1400),
        (8192, 8192, 16_385, 100),
        (8192, 8192, 90_000, 30_000),
    ] {
        for when_full in [WhenFull::Fail, WhenFull::Wait { at_most: Duration::ZERO }] {
            let builder = SpillPool::builder().memory(memory).disk(disk as u64).page_size(4096);
            let pool = builder.when_full(when_full).store(MemoryStore::new()).build().unwrap();
            let body = || Scripted::pieces(&vec![7; len], piece);
            let error = within(pool.collect(body())).await.unwrap_err();
            let room = memory + disk;
            assert!(
                matches!(error, CollectError::TooLong { limit, .. } if limit == room as u64),
                "{len}: {error:?}"
            );
            // One that has room where no other is has none for now.
            let mut other = pool.buffer();
            other.write_all(&[1; 4096]).unwrap();
            let short = Scripted::pieces(&vec![7; room], piece.min(1400));
            let error = within(pool.collect(short.clone())).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.retry_after().is_some()), (503, true), "{error:?}");
            drop(other);
            assert_eq!(within(pool.collect(short)).await.unwrap().len(), room as u64);
            until_empty(&pool).await;
        }
    }
}

/// Slots and frames are whole, so a body may have no room though it is shorter than both limits together: it
/// was told to try again later, each time.
#[tokio::test]
async fn a_body_that_fills_the_pool_to_the_last_frame_is_too_long() {
    const ROOM: usize = 2_500_000;
    for when_full in [WhenFull::Fail, WhenFull::Wait { at_most: Duration::ZERO }] {
        let builder = SpillPool::builder().memory(1_500_000).disk(1_000_000).store(MemoryStore::new());
        let pool = builder.when_full(when_full).build().unwrap();
        for (short, fits) in [(0, false), (1, false), (16_384, false), (32_768, false), (65_536, true)] {
            for piece in [1400, 30_000, 1 << 20] {
                let body = |len| Scripted::pieces(&vec![7; len], piece);
                let (receiving, reader) = pool.spool_body(body(ROOM - short));
                let spooled = within(receiving).await.map(drop);
                drop(reader);
                let collected = within(pool.collect(body(ROOM - short))).await.map(drop);
                for result in [spooled, collected] {
                    let limit = match result {
                        Ok(()) => ROOM,
                        Err(CollectError::TooLong { limit, .. }) => usize::try_from(limit).unwrap(),
                        Err(error) => panic!("{short} by {piece}: {error:?}"),
                    };
                    assert_eq!(limit == ROOM, fits, "{short} by {piece}: {limit}");
                    let longest = pool.collect(body(limit.min(ROOM - short)));
                    within(longest).await.unwrap_or_else(|error| panic!("{limit} by {piece}: {error:?}"));
                }
            }
        }
        until_empty(&pool).await;
    }
}

/// So was a file that comes in parts: it had the pool for itself, and each part of it was told to try again
/// later, where a `PUT` of the same was too long.
#[tokio::test]
async fn a_part_that_fills_the_pool_to_the_last_frame_is_too_long() {
    const ROOM: usize = 1_100_003;
    let server = Running::start(Config { memory: 100_000, disk: 1_000_003, ..config() }).await;
    let put = server.request("PUT", "/files/a", &[], &[7; ROOM]).await;
    assert_eq!((put.status, put.header("retry-after")), (413, None));
    for complete in ["?1", "?0"] {
        let part = async |offset: &str, len: usize| {
            let offset = format!("upload-offset: {offset}");
            let headers = [&*offset, &*format!("upload-complete: {complete}")];
            server.request("PATCH", "/files/a", &headers, &vec![7; len]).await
        };
        let other = server.request("PUT", "/files/other", &[], &[1; 10_000]).await;
        assert_eq!(other.status, 201);
        let refused = part("0", ROOM).await;
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "another has room");
        server.request("DELETE", "/files/other", &[], b"").await;
        for _ in 0..3 {
            let head = server.request("HEAD", "/files/a", &[], b"").await;
            let offset = head.header("upload-offset").unwrap();
            let refused = part(offset, ROOM - offset.parse::<usize>().unwrap()).await;
            assert_eq!((refused.status, refused.header("retry-after")), (413, None), "{}", refused.text());
        }
        server.request("DELETE", "/files/a", &[], b"").await;
        let accepted = part("0", ROOM - 5_000).await.status;
        assert_eq!(accepted, if complete == "?1" { 201 } else { 204 });
        server.request("DELETE", "/files/a", &[], b"").await;
        server.until_empty().await;
    }
}

/// A spool may pass a body of any length: what was read once makes room for the rest.
#[tokio::test]
async fn a_spooled_body_may_be_longer_than_the_pool() {
    let builder = SpillPool::builder().memory(8192).disk(16_384).page_size(4096).store(MemoryStore::new());
    let pool = builder.when_full(WhenFull::Wait { at_most: Duration::from_secs(60) }).build().unwrap();
    let (receiving, reader) = pool.spool_body(Scripted::pieces(&[7; 100_000], 1400).says(100_000));
    let mut reader = reader.once();
    let reading = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
    let (collected, read) = within(async { tokio::join!(receiving, reading) }).await;
    assert_eq!((collected.unwrap().len(), read.unwrap()), (100_000, 100_000));
}

/// One whose reader could go back was told to try again later, each time, though nothing that its reader did
/// would ever have made room for it.
#[tokio::test]
async fn a_spooled_body_that_nothing_makes_room_for_is_too_long() {
    for when_full in [WhenFull::Fail, WhenFull::Wait { at_most: Duration::ZERO }] {
        let builder = SpillPool::builder().memory(8192).disk(16_384).page_size(4096);
        let pool = builder.when_full(when_full).store(MemoryStore::new()).build().unwrap();
        let body = |len: usize| Scripted::pieces(&vec![7; len], 1400);
        for (len, says, status, others) in [
            (100_000, false, 413, false),
            (30_000, true, 413, false),
            (24_577, false, 413, false),
            (100_000, true, 413, true),
            (24_000, false, 503, true),
        ] {
            let mut other = pool.buffer();
            other.write_all(&vec![1; if others { 9000 } else { 0 }]).unwrap();
            for readers in [0, 1, 2] {
                let body = if says { body(len).says(len as u64) } else { body(len) };
                let (receiving, reader) = pool.spool_body(body);
                let clone = (readers == 2).then(|| reader.clone().once());
                let reader = (readers > 0).then_some(reader);
                let error = within(receiving).await.unwrap_err();
                assert_eq!(error.status().as_u16(), status, "{len} bytes, {readers} readers: {error:?}");
                let limit = matches!(error, CollectError::TooLong { limit: 24_576, .. });
                assert_eq!(
                    (error.retry_after().is_none(), limit),
                    (status == 413, status == 413),
                    "{error:?}"
                );
                drop((reader, clone));
                pool.trim();
            }
            // One that reads once makes room, only not yet.
            let (receiving, reader) = pool.spool_body(body(len));
            let readers = [reader.clone().once(), reader.once()];
            let error = within(receiving).await.unwrap_err();
            assert_eq!(error.status().as_u16(), 503, "{len} bytes: {error:?}");
            drop((readers, other));
            until_empty(&pool).await;
        }
        let own = pool.buffer_builder().memory(4096).disk(1 << 20);
        let (receiving, _reader) = own.spool_body(body(22_000));
        let error = within(receiving).await.unwrap_err();
        assert!(matches!(error, CollectError::TooLong { limit: 20_480, .. }), "{error:?}");
    }
}

/// A body that its handler follows could have no limits of its own, and did not spill beside its file.
#[tokio::test]
async fn a_body_that_is_followed_may_have_a_limit_and_a_file_of_its_own() {
    let (pool, dir) = (pool(8192, u64::MAX), tempfile::tempdir().unwrap());
    let content: Vec<u8> = (0..=250).cycle().take(200_000).collect();
    let path = dir.path().join("upload");
    let receive = |disk| {
        let builder = pool.buffer_builder().disk(disk).file(&path);
        builder.spool_body(Scripted::pieces(&content, 10_000))
    };
    let (receiving, reader) = receive(100_000);
    assert_eq!(within(receiving).await.unwrap_err().status(), 413);
    drop(reader);

    let (receiving, mut reader) = receive(1 << 20);
    let mut read = Vec::new();
    let (collected, followed) = tokio::join!(within(receiving), within(reader.read_to_end(&mut read)));
    followed.unwrap();
    assert!(read == content);
    drop(reader);
    collected.unwrap().into_buffer().unwrap().persist(&path).unwrap().durable().unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
    until_empty(&pool).await;
}
