//! The errors of rings, of records and of logs. Each says what would have worked.
//!
//! Held by: `core/tests/ring_handles.rs`, `core/tests/ring_field_bugs.rs`.

use core::fmt;

/// The requested bytes were not granted: they never can be, or cannot be now. There is no third case, so a
/// `match` needs no other arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GrantError {
    /// The request can never fit, however long the caller waits.
    #[non_exhaustive]
    TooLarge {
        /// The largest request that can be granted, in bytes.
        limit: usize,
    },
    /// The request does not fit now. It will fit once the other end has read or written enough; for bytes in
    /// one piece, the consumer may have to read everything (see
    /// [`Producer::grant_contiguous`](super::Producer::grant_contiguous)).
    #[non_exhaustive]
    NotNow {
        /// The largest request that would have been granted now, in bytes.
        available: usize,
    },
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantError::TooLarge { limit } => write!(f, "more than the {limit} bytes that can ever fit"),
            GrantError::NotNow { available } => write!(f, "only {available} bytes are available now"),
        }
    }
}

impl core::error::Error for GrantError {}

/// Checks that `count` bytes fit into the `available` ones; otherwise says whether they ever can.
#[inline]
pub(crate) fn fits(count: usize, limit: usize, available: usize) -> Result<(), GrantError> {
    if count <= available {
        Ok(())
    } else if count > limit {
        Err(GrantError::TooLarge { limit })
    } else {
        Err(GrantError::NotNow { available })
    }
}

/// The ring is full: the byte was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full(
    /// The byte that was not written.
    pub u8,
);

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring is full")
    }
}

impl core::error::Error for Full {}

/// A buffer is too short for the next record, which is still in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct BufferTooShort {
    /// The length of the record, in bytes: a buffer of this length is long enough.
    pub len: usize,
}

impl fmt::Display for BufferTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the next record has {} bytes", self.len)
    }
}

impl core::error::Error for BufferTooShort {}

/// The record is longer than the log can ever hold. Nothing was overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct RecordTooLong {
    /// The length of the longest record that the log can hold, in bytes.
    pub limit: usize,
}

impl fmt::Display for RecordTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log takes records of up to {} bytes", self.limit)
    }
}

impl core::error::Error for RecordTooLong {}

/// How much was overwritten before the consumer read it.
///
/// The counts are of type `usize`: modulo 2^32 on 32-bit machines, and modulo 2^16 on 16-bit ones. So on
/// those, the consumer must call `pop` before 2^32 words (16 GiB), or 2^16 words (256 KiB), less the words of
/// the log itself, have been written since it last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Lost {
    /// The number of records.
    pub records: usize,
    /// The number of bytes in those records, without their lengths.
    pub bytes: usize,
}

/// No record was popped, although the log holds some. There is no third reason, so a `match` needs no other
/// arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PopError {
    /// Records before the next one were overwritten. This is reported once; the next call continues after
    /// them.
    Lost(Lost),
    /// The buffer is too short for the next record, which is still in the log.
    BufferTooShort(BufferTooShort),
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PopError::Lost(lost) => {
                write!(f, "{} records were overwritten, {} bytes in all", lost.records, lost.bytes)
            }
            PopError::BufferTooShort(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PopError {}

/// The consumer is closed and the ring is full: nothing more can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the consumer is closed")
    }
}

impl core::error::Error for Closed {}

impl embedded_io::Error for Closed {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::BrokenPipe
    }
}
