//! What the calls of rings, records and logs refuse, and why.

use core::fmt;

/// Why there is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum GrantError {
    /// It can never fit, however long one waits.
    #[non_exhaustive]
    TooLarge {
        /// The most bytes that can ever be granted.
        limit: usize,
    },
    /// It does not fit now, but will once the other end has moved on.
    #[non_exhaustive]
    NotNow {
        /// Bytes that would have been granted.
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

/// Whether `count` fits into what is `available` now, or will ever fit.
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

/// A byte that was not taken because the ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Full(
    /// The byte.
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
    /// Length of the record, in bytes: a buffer of that length takes it.
    pub len: usize,
}

impl fmt::Display for BufferTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the next record has {} bytes", self.len)
    }
}

impl core::error::Error for BufferTooShort {}

/// A record that is longer than the log can ever hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct RecordTooLong {
    /// Length in bytes of the longest record.
    pub limit: usize,
}

impl fmt::Display for RecordTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log takes records of up to {} bytes", self.limit)
    }
}

impl core::error::Error for RecordTooLong {}

/// What was overwritten before it was read.
///
/// Counted modulo 2^32 on 32-bit machines, where the consumer must look at least once in 2^31 words (8 GiB) of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Lost {
    /// Records.
    pub records: usize,
    /// Bytes of those records.
    pub bytes: usize,
}

/// Why no record was popped, although there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PopError {
    /// Records before the next one are gone. Said once; the next call goes on behind them.
    Lost(Lost),
    /// The buffer is too short for the next record, which is still in the log.
    BufferTooShort(BufferTooShort),
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PopError::Lost(lost) => {
                write!(f, "{} records of {} bytes were overwritten", lost.records, lost.bytes)
            }
            PopError::BufferTooShort(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for PopError {}

/// The consumer is closed and the ring is full: nothing more can ever be written.
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
