//! What the errors say, and what they are as errors of std's.

use super::*;
use std::error::Error;

fn source() -> io::Error {
    io::Error::from(io::ErrorKind::PermissionDenied)
}

fn limit(scope: DiskLimitScope, waited: Duration) -> SpillError {
    SpillError::DiskLimit { limit: 10, used: 9, requested: 4, scope, waited }
}

/// One error of each variant and scope, its kind, its text, and whether it has a source.
fn table() -> [(SpillError, io::ErrorKind, &'static str, bool); 10] {
    use io::ErrorKind::*;
    [
        (
            limit(DiskLimitScope::Pool, Duration::ZERO),
            QuotaExceeded,
            "disk limit of the pool reached: 4 more bytes requested, 9 of 10 used; drop or truncate other \
             buffers, or raise the limit",
            false,
        ),
        (
            limit(DiskLimitScope::Buffer, Duration::from_millis(1500)),
            QuotaExceeded,
            "disk limit of the buffer reached (no room came free in 1.5s): 4 more bytes requested, 9 of 10 \
             used; truncate the buffer, or give the next one a higher limit",
            false,
        ),
        (
            SpillError::StoreFull { offset: 7, len: 8, source: source() },
            StorageFull,
            "the store is full: cannot write 8 bytes at its offset 7",
            true,
        ),
        (
            SpillError::Store { operation: StoreOperation::Read, offset: 7, len: 8, source: source() },
            PermissionDenied,
            "the store failed: cannot read 8 bytes at its offset 7",
            true,
        ),
        (
            SpillError::Corrupted { position: 1, offset: 2, len: 3 },
            InvalidData,
            "3 bytes at position 1 were changed in the store, at its offset 2: they do not have their \
             checksum; overwrite or cut off all of them",
            false,
        ),
        (
            SpillError::Directory { dir: "some/where".into(), source: source() },
            PermissionDenied,
            "cannot make a temp file in some/where; make the directory usable, or choose another",
            true,
        ),
        (
            SpillError::TooLarge { position: 9, requested: 6, end: 8 },
            FileTooLarge,
            "cannot take 6 bytes at position 9: positions end at 8",
            false,
        ),
        (
            SpillError::InvalidSeek { from: 5, offset: -6, end: u64::MAX },
            InvalidInput,
            "a seek by -6 from 5 leads out of 0..=18446744073709551615",
            false,
        ),
        (
            SpillError::Target { path: "some/file".into(), source: source() },
            PermissionDenied,
            "cannot write some/file",
            true,
        ),
        (
            SpillError::NotDurable { path: "some/file".into(), source: source() },
            PermissionDenied,
            "some/file has the new content, but its directory could not be synced: a crash of the machine may \
             undo the name",
            true,
        ),
    ]
}

/// The same of those of a spool, and of a forked process.
fn table_of_spools_and_forks() -> [(SpillError, io::ErrorKind, &'static str, bool); 5] {
    use io::ErrorKind::*;
    [
        (
            SpillError::Forked,
            Deadlock,
            "this process was forked while another thread was using the same pool; make a pool of its own here",
            false,
        ),
        (
            SpillError::Unfinished { written: 7, reason: None },
            ConnectionAborted,
            "the writer was dropped after 7 bytes, before the end",
            false,
        ),
        (
            SpillError::Unfinished { written: 7, reason: Some("no more".to_owned()) },
            ConnectionAborted,
            "the writer failed (no more) after 7 bytes, before the end",
            false,
        ),
        (
            SpillError::NothingWritten { waited: Duration::from_millis(1500) },
            TimedOut,
            "nothing was written for 1.5s",
            false,
        ),
        (
            SpillError::Passed { position: 7, kept_from: 8 },
            InvalidInput,
            "position 7 is no longer readable: it was passed by what reads once; the content is kept from 8",
            false,
        ),
    ]
}

#[test]
fn each_error_has_its_kind_text_and_source_also_within_an_io_error() {
    for (error, kind, text, has_source) in table().into_iter().chain(table_of_spools_and_forks()) {
        assert_eq!((error.kind(), error.to_string()), (kind, text.to_owned()));
        assert_eq!(error.source().is_some(), has_source, "{text}");
        let outer = io::Error::from(error);
        assert_eq!((outer.kind(), outer.to_string()), (kind, text.to_owned()));
        let back = outer.downcast::<SpillError>().expect("the error itself is within");
        assert_eq!(back.kind(), kind);
    }
}

/// "make the directory usable, or choose another" could not help a process that has no descriptor left.
#[cfg(unix)]
#[test]
fn a_lack_of_descriptors_is_told_from_a_directory_that_cannot_be_used() {
    for lack in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE] {
        let error = SpillError::Directory { dir: "/tmp".into(), source: lack.into() };
        let text = "cannot make a temp file in /tmp; close some files, or raise the limit on open files";
        assert_eq!(error.to_string(), text);
    }
}

/// What is free may be for others. The error said then that nothing was: "10485760 of 10485760 used".
#[test]
fn room_that_is_for_earlier_waiters_is_told() {
    let text = |scope, requested| {
        SpillError::DiskLimit { limit: 10, used: 6, requested, scope, waited: Duration::ZERO }.to_string()
    };
    assert_eq!(
        text(DiskLimitScope::Pool, 4),
        "disk limit of the pool reached: 4 more bytes requested, 6 of 10 used, and what is free is for \
         earlier waiters; drop or truncate other buffers, or raise the limit"
    );
    assert!(!text(DiskLimitScope::Pool, 5).contains("waiters"));
    assert!(!text(DiskLimitScope::Buffer, 4).contains("waiters"));
}

/// "0 of 0 used; drop or truncate other buffers" is no advice for a pool without a disk, nor "cannot write :
/// No such file" for an empty path.
#[test]
fn what_is_not_there_is_named() {
    let without = |scope, waited| {
        SpillError::DiskLimit { limit: 0, used: 0, requested: 4096, scope, waited }.to_string()
    };
    assert_eq!(
        without(DiskLimitScope::Pool, Duration::ZERO),
        "the pool may use no disk: 4096 bytes found no room in memory; free memory of the pool, or raise a limit"
    );
    assert_eq!(
        without(DiskLimitScope::Buffer, Duration::from_secs(1)),
        "the buffer may use no disk (no room came free in 1.0s): 4096 bytes found no room in memory; free \
         memory of the buffer or of the pool, or raise a limit"
    );
    let nameless = SpillError::Target { path: PathBuf::new(), source: source() };
    assert_eq!(nameless.to_string(), "cannot write a file whose path is empty");
}

/// "32768 more bytes requested, 0 of 10240 used; drop or truncate other buffers" could not help, and "a seek
/// by 0 from 4 leads out of 0..=3" was a seek to 4.
#[test]
fn what_is_advised_can_help_and_what_is_said_is_so() {
    let too_long = |scope| {
        let waited = Duration::ZERO;
        SpillError::DiskLimit { limit: 10, used: 0, requested: 11, scope, waited }.to_string()
    };
    assert_eq!(
        [DiskLimitScope::Pool, DiskLimitScope::Buffer].map(too_long),
        [
            "disk limit of the pool reached: 11 more bytes requested, 0 of 10 used; raise the limit",
            "disk limit of the buffer reached: 11 more bytes requested, 0 of 10 used; give the next buffer a \
             higher limit",
        ]
    );
    let seek = SpillError::InvalidSeek { from: 4, offset: 0, end: 3 };
    assert_eq!(seek.to_string(), "position 4 is outside of 0..=3");
}

/// An error for want of memory was to be boxed.
#[test]
fn an_error_for_want_of_memory_takes_none() {
    let error = io::Error::from(SpillError::OutOfMemory);
    assert_eq!((error.kind(), error.get_ref().is_none()), (io::ErrorKind::OutOfMemory, true));
    assert!(SpillError::OutOfMemory.to_string().starts_with("the system refused memory"));
}

/// A printed chain showed "permission denied" twice: at the end of the outer error's line, and as its
/// source.
#[test]
fn a_chain_shows_each_error_once() {
    for (error, _, _, has_source) in table() {
        let outer = error.to_string();
        let inner = error.source().map(ToString::to_string);
        assert_eq!(inner.is_some(), has_source);
        assert!(inner.iter().all(|inner| !outer.contains(inner)), "{outer}");
        let chain = inner.map_or(outer.clone(), |inner| format!("{outer}: {inner}"));
        assert_eq!(format!("{error:#}"), chain);
        assert_eq!(format!("{:#}", io::Error::from(error)), chain, "also within an io::Error");
    }
}
