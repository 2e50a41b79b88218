//! Bodies that are too long for what is outside of the pool, or for the pool itself: each is 413, and not an
//! error that sounds like another.
#![allow(missing_docs)]

use http_body_util::{BodyExt, Limited};
use overspill::{CollectError, MemoryStore, SpillPool};
use overspill_servers::running::until_empty;
use overspill_servers::scripted::Scripted;
use overspill_servers::time_limit::within;
use std::io;

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
