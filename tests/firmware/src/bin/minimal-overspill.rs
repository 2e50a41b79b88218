//! The smallest program with the ring: split, write, read. Shows its size, and that it links no panic.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use overspill_core::ring::Ring;

#[entry]
fn main() -> ! {
    static mut RING: Ring<64> = Ring::new();
    let (mut producer, mut consumer) = RING.split();
    let mut buf = [0_u8; 16];
    loop {
        black_box(producer.push_slice(black_box(&buf)));
        black_box(consumer.pop_slice(black_box(&mut buf)));
    }
}

/// Never linked if nothing panics: `.ci/firmware` looks for the call.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_was_linked() -> !;
    }
    a_panic_was_linked()
}
