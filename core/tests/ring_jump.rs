//! To grant all of an empty ring in one piece, the write index jumps, and the read end follows when it next
//! loads that index. Until then, either end has to count as if it had followed.

use overspill_core::ring::{
    AnyRing, Consumer, HighWater, Layout, Packed, Padded, Producer, RecordRing, Ring, SliceRing,
};

/// Grants all of an empty ring whose indices are at `offset`, commits `count` bytes of it, and fills the
/// rest. Nothing is read after the jump, so the read index stays where it was.
fn fill_across_a_jump<R: AnyRing>(
    producer: &mut Producer<'_, R>,
    consumer: &mut Consumer<'_, R>,
    offset: usize,
    count: usize,
) -> Vec<u8> {
    let capacity = producer.capacity();
    for _ in 0..offset {
        producer.push(0xee).unwrap();
        assert_eq!(consumer.pop(), Some(0xee));
    }
    let expected: Vec<u8> = (0_u8..).take(capacity).collect();
    let mut grant = producer.grant_contiguous(capacity).expect("empty");
    assert_eq!(grant.as_mut_slices().0.len(), capacity);
    grant.as_mut_slices().0[..count].copy_from_slice(&expected[..count]);
    grant.commit(count);
    assert_eq!((producer.len(), consumer.len()), (count, count));
    assert_eq!(producer.is_full(), count == capacity);
    for (at, byte) in expected.iter().enumerate().skip(count) {
        assert_eq!(producer.push(*byte), Ok(()), "{at} of {capacity}");
    }
    assert_eq!(producer.push_slice(&[0xff]), 0);
    assert_eq!((producer.len(), consumer.len()), (capacity, capacity));
    expected
}

/// All bytes are read again, by each kind of read, each as the first one after the jump.
fn read_across_a_jump<R: AnyRing>(mut split: impl FnMut(&mut dyn FnMut(Producer<'_, R>, Consumer<'_, R>))) {
    type Read<R> = fn(&mut Consumer<'_, R>, usize) -> Vec<u8>;
    let reads: [Read<R>; 5] = [
        |consumer, len| (0..len).map_while(|_| consumer.pop()).collect(),
        |consumer, len| {
            assert_eq!(consumer.peek(), Some(0));
            let mut buf = vec![0; len];
            assert_eq!(consumer.pop_slice(&mut buf), len);
            buf
        },
        |consumer, len| {
            let mut buf = vec![0; len + 1];
            assert_eq!(consumer.peek_slice(&mut buf), len);
            assert_eq!(consumer.skip(len), len);
            buf[..len].to_vec()
        },
        |consumer, len| {
            let grant = consumer.grant();
            let all = grant.as_slices().0.to_vec();
            grant.release(len);
            all
        },
        |consumer, len| (0..len).map_while(|_| consumer.peek().and_then(|_| consumer.pop())).collect(),
    ];
    for read in reads {
        split(&mut |mut producer, mut consumer| {
            let capacity = producer.capacity();
            for offset in 0..=2 * capacity {
                for count in 0..=capacity {
                    let expected = fill_across_a_jump(&mut producer, &mut consumer, offset, count);
                    assert_eq!(read(&mut consumer, capacity), expected, "from {offset}, granted {count}");
                    assert_eq!((consumer.pop(), producer.len()), (None, 0));
                }
            }
        });
    }
}

fn in_both_kinds_of_ring<const N: usize, L: Layout>() {
    let mut ring = Ring::<N, L>::new();
    read_across_a_jump(|test| {
        let (producer, consumer) = ring.split();
        test(producer, consumer);
    });
    let mut memory = [0; N];
    let mut ring = SliceRing::<L>::new(&mut memory);
    read_across_a_jump(|test| {
        let (producer, consumer) = ring.split();
        test(producer, consumer);
    });
}

#[test]
fn every_read_follows_a_jump_from_everywhere() {
    in_both_kinds_of_ring::<1, Packed>();
    in_both_kinds_of_ring::<5, Packed>();
    in_both_kinds_of_ring::<8, Packed>();
    in_both_kinds_of_ring::<5, Padded>();
    in_both_kinds_of_ring::<8, Padded>();
}

/// The next pair of ends follows the jump, and finds what was written after it.
#[test]
fn a_jump_outlives_the_ends() {
    fn check<L: Layout>() {
        let mut ring = Ring::<8, L>::new();
        for offset in 0..20 {
            let (mut producer, mut consumer) = ring.split();
            fill_across_a_jump(&mut producer, &mut consumer, offset, 3);
            drop((producer, consumer));
            assert_eq!(ring.len(), 8);
            let (mut producer, mut consumer) = ring.split();
            assert_eq!(producer.push(9).unwrap_err().0, 9);
            assert_eq!(consumer.skip(usize::MAX), 8);
            // A jump that no byte follows.
            producer.push(1).unwrap();
            consumer.pop().unwrap();
            producer.grant_contiguous(8).expect("empty").commit(0);
            drop((producer, consumer));
            assert_eq!(ring.len(), 0);
            let (mut producer, mut consumer) = ring.split();
            assert_eq!(consumer.pop(), None);
            assert_eq!(producer.push_slice(&[7; 9]), 8);
            assert_eq!(consumer.skip(9), 8);
        }
    }
    check::<Packed>();
    check::<Padded>();
}

/// Records of every length, from every place of an empty ring of `capacity` bytes.
fn records_in_one_piece<R: AnyRing>(mut ring: RecordRing<R>, capacity: usize) {
    let (mut producer, mut consumer) = ring.split();
    let largest = producer.largest();
    let bytes: Vec<u8> = (0..).take(largest).collect();
    for (len, place) in (0..=largest).flat_map(|len| (0..capacity).map(move |place| (len, place))) {
        // The longest record ends where the memory does; records of no bytes take one each.
        producer.push(&bytes).unwrap();
        consumer.peek().expect("the longest").release();
        for _ in 0..place {
            producer.push(b"").unwrap();
            consumer.peek().expect("an empty one").release();
        }
        let mut grant = producer.grant(len).expect("empty");
        let (first, second) = grant.as_mut_slices();
        assert_eq!((first.len(), second.len()), (len, 0), "granted at {place}");
        first.copy_from_slice(&bytes[..len]);
        grant.commit(len);
        let lent = consumer.peek().expect("one");
        assert_eq!(lent.as_slices(), (&bytes[..len], &[][..]), "lent at {place}");
        lent.release();
        assert!(consumer.is_empty());
    }
    // A record that wraps beside another is in two pieces.
    producer.push(&bytes).unwrap();
    producer.push(b"").unwrap_err();
    consumer.peek().expect("the longest").release();
    producer.push(&bytes[..largest - 4]).unwrap();
    producer.push(b"").unwrap();
    consumer.peek().expect("the long one").release();
    let mut grant = producer.grant(6).expect("so many are free");
    let (first, second) = grant.as_mut_slices();
    assert_eq!((first.len(), second.len()), (2, 4));
}

/// A ring of records granted its free bytes where they lay, although a ring of bytes grants all of them in
/// one piece when it is empty: no channel could fill or send a record that wrapped, not even the only one.
#[test]
fn an_empty_ring_grants_and_lends_a_record_in_one_piece_from_everywhere() {
    records_in_one_piece(RecordRing::<Ring<16>>::new(), 16);
    records_in_one_piece(RecordRing::<Ring<19, Padded>>::new(), 19);
    records_in_one_piece(RecordRing::<SliceRing<'_, HighWater>>::over(&mut [0; 13]), 13);
    records_in_one_piece(RecordRing::<Ring<144, HighWater<Padded>>>::new(), 144);
}
