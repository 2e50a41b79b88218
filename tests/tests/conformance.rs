//! Does every type keep what std's traits promise? std's own types first: if a checker rejects
//! one of those, the checker is wrong.

use embedded_io_adapters::std::ToStd;
use overspill::{MemoryStore, SpillBuffer, SpillPool};
use overspill_core::{AllocError, Cursor, Fixed, Medium};
use overspill_tests::conformance::{Broken, ROOM, as_on_unix, buf_read, medium, read, seek, write};
use overspill_tests::faulty::{Faults, Faulty};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

/// std's file, with Unix's kinds of errors.
struct StdFile(File);

impl Read for StdFile {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
        self.0.read_vectored(bufs)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        self.0.read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        self.0.read_to_string(buf)
    }
}

impl Write for StdFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for StdFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to).map_err(as_on_unix)
    }
}

fn file(content: &[u8]) -> StdFile {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    StdFile(file)
}

fn content_of(file: &mut (impl Read + Seek)) -> Vec<u8> {
    let mut all = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut all).unwrap();
    all
}

// std's own.

#[test]
fn std_cursor() -> Result<(), Broken> {
    let make = |content: &[u8]| io::Cursor::new(content.to_vec());
    read::check(make)?;
    buf_read::check(make)?;
    seek::check(make)?;
    seek::check_gaps(make)?;
    write::check(|| make(b""), |cursor| cursor.get_ref().clone())?;
    let fixed = || io::Cursor::new(vec![0; ROOM].into_boxed_slice());
    write::check_limited(fixed, |cursor| {
        let written = cursor.position().try_into().unwrap();
        cursor.get_ref()[..written].to_vec()
    })
}

#[test]
fn std_file() -> Result<(), Broken> {
    read::check(file)?;
    seek::check(file)?;
    seek::check_gaps(file)?;
    write::check(|| file(b""), content_of)
}

#[test]
fn std_buffered() -> Result<(), Broken> {
    let make = |content: &[u8]| BufReader::with_capacity(16, file(content));
    read::check(make)?;
    buf_read::check(make)?;
    seek::check(make)?;
    write::check(|| BufWriter::with_capacity(16, file(b"")), |writer| content_of(writer.get_mut()))
}

#[test]
fn std_slice_and_vec() -> Result<(), Broken> {
    let make = |content: &[u8]| -> &'static [u8] { content.to_vec().leak() };
    read::check(make)?;
    buf_read::check(make)?;
    write::check(Vec::new, |vec| vec.clone())
}

// Ours: the core's cursor, through embedded-io.

/// `ToStd` has no `BufRead`, so this adds it.
struct ToStdBuffered<M: Medium>(ToStd<Cursor<M>>);

impl<M: Medium> Read for ToStdBuffered<M> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl<M: Medium> BufRead for ToStdBuffered<M> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let lent = embedded_io::BufRead::fill_buf(self.0.inner_mut());
        lent.map_err(|error| io::Error::other(error.to_string()))
    }

    fn consume(&mut self, n: usize) {
        embedded_io::BufRead::consume(self.0.inner_mut(), n);
    }
}

fn array(content: &[u8]) -> ToStd<Cursor<Fixed<[u8; ROOM]>>> {
    let mut memory = [0xAA; ROOM];
    memory[..content.len()].copy_from_slice(content);
    ToStd::new(Cursor::new(Fixed::with_len(memory, content.len()).unwrap()))
}

#[test]
fn core_cursor_over_an_array() -> Result<(), Broken> {
    read::check(array)?;
    buf_read::check(|content| ToStdBuffered(array(content)))?;
    seek::check(array)?;
    seek::check_gaps(array)?;
    write::check_limited(|| array(b""), |cursor| cursor.inner().get_ref().as_slice().to_vec())
}

#[test]
fn core_cursor_over_a_heapless_vec() -> Result<(), Broken> {
    let make =
        |content: &[u8]| ToStd::new(Cursor::new(heapless::Vec::<u8, ROOM>::from_slice(content).unwrap()));
    read::check(make)?;
    buf_read::check(|content| ToStdBuffered(make(content)))?;
    seek::check(make)?;
    seek::check_gaps(make)?;
    write::check_limited(|| make(b""), |cursor| cursor.inner().get_ref().to_vec())
}

#[test]
fn core_cursor_over_a_vec() -> Result<(), Broken> {
    let make = |content: &[u8]| ToStd::new(Cursor::new(content.to_vec()));
    read::check(make)?;
    buf_read::check(|content| ToStdBuffered(make(content)))?;
    seek::check(make)?;
    seek::check_gaps(make)?;
    write::check(|| make(b""), |cursor| cursor.inner().get_ref().clone())
}

// Ours: the spilling buffer, wherever its bytes are.

/// A page size and a budget for which every part of a buffer's work is met.
const POOLS: [(usize, usize); 7] =
    [(16, 0), (8, 8), (64, 200), (64, usize::MAX), (4096, 0), (4096, 4096), (4096, usize::MAX)];

fn spilling(page: usize, memory: usize) -> impl Fn(&[u8]) -> SpillBuffer {
    let builder = SpillPool::builder().page_size(page).memory(memory).store(MemoryStore::new());
    let pool = builder.build().unwrap();
    move |content| {
        let mut buffer = pool.buffer();
        buffer.write_all(content).unwrap();
        buffer.rewind().unwrap();
        buffer
    }
}

#[test]
fn spill_buffer_in_any_pool() -> Result<(), Broken> {
    for (page, memory) in POOLS {
        let make = spilling(page, memory);
        let checks = || {
            read::check(&make)?;
            buf_read::check(&make)?;
            seek::check(&make)?;
            seek::check_gaps(&make)?;
            write::check(|| make(b""), content_of)
        };
        checks().inspect_err(|_| println!("with pages of {page} bytes in {memory} bytes of memory"))?;
    }
    Ok(())
}

#[test]
fn spill_buffer_over_a_temp_file() -> Result<(), Broken> {
    let make = |content: &[u8]| {
        let mut buffer = SpillBuffer::with_budget(0);
        buffer.write_all(content).unwrap();
        buffer.rewind().unwrap();
        buffer
    };
    read::check(make)?;
    buf_read::check(make)?;
    seek::check(make)?;
    seek::check_gaps(make)?;
    write::check(|| make(b""), content_of)
}

#[test]
fn frozen_reader_in_any_pool() -> Result<(), Broken> {
    for (page, memory) in POOLS {
        let make = spilling(page, memory);
        let make = |content: &[u8]| make(content).freeze().reader();
        let within = |content: &[u8]| {
            let mut buffer = SpillBuffer::with_budget(memory);
            buffer.write_all(&[b"before", content, b"behind"].concat()).unwrap();
            buffer.freeze().slice(6..6 + content.len() as u64).reader()
        };
        read::check(make)?;
        buf_read::check(make)?;
        seek::check(make)?;
        read::check(within)?;
        buf_read::check(within)?;
        seek::check(within)?;
    }
    Ok(())
}

// What lies below the cursor.

#[test]
fn every_medium() -> Result<(), Broken> {
    medium::check(|| Fixed::new([0xAA; medium::ROOM]))?;
    medium::check(|| Fixed::new(vec![0xAA; medium::ROOM].leak()))?;
    medium::check(heapless::Vec::<u8, { medium::ROOM }>::new)?;
    medium::check(|| Box::leak(Box::new(heapless::Vec::<u8, { medium::ROOM }>::new())).as_mut_view())?;
    medium::check(Vec::new)?;
    medium::check(|| -> Box<dyn Medium<Error = AllocError>> { Box::new(Vec::new()) })?;
    medium::check(|| Faulty::new(Vec::new(), Faults::Never))
}

/// What can be read through a shared reference, and only so.
#[test]
fn every_shared_medium() -> Result<(), Broken> {
    fn lent<T>(value: T) -> &'static T {
        Box::leak(Box::new(value))
    }
    let heapless = |content: &[u8]| lent(heapless::Vec::<u8, { medium::ROOM }>::from_slice(content).unwrap());
    medium::check_reading(|content| lent(Fixed::filled(content.to_vec())))?;
    medium::check_reading(heapless)?;
    medium::check_reading(|content| heapless(content).as_view())?;
    medium::check_reading(|content| lent(content.to_vec()))?;
    medium::check_reading(|content| -> &'static [u8] { content.to_vec().leak() })
}
