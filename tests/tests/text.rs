//! Bytes that are no UTF-8, where text is read and an error of another kind comes into the middle.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{MemoryStore, SpillBuffer, SpillPool, SpoolReader, SpoolWriter};
use std::io::{self, BufRead, ErrorKind, Read, Seek, Write};
use std::time::Duration;

const PAGE: usize = 4096;

/// A spool that has `bytes`, whose reader never waits.
fn spool(bytes: &[u8]) -> (SpoolWriter, SpoolReader) {
    let (mut writer, mut reader) = SpillPool::builder().memory(1 << 20).build().unwrap().spool();
    reader.set_timeout(Some(Duration::ZERO));
    writer.write_all(bytes).unwrap();
    (writer, reader)
}

/// A buffer that is all in a store, and stands at its beginning.
fn spilled(bytes: &[u8]) -> (SpillBuffer, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    for page in bytes.chunks(PAGE) {
        buffer.write_all(page).unwrap();
    }
    buffer.rewind().unwrap();
    (buffer, faults)
}

fn kind(read: io::Result<usize>) -> Result<usize, ErrorKind> {
    read.map_err(|error| error.kind())
}

/// Of bytes that are no text the reader had passed some when its writer paused. The call returned the
/// timeout, and the next one what came behind, as if it were all.
#[test]
fn a_spool_reader_goes_back_to_the_beginning_of_what_is_no_text() {
    let (mut writer, mut reader) = spool(b"hello \xff wor");
    let mut read = String::from("before ");
    for _ in 0..3 {
        assert_eq!(kind(reader.read_to_string(&mut read)), Err(ErrorKind::TimedOut));
        assert_eq!((read.as_str(), reader.position()), ("before ", 0));
    }
    writer.write_all(b"ld").unwrap();
    writer.finish().unwrap();
    assert_eq!(kind(reader.read_to_string(&mut read)), Err(ErrorKind::InvalidData));
    assert_eq!((read.as_str(), reader.position()), ("before ", 13), "as std's");
    reader.rewind().unwrap();
    reader.read_exact(&mut [0; 13]).unwrap();
}

/// So did its `read_line`: a line of which a character was broken came without that, and no error said so.
#[test]
fn a_spool_reader_goes_back_to_the_beginning_of_a_line_that_is_no_text() {
    let (mut writer, mut reader) = spool(b"ab\xE2");
    let mut line = String::new();
    assert_eq!(kind(reader.read_line(&mut line)), Err(ErrorKind::TimedOut));
    assert_eq!((line.as_str(), reader.position()), ("ab", 2));
    writer.write_all(b"X").unwrap();
    assert_eq!(kind(reader.read_line(&mut line)), Err(ErrorKind::TimedOut));
    assert_eq!((line.as_str(), reader.position()), ("ab", 2));
    writer.write_all(b"cd\nnext\n").unwrap();
    assert_eq!(kind(reader.read_line(&mut line)), Err(ErrorKind::InvalidData));
    assert_eq!((line.as_str(), reader.position()), ("ab", 7), "as std's");
    line.clear();
    assert_eq!((kind(reader.read_line(&mut line)), line.as_str()), (Ok(5), "next\n"));
}

/// A reader that reads once cannot go back. It says at once that what it has passed is no text.
#[test]
fn a_reader_that_reads_once_says_what_it_has_passed() {
    type ReadText = fn(&mut SpoolReader, &mut String) -> io::Result<usize>;
    let ways: [ReadText; 2] =
        [|reader, text| reader.read_to_string(text), |reader, text| reader.read_line(text)];
    for read_text in ways {
        let (mut writer, reader) = spool(b"hello \xff wor");
        let (mut reader, mut read) = (reader.once(), String::from("before "));
        assert_eq!(kind(read_text(&mut reader, &mut read)), Err(ErrorKind::InvalidData));
        assert_eq!((read.as_str(), reader.position()), ("before ", 11));
        assert_eq!(kind(read_text(&mut reader, &mut read)), Err(ErrorKind::TimedOut), "nothing is passed");
        writer.write_all(b"ld\n").unwrap();
        writer.finish().unwrap();
        assert_eq!((kind(read_text(&mut reader, &mut read)), read.as_str()), (Ok(3), "before ld\n"));
    }
}

/// A store that failed behind what is no text had its own error returned, and the next call read on behind.
#[test]
fn a_store_that_fails_hides_nothing_that_is_no_text() {
    let mut bytes = vec![b'a'; 600_000];
    bytes[3] = 0xff;
    let mut buffers_failed = 0;
    for nth in 0..10 {
        let (mut buffer, faults) = spilled(&bytes);
        faults.set(Fault::once(nth, Failure::io()).on(Call::Read));
        let mut read = String::from("before ");
        let failed = kind(buffer.read_to_string(&mut read)).unwrap_err();
        let is_met = faults.failed() > 0;
        buffers_failed += u32::from(is_met);
        assert_eq!((failed == ErrorKind::InvalidData, read.as_str()), (!is_met, "before "), "read {nth}");
        assert_eq!(buffer.position(), if is_met { 0 } else { 600_000 }, "read {nth}");
        buffer.rewind().unwrap();
        faults.lift();
        assert_eq!(kind(buffer.read_to_string(&mut read)), Err(ErrorKind::InvalidData));

        let mut reader = buffer.freeze().reader();
        faults.set(Fault::once(nth, Failure::io()).on(Call::Read));
        let failed = kind(reader.read_to_string(&mut read)).unwrap_err();
        assert_ne!((failed, faults.failed()), (ErrorKind::InvalidData, 0), "read {nth}");
        assert_eq!((read.as_str(), reader.position()), ("before ", 0), "read {nth}");
        faults.lift();
        assert_eq!(kind(reader.read_to_string(&mut read)), Err(ErrorKind::InvalidData));
    }
    assert!(buffers_failed > 1, "behind what is no text");
}
