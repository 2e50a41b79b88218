//! Clones that become files: what they share is copied by the kernel, as what is theirs alone is.
#![allow(missing_docs)]
#![cfg(any(target_os = "linux", target_os = "android"))]

use overspill::{SpillPool, Store, TempFileStore};
use overspill_tests::ops::pattern;
use overspill_tests::support::content_of;
use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LEN: usize = 4 << 20;

/// A temp file that counts the bytes that are read, and the copies.
#[derive(Debug, Default)]
struct Counted {
    file: TempFileStore,
    read: AtomicUsize,
    copies: AtomicUsize,
}

impl Store for Counted {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.read.fetch_add(buf.len(), Ordering::Relaxed);
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.file.write_at(offset, data)
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.copies.fetch_add(1, Ordering::Relaxed);
        self.file.copy_to_file(offset, len, file, at)
    }
}

/// Makes a file, and checks that it has `content`. Returns how many bytes were read for it, and in how many
/// copies the rest came.
fn counts(store: &Counted, content: &[u8], make: impl FnOnce() -> File) -> (usize, usize) {
    store.read.store(0, Ordering::Relaxed);
    store.copies.store(0, Ordering::Relaxed);
    let mut file = make();
    let counts = (store.read.load(Ordering::Relaxed), store.copies.load(Ordering::Relaxed));
    assert!(content_of(&mut file) == content);
    counts
}

/// What a buffer shared, with clones that were gone too, was read and written by the page: 4,096 reads and as
/// many writes for 16 MiB without memory, in place of one copy. What a frozen clone, or a part of one, shared
/// still was, when buffers were mended.
#[test]
fn what_clones_share_is_copied_by_the_kernel() {
    for memory in [0, 64 << 10, 1 << 20] {
        let store = Arc::new(Counted::default());
        let pool = SpillPool::builder().memory(memory).store(Arc::clone(&store)).build().unwrap();
        let mut buffer = pool.buffer();
        let mut content = pattern(3, LEN);
        buffer.write_all(&content).unwrap();
        let mut clone = buffer.try_clone().unwrap();
        let mut second = clone.try_clone().unwrap();
        let cloned = content.clone();
        // Pages of its own, one of them in part, a cut, and a gap.
        for at in [0, LEN / 2 - 10, LEN - 300_000] {
            buffer.write_all_at(&[7; 100_000], at as u64).unwrap();
            content[at..at + 100_000].fill(7);
        }
        buffer.set_len((LEN - 100_000) as u64).unwrap();
        buffer.set_len((LEN + 100_000) as u64).unwrap();
        content.truncate(LEN - 100_000);
        content.resize(LEN + 100_000, 0);
        second.write_all_at(b"second", 1 << 20).unwrap();
        let mut changed = cloned.clone();
        changed[1 << 20..][..6].copy_from_slice(b"second");
        clone.spill().unwrap();
        for (what, buffer, content) in
            [("first", buffer, content), ("clone", clone, cloned), ("second", second, changed)]
        {
            let check = |how: &str, (read, copies): (usize, usize)| {
                assert!(read <= 200_000, "{what} {how} in {memory}: {read} bytes are read");
                assert!(copies <= 40, "{what} {how} in {memory}: {copies} copies");
            };
            let frozen = buffer.freeze();
            check("frozen", counts(&store, &content, || frozen.to_file().unwrap()));
            let part = 5000..content.len() as u64 - 70_000;
            let of_part = &content[5000..][..content.len() - 75_000];
            check("in part", counts(&store, of_part, || frozen.slice(part).to_file().unwrap()));
            let buffer = frozen.into_buffer().unwrap();
            check("thawed", counts(&store, &content, || buffer.into_file().unwrap()));
        }
    }
}
