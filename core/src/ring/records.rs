//! Records (packets) that are written whole and read whole, or not at all.
//!
//! A record is its length (LEB128: seven bits to a byte, the lowest first) followed by its bytes. One store
//! of the write index publishes both, so the consumer never sees a part of a record.
//!
//! Held by: the tests below, `core/tests/ring_handles.rs`, `core/tests/ring_jump.rs`,
//! `core/tests/ring_threads.rs`, `core/tests/loom_ring.rs` (`records_split_against_close`),
//! `tests/tests/ring_model.rs`.

use core::fmt;

use super::any_ring::{AnyRing, high_water};
use super::errors::{BufferTooShort, GrantError};
use super::layout::{KeepsHighWater, Layout};
use super::raw::ends;
use super::raw::read_end::ReadEnd;
use super::raw::write_end::WriteEnd;
use super::ring::{Ring, SliceRing};
use crate::sync::const_fn;

/// A ring of records. It is a type of its own, so that no bytes are written between the records.
///
/// Besides its bytes, a record takes room for its length: one byte if the record has up to 127 bytes, two if
/// it has up to 16,383, and so on by seven bits (LEB128). For a record that is
/// [granted](RecordProducer::grant), this is the room that the length of the grant needs, however few bytes
/// are committed.
///
/// ```
/// use overspill_core::ring::{RecordRing, Ring};
///
/// let mut ring = RecordRing::<Ring<16>>::new();
/// let (mut producer, mut consumer) = ring.split();
/// producer.push(b"hello").unwrap();
/// producer.push(b"").unwrap();
/// assert!(producer.push(b"a long record").is_err()); // refused whole
///
/// let mut buf = [0; 16];
/// assert_eq!(consumer.pop(&mut buf), Ok(Some(5)));
/// assert_eq!(consumer.pop(&mut buf), Ok(Some(0)));
/// assert_eq!(consumer.pop(&mut buf), Ok(None));
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RecordRing<R: AnyRing> {
    ring: R,
}

impl<const N: usize, L: Layout> RecordRing<Ring<N, L>> {
    const_fn! {
        /// An empty ring of `N` bytes, which hold the records and their lengths.
        #[must_use]
        pub fn new() -> Self {
            RecordRing { ring: Ring::new() }
        }
    }
}

impl<const N: usize, L: Layout> Default for RecordRing<Ring<N, L>> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'m, L: Layout> RecordRing<SliceRing<'m, L>> {
    const_fn! {
        /// An empty ring in `memory`, which holds the records and their lengths.
        #[must_use]
        pub fn over(memory: &'m mut [u8]) -> Self {
            RecordRing { ring: SliceRing::new(memory) }
        }
    }
}

impl<R: AnyRing> RecordRing<R> {
    /// The most bytes that were ever in the ring at once, lengths of records included, for a caller that owns
    /// neither end. See [`HighWater`](super::HighWater).
    #[must_use]
    pub fn high_water(&self) -> usize
    where
        R::Layout: KeepsHighWater,
    {
        high_water(&self.ring)
    }

    /// Splits the ring into its two ends, for as long as it is borrowed, as [`Ring::split`] does.
    pub fn split(&mut self) -> (RecordProducer<'_, R>, RecordConsumer<'_, R>) {
        let (write, read) = ends::split(&mut self.ring);
        (RecordProducer { end: write }, RecordConsumer { end: read })
    }

    /// Splits a shared ring into its two ends, or returns `None` if it is split already, as
    /// [`Ring::try_split`] does.
    #[cfg(any(target_has_atomic = "8", feature = "portable-atomic", overspill_loom))]
    pub fn try_split(&self) -> Option<(RecordProducer<'_, R>, RecordConsumer<'_, R>)> {
        let (write, read) = ends::try_split(&self.ring)?;
        Some((RecordProducer { end: write }, RecordConsumer { end: read }))
    }
}

/// The longest header in bytes: a `usize`, seven bits to a byte.
const HEADER_MAX: usize = usize::BITS.div_ceil(7) as usize;

/// The number of bytes that a record's length takes.
pub(crate) fn header_len(len: usize) -> usize {
    let bits = usize::BITS - len.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// The length of the longest record that `capacity` bytes can hold, or `None` if not even an empty one fits.
fn largest(capacity: usize) -> Option<usize> {
    let without = capacity.checked_sub(1)?;
    // The header of the result is no longer than that of `without`; it may be one shorter at a power of 128.
    (1..=header_len(without)).find_map(|header| {
        let len = capacity.checked_sub(header)?;
        (header_len(len) <= header).then_some(len)
    })
}

/// Encodes `len` into all of `header`, padded with zeros if `header` is longer than necessary.
fn encode(header: &mut [u8], len: usize) {
    let count = header.len();
    for (i, byte) in header.iter_mut().enumerate() {
        let more = if i + 1 < count { 0x80 } else { 0 };
        // A shift by more than the bits of a usize leaves zero.
        let shift = u32::try_from(7 * i).unwrap_or(u32::MAX);
        let [low, ..] = len.checked_shr(shift).unwrap_or(0).to_le_bytes();
        *byte = low & 0x7f | more;
    }
}

/// The writing end of a [`RecordRing`].
pub struct RecordProducer<'a, R: AnyRing> {
    pub(crate) end: WriteEnd<'a, R>,
}

impl<'a, R: AnyRing> RecordProducer<'a, R> {
    /// Writes one record.
    ///
    /// # Errors
    ///
    /// [`GrantError::TooLarge`] if the record can never fit, with the length of the longest record that can;
    /// [`GrantError::NotNow`] if there is too little room at the moment, with the length of the longest
    /// record that fits now. That length is also 0 if not even an empty record fits.
    pub fn push(&mut self, record: &[u8]) -> Result<(), GrantError> {
        let mut grant = self.grant(record.len())?;
        grant.end.write_at(grant.header, record);
        grant.finish(record.len());
        Ok(())
    }

    /// Grants room for a record of up to `len` bytes, to be filled in place. An empty ring grants it in one
    /// piece, wherever the last write ended, and the record then lies in one piece. In a ring that holds
    /// records, room that wraps is in two pieces.
    ///
    /// # Errors
    ///
    /// Those of [`push`](Self::push).
    pub fn grant(&mut self, len: usize) -> Result<RecordGrant<'_, 'a, R>, GrantError> {
        let header = header_len(len);
        let need = len.saturating_add(header);
        let room = self.end.free_bytes(need);
        if need <= room {
            if self.end.free_before_wrap() < need {
                self.end.jump_if_empty();
            }
            return Ok(RecordGrant { end: &mut self.end, header, len });
        }
        // A shorter record may have a shorter header.
        Err(match largest(self.capacity()) {
            Some(limit) if len <= limit => GrantError::NotNow { available: largest(room).unwrap_or(0) },
            limit => GrantError::TooLarge { limit: limit.unwrap_or(0) },
        })
    }

    /// The length in bytes of the longest record that an empty ring takes.
    #[must_use]
    pub fn largest(&self) -> usize {
        largest(self.capacity()).unwrap_or(0)
    }

    fn capacity(&self) -> usize {
        self.end.ring().bytes().indices().capacity()
    }

    /// Whether the consumer is closed. If true, it stays true until the ring is split again. If false, it may
    /// turn true at any moment.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.other_closed()
    }

    /// Ends the stream: nothing more will be written. Dropping the producer does the same.
    pub fn close(self) {}

    /// The most bytes that were ever in the ring at once, lengths of records included. See
    /// [`HighWater`](super::HighWater).
    #[must_use]
    pub fn high_water(&self) -> usize
    where
        R::Layout: KeepsHighWater,
    {
        high_water(self.end.ring())
    }
}

/// Room for a record. If it is dropped without a commit, nothing changes.
#[must_use = "dropped uncommitted it changes nothing"]
pub struct RecordGrant<'g, 'a, R: AnyRing> {
    end: &'g mut WriteEnd<'a, R>,
    header: usize,
    len: usize,
}

impl<R: AnyRing> RecordGrant<'_, '_, R> {
    /// The granted bytes, in two pieces where they wrap. They hold old content.
    #[must_use]
    pub fn as_mut_slices(&mut self) -> (&mut [u8], &mut [u8]) {
        let (first, second) = self.end.free_slices(self.header + self.len);
        let in_first = self.header.min(first.len());
        let (_, rest) = first.split_at_mut_checked(in_first).unwrap_or_default();
        let (_, second) = second.split_at_mut_checked(self.header - in_first).unwrap_or_default();
        if rest.is_empty() { (second, &mut []) } else { (rest, second) }
    }

    /// The number of bytes granted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the grant has no bytes: it was requested for an empty record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Publishes the first `len` granted bytes as one record, or all of them if `len` is larger.
    pub fn commit(mut self, len: usize) {
        self.finish(len);
    }

    fn finish(&mut self, len: usize) {
        let len = len.min(self.len);
        let mut header = [0; HEADER_MAX];
        if let Some(header) = header.get_mut(..self.header) {
            encode(header, len);
            self.end.write_at(0, header);
            self.end.commit(self.header + len);
        }
    }
}

/// The reading end of a [`RecordRing`].
pub struct RecordConsumer<'a, R: AnyRing> {
    pub(crate) end: ReadEnd<'a, R>,
}

impl<'a, R: AnyRing> RecordConsumer<'a, R> {
    /// Moves the next record into `buf` and returns its length, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`BufferTooShort`], with the length of the record, which stays: read it with a longer buffer or by
    /// [`peek`](Self::peek).
    pub fn pop(&mut self, buf: &mut [u8]) -> Result<Option<usize>, BufferTooShort> {
        let Some(record) = self.peek() else { return Ok(None) };
        let len = record.len;
        let Some(buf) = buf.get_mut(..len) else { return Err(BufferTooShort { len }) };
        record.end.read_at(record.header, buf);
        record.release();
        Ok(Some(len))
    }

    /// The next record, to be read in place, or `None` if there is none. It stays in the ring until it is
    /// [released](Record::release).
    pub fn peek(&mut self) -> Option<Record<'_, 'a, R>> {
        // The write index is published at the ends of records only: if there is a byte, there is a whole
        // record.
        self.end.filled_bytes(1);
        let mut len = 0_usize;
        let mut header = 0;
        loop {
            let mut byte = [0];
            if !self.end.read_at(header, &mut byte) {
                return None;
            }
            let shift = u32::try_from(7 * header).unwrap_or(u32::MAX);
            len |= usize::from(byte[0] & 0x7f).checked_shl(shift).unwrap_or(0);
            header += 1;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        Some(Record { end: &mut self.end, header, len })
    }

    /// Whether there is no record. If true, it may turn false at any moment. If false, it stays
    /// false until you read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end.len() == 0
    }

    /// Whether the producer is closed, so that nothing follows what is in the ring. If true, it stays true
    /// until the ring is split again. If false, it may turn true at any moment. Call this before the last
    /// read, not after it: the producer may have written between the two.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.end.other_closed()
    }

    /// Ends reading: the producer sees that nothing more will be read. Dropping the consumer does the same.
    pub fn close(self) {}

    /// The most bytes that were ever in the ring at once, lengths of records included. See
    /// [`HighWater`](super::HighWater).
    #[must_use]
    pub fn high_water(&self) -> usize
    where
        R::Layout: KeepsHighWater,
    {
        high_water(self.end.ring())
    }
}

/// A record in the ring.
#[must_use = "it stays in the ring until it is released"]
pub struct Record<'g, 'a, R: AnyRing> {
    end: &'g mut ReadEnd<'a, R>,
    header: usize,
    len: usize,
}

impl<R: AnyRing> Record<'_, '_, R> {
    /// The bytes of the record, in two pieces where they wrap.
    #[must_use]
    pub fn as_slices(&self) -> (&[u8], &[u8]) {
        let (first, second) = self.end.filled_slices(self.header + self.len);
        let in_first = self.header.min(first.len());
        let (_, rest) = first.split_at_checked(in_first).unwrap_or_default();
        let (_, second) = second.split_at_checked(self.header - in_first).unwrap_or_default();
        if rest.is_empty() { (second, &[]) } else { (rest, second) }
    }

    /// The length of the record in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the record is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes the record from the ring.
    pub fn release(self) {
        self.end.release(self.header + self.len);
    }
}

/// Implements `Debug` and `defmt::Format`. They show nothing but the name: the content is the caller's.
macro_rules! debug_opaque {
    ($($name:ident<$($lifetime:lifetime),+>),+) => {$(
        impl<R: AnyRing> fmt::Debug for $name<$($lifetime,)+ R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        #[cfg(feature = "defmt")]
        impl<R: AnyRing> defmt::Format for $name<$($lifetime,)+ R> {
            fn format(&self, f: defmt::Formatter<'_>) {
                defmt::write!(f, "{=str}", stringify!($name));
            }
        }
    )+};
}

debug_opaque!(RecordProducer<'_>, RecordConsumer<'_>, RecordGrant<'_, '_>, Record<'_, '_>);

#[cfg(test)]
mod tests {
    use super::{HEADER_MAX, encode, ends, header_len, largest};
    use crate::ring::{Layout, Packed, Padded, Ring};

    /// The length of the length changes at 128 bytes and at powers of that, where an off-by-one would show.
    #[test]
    fn the_largest_record_fits_with_its_header_and_one_more_does_not() {
        assert_eq!(largest(0), None);
        for capacity in 1..40_000 {
            let len = largest(capacity).unwrap();
            assert!(header_len(len) + len <= capacity, "{capacity}");
            assert!(header_len(len + 1) + len + 1 > capacity, "{capacity}");
        }
    }

    #[test]
    fn a_longer_header_means_the_same_length() {
        for len in [0, 1, 127, 128, 16_383, 16_384, usize::MAX] {
            for width in header_len(len)..=HEADER_MAX {
                let mut header = [0; HEADER_MAX];
                encode(&mut header[..width], len);
                let decoded = header[..width]
                    .iter()
                    .enumerate()
                    .fold(0, |sum, (i, byte)| sum | (usize::from(byte & 0x7f) << (7 * i)));
                assert_eq!(decoded, len);
                assert!(header[..width - 1].iter().all(|byte| byte & 0x80 != 0));
                assert!(header[width - 1] & 0x80 == 0);
            }
        }
    }

    /// The ends refuse accesses to bytes that they do not own, which records never request.
    fn ends_keep_to_what_they_own<L: Layout>() {
        let mut ring = Ring::<8, L>::new();
        for _ in 0..10 {
            let (mut write, mut read) = ends::split(&mut ring);
            assert_eq!(write.free_bytes(8), 8);
            for (offset, len, fits) in
                [(0, 8, true), (8, 0, true), (4, 4, true), (0, 9, false), (4, 5, false), (9, 0, false)]
            {
                assert_eq!(write.write_at(offset, &[0; 9][..len]), fits, "{len} bytes at {offset}");
            }
            assert!(!write.write_at(usize::MAX, b"a"));
            assert!(write.write_at(2, b"cde") && write.write_at(0, b"ab"));
            assert_eq!((write.commit(5), read.filled_bytes(5)), (5, 5));
            for (offset, len, fits) in
                [(0, 5, true), (5, 0, true), (3, 2, true), (0, 6, false), (3, 3, false), (6, 0, false)]
            {
                let mut to = [0; 6];
                let to = &mut to[..len];
                assert_eq!(read.read_at(offset, to), fits, "{len} bytes at {offset}");
                assert!(!fits || *to == b"abcde"[offset..offset + len]);
            }
            assert!(!read.read_at(usize::MAX, &mut [0]));
            assert_eq!(read.release(9), 5, "no more than there are");
        }
    }

    #[test]
    fn ends_keep_to_what_they_own_in_either_layout() {
        ends_keep_to_what_they_own::<Packed>();
        ends_keep_to_what_they_own::<Padded>();
    }
}
