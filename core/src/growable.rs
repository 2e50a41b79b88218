//! Vectors: heapless ones, which cannot grow past `N`, and `alloc`'s, which can.

use crate::medium::{CapacityError, Medium, as_u64, copy, tail, tail_mut};
use heapless::vec::{VecInner, VecStorage};

/// `heapless::Vec<u8, N>`, and its capacity-erased view `VecView<u8>`, which a cursor borrows.
///
/// ```
/// use overspill_core::Cursor;
///
/// fn log(file: &mut Cursor<&mut heapless::VecView<u8>>) {
///     file.write(b"any capacity").unwrap();
/// }
/// let mut memory = heapless::Vec::<u8, 32>::new();
/// log(&mut Cursor::new(memory.as_mut_view()));
/// assert_eq!(memory, b"any capacity");
/// ```
impl<LenT: heapless::LenType, S: VecStorage<u8> + ?Sized> Medium for VecInner<u8, LenT, S> {
    type Error = CapacityError;

    #[inline]
    fn len(&self) -> u64 {
        as_u64(self.as_slice().len())
    }

    #[inline]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, CapacityError> {
        Ok(copy(tail(self.as_slice(), offset), buf))
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, CapacityError> {
        if offset > Medium::len(self) {
            return Ok(0);
        }
        let over = copy(data, tail_mut(self.as_mut_slice(), offset));
        let rest = data.get(over..).unwrap_or_default();
        let fits = rest.len().min(self.capacity().saturating_sub(self.as_slice().len()));
        let appended = rest.get(..fits).unwrap_or_default();
        match self.extend_from_slice(appended) {
            Ok(()) => Ok(over.saturating_add(fits)),
            Err(_) => Ok(over),
        }
    }

    #[inline]
    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], CapacityError> {
        Ok(tail(self.as_slice(), offset))
    }

    fn set_len(&mut self, len: u64) -> Result<(), CapacityError> {
        let refused = CapacityError { asked: len, capacity: as_u64(self.capacity()) };
        let new = usize::try_from(len).map_err(|_| refused)?;
        self.resize(new, 0).map_err(|_| refused)
    }
}

/// The allocator refused. Nothing was changed.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AllocError {
    /// The length that was asked for, in bytes.
    pub asked: u64,
}

#[cfg(feature = "alloc")]
impl core::fmt::Display for AllocError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "no memory for a length of {} bytes", self.asked)
    }
}

#[cfg(feature = "alloc")]
impl core::error::Error for AllocError {}

#[cfg(feature = "alloc")]
impl embedded_io::Error for AllocError {
    fn kind(&self) -> embedded_io::ErrorKind {
        embedded_io::ErrorKind::OutOfMemory
    }
}

/// `Vec<u8>` grows as it is written, by doubling; an allocation that fails is an error, not an abort.
#[cfg(feature = "alloc")]
impl Medium for alloc::vec::Vec<u8> {
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
