//! `heapless`'s vectors as media: they cannot grow past their capacity.
//!
//! Held by: `tests/tests/conformance.rs`, `tests/tests/cursor_model.rs`.

use crate::medium::{CapacityError, Medium, ReadMedium, as_u64, copy, read_in_one_piece, tail_mut};
use core::convert::Infallible;
use heapless::LenType;
use heapless::vec::{VecInner, VecStorage};

read_in_one_piece! {
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
    [L: LenType, S: VecStorage<u8> + ?Sized] VecInner<u8, L, S>, CapacityError, |vec| vec.as_slice()
}
read_in_one_piece! {
    /// A shared vector is read-only. Any number of cursors may read it at once, and reading it cannot fail.
    [L: LenType, S: VecStorage<u8> + ?Sized] &VecInner<u8, L, S>, Infallible, |vec| vec.as_slice()
}

impl<L: LenType, S: VecStorage<u8> + ?Sized> Medium for VecInner<u8, L, S> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, CapacityError> {
        let requested = offset.saturating_add(as_u64(data.len()));
        let refused = CapacityError { requested, capacity: as_u64(self.capacity()) };
        if offset > ReadMedium::len(self) {
            return if data.is_empty() { Ok(0) } else { Err(refused) };
        }
        let over = copy(data, tail_mut(self.as_mut_slice(), offset));
        let rest = data.get(over..).unwrap_or_default();
        let fits = rest.len().min(self.capacity().saturating_sub(self.as_slice().len()));
        let appended = rest.get(..fits).unwrap_or_default();
        let taken = match self.extend_from_slice(appended) {
            Ok(()) => over.saturating_add(fits),
            Err(_) => over,
        };
        if taken == 0 && !data.is_empty() { Err(refused) } else { Ok(taken) }
    }

    fn set_len(&mut self, len: u64) -> Result<(), CapacityError> {
        let refused = CapacityError { requested: len, capacity: as_u64(self.capacity()) };
        let new = usize::try_from(len).map_err(|_| refused)?;
        self.resize(new, 0).map_err(|_| refused)
    }
}
