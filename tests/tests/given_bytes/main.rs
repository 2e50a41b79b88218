//! Memory that is given to a buffer: where it is kept and where it is copied, what is charged for how long,
//! how it leaves, and what its owner may do when it is dropped.
#![allow(missing_docs)]

mod owners;

use bytes::Bytes;
use overspill::{Checksums, Frozen, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::support::{Random, content_of};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A single page of this length is kept.
const PAGE: usize = 16 << 10;

fn pool(pages: usize) -> SpillPool {
    SpillPool::builder().memory(pages * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

/// Counts drops.
#[derive(Clone, Default)]
struct Drops(Arc<AtomicUsize>);

impl Drops {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Foreign memory, with what happens when it is dropped.
struct Foreign<F: FnMut() + Send>(Vec<u8>, F);

impl<F: FnMut() + Send> AsRef<[u8]> for Foreign<F> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl<F: FnMut() + Send> Drop for Foreign<F> {
    fn drop(&mut self) {
        (self.1)();
    }
}

fn foreign(content: &[u8], on_drop: impl FnMut() + Send + 'static) -> Bytes {
    Bytes::from_owner(Foreign(content.to_vec(), on_drop))
}

/// Memory whose drop is counted.
fn counted(content: &[u8]) -> (Bytes, Drops) {
    let drops = Drops::default();
    let count = Arc::clone(&drops.0);
    (foreign(content, move || _ = count.fetch_add(1, Ordering::SeqCst)), drops)
}

fn used(pool: &SpillPool) -> usize {
    usize::try_from(pool.stats().memory_used).unwrap()
}

/// The buffer's content, and whatever can be recounted.
fn assert_content(buffer: &mut SpillBuffer, content: &[u8]) {
    buffer.check_invariants();
    assert!(content_of(buffer) == content);
    buffer.check_invariants();
}

#[test]
fn whole_pages_are_kept_and_charged_until_the_last_is_gone() {
    let (pool, content) = (pool(64), Random::new(1).bytes(5 * PAGE));
    let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
    let at = bytes.as_ptr();
    buffer.push(bytes).unwrap();
    assert_eq!((buffer.position(), buffer.len()), (5 * PAGE as u64, 5 * PAGE as u64));
    assert_eq!((used(&pool), buffer.stats().memory_used), (5 * PAGE, 5 * PAGE as u64));
    assert_eq!(buffer.stats().requested.written, 5 * PAGE as u64);
    buffer.rewind().unwrap();
    assert_eq!(buffer.fill_buf().unwrap().as_ptr(), at, "it is read where it is");
    assert_content(&mut buffer, &content);
    let frozen = buffer.freeze();
    for page in 0..5 {
        let lent = frozen.bytes_at((page * PAGE) as u64, PAGE).unwrap();
        assert_eq!(lent.as_ptr(), at.wrapping_add(page * PAGE));
    }
    assert_eq!((used(&pool), drops.count()), (5 * PAGE, 0));
    drop(frozen);
    assert_eq!((used(&pool), drops.count()), (0, 1));
    pool.check_invariants();
}

#[test]
fn what_lies_before_and_behind_whole_pages_is_copied() {
    let (pool, content) = (pool(64), Random::new(2).bytes(4 * PAGE));
    let mut buffer = pool.buffer();
    buffer.write_all(&content[..100]).unwrap();
    let (bytes, drops) = counted(&content[100..]);
    let at = bytes.as_ptr();
    buffer.push(bytes.slice(..3 * PAGE - 50)).unwrap();
    drop(bytes);
    assert_eq!(buffer.position(), 3 * PAGE as u64 + 50);
    assert_eq!(used(&pool), PAGE + 3 * PAGE - 50 + PAGE, "two frames, and what was given");
    assert_content(&mut buffer, &content[..3 * PAGE + 50]);
    let frozen = buffer.freeze();
    let lent = frozen.bytes_at(PAGE as u64, PAGE).unwrap();
    assert_eq!(lent.as_ptr(), at.wrapping_add(PAGE - 100));
    assert_ne!(frozen.bytes_at(0, PAGE).unwrap().as_ptr(), at);
    drop(frozen);
    let stats = pool.stats();
    assert_eq!((used(&pool), stats.memory_lent), (3 * PAGE - 50, 3 * PAGE as u64 - 50), "lent as a whole");
    thread::spawn(move || drop(lent)).join().unwrap();
    assert_eq!((used(&pool), pool.stats().memory_lent, drops.count()), (0, 0, 1));
    pool.check_invariants();
}

#[test]
fn a_buffer_of_a_vector_or_of_bytes_has_their_memory() {
    const PAGES: usize = 64 << 10;
    for len in [PAGES, 20 * PAGES + 77, 300 * PAGES] {
        let content = Random::new(3).bytes(len);
        let vec = content.clone();
        let at = vec.as_ptr();
        let mut buffer = SpillBuffer::from(vec);
        assert_eq!((buffer.position(), buffer.fill_buf().unwrap().as_ptr()), (0, at));
        assert!(!buffer.is_spilled());
        let tail = if len.is_multiple_of(PAGES) { 0 } else { PAGES };
        assert!(buffer.stats().memory_used <= (len + tail) as u64);
        // There is room to write over some of it, and to go on.
        buffer.write_all(b"ours").unwrap();
        buffer.seek(SeekFrom::End(0)).unwrap();
        buffer.write_all(&[7; 50_000]).unwrap();
        assert!(!buffer.is_spilled());
        assert_content(&mut buffer, &[&b"ours"[..], &content[4..], &[7; 50_000]].concat());

        let bytes = Bytes::from(content.clone());
        let at = bytes.as_ptr();
        let frozen = SpillBuffer::from(bytes).freeze();
        let lent: Vec<Bytes> = frozen.chunks().map(Result::unwrap).collect();
        for (page, lent) in lent.iter().take(len / PAGES).enumerate() {
            assert_eq!(lent.as_ptr(), at.wrapping_add(page * PAGES), "page {page} of {len} bytes");
        }
        assert!(lent.concat() == content);
    }
}

#[test]
fn what_does_not_fit_the_limit_of_a_buffer_is_copied_or_spilled() {
    let content = Random::new(4).bytes(3 << 20);
    for budget in [0, 1, PAGE, 1 << 20, 3 << 20] {
        let ((bytes, drops), mut buffer) = (counted(&content), SpillBuffer::with_budget(budget));
        buffer.push(bytes).unwrap();
        assert_eq!(drops.count(), 1, "limit {budget}: nothing of it is kept");
        assert!(buffer.stats().memory_used <= budget as u64);
        assert_content(&mut buffer, &content);
    }
    let mut buffer = SpillBuffer::from(content.clone());
    buffer.seek(SeekFrom::End(0)).unwrap();
    buffer.write_all(&vec![1; 12 << 20]).unwrap();
    assert!(buffer.is_spilled() && buffer.stats().memory_used <= 8 << 20);
    assert_content(&mut buffer, &[&content[..], &vec![1; 12 << 20]].concat());
}

/// What is kept, and what is not: as many bytes are charged as the memory has, so far as that can be known.
#[test]
fn memory_that_is_not_worth_it_is_copied() {
    let pool = pool(64);
    let copied = |bytes: Bytes| {
        let ((at, content), mut buffer) = ((bytes.as_ptr(), bytes.to_vec()), pool.buffer());
        buffer.push(bytes).unwrap();
        assert_content(&mut buffer, &content);
        buffer.rewind().unwrap();
        buffer.fill_buf().unwrap().as_ptr() != at
    };
    assert!(copied(Bytes::from(vec![1; PAGE - 1])), "less than a page");
    assert!(!copied(Bytes::from(vec![1; PAGE])));
    let small = SpillPool::builder().memory(64 * PAGE).page_size(PAGE / 2).build().unwrap();
    for pages in [1, 2] {
        let (bytes, drops) = counted(&vec![1; pages * PAGE / 2]);
        let mut buffer = small.buffer();
        buffer.push(bytes).unwrap();
        assert_eq!(drops.count(), usize::from(pages == 1), "a single small page is copied");
    }
    assert!(!copied(Bytes::from_static(&[1; 2 * PAGE])));
    assert!(!copied(Bytes::from(vec![1; 16 * PAGE])), "a quarter of the limit");
    assert!(copied(Bytes::from(vec![1; 17 * PAGE])));
    let mut roomy = Vec::with_capacity(9 * PAGE);
    roomy.resize(4 * PAGE, 1);
    assert!(copied(Bytes::from(roomy)), "more than twice as much is kept");
    let mut roomy = Vec::with_capacity(8 * PAGE);
    roomy.resize(4 * PAGE, 1);
    let mut buffer = pool.buffer();
    buffer.push(Bytes::from(roomy)).unwrap();
    assert_eq!(used(&pool), 8 * PAGE, "the vector's capacity is charged");
    drop(buffer);
    pool.trim();
    assert_eq!(used(&pool), 0);

    // Content is written over in place.
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 3 * PAGE]).unwrap();
    buffer.rewind().unwrap();
    let (bytes, drops) = counted(&[2; 2 * PAGE]);
    buffer.push(bytes).unwrap();
    assert_eq!((drops.count(), used(&pool)), (1, 3 * PAGE));
    assert_content(&mut buffer, &[[2; 2 * PAGE].as_slice(), &[1; PAGE]].concat());
    // Past a gap, and over the hole that it is.
    buffer.seek(SeekFrom::Start(6 * PAGE as u64)).unwrap();
    let (past, past_drops) = counted(&[3; PAGE]);
    buffer.push(past).unwrap();
    buffer.seek(SeekFrom::Start(4 * PAGE as u64)).unwrap();
    let (hole, hole_drops) = counted(&[4; 2 * PAGE]);
    buffer.push(hole).unwrap();
    assert_eq!((past_drops.count(), hole_drops.count(), used(&pool)), (0, 0, 6 * PAGE));
    let parts: [&[u8]; 5] = [&[2; 2 * PAGE], &[1; PAGE], &[0; PAGE], &[4; 2 * PAGE], &[3; PAGE]];
    assert_content(&mut buffer, &parts.concat());
    buffer.set_len(0).unwrap();
    assert_eq!((past_drops.count(), hole_drops.count(), used(&pool)), (1, 1, 0));
}

#[test]
fn a_push_at_the_last_position_is_refused_as_a_write_is() {
    let mut buffer = pool(64).buffer();
    let start = u64::MAX - 2 * PAGE as u64 + 1;
    buffer.seek(SeekFrom::Start(start)).unwrap();
    let (bytes, drops) = counted(&[1; 2 * PAGE]);
    let pushed = buffer.push(bytes).map_err(|error| error.kind());
    let at = buffer.position();
    buffer.clear();
    buffer.seek(SeekFrom::Start(start)).unwrap();
    let written = buffer.write_all(&[1; 2 * PAGE]).map_err(|error| error.kind());
    assert_eq!((pushed, at, drops.count()), (written, buffer.position(), 1));
    assert!(written.is_err());
}

#[test]
fn a_lowered_limit_makes_given_pages_leave() {
    let (pool, content) = (pool(64), Random::new(5).bytes(16 * PAGE));
    let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
    buffer.push(bytes).unwrap();
    pool.set_memory_limit(20 * PAGE);
    assert_eq!((used(&pool), drops.count()), (16 * PAGE, 0));
    pool.set_memory_limit(15 * PAGE);
    assert_eq!((used(&pool), drops.count()), (0, 1), "in one piece");
    assert_content(&mut buffer, &content);
    // The owner's own accesses make them leave too, if the pool could not.
    buffer.clear();
    pool.set_memory_limit(64 * PAGE);
    let (bytes, drops) = counted(&content);
    buffer.push(bytes).unwrap();
    buffer.rewind().unwrap();
    buffer.fill_buf().unwrap();
    pool.set_memory_limit(PAGE);
    assert_eq!((used(&pool), drops.count()), (16 * PAGE, 0), "a page is lent");
    buffer.consume(9);
    assert_eq!((used(&pool), drops.count()), (0, 1));
    assert_content(&mut buffer, &content);
    pool.check_invariants();
}

#[test]
fn other_buffers_get_the_memory_and_the_content_stays() {
    let (pool, content) = (pool(16), Random::new(6).bytes(4 * PAGE));
    let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
    buffer.push(bytes).unwrap();
    let mut others: Vec<_> = (0..16).map(|_| pool.buffer()).collect();
    for number in 0..8 {
        for other in &mut others {
            other.write_all(&[number; PAGE / 8]).unwrap();
            assert!(pool.stats().memory_used <= 16 * PAGE as u64);
            buffer.check_invariants();
        }
    }
    assert_eq!(drops.count(), 1, "it held more than its share");
    assert!(pool.stats().spills.reclaimed >= 4);
    assert_content(&mut buffer, &content);
    for other in &mut others {
        let pieces = (0..8).flat_map(|number| [number; PAGE / 8]);
        assert!(content_of(other).into_iter().eq(pieces));
    }
    drop((others, buffer));
    pool.check_invariants();
}

#[test]
fn what_is_written_to_a_kept_page_is_not_written_to_what_was_given() {
    for limit in [64, 5] {
        let (pool, mut content) = (pool(64), Random::new(7).bytes(4 * PAGE));
        let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
        let given = bytes.clone();
        buffer.push(bytes).unwrap();
        pool.set_memory_limit(limit * PAGE);
        for page in [2, 0, 3, 1] {
            let at = page * PAGE + 50;
            // Into the page that small operations find.
            buffer.read_at(&mut [0; 1], at as u64).unwrap();
            assert_eq!(buffer.write_at(b"other", at as u64).unwrap(), 5);
            let before = content[at..at + 5].to_vec();
            content[at..at + 5].copy_from_slice(b"other");
            assert_content(&mut buffer, &content);
            assert!(given[at..at + 5] == before && used(&pool) <= limit * PAGE, "page {page} of {limit}");
        }
        if limit == 64 {
            assert_eq!(used(&pool), 4 * PAGE, "frames of the pool");
        }
        drop(given);
        assert_eq!(drops.count(), 1);
    }
}

#[test]
fn a_cut_page_grows_again_and_is_zeros_past_the_cut() {
    for limit in [64, 5] {
        let pool = pool(64);
        let ((bytes, drops), mut buffer) = (counted(&[9; 3 * PAGE]), pool.buffer());
        buffer.push(bytes).unwrap();
        buffer.set_len(PAGE as u64 + 10).unwrap();
        assert_eq!((used(&pool), drops.count()), (3 * PAGE, 0));
        pool.set_memory_limit(limit * PAGE);
        buffer.set_len(PAGE as u64 + 20).unwrap();
        buffer.seek(SeekFrom::Start(PAGE as u64 + 15)).unwrap();
        buffer.write_all(&[8; PAGE]).unwrap();
        assert_content(&mut buffer, &[&[9; PAGE + 10][..], &[0; 5], &[8; PAGE]].concat());
        buffer.spill().unwrap();
        assert_eq!((buffer.stats().memory_used, drops.count()), (0, 1));
        assert_content(&mut buffer, &[&[9; PAGE + 10][..], &[0; 5], &[8; PAGE]].concat());
    }
}

#[test]
fn clones_and_frozen_handles_share_what_was_given() {
    for checksums in [Checksums::Off, Checksums::On] {
        let builder = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).checksums(checksums);
        let (pool, mut content) = (builder.build().unwrap(), Random::new(8).bytes(5 * PAGE));
        let ((bytes, drops), mut buffer) = (counted(&content), pool.buffer());
        buffer.push(bytes).unwrap();
        let mut clone = buffer.try_clone().unwrap();
        assert_eq!(used(&pool), 5 * PAGE);
        assert_content(&mut clone, &content);
        clone.write_at(b"clone", PAGE as u64 - 2).unwrap();
        assert_content(&mut buffer, &content);
        content[PAGE - 2..PAGE + 3].copy_from_slice(b"clone");
        assert_content(&mut clone, &content);
        let frozen = clone.freeze();
        let readers: Vec<_> = (0..3).map(|_| frozen.reader()).collect();
        let threads = readers.into_iter().map(|mut reader| {
            let content = content.clone();
            thread::spawn(move || {
                let mut all = Vec::new();
                reader.read_to_end(&mut all).unwrap();
                assert!(all == content);
            })
        });
        threads.for_each(|thread| thread.join().unwrap());
        assert_eq!(drops.count(), 0);
        pool.set_memory_limit(0);
        assert_eq!(drops.count(), 1);
        assert!(frozen.bytes_at(0, 5 * PAGE).unwrap() == content);
        let mut file = frozen.into_buffer().unwrap().into_file().unwrap();
        assert!(content_of(&mut file) == content);
        drop(buffer);
        pool.check_invariants();
    }
}

/// A lent page of a large piece keeps all of it: pages of many pieces would keep all of a pool's memory.
#[test]
fn a_lent_page_counts_with_all_that_it_keeps() {
    let (pool, content) = (pool(64), Random::new(9).bytes(10 * PAGE));
    let frozen: Vec<_> = (0..3)
        .map(|_| {
            let mut buffer = pool.buffer();
            buffer.push(content.clone().into()).unwrap();
            buffer.freeze()
        })
        .collect();
    let lend = |content: &Frozen, page: usize| content.bytes_at((page * PAGE) as u64, PAGE).unwrap();
    let lent = [(0, 0), (0, 5), (1, 3), (2, 0)].map(|(number, page)| lend(&frozen[number], page));
    assert_eq!(pool.stats().memory_lent, 10 * PAGE as u64, "a quarter of the limit is 16 pages");
    drop(frozen);
    assert_eq!(used(&pool), 10 * PAGE);
    assert!(lent.iter().zip([0, 5, 3, 0]).all(|(lent, page)| lent == &content[page * PAGE..][..PAGE]));
    drop(lent);
    assert_eq!((used(&pool), pool.stats().memory_lent), (0, 0));
}

/// No file has a place there: what was given past its end could never have left memory.
#[test]
fn memory_past_the_end_of_all_files_is_not_kept() {
    const END: u64 = i64::MAX as u64 / PAGE as u64 * PAGE as u64;
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(64 << 20).page_size(PAGE).build().unwrap();
    let mut buffer = pool.buffer_for(dir.path().join("file"));
    buffer.seek(SeekFrom::Start(END - PAGE as u64)).unwrap();
    buffer.push(Bytes::from(vec![1; 4 * PAGE])).unwrap_err();
    assert_eq!((buffer.position(), buffer.len()), (END, END));
    assert_eq!(pool.stats().memory_used, PAGE as u64, "what is within");
}
