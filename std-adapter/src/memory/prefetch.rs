//! What is read soon comes to the processor's cache meanwhile.

#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Has the processor bring the cache lines of `len` bytes at `address` to its second cache, where that is
/// known how. Whether there is memory at `address` does not matter, nor whose it is: nothing is read.
#[inline(always)]
pub(crate) fn prefetch(address: u64, len: usize) {
    prefetch_line(address);
    let mut at = LINE;
    while at < len {
        prefetch_line(address.wrapping_add(at as u64));
        at += LINE;
    }
}

#[inline(always)]
fn prefetch_line(address: u64) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        let address = usize::try_from(address).unwrap_or(0);
        // SAFETY: each x86_64 has the instruction. It is a hint, which raises no fault wherever it points
        // (Intel, Software Developer's Manual, PREFETCHh), and changes nothing but what is in the caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::without_provenance(address)) };
    }
    let _ = address;
}
