//! The same small program with a rival, for its size.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use ringbuf::StaticRb;
use ringbuf::traits::{Consumer, Producer, SplitRef};

#[entry]
fn main() -> ! {
    let mut ring = StaticRb::<u8, 64>::default();
    let (mut producer, mut consumer) = ring.split_ref();
    let mut buf = [0_u8; 16];
    loop {
        black_box(producer.push_slice(black_box(&buf)));
        black_box(consumer.pop_slice(black_box(&mut buf)));
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
