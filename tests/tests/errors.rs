//! Each error says what was being done to what, and what would have worked; and comes back whole out of an `io::Error`.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultStore};
use overspill::{
    BuildError, LimitScope, MemoryStore, SpillBuffer, SpillError, SpillPool, Store, TempFileStore,
};
use overspill_core::embedded_io::Error as _;
use overspill_core::{Cursor, CursorError, Fixed, InvalidSeek, Medium, SeekFrom, WriteError};
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::time::Duration;

fn source() -> io::Error {
    io::Error::from(ErrorKind::PermissionDenied)
}

fn invalid_seek() -> InvalidSeek {
    let mut cursor = Cursor::new(Fixed::new([0; 8]));
    cursor.seek(SeekFrom::Start(5)).unwrap();
    cursor.seek(SeekFrom::Current(-6)).unwrap_err()
}

fn limit(scope: LimitScope, waited: Duration) -> SpillError {
    SpillError::DiskLimit { limit: 10, used: 9, asked: 4, scope, waited }
}

fn table() -> [(SpillError, ErrorKind, &'static str); 9] {
    let corrupted = SpillError::Corrupted { position: 1, offset: 2, len: 3 };
    [
        (
            limit(LimitScope::Pool, Duration::ZERO),
            ErrorKind::QuotaExceeded,
            "disk limit of the pool reached: 4 more bytes asked, 9 of 10 used; drop or truncate other buffers, \
             or raise the limit",
        ),
        (
            limit(LimitScope::Buffer, Duration::from_millis(1500)),
            ErrorKind::QuotaExceeded,
            "disk limit of the buffer reached (room was waited for, 1.5s in vain): 4 more bytes asked, 9 of 10 \
             used; truncate the buffer, or give the next one a higher limit",
        ),
        (
            SpillError::StoreFull { offset: 7, len: 8, source: source() },
            ErrorKind::StorageFull,
            "the store is full: cannot write 8 bytes at its offset 7: permission denied",
        ),
        (
            SpillError::Store { operation: overspill::Operation::Read, offset: 7, len: 8, source: source() },
            ErrorKind::PermissionDenied,
            "the store failed: cannot read 8 bytes at its offset 7: permission denied",
        ),
        (
            corrupted,
            ErrorKind::InvalidData,
            "3 bytes at position 1 were changed in the store, at its offset 2: they do not have their checksum; \
             overwrite or cut off all of them",
        ),
        (
            SpillError::Directory { dir: "some/where".into(), source: source() },
            ErrorKind::PermissionDenied,
            "cannot make a temp file in some/where: permission denied; make the directory usable, or choose another",
        ),
        (
            SpillError::TooLarge { position: 5, asked: 6 },
            ErrorKind::FileTooLarge,
            "cannot take 6 bytes at position 5: positions end at 18446744073709551615",
        ),
        (
            SpillError::Seek(invalid_seek()),
            ErrorKind::InvalidInput,
            "a seek by -6 from 5 leads out of 0..=18446744073709551615",
        ),
        (
            SpillError::Target { path: "some/file".into(), source: source() },
            ErrorKind::PermissionDenied,
            "cannot write some/file: permission denied",
        ),
    ]
}

#[test]
fn each_says_what_it_was_and_keeps_its_kind_and_source() {
    for (error, kind, text) in table() {
        assert_eq!((error.kind(), error.to_string()), (kind, text.to_owned()));
        assert_eq!(overspill_core::embedded_io::Error::kind(&error), kind.into());
        let has_source = text.contains("permission denied");
        assert_eq!(error.source().is_some(), has_source, "{text}");
        let passed_on = io::Error::from(error);
        assert_eq!((passed_on.kind(), passed_on.to_string()), (kind, text.to_owned()));
        let back = passed_on.downcast::<SpillError>().expect("itself within");
        assert_eq!(back.kind(), kind);
    }
}

#[test]
fn a_pool_that_cannot_be_built_says_what_could() {
    let refused = io::Error::from(SpillPool::builder().page_size(100).build().unwrap_err());
    let text = "a page size of 100 bytes was asked; it must be a power of two from 1 to 16777216";
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::InvalidInput, text.to_owned()));
    for fraction in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let refused = SpillPool::builder().memory_fraction(fraction).build().unwrap_err();
        assert_eq!(refused, BuildError::MemoryFraction { asked: fraction.to_string() });
        assert!(refused.to_string().ends_with("was asked; it must be between 0 and 1"), "{refused}");
    }
}

#[test]
fn a_buffer_that_was_not_handed_over_is_in_the_error() {
    let mut buffer = SpillBuffer::with_budget(1 << 20);
    buffer.write_all(b"content").unwrap();
    let failed = buffer.persist("no/such/directory/file").unwrap_err();
    assert_eq!(failed.buffer.len(), 7);
    assert!(failed.source().is_some_and(|source| source.is::<SpillError>()));
    let text = failed.to_string();
    let passed_on = io::Error::from(failed);
    assert_eq!((passed_on.kind(), passed_on.to_string()), (ErrorKind::NotFound, text));
}

#[test]
fn a_cursor_passes_its_mediums_error_on() {
    let below = || Fixed::new([0; 8]).set_len(9).unwrap_err();
    let said = below().to_string();
    let write = WriteError::from(below());
    assert_eq!((write.to_string(), write.source().is_none()), (said.clone(), true));
    assert_eq!(write.kind(), below().kind());
    let full = Cursor::at(Fixed::new([0; 8]), 8).write(b"x").unwrap_err();
    assert_eq!(
        (full.to_string(), full.source().is_none()),
        ("no room at position 8: 1 bytes refused".into(), true)
    );
    let cursor = CursorError::Medium(below());
    assert_eq!((cursor.to_string(), cursor.source().is_none()), (said, true));
    let full = CursorError::from(full);
    assert_eq!(
        (full.to_string(), full.source().is_none()),
        ("no room at position 8: 1 bytes refused".into(), true)
    );

    // A medium's error that has a source of its own.
    let deep = WriteError::Medium(SpillError::StoreFull { offset: 0, len: 1, source: source() });
    assert_eq!(deep.source().map(ToString::to_string), Some("permission denied".into()));
    let deep = CursorError::Medium(SpillError::StoreFull { offset: 0, len: 1, source: source() });
    assert_eq!(deep.source().map(ToString::to_string), Some("permission denied".into()));

    let alloc = Medium::set_len(&mut Vec::new(), u64::MAX).unwrap_err();
    assert_eq!(alloc.to_string(), "no memory for a length of 18446744073709551615 bytes");
}

/// A store that can only do what it must.
#[derive(Debug)]
struct Plain(MemoryStore);

impl Store for Plain {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, data)
    }
}

#[test]
fn a_store_need_not_do_more_than_read_and_write() {
    let store = Plain(MemoryStore::new());
    assert_eq!(store.free(0, 1).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(store.cut(0).unwrap_err().kind(), ErrorKind::Unsupported);
    let parts = [&b""[..], b"ab", b"c"].map(IoSlice::new);
    assert_eq!(store.write_vectored_at(3, &parts).unwrap(), 2, "the first that is not empty");
    assert_eq!(store.write_vectored_at(5, &[]).ok(), None, "nothing is taken of nothing");
    let pool = SpillPool::builder().memory(0).page_size(8).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 100]).unwrap();
    drop(buffer);
    assert_eq!(pool.stats().disk_used, 0);
}

/// A store that takes nothing: `WriteZero` is what a cursor calls a full medium, whose error it replaces by its own.
#[derive(Debug)]
struct TakesNothing;

impl Store for TakesNothing {
    fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
        Ok(0)
    }
}

#[test]
fn a_store_that_takes_nothing_is_not_taken_for_a_full_medium() {
    let pool = SpillPool::builder().memory(0).store(TakesNothing).build().unwrap();
    let refused = pool.buffer().write(b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WriteZero);
    let refused = refused.downcast::<SpillError>().expect("the store's own");
    assert!(matches!(refused, SpillError::Store { len: 1, .. }), "{refused:?}");
}

#[test]
fn a_temp_file_takes_several_parts_in_one_write() {
    let store = TempFileStore::default();
    let parts = [&b"ab"[..], b"", b"cdef"].map(IoSlice::new);
    let taken = store.write_vectored_at(10, &parts).unwrap();
    assert_eq!(taken, if cfg!(any(target_os = "linux", target_os = "android")) { 6 } else { 2 });
    let mut back = [0; 6];
    assert_eq!(store.read_at(10, &mut back[..taken]).unwrap(), taken);
    assert_eq!(back[..taken], b"abcdef"[..taken]);
}

#[test]
fn nothing_shows_content_when_it_is_printed() {
    let pool = SpillPool::builder().memory(1 << 20).on_event(|_| ()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(b"secret").unwrap();
    let printed = format!("{pool:?} {buffer:?}") + &format!("{:?}", buffer.room());
    assert!(!printed.contains("secret") && !printed.contains("115, 101, 99, 114, 101, 116"), "{printed}");
    assert!(printed.ends_with("Room { is_done: false, .. }"), "{printed}");
    assert!(printed.contains("Listener"));
}

#[test]
fn a_fault_is_as_it_was_planned() {
    let (store, faults) =
        FaultStore::new(MemoryStore::new(), Fault::once(0, Failure::full()).on(Call::Write));
    let pool = SpillPool::builder().memory(0).store(store).build().unwrap();
    let error = pool.buffer().write(b"x").unwrap_err();
    assert_eq!((error.kind(), faults.failed()), (ErrorKind::StorageFull, 1));
}
