//! The one door to atomics, so that the code that ships is the code that loom explores.
//!
//! Three sources behind the same names: `core` by default; `portable-atomic` behind the feature of that
//! name, for targets without compare-and-swap; loom under `--cfg overspill_loom`, for the models only.

#[cfg(all(not(overspill_loom), not(feature = "portable-atomic")))]
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};
#[cfg(overspill_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};
#[cfg(all(not(overspill_loom), feature = "portable-atomic"))]
pub(crate) use portable_atomic::{AtomicBool, AtomicU32, AtomicUsize, fence};

#[cfg(all(feature = "async", not(overspill_loom), not(feature = "portable-atomic")))]
pub(crate) use core::sync::atomic::AtomicU8;
#[cfg(all(feature = "async", overspill_loom))]
pub(crate) use loom::sync::atomic::AtomicU8;
#[cfg(all(feature = "async", not(overspill_loom), feature = "portable-atomic"))]
pub(crate) use portable_atomic::AtomicU8;

pub(crate) use core::sync::atomic::Ordering;

#[cfg(not(overspill_loom))]
pub(crate) use core::hint::spin_loop;
#[cfg(overspill_loom)]
pub(crate) use loom::hint::spin_loop;

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

/// Tells loom which bytes of plain memory are read and written, one by one. Nothing at all otherwise.
///
/// Grants hand out slices, which loom cannot see; so each byte has a shadow cell here, touched whenever
/// its byte may be.
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

#[cfg(overspill_loom)]
pub(crate) use watched::Watch;

#[cfg(overspill_loom)]
mod watched {
    extern crate std;
    use self::std::vec::Vec;
    use loom::cell::UnsafeCell;

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
}
