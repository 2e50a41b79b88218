//! Memory straight from the operating system: chunks of address space, and giving back what lies in them.
//!
//! Promises:
//!
//! - Every call may be refused, and says so. Giving memory back is a refinement: a refusal costs memory, and
//!   nothing else.
//! - A chunk gets no huge pages, where the system makes them unasked: they would be given back only whole.
//! - Nothing here is kept: [`chunks`](crate::memory::chunks) knows what is mapped.
//!
//! Held by: `std-adapter/src/memory/chunks/tests.rs`, `tests/tests/resident_memory.rs`.

#![allow(unsafe_code)]

use std::ptr::NonNull;

/// Where chunks come from. The system's own is [`Pages`]; tests and models have others.
pub(crate) trait Source {
    /// Bytes of a page of the machine, a power of two: what can be given back by itself.
    fn page_size(&self) -> usize;

    /// `len` bytes, zeros, at a page of the machine. `None` if the system refuses.
    fn map(&self, len: usize) -> Option<NonNull<u8>>;

    /// Gives back `len` bytes, a whole mapping.
    ///
    /// # Safety
    /// [`map`](Source::map) returned `at` for `len`, and nothing uses the bytes, now or later.
    unsafe fn unmap(&self, at: NonNull<u8>, len: usize);

    /// Gives back the memory of `len` bytes, a part of a mapping, and keeps the addresses. The bytes have
    /// arbitrary values afterwards.
    ///
    /// # Safety
    /// The bytes lie in a mapping, begin and end at a page of the machine, and nothing uses their values.
    unsafe fn release(&self, at: NonNull<u8>, len: usize);

    /// Says that the bytes are in use, or that nothing may use them. For checkers; does nothing else.
    fn mark(&self, _at: NonNull<u8>, _len: usize, _in_use: bool) {}
}

/// The system's pages.
#[derive(Debug)]
pub(crate) struct Pages;

/// Whether frames come from chunks here. Elsewhere all of them come from the allocator: where giving back a
/// part of a mapping means something else, and where a checker has to see each frame by itself.
pub(crate) const HAS_CHUNKS: bool = cfg!(all(
    any(target_os = "linux", target_os = "android"),
    not(any(overspill_loom, miri, overspill_malloc))
));

#[cfg(all(any(target_os = "linux", target_os = "android"), not(overspill_loom)))]
impl Source for Pages {
    /// Not rustix's, which reads the auxiliary vector by itself, and crashes under valgrind.
    fn page_size(&self) -> usize {
        use crate::sync::{AtomicU64, Ordering};

        static PAGE_SIZE: AtomicU64 = AtomicU64::new(0);
        let mut page_size = PAGE_SIZE.load(Ordering::Relaxed);
        if page_size == 0 {
            // SAFETY: the call takes an integer, and accesses no memory of this process.
            page_size = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(u64::MAX);
            PAGE_SIZE.store(page_size, Ordering::Relaxed);
        }
        usize::try_from(page_size).unwrap_or(usize::MAX)
    }

    fn map(&self, len: usize) -> Option<NonNull<u8>> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the system chooses an address where nothing is mapped, so no other memory changes.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE) };
        let at = NonNull::new(at.ok()?)?;
        // A kernel without huge pages refuses, and needs no such advice.
        // SAFETY: the bytes are those that were just mapped. The advice changes no byte.
        let _ = unsafe { madvise(at.as_ptr(), len, Advice::LinuxNoHugepage) };
        Some(at.cast())
    }

    unsafe fn unmap(&self, at: NonNull<u8>, len: usize) {
        self.mark(at, len, true); // the next mapping here is not ours
        // Refused only where unmapping would split a mapping and there are too many: then addresses leak,
        // and the memory is given back all the same.
        // SAFETY: the caller says that the bytes are a mapping, and that nothing uses them.
        if unsafe { rustix::mm::munmap(at.as_ptr().cast(), len) }.is_err() {
            // SAFETY: as above; nothing uses the bytes, so nothing uses their values.
            unsafe { self.release(at, len) };
        }
    }

    unsafe fn release(&self, at: NonNull<u8>, len: usize) {
        // Refused where the process locks its memory. Then it stays resident, which is what was asked for.
        // SAFETY: the caller says that the bytes lie in a mapping, and that nothing uses their values.
        let _ = unsafe { rustix::mm::madvise(at.as_ptr().cast(), len, rustix::mm::Advice::LinuxDontNeed) };
    }

    #[cfg(overspill_asan)]
    fn mark(&self, at: NonNull<u8>, len: usize, in_use: bool) {
        unsafe extern "C" {
            fn __asan_poison_memory_region(at: *const core::ffi::c_void, len: usize);
            fn __asan_unpoison_memory_region(at: *const core::ffi::c_void, len: usize);
        }
        let change = if in_use { __asan_unpoison_memory_region } else { __asan_poison_memory_region };
        // SAFETY: AddressSanitizer only notes what may be accessed, in memory of its own.
        unsafe { change(at.as_ptr().cast(), len) };
    }
}

/// Never called: [`HAS_CHUNKS`] is false.
#[cfg(not(all(any(target_os = "linux", target_os = "android"), not(overspill_loom))))]
impl Source for Pages {
    fn page_size(&self) -> usize {
        1
    }

    fn map(&self, _len: usize) -> Option<NonNull<u8>> {
        None
    }

    unsafe fn unmap(&self, _at: NonNull<u8>, _len: usize) {}

    unsafe fn release(&self, _at: NonNull<u8>, _len: usize) {}
}

/// A source that gives out vectors, and tells what it was asked. For tests and models.
#[cfg(test)]
pub(crate) mod heap {
    use super::Source;
    use crate::sync::{Mutex, lock};
    use std::collections::{BTreeMap, BTreeSet};
    use std::ptr::NonNull;

    #[derive(Debug)]
    pub(crate) struct Heap(Mutex<State>);

    #[derive(Debug, Default)]
    struct State {
        /// By address.
        mappings: BTreeMap<usize, Vec<u8>>,
        /// What is in use, by address.
        used: BTreeSet<usize>,
        /// Lengths of what was used since it was mapped or released, by address.
        resident: BTreeMap<usize, usize>,
        released: Vec<(NonNull<u8>, usize)>,
        /// Bytes of mappings at most.
        mapped_max: usize,
    }

    // SAFETY: the addresses are compared, and never followed.
    unsafe impl Send for State {}

    impl Default for Heap {
        fn default() -> Self {
            Heap(Mutex::new(State { mapped_max: usize::MAX, ..State::default() }))
        }
    }

    impl Heap {
        /// Bytes that are mapped.
        pub(crate) fn mapped(&self) -> usize {
            lock(&self.0).mappings.values().map(Vec::len).sum()
        }

        /// Bytes that were used since they were mapped or released.
        pub(crate) fn resident(&self) -> usize {
            lock(&self.0).resident.values().sum()
        }

        /// What was released, in turn.
        #[cfg(not(overspill_loom))]
        pub(crate) fn released(&self) -> Vec<(NonNull<u8>, usize)> {
            lock(&self.0).released.clone()
        }

        /// From now on refuses to map, or does not.
        #[cfg(not(overspill_loom))]
        pub(crate) fn refuse(&self, refuses: bool) {
            self.refuse_beyond(if refuses { 0 } else { usize::MAX });
        }

        /// From now on refuses to map more than `bytes` in all.
        #[cfg(not(overspill_loom))]
        pub(crate) fn refuse_beyond(&self, bytes: usize) {
            lock(&self.0).mapped_max = bytes;
        }
    }

    impl Source for Heap {
        fn page_size(&self) -> usize {
            1
        }

        fn map(&self, len: usize) -> Option<NonNull<u8>> {
            let mut state = lock(&self.0);
            if state.mappings.values().map(Vec::len).sum::<usize>() + len > state.mapped_max {
                return None;
            }
            let mut mapping = vec![0; len];
            let at = NonNull::new(mapping.as_mut_ptr())?;
            state.mappings.insert(at.addr().get(), mapping);
            Some(at)
        }

        unsafe fn unmap(&self, at: NonNull<u8>, len: usize) {
            let mut state = lock(&self.0);
            let mapping = state.mappings.remove(&at.addr().get()).expect("a mapping begins here");
            assert_eq!(mapping.len(), len, "a whole mapping goes");
            let start = at.addr().get();
            state.resident.retain(|at, _| !(start..start + len).contains(at));
        }

        unsafe fn release(&self, at: NonNull<u8>, len: usize) {
            let mut state = lock(&self.0);
            state.resident.remove(&at.addr().get());
            state.released.push((at, len));
        }

        fn mark(&self, at: NonNull<u8>, len: usize, in_use: bool) {
            let (mut state, at) = (lock(&self.0), at.addr().get());
            if in_use {
                let (start, mapping) = state.mappings.range(..=at).next_back().expect("it lies in a mapping");
                assert!(at + len <= start + mapping.len(), "it lies in a mapping");
                assert!(state.used.insert(at), "a piece has one owner at a time");
                state.resident.insert(at, len);
            } else {
                state.used.remove(&at);
            }
        }
    }
}
