//! Drives a ring by a script of bytes, and compares it with a model that is plainly right. The property tests
//! and the fuzz target share it.

use std::collections::VecDeque;

use overspill_core::ring::{
    AnyRing, BufferTooShort, Consumer, Full, GrantError, LogRing, Padded, PopError, Producer, RecordProducer,
    RecordRing, Ring, SliceRing,
};

/// The script: each call takes the next byte, and `None` after the last.
struct Script<'s>(std::slice::Iter<'s, u8>);

impl Script<'_> {
    fn next(&mut self) -> Option<usize> {
        self.0.next().map(|byte| usize::from(*byte))
    }

    /// A length: mostly near the capacity, sometimes one that no ring has.
    fn length(&mut self) -> usize {
        match self.next().unwrap_or(0) {
            255 => usize::MAX,
            254 => usize::MAX / 2 + 1,
            short => short % 24,
        }
    }
}

/// Runs `script` on a ring, a ring of records or a log, as its first byte says.
///
/// # Panics
///
/// If any of them differs from its model.
pub fn drive_ring(script: &[u8]) {
    let mut script = Script(script.iter());
    let Some(kind) = script.next() else { return };
    match kind % 12 {
        0 => whole(SliceRing::<Padded>::new(&mut []), SliceRing::split, &mut script),
        1 => whole(Ring::<1>::new(), Ring::split, &mut script),
        2 => whole(Ring::<3>::new(), Ring::split, &mut script),
        3 => whole(Ring::<8>::new(), Ring::split, &mut script),
        4 => whole(Ring::<13>::new(), Ring::split, &mut script),
        5 => whole(Ring::<16, Padded>::new(), Ring::split, &mut script),
        6 => whole(Ring::<11, Padded>::new(), Ring::split, &mut script),
        7 => whole(SliceRing::<Padded>::new(&mut [0; 9]), SliceRing::split, &mut script),
        8 => {
            let mut memory = vec![0; script.length() % 24];
            whole(SliceRing::<overspill_core::ring::Packed>::new(&mut memory), SliceRing::split, &mut script);
        }
        9 => records(&RecordRing::<Ring<16>>::new(), &mut script),
        10 => records(&RecordRing::<Ring<137, Padded>>::new(), &mut script),
        _ => match script.next().unwrap_or(0) % 4 {
            0 => log::<8>(&mut script),
            1 => log::<1>(&mut script),
            2 => log::<5>(&mut script),
            _ => log::<11>(&mut script),
        },
    }
}

/// Splits the ring again and again, which must not change its content.
fn whole<R: AnyRing>(
    mut ring: R,
    split: impl for<'r> Fn(&'r mut R) -> (Producer<'r, R>, Consumer<'r, R>),
    script: &mut Script<'_>,
) {
    let mut model = VecDeque::new();
    let mut fresh = 0;
    loop {
        let (producer, consumer) = split(&mut ring);
        if !steps(producer, consumer, &mut model, &mut fresh, script) {
            return;
        }
    }
}

/// The next `count` bytes of a stream in which neighbours differ.
fn make(fresh: &mut u8, count: usize) -> Vec<u8> {
    (0..count)
        .map(|_| {
            *fresh = fresh.wrapping_mul(5).wrapping_add(1);
            *fresh
        })
        .collect()
}

/// Runs steps until the script says to split again (true) or ends (false).
fn steps<R: AnyRing>(
    mut producer: Producer<'_, R>,
    mut consumer: Consumer<'_, R>,
    model: &mut VecDeque<u8>,
    fresh: &mut u8,
    script: &mut Script<'_>,
) -> bool {
    assert!(!producer.is_closed() && !consumer.is_closed());
    while let Some(step) = script.next() {
        assert_eq!((producer.len(), consumer.len()), (model.len(), model.len()));
        assert_eq!(
            (producer.is_full(), consumer.is_empty()),
            (model.len() == producer.capacity(), model.is_empty())
        );
        match step % 13 {
            step @ (0 | 1 | 6..=9) => producer = write_step(step, producer, model, fresh, script),
            step @ (2..=5 | 10 | 11) => consumer = read_step(step, consumer, model, script),
            _ => return true,
        }
    }
    false
}

/// One step of the writing end.
fn write_step<'a, R: AnyRing>(
    step: usize,
    mut producer: Producer<'a, R>,
    model: &mut VecDeque<u8>,
    fresh: &mut u8,
    script: &mut Script<'_>,
) -> Producer<'a, R> {
    let capacity = producer.capacity();
    let free = capacity - model.len();
    match step {
        0 => {
            let byte = make(fresh, 1)[0];
            assert_eq!(producer.push(byte), if free > 0 { Ok(()) } else { Err(Full(byte)) });
            model.extend((free > 0).then_some(byte));
        }
        1 => {
            let bytes = make(fresh, script.length() % 64);
            let count = bytes.len().min(free);
            assert_eq!(producer.push_slice(&bytes), count);
            model.extend(&bytes[..count]);
        }
        6 => {
            let mut grant = producer.grant();
            assert_eq!(grant.len(), free);
            let bytes = make(fresh, free);
            let (first, second) = grant.as_mut_slices();
            first.iter_mut().chain(second).zip(&bytes).for_each(|(to, from)| *to = *from);
            let count = script.length();
            grant.commit(count);
            model.extend(bytes.iter().take(count));
        }
        7 => {
            let count = script.length();
            let got = producer.grant_exact(count).map(|grant| grant.len());
            agree(got, count, capacity, free);
        }
        8 => {
            let count = script.length();
            match producer.grant_contiguous(count) {
                Ok(mut grant) => {
                    let bytes = make(fresh, count);
                    assert_eq!(grant.as_mut_slices().1, []);
                    grant.as_mut_slices().0.copy_from_slice(&bytes);
                    let part = script.length();
                    grant.commit(part);
                    model.extend(bytes.iter().take(part));
                }
                Err(error) => {
                    agree_contiguous(error, count, free, &mut producer);
                }
            }
        }
        _ => {
            let count = script.length();
            let (mut grant, len) = match producer.into_grant(count) {
                Ok(grant) => (grant, count),
                Err((mut producer, error)) => {
                    let most = agree_contiguous(error, count, free, &mut producer);
                    (producer.into_grant_up_to(count), most)
                }
            };
            let bytes = make(fresh, len);
            grant.as_mut_slice().copy_from_slice(&bytes);
            let part = script.length();
            model.extend(bytes.iter().take(part));
            producer = grant.commit(part);
        }
    }
    producer
}

/// One step of the reading end.
fn read_step<'a, R: AnyRing>(
    step: usize,
    mut consumer: Consumer<'a, R>,
    model: &mut VecDeque<u8>,
    script: &mut Script<'_>,
) -> Consumer<'a, R> {
    let capacity = consumer.capacity();
    match step {
        2 => assert_eq!(consumer.pop(), model.pop_front()),
        3 => {
            let mut buf = vec![0; script.length() % 64];
            let count = buf.len().min(model.len());
            assert_eq!(consumer.peek_slice(&mut buf), count);
            assert!(buf[..count].iter().eq(model.iter().take(count)));
            assert_eq!(consumer.pop_slice(&mut buf), count);
            assert!(buf[..count].iter().copied().eq(model.drain(..count)));
        }
        4 => assert_eq!(consumer.peek(), model.front().copied()),
        5 => {
            let count = script.length();
            assert_eq!(consumer.skip(count), count.min(model.len()));
            model.drain(..count.min(model.len()));
        }
        10 => {
            let count = script.length();
            match consumer.grant_exact(count) {
                Ok(grant) => {
                    let (first, second) = grant.as_slices();
                    assert!(first.iter().chain(second).eq(model.iter().take(count)));
                    let part = script.length();
                    grant.release(part);
                    model.drain(..part.min(count));
                }
                Err(error) => agree(Err(error), count, capacity, model.len()),
            }
        }
        _ => {
            let grant = consumer.into_grant();
            let len = grant.as_slice().len();
            assert_eq!(len == 0, model.is_empty());
            assert!(grant.as_slice().iter().eq(model.iter().take(len)));
            let part = script.length();
            consumer = grant.release(part);
            model.drain(..part.min(len));
        }
    }
    consumer
}

/// Checks the result of an exact grant of `count` bytes.
fn agree(got: Result<usize, GrantError>, count: usize, capacity: usize, free: usize) {
    match got {
        Ok(len) => assert!(len == count && count <= free),
        Err(GrantError::TooLarge { limit, .. }) => assert!(limit == capacity && count > capacity),
        Err(GrantError::NotNow { available, .. }) => {
            assert!(available == free && count > free && count <= capacity);
        }
    }
}

/// Checks why `count` bytes in one piece are refused, and returns how many are granted.
fn agree_contiguous<R: AnyRing>(
    error: GrantError,
    count: usize,
    free: usize,
    producer: &mut Producer<'_, R>,
) -> usize {
    let capacity = producer.capacity();
    let granted = |most: &usize| producer.grant_contiguous(*most).is_ok();
    let most = (0..=free).rev().find(granted).expect("nothing is always granted");
    assert!(free < capacity || most == capacity, "an empty ring grants all");
    match error {
        GrantError::TooLarge { limit, .. } => assert!(limit == capacity && count > capacity),
        GrantError::NotNow { available, .. } => {
            assert!(available == most && most < count && count <= capacity);
        }
    }
    most
}

/// Checks why a record of `len` bytes is refused.
fn agree_record<R: AnyRing>(
    error: GrantError,
    len: usize,
    is_empty: bool,
    producer: &mut RecordProducer<'_, R>,
) {
    match error {
        GrantError::TooLarge { limit, .. } => assert!(limit == producer.largest() && len > limit),
        GrantError::NotNow { available, .. } => {
            assert!(!is_empty && len <= producer.largest());
            // 0 also if not even an empty one fits.
            assert!(producer.grant(available).is_ok() || available == 0);
            assert!(producer.grant(available + 1).is_err());
        }
    }
}

fn records<R: AnyRing>(ring: &RecordRing<R>, script: &mut Script<'_>) {
    let (mut producer, mut consumer) = ring.try_split().expect("it is whole");
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    let mut fresh = 0;
    while let Some(step) = script.next() {
        let len = script.next().unwrap_or(0);
        if step % 32 == 31 {
            drop((producer, consumer));
            (producer, consumer) = ring.try_split().expect("both are gone");
            continue;
        }
        let record = make(&mut fresh, len);
        match step % 4 {
            0 => match producer.push(&record) {
                Ok(()) => model.push_back(record),
                Err(error) => agree_record(error, len, model.is_empty(), &mut producer),
            },
            1 => {
                let part = script.length();
                match producer.grant(len) {
                    Ok(mut grant) => {
                        let (first, second) = grant.as_mut_slices();
                        assert_eq!(first.len() + second.len(), len);
                        assert!(!model.is_empty() || second.is_empty(), "an empty ring grants one piece");
                        first.iter_mut().chain(second).zip(&record).for_each(|(to, from)| *to = *from);
                        grant.commit(part);
                        model.push_back(record[..part.min(len)].to_vec());
                    }
                    Err(error) => agree_record(error, len, model.is_empty(), &mut producer),
                }
            }
            2 => {
                let mut buf = vec![0; len];
                match consumer.pop(&mut buf) {
                    Ok(None) => assert!(model.is_empty()),
                    Ok(Some(len)) => assert_eq!(model.pop_front().as_deref(), Some(&buf[..len])),
                    Err(BufferTooShort { len: needed, .. }) => {
                        assert_eq!(model.front().map(Vec::len), Some(needed));
                        assert!(needed > len);
                    }
                }
            }
            _ => match consumer.peek() {
                None => assert!(model.is_empty()),
                Some(record) => {
                    let (first, second) = record.as_slices();
                    assert_eq!(Some([first, second].concat()), model.pop_front());
                    record.release();
                }
            },
        }
    }
}

fn log<const WORDS: usize>(script: &mut Script<'_>) {
    let log = LogRing::<WORDS>::new();
    let (mut producer, mut consumer) = log.try_split().expect("it is whole");
    let mut model: VecDeque<Vec<u8>> = VecDeque::new();
    let (mut fresh, mut lost_records, mut lost_bytes) = (0, 0, 0);
    let words =
        |model: &VecDeque<Vec<u8>>| model.iter().map(|record| 1 + record.len().div_ceil(4)).sum::<usize>();
    // A record stays in the log until it is overwritten, read or not. If it was not read, it is lost then.
    let mut read: VecDeque<Vec<u8>> = VecDeque::new();
    while let Some(step) = script.next() {
        let len = script.next().unwrap_or(0) % 40;
        if step % 32 == 31 {
            assert!(!producer.is_closed() && !consumer.is_closed());
            drop((producer, consumer));
            (producer, consumer) = log.try_split().expect("both are gone");
            continue;
        }
        if step % 2 == 0 {
            let record = make(&mut fresh, len);
            if producer.push(&record).is_err() {
                assert!(len > LogRing::<WORDS>::RECORD_MAX);
                continue;
            }
            model.push_back(record);
            while words(&read) + words(&model) > WORDS {
                if read.pop_front().is_none() {
                    let gone = model.pop_front().expect("the newest record fits");
                    lost_records += 1;
                    lost_bytes += gone.len();
                }
            }
            continue;
        }
        let mut buf = vec![0; len];
        match consumer.pop(&mut buf) {
            Ok(None) => assert!(model.is_empty() && lost_records == 0),
            Ok(Some(len)) => {
                assert_eq!(lost_records, 0);
                assert_eq!(model.front().map(Vec::as_slice), Some(&buf[..len]));
                read.extend(model.pop_front());
            }
            Err(PopError::BufferTooShort(BufferTooShort { len: needed, .. })) => {
                assert_eq!((lost_records, model.front().map(Vec::len)), (0, Some(needed)));
                assert!(needed > len);
            }
            Err(PopError::Lost(lost)) => {
                assert_eq!((lost.records, lost.bytes), (lost_records, lost_bytes));
                assert!(lost.records > 0);
                (lost_records, lost_bytes) = (0, 0);
            }
        }
    }
}
