//! The shim's atomics for loom, compiled under `--cfg overspill_loom` only.
//!
//! One operation can be weakened from outside, to see whether a model notices:
//! `OVERSPILL_WEAKEN=raw/ends.rs:37` takes the ordering from the operation in that line of that file in
//! `core/src/ring`. It is Relaxed then, and a fence is none (`.ci/weaken`).
//!
//! Held by: `.ci/weaken`, which fails if no model notices a weaker ordering.

extern crate std;
use core::panic::Location;

use self::std::string::String;
use self::std::sync::OnceLock;
use self::std::vec::Vec;
use self::std::{env, format};
use loom::cell::UnsafeCell;

use core::sync::atomic::Ordering;

#[track_caller]
fn is_weakened() -> bool {
    static LINE: OnceLock<Option<String>> = OnceLock::new();
    let Some(line) = LINE.get_or_init(|| env::var("OVERSPILL_WEAKEN").ok()) else { return false };
    let here = Location::caller();
    format!("{}:{}", here.file(), here.line()).ends_with(&format!("/ring/{line}"))
}

#[track_caller]
fn ordering(requested: Ordering) -> Ordering {
    if is_weakened() { Ordering::Relaxed } else { requested }
}

#[track_caller]
pub(crate) fn fence(requested: Ordering) {
    if !is_weakened() {
        loom::sync::atomic::fence(requested);
    }
}

macro_rules! modelled {
    ($($name:ident of $value:ty),*) => {$(
        #[derive(Debug)]
        #[allow(unreachable_pub, reason = "in the interface of traits that are public, but sealed")]
        pub struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "not every type needs every operation")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, requested: Ordering) -> $value {
                self.0.load(ordering(requested))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, requested: Ordering) {
                self.0.store(value, ordering(requested));
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                requested: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(old, new, ordering(requested), ordering(failure))
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, value: $value, requested: Ordering) -> $value {
                self.0.fetch_or(value, ordering(requested))
            }

            #[track_caller]
            pub(crate) fn fetch_and(&self, value: $value, requested: Ordering) -> $value {
                self.0.fetch_and(value, ordering(requested))
            }
        }
    )*};
}

modelled!(AtomicBool of bool, AtomicU8 of u8, AtomicU32 of u32, AtomicUsize of usize);

/// Tells loom which bytes of plain memory are read and written, one by one.
///
/// Grants hand out slices, which loom cannot see; so each byte has a shadow cell here, touched whenever
/// its byte may be.
pub(crate) struct Watch(Vec<UnsafeCell<()>>);

impl Watch {
    pub(crate) fn new(len: usize) -> Self {
        Watch((0..len).map(|_| UnsafeCell::new(())).collect())
    }

    pub(crate) fn reads(&self, at: usize, len: usize) {
        self.0.iter().skip(at).take(len).for_each(|byte| byte.with(|_| ()));
    }

    pub(crate) fn writes(&self, at: usize, len: usize) {
        self.0.iter().skip(at).take(len).for_each(|byte| byte.with_mut(|_| ()));
    }
}
