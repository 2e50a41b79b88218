//! Does each error say what was being done to what, and what would have worked? Does a chain of errors print
//! each of them once? Is no content ever printed? And what does a store do that implements only what it must?
#![allow(missing_docs)]

use overspill::{BuildError, MemoryStore, SpillBuffer, SpillError, SpillPool, Store, TempFileStore};
use overspill_core::embedded_io::Error as _;
use overspill_core::{CapacityError, Cursor, CursorError, Fixed, Medium, WriteError};
use overspill_tests::support::chain;
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Write};

#[test]
fn a_pool_that_cannot_be_built_says_what_could() {
    let refused = io::Error::from(SpillPool::builder().page_size(100).build().unwrap_err());
    let text = "a page size of 100 bytes was requested; it must be a power of two from 1 to 16777216";
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::InvalidInput, text.to_owned()));
    for fraction in [-0.1, 1.1, 1.5, f64::NAN, f64::INFINITY] {
        let refused = SpillPool::builder().memory_fraction(fraction).build().unwrap_err();
        assert!(
            matches!(&refused, BuildError::MemoryFraction { requested, .. } if *requested == fraction.to_string())
        );
        assert!(refused.to_string().ends_with("was requested; it must be between 0 and 1"), "{refused}");
    }
}

#[test]
fn a_buffer_that_was_not_persisted_is_in_the_error() {
    let mut buffer = SpillBuffer::with_budget(1 << 20);
    buffer.write_all(b"content").unwrap();
    let failed = buffer.persist("no/such/directory/file").unwrap_err();
    assert_eq!((failed.buffer().len(), failed.error().kind()), (7, ErrorKind::NotFound));
    // A chain prints each error once: the buffer's, that of the target, and the system's.
    let chain = chain(&failed);
    assert_eq!(chain.len(), 3, "{chain:?}");
    assert_eq!(chain[1], "cannot write no/such/directory/file");
    assert!(
        chain.iter().enumerate().all(|(n, line)| chain[n + 1..].iter().all(|inner| !line.contains(&**inner)))
    );
    assert_eq!(format!("{failed:#}"), chain.join(": "));
    let (error, mut buffer) = failed.into_parts();
    assert!(matches!(error, SpillError::Target { .. }));
    assert_eq!(buffer.to_vec().unwrap(), b"content");
}

/// Content that is longer than any file was an error of a conversion, "out of range integral type conversion
/// attempted", and of kind `InvalidInput`.
#[test]
fn content_that_is_longer_than_any_file_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let pool = SpillPool::default();
    for len in [1 << 63, u64::MAX] {
        for mut buffer in [pool.buffer(), pool.buffer_for(&path)] {
            buffer.set_len(len).unwrap();
            let named = buffer.persist(&path).unwrap_err();
            assert_eq!(named.error().kind(), ErrorKind::FileTooLarge);
            assert!(format!("{named:#}").contains(&format!("the content's {len} bytes")), "{named:#}");
            let unnamed = named.into_buffer().into_file().unwrap_err();
            assert_eq!(unnamed.error().kind(), ErrorKind::FileTooLarge);
            let frozen = unnamed.into_buffer().freeze();
            assert_eq!(frozen.persist(&path).unwrap_err().kind(), ErrorKind::FileTooLarge);
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// An error of a program's own, as layers above make them.
#[derive(Debug)]
struct Outer<E>(E);

impl<E: std::fmt::Debug> std::fmt::Display for Outer<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outer")
    }
}

impl<E: Error + 'static> Error for Outer<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// A walk along the sources found no error of a buffer: an `io::Error` passes over its inner one.
#[test]
fn the_error_of_a_buffer_is_found_however_deep_it_lies() {
    let refused = || {
        let pool = SpillPool::builder().memory(0).disk(0).build().unwrap();
        pool.buffer().write_all(b"x").unwrap_err()
    };
    let is_found = |error: &(dyn Error + 'static)| {
        matches!(SpillError::find(error), Some(SpillError::DiskLimit { limit: 0, .. }))
    };
    assert!(is_found(&refused()) && is_found(SpillError::of(&refused()).unwrap()));
    assert!(is_found(&Outer(refused())) && is_found(&Outer(Outer(refused()))));
    assert!(is_found(&io::Error::other(refused())));
    assert!(is_found(&Outer(io::Error::other(Outer(refused())))));
    let boxed: Box<dyn Error + Send + Sync> = Outer(refused()).into();
    assert!(is_found(&*boxed));
    let failed = SpillBuffer::new().persist("no/such/directory/file").unwrap_err();
    assert!(matches!(SpillError::find(&Outer(failed)), Some(SpillError::Target { .. })));

    for other in [io::Error::other("x"), ErrorKind::OutOfMemory.into(), io::Error::from_raw_os_error(2)] {
        assert!(SpillError::find(&Outer(other)).is_none());
    }
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
    let full: CursorError<CapacityError> = full.into();
    assert_eq!(
        (full.to_string(), full.source().is_none()),
        ("no room at position 8: 1 bytes refused".into(), true)
    );

    let alloc = Medium::set_len(&mut Vec::new(), u64::MAX).unwrap_err();
    assert_eq!(alloc.to_string(), "no memory for a length of 18446744073709551615 bytes");
}

/// A store that implements only the two methods without a default.
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
fn a_store_only_has_to_read_and_write() {
    let store = Plain(MemoryStore::new());
    assert_eq!(store.discard(0, 1).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(store.set_len(0).unwrap_err().kind(), ErrorKind::Unsupported);
    let parts = [&b""[..], b"ab", b"c"].map(IoSlice::new);
    assert_eq!(store.write_vectored_at(3, &parts).unwrap(), 2, "the first part that is not empty");
    assert_eq!(store.write_vectored_at(5, &[]).unwrap(), 0, "of no parts, nothing is written");
    let pool = SpillPool::builder().memory(0).page_size(8).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 100]).unwrap();
    drop(buffer);
    assert_eq!(pool.stats().disk_used, 0);
}

/// A store that takes nothing: `WriteZero` is what a cursor calls a full medium, whose error it replaces by
/// its own.
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

/// What the name of a directory is when a variable is not set. A temp file was made there in a worse way, and
/// the error spoke of "a temp file in ;".
#[test]
#[cfg(unix)]
fn an_empty_name_is_that_of_the_current_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut test = std::process::Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "spill_in_a_directory_that_is_gone", "--ignored"])
        .current_dir(dir.path())
        .env("OVERSPILL_DIR_TO_REMOVE", dir.path());
    let output = test.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
#[cfg(unix)]
#[ignore = "the test above runs it, in a directory that it may remove"]
fn spill_in_a_directory_that_is_gone() {
    let text = "cannot make a temp file in .; make the directory usable, or choose another";
    let Some(dir) = std::env::var_os("OVERSPILL_DIR_TO_REMOVE") else { return };
    std::fs::remove_dir(dir).unwrap();
    let pool = SpillPool::builder().memory(0).dir("").build().unwrap();
    assert_eq!(pool.buffer().write_all(b"x").unwrap_err().to_string(), text);
    assert_eq!(pool.buffer().into_file().unwrap_err().error().to_string(), text);
    let pool = SpillPool::builder().memory(0).store(TempFileStore::in_dir("")).build().unwrap();
    assert!(pool.buffer().write_all(b"x").is_err());
}

#[test]
fn nothing_prints_content() {
    let pool = SpillPool::builder().memory(1 << 20).on_event(|_| ()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(b"secret").unwrap();
    let printed = format!("{pool:?} {buffer:?}") + &format!("{:?}", buffer.writable());
    assert!(!printed.contains("secret") && !printed.contains("115, 101, 99, 114, 101, 116"), "{printed}");
    assert!(printed.ends_with("Writable { is_done: false, .. }"), "{printed}");
    assert!(printed.len() < 500, "a line of a log, not the pool's inside: {printed}");
}
