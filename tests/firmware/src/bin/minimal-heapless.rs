//! The same small program with a rival, for its size.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use heapless::spsc::Queue;

#[entry]
fn main() -> ! {
    static mut QUEUE: Queue<u8, 64> = Queue::new();
    let (mut producer, mut consumer) = QUEUE.split();
    let mut buf = [0_u8; 16];
    loop {
        for byte in black_box(&buf) {
            if producer.enqueue(*byte).is_err() {
                break;
            }
        }
        for slot in black_box(&mut buf) {
            let Some(byte) = consumer.dequeue() else { break };
            *slot = byte;
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
