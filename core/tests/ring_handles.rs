//! What rings, their ends, their grants and their errors report, in every layout.
#![allow(missing_docs, clippy::cast_possible_truncation)]

use embedded_io::{BufRead, Read, ReadReady, Write, WriteReady};
use overspill_core::ring::{
    AnyRing, Closed, Consumer, HighWater, LogRing, Packed, Padded, PopError, Producer, RecordRing, Ring,
    SliceRing, Waking,
};
use refused::{Refused, refused};

mod refused;

/// What both ends of a ring of four bytes report, at each fill and each place of its indices.
fn ends_count<R: AnyRing>(producer: &mut Producer<'_, R>, consumer: &mut Consumer<'_, R>) {
    for start in 0..9 {
        for fill in 0..=4_usize {
            assert_eq!((producer.capacity(), consumer.capacity()), (4, 4));
            assert_eq!((producer.len(), consumer.len()), (fill, fill), "{start}");
            assert_eq!((producer.is_empty(), consumer.is_empty()), (fill == 0, fill == 0));
            assert_eq!((producer.is_full(), consumer.is_full()), (fill == 4, fill == 4));
            for count in 0..=5 {
                assert_eq!(producer.is_writable(count), count <= 4 - fill);
                assert_eq!(consumer.is_readable(count), count <= fill);
            }
            assert_eq!(consumer.peek(), (fill > 0).then_some(start), "a look takes nothing out");
            assert_eq!(producer.push(start + fill as u8).is_ok(), fill < 4);
        }
        let mut all = [0; 5];
        assert_eq!(consumer.peek_slice(&mut all), 4);
        assert_eq!(consumer.skip(3), 3);
        assert_eq!(consumer.pop(), Some(start + 3));
        assert_eq!((consumer.pop(), consumer.skip(1)), (None, 0));
        // The indices are one place further in the next round.
        assert!(producer.push(0).is_ok() && consumer.pop().is_some());
    }
}

#[test]
fn both_ends_count_alike_in_every_layout() {
    fn check<R: AnyRing>((mut producer, mut consumer): (Producer<'_, R>, Consumer<'_, R>)) {
        ends_count(&mut producer, &mut consumer);
    }
    check(Ring::<4>::new().split());
    check(Ring::<4, Padded>::default().split());
    check(Ring::<4, HighWater<Padded>>::new().split());
    check(Ring::<4, Waking<HighWater>>::new().split());
    check(Ring::<4, HighWater<Waking<Padded>>>::new().split());
    let mut memory = [7; 4];
    check(SliceRing::<Packed>::new(&mut memory).split());
    check(SliceRing::<Padded>::new(&mut memory).split());
}

#[test]
fn a_whole_ring_says_what_is_in_it() {
    let mut ring = Ring::<3>::new();
    assert!((ring.capacity(), ring.len(), ring.is_empty()) == (3, 0, true));
    assert_eq!(ring.push_overwriting(b"ab"), 0);
    assert!((ring.len(), ring.is_empty()) == (2, false));
    assert_eq!(format!("{ring:?}"), "Ring { capacity: 3, len: 2, .. }");
    // Four of the ten fit with nothing, three do: the two that were there are lost, and seven of these.
    assert_eq!(ring.push_overwriting(b"0123456789"), 9);
    assert_eq!(ring.push_overwriting(b""), 0);
    let mut last = [0; 3];
    assert_eq!(ring.split().1.pop_slice(&mut last), 3);
    assert_eq!(&last, b"789");

    let mut memory = [0; 5];
    let mut ring: SliceRing = SliceRing::new(&mut memory);
    assert_eq!(ring.push_overwriting(b"abcd"), 0);
    assert_eq!(format!("{ring:?}"), "SliceRing { capacity: 5, len: 4, .. }");
    assert!((ring.capacity(), ring.len(), ring.is_empty()) == (5, 4, false));
    let (producer, consumer) = ring.split();
    assert_eq!(format!("{producer:?}"), "Producer { capacity: 5, len: 4, closed: false, .. }");
    assert_eq!(format!("{consumer:?}"), "Consumer { capacity: 5, len: 4, closed: false, .. }");
}

#[test]
fn each_end_learns_that_the_other_is_closed() {
    fn check<R: AnyRing>((producer, mut consumer): (Producer<'_, R>, Consumer<'_, R>)) {
        assert!(!producer.is_closed() && !consumer.is_closed());
        let mut producer = producer;
        producer.push(9).unwrap();
        producer.close();
        assert!(consumer.is_closed());
        assert_eq!(consumer.pop(), Some(9), "what was written before is still read");
    }
    let (mut one, mut two) = (Ring::<4>::new(), Ring::<4, Padded>::new());
    check(one.split());
    check(two.split());
    let (producer, consumer) = one.split();
    assert!(!producer.is_closed(), "open again");
    consumer.close();
    assert!(producer.is_closed());
    assert_eq!(format!("{producer:?}"), "Producer { capacity: 4, len: 0, closed: true, .. }");
}

#[test]
fn the_high_water_mark_is_the_most_there_ever_was() {
    let mut ring = Ring::<8, HighWater<Padded>>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.high_water(), consumer.high_water()), (0, 0));
    let _ = producer.push_slice(b"abcde");
    consumer.skip(4);
    let _ = producer.push_slice(b"fg");
    assert_eq!((producer.high_water(), consumer.high_water()), (5, 5));
    let _ = producer.push_slice(b"hijkl");
    assert_eq!((producer.high_water(), consumer.high_water()), (8, 8));
}

/// Where an interrupt handler and a task have the ends, nobody else could read the mark.
#[test]
fn the_high_water_mark_can_be_read_beside_the_ends() {
    let ring = Ring::<8, HighWater>::new();
    let (mut producer, consumer) = ring.try_split().unwrap();
    let _ = producer.push_slice(b"abcde");
    drop(consumer);
    assert_eq!(ring.high_water(), 5);
    let records = RecordRing::<Ring<8, HighWater>>::new();
    let (mut producer, _consumer) = records.try_split().unwrap();
    producer.push(b"abc").unwrap();
    assert_eq!(records.high_water(), 4);
}

#[test]
fn grants_say_how_long_they_are_and_change_nothing_until_committed() {
    let mut ring = Ring::<6>::new();
    let (mut producer, mut consumer) = ring.split();
    for _ in 0..20 {
        let mut grant = producer.grant();
        assert_eq!((grant.len(), grant.is_empty()), (6, false));
        let (first, second) = grant.as_mut_slices();
        assert_eq!(first.len() + second.len(), 6);
        first.fill(1);
        second.fill(2);
        drop(grant);
        assert!(consumer.grant().is_empty());
        let mut grant = producer.grant_exact(5).unwrap();
        assert_eq!(format!("{grant:?}"), "WriteGrant { len: 5, .. }");
        let (first, second) = grant.as_mut_slices();
        first.iter_mut().chain(second).zip(1..).for_each(|(byte, n)| *byte = n);
        grant.commit(usize::MAX); // no more than was granted
        assert_eq!(producer.grant_exact(1).unwrap().len(), 1);
        assert_eq!(refused(producer.grant_exact(2)), Refused::NotNow { available: 1 });
        assert_eq!(refused(producer.grant_exact(7)), Refused::TooLarge { limit: 6 });
        assert_eq!(refused(consumer.grant_exact(6)), Refused::NotNow { available: 5 });
        assert_eq!(refused(consumer.grant_exact(7)), Refused::TooLarge { limit: 6 });

        let grant = consumer.grant_exact(4).unwrap();
        assert_eq!((grant.len(), grant.is_empty()), (4, false));
        assert_eq!(format!("{grant:?}"), "ReadGrant { len: 4, .. }");
        assert_eq!([grant.as_slices().0, grant.as_slices().1].concat(), [1, 2, 3, 4]);
        grant.release(3);
        assert_eq!((consumer.pop(), consumer.pop(), consumer.pop()), (Some(4), Some(5), None));
    }
    let _ = producer.push_slice(b"abcdef");
    let grant = producer.grant();
    assert_eq!((grant.len(), grant.is_empty()), (0, true));
    drop(grant);
    consumer.skip(6);

    let mut grant = producer.into_grant(6).expect("empty");
    assert_eq!(format!("{grant:?}"), "OwnedWriteGrant { len: 6, .. }");
    assert_eq!((grant.len(), grant.is_empty()), (6, false));
    grant.as_mut_slice().copy_from_slice(b"ghijkl");
    let producer = grant.commit(5);
    let (producer, error) = producer.into_grant(6).unwrap_err();
    assert_eq!(refused::<()>(Err(error)), Refused::NotNow { available: 1 });
    let (producer, error) = producer.into_grant(9).unwrap_err();
    assert_eq!(refused::<()>(Err(error)), Refused::TooLarge { limit: 6 });
    let grant = producer.into_grant_up_to(6);
    assert_eq!((grant.len(), grant.is_empty()), (1, false), "what is before the wrap");
    let mut producer = grant.commit(0);
    let grant = consumer.into_grant();
    assert_eq!(format!("{grant:?}"), "OwnedReadGrant { len: 5, .. }");
    assert_eq!((grant.len(), grant.is_empty()), (5, false));
    assert_eq!(grant.as_slice(), b"ghijk");
    let mut consumer = grant.release(4);
    assert_eq!(consumer.pop(), Some(b'k'));
    assert!(consumer.into_grant().is_empty());
    producer = producer.into_grant(0).unwrap().commit(0);
    // The ring is empty, and its write index on the last byte.
    for (most, len) in [(0, 0), (1, 1), (2, 2), (6, 6), (7, 6), (usize::MAX, 6)] {
        let mut grant = producer.into_grant_up_to(most);
        assert_eq!((grant.len(), grant.as_mut_slice().len()), (len, len), "at most {most}");
        producer = grant.commit(0);
    }
    assert_eq!(producer.push_slice(b"abcdefg"), 6);
    assert!(producer.into_grant_up_to(1).is_empty(), "it is full");
}

/// A record of `len` bytes, each its number.
fn record(len: usize) -> Vec<u8> {
    (0..len).map(|n| n as u8).collect()
}

#[test]
fn records_are_whole_in_place_too_wherever_they_begin() {
    let mut memory = [0; 307];
    let mut ring: RecordRing<SliceRing<'_>> = RecordRing::over(&mut memory);
    let (mut producer, mut consumer) = ring.split();
    assert_eq!(producer.largest(), 305);
    for len in (0..=305).chain([0, 1, 126, 127, 128, 129, 305, 3, 300]) {
        let mut grant = producer.grant(len).expect("empty");
        assert_eq!((grant.len(), grant.is_empty()), (len, len == 0));
        let (first, second) = grant.as_mut_slices();
        assert_eq!(first.len() + second.len(), len);
        first.iter_mut().chain(second).zip(record(len)).for_each(|(to, byte)| *to = byte);
        let kept = len - len / 3;
        grant.commit(kept);
        let lent = consumer.peek().expect("one");
        assert_eq!((lent.len(), lent.is_empty()), (kept, kept == 0));
        assert_eq!([lent.as_slices().0, lent.as_slices().1].concat(), record(kept), "{len}");
        drop(lent);
        let mut short = vec![0; kept.saturating_sub(1)];
        if kept > 0 {
            assert_eq!(consumer.pop(&mut short).unwrap_err().len, kept);
        }
        if len % 2 == 0 {
            consumer.peek().expect("still there").release();
        } else {
            let mut all = [0; 400];
            assert_eq!(consumer.pop(&mut all), Ok(Some(kept)));
            assert_eq!(all[..kept], record(kept));
        }
        assert!(consumer.peek().is_none());
        assert_eq!(consumer.pop(&mut []), Ok(None));
    }
    assert_eq!(refused(producer.push(&record(306))), Refused::TooLarge { limit: 305 });
    producer.push(&record(200)).unwrap();
    // 105 bytes are left, one of them for the length.
    assert_eq!(refused(producer.push(&record(105))), Refused::NotNow { available: 104 });
    assert_eq!(producer.push(&record(104)), Ok(()));
    assert!(!producer.is_closed() && !consumer.is_closed());
    producer.close();
    assert!(consumer.is_closed());
}

/// What would be granted now was reckoned with the header of the record that was refused, which may be
/// longer: a record of 200 bytes was told that 0 are available, where 1 was. A loop that cut its record to
/// what is available wrote nothing.
#[test]
fn what_is_available_for_a_record_is_the_longest_that_is_granted() {
    let mut refusals = 0;
    for capacity in (1..6).chain(126..134).chain([200, 16_390]) {
        for used in (0..capacity).step_by(1 + capacity / 150) {
            let mut memory = vec![0; capacity];
            let mut ring: RecordRing<SliceRing<'_>> = RecordRing::over(&mut memory);
            let (mut producer, _consumer) = ring.split();
            // Records of no bytes take one each.
            (0..used).for_each(|_| producer.push(b"").unwrap());
            for len in [0, 1, 2, 126, 127, 128, 129, 130, 16_383, 16_384, 16_386] {
                if producer.grant(len).is_ok() {
                    continue;
                }
                refusals += 1;
                let how = format!("{len} bytes, {used} of {capacity} used");
                let most = match refused(producer.grant(len)) {
                    Refused::TooLarge { limit } => {
                        assert!(len > producer.largest() && limit == producer.largest(), "{how}");
                        continue;
                    }
                    Refused::NotNow { available } => available,
                };
                assert!(len > most && len <= producer.largest(), "{how}: {most} are available");
                assert!(producer.grant(most).is_ok(), "{how}: {most} are not available");
                assert!(producer.grant(most + 1).is_err(), "{how}: more than {most} are available");
            }
        }
    }
    assert!(refusals > 3000, "{refusals}");
}

/// An empty record needs room for its length, which a ring without memory never has.
#[test]
fn a_record_that_can_never_fit_is_told_from_one_that_does_not_now() {
    let mut none: RecordRing<SliceRing<'_>> = RecordRing::over(&mut []);
    assert_eq!(refused(none.split().0.push(b"")), Refused::TooLarge { limit: 0 });
    let mut one = RecordRing::<Ring<1>>::new();
    let (mut producer, consumer) = one.split();
    assert_eq!((producer.push(b""), producer.largest()), (Ok(()), 0));
    assert_eq!(refused(producer.push(b"")), Refused::NotNow { available: 0 });
    assert_eq!(refused(producer.push(b"a")), Refused::TooLarge { limit: 0 });
    consumer.close();
    assert!(producer.is_closed());

    let shared = RecordRing::<Ring<8>>::new();
    let (mut producer, mut consumer) = shared.try_split().expect("the first");
    assert!(shared.try_split().is_none());
    producer.push(b"abc").unwrap();
    assert_eq!(format!("{producer:?} {consumer:?}"), "RecordProducer { .. } RecordConsumer { .. }");
    assert_eq!(format!("{:?}", producer.grant(1).unwrap()), "RecordGrant { .. }");
    assert_eq!(format!("{:?}", consumer.peek().unwrap()), "Record { .. }");
}

#[test]
fn a_log_and_its_ends_say_what_they_are() {
    let mut log = LogRing::<16>::default();
    assert_eq!(format!("{log:?}"), "LogRing { words: 16, .. }");
    let (mut producer, consumer) = log.split();
    assert_eq!(format!("{producer:?}"), "LogProducer { words: 16, .. }");
    assert_eq!(format!("{consumer:?}"), "LogConsumer { words: 16, .. }");
    assert!(!producer.is_closed() && !consumer.is_closed());
    consumer.close();
    assert!(producer.is_closed());
    assert_eq!(producer.push(b"nobody reads it"), Ok(()));
    drop(producer);
    let (producer, consumer) = log.split();
    producer.close();
    assert!(consumer.is_closed());
}

/// A log that was split again was read from its oldest record: records that had been read came again, and
/// what was lost in between was reported to nobody.
#[test]
fn a_log_that_is_split_again_goes_on_where_it_was_read() {
    let mut log = LogRing::<8>::new();
    let mut buf = [0; 4];
    let (mut producer, mut consumer) = log.split();
    producer.push(b"one").unwrap();
    producer.push(b"two").unwrap();
    assert_eq!((consumer.pop(&mut buf), &buf[..3]), (Ok(Some(3)), &b"one"[..]));
    drop(consumer);
    producer.push(b"three").unwrap();
    drop(producer);
    let (mut producer, mut consumer) = log.split();
    assert_eq!((consumer.pop(&mut buf), &buf[..3]), (Ok(Some(3)), &b"two"[..]));
    for len in 1..=4 {
        producer.push(&[0; 4][..len]).unwrap();
    }
    drop((producer, consumer));
    let Err(PopError::Lost(lost)) = log.split().1.pop(&mut buf) else { panic!("the third is lost") };
    assert_eq!((lost.records, lost.bytes), (1, 5));
    assert_eq!(log.split().1.pop(&mut buf), Ok(Some(1)));
    assert_eq!(log.split().1.pop(&mut buf), Ok(Some(2)));
}

/// A record as long as the log can hold fits to the last word, and records that fit together lose none.
#[test]
fn a_log_takes_what_it_has_words_for() {
    assert_eq!((LogRing::<1>::RECORD_MAX, LogRing::<16>::RECORD_MAX), (0, 60));
    let mut log = LogRing::<16>::new();
    let (mut producer, mut consumer) = log.split();
    let mut buf = [0; 64];
    for round in 0..20 {
        for n in 0..4 {
            producer.push(&[n; 12]).unwrap(); // four words with its length
        }
        for n in 0..4 {
            assert_eq!(consumer.pop(&mut buf), Ok(Some(12)), "round {round}");
            assert_eq!(buf[..12], [n; 12]);
        }
        for len in [60, 59, 0, 57] {
            producer.push(&record(len)).unwrap();
            assert_eq!(consumer.pop(&mut buf), Ok(Some(len)));
            assert_eq!(buf[..len], record(len));
        }
        for len in [61, 62, 64] {
            assert_eq!(producer.push(&record(len)).unwrap_err().limit, 60);
        }
        assert_eq!(consumer.pop(&mut buf), Ok(None));
        producer.push(b"abc").unwrap(); // so that the next round begins at another word
        assert!(matches!(consumer.pop(&mut [0; 2]), Err(PopError::BufferTooShort(error)) if error.len == 3));
        assert_eq!(consumer.pop(&mut buf[..3]), Ok(Some(3)));
    }
}

#[test]
fn the_faces_of_bytes_tell_how_much_is_left() {
    use bytes::{Buf, BufMut};
    let mut ring = Ring::<8>::new();
    let (mut producer, mut consumer) = ring.split();
    let mut writable = producer.as_buf_mut();
    writable.put_slice(b"abc");
    assert_eq!(
        (writable.remaining_mut(), format!("{writable:?}")),
        (5, "Writable { remaining: 5, .. }".into())
    );
    let mut readable = consumer.as_buf();
    assert_eq!((readable.get_u8(), format!("{readable:?}")), (b'a', "Readable { remaining: 2, .. }".into()));
}

#[test]
fn errors_say_what_would_have_worked() {
    let mut ring = Ring::<6>::new();
    let (mut producer, _consumer) = ring.split();
    producer.push(1).unwrap();
    let mut records = RecordRing::<Ring<9>>::new();
    let (mut record_producer, mut record_consumer) = records.split();
    record_producer.push(b"seven b").unwrap();
    let mut log = LogRing::<3>::new();
    let (mut log_producer, mut log_consumer) = log.split();
    let long = log_producer.push(b"nine byte").unwrap_err();
    for word in [b"first", b"later", b"final"] {
        log_producer.push(word).unwrap();
    }
    let lost = log_consumer.pop(&mut []).unwrap_err();
    let mut none: SliceRing<'_> = SliceRing::new(&mut []);
    let full = none.split().0.push(1).unwrap_err();
    let said = [
        producer.grant_exact(7).unwrap_err().to_string(),
        producer.grant_exact(6).unwrap_err().to_string(),
        record_consumer.pop(&mut []).unwrap_err().to_string(),
        long.to_string(),
        log_consumer.pop(&mut []).unwrap_err().to_string(),
        lost.to_string(),
        full.to_string(),
        Closed.to_string(),
    ];
    assert_eq!(
        said,
        [
            "more than the 6 bytes that can ever fit",
            "only 5 bytes are available now",
            "the next record has 7 bytes",
            "the log takes records of up to 8 bytes",
            "the next record has 5 bytes",
            "2 records were overwritten, 10 bytes in all",
            "the ring is full",
            "the consumer is closed",
        ]
    );
}

#[test]
fn the_traits_of_embedded_io_take_nothing_for_nothing() {
    let mut ring = Ring::<4, Padded>::new();
    let (mut producer, mut consumer) = ring.split();
    assert_eq!((producer.write(b""), consumer.read(&mut [])), (Ok(0), Ok(0)), "at once, though it is empty");
    assert_eq!((producer.write(b"abcdef"), producer.flush()), (Ok(4), Ok(())));
    assert_eq!(consumer.fill_buf(), Ok(&b"abcd"[..]));
    consumer.consume(3);
    assert_eq!(consumer.read(&mut [0; 9]), Ok(1));
    assert!(!consumer.read_ready().unwrap() && producer.write_ready().unwrap());
    assert_eq!(producer.write(b"ghij"), Ok(4));
    assert!(consumer.read_ready().unwrap() && !producer.write_ready().unwrap());
    drop(consumer);
    assert!(producer.write_ready().unwrap(), "it will not wait for who is gone");
    assert_eq!(producer.write(b"k"), Err(Closed));
    assert_eq!(producer.write(b""), Ok(0));
}

/// A shared ring of which an end was closed, or dropped, could never be split again: only two ends that were
/// both at hand could be joined. It is whole as soon as both ends are gone, in whatever way, and not before.
#[test]
fn a_shared_ring_is_whole_again_once_both_ends_are_gone() {
    let ring = Ring::<4, Padded>::new();
    let records = RecordRing::<Ring<16>>::new();
    let log = LogRing::<8>::new();
    for round in 0..4_u8 {
        let (mut producer, consumer) = ring.try_split().expect("both ends are gone");
        let (mut record_producer, record_consumer) = records.try_split().expect("both ends are gone");
        let (mut log_producer, log_consumer) = log.try_split().expect("both ends are gone");
        assert!(!producer.is_closed() && !record_producer.is_closed() && !log_producer.is_closed());
        assert!(!consumer.is_closed() && !record_consumer.is_closed() && !log_consumer.is_closed());
        producer.push(round).unwrap();
        record_producer.push(&[round]).unwrap();
        log_producer.push(&[round]).unwrap();
        if round % 2 == 0 {
            producer.close();
            record_producer.close();
            log_producer.close();
            assert!(ring.try_split().is_none() && records.try_split().is_none() && log.try_split().is_none());
            drop((consumer, record_consumer, log_consumer));
        } else {
            consumer.close();
            record_consumer.close();
            log_consumer.close();
            assert!(ring.try_split().is_none() && records.try_split().is_none() && log.try_split().is_none());
            drop((producer, record_producer, log_producer));
        }
    }
    let (_, mut consumer) = ring.try_split().unwrap();
    let (_, mut record_consumer) = records.try_split().unwrap();
    let (_, mut log_consumer) = log.try_split().unwrap();
    for round in 0..4 {
        let mut buf = [9; 1];
        assert_eq!(consumer.pop(), Some(round), "what is in it stays");
        assert_eq!((record_consumer.pop(&mut buf), buf), (Ok(Some(1)), [round]));
        assert_eq!((log_consumer.pop(&mut buf), buf), (Ok(Some(1)), [round]));
    }
}
