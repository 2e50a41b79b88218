//! An allocator that refuses, on the thread that has armed it, one allocation or all from one on.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is refused on one thread.
#[derive(Clone, Copy)]
pub(crate) struct State {
    /// Allocations until the one that is refused; `None` if it is not armed.
    left: Option<u64>,
    for_good: bool,
    refused: u64,
}

thread_local! {
    pub(crate) static REFUSED: Cell<State> = const { Cell::new(State { left: None, for_good: false, refused: 0 }) };
}

thread_local! {
    /// What this thread gave back in its last two calls of the allocator. It is there for the next: std's
    /// `Arc` and `io::Error`, which cannot be refused, are made so by `try_arc` in
    /// `std-adapter/src/sync/mod.rs` and in `std-adapter/src/error.rs`.
    static GIVEN_BACK: Cell<[Option<Layout>; 2]> = const { Cell::new([None; 2]) };
}

/// Whether memory of this layout was just given back. It is used now, and what else was given back stays
/// there only for the next call.
fn was_given_back(layout: Layout) -> bool {
    match GIVEN_BACK.take() {
        [Some(last), other] if last == layout => {
            GIVEN_BACK.set([other, None]);
            true
        }
        [other, Some(first)] if first == layout => {
            GIVEN_BACK.set([other, None]);
            true
        }
        _ => false,
    }
}

/// Whether each refusal prints its place.
static TRACES: AtomicBool = AtomicBool::new(false);

pub(crate) fn trace_refusals(on: bool) {
    TRACES.store(on, Ordering::Relaxed);
}

/// Arms this thread: allocation number `n` is refused, from 0, and `for_good` all later ones.
pub(crate) fn arm(n: u64, for_good: bool) {
    REFUSED.set(State { left: Some(n), for_good, refused: 0 });
}

/// Runs `f`, in which nothing is refused or counted.
pub(crate) fn paused<R>(f: impl FnOnce() -> R) -> R {
    let state = REFUSED.get();
    REFUSED.set(State { left: None, ..state });
    let result = f();
    REFUSED.set(State { refused: REFUSED.get().refused, ..state });
    result
}

/// Ends it, and returns how many allocations were refused.
pub(crate) fn disarm() -> u64 {
    let refused = REFUSED.get().refused;
    REFUSED.set(State { left: None, for_good: false, refused: 0 });
    refused
}

struct Refusing;

fn is_refused() -> bool {
    let state = REFUSED.get();
    let Some(left) = state.left else { return false };
    if left > 0 {
        REFUSED.set(State { left: Some(left - 1), ..state });
        return false;
    }
    REFUSED.set(State { left: state.for_good.then_some(0), refused: state.refused + 1, ..state });
    if TRACES.load(Ordering::Relaxed) {
        paused(|| {
            let trace = std::backtrace::Backtrace::force_capture();
            eprintln!("refused at\n{trace}");
        });
    }
    true
}

// SAFETY: every call that is not refused is passed to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !was_given_back(layout) && is_refused() {
            return null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        GIVEN_BACK.set([None; 2]);
        // Memory that becomes less is never refused, as by any allocator that matters.
        if len > layout.size() && is_refused() {
            return null_mut();
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        GIVEN_BACK.set([Some(layout), GIVEN_BACK.get()[0]]);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;
