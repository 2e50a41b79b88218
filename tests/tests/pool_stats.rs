//! Are statistics, events and metrics true? Each number is checked against what the test made happen.

use overspill::{DiskLimitScope, Event, MemoryStore, SpillBuffer, SpillPool, SpillReason, WhenFull};
use overspill_tests::support::{content_of, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, IoSlice, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

const PAGE: usize = 4096;
const PAGE_BYTES: u64 = PAGE as u64;

type Events = Arc<Mutex<Vec<Event>>>;

/// A pool with so many pages of memory and of disk, and the events that it emits.
fn with_events(memory: usize, disk: u64, store: MemoryStore) -> (SpillPool, Events) {
    let events = Events::default();
    let sink = Arc::clone(&events);
    let builder = SpillPool::builder().memory(memory * PAGE).disk(disk * PAGE_BYTES).page_size(PAGE);
    let builder = builder.store(store).on_event(move |event| sink.lock().unwrap().push(event.clone()));
    (builder.build().unwrap(), events)
}

fn pool(memory: usize) -> SpillPool {
    with_events(memory, 1 << 20, MemoryStore::new()).0
}

/// A buffer of so many pages, written by quarters of a page.
fn pages_of(pool: &SpillPool, pages: usize) -> SpillBuffer {
    stream(pool, pages * PAGE, 7)
}

/// The only reason that has been counted, and how often.
fn only_reason(pool: &SpillPool) -> (SpillReason, u64) {
    let counts = pool.stats().spills;
    let mut counted = counts.by_reason().into_iter().filter(|(_, pages)| *pages > 0);
    let only = counted.next().expect("nothing was spilled");
    assert_eq!(counted.next(), None);
    assert_eq!(only.1, counts.total());
    only
}

#[test]
fn a_new_pool_has_done_nothing() {
    let stats = pool(4).stats();
    assert_eq!((stats.spills.total(), stats.evictions, stats.reclaims, stats.waits), (0, 0, 0, 0));
    assert_eq!((stats.io, stats.direct_io, stats.refused), Default::default());
}

#[test]
fn pages_that_their_own_buffer_evicts_are_counted() {
    let pool = pool(2);
    let mut buffer = pages_of(&pool, 10);
    assert_eq!(only_reason(&pool), (SpillReason::Evicted, 8));
    let stats = pool.stats();
    assert_eq!((stats.evictions, stats.reclaims), (8, 0));
    assert_eq!((stats.io.writes, stats.io.written_bytes), (8, 8 * PAGE_BYTES));
    assert_eq!((stats.io, stats.direct_io), (buffer.stats().io, Default::default()));
    assert!(stats.io.time > Duration::ZERO);

    // Small reads bring each page back into a frame. Clean pages are evicted without a write.
    buffer.rewind().unwrap();
    (0..40).for_each(|_| buffer.read_exact(&mut [0; PAGE / 4]).unwrap());
    let again = pool.stats();
    let paged = again.io.since(&again.direct_io);
    assert!(paged.reads >= 8 && paged.read_bytes == paged.reads * PAGE_BYTES, "{again:?}");
    assert!(again.evictions > again.spills.total(), "{again:?}");
}

#[test]
fn reclaimed_pages_are_counted() {
    let pool = pool(16);
    let huge = pages_of(&pool, 16);
    let mut small = pool.buffer();
    small.write_all(&[1; PAGE]).unwrap();
    assert_eq!(only_reason(&pool), (SpillReason::Reclaimed, 1));
    let stats = pool.stats();
    assert_eq!((stats.reclaims, stats.evictions), (1, 1));
    // The transfer was made for another buffer. It counts for the pool, and for neither buffer.
    assert_eq!((stats.io.writes, stats.io.written_bytes), (1, PAGE_BYTES));
    assert_eq!((huge.stats().io.writes, small.stats().io.writes), (0, 0));
    assert_eq!((huge.stats().spills, small.stats().spills), (1, 0));
}

/// A frame that went on with later bytes of its page counted as lost.
#[test]
fn a_page_that_goes_on_in_its_frame_is_not_counted_as_evicted() {
    let pool = SpillPool::builder().memory(1 << 20).store(MemoryStore::new()).build().unwrap();
    let mut buffers: Vec<_> = (0..200).map(|_| pool.buffer()).collect();
    let mut write_rounds = || {
        (0..10).for_each(|_| buffers.iter_mut().for_each(|buffer| buffer.write_all(&[1; 1024]).unwrap()));
        pool.stats()
    };
    let before = write_rounds(); // nearly each has its share then
    let stats = write_rounds().since(&before);
    assert!(stats.spills.evicted >= 200 && stats.evictions <= 10, "{stats:?}");
}

#[test]
fn direct_transfers_are_counted() {
    let pool = pool(0);
    let mut buffer = pool.buffer();
    buffer.write_all(&[7; 8 * PAGE]).unwrap();
    assert_eq!(only_reason(&pool), (SpillReason::Direct, 8));
    buffer.seek(SeekFrom::Start(100)).unwrap();
    buffer.read_exact(&mut [0; 64]).unwrap();
    let stats = pool.stats();
    assert_eq!((stats.direct_io.reads, stats.direct_io.read_bytes), (1, 64));
    assert_eq!((stats.direct_io.writes, stats.direct_io.written_bytes), (1, 8 * PAGE_BYTES));
    assert_eq!((stats.io, stats.evictions), (stats.direct_io, 0));
}

#[test]
fn pages_spilled_on_request_and_for_a_lowered_limit_are_counted() {
    let by_request = pool(4);
    let mut buffer = pages_of(&by_request, 3);
    buffer.spill().unwrap();
    assert_eq!(only_reason(&by_request), (SpillReason::Requested, 3));

    let by_limit = pool(4);
    let _buffer = pages_of(&by_limit, 4);
    by_limit.set_memory_limit(PAGE);
    assert_eq!(only_reason(&by_limit), (SpillReason::LimitLowered, 3));
    assert_eq!(by_limit.stats().reclaims, 3);
}

/// In memory alone, nothing is counted and no event is emitted.
#[test]
fn memory_alone_is_not_counted() {
    let (pool, events) = with_events(8, 8, MemoryStore::new());
    drop(pages_of(&pool, 4));
    assert_eq!((pool.stats().io, pool.stats().evictions), Default::default());
    assert_eq!(events.lock().unwrap().len(), 0);
}

// ---- events

/// The events as they print, since their variants cannot be made outside the crate.
fn printed(events: &Events) -> Vec<String> {
    events.lock().unwrap().drain(..).map(|event| format!("{event:?}")).collect()
}

#[test]
fn the_first_spill_of_each_buffer_is_one_event() {
    let (pool, events) = with_events(2, 1 << 10, MemoryStore::new());
    let mut one = pages_of(&pool, 8);
    let first = format!("FirstSpill {{ reason: Evicted, bytes: {PAGE} }}");
    assert_eq!(printed(&events), [first]);
    one.spill().unwrap();
    one.write_all(&[1; 10 * PAGE]).unwrap();
    assert!(printed(&events).is_empty());
    drop(one);
    // The next buffer gets the same table.
    let mut two = pool.buffer();
    two.write_all(b"two").unwrap();
    two.spill().unwrap();
    assert_eq!(printed(&events), ["FirstSpill { reason: Requested, bytes: 3 }"]);
}

#[test]
fn a_first_spill_by_reclaiming_is_an_event_too() {
    let (pool, events) = with_events(16, 1 << 10, MemoryStore::new());
    let mut huge = pages_of(&pool, 16);
    let _small = pages_of(&pool, 1);
    let first = format!("FirstSpill {{ reason: Reclaimed, bytes: {PAGE} }}");
    assert_eq!(printed(&events), [first]);
    huge.spill().unwrap();
    assert!(printed(&events).is_empty(), "it was not its first spill");
}

#[test]
fn each_refusal_is_an_event_and_counted() {
    let (pool, events) = with_events(0, 2, MemoryStore::new());
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 2 * PAGE]).unwrap();
    printed(&events);
    for _ in 0..2 {
        buffer.write_all(&[1]).unwrap_err();
    }
    let refused = &events.lock().unwrap().clone()[..];
    assert!(
        matches!(refused, [
            Event::DiskLimit { limit, used, requested: PAGE_BYTES, scope: DiskLimitScope::Pool, waited: Duration::ZERO, .. },
            Event::DiskLimit { .. },
        ] if *limit == 2 * PAGE_BYTES && limit == used),
        "{refused:?}"
    );
    assert_eq!((pool.stats().refused.disk_limit, pool.stats().refused.store_full), (2, 0));

    let (pool, events) = with_events(0, 9, MemoryStore::with_capacity(PAGE_BYTES));
    pool.buffer().write_all(&[1; 2 * PAGE]).unwrap_err();
    assert_eq!(printed(&events)[1], format!("StoreFull {{ offset: {PAGE}, len: {PAGE} }}"));
    assert_eq!((pool.stats().refused.disk_limit, pool.stats().refused.store_full), (0, 1));
}

#[test]
fn waits_are_counted() {
    let at_most = Duration::from_millis(20);
    let builder = SpillPool::builder().memory(0).disk(PAGE_BYTES).page_size(PAGE).store(MemoryStore::new());
    let pool = builder.when_full(WhenFull::Wait { at_most }).build().unwrap();
    let mut full = pool.buffer();
    full.write_all(&[1; PAGE]).unwrap();
    assert_eq!((pool.stats().waits, pool.stats().waiters), (0, 0));
    full.write_all(&[1]).unwrap_err();
    let stats = pool.stats();
    assert_eq!((stats.waits, stats.waits_timed_out, stats.waiters, stats.refused.disk_limit), (1, 1, 0, 1));
    assert!(stats.wait_time >= at_most);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            // Each attempt waits for a moment. The room is freed during one of them.
            let mut buffer = pool.buffer();
            while buffer.write(&[2]).is_err() {}
        });
        while pool.stats().waiters == 0 {
            std::thread::yield_now();
        }
        full.clear();
        waiting.join().unwrap();
    });
    let stats = pool.stats();
    assert!(stats.waits >= 2 && stats.waits - stats.waits_timed_out <= 1, "{stats:?}");
}

/// A listener may read the statistics of the pool, write to its buffers, and even panic.
#[test]
fn a_listener_may_use_the_pool_and_panic() {
    let pool = Arc::new(Mutex::new(None::<SpillPool>));
    let seen = Arc::clone(&pool);
    let listener = move |_: &Event| {
        let pool = seen.lock().unwrap().take().expect("one event");
        assert_eq!(pool.stats().spills.total(), 1);
        pool.buffer().write_all(&[1; 2 * PAGE]).unwrap();
        panic!("on purpose");
    };
    let built =
        SpillPool::builder().memory(PAGE).page_size(PAGE).store(MemoryStore::new()).on_event(listener);
    let built = built.build().unwrap();
    *pool.lock().unwrap() = Some(built.clone());
    let mut buffer = built.buffer();
    buffer.write_all(&[5; PAGE]).unwrap();
    buffer.spill().unwrap();
    assert_eq!(content_of(&mut buffer), [5; PAGE]);
    buffer.check_invariants();
    built.check_invariants();
}

/// Pages of several buffers leave together. The event of each buffer's first spill was emitted as soon as its
/// page had arrived. A listener that wrote to one of the other buffers then waited for a page that only its
/// own thread could write: for ever.
#[test]
fn a_listener_may_use_a_buffer_whose_page_leaves_together_with_others() {
    const PAGES: usize = 512;
    let log = Arc::new(OnceLock::<Mutex<SpillBuffer>>::new());
    let shared = Arc::clone(&log);
    let listener = move |_: &Event| {
        // Its own writing may make further pages leave, and so be told of.
        if let Some(Ok(mut log)) = shared.get().map(Mutex::try_lock) {
            log.rewind().unwrap();
            log.write_all(b"spilled").unwrap();
        }
    };
    let store = MemoryStore::new();
    let pool = SpillPool::builder().memory(PAGES * PAGE).page_size(PAGE).store(store).on_event(listener);
    let pool = pool.build().unwrap();
    let mut idle: Vec<_> = (0..PAGES).map(|_| pool.buffer()).collect();
    idle.iter_mut().for_each(|buffer| buffer.write_all(&[3; PAGE]).unwrap());
    log.set(Mutex::new(idle.swap_remove(2))).unwrap();
    let (done, is_done) = mpsc::channel();
    let requester = thread::spawn(move || {
        let mut active = pool.buffer();
        (0..400).for_each(|_| active.write_all(&[7; PAGE / 4]).unwrap());
        assert!(pool.stats().reclaims > pool.stats().io.writes, "each page left alone: {:?}", pool.stats());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(Duration::from_secs(60)).expect("the listener waits for its own thread");
    requester.join().unwrap();
    let mut log = log.get().unwrap().lock().unwrap();
    let mut found = [0; 7];
    log.rewind().unwrap();
    log.read_exact(&mut found).unwrap();
    assert_eq!(&found, b"spilled");
}

/// How many bytes were moved for each that a caller requested could not be told from outside.
#[test]
fn what_callers_requested_is_counted_beside_what_was_moved() {
    let pool = pool(2);
    let mut buffer = pages_of(&pool, 10);
    buffer.rewind().unwrap();
    buffer.read_exact(&mut vec![0; 3 * PAGE + 5]).unwrap();
    let lent = buffer.fill_buf().unwrap().len();
    assert!(lent > 7);
    buffer.consume(7);
    buffer.write_at(&[1; 100], 5 * PAGE_BYTES).unwrap();
    let requested = buffer.stats().requested;
    assert_eq!((requested.read, requested.written), (3 * PAGE_BYTES + 12, 10 * PAGE_BYTES + 100));
    drop(buffer);
    pool.buffer().write_all(&[1; 1000]).unwrap(); // stays in memory, so it is not counted
    assert_eq!(pool.stats().requested, requested);
    assert_eq!(pool.stats().since(&pool.stats()).requested, Default::default());
}

/// Of a buffer whose pages only the pool had moved, the pool counted the transfers, and not what was
/// requested: so many bytes seemed to have been moved for none.
#[test]
fn what_was_requested_of_a_buffer_that_only_the_pool_has_spilled_is_counted() {
    let ends: [fn(SpillBuffer); 3] = [
        drop,
        |mut buffer| buffer.clear(),
        |mut buffer| assert_eq!(buffer.try_clone().unwrap().stats().io, buffer.stats().io),
    ];
    for end in ends {
        let pool = pool(16);
        let buffer = pages_of(&pool, 16);
        pool.set_memory_limit(0);
        assert_eq!((buffer.stats().spills, buffer.stats().io), (16, Default::default()));
        let requested = buffer.stats().requested;
        end(buffer);
        let stats = pool.stats();
        assert_eq!((stats.io.written_bytes, stats.requested), (16 * PAGE_BYTES, requested));
    }
}

/// More than was lent is a seek. It counted as read, and the second such call overflowed the count.
#[test]
fn what_is_consumed_past_a_loan_is_not_counted() {
    for pages in [0, 4] {
        let pool = pool(pages);
        let mut buffer = pages_of(&pool, 2);
        let hole = 10 * PAGE_BYTES;
        buffer.set_len(hole).unwrap();
        let mut expected = buffer.stats().requested.read;
        for at in [0, PAGE_BYTES + 10, 3 * PAGE_BYTES, hole, hole + 1] {
            buffer.seek(SeekFrom::Start(at)).unwrap();
            let lent = buffer.fill_buf().unwrap().len();
            buffer.consume(lent / 2);
            buffer.consume(lent - lent / 2);
            expected += lent as u64;
            buffer.seek(SeekFrom::Start(at)).unwrap();
            expected += buffer.fill_buf().unwrap().len() as u64;
            (0..2).for_each(|_| buffer.consume(usize::MAX));
            assert_eq!(buffer.stats().requested.read, expected, "{pages} pages of memory, at {at}");
            assert_eq!(buffer.position(), u64::MAX);
        }
    }
}

/// Without memory each part of a vectored write goes to the store; those after the first were not counted.
#[test]
fn each_part_of_a_vectored_write_is_counted() {
    for pages in [0, 1, 100] {
        let mut buffer = pool(pages).buffer();
        let parts = [&[1; 100][..], &[2; 100], &[3; 2 * PAGE]].map(IoSlice::new);
        let written = buffer.write_vectored(&parts).unwrap();
        assert_eq!(buffer.stats().requested.written, written as u64, "{pages} pages of memory");
    }
}

/// What is held without a use is told, and can be given back.
#[test]
fn what_is_free_but_held_is_told() {
    let pool = pool(8);
    drop(pages_of(&pool, 100));
    let stats = pool.stats();
    assert_eq!((stats.memory_used, stats.memory_recycled), (0, 8 * PAGE_BYTES));
    assert_eq!(stats.disk_used, 0);
    let mut kept = pages_of(&pool, 20);
    let other = pages_of(&pool, 10);
    drop(other);
    assert!(pool.stats().disk_recycled > 0, "{:?}", pool.stats());
    kept.set_len(0).unwrap();
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.memory_recycled, stats.disk_recycled), (0, 0));
    assert!(stats.memory_warm <= 6 << 20, "other tests may keep some warm meanwhile");
}

// ---- metrics

/// A recorder that keeps values by name and labels, and the names that were described.
#[derive(Default)]
struct Recorded(Mutex<BTreeMap<String, Arc<AtomicU64>>>, Mutex<BTreeSet<String>>);

impl Recorded {
    fn value(&self, key: &metrics::Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap()[name].load(Ordering::Relaxed)
    }
}

impl metrics::Recorder for Recorded {
    fn describe_counter(
        &self,
        name: metrics::KeyName,
        _: Option<metrics::Unit>,
        text: metrics::SharedString,
    ) {
        assert!(text.ends_with('.'), "{text}");
        self.1.lock().unwrap().insert(name.as_str().to_owned());
    }

    fn describe_gauge(&self, name: metrics::KeyName, _: Option<metrics::Unit>, text: metrics::SharedString) {
        assert!(text.ends_with('.'), "{text}");
        self.1.lock().unwrap().insert(name.as_str().to_owned());
    }

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::from_arc(self.value(key))
    }

    /// The value of a gauge is the bits of its number.
    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.value(key))
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn statistics_are_recorded() {
    let builder = SpillPool::builder().memory(2 * PAGE).disk(9 * PAGE_BYTES).page_size(PAGE).name("uploads");
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut buffer = pages_of(&pool, 10);
    buffer.write_all(&[1; 4 * PAGE]).unwrap_err();
    let recorded = Recorded::default();
    metrics::with_local_recorder(&recorded, || {
        pool.record_metrics();
        pool.record_metrics(); // nothing is counted twice
    });
    // None was described: Prometheus showed names without help.
    let name = |key: &String| key.split('{').next().unwrap().to_owned();
    let names: BTreeSet<_> = recorded.0.lock().unwrap().keys().map(name).collect();
    assert_eq!(names, *recorded.1.lock().unwrap());
    let stats = pool.stats();
    let nanos = u64::try_from(stats.io.since(&stats.direct_io).time.as_nanos()).unwrap();
    for (name, wanted) in [
        ("overspill_spills_total{pool=uploads,reason=evicted}", stats.spills.evicted),
        ("overspill_spills_total{pool=uploads,reason=direct}", stats.spills.direct),
        ("overspill_evictions_total{pool=uploads}", stats.evictions),
        ("overspill_refused_total{pool=uploads,cause=disk_limit}", 1),
        ("overspill_store_writes_total{pool=uploads,path=direct}", stats.direct_io.writes),
        (
            "overspill_store_written_bytes_total{pool=uploads,path=paged}",
            stats.io.since(&stats.direct_io).written_bytes,
        ),
        ("overspill_store_nanoseconds_total{pool=uploads,path=paged}", nanos),
        ("overspill_memory_bytes{pool=uploads,state=limit}", (2.0 * PAGE as f64).to_bits()),
        ("overspill_memory_bytes{pool=uploads,state=used}", (stats.memory_used as f64).to_bits()),
        ("overspill_disk_bytes{pool=uploads,state=used}", (stats.disk_used as f64).to_bits()),
        ("overspill_buffers{pool=uploads}", 1_f64.to_bits()),
    ] {
        assert_eq!(recorded.get(name), wanted, "{name}");
    }
    assert!(stats.spills.evicted > 0 && stats.disk_used > 0);
}

/// The documentation said that a later pool of a name overwrites the metrics of an earlier one. That is true
/// of gauges; a recorder keeps the larger number of a counter.
#[test]
fn a_later_pool_of_the_same_name_has_its_gauges_and_the_larger_counters() {
    let recorded = Recorded::default();
    let record = |spilled_pages: usize| {
        let builder = SpillPool::builder().memory(0).page_size(PAGE).name("uploads");
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let _buffer = pages_of(&pool, spilled_pages);
        metrics::with_local_recorder(&recorded, || pool.record_metrics());
        let used = recorded.get("overspill_disk_bytes{pool=uploads,state=used}");
        (f64::from_bits(used), recorded.get("overspill_spills_total{pool=uploads,reason=direct}"))
    };
    let bytes = |pages: usize| (pages * PAGE) as f64;
    let (first, lower, higher) = (record(5), record(2), record(6));
    assert_eq!([first.0, lower.0, higher.0], [5, 2, 6].map(bytes));
    assert!(first.1 > 0 && lower.1 == first.1 && higher.1 > first.1, "{first:?} {lower:?} {higher:?}");
}
