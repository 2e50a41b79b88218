//! What the driver drives: the trait that a subject implements, and the target of its copies.

use crate::ops::Refusal;
use std::io::{self, SeekFrom};

/// Something like a file that can be compared with the [`Model`](crate::model::Model).
///
/// A default defines an operation in terms of the others. A type that has its own version of the operation
/// overrides the default, so that its own version is tested.
pub trait Subject {
    /// As `std::io::Write::write`; `Ok(0)` for at least one byte is never right.
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal>;

    /// As `std::io::Read::read`.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal>;

    /// As `std::io::BufRead::fill_buf`.
    fn fill_buf(&mut self) -> Result<&[u8], Refusal>;

    /// As `std::io::BufRead::consume`.
    fn consume(&mut self, n: usize);

    /// As `std::io::Seek::seek`.
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal>;

    /// Cuts the content, or adds zeros. The position stays.
    fn set_len(&mut self, len: u64) -> Result<(), Refusal>;

    /// Where the next read or write starts.
    fn position(&self) -> u64;

    /// The number of bytes.
    fn len(&self) -> u64;

    /// Whether the length is 0.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As `std::io::Write::write_all`.
    fn write_all(&mut self, mut data: &[u8]) -> Result<(), Refusal> {
        while !data.is_empty() {
            match self.write(data)? {
                0 => return Err(Refusal::Failed("write returned Ok(0)".into())),
                n => data = &data[n..],
            }
        }
        Ok(())
    }

    /// As `SpillBuffer::push`.
    fn push(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.write_all(data)
    }

    /// As `std::io::Write::write_vectored`.
    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        self.write(&slices.concat())
    }

    /// As `std::io::Read::read_exact`.
    fn read_exact(&mut self, mut buf: &mut [u8]) -> Result<(), Refusal> {
        while !buf.is_empty() {
            match self.read(buf)? {
                0 => return Err(Refusal::EndOfFile),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    /// As `std::io::Read::read_vectored`.
    fn read_vectored(&mut self, slices: [&mut [u8]; 3]) -> Result<usize, Refusal> {
        let mut total = 0;
        for slice in slices {
            let n = self.read(slice)?;
            total += n;
            if n < slice.len() {
                break;
            }
        }
        Ok(total)
    }

    /// As `std::io::Read::read_to_end`, into a new vector.
    fn read_to_end(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        loop {
            let lent = self.fill_buf()?;
            let n = lent.len();
            if n == 0 {
                return Ok(all);
            }
            all.extend_from_slice(lent);
            self.consume(n);
        }
    }

    /// Moves the position to `position`.
    fn set_position(&mut self, position: u64) -> Result<(), Refusal> {
        self.seek(SeekFrom::Start(position)).map(drop)
    }

    /// Cuts or extends the content to the position.
    fn truncate(&mut self) -> Result<(), Refusal> {
        self.set_len(self.position())
    }

    /// Drops the content and rewinds.
    fn clear(&mut self) -> Result<(), Refusal> {
        self.set_len(0)?;
        self.set_position(0)
    }

    /// As `std::io::Write::flush`.
    fn flush(&mut self) -> Result<(), Refusal>;

    /// Moves everything to the disk, where there is one.
    fn spill(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Drops what it is and becomes a fresh one of its kind.
    fn renew(&mut self) -> Result<(), Refusal> {
        self.clear()
    }

    /// As `SpillBuffer::read_at`. The position stays.
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<usize, Refusal> {
        let position = self.position();
        self.set_position(offset)?;
        let read = self.read(buf);
        self.set_position(position)?;
        read
    }

    /// As `SpillBuffer::write_at`. The position stays.
    fn write_at(&mut self, data: &[u8], offset: u64) -> Result<usize, Refusal> {
        let position = self.position();
        self.set_position(offset)?;
        let taken = self.write(data);
        self.set_position(position)?;
        taken
    }

    /// As `SpillBuffer::to_vec`. The position stays.
    fn to_vec(&mut self) -> Result<Vec<u8>, Refusal> {
        let position = self.position();
        self.set_position(0)?;
        let all = self.read_to_end();
        self.set_position(position)?;
        all
    }

    /// As `SpillBuffer::copy_to`: the position moves by what `target` has taken.
    fn copy_to(&mut self, target: &mut Target) -> Result<u64, Refusal> {
        let mut copied = 0;
        loop {
            let lent = self.fill_buf()?;
            if lent.is_empty() {
                return Ok(copied);
            }
            let taken = target.take(lent);
            if taken == 0 {
                return Err(Refusal::TargetFull);
            }
            self.consume(taken);
            copied += taken as u64;
        }
    }

    /// Checks what must hold between any two calls, and panics where it does not.
    fn check_invariants(&mut self) {}

    /// All bytes, read while nothing fails. The position stays.
    fn content(&mut self) -> Result<Vec<u8>, Refusal> {
        self.to_vec()
    }
}

/// Where `copy_to` copies to: takes a few bytes a call, and none once it has `room`.
#[derive(Debug)]
pub struct Target {
    pub(super) taken: Vec<u8>,
    room: usize,
}

impl Target {
    /// Has taken nothing yet.
    pub fn new(room: usize) -> Self {
        Target { taken: Vec::new(), room }
    }

    /// Takes up to 37 bytes of `data`, as many as there is room for, and returns how many.
    pub fn take(&mut self, data: &[u8]) -> usize {
        // Prime, so that calls and pages end in different places.
        const AT_ONCE: usize = 37;
        let taken = data.len().min(AT_ONCE).min(self.room - self.taken.len());
        self.taken.extend_from_slice(&data[..taken]);
        taken
    }
}

impl io::Write for Target {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(self.take(data))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
