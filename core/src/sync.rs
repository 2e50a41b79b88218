//! All atomics come from here, so that the code that ships is the code that loom explores.
//!
//! Three sources behind the same names: `core` by default; `portable-atomic` behind the feature of that
//! name, for what is swapped on targets without compare-and-swap; loom under `--cfg overspill_loom`,
//! for the models only.
//!
//! What is never swapped is loaded and stored by the processor. Of `portable-atomic` each load would be a
//! critical section too, with its feature of that name: three of them for a byte that is pushed, and a wait
//! for the other core where there is one. Targets of 16 bits (`msp430-none-elf`, `avr-none`) have no choice,
//! and need that feature. Not supported are those of 32 bits for which core has not even loads and stores:
//! `armv4t-none-eabi`, `armv5te-none-eabi`, their thumb forms, and `mipsel-sony-psx`.
//!
//! Held by: `core/tests/loom_ring.rs`, whose models it is for, and `.ci/bare-metal`.

#[cfg(all(target_pointer_width = "16", not(feature = "portable-atomic")))]
compile_error!(
    "targets of 16 bits need the feature `critical-section` (or `portable-atomic`) of overspill-core"
);

#[cfg(all(feature = "async", not(target_has_atomic = "8"), not(feature = "portable-atomic")))]
compile_error!(
    "the feature `async` of overspill-core swaps a byte, which this target cannot: \
     add its feature `critical-section` (or `portable-atomic`)"
);

#[cfg(all(not(overspill_loom), not(all(feature = "portable-atomic", target_pointer_width = "16"))))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, fence};
#[cfg(overspill_loom)]
pub(crate) use modelled::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, fence};
#[cfg(all(not(overspill_loom), feature = "portable-atomic", target_pointer_width = "16"))]
pub(crate) use portable_atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, fence};

/// What is swapped.
#[cfg(all(not(overspill_loom), not(feature = "portable-atomic")))]
pub(crate) use core::sync::atomic::AtomicBool as SwapBool;
#[cfg(all(feature = "async", not(overspill_loom), not(feature = "portable-atomic")))]
pub(crate) use core::sync::atomic::AtomicU8 as SwapU8;
#[cfg(overspill_loom)]
pub(crate) use modelled::AtomicBool as SwapBool;
#[cfg(all(feature = "async", overspill_loom))]
pub(crate) use modelled::AtomicU8 as SwapU8;
#[cfg(all(not(overspill_loom), feature = "portable-atomic"))]
pub(crate) use portable_atomic::AtomicBool as SwapBool;
#[cfg(all(feature = "async", not(overspill_loom), feature = "portable-atomic"))]
pub(crate) use portable_atomic::AtomicU8 as SwapU8;

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(overspill_loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(overspill_loom)]
pub(crate) use loom::hint::spin_loop;

#[cfg(overspill_loom)]
mod modelled;
#[cfg(overspill_loom)]
pub(crate) use modelled::Watch;

#[cfg(all(feature = "async", overspill_loom))]
pub(crate) use loom::cell::UnsafeCell as Cell;
#[cfg(all(feature = "async", not(overspill_loom)))]
pub(crate) use plain::Cell;

/// An `UnsafeCell` with the interface of loom's.
#[cfg(all(feature = "async", not(overspill_loom)))]
mod plain {
    pub(crate) struct Cell<T>(core::cell::UnsafeCell<T>);

    impl<T> Cell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Cell(core::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with_mut<U>(&self, f: impl FnOnce(*mut T) -> U) -> U {
            f(self.0.get())
        }
    }
}

/// Declares a constructor `const`, except for loom, whose atomics register themselves at run time.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        #[cfg(not(overspill_loom))]
        $(#[$attribute])* $visibility const fn $($rest)*
        #[cfg(overspill_loom)]
        $(#[$attribute])* $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Tells loom which bytes of plain memory are read and written; nothing at all otherwise.
#[cfg(not(overspill_loom))]
pub(crate) struct Watch;

#[cfg(not(overspill_loom))]
impl Watch {
    pub(crate) const fn new(_len: usize) -> Self {
        Watch
    }

    #[inline(always)]
    pub(crate) fn reads(&self, _at: usize, _len: usize) {}

    #[inline(always)]
    pub(crate) fn writes(&self, _at: usize, _len: usize) {}
}
