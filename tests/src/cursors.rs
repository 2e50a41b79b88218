//! `Cursor` over every medium, as a [`Subject`].

use crate::driver::{Leeway, Mismatch, Pair, Subject, Watch, run};
use crate::model::Model;
use crate::ops::{Op, Refusal, Shape, pattern};
use embedded_io::{ErrorKind, ReadExactError};
use heapless::VecView;
use overspill_core::{Cursor, Fixed, Medium};
use std::io::SeekFrom;

fn refusal(error: impl embedded_io::Error) -> Refusal {
    match error.kind() {
        // A `Vec` has no capacity: it is refused by the machine's memory.
        ErrorKind::WriteZero | ErrorKind::OutOfMemory => Refusal::Full,
        ErrorKind::InvalidInput => Refusal::OutOfRange,
        _ => Refusal::Failed(error.to_string()),
    }
}

/// Through the cursor's own methods; `write_all` and `read_exact` are `embedded-io`'s.
impl<M: Medium> Subject for Cursor<M> {
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        Cursor::write(self, data).map_err(refusal)
    }

    fn write_all(&mut self, data: &[u8]) -> Result<(), Refusal> {
        embedded_io::Write::write_all(self, data).map_err(refusal)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal> {
        Cursor::read(self, buf).map_err(refusal)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), Refusal> {
        embedded_io::Read::read_exact(self, buf).map_err(|error| match error {
            ReadExactError::UnexpectedEof => Refusal::EndOfFile,
            ReadExactError::Other(error) => refusal(error),
        })
    }

    fn fill_buf(&mut self) -> Result<&[u8], Refusal> {
        Cursor::fill_buf(self).map_err(refusal)
    }

    fn consume(&mut self, n: usize) {
        Cursor::consume(self, n);
    }

    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        Cursor::seek(self, to.into()).map_err(|_| Refusal::OutOfRange)
    }

    fn set_position(&mut self, position: u64) -> Result<(), Refusal> {
        Cursor::set_position(self, position);
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        Cursor::set_len(self, len).map_err(refusal)
    }

    fn truncate(&mut self) -> Result<(), Refusal> {
        Cursor::set_len_to_position(self).map_err(refusal)
    }

    fn clear(&mut self) -> Result<(), Refusal> {
        Cursor::rewind(self);
        Cursor::set_len_to_position(self).map_err(refusal)
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        Cursor::flush(self).map_err(refusal)
    }

    fn position(&self) -> u64 {
        Cursor::position(self)
    }

    fn len(&self) -> u64 {
        Cursor::len(self)
    }

    fn is_empty(&self) -> bool {
        Cursor::is_empty(self)
    }

    fn check_invariants(&mut self) {
        assert_eq!(self.remaining(), self.len().saturating_sub(self.position()), "remaining");
        assert_eq!(self.get_ref().len(), self.len(), "the medium's own length");
    }
}

/// What lies under the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// `Fixed<[u8; N]>`.
    Array,
    /// `Fixed<&mut [u8]>`.
    Borrowed,
    /// `heapless::Vec<u8, N>`.
    HeaplessVec,
    /// `&mut heapless::VecView<u8>`.
    View,
    /// `Vec<u8>`.
    Vec,
}

impl Under {
    /// All of them.
    pub const ALL: [Under; 5] = [Under::Array, Under::Borrowed, Under::HeaplessVec, Under::View, Under::Vec];
}

/// What a run over a cursor starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorSetup {
    /// The medium.
    pub under: Under,
    /// How much it can hold, rounded up to one of [`CAPACITIES`](CursorSetup::CAPACITIES). A `Vec`
    /// ignores it.
    pub capacity: usize,
    /// How much it holds at the start, up to its capacity.
    pub held: usize,
}

impl CursorSetup {
    /// An array's capacity is part of its type, so there are only these.
    pub const CAPACITIES: [usize; 4] = [0, 1, 16, 64];

    fn run<const N: usize>(self, ops: &[Op]) -> Result<(), Mismatch> {
        let held = self.held.min(N);
        let content = pattern(0, held);
        // What lies beyond the content must never be seen.
        let mut memory = [0xAA; N];
        memory[..held].copy_from_slice(&content);
        let vec = || heapless::Vec::<u8, N>::from_slice(&content).expect("held is at most N");
        let fits = "held is at most N";
        match self.under {
            Under::Array if held == N => over(Fixed::filled(memory), &content, N as u64, ops),
            Under::Array => over(Fixed::with_len(memory, held).expect(fits), &content, N as u64, ops),
            Under::Borrowed => {
                let fixed = Fixed::with_len(&mut memory[..], held).expect(fits);
                over(fixed, &content, N as u64, ops)
            }
            Under::HeaplessVec => over(vec(), &content, N as u64, ops),
            Under::View => over::<&mut VecView<u8>>(&mut vec(), &content, N as u64, ops),
            // More than any sequence reaches, less than the extremes.
            Under::Vec => over(content.clone(), &content, 1 << 40, ops),
        }
    }
}

fn over<M: Medium>(medium: M, content: &[u8], capacity: u64, ops: &[Op]) -> Result<(), Mismatch> {
    let pair = Pair { subject: Cursor::new(medium), model: Model::new(content.to_vec(), capacity) };
    // A cursor has no window to disturb, so checking it after every operation changes nothing.
    run(&mut [pair], ops, Leeway::None, Watch::Every(1))
}

/// Does `ops` to a cursor and to the model.
///
/// # Errors
/// Where they differ.
pub fn run_cursor(setup: CursorSetup, ops: &[Op]) -> Result<(), Mismatch> {
    let ran = match setup.capacity {
        0 => setup.run::<0>(ops),
        1 => setup.run::<1>(ops),
        2..=16 => setup.run::<16>(ops),
        _ => setup.run::<64>(ops),
    };
    ran.map_err(|mismatch| Mismatch { again: format!("run_cursor({setup:?}, &ops).unwrap();"), ..mismatch })
}

/// Any bytes at all are a run: eight say which, the rest are its operations.
///
/// # Panics
/// Where cursor and model differ, with a test to paste.
pub fn drive_cursor(input: &[u8]) {
    let Some((&[under, capacity, held, page, kinds @ ..], ops)) = input.split_first_chunk::<8>() else {
        return;
    };
    let setup = CursorSetup {
        under: Under::ALL[usize::from(under) % Under::ALL.len()],
        capacity: CursorSetup::CAPACITIES[usize::from(capacity) % CursorSetup::CAPACITIES.len()],
        held: usize::from(held % 65),
    };
    let page = usize::from(page % 17).max(1);
    // A `Vec` would request 2⁶³ bytes of its allocator, at which a sanitizer's aborts. proptest tries that.
    let extremes = setup.under != Under::Vec;
    let shape = Shape { page, kinds: u32::from_le_bytes(kinds), extremes };
    if let Err(mismatch) = run_cursor(setup, &shape.decode(ops)) {
        panic!("{mismatch}");
    }
}
