//! Are failures told as they happen: to the listener, to `tracing`, and in the statistics?

mod traced;

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{Checksums, Event, MemoryStore, PoolBuilder, SpillPool, Store};
use overspill_tests::support::content_of;
use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

type Failures = Arc<Mutex<Vec<(ErrorKind, String)>>>;

/// A pool with so many pages of memory, and the failures that it tells of.
fn told(memory: usize, build: impl FnOnce(PoolBuilder) -> PoolBuilder) -> (SpillPool, Failures) {
    let failures = Failures::default();
    let sink = Arc::clone(&failures);
    let listener = move |event: &Event| {
        if let Event::StoreFailed { kind, message, .. } = event {
            sink.lock().unwrap().push((*kind, message.clone()));
        }
    };
    let builder = SpillPool::builder().memory(memory * PAGE).page_size(PAGE).on_event(listener);
    (build(builder).build().unwrap(), failures)
}

fn failing(memory: usize, fault: impl Into<FaultPlan>) -> (SpillPool, Faults, Failures) {
    let (store, faults) = FaultStore::new(MemoryStore::new(), fault);
    let (pool, failures) = told(memory, |builder| builder.store(store));
    (pool, faults, failures)
}

fn kinds(failures: &Failures) -> Vec<ErrorKind> {
    failures.lock().unwrap().drain(..).map(|(kind, _)| kind).collect()
}

/// Only want of room was told. A disk that failed, or a directory that was not there, left no event, no line
/// and no number; a call that moved nothing counted as a transfer.
#[test]
fn a_store_that_fails_is_told_and_counted() {
    let plan = [Call::Read, Call::Write].map(|call| Fault::lasting(0, Failure::io()).on(call));
    let (pool, faults, failures) = failing(0, plan.into_iter().collect::<FaultPlan>());
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 100]).unwrap_err();
    let stats = pool.stats();
    assert_eq!((stats.io.writes, stats.io.written_bytes, stats.io.errors), (0, 0, 1));
    assert_eq!((stats.direct_io.errors, buffer.stats().io.errors, stats.refused), (1, 1, Default::default()));
    let (kind, message) = failures.lock().unwrap().pop().unwrap();
    let text = message.strip_prefix("the store failed: cannot write 100 bytes at its offset 0: ");
    assert!(text.is_some_and(|source| !source.is_empty()), "{kind:?} {message}");

    faults.paused(|| buffer.write_all(&[1; 2 * PAGE]).unwrap());
    buffer.rewind().unwrap();
    buffer.read_exact(&mut [0; 100]).unwrap_err();
    assert_eq!((pool.stats().io.reads, pool.stats().io.errors, kinds(&failures).len()), (0, 2, 1));
    let frozen = buffer.freeze();
    frozen.read_at(&mut [0; PAGE], 0).unwrap_err();
    let stats = pool.stats();
    assert_eq!((stats.io.reads, stats.io.errors), (0, 2 + kinds(&failures).len() as u64));
    assert!(stats.io.errors > 2);
    assert_eq!(pool.stats().since(&stats).io.errors, 0);
}

#[test]
fn a_directory_that_is_missing_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("missing");
    let (pool, failures) = told(0, |builder| builder.dir(&dir));
    pool.buffer().write_all(b"nowhere to go").unwrap_err();
    let failures = failures.lock().unwrap();
    assert!(
        matches!(&failures[..], [(ErrorKind::NotFound, message)]
            if message.starts_with(&format!("cannot make a temp file in {}; ", dir.display()))),
        "{failures:?}"
    );
    assert_eq!((pool.stats().io.errors, pool.stats().io.writes), (1, 0));
}

/// What is full is a refusal, with an event and a count of its own.
#[test]
fn a_store_that_is_full_has_not_failed() {
    let (pool, _faults, failures) = failing(0, Fault::lasting(0, Failure::full()).on(Call::Write));
    pool.buffer().write_all(&[1; 100]).unwrap_err();
    let stats = pool.stats();
    assert_eq!((stats.io.writes, stats.io.errors, stats.refused.store_full), (0, 0, 1));
    assert_eq!(kinds(&failures), []);
}

/// What was moved before the failure is a transfer.
#[test]
fn a_transfer_that_fails_on_its_way_is_counted_and_told() {
    let plan = [Fault::once(0, Failure::Short(60)), Fault::lasting(1, Failure::io())];
    let plan: FaultPlan = plan.map(|fault| fault.on(Call::Write)).into_iter().collect();
    let (pool, _faults, failures) = failing(0, plan);
    let mut buffer = pool.buffer();
    assert_eq!(buffer.write(&[1; 100]).unwrap(), 60);
    let io = pool.stats().io;
    assert_eq!((io.writes, io.written_bytes, io.errors), (1, 60, 2), "the rest was tried once more");
    assert_eq!(kinds(&failures).len(), 2);
}

/// A page that another buffer needs the memory of cannot leave: no call fails for it, and nobody knew.
#[test]
fn a_page_that_cannot_be_reclaimed_is_told_though_no_call_fails() {
    let (pool, faults, failures) = failing(4, Fault::lasting(0, Failure::io()).on(Call::Write));
    let mut idle = pool.buffer();
    idle.write_all(&[3; 4 * PAGE]).unwrap();
    pool.set_memory_limit(0);
    let told = kinds(&failures).len();
    let stats = pool.stats();
    assert!(told > 0 && stats.io.errors == told as u64 && stats.io.writes == 0, "{told}: {stats:?}");
    assert_eq!(idle.stats().io.errors, 0, "it was not the buffer's doing");
    faults.lift();
    assert!(content_of(&mut idle) == [3; 4 * PAGE]);
    pool.check_invariants();
}

/// A listener was called in the middle of what had failed: with the page out of its table, its frame nowhere,
/// or a slot that was allocated for it.
#[test]
fn a_listener_finds_each_page_where_it_belongs() {
    static POOL: Mutex<Option<SpillPool>> = Mutex::new(None);
    let audited = Arc::new(Mutex::new(Vec::new()));
    for failing in 0..60 {
        let (store, _faults) = FaultStore::new(MemoryStore::new(), Fault::once(failing, Failure::io()));
        let sink = Arc::clone(&audited);
        let listener = move |event: &Event| {
            if let Event::StoreFailed { .. } = event {
                let pool = POOL.lock().unwrap().clone().unwrap();
                let is_sound = std::panic::catch_unwind(AssertUnwindSafe(|| pool.check_invariants())).is_ok();
                sink.lock().unwrap().push((failing, is_sound));
            }
        };
        let builder = SpillPool::builder().memory(64 * PAGE).page_size(4 * PAGE).on_event(listener);
        let pool = builder.store(store).build().unwrap();
        *POOL.lock().unwrap() = Some(pool.clone());
        let _ = moved_about(&pool);
        drop(POOL.lock().unwrap().take());
        drop(pool);
    }
    let audited = audited.lock().unwrap();
    let unsound: Vec<_> = audited.iter().filter(|(_, is_sound)| !is_sound).collect();
    assert!(audited.len() > 20 && unsound.is_empty(), "{unsound:?} of {}", audited.len());
}

/// Pages leave memory for a limit of the buffer's own, grow in their slots, are read and written past memory,
/// and are shared.
fn moved_about(pool: &SpillPool) -> io::Result<()> {
    let mut short = pool.buffer();
    short.write_all(&[5; 100])?;
    let _ = short.spill();
    short.seek(SeekFrom::Start(50))?;
    let _ = short.write(&[6; 3 * PAGE]); // to a longer slot
    let mut buffer = pool.buffer_builder().memory(12 * PAGE).build();
    for piece in 0..40 {
        let _ = buffer.write(&[piece; 2800]);
    }
    let _ = buffer.spill();
    for place in [0, 4 * PAGE_BYTES + 9, 12 * PAGE_BYTES, 28 * PAGE_BYTES] {
        buffer.seek(SeekFrom::Start(place))?;
        let _ = buffer.read(&mut [0; 50]);
        let _ = buffer.write(&[2; 20_000]);
    }
    let mut clone = buffer.try_clone()?;
    clone.seek(SeekFrom::Start(5))?;
    let _ = clone.write(&[3; 10]);
    buffer.rewind()?;
    let _ = buffer.read(&mut [0; 20 * PAGE]);
    let _ = clone.write(&[4; 8 * PAGE]);
    let _ = clone.spill();
    Ok(())
}

#[test]
fn bytes_that_were_changed_in_the_store_are_told() {
    let store = Arc::new(MemoryStore::new());
    let shared = Arc::clone(&store);
    let (pool, failures) = told(0, |builder| builder.store(shared).checksums(Checksums::On));
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 2 * PAGE]).unwrap();
    store.write_at(10, b"x").unwrap();
    for (at, len) in [(0, PAGE), (5, 20)] {
        buffer.seek(SeekFrom::Start(at)).unwrap();
        buffer.read_exact(&mut vec![0; len]).unwrap_err();
        assert_eq!(kinds(&failures), [ErrorKind::InvalidData]);
    }
    assert_eq!((pool.stats().io.errors, pool.stats().io.reads), (2, 2), "the bytes did come");
}

/// An error whose text panics, and its drop too.
struct Wild;

impl Debug for Wild {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl std::fmt::Display for Wild {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("on purpose");
    }
}

impl std::error::Error for Wild {}

impl Drop for Wild {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[derive(Debug, Default)]
struct WildStore(MemoryStore);

impl Store for WildStore {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::other(Wild))
    }
}

/// The text of a store's own error may panic, and so may its drop, while pages are in transit.
#[test]
fn an_error_that_panics_leaves_nothing_under_way() {
    let (pool, failures) = told(4, |builder| builder.store(WildStore::default()));
    let mut idle = pool.buffer();
    idle.write_all(&[3; 4 * PAGE]).unwrap();
    pool.set_memory_limit(0);
    let failures = failures.lock().unwrap();
    assert!(failures[0].1.starts_with("the store failed: cannot write "), "{failures:?}");
    pool.set_memory_limit(4 * PAGE);
    assert!(content_of(&mut idle) == [3; 4 * PAGE]);
    pool.check_invariants();
}

// ---- tracing

/// The scope was a piece of a sentence, `of the pool`, which no query matches.
#[test]
fn events_are_traced() {
    traced::listen();
    let builder = SpillPool::builder().memory(0).disk(PAGE_BYTES).page_size(PAGE).name("uploads");
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    pool.buffer().write_all(&[1; 2 * PAGE]).unwrap_err();
    assert_eq!(
        traced::lines(),
        [
            r#"DEBUG message=a buffer spills for the first time pool="uploads" reason=direct bytes=4096"#,
            r#"WARN message=disk limit reached pool="uploads" limit=4096 used=4096 requested=4096 scope=pool waited=0ns"#,
        ]
    );
}

#[test]
fn failures_of_the_store_are_traced() {
    traced::listen();
    let fault = Fault::lasting(0, Failure::Error(ErrorKind::TimedOut)).on(Call::Write);
    let (store, _faults) = FaultStore::new(MemoryStore::new(), fault);
    let pool = SpillPool::builder().memory(0).name("uploads").store(store).build().unwrap();
    pool.buffer().write_all(b"a word").unwrap_err();
    let events = traced::lines();
    let expected = "WARN message=the store failed pool=\"uploads\" kind=TimedOut \
        error=\"the store failed: cannot write 6 bytes at its offset 0: ";
    assert!(events.len() == 1 && events[0].starts_with(expected), "{events:?}");
}
