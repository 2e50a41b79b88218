//! The ring against its rivals: two pinned threads, a ring of 64 KiB, items of 1 B to 64 KiB.
//!
//! `cargo bench -p overspill-tests --bench ring_peers`, with ` -- 1 64 rtrb` behind it for those rows
//! and that rival only.
//!
//! All queues take turns in every round, in another order each time: a queue that is measured after one that
//! sleeps is slower by some hundredths. Virtual cores are near each other or far apart for seconds at a time,
//! which gives every queue two speeds. So ours is compared with a rival in the same round, and the last
//! column is the median of those ratios for the rival for which it is lowest. Each queue is used as its
//! authors would for bytes: slices where it has them, grants where it has those, bytes otherwise; the row of
//! 1 B uses the call for one element where there is one. A side that finds the queue full or empty spins.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overspill_core::ring::{Padded, Ring};

const CAPACITY: usize = 65536;
const ITEMS: [usize; 7] = [1, 16, 64, 1024, 4096, 16384, 65536];
/// Many short rounds rather than a few long ones: on a virtual machine the distance between two cores changes
/// by the second, and with it every figure by up to ten.
const ROUNDS: usize = 121;
/// The duration of one timed transfer: long enough that starting two threads is negligible.
const RUN: Duration = Duration::from_millis(3);

/// Pins the calling thread, where the platform lets us.
fn pin(core: usize) {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        if rustix::thread::sched_setaffinity(None, &set).is_err() {
            eprintln!("core {core} is not available: not pinned");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

/// Runs the two sides on two cores, and returns the time from the common start to the end of the last.
fn race(produce: impl FnOnce() + Send, consume: impl FnOnce() + Send) -> Duration {
    let here = AtomicUsize::new(0);
    // Both threads run before the start. They yield, since under a real-time policy one could keep the other
    // off its core for ever.
    let meet = || {
        here.fetch_add(1, Ordering::AcqRel);
        while here.load(Ordering::Acquire) < 2 {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let producer = scope.spawn(|| {
            pin(0);
            meet();
            let begin = Instant::now();
            produce();
            begin
        });
        pin(1);
        meet();
        consume();
        let end = Instant::now();
        end - producer.join().expect("the producer does not panic")
    })
}

/// Moves `total` bytes in items of `item`, each side calling until an item is through.
fn slices(
    item: usize,
    total: usize,
    mut write: impl FnMut(&[u8]) -> usize + Send,
    mut read: impl FnMut(&mut [u8]) -> usize + Send,
) -> Duration {
    let source = vec![0x5a_u8; item];
    race(
        move || {
            for _ in 0..total / item {
                let mut rest = black_box(&source[..]);
                while !rest.is_empty() {
                    match write(rest) {
                        0 => spin_loop(),
                        count => rest = &rest[count..],
                    }
                }
            }
        },
        move || {
            let mut sink = vec![0_u8; item];
            for _ in 0..total / item {
                let mut rest = &mut sink[..];
                while !rest.is_empty() {
                    match read(rest) {
                        0 => spin_loop(),
                        count => rest = &mut rest[count..],
                    }
                }
                black_box(&sink);
            }
        },
    )
}

/// Moves `total` bytes one by one.
fn bytes(
    total: usize,
    mut write: impl FnMut(u8) -> bool + Send,
    mut read: impl FnMut() -> Option<u8> + Send,
) -> Duration {
    race(
        move || {
            for _ in 0..total {
                while !write(black_box(0x5a)) {
                    spin_loop();
                }
            }
        },
        move || {
            for _ in 0..total {
                loop {
                    if let Some(byte) = read() {
                        black_box(byte);
                        break;
                    }
                    spin_loop();
                }
            }
        },
    )
}

fn overspill(item: usize, total: usize) -> Duration {
    let mut ring = Box::new(Ring::<CAPACITY, Padded>::new());
    let (mut producer, mut consumer) = ring.split();
    if item == 1 {
        bytes(total, move |byte| producer.push(byte).is_ok(), move || consumer.pop())
    } else {
        slices(item, total, move |from| producer.push_slice(from), move |to| consumer.pop_slice(to))
    }
}

fn rtrb(item: usize, total: usize) -> Duration {
    let (mut producer, mut consumer) = ::rtrb::RingBuffer::<u8>::new(CAPACITY);
    if item == 1 {
        bytes(total, move |byte| producer.push(byte).is_ok(), move || consumer.pop().ok())
    } else {
        slices(
            item,
            total,
            move |from| producer.push_partial_slice(from).0.len(),
            move |to| consumer.pop_partial_slice(to).0.len(),
        )
    }
}

fn ringbuf(item: usize, total: usize) -> Duration {
    use ::ringbuf::traits::{Consumer, Producer, Split};
    let (mut producer, mut consumer) = ::ringbuf::HeapRb::<u8>::new(CAPACITY).split();
    if item == 1 {
        bytes(total, move |byte| producer.try_push(byte).is_ok(), move || consumer.try_pop())
    } else {
        slices(item, total, move |from| producer.push_slice(from), move |to| consumer.pop_slice(to))
    }
}

fn heapless(item: usize, total: usize) -> Duration {
    // One slot stays empty; a power of two is the faster type.
    let mut queue = Box::new(::heapless::spsc::Queue::<u8, CAPACITY>::new());
    let (mut producer, mut consumer) = queue.split();
    if item == 1 {
        return bytes(total, move |byte| producer.enqueue(byte).is_ok(), move || consumer.dequeue());
    }
    slices(
        item,
        total,
        move |from| from.iter().take_while(|byte| producer.enqueue(**byte).is_ok()).count(),
        move |to| {
            let mut count = 0;
            for slot in to {
                let Some(byte) = consumer.dequeue() else { break };
                *slot = byte;
                count += 1;
            }
            count
        },
    )
}

fn bbqueue(item: usize, total: usize) -> Duration {
    let queue = Box::new(::bbqueue::nicknames::Churrasco::<CAPACITY>::new());
    let (producer, consumer) = (queue.stream_producer(), queue.stream_consumer());
    slices(
        item,
        total,
        move |from| {
            let Ok(mut grant) = producer.grant_max_remaining(from.len()) else { return 0 };
            let count = grant.len();
            grant.copy_from_slice(&from[..count]);
            grant.commit(count);
            count
        },
        move |to| {
            let Ok(grant) = consumer.read() else { return 0 };
            let count = grant.len().min(to.len());
            to[..count].copy_from_slice(&grant[..count]);
            grant.release(count);
            count
        },
    )
}

fn embassy_pipe(item: usize, total: usize) -> Duration {
    use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
    let mut pipe = Box::new(embassy_sync::pipe::Pipe::<CriticalSectionRawMutex, CAPACITY>::new());
    let (reader, writer) = pipe.split();
    slices(
        item,
        total,
        move |from| writer.try_write(from).unwrap_or(0),
        move |to| reader.try_read(to).unwrap_or(0),
    )
}

type Transfer = fn(usize, usize) -> Duration;

const QUEUES: [(&str, Transfer); 6] = [
    ("overspill", overspill),
    ("rtrb", rtrb),
    ("ringbuf", ringbuf),
    ("heapless", heapless),
    ("bbqueue", bbqueue),
    ("embassy Pipe", embassy_pipe),
];

/// The number of bytes that this queue moves in about [`RUN`], in whole items.
fn calibrate(transfer: Transfer, item: usize) -> usize {
    let mut total = 4 * CAPACITY.max(item);
    loop {
        let took = transfer(item, total);
        if took >= RUN / 2 || total >= 1 << 32 {
            return total / item * item;
        }
        total *= 2;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let (items, names): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| argument.parse::<usize>().is_ok());
    let wanted = |choice: &[&String], name: &str| choice.is_empty() || choice.iter().any(|one| *one == name);
    let queues: Vec<_> =
        QUEUES.iter().filter(|(name, _)| *name == QUEUES[0].0 || wanted(&names, name)).collect();

    println!("MB/s between two threads, ring of {CAPACITY} bytes, medians of {ROUNDS} alternating rounds\n");
    print!("| item |");
    queues.iter().for_each(|(name, _)| print!(" {name} |"));
    println!(" overspill / best rival |");
    println!("|---:|{}---:|", "---:|".repeat(queues.len()));
    for item in ITEMS.into_iter().filter(|item| wanted(&items, &item.to_string())) {
        let totals: Vec<_> = queues.iter().map(|(_, transfer)| calibrate(*transfer, item)).collect();
        let mut order: Vec<_> = (0..queues.len()).collect();
        let mut rates = vec![Vec::new(); queues.len()];
        for round in 0..ROUNDS {
            let shuffle = BuildHasherDefault::<DefaultHasher>::default();
            order.sort_by_key(|at| shuffle.hash_one((round, at)));
            for &at in &order {
                let took = queues[at].1(item, totals[at]);
                rates[at].push(totals[at] as f64 / took.as_secs_f64() / 1e6);
            }
        }
        let ratios = rates[1..]
            .iter()
            .map(|rival| median(rates[0].iter().zip(rival).map(|(ours, theirs)| ours / theirs).collect()));
        let least = ratios.fold(f64::INFINITY, f64::min);
        print!("| {item} |");
        rates.into_iter().for_each(|rates| print!(" {:.0} |", median(rates)));
        println!(" {least:.2} |");
    }
}
