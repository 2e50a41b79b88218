//! The same small program with a rival, for its size.
#![no_std]
#![no_main]

use core::hint::black_box;

use bbqueue::nicknames::Churrasco;
use cortex_m_rt::entry;

#[entry]
fn main() -> ! {
    static RING: Churrasco<64> = Churrasco::new();
    let (producer, consumer) = (RING.stream_producer(), RING.stream_consumer());
    let mut buf = [0_u8; 16];
    loop {
        if let Ok(mut grant) = producer.grant_max_remaining(buf.len()) {
            let count = copy(&mut grant, black_box(&buf));
            grant.commit(count);
        }
        if let Ok(grant) = consumer.read() {
            let count = copy(black_box(&mut buf), &grant);
            grant.release(count);
        }
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
