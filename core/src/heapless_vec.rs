//! `heapless`'s vectors as media: they cannot grow past their capacity.

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
