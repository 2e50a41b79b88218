//! A store whose calls stand still before a gate.

use overspill::testing::Call;
use overspill::{MemoryStore, Store};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};

/// A store of which the calls of one kind stand still until its gate is open.
#[derive(Clone, Debug)]
pub(crate) struct Gated {
    inner: Arc<MemoryStore>,
    kind: Call,
    is_open: Arc<(Mutex<bool>, Condvar)>,
    /// Calls that a closed gate lets pass.
    passes: Arc<AtomicUsize>,
    standing: mpsc::Sender<()>,
}

impl Gated {
    /// A closed gate for reads, and what tells that one stands before it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<()>) {
        Gated::of(Call::Read)
    }

    /// The same for calls of another `kind`: reads or writes.
    pub(crate) fn of(kind: Call) -> (Self, mpsc::Receiver<()>) {
        let (standing, stands) = mpsc::channel();
        let (inner, is_open, passes) = (Arc::default(), Arc::default(), Arc::default());
        (Gated { inner, kind, is_open, passes, standing }, stands)
    }

    fn pass(&self, call: Call) {
        let mut is_open = self.is_open.0.lock().unwrap();
        while call == self.kind && !*is_open {
            let take_one = |left: usize| left.checked_sub(1);
            if self.passes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_ok() {
                return;
            }
            let _ = self.standing.send(());
            is_open = self.is_open.1.wait(is_open).unwrap();
        }
    }

    /// Lets `calls` pass, of which one stands before the gate.
    pub(crate) fn let_pass(&self, calls: usize) {
        let _is_open = self.is_open.0.lock().unwrap();
        self.passes.store(calls, Ordering::Relaxed);
        self.is_open.1.notify_all();
    }

    pub(crate) fn open(&self, is_open: bool) {
        *self.is_open.0.lock().unwrap() = is_open;
        self.is_open.1.notify_all();
    }
}

impl Store for Gated {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pass(Call::Read);
        self.inner.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.pass(Call::Write);
        self.inner.write_at(offset, data)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.inner.discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
}
