//! Instructions for a write and a read, exact and repeatable: the ring against its rivals on a Cortex-M3.
//!
//! Under `qemu -icount shift=6` the system timer always counts 1.6 ticks to an instruction. Each queue is
//! used as its authors would for bytes; lengths are hidden from the optimiser, as they are in a driver. The
//! figure is the mean of 64 pairs, which go around the ring many times.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::entry;
use cortex_m_semihosting::hprintln;
use overspill_firmware::exit;

const CAPACITY: usize = 1024;
const SIZES: [usize; 4] = [1, 16, 64, 256];
const PAIRS: u32 = 64;

/// Instructions of one call of `work`, on average; `work` is called in a loop that is measured too, for all
/// alike.
fn measure(timer: &mut SYST, mut work: impl FnMut()) -> u32 {
    work();
    timer.set_reload(0x00ff_ffff);
    timer.clear_current();
    timer.enable_counter();
    let before = SYST::get_current();
    for _ in 0..PAIRS {
        work();
    }
    let after = SYST::get_current();
    timer.disable_counter();
    // The counter of 24 bits counts down, 1.6 ticks to an instruction; it may not have left
    // zero before `before`.
    (before.wrapping_sub(after) & 0x00ff_ffff) * 10 / 16 / PAIRS
}

fn overspill(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    use overspill_core::ring::Ring;
    let mut ring = Ring::<CAPACITY>::new();
    let (mut producer, mut consumer) = ring.split();
    if from.len() == 1 {
        return measure(timer, || {
            let _ = black_box(producer.push(black_box(1)));
            black_box(consumer.pop());
        });
    }
    measure(timer, || {
        black_box(producer.push_slice(black_box(from)));
        black_box(consumer.pop_slice(black_box(to)));
    })
}

fn overspill_any_capacity(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    use overspill_core::ring::Ring;
    let mut ring = Ring::<{ CAPACITY - 24 }>::new();
    let (mut producer, mut consumer) = ring.split();
    if from.len() == 1 {
        return measure(timer, || {
            let _ = black_box(producer.push(black_box(1)));
            black_box(consumer.pop());
        });
    }
    measure(timer, || {
        black_box(producer.push_slice(black_box(from)));
        black_box(consumer.pop_slice(black_box(to)));
    })
}

fn heapless(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    let mut queue = heapless::spsc::Queue::<u8, CAPACITY>::new();
    let (mut producer, mut consumer) = queue.split();
    if from.len() == 1 {
        return measure(timer, || {
            let _ = black_box(producer.enqueue(black_box(1)));
            black_box(consumer.dequeue());
        });
    }
    measure(timer, || {
        for byte in black_box(from) {
            if producer.enqueue(*byte).is_err() {
                break;
            }
        }
        for slot in black_box(&mut *to) {
            let Some(byte) = consumer.dequeue() else { break };
            *slot = byte;
        }
    })
}

/// Copies what fits, and returns how much.
fn copy(to: &mut [u8], from: &[u8]) -> usize {
    let count = to.len().min(from.len());
    if let (Some(to), Some(from)) = (to.get_mut(..count), from.get(..count)) {
        to.copy_from_slice(from);
    }
    count
}

fn bbqueue(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    let queue = bbqueue::nicknames::Churrasco::<CAPACITY>::new();
    let (producer, consumer) = (queue.stream_producer(), queue.stream_consumer());
    measure(timer, || {
        let mut rest = black_box(from);
        while let Ok(mut grant) = producer.grant_max_remaining(rest.len()) {
            let count = copy(&mut grant, rest);
            grant.commit(count);
            rest = rest.get(count..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
        }
        let mut rest = black_box(&mut *to);
        while let Ok(grant) = consumer.read() {
            let count = copy(rest, &grant);
            grant.release(count);
            rest = rest.get_mut(count..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
        }
    })
}

fn ringbuf(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    use ringbuf::traits::{Consumer, Producer, SplitRef};
    let mut ring = ringbuf::StaticRb::<u8, CAPACITY>::default();
    let (mut producer, mut consumer) = ring.split_ref();
    if from.len() == 1 {
        return measure(timer, || {
            let _ = black_box(producer.try_push(black_box(1)));
            black_box(consumer.try_pop());
        });
    }
    measure(timer, || {
        black_box(producer.push_slice(black_box(from)));
        black_box(consumer.pop_slice(black_box(to)));
    })
}

fn embassy(timer: &mut SYST, from: &[u8], to: &mut [u8]) -> u32 {
    use embassy_hal_internal::atomic_ring_buffer::RingBuffer;
    let mut memory = [0; CAPACITY];
    let ring = RingBuffer::new();
    // SAFETY: the memory outlives the ring's use of it, and there is one reader and one writer.
    let (mut writer, mut reader) = unsafe {
        ring.init(memory.as_mut_ptr(), memory.len());
        (ring.writer(), ring.reader())
    };
    if from.len() == 1 {
        return measure(timer, || {
            black_box(writer.push_one(black_box(1)));
            black_box(reader.pop_one());
        });
    }
    measure(timer, || {
        // It stops at the wrap: twice, then.
        let mut rest = black_box(from);
        while !rest.is_empty() {
            let count = writer.push(|free| copy(free, rest));
            rest = rest.get(count..).unwrap_or_default();
        }
        let mut rest = black_box(&mut *to);
        while !rest.is_empty() {
            let count = reader.pop(|filled| copy(rest, filled));
            rest = rest.get_mut(count..).unwrap_or_default();
        }
    })
}

type Queue = fn(&mut SYST, &[u8], &mut [u8]) -> u32;

const QUEUES: [(&str, Queue); 6] = [
    ("overspill", overspill),
    ("overspill, 1000 B", overspill_any_capacity),
    ("heapless", heapless),
    ("bbqueue", bbqueue),
    ("ringbuf", ringbuf),
    ("embassy-hal-internal", embassy),
];

#[entry]
fn main() -> ! {
    let Some(mut system) = cortex_m::Peripherals::take() else { exit(false) };
    system.SYST.set_clock_source(SystClkSource::Core);
    let (from, mut to) = ([0x5a; 256], [0; 256]);
    hprintln!("| write + read of | {} B | {} B | {} B | {} B |", SIZES[0], SIZES[1], SIZES[2], SIZES[3]);
    hprintln!("|---|---:|---:|---:|---:|");
    let mut counts = [[0; SIZES.len()]; QUEUES.len()];
    for ((name, queue), counts) in QUEUES.iter().zip(&mut counts) {
        for (size, count) in SIZES.into_iter().zip(counts.iter_mut()) {
            *count = queue(&mut system.SYST, &from[..size], &mut to[..size]);
        }
        hprintln!("| {} | {} | {} | {} | {} |", name, counts[0], counts[1], counts[2], counts[3]);
    }
    let best = |size: usize| counts[2..].iter().map(|rival| rival[size]).min().unwrap_or(0);
    let behind = |size: &usize| counts[0][*size] > best(*size);
    for size in (0..SIZES.len()).filter(behind) {
        hprintln!("behind at {} B: {} to {}", SIZES[size], counts[0][size], best(size));
    }
    exit((0..SIZES.len()).all(|size| !behind(&size)))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(false)
}
