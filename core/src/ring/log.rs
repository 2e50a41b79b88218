//! A ring of records that overwrites the oldest ones, split into two ends, without a lock.
//!
//! The producer never waits, and never fails for want of room. The consumer reads whole records, or is told
//! exactly how many it lost. The bytes are atomic words: a word that is read while it is overwritten is the
//! old one or the new one, and not a data race. A record that may have been overwritten while it was read is
//! discarded, never returned.
//!
//! Held by: `core/tests/loom_ring.rs` (`log_*`) with `.ci/weaken`, `core/tests/ring_threads.rs`,
//! `core/tests/ring_field_bugs.rs`, `tests/tests/ring_model.rs`.
//!
//! The idea is the sequence lock's (H.-J. Boehm, "Can seqlocks get along with programming language memory
//! models?", 2012), with the tail as the sequence number.
//!
//! | step | producer | consumer |
//! |---|---|---|
//! | 1 | `tail_open` := after the records that make room (Relaxed) | `head` (Acquire): a record, or nothing new |
//! | 2 | fence (Release) | the record's words (Relaxed) |
//! | 3 | the tail's place, the counts of what was overwritten, the words (Relaxed) | fence (Acquire) |
//! | 4 | `tail_done` := `tail_open` (Release) | `tail_open` (Relaxed): not past the record? then it is whole |
//! | 5 | `head` := after the record (Release) | past it: place and counts, valid if `tail_done` (Acquire, before) is `tail_open` (after) |
//!
//! If the consumer's step 2 reads a word of the producer's step 3, the two fences synchronise, so that step 4
//! sees the tail that was stored before that word.
//!
//! Closing works as in a byte ring: a consumer that sees (Acquire) the producer closed (Release) also sees
//! all that it wrote. A closed consumer hands nothing to the producer, so that loads it Relaxed; the next
//! pair of ends takes over (Acquire) from both closed ones (Release).

use core::fmt;

use super::errors::{BufferTooShort, Lost, PopError, RecordTooLong};
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
use super::shared::open_once;
use crate::sync::Ordering::{Acquire, Relaxed, Release};
#[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
use crate::sync::SwapBool;
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, const_fn, fence};

/// The number of bytes in a word.
const WORD: usize = size_of::<u32>();

/// A ring of `WORDS` words of four bytes, at least one, that overwrites its oldest records to
/// make room for new ones.
///
/// A record takes one word for its length, and as many words as its bytes fill, rounded up. Use it for a log
/// that is read when there is time, for a flight recorder, or for samples of which only the latest matter.
///
/// ```
/// use overspill_core::ring::{LogRing, PopError};
///
/// let mut log = LogRing::<8>::new(); // room for two records of up to 12 bytes
/// let (mut producer, mut consumer) = log.split();
/// for line in [b"boot", b"init", b"ping", b"pong", b"done"] {
///     producer.push(line).unwrap();
/// }
///
/// let mut buf = [0; 12];
/// let Err(PopError::Lost(lost)) = consumer.pop(&mut buf) else { panic!("five do not fit") };
/// assert_eq!((lost.records, lost.bytes), (1, 4));
/// assert_eq!(consumer.pop(&mut buf), Ok(Some(4)));
/// assert_eq!(&buf[..4], b"init");
/// ```
pub struct LogRing<const WORDS: usize> {
    /// The end of the newest record: the number of words ever written, modulo 2^bits of `usize`.
    head: AtomicUsize,
    /// The oldest record that is not overwritten before the next store to this. Counted as `head` is.
    tail_open: AtomicUsize,
    /// The same as `tail_open`, stored after the place and the counts that belong to it.
    tail_done: AtomicUsize,
    /// The word in memory at which the record at `tail_done` begins.
    tail_place: AtomicUsize,
    /// The number of records ever written before `tail_done`.
    records: AtomicUsize,
    /// The number of bytes in those records.
    bytes: AtomicUsize,
    /// Whether the producer is open. The log is whole while neither end is: a closed one
    /// accesses nothing of it.
    producer_open: AtomicBool,
    consumer_open: AtomicBool,
    #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
    splitting: SwapBool,
    read: Read,
    words: [AtomicU32; WORDS],
}

/// How far the log was read, and what was reported as lost: where the next consumer goes on. Stored and
/// loaded while there is no consumer.
struct Read {
    count: AtomicUsize,
    place: AtomicUsize,
    records: AtomicUsize,
    bytes: AtomicUsize,
}

impl Read {
    const_fn! {
        fn new() -> Self {
            Read {
                count: AtomicUsize::new(0),
                place: AtomicUsize::new(0),
                records: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
            }
        }
    }
}

impl<const WORDS: usize> LogRing<WORDS> {
    /// The length in bytes of the longest record.
    pub const RECORD_MAX: usize = (WORDS - 1) * WORD;

    const_fn! {
        /// An empty log. A `WORDS` of 0 does not compile.
        ///
        /// ```compile_fail,E0080
        /// overspill_core::ring::LogRing::<0>::new(); // would take no record, not even an empty one
        /// ```
        #[must_use]
        pub fn new() -> Self {
            const { assert!(WORDS > 0, "a record takes a word at least") };
            LogRing {
                head: AtomicUsize::new(0),
                tail_open: AtomicUsize::new(0),
                tail_done: AtomicUsize::new(0),
                tail_place: AtomicUsize::new(0),
                records: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                producer_open: AtomicBool::new(false),
                consumer_open: AtomicBool::new(false),
                #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
                splitting: SwapBool::new(false),
                read: Read::new(),
                #[cfg(not(overspill_loom))]
                words: [const { AtomicU32::new(0) }; WORDS],
                #[cfg(overspill_loom)]
                words: core::array::from_fn(|_| AtomicU32::new(0)),
            }
        }
    }

    /// Splits the log into its two ends, for as long as it is borrowed. Both ends are open, and the consumer
    /// goes on where the last one was dropped or closed: no record is read twice, and what was overwritten
    /// meanwhile is reported as lost. If the last consumer was leaked, the next one begins where the leaked
    /// one began, and may read the same records again.
    pub fn split(&mut self) -> (LogProducer<'_, WORDS>, LogConsumer<'_, WORDS>) {
        self.open()
    }

    /// Splits a shared log, such as a `static`, into its two ends, or returns `None` if it is split already.
    /// It does so as [`Ring::try_split`](super::Ring::try_split) does.
    #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
    pub fn try_split(&self) -> Option<(LogProducer<'_, WORDS>, LogConsumer<'_, WORDS>)> {
        // Acquire: what the previous ends did to the log has happened.
        let is_whole = || !self.producer_open.load(Acquire) && !self.consumer_open.load(Acquire);
        open_once(&self.splitting, is_whole, || self.open())
    }

    fn open(&self) -> (LogProducer<'_, WORDS>, LogConsumer<'_, WORDS>) {
        self.producer_open.store(true, Relaxed);
        self.consumer_open.store(true, Relaxed);
        let tail = Position { count: self.tail_open.load(Relaxed), place: self.tail_place.load(Relaxed) };
        let records = self.records.load(Relaxed);
        let bytes = self.bytes.load(Relaxed);
        let head = tail.ahead::<WORDS>(self.head.load(Relaxed).wrapping_sub(tail.count));
        let producer = LogProducer { log: self, head, tail, records, bytes };
        let read = &self.read;
        let next = Position { count: read.count.load(Relaxed), place: read.place.load(Relaxed) };
        let (records, bytes) = (read.records.load(Relaxed), read.bytes.load(Relaxed));
        (producer, LogConsumer { log: self, next, records, bytes })
    }

    #[inline(always)]
    fn load(&self, at: Position) -> u32 {
        self.words.get(at.place).map_or(0, |word| word.load(Relaxed))
    }

    #[inline(always)]
    fn store(&self, at: Position, value: u32) {
        if let Some(word) = self.words.get(at.place) {
            word.store(value, Relaxed);
        }
    }
}

/// A position in the log: the number of words ever written before it, and its place in memory. The place is
/// the count modulo the capacity until the count overflows.
#[derive(Clone, Copy)]
struct Position {
    count: usize,
    /// The index of the word in memory, below the capacity.
    place: usize,
}

impl Position {
    /// The position `words` words later; `words` is at most the capacity.
    #[inline(always)]
    const fn ahead<const WORDS: usize>(self, words: usize) -> Self {
        let left = WORDS - self.place;
        let place = if words < left { self.place + words } else { words - left };
        Position { count: self.count.wrapping_add(words), place }
    }
}

impl<const WORDS: usize> Default for LogRing<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

/// The number of words that a record of `len` bytes takes, its length included.
const fn words_of(len: usize) -> usize {
    1 + len.div_ceil(WORD)
}

/// The writing end of a log. Dropping it [closes](LogProducer::close) it.
pub struct LogProducer<'a, const WORDS: usize> {
    log: &'a LogRing<WORDS>,
    head: Position,
    tail: Position,
    records: usize,
    bytes: usize,
}

impl<const WORDS: usize> LogProducer<'_, WORDS> {
    /// Writes a record, and overwrites as many of the oldest ones as necessary. Never waits: the number of
    /// its loads and stores is at most proportional to the number of words in the log.
    ///
    /// # Errors
    ///
    /// [`RecordTooLong`] if the record is longer than [`LogRing::RECORD_MAX`]; nothing is overwritten then.
    pub fn push(&mut self, record: &[u8]) -> Result<(), RecordTooLong> {
        let limit = LogRing::<WORDS>::RECORD_MAX;
        let Ok(len) = u32::try_from(record.len()) else { return Err(RecordTooLong { limit }) };
        if record.len() > limit {
            return Err(RecordTooLong { limit });
        }
        let log = self.log;
        let words = words_of(record.len());
        let old_tail = self.tail.count;
        while self.head.count.wrapping_sub(self.tail.count) + words > WORDS {
            self.forget_oldest();
        }
        if self.tail.count != old_tail {
            log.tail_open.store(self.tail.count, Relaxed);
            fence(Release);
            log.tail_place.store(self.tail.place, Relaxed);
            log.records.store(self.records, Relaxed);
            log.bytes.store(self.bytes, Relaxed);
            log.tail_done.store(self.tail.count, Release);
        }
        log.store(self.head, len);
        let mut position = self.head;
        for chunk in record.chunks(WORD) {
            position = position.ahead::<WORDS>(1);
            let mut word = [0; WORD];
            chunk.iter().zip(&mut word).for_each(|(from, to)| *to = *from);
            log.store(position, u32::from_le_bytes(word));
        }
        self.head = self.head.ahead::<WORDS>(words);
        log.head.store(self.head.count, Release);
        Ok(())
    }

    /// Moves the tail past the oldest record.
    fn forget_oldest(&mut self) {
        // This end wrote the length: it is below `WORDS * WORD`.
        let len = self.log.load(self.tail) as usize;
        self.tail = self.tail.ahead::<WORDS>(words_of(len));
        self.records = self.records.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len);
    }

    /// Whether the consumer is closed, so that what is written is not read before the log is split again. If
    /// true, it stays true until then. If false, it may turn true at any moment.
    ///
    /// ```
    /// use overspill_core::ring::LogRing;
    ///
    /// let mut log = LogRing::<10>::new();
    /// let (producer, consumer) = log.split();
    /// assert!(!producer.is_closed());
    /// consumer.close();
    /// assert!(producer.is_closed());
    /// drop(producer);
    /// let (producer, _consumer) = log.split();
    /// assert!(!producer.is_closed());
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.log.consumer_open.load(Relaxed)
    }

    /// Ends the log: nothing more will be written. The consumer reads what is in the log, and then sees the
    /// end.
    ///
    /// Dropping the producer does the same.
    pub fn close(self) {}
}

impl<const WORDS: usize> Drop for LogProducer<'_, WORDS> {
    fn drop(&mut self) {
        self.log.producer_open.store(false, Release);
    }
}

/// The reading end of a log. Dropping it [closes](LogConsumer::close) it.
pub struct LogConsumer<'a, const WORDS: usize> {
    log: &'a LogRing<WORDS>,
    /// Position of the next record.
    next: Position,
    /// The number of records ever written before `next`: read, or reported as lost.
    records: usize,
    /// The number of bytes in those records.
    bytes: usize,
}

impl<const WORDS: usize> LogConsumer<'_, WORDS> {
    /// Moves the next record into `buf` and returns its length, or `None` if there is nothing to read at this
    /// moment: all is read, or the producer is making room right now.
    ///
    /// Never waits and never retries, so it is safe in an interrupt handler that interrupts the producer.
    ///
    /// # Errors
    ///
    /// [`PopError::Lost`] if records were overwritten since the last call, with the exact count;
    /// [`PopError::BufferTooShort`] if `buf` is shorter than the next record, which stays.
    ///
    /// Unless this returns `Ok(Some(_))`, the content of `buf` is unspecified, after `Ok(None)` too: a record
    /// that is overwritten while it is copied is discarded only after the copy.
    pub fn pop(&mut self, buf: &mut [u8]) -> Result<Option<usize>, PopError> {
        if self.next.count == self.log.head.load(Acquire) {
            return Ok(None);
        }
        let len = self.log.load(self.next) as usize;
        // The header may be overwritten meanwhile: until step 4 has shown that it is whole, it is only a
        // number.
        let fits = buf.get_mut(..len.min(LogRing::<WORDS>::RECORD_MAX));
        let too_long = fits.is_none();
        if let Some(buf) = fits {
            self.copy(buf);
        }
        fence(Acquire);
        if self.is_behind(self.log.tail_open.load(Relaxed)) {
            return self.catch_up();
        }
        if too_long {
            return Err(PopError::BufferTooShort(BufferTooShort { len }));
        }
        self.next = self.next.ahead::<WORDS>(words_of(len));
        self.records = self.records.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(len);
        Ok(Some(len))
    }

    /// Copies the words after the header, which may be being overwritten.
    fn copy(&self, buf: &mut [u8]) {
        let mut position = self.next;
        for chunk in buf.chunks_mut(WORD) {
            position = position.ahead::<WORDS>(1);
            let word = self.log.load(position).to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }

    /// Whether the next record is before the tail: overwritten, or about to be.
    fn is_behind(&self, tail: usize) -> bool {
        // Ahead of it by no more than the log holds, or else behind, by however much.
        self.next.count.wrapping_sub(tail) > WORDS
    }

    /// Moves to the oldest record in the log and reports what was lost before it.
    fn catch_up(&mut self) -> Result<Option<usize>, PopError> {
        let log = self.log;
        let tail = log.tail_done.load(Acquire);
        let place = log.tail_place.load(Relaxed);
        let records = log.records.load(Relaxed);
        let bytes = log.bytes.load(Relaxed);
        fence(Acquire);
        if log.tail_open.load(Relaxed) != tail {
            // The producer is changing the counts, and cannot go on before this call returns if
            // this is an interrupt.
            return Ok(None);
        }
        let lost =
            Lost { records: records.wrapping_sub(self.records), bytes: bytes.wrapping_sub(self.bytes) };
        (self.next, self.records, self.bytes) = (Position { count: tail, place }, records, bytes);
        Err(PopError::Lost(lost))
    }

    /// Whether the producer is closed, so that nothing follows what is in the log. If true, it stays true
    /// until the log is split again. If false, it may turn true at any moment.
    ///
    /// To detect the end, call this *first* and then read to the last record: the producer may have written
    /// between a [`pop`](Self::pop) and this call.
    ///
    /// ```
    /// use overspill_core::ring::LogRing;
    ///
    /// let mut log = LogRing::<10>::new();
    /// let (mut producer, mut consumer) = log.split();
    /// producer.push(b"the last one").unwrap();
    /// assert!(!consumer.is_closed());
    /// producer.close();
    /// assert!(consumer.is_closed());
    /// assert_eq!(consumer.pop(&mut [0; 12]), Ok(Some(12)));
    /// assert_eq!(consumer.pop(&mut [0; 12]), Ok(None)); // and never more
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        !self.log.producer_open.load(Acquire)
    }

    /// Ends reading: the producer sees that nothing more will be read.
    ///
    /// Dropping the consumer does the same.
    pub fn close(self) {}
}

impl<const WORDS: usize> Drop for LogConsumer<'_, WORDS> {
    fn drop(&mut self) {
        let read = &self.log.read;
        read.count.store(self.next.count, Relaxed);
        read.place.store(self.next.place, Relaxed);
        read.records.store(self.records, Relaxed);
        read.bytes.store(self.bytes, Relaxed);
        // Release: for the next consumer.
        self.log.consumer_open.store(false, Release);
    }
}

/// Implements `Debug` and `defmt::Format`, which show how many words the log has.
macro_rules! debug_log {
    ($($name:ident $(<$lifetime:lifetime>)?),+) => {$(
        impl<const WORDS: usize> fmt::Debug for $name<$($lifetime,)? WORDS> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("words", &WORDS).finish_non_exhaustive()
            }
        }

        #[cfg(feature = "defmt")]
        impl<const WORDS: usize> defmt::Format for $name<$($lifetime,)? WORDS> {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str} {{ words: {=usize} }}", stringify!($name), WORDS);
            }
        }
    )+};
}

debug_log!(LogRing, LogProducer<'_>, LogConsumer<'_>);

#[cfg(all(test, not(overspill_loom)))]
mod tests {
    use super::*;

    /// A consumer behind by more than half of what a count can be was taken for one ahead: it read whatever
    /// lay at its place. On 32 bits that are 8 GiB of records which nobody has read, and on 16 bits 128 KiB.
    #[test]
    fn a_log_that_was_not_read_for_half_of_all_counts_says_what_is_lost() {
        let mut log = LogRing::<8>::new();
        let far = usize::MAX / 2 + 16;
        for count in [&log.head, &log.tail_open, &log.tail_done] {
            count.store(far, Relaxed);
        }
        log.records.store(5, Relaxed);
        log.bytes.store(20, Relaxed);
        let (mut producer, mut consumer) = log.split();
        let mut record = [0; 8];
        let lost = Err(PopError::Lost(Lost { records: 5, bytes: 20 }));
        assert_eq!(consumer.pop(&mut record), lost);
        assert_eq!(consumer.pop(&mut record), Ok(None));
        producer.push(b"next").unwrap();
        assert_eq!((consumer.pop(&mut record), &record[..4]), (Ok(Some(4)), &b"next"[..]));
    }
}
