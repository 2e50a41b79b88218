//! Two threads at full speed; meant for the thread sanitizer as well (`.ci/sanitize`).

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use embedded_io::{BufRead, Error as _, ErrorKind, Read, ReadReady, Write, WriteReady};
use overspill_core::ring::{
    AnyRing, Closed, Consumer, HighWater, LogRing, Packed, Padded, PopError, Producer, RecordRing, Ring,
    SliceRing, Waking,
};

/// Bytes in each exchange; the sanitizer is slow.
const BYTES: usize = 200_000;

fn byte(at: usize) -> u8 {
    (at.wrapping_mul(0x9e37_79b9) >> 16).to_le_bytes()[0]
}

/// Writes by every kind of call in turn, reads by every kind of call in turn, and checks every byte.
fn exchange<R: AnyRing>(producer: Producer<'_, R>, consumer: Consumer<'_, R>) {
    thread::scope(|scope| {
        scope.spawn(move || write_all(producer));
        check_all(consumer);
    });
}

fn write_all<R: AnyRing>(mut producer: Producer<'_, R>) {
    let mut at = 0;
    for turn in 0.. {
        let want = (turn % 19).min(BYTES - at);
        let burst: Vec<u8> = (at..at + want).map(byte).collect();
        at += match turn % 4 {
            0 => burst.first().map_or(0, |first| usize::from(producer.push(*first).is_ok())),
            1 => producer.push_slice(&burst),
            2 => match producer.grant_contiguous(want) {
                Ok(mut grant) => {
                    grant.as_mut_slices().0.copy_from_slice(&burst);
                    grant.commit(want);
                    want
                }
                Err(_) => 0,
            },
            _ => {
                let mut grant = producer.grant();
                let count = grant.len().min(want);
                let (first, second) = grant.as_mut_slices();
                first.iter_mut().chain(second).zip(&burst).for_each(|(to, from)| *to = *from);
                grant.commit(count);
                count
            }
        };
        if at == BYTES {
            break;
        }
        thread::yield_now();
    }
}

fn check_all<R: AnyRing>(mut consumer: Consumer<'_, R>) {
    let mut at = 0;
    let mut check = |bytes: &[u8]| {
        for got in bytes {
            assert_eq!(*got, byte(at), "byte {at}");
            at += 1;
        }
    };
    for turn in 0_usize.. {
        let closed = consumer.is_closed();
        let mut buf = [0; 17];
        let count = match turn % 3 {
            0 => consumer.pop().map_or(0, |got| {
                check(&[got]);
                1
            }),
            1 => {
                let count = consumer.pop_slice(&mut buf);
                check(&buf[..count]);
                count
            }
            _ => {
                let grant = consumer.grant();
                let (first, second) = grant.as_slices();
                check(first);
                check(second);
                let count = grant.len();
                grant.release(count);
                count
            }
        };
        if count == 0 {
            if closed {
                break;
            }
            thread::yield_now();
        }
    }
    assert_eq!(at, BYTES);
}

#[test]
fn every_layout_and_kind_of_capacity() {
    let mut packed = Ring::<64, Packed>::new();
    let (producer, consumer) = packed.split();
    exchange(producer, consumer);
    let mut padded = Ring::<61, HighWater<Padded>>::new();
    let (producer, consumer) = padded.split();
    exchange(producer, consumer);
    let mut memory = [0; 23];
    let mut borrowed = SliceRing::<Waking>::new(&mut memory);
    let (producer, consumer) = borrowed.split();
    exchange(producer, consumer);
}

#[test]
fn records_come_whole_and_in_order() {
    let mut records = RecordRing::<Ring<200, Padded>>::new();
    let (mut producer, mut consumer) = records.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..10_000 {
                while producer.push(&vec![byte(n); n % 150]).is_err() {
                    thread::yield_now();
                }
            }
        });
        let mut buf = [0; 150];
        for n in 0..10_000 {
            let len = loop {
                match consumer.pop(&mut buf).unwrap() {
                    Some(len) => break len,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(buf[..len], vec![byte(n); n % 150]);
        }
    });
}

/// The end of this asserted what is always true: a log that lost every record would have passed.
#[test]
fn a_log_is_whole_or_counted() {
    let mut log = LogRing::<61>::new();
    let (mut producer, mut consumer) = log.split();
    const RECORDS: usize = 50_000;
    let record = |n: usize| vec![byte(n); 4 + n % 40];
    thread::scope(|scope| {
        scope.spawn(move || {
            for n in 0..RECORDS {
                producer.push(&record(n)).unwrap();
                if n % 16 == 0 {
                    thread::yield_now();
                }
            }
        });
        let (mut next, mut read, mut buf) = (0, 0, [0; 44]);
        while next < RECORDS {
            match consumer.pop(&mut buf) {
                Ok(Some(len)) => {
                    assert_eq!(buf[..len], record(next));
                    next += 1;
                    read += 1;
                }
                Ok(None) => thread::yield_now(),
                Err(PopError::Lost(lost)) => {
                    let gone: usize = (next..next + lost.records).map(|n| record(n).len()).sum();
                    assert_eq!(lost.bytes, gone);
                    next += lost.records;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(read >= 5, "the last ones are there when all are written: five of the longest fit");
    });
}

struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// A lost wake-up hangs this for ever.
#[test]
fn async_ends_wake_each_other_to_the_last_byte() {
    let mut ring = Ring::<32, Waking<Padded>>::new();
    let (mut producer, mut consumer) = ring.split();
    thread::scope(|scope| {
        scope.spawn(move || {
            block_on(async {
                let mut at = 0;
                while at < BYTES / 4 {
                    let burst: Vec<u8> = (at..BYTES / 4).take(1 + at % 50).map(byte).collect();
                    // With what the reader waits for, no more than the capacity: or both would wait for ever.
                    assert!(producer.writable(1 + at % 12).await > at % 12);
                    at += embedded_io_async::Write::write(&mut producer, &burst).await.unwrap();
                }
            });
        });
        block_on(async {
            let (mut at, mut buf) = (0, [0; 40]);
            loop {
                consumer.readable(1 + at % 20).await;
                let count = embedded_io_async::Read::read(&mut consumer, &mut buf).await.unwrap();
                if count == 0 {
                    break;
                }
                for got in &buf[..count] {
                    assert_eq!(*got, byte(at));
                    at += 1;
                }
            }
            assert_eq!(at, BYTES / 4);
        });
    });
}

/// A wake-up for each byte is what a threshold is there to spare: none below it, one at it.
#[test]
fn a_threshold_wakes_once_and_not_before() {
    struct Count(std::sync::atomic::AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let count = Arc::new(Count(0.into()));
    let woken = || count.0.load(std::sync::atomic::Ordering::Relaxed);
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut ring = Ring::<8, Waking>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.poll_readable(&mut context, 4), Poll::Pending);
    let _ = producer.push_slice(b"abc");
    assert_eq!(woken(), 0);
    producer.push(b'd').unwrap();
    assert_eq!(woken(), 1);
    assert_eq!(consumer.poll_readable(&mut context, 4), Poll::Ready(4));

    let _ = producer.push_slice(b"efgh");
    assert_eq!(producer.poll_writable(&mut context, 100), Poll::Pending); // capped at the capacity
    consumer.skip(7);
    assert_eq!(woken(), 1);
    consumer.pop();
    assert_eq!(woken(), 2);
}

#[test]
fn embedded_io_ends_at_the_close_and_never_returns_a_write_of_nothing() {
    let mut ring = Ring::<4>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.write_ready(), consumer.read_ready()), (Ok(true), Ok(false)));
    assert_eq!(producer.write(b"abcdef"), Ok(4));
    assert_eq!((producer.write_ready(), consumer.read_ready()), (Ok(false), Ok(true)));
    assert_eq!(consumer.fill_buf(), Ok(&b"abcd"[..]));
    consumer.consume(1);
    drop(producer);
    let mut buf = [0; 8];
    assert_eq!(consumer.read(&mut buf), Ok(3));
    assert_eq!(consumer.read(&mut buf), Ok(0));
    assert_eq!((consumer.read_ready(), consumer.fill_buf()), (Ok(true), Ok(&[][..])));
    drop(consumer);

    let (mut producer, consumer) = ring.split();
    drop(consumer);
    assert_eq!(producer.write(b"abcdef"), Ok(4));
    assert_eq!((producer.write(b"e"), producer.write(b"")), (Err(Closed), Ok(0)));
    assert_eq!(Closed.kind(), ErrorKind::BrokenPipe);
    assert_eq!(producer.write_ready(), Ok(true));
}

#[test]
fn embedded_io_waits_for_the_other_thread() {
    let mut ring = Ring::<5, Padded>::new();
    let (mut producer, mut consumer) = ring.split();
    thread::scope(|scope| {
        scope.spawn(move || producer.write_all(&[7; 1000]).unwrap());
        let mut buf = [0; 1000];
        consumer.read_exact(&mut buf).unwrap();
        assert_eq!(buf, [7; 1000]);
    });
}

#[test]
fn the_high_water_mark_is_the_largest_fill() {
    let mut ring = Ring::<10, HighWater>::new();
    let (mut producer, mut consumer) = ring.split();
    for (push, pop) in [(3, 2), (5, 4), (1, 3)] {
        let _ = producer.push_slice(&[0; 10][..push]);
        consumer.skip(pop);
    }
    assert_eq!((producer.high_water(), consumer.high_water()), (6, 6));
}
