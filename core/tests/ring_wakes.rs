//! Which task is woken, when, and by what: each wake-up is counted, in one thread and every layout that
//! wakes.
#![allow(missing_docs)]

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use embedded_io_async::{BufRead, Read, Write};
use overspill_core::ring::{
    AnyRing, Closed, Consumer, HighWater, Padded, Producer, RecordRing, Ring, SliceRing, Wakes, Waking,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn take(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn counted() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Both ends of a ring of eight bytes wait, at each threshold, from each place.
fn wakes_at_the_threshold<R: AnyRing<Layout: Wakes>>(
    (mut producer, mut consumer): (Producer<'_, R>, Consumer<'_, R>),
) {
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    for least in 1..=8 {
        assert_eq!(consumer.poll_readable(&mut context, least), Poll::Pending);
        for _ in 1..least {
            producer.push(1).unwrap();
            assert_eq!(count.take(), 0, "below {least}");
        }
        producer.push(2).unwrap();
        assert_eq!(count.take(), 1, "at {least}");
        assert_eq!(consumer.poll_readable(&mut context, least), Poll::Ready(least));
        let rest = 8 - least;
        assert_eq!(producer.push_slice(&[3; 9]), rest);
        assert_eq!(count.take(), 0, "no end waits any more");

        assert_eq!(producer.poll_writable(&mut context, least), Poll::Pending);
        for _ in 1..least {
            consumer.pop().unwrap();
            assert_eq!(count.take(), 0, "below {least}");
        }
        consumer.pop().unwrap();
        assert_eq!(count.take(), 1, "at {least}");
        assert_eq!(producer.poll_writable(&mut context, least), Poll::Ready(least));
        assert_eq!(consumer.skip(9), rest);
        assert_eq!(count.take(), 0, "no end waits any more");
        // The indices are one place further in the next round.
        assert!(producer.push(0).is_ok() && consumer.pop().is_some());
    }
    assert_eq!(consumer.poll_readable(&mut context, 0), Poll::Ready(0), "nothing is there at once");
    assert_eq!(producer.poll_writable(&mut context, 0), Poll::Ready(8), "all is free at once");
    assert_eq!(producer.poll_writable(&mut context, 100), Poll::Ready(8), "capped at the capacity");
}

#[test]
fn each_layout_wakes_at_the_threshold_and_only_then() {
    wakes_at_the_threshold(Ring::<8, Waking>::new().split());
    wakes_at_the_threshold(Ring::<8, Waking<Padded>>::new().split());
    wakes_at_the_threshold(Ring::<8, Waking<HighWater>>::new().split());
    wakes_at_the_threshold(Ring::<8, HighWater<Waking<Padded>>>::new().split());
}

/// Both ends reported what they had seen at their last look: `Ready(1)` for a ring of four bytes that cached
/// its indices.
#[test]
fn what_is_ready_is_all_that_there_is() {
    let mut ring = Ring::<8, Waking<Padded>>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut context = Context::from_waker(Waker::noop());
    producer.push(1).unwrap();
    assert_eq!(consumer.poll_readable(&mut context, 1), Poll::Ready(1));
    let _ = producer.push_slice(&[2; 3]);
    assert_eq!(consumer.poll_readable(&mut context, 1), Poll::Ready(4));
    assert_eq!(producer.poll_writable(&mut context, 1), Poll::Ready(4));
    consumer.skip(3);
    assert_eq!(producer.poll_writable(&mut context, 1), Poll::Ready(7));
    assert_eq!(poll_once(consumer.readable(1)), Poll::Ready(1));
}

#[test]
fn the_mark_is_kept_below_and_above_the_wakers() {
    let (mut above, mut below) = (Ring::<8, HighWater<Waking>>::new(), Ring::<8, Waking<HighWater>>::new());
    let (mut producer, consumer) = above.split();
    let _ = producer.push_slice(b"abc");
    assert_eq!((producer.high_water(), consumer.high_water()), (3, 3));
    let (mut producer, consumer) = below.split();
    let _ = producer.push_slice(b"abcd");
    assert_eq!((producer.high_water(), consumer.high_water()), (4, 4));
}

#[test]
fn the_last_waker_is_the_one_that_is_woken_and_once() {
    let ((first, one), (second, two)) = (counted(), counted());
    let mut ring = Ring::<8, Waking>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(consumer.poll_readable(&mut Context::from_waker(&one), 1), Poll::Pending);
    assert_eq!(consumer.poll_readable(&mut Context::from_waker(&two), 1), Poll::Pending);
    let _ = producer.push_slice(b"ab");
    let _ = producer.push_slice(b"cd");
    assert_eq!((first.take(), second.take()), (0, 1), "once, until the next poll");
    assert_eq!(Arc::strong_count(&first), 2, "the ring has dropped it");
}

/// The waker of an end that had waited stayed in its ring once both ends were gone: a static ring kept the
/// task for ever, and the next pair of ends woke it.
#[test]
fn no_waker_stays_when_its_end_is_gone() {
    let ring = Ring::<8, Waking<Padded>>::new();
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    for is_armed in [false, true] {
        let (mut producer, mut consumer) = ring.try_split().unwrap();
        assert_eq!(consumer.poll_readable(&mut context, 8), Poll::Pending);
        producer.push(1).unwrap();
        assert!(is_armed || consumer.poll_readable(&mut context, 1).is_ready());
        drop(consumer);
        assert_eq!((Arc::strong_count(&count), count.take()), (2, 0), "the consumer's");

        let _ = producer.push_slice(&[2; 7]);
        assert_eq!(producer.poll_writable(&mut context, 8), Poll::Ready(0), "it is closed");
        drop(producer);
        let (mut producer, mut consumer) = ring.try_split().unwrap();
        assert_eq!(producer.poll_writable(&mut context, 8), Poll::Pending);
        consumer.pop().unwrap();
        assert!(is_armed || producer.poll_writable(&mut context, 1).is_ready());
        drop(producer);
        assert_eq!((Arc::strong_count(&count), count.take()), (2, 0), "the producer's");
        consumer.skip(8);
    }
    let (mut producer, mut consumer) = ring.try_split().unwrap();
    assert!(producer.push_slice(&[3; 8]) == 8 && consumer.skip(8) == 8);
    assert_eq!(count.take(), 0, "nobody waits");
}

#[test]
fn the_close_of_either_end_wakes_the_other() {
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    let mut ring = Ring::<4, Waking<Padded>>::new();
    let (mut producer, mut consumer) = ring.split();
    producer.push(9).unwrap();
    assert_eq!(consumer.poll_readable(&mut context, 3), Poll::Pending);
    drop(producer);
    assert_eq!(count.take(), 1);
    assert_eq!(consumer.poll_readable(&mut context, 3), Poll::Ready(1), "what there is");
    drop(consumer);
    let (mut producer, consumer) = ring.split();
    assert_eq!(producer.push_slice(b"abc"), 3);
    assert_eq!(producer.poll_writable(&mut context, 2), Poll::Pending);
    drop(consumer);
    assert_eq!(count.take(), 1);
    assert_eq!(producer.poll_writable(&mut context, 2), Poll::Ready(0));
    assert_eq!(poll_once(Write::write(&mut producer, b"x")), Poll::Ready(Err(Closed)));
}

#[test]
fn futures_are_ready_when_there_is_something_and_not_before() {
    let mut ring = Ring::<4, Waking>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut buf = [0; 8];
    assert_eq!(poll_once(consumer.readable(1)), Poll::Pending);
    assert_eq!(poll_once(Read::read(&mut consumer, &mut buf)), Poll::Pending);
    assert_eq!(
        poll_once(Read::read(&mut consumer, &mut [])),
        Poll::Ready(Ok(0)),
        "nothing for nothing, at once"
    );
    assert_eq!(poll_once(producer.writable(3)), Poll::Ready(4));
    assert_eq!(poll_once(Write::write(&mut producer, b"abcdef")), Poll::Ready(Ok(4)));
    assert_eq!(poll_once(Write::write(&mut producer, b"ef")), Poll::Pending);
    assert_eq!(poll_once(Write::write(&mut producer, b"")), Poll::Ready(Ok(0)));
    assert_eq!(poll_once(Write::flush(&mut producer)), Poll::Ready(Ok(())));
    assert_eq!(poll_once(producer.writable(1)), Poll::Pending);
    assert_eq!(poll_once(consumer.readable(2)), Poll::Ready(4));
    assert_eq!(poll_once(BufRead::fill_buf(&mut consumer)), Poll::Ready(Ok(&b"abcd"[..])));
    BufRead::consume(&mut consumer, 3);
    assert_eq!(poll_once(producer.writable(1)), Poll::Ready(3));
    assert_eq!(poll_once(Read::read(&mut consumer, &mut buf)), Poll::Ready(Ok(1)));
    assert_eq!(buf[0], b'd');
}

/// A producer that waits for `count` bytes in one piece is woken by the read after which they are granted,
/// and by none before: at each place of the indices, and each fill.
fn wakes_once_it_is_contiguous<R: AnyRing<Layout: Wakes>>(
    (mut producer, mut consumer): (Producer<'_, R>, Consumer<'_, R>),
) {
    let (woken, waker) = counted();
    let mut context = Context::from_waker(&waker);
    let capacity = producer.capacity();
    for (fill, count) in (0..=capacity).flat_map(|fill| (0..=capacity).map(move |count| (fill, count))) {
        for place in 0..=capacity {
            let how = format!("{count} of {capacity}, {fill} filled, {place} places on");
            assert_eq!(producer.push_slice(&vec![1; fill]), fill);
            let mut granted = producer.grant_contiguous(count).is_ok();
            assert_eq!(producer.poll_contiguous(&mut context, count).is_ready(), granted, "{how}");
            while !granted {
                consumer.pop().expect("an empty ring grants all");
                granted = producer.grant_contiguous(count).is_ok();
                assert_eq!(woken.take(), usize::from(granted), "{how}");
            }
            assert_eq!(producer.poll_contiguous(&mut context, count), Poll::Ready(true), "{how}");
            consumer.skip(capacity);
            assert_eq!(woken.take(), 0, "{how}: it waits no more");
            assert!(producer.push(0).is_ok() && consumer.pop().is_some());
        }
    }
    assert_eq!(producer.poll_contiguous(&mut context, capacity + 1), Poll::Ready(false), "it never fits");
    assert_eq!(producer.push_slice(&vec![1; capacity]), capacity);
    assert_eq!(producer.poll_contiguous(&mut context, 1), Poll::Pending);
    drop(consumer);
    assert_eq!((woken.take(), poll_once(producer.contiguous(1))), (1, Poll::Ready(false)), "it is closed");
}

/// Nothing waited for bytes in one piece. `writable` counts the free bytes after the wrap as well, so a task
/// that awaited it after each refusal of `grant_contiguous` never yielded: it was ready, and the grant
/// refused.
#[test]
fn waiting_for_bytes_in_one_piece_ends_when_they_are_granted_and_not_before() {
    let mut ring = Ring::<8, Waking>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.push_slice(b"abcdef"), consumer.skip(5)), (6, 5));
    assert!(producer.grant_contiguous(4).is_err() && poll_once(producer.writable(4)).is_ready());
    assert_eq!(poll_once(producer.contiguous(4)), Poll::Pending);
    consumer.pop().unwrap();
    assert_eq!(poll_once(producer.contiguous(4)), Poll::Ready(true));

    wakes_once_it_is_contiguous(Ring::<8, Waking>::new().split());
    wakes_once_it_is_contiguous(Ring::<7, Waking<Padded>>::new().split());
    wakes_once_it_is_contiguous(SliceRing::<HighWater<Waking>>::new(&mut [0; 5]).split());
}

/// A ring without memory was at its end for a read that awaits bytes, and closed for a write, while both ends
/// were open. It is empty and full, and nothing else: each end waits for the other to close.
#[test]
fn a_ring_without_memory_is_neither_at_its_end_nor_closed() {
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    let mut ring: SliceRing<'_, Waking> = SliceRing::new(&mut []);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(poll_once(Read::read(&mut consumer, &mut [0])), Poll::Pending);
    assert_eq!(poll_once(BufRead::fill_buf(&mut consumer)), Poll::Pending);
    assert_eq!(poll_once(Write::write(&mut producer, b"x")), Poll::Pending);
    assert_eq!(producer.poll_writable(&mut context, 0), Poll::Ready(0));
    assert_eq!(producer.poll_writable(&mut context, 3), Poll::Pending);
    assert_eq!(producer.poll_contiguous(&mut context, 0), Poll::Ready(true), "nothing is granted");
    assert_eq!(producer.poll_contiguous(&mut context, 1), Poll::Ready(false), "and one byte never");
    assert_eq!(producer.poll_writable(&mut context, 3), Poll::Pending);
    assert_eq!(count.take(), 0);
    drop(consumer);
    assert_eq!(count.take(), 1, "the close wakes it");
    assert_eq!(poll_once(Write::write(&mut producer, b"x")), Poll::Ready(Err(Closed)));
    drop(producer);
    let (producer, mut consumer) = ring.split();
    assert_eq!(consumer.poll_readable(&mut context, 1), Poll::Pending);
    drop(producer);
    assert_eq!(count.take(), 1);
    assert_eq!(poll_once(Read::read(&mut consumer, &mut [0])), Poll::Ready(Ok(0)), "the end");
}

/// Polls from within the wake-up, as an executor does that runs tasks in interrupts: its task has a higher
/// priority than the code that wakes it.
struct Interrupt {
    consumer: Mutex<Consumer<'static, Ring<8, Waking<Padded>>>>,
    polls: AtomicUsize,
    read: Mutex<Vec<u8>>,
}

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(&self));
        let mut consumer = self.consumer.try_lock().expect("a poll wakes nobody");
        while consumer.poll_readable(&mut Context::from_waker(&waker), 2).is_ready() && !consumer.is_closed()
        {
            self.read.lock().unwrap().extend(consumer.pop());
        }
    }
}

/// No poll wakes its own task, and no wake-up holds anything that a poll within it needs.
#[test]
fn a_task_that_is_polled_while_it_is_woken_is_polled_once() {
    static RING: Ring<8, Waking<Padded>> = Ring::new();
    let (mut producer, consumer) = RING.try_split().unwrap();
    let (polls, read) = (AtomicUsize::new(0), Mutex::default());
    let task = Arc::new(Interrupt { consumer: Mutex::new(consumer), polls, read });
    Arc::clone(&task).wake();
    for byte in 0..7 {
        producer.push(byte).unwrap();
    }
    assert_eq!(task.polls.load(Ordering::Relaxed), 7, "two bytes wake it, and each byte after them");
    drop(producer);
    assert_eq!(task.polls.load(Ordering::Relaxed), 8, "and the close");
    assert_eq!(*task.read.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

/// A waker that panics when it is woken.
struct Panicking;

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        panic!("a waker may");
    }
}

/// A waker that panics when it is cloned.
fn panics_when_cloned() -> Waker {
    const TABLE: RawWakerVTable = RawWakerVTable::new(|_| panic!("a waker may"), |_| (), |_| (), |_| ());
    // SAFETY: the functions use no data, and may be called on any thread.
    #[allow(unsafe_code)]
    unsafe {
        Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE))
    }
}

/// A waker that panicked while an end was dropped left the ring split for good.
#[test]
fn a_ring_whose_waker_panics_as_an_end_goes_can_be_split_again() {
    let ring = Ring::<8, Waking>::new();
    let (mut producer, mut consumer) = ring.try_split().unwrap();
    let waker = Waker::from(Arc::new(Panicking));
    assert_eq!(consumer.poll_readable(&mut Context::from_waker(&waker), 2), Poll::Pending);
    producer.push(7).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| producer.close())).is_err());
    drop(consumer);
    let (_producer, mut consumer) = ring.try_split().expect("both ends are gone");
    assert_eq!(consumer.pop(), Some(7), "and what is in it stays");
}

/// A waker whose clone panicked left its cell taken: no later waker of that end was woken.
#[test]
fn a_waker_whose_clone_panics_keeps_no_other_from_being_woken() {
    let mut ring = Ring::<8, Waking>::new();
    let (mut producer, mut consumer) = ring.split();
    let waker = panics_when_cloned();
    let poll = |consumer: &mut Consumer<'_, _>| {
        consumer.poll_readable(&mut Context::from_waker(&waker), 1).is_ready()
    };
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut consumer))).is_err());
    let (count, waker) = counted();
    assert_eq!(consumer.poll_readable(&mut Context::from_waker(&waker), 1), Poll::Pending);
    assert_eq!(count.take(), 0);
    producer.push(7).unwrap();
    assert_eq!(count.take(), 1);
}

/// A ring of records could be given a layout that wakes, and nothing could wait for a record.
#[test]
fn a_record_wakes_who_waits_for_one_and_room_for_one_who_waits_for_that() {
    let mut ring = RecordRing::<Ring<8, HighWater<Waking>>>::new();
    let (mut producer, mut consumer) = ring.split();
    let (count, waker) = counted();
    let mut context = Context::from_waker(&waker);
    assert_eq!(consumer.poll_readable(&mut context), Poll::Pending);
    assert!(consumer.is_empty());
    producer.push(b"").unwrap();
    assert_eq!((count.take(), consumer.poll_readable(&mut context)), (1, Poll::Ready(true)));
    producer.push(b"1234").unwrap();
    assert!(!consumer.is_empty() && count.take() == 0);

    assert_eq!(producer.poll_writable(&mut context, 8), Poll::Ready(false), "it never fits");
    assert_eq!(producer.poll_writable(&mut context, 1), Poll::Ready(true));
    assert_eq!(
        producer.poll_writable(&mut context, 3),
        Poll::Pending,
        "two bytes are free, and it takes four"
    );
    assert_eq!((consumer.pop(&mut [0; 8]), count.take()), (Ok(Some(0)), 0), "three are free now");
    assert_eq!((consumer.pop(&mut [0; 8]), count.take()), (Ok(Some(4)), 1));
    assert_eq!(producer.poll_writable(&mut context, 7), Poll::Ready(true));
    assert_eq!((producer.high_water(), consumer.high_water()), (6, 6));

    assert_eq!(consumer.poll_readable(&mut context), Poll::Pending);
    drop(producer);
    assert_eq!((count.take(), poll_once(consumer.readable())), (1, Poll::Ready(false)));

    let mut ring = RecordRing::<Ring<8, Waking>>::new();
    let (mut producer, consumer) = ring.split();
    producer.push(b"1234567").unwrap();
    assert_eq!(producer.poll_writable(&mut context, 0), Poll::Pending);
    drop(consumer);
    assert_eq!((count.take(), poll_once(producer.writable(0))), (1, Poll::Ready(false)));
}
