//! What if a subscriber of `tracing` panics in the middle of spilling? Alone in its process: whether an event
//! is of interest is remembered for all threads.

use overspill::{MemoryStore, SpillPool};
use overspill_tests::support::content_of;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const PAGE: usize = 16 << 10;

/// A subscriber of `tracing` whose panics come in the middle of spilling.
#[derive(Default)]
struct Shouting(Arc<AtomicUsize>);

impl tracing::Subscriber for Shouting {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a subscriber");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Its panic unwound through the call of a buffer, and left what the buffer uses wrong.
#[test]
fn a_subscriber_that_panics_changes_nothing() {
    let pool = SpillPool::builder().memory(PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    let told = Arc::default();
    tracing::subscriber::with_default(Shouting(Arc::clone(&told)), || {
        buffer.write_all(&[7; 4 * PAGE]).unwrap();
    });
    assert_eq!(told.load(Ordering::SeqCst), 1, "of the first spill");
    assert_eq!(content_of(&mut buffer), [7; 4 * PAGE]);
    buffer.check_invariants();
    drop(buffer);
    pool.check_invariants();
}
