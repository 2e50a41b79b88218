//! The same small program with a rival, for its size.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use embassy_hal_internal::atomic_ring_buffer::RingBuffer;

#[entry]
fn main() -> ! {
    static mut MEMORY: [u8; 64] = [0; 64];
    static RING: RingBuffer = RingBuffer::new();
    // SAFETY: the memory is this ring's alone, for ever, and there is one reader and one writer.
    let (mut writer, mut reader) = unsafe {
        RING.init(MEMORY.as_mut_ptr(), MEMORY.len());
        (RING.writer(), RING.reader())
    };
    let mut buf = [0_u8; 16];
    loop {
        writer.push(|free| copy(free, black_box(&buf)));
        reader.pop(|filled| copy(black_box(&mut buf), filled));
    }
}

/// Copies what fits, and says how much.
fn copy(to: &mut [u8], from: &[u8]) -> usize {
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
