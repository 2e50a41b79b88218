//! What loom's models of the ring have in common: memory for ever, the bound on preemptions, and waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::Notify;

/// loom's threads require `'static`. An execution leaks a few hundred bytes.
pub(crate) fn forever<T>(value: T) -> &'static mut T {
    Box::leak(Box::new(value))
}

pub(crate) fn model(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// Wakes a loom thread, and says that it was woken: a wait alone may end without that.
pub(crate) struct Unpark(Notify, AtomicBool);

impl Unpark {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Unpark(Notify::new(), AtomicBool::new(false)))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.store(true, Ordering::Relaxed);
        self.0.notify();
    }
}

/// One poll, and one for each time that the other end of any model moves or closes.
const POLLS_MAX: usize = 4;

/// Runs `poll` until it is ready. Once woken it polls again at once, without letting any other thread run,
/// as a task of an interrupt's priority does: loom finds the deadlock if a wake-up is lost, and the bound
/// is passed if a poll wakes itself. A poll did so while the other end was waking: had it interrupted that
/// end, it did so for ever.
pub(crate) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let unpark = Unpark::new();
    let waker = Waker::from(unpark.clone());
    let mut context = Context::from_waker(&waker);
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(value) = poll(&mut context) {
            return value;
        }
        while !unpark.1.swap(false, Ordering::Relaxed) {
            unpark.0.wait();
        }
    }
    panic!("more polls than the other end made wake-ups");
}
