//! Every interleaving of every pair of operations that race, and every value that a weak memory model lets a
//! load see: loom models of the ring that ships.
//!
//! `RUSTFLAGS="--cfg overspill_loom" cargo test --release -p overspill-core --features async --test
//! loom_ring`
//!
//! Plain bytes are watched one by one (`core/src/sync.rs`), so that a byte which is read and written without
//! an order between the two is found even where its value happens to be right. `.ci/weaken` weakens each
//! ordering in turn and expects one of these to fail: one whose name begins with `log_` if it is the log
//! ring's. `.ci/weaken-pool ring` does so with rules, such as the order of two looks.
#![cfg(overspill_loom)]

use std::sync::Arc;
use std::task::{Context, Waker};

use loom::thread;
use modelling::{Unpark, block_on, forever, model};
use overspill_core::embedded_io::{BufRead, Write};
use overspill_core::ring::{
    Consumer, GrantError, Layout, LogRing, Packed, Padded, PopError, Producer, RecordRing, Ring, Waking,
};

mod modelling;

type Ends<const N: usize, L> = (Producer<'static, Ring<N, L>>, Consumer<'static, Ring<N, L>>);

fn split<const N: usize, L: Layout>() -> Ends<N, L> {
    forever(Ring::<N, L>::new()).split()
}

/// Runs a model with ends that cache indices, and with ends that do not.
macro_rules! either_layout {
    ($preemptions:expr, $body:ident) => {
        model($preemptions, $body::<Packed>);
        model($preemptions, $body::<Padded>);
    };
}

/// Weakening either index's Release or Acquire lets a byte be read before it is written, or
/// overwritten before it is read.
#[test]
fn bytes_against_bytes() {
    fn bytes_and_bytes<L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<2, L>();
        let writer = thread::spawn(move || {
            for byte in 0..4 {
                while producer.push(byte).is_err() {
                    thread::yield_now();
                }
            }
        });
        for byte in 0..4 {
            let got = loop {
                match consumer.pop() {
                    Some(got) => break got,
                    None => thread::yield_now(),
                }
            };
            assert_eq!(got, byte);
        }
        writer.join().unwrap();
    }
    either_layout!(3, bytes_and_bytes);
}

/// As above for slices that wrap, of a capacity that is no power of two.
#[test]
fn slices_against_slices() {
    fn slices_and_slices<L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<3, L>();
        let writer = thread::spawn(move || {
            let mut rest: &[u8] = &[0, 1, 2, 3, 4, 5, 6];
            while !rest.is_empty() {
                let count = producer.push_slice(&rest[..rest.len().min(2)]);
                rest = &rest[count..];
                if count == 0 {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 7 {
            let mut buf = [0; 2];
            let count = consumer.pop_slice(&mut buf);
            for byte in &buf[..count] {
                assert_eq!(*byte, expected);
                expected += 1;
            }
            if count == 0 {
                thread::yield_now();
            }
        }
        writer.join().unwrap();
    }
    either_layout!(2, slices_and_slices);
}

/// A contiguous grant makes the write index jump if the ring is empty. The reader must follow at any moment.
#[test]
fn grants_against_grants() {
    fn grants_and_grants<const N: usize, const BYTES: bool, L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<N, L>();
        let writer = thread::spawn(move || {
            producer.push(0).unwrap();
            loop {
                match producer.grant_contiguous(N) {
                    Ok(mut grant) => {
                        grant.as_mut_slices().0[..2].copy_from_slice(&[1, 2]);
                        grant.commit(2);
                        break;
                    }
                    Err(GrantError::NotNow { .. }) => thread::yield_now(),
                    Err(GrantError::TooLarge { .. }) => unreachable!("all of it fits"),
                }
            }
            while producer.push(3).is_err() {
                thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < 4 {
            if BYTES {
                match consumer.pop() {
                    Some(byte) => {
                        assert_eq!(byte, expected);
                        expected += 1;
                    }
                    None => thread::yield_now(),
                }
                continue;
            }
            let grant = consumer.grant();
            let (first, second) = grant.as_slices();
            for byte in first.iter().chain(second) {
                assert_eq!(*byte, expected);
                expected += 1;
            }
            let len = grant.len();
            grant.release(len);
            if len == 0 {
                thread::yield_now();
            }
        }
        writer.join().unwrap();
    }
    model(3, grants_and_grants::<2, false, Packed>);
    model(3, grants_and_grants::<2, false, Padded>);
    model(2, grants_and_grants::<3, false, Packed>);
    model(2, grants_and_grants::<3, false, Padded>);
    model(2, grants_and_grants::<3, true, Packed>);
    model(2, grants_and_grants::<3, true, Padded>);
}

/// A consumer that sees the producer closed and then reads to the end has read everything.
#[test]
fn close_against_read() {
    fn close_and_read<L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<2, L>();
        let writer = thread::spawn(move || {
            producer.push(7).unwrap();
            producer.close();
        });
        if consumer.is_closed() {
            assert_eq!(consumer.pop(), Some(7));
            assert_eq!(consumer.pop(), None);
        }
        writer.join().unwrap();
    }
    either_layout!(3, close_and_read);
}

/// A producer that sees the consumer closed sees all the room that it made.
#[test]
fn close_against_write() {
    fn close_and_write<L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<1, L>();
        producer.push(7).unwrap();
        let reader = thread::spawn(move || {
            assert_eq!(consumer.pop(), Some(7));
            consumer.close();
        });
        if producer.is_closed() {
            assert_eq!(producer.push(8), Ok(()));
        }
        reader.join().unwrap();
    }
    either_layout!(3, close_and_write);
}

/// The length of a ring that others move is one that it has had: here 0 or 1. The two indices were loaded one
/// after the other, and a length of bytes that were never in the ring at once came out.
#[test]
fn length_against_bytes() {
    fn length_and_bytes<L: Layout + 'static>() {
        let ring: &'static Ring<3, L> = forever(Ring::new());
        let (mut producer, mut consumer) = ring.try_split().expect("the first split");
        // The one that looks begins last: loom backtracks from its loads to the stores before them.
        let observer = thread::spawn(move || assert!(ring.len() < 2));
        for byte in 0..2 {
            producer.push(byte).unwrap();
            assert_eq!(consumer.pop(), Some(byte));
        }
        observer.join().unwrap();
    }
    either_layout!(3, length_and_bytes);
}

/// Two threads try to split a ring. One succeeds, and what it did is visible to the next that splits it.
#[test]
fn split_against_split() {
    model(3, || {
        let ring: &'static Ring<2> = forever(Ring::new());
        let visit = move || {
            let Some((mut producer, mut consumer)) = ring.try_split() else { return 0 };
            let before = consumer.len();
            assert!(!producer.is_closed() && !consumer.is_closed(), "the ends before are gone");
            assert_eq!(producer.push(before as u8), Ok(()));
            assert_eq!(consumer.peek(), Some(0));
            assert!(!producer.is_closed() && !consumer.is_closed(), "nor do they close these");
            drop((producer, consumer));
            1
        };
        let other = thread::spawn(visit);
        let visits = visit() + other.join().unwrap();
        assert!(visits > 0);
        let (_producer, consumer) = ring.try_split().expect("both are gone");
        assert_eq!(consumer.len(), visits);
    });
}

/// An end that is closed on another thread may still be waking the one that waited: the ring is not whole
/// before that is over, or two ends would be waking the next one that waits.
#[test]
fn records_split_against_close() {
    model(2, || {
        let ring: &'static RecordRing<Ring<4, Waking>> = forever(RecordRing::<Ring<4, Waking>>::new());
        let (producer, mut consumer) = ring.try_split().expect("the first split");
        assert!(consumer.poll_readable(&mut Context::from_waker(Waker::noop())).is_pending());
        let closer = thread::spawn(move || producer.close());
        drop(consumer);
        let (mut producer, mut consumer) = loop {
            match ring.try_split() {
                Some(ends) => break ends,
                None => thread::yield_now(),
            }
        };
        let writer = thread::spawn(move || {
            producer.push(&[8]).expect("it is empty");
            std::mem::forget(producer);
        });
        assert!(block_on(|context| consumer.poll_readable(context)));
        (closer.join().unwrap(), writer.join().unwrap());
    });
}

/// The reader begins to wait while the writer writes what it waits for.
#[test]
fn waiting_for_bytes_against_write() {
    model(3, || {
        let (mut producer, mut consumer) = forever(Ring::<4, Waking>::new()).split();
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.push(2).unwrap();
            std::mem::forget(producer);
        });
        assert_eq!(block_on(|context| consumer.poll_readable(context, 2)), 2);
        writer.join().unwrap();
    });
}

/// The writer begins to wait while the reader makes the room that it waits for; twice, with a
/// new waker each time.
#[test]
fn waiting_for_room_against_read() {
    model(2, || {
        let (mut producer, mut consumer) = forever(Ring::<1, Waking>::new()).split();
        producer.push(0).unwrap();
        let reader = thread::spawn(move || {
            for expected in 0..2 {
                let got = loop {
                    match consumer.pop() {
                        Some(got) => break got,
                        None => thread::yield_now(),
                    }
                };
                assert_eq!(got, expected);
            }
            std::mem::forget(consumer);
        });
        for byte in 1..3 {
            block_on(|context| producer.poll_writable(context, 1));
            producer.push(byte).unwrap();
        }
        reader.join().unwrap();
    });
}

/// The reader begins to wait while the writer closes.
#[test]
fn waiting_against_close() {
    model(3, || {
        let (producer, mut consumer) = forever(Ring::<2, Waking>::new()).split();
        let writer = thread::spawn(move || producer.close());
        assert_eq!(block_on(|context| consumer.poll_readable(context, 1)), 0);
        writer.join().unwrap();
    });
}

/// The writer writes less than the reader waits for, and closes: the reader gets that, and no less.
#[test]
fn waiting_against_the_last_bytes() {
    model(3, || {
        let (mut producer, mut consumer) = forever(Ring::<2, Waking>::new()).split();
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.close();
        });
        assert_eq!(block_on(|context| consumer.poll_readable(context, 2)), 1);
        writer.join().unwrap();
    });
}

/// The same for room: the reader makes less than the writer waits for, and closes.
#[test]
fn waiting_against_the_last_room() {
    model(3, || {
        let (mut producer, mut consumer) = forever(Ring::<2, Waking>::new()).split();
        assert_eq!(producer.push_slice(&[1, 2]), 2);
        let reader = thread::spawn(move || {
            assert_eq!(consumer.pop(), Some(1));
            consumer.close();
        });
        assert_eq!(block_on(|context| producer.poll_writable(context, 2)), 1);
        reader.join().unwrap();
    });
}

/// `embedded-io` spins for bytes, or room, until the other end is closed: what that end did
/// last is not passed over.
#[test]
fn spinning_against_close() {
    fn spinning_and_close<L: Layout + 'static>() {
        let (mut producer, mut consumer) = split::<1, L>();
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.close();
        });
        assert_eq!(BufRead::fill_buf(&mut consumer), Ok(&[1][..]));
        writer.join().unwrap();

        let (mut producer, mut consumer) = split::<1, L>();
        producer.push(1).unwrap();
        let reader = thread::spawn(move || {
            assert_eq!(consumer.pop(), Some(1));
            consumer.close();
        });
        assert_eq!(Write::write(&mut producer, &[2]), Ok(1));
        reader.join().unwrap();
    }
    either_layout!(3, spinning_and_close);
}

/// A poll with another waker replaces the previous one, while the writer wakes whichever is registered.
#[test]
fn another_waker_against_wake() {
    model(3, || {
        let (mut producer, mut consumer) = forever(Ring::<2, Waking>::new()).split();
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.push(2).unwrap();
            std::mem::forget(producer);
        });
        let _ = consumer.poll_readable(&mut Context::from_waker(&Waker::from(Unpark::new())), 1);
        assert_eq!(block_on(|context| consumer.poll_readable(context, 2)), 2);
        writer.join().unwrap();
    });
}

/// An end that waits goes while the other wakes it: its waker is woken or not, and kept by neither.
#[test]
fn waiting_that_ends_against_wake() {
    model(3, || {
        let (mut producer, mut consumer) = forever(Ring::<2, Waking>::new()).split();
        let unpark = Unpark::new();
        let waker = Waker::from(unpark.clone());
        let writer = thread::spawn(move || {
            producer.push(1).unwrap();
            producer.push(2).unwrap();
        });
        let _ = consumer.poll_readable(&mut Context::from_waker(&waker), 2);
        drop((waker, consumer));
        writer.join().unwrap();
        assert_eq!(Arc::strong_count(&unpark), 1);
    });
}

/// Record number `n`: its length differs from its neighbours', and each of its words says which it is.
fn record(n: u8) -> Vec<u8> {
    vec![n; if n % 2 == 0 { 5 } else { 8 }]
}

/// Reads until record `last` and checks that every record is whole, in order, or counted as lost.
fn read_log(mut pop: impl FnMut(&mut [u8]) -> Result<Option<usize>, PopError>, last: u8) {
    let mut next = 0;
    while next <= last {
        let mut buf = [0; 8];
        match pop(&mut buf) {
            Ok(Some(len)) => {
                assert_eq!(&buf[..len], record(next));
                next += 1;
            }
            Ok(None) => thread::yield_now(),
            Err(PopError::Lost(lost)) => {
                assert!(lost.records > 0);
                let gone = next..next + lost.records as u8;
                assert_eq!(lost.bytes, gone.clone().map(|n| record(n).len()).sum::<usize>());
                next = gone.end;
            }
            Err(PopError::BufferTooShort(error)) => panic!("a torn length of {} came out", error.len),
        }
    }
}

/// The producer overwrites the very record that the consumer reads.
#[test]
fn log_overwriting_against_reading() {
    model(2, || {
        let (mut producer, mut consumer) = forever(LogRing::<4>::new()).split();
        producer.push(&record(0)).unwrap();
        let writer = thread::spawn(move || {
            producer.push(&record(1)).unwrap();
            producer.push(&record(2)).unwrap();
        });
        read_log(|buf| consumer.pop(buf), 2);
        writer.join().unwrap();
    });
}

/// The producer overwrites while the consumer counts what it lost, in a log whose places are
/// no mask of its counts.
#[test]
fn log_overwriting_against_counting() {
    model(2, || {
        let (mut producer, mut consumer) = forever(LogRing::<5>::new()).split();
        producer.push(&record(0)).unwrap();
        producer.push(&record(1)).unwrap();
        let writer = thread::spawn(move || {
            producer.push(&record(2)).unwrap();
            producer.push(&record(3)).unwrap();
        });
        read_log(|buf| consumer.pop(buf), 3);
        writer.join().unwrap();
    });
}

/// As for the ring: a consumer that sees the producer closed and then reads to the end has read everything.
#[test]
fn log_close_against_read() {
    model(3, || {
        let (mut producer, mut consumer) = forever(LogRing::<4>::new()).split();
        let writer = thread::spawn(move || {
            producer.push(b"last").unwrap();
            producer.close();
        });
        if consumer.is_closed() {
            assert_eq!(consumer.pop(&mut [0; 4]), Ok(Some(4)));
            assert_eq!(consumer.pop(&mut [0; 4]), Ok(None));
        }
        writer.join().unwrap();
    });
}

/// As for the ring: what one pair of ends wrote is visible to the next, and so is how far it has read.
#[test]
fn log_split_against_split() {
    model(3, || {
        let log: &'static LogRing<8> = forever(LogRing::new());
        let visit = move |producer_first| {
            let Some((mut producer, mut consumer)) = log.try_split() else { return 0 };
            assert!(!producer.is_closed() && !consumer.is_closed(), "the ends before are gone");
            assert!(producer.push(b"x").is_ok() && producer.push(b"y").is_ok());
            assert_eq!(consumer.pop(&mut [0; 1]), Ok(Some(1)));
            if producer_first {
                drop(producer);
            }
            1
        };
        let other = thread::spawn(move || visit(true));
        let visits = visit(false) + other.join().unwrap();
        let (_, mut consumer) = log.try_split().expect("both are gone");
        assert_eq!((0..).take_while(|_| consumer.pop(&mut [0; 1]) == Ok(Some(1))).count(), visits);
    });
}
