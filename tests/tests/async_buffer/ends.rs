//! What the ends of a spool know of each other: late readers, what is written, how long a read waits, where
//! the bytes are.

use super::gated::Gated;
use super::servers::{PAGE, pattern};
use super::spools::{once, pool, spool};
use super::subject::runtime;
use overspill::testing::Call;
use overspill::{SpillError, SpillPool};
use std::io::SeekFrom;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

#[test]
fn a_late_reader_has_all_that_was_not_freed() {
    let pool = pool(2 * PAGE);
    let (mut writer, first) = spool(&pool);
    runtime(1).block_on(async {
        writer.write_all(&pattern(1, 0, 6 * PAGE)).await.unwrap();
        let mut late = writer.reader();
        assert_eq!((late.position(), late.written(), late.timeout()), (0, 6 * PAGE as u64, None));
        writer.write_all(&pattern(1, 6 * PAGE, PAGE)).await.unwrap();
        let mut all = vec![0; 7 * PAGE];
        late.read_exact(&mut all).await.unwrap();
        assert!(all == pattern(1, 0, 7 * PAGE));

        // The others pass four pages, and nobody needs them any more.
        let (mut first, mut late) = (first.once(), late.once());
        first.read_exact(&mut all[..4 * PAGE]).await.unwrap();
        assert_eq!(late.stream_position().await.unwrap(), 7 * PAGE as u64);
        let mut later = writer.reader();
        assert_eq!(later.position(), 4 * PAGE as u64);
        later.seek(SeekFrom::Start(0)).await.unwrap();
        let gone = later.read(&mut [0; 10]).await.unwrap_err();
        assert!(matches!(SpillError::of(&gone), Some(SpillError::Passed { .. })), "{gone}");
        later.seek(SeekFrom::Start(5 * PAGE as u64)).await.unwrap();
        let mut rest = Vec::new();
        writer.finish().await.unwrap();
        later.read_to_end(&mut rest).await.unwrap();
        assert!(rest == pattern(1, 5 * PAGE, 2 * PAGE) && later.written() == 7 * PAGE as u64);
    });
}

/// A reader that follows is given a timeout, and another one, without leaving its async form.
#[test]
fn a_timeout_that_is_set_begins_anew() {
    let (writer, mut reader) = spool(&pool(PAGE));
    runtime(1).block_on(async {
        reader.set_timeout(Some(Duration::from_secs(3600)));
        assert!(once(reader.read(&mut [0])).is_pending());
        thread::sleep(Duration::from_millis(40)); // longer than the next timeout, which counts from now on
        reader.set_timeout(Some(Duration::from_millis(30)));
        assert_eq!(
            (reader.timeout(), reader.clone().timeout()),
            (Some(Duration::from_millis(30)), reader.timeout())
        );
        let began = Instant::now();
        let error = reader.read(&mut [0]).await.unwrap_err();
        assert!(matches!(SpillError::of(&error), Some(SpillError::NothingWritten { .. })), "{error}");
        assert!(began.elapsed() >= Duration::from_millis(30));
        reader.set_timeout(None);
        assert!(once(reader.read(&mut [0])).is_pending());
        assert_eq!(reader.into_inner().position(), 0);
    });
    drop(writer);
}

/// The blocking form's figures wait for a transfer, which a loop must not.
#[test]
fn the_figures_of_a_writer_wait_for_no_transfer() {
    let (gate, stands) = Gated::of(Call::Write);
    let pool = SpillPool::builder().memory(2 * PAGE).page_size(PAGE).store(gate.clone()).build().unwrap();
    let (mut writer, _reader) = spool(&pool);
    let runtime = runtime(2);
    let _entered = runtime.enter();
    assert_eq!(writer.stats().map(|stats| stats.memory_used), Some(0));
    assert_eq!(runtime.block_on(writer.write(&pattern(1, 0, 2 * PAGE))).unwrap(), 2 * PAGE);
    let before = writer.stats().unwrap();
    assert_eq!((before.memory_used, before.disk_used), (2 * PAGE as u64, 0));
    {
        let data = [7; PAGE];
        let mut write = pin!(writer.write(&data));
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    stands.recv().unwrap(); // the job stands in the store, with the content
    assert!(writer.stats().is_none());
    gate.open(true);
    runtime.block_on(writer.write_all(&pattern(1, 2 * PAGE, 4 * PAGE))).unwrap();
    let after = loop {
        match writer.stats() {
            Some(stats) => break stats,
            None => thread::yield_now(), // a job still ends
        }
    };
    assert!(after.disk_used > 0 && after.memory_used <= 2 * PAGE as u64);
}

/// An async write took bytes at places that no file has, which could never leave memory.
#[test]
fn a_write_past_the_end_of_all_files_is_refused_on_a_loop() {
    const END: u64 = i64::MAX as u64 / PAGE as u64 * PAGE as u64;
    let dir = tempfile::tempdir().unwrap();
    for memory in [0, 16 * PAGE] {
        let pool = SpillPool::builder().memory(memory).page_size(PAGE).build().unwrap();
        let mut buffer = pool.buffer_for(dir.path().join("file")).into_async();
        runtime(1).block_on(async {
            for at in [END, (1 << 63) + 5, u64::MAX] {
                buffer.seek(SeekFrom::Start(at)).await.unwrap();
                let refused = buffer.write(b"five!").await.unwrap_err();
                let Some(&SpillError::TooLarge { position, requested, .. }) = SpillError::of(&refused) else {
                    panic!("{refused}")
                };
                assert_eq!((position, requested), (at, 5));
            }
            assert_eq!((buffer.len(), pool.stats().memory_used), (0, 0));
        });
    }
}

/// The wait of a read that was dropped went on behind reads that a window served: where the bytes were
/// decided when the next one had waited long enough.
#[test]
fn a_read_that_a_window_serves_ends_the_wait_before_it() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let (mut writer, mut reader) = spool(&pool(PAGE));
    runtime(1).block_on(async {
        reader.set_timeout(Some(TIMEOUT));
        writer.write_all(&[7; 100]).await.unwrap();
        let mut half = [0; 50];
        reader.read_exact(&mut half).await.unwrap();
        reader.read_exact(&mut half).await.unwrap();
        assert!(once(reader.read(&mut [0])).is_pending());
        thread::sleep(TIMEOUT / 2);
        reader.seek(SeekFrom::Current(-50)).await.unwrap();
        reader.read_exact(&mut half).await.unwrap();
        let began = Instant::now();
        reader.read(&mut [0]).await.unwrap_err();
        assert!(began.elapsed() >= TIMEOUT, "{:?}", began.elapsed());
    });
    drop(writer);
}

/// With a timeout of zero a read waited for the runtime's timer, which is a millisecond at least.
#[test]
fn a_read_with_no_time_does_not_wait() {
    let (writer, mut reader) = spool(&pool(PAGE));
    runtime(1).block_on(async {
        reader.set_timeout(Some(Duration::ZERO));
        assert!(once(reader.read(&mut [0])).is_ready());
        assert!(once(reader.seek(SeekFrom::End(0))).is_ready());
    });
    drop(writer);
}
