//! `alloc`'s vector as a medium: it grows.

use crate::medium::{Medium, as_u64, copy, tail, tail_mut};
use alloc::vec::Vec;

/// The allocator refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllocError {
    /// The length that was asked for, in bytes.
    pub asked: u64,
}

impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no memory for a length of {} bytes", self.asked)
    }
}

impl core::error::Error for AllocError {}

impl embedded_io::Error for AllocError {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::OutOfMemory
    }
}

/// `Vec<u8>` grows as it is written, by doubling; an allocation that fails is an error, not an abort.
impl Medium for Vec<u8> {
    type Error = AllocError;

    #[inline]
    fn len(&self) -> u64 {
        as_u64(self.as_slice().len())
    }

    #[inline]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, AllocError> {
        Ok(copy(tail(self, offset), buf))
    }

    #[inline]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, AllocError> {
        let held = self.as_slice().len();
        if offset > as_u64(held) {
            return Ok(0);
        }
        let over = tail(self, offset).len().min(data.len());
        let rest = data.get(over..).unwrap_or_default();
        self.try_reserve(rest.len())
            .map_err(|_| AllocError { asked: as_u64(held).saturating_add(as_u64(rest.len())) })?;
        copy(data, tail_mut(self, offset));
        self.extend_from_slice(rest);
        Ok(data.len())
    }

    #[inline]
    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], AllocError> {
        Ok(tail(self, offset))
    }

    fn set_len(&mut self, len: u64) -> Result<(), AllocError> {
        let refused = AllocError { asked: len };
        let new = usize::try_from(len).map_err(|_| refused)?;
        self.try_reserve(new.saturating_sub(self.as_slice().len())).map_err(|_| refused)?;
        self.resize(new, 0);
        Ok(())
    }
}
