//! Bugs that other rings have had, and how they showed.

use overspill_core::ring::{LogRing, Padded, PopError, RecordRing, Ring, SliceRing};
use refused::{Refused, refused};

mod refused;

/// An empty queue of 64 whose cursor stood at 30 refused a record of 33 bytes: 34 in front of the end,
/// 30 behind it, and neither part enough. It was empty, so no read would ever free more, and the device
/// was silent for good.
#[test]
fn an_empty_ring_takes_whatever_its_capacity_allows_wherever_it_stands() {
    for stands_at in 0..=130 {
        let mut ring = Ring::<64>::new();
        let (mut producer, mut consumer) = ring.split();
        for _ in 0..stands_at {
            producer.push(0).unwrap();
            consumer.pop().unwrap();
        }
        let mut grant = producer.grant_contiguous(64).expect("empty");
        grant.as_mut_slices().0.fill(9);
        grant.commit(64);
        assert_eq!(consumer.grant().as_slices().0, [9; 64]);
    }
}

/// A request for more than there can ever be was answered with "full", and its caller waited for ever;
/// another overflowed in the sum of lengths and was granted.
#[test]
fn what_can_never_fit_is_told_from_what_does_not_fit_now() {
    let mut ring = Ring::<16, Padded>::new();
    let (mut producer, mut consumer) = ring.split();
    let _ = producer.push_slice(&[1; 10]);
    for count in [17, usize::MAX / 2, usize::MAX - 9, usize::MAX] {
        assert_eq!(refused(producer.grant_exact(count)), Refused::TooLarge { limit: 16 });
        assert_eq!(refused(producer.grant_contiguous(count)), Refused::TooLarge { limit: 16 });
        assert_eq!(refused(consumer.grant_exact(count)), Refused::TooLarge { limit: 16 });
    }
    assert_eq!(refused(producer.grant_exact(7)), Refused::NotNow { available: 6 });
    assert_eq!(refused(consumer.grant_exact(11)), Refused::NotNow { available: 10 });

    let mut records = RecordRing::<Ring<16>>::new();
    let (mut producer, _consumer) = records.split();
    assert_eq!(refused(producer.push(&[0; 16])), Refused::TooLarge { limit: 15 });
    assert_eq!(refused(producer.grant(usize::MAX)), Refused::TooLarge { limit: 15 });
    producer.push(&[0; 15]).unwrap();
    assert_eq!(refused(producer.push(&[])), Refused::NotNow { available: 0 });
}

/// A pipe of 30 took 10 of 20 bytes although it was empty, because it stopped at the wrap.
#[test]
fn a_slice_is_written_and_read_across_the_wrap_in_one_call() {
    let mut ring = Ring::<30>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.push_slice(&[0; 20]), consumer.skip(20)), (20, 20));
    let bytes: Vec<u8> = (0..30).collect();
    assert_eq!(producer.push_slice(&bytes), 30);
    let mut out = [0; 30];
    assert_eq!(consumer.pop_slice(&mut out), 30);
    assert_eq!(out, *bytes);
}

/// An index that wrapped at a round number lost its place in queues whose capacity did not divide it: 2^8
/// here is as good as 2^32 there.
#[test]
fn any_capacity_survives_many_laps() {
    for capacity in 1..40 {
        let mut memory = vec![0; capacity];
        let mut ring = SliceRing::<Padded>::new(&mut memory);
        let (mut producer, mut consumer) = ring.split();
        let (mut sent, mut got) = (0_u32, 0_u32);
        while got < 2_000 {
            while producer.push(sent.to_le_bytes()[0]).is_ok() {
                sent += 1;
            }
            for _ in 0..=got % 5 {
                if let Some(byte) = consumer.pop() {
                    assert_eq!(byte, got.to_le_bytes()[0]);
                    got += 1;
                }
            }
        }
    }
}

/// `BufMut` of a queue panicked when it was filled to the last byte.
#[test]
fn buf_mut_takes_an_exact_fill() {
    use bytes::{Buf, BufMut};
    let mut ring = Ring::<7>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.push_slice(&[0; 5]), consumer.skip(5)), (5, 5));
    let mut room = producer.as_buf_mut();
    room.put_slice(b"exactly");
    assert_eq!(room.remaining_mut(), 0);
    assert!(room.chunk_mut().is_empty_slice());
    let mut buf = consumer.as_buf();
    assert_eq!(buf.copy_to_bytes(7), &b"exactly"[..]);
    buf.advance(100);
    assert!(!buf.has_remaining());
}

/// What `UninitSlice` calls its length.
trait IsEmptySlice {
    fn is_empty_slice(&mut self) -> bool;
}

impl IsEmptySlice for bytes::buf::UninitSlice {
    fn is_empty_slice(&mut self) -> bool {
        self.len() == 0
    }
}

/// Handles of two rings, given back together, would have freed one ring twice.
#[test]
fn handles_of_two_rings_free_neither() {
    let (one, two) = (Ring::<4>::new(), Ring::<4>::new());
    let (producer, _kept) = one.try_split().unwrap();
    let (_also_kept, consumer) = two.try_split().unwrap();
    drop((producer, consumer));
    assert!(one.try_split().is_none() && two.try_split().is_none());
}

/// A log that said "some were lost" could not say how many; one that overran its reader handed
/// out half of a record.
#[test]
fn a_log_counts_exactly_what_it_lost() {
    let mut log = LogRing::<16>::new();
    let (mut producer, mut consumer) = log.split();
    for n in 0..100_u8 {
        producer.push(&vec![n; usize::from(n % 5)]).unwrap();
    }
    let mut buf = [0; 8];
    let Err(PopError::Lost(lost)) = consumer.pop(&mut buf) else { panic!("100 do not fit") };
    let bytes: usize = (0..lost.records).map(|n| n % 5).sum();
    assert_eq!(lost.bytes, bytes);
    for n in lost.records..100 {
        assert_eq!(consumer.pop(&mut buf), Ok(Some(n % 5)));
        assert!(buf[..n % 5].iter().all(|byte| usize::from(*byte) == n));
    }
    assert_eq!(consumer.pop(&mut buf), Ok(None));
}

/// AMD's `rep movsb` copies twenty times more slowly where the destination begins 1 to 31 bytes past the
/// source, modulo 4 KiB: in a process whose vectors happened to lie so, each item of 16 KiB took 8 µs instead
/// of 0.8. Such a copy goes in pieces now: many distances, across the wrap, in and out.
#[test]
fn long_copies_are_whole_however_far_apart_they_begin() {
    const LEN: usize = 3 * 4096 + 100;
    let from: Vec<u8> = (0..=250).cycle().take(LEN).collect();
    let mut room = vec![0; LEN + 4096];
    let mut to = vec![0; LEN];
    for at in (0..4096).filter(|at| at % 16 < 2 || at % 61 == 0) {
        let mut ring: SliceRing<'_, Padded> = SliceRing::new(&mut room[at..at + LEN]);
        let (mut producer, mut consumer) = ring.split();
        for len in [LEN, 5000, 2049, LEN] {
            assert_eq!(producer.push_slice(&from[..len]), len);
            to.fill(0);
            assert_eq!(consumer.pop_slice(&mut to), len);
            assert!(to[..len] == from[..len], "{len} bytes, {at}");
        }
    }
}
