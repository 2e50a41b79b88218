//! Does the model do what a real file does? Any sequence of operations is done to both, and compared.

use overspill_tests::conformance::as_on_unix;
use overspill_tests::driver::{Leeway, Pair, Subject, Watch, run};
use overspill_tests::ops::{Refusal, sequences};
use overspill_tests::proptest_config;
use proptest::prelude::*;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// A file, and what `fill_buf` lent last.
struct RealFile {
    file: File,
    lent: Vec<u8>,
}

fn refusal(error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::InvalidInput => Refusal::OutOfRange,
        io::ErrorKind::UnexpectedEof => Refusal::EndOfFile,
        _ => Refusal::Failed(error.to_string()),
    }
}

impl Subject for RealFile {
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        self.file.write(data).map_err(refusal)
    }

    // std's file on Windows moves the first slice alone, as the traits allow: there is no `writev` there, nor
    // `readv`. What the model says of one piece it says of three.
    #[cfg(not(unix))]
    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        self.write(&slices.concat())
    }

    #[cfg(not(unix))]
    fn read_vectored(&mut self, slices: [&mut [u8]; 3]) -> Result<usize, Refusal> {
        let mut piece = vec![0; slices.iter().map(|slice| slice.len()).sum()];
        let n = self.read(&mut piece)?;
        let mut left = &piece[..n];
        for slice in slices {
            left.read(slice).map_err(refusal)?;
        }
        Ok(n)
    }

    #[cfg(unix)]
    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        self.file.write_vectored(&slices.map(io::IoSlice::new)).map_err(refusal)
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal> {
        self.file.read(buf).map_err(refusal)
    }

    #[cfg(unix)]
    fn read_vectored(&mut self, slices: [&mut [u8]; 3]) -> Result<usize, Refusal> {
        self.file.read_vectored(&mut slices.map(io::IoSliceMut::new)).map_err(refusal)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), Refusal> {
        self.file.read_exact(buf).map_err(refusal)
    }

    fn read_to_end(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        self.file.read_to_end(&mut all).map(|_| all).map_err(refusal)
    }

    #[cfg(unix)]
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<usize, Refusal> {
        std::os::unix::fs::FileExt::read_at(&self.file, buf, offset).map_err(refusal)
    }

    #[cfg(unix)]
    fn write_at(&mut self, data: &[u8], offset: u64) -> Result<usize, Refusal> {
        std::os::unix::fs::FileExt::write_at(&self.file, data, offset).map_err(refusal)
    }

    fn fill_buf(&mut self) -> Result<&[u8], Refusal> {
        let position = self.position();
        self.lent = self.read_to_end()?;
        self.set_position(position)?;
        Ok(&self.lent)
    }

    fn consume(&mut self, n: usize) {
        self.file.seek_relative(n.try_into().unwrap()).unwrap();
    }

    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        self.file.seek(to).map_err(as_on_unix).map_err(refusal)
    }

    fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        self.file.set_len(len).map_err(refusal)
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.file.flush().map_err(refusal)
    }

    fn position(&self) -> u64 {
        (&self.file).stream_position().unwrap()
    }

    fn len(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }
}

proptest! {
    #![proptest_config(proptest_config(256))]

    /// Without the extremes: how long a file can get depends on its file system.
    #[test]
    fn the_model_is_a_file(ops in sequences(8, false, 48)) {
        let file = RealFile { file: tempfile::tempfile().unwrap(), lent: Vec::new() };
        let mut pair = [Pair::empty(file, 1 << 40)];
        run(&mut pair, &ops, Leeway::None, Watch::Every(1))
            .map_err(|mismatch| TestCaseError::fail(mismatch.to_string()))?;
    }
}
