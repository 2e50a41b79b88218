//! loom models of a spool: a writer, and readers that wait for it.
//!
//! Held by: `.ci/weaken-pool`.

use crate::models::{PAGE, VecStore, explore};
use crate::pager::content::Content;
use crate::pager::feed::{End, Feed};
use crate::pager::reader::Reader;
use crate::pager::state::Pager;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicBool, Ordering};
use loom::thread;
use std::task::{Wake, Waker};

fn spool(memory: usize) -> (Arc<Content>, Arc<Feed>) {
    let store = Box::new(VecStore::default());
    let pool = PoolState::new(memory, 8 * PAGE as u64, PAGE, store, None);
    let content = Content::new(Pager::new(&Arc::new(pool)), true);
    content.add_readers(2);
    (Arc::new(content), Arc::new(Feed::new()))
}

fn end(content: Arc<Content>) {
    let pool = Arc::clone(&content.pool);
    drop(content);
    pool.trim();
    pool.check_quiet();
}

/// Reads byte by byte until the end, and checks that each is its number.
fn follow(content: &Content, feed: &Feed) -> (u64, End) {
    let (mut reader, mut at) = (Reader::new(Arc::clone(&content.pool), u64::MAX), 0);
    loop {
        let ended = feed.end().unwrap();
        if content.len() > at {
            let mut byte = [9];
            assert_eq!(reader.read(content, at, &mut byte).unwrap(), 1);
            assert_eq!(u64::from(byte[0]), at);
            at += 1;
        } else if ended == End::Open {
            assert!(feed.wait(content, at, None).unwrap());
        } else {
            return (at, ended);
        }
    }
}

/// Guards: a reader that waits is woken by bytes and by the end, whenever they come. It reads all
/// that was written before.
#[test]
fn a_reader_that_waits_is_woken() {
    explore(3, || {
        let (content, feed) = spool(4 * PAGE);
        let (theirs, their_feed) = (Arc::clone(&content), Arc::clone(&feed));
        let reader = thread::spawn(move || follow(&theirs, &their_feed));
        for byte in 0..2 {
            assert_eq!(content.append(&[byte]).unwrap(), 1);
            feed.grown();
        }
        feed.finish(End::Dropped);
        assert_eq!(reader.join().unwrap(), (2, End::Dropped));
        end(content);
    });
}

/// Guards: of two readers that wait, both are woken by the end.
#[test]
fn all_that_wait_are_woken_by_the_end() {
    explore(2, || {
        let (content, feed) = spool(4 * PAGE);
        let readers = [(); 2].map(|()| {
            let (content, feed) = (Arc::clone(&content), Arc::clone(&feed));
            thread::spawn(move || assert!(feed.wait(&content, 0, None).unwrap()))
        });
        content.close();
        feed.finish(End::Finished);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        end(content);
    });
}

/// A waker that tells whether it was called.
struct Noted(AtomicBool);

impl Wake for Noted {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Guards: a poll that finds nothing leaves a waker that is called.
#[test]
fn a_poll_that_finds_nothing_is_answered() {
    explore(3, || {
        let (content, feed) = spool(4 * PAGE);
        let (number, _) = feed.enter(None);
        let (theirs, their_feed) = (Arc::clone(&content), Arc::clone(&feed));
        let writer = thread::spawn(move || {
            theirs.append(&[1]).unwrap();
            their_feed.grown();
        });
        let noted = std::sync::Arc::new(Noted(AtomicBool::new(false)));
        let is_ready = feed.poll(&content, number, 0, &Waker::from(std::sync::Arc::clone(&noted)));
        writer.join().unwrap();
        assert!(is_ready || noted.0.load(Ordering::Relaxed));
        assert_eq!(feed.leave(number), 0);
        end(content);
    });
}

/// Guards: a page is freed when both have passed it, while one reads on and the writer goes on.
#[test]
fn what_both_have_passed_is_freed_while_one_reads_on() {
    explore(2, || {
        let (content, feed) = spool(2 * PAGE);
        content.append(&[1; PAGE]).unwrap();
        content.append(&[2; PAGE]).unwrap();
        let numbers = [feed.enter(Some(0)).0, feed.enter(Some(0)).0];
        let (theirs, their_feed) = (Arc::clone(&content), Arc::clone(&feed));
        let first = thread::spawn(move || {
            let mut bytes = [0; PAGE];
            assert_eq!(theirs.read_at(0, &mut bytes).unwrap(), PAGE);
            assert_eq!(bytes, [1; PAGE]);
            theirs.free_consumed(their_feed.note_consumed(numbers[0], PAGE as u64));
        });
        content.append(&[3; PAGE]).unwrap();
        content.free_consumed(feed.note_consumed(numbers[1], 2 * PAGE as u64));
        first.join().unwrap();
        let mut bytes = [0; PAGE];
        assert!(content.read_at(0, &mut bytes).is_err(), "both have passed it");
        assert_eq!(content.read_at(2 * PAGE as u64, &mut bytes).unwrap(), PAGE);
        assert_eq!(bytes, [3; PAGE]);
        end(content);
    });
}

/// Guards: a reader that is made while a pass is under way stands at a byte that is kept, and stays so.
#[test]
fn a_reader_that_comes_during_a_pass_reads_what_is_kept() {
    explore(3, || {
        let (content, feed) = spool(4 * PAGE);
        content.append(&[1; PAGE]).unwrap();
        content.append(&[2; PAGE]).unwrap();
        let (number, _) = feed.enter(Some(0));
        let (theirs, their_feed) = (Arc::clone(&content), Arc::clone(&feed));
        let reader = thread::spawn(move || {
            theirs.free_consumed(their_feed.note_consumed(number, PAGE as u64));
            theirs.free_consumed(their_feed.note_consumed(number, 2 * PAGE as u64));
        });
        content.append(&[3; PAGE]).unwrap();
        let (_, kept_from) = feed.enter(None);
        let mut bytes = [0; PAGE];
        assert_eq!(content.read_at(kept_from, &mut bytes).unwrap(), PAGE);
        reader.join().unwrap();
        assert_eq!(content.read_at(kept_from, &mut bytes).unwrap(), PAGE);
        assert_eq!(u64::from(bytes[0]) - 1, kept_from / PAGE as u64);
        end(content);
    });
}

/// Guards: a page that is being loaded, and that all have passed before it has come, stays away, and
/// its slot is freed once.
#[test]
fn a_page_that_all_have_passed_does_not_come_back() {
    explore(2, || {
        let (content, _feed) = spool(0);
        content.append(&[1; PAGE]).unwrap();
        content.append(&[2]).unwrap();
        content.pool.set_memory_limit(4 * PAGE as u64);
        let theirs = Arc::clone(&content);
        // As for a reader that is dropped meanwhile: a job goes on without its mark.
        let job = thread::spawn(move || {
            let mut bytes = [0; PAGE];
            drop(theirs.read_at(0, &mut bytes));
        });
        content.free_consumed(PAGE as u64);
        job.join().unwrap();
        assert!(content.read_at(0, &mut [0]).is_err(), "it was passed");
        end(content);
    });
}

/// Guards: a pass that finds the lock taken, and does not wait for it, is made by the thread that has it.
#[test]
fn a_pass_that_does_not_wait_is_not_forgotten() {
    explore(3, || {
        let (content, _feed) = spool(4 * PAGE);
        content.append(&[1; PAGE]).unwrap();
        let theirs = Arc::clone(&content);
        let reader = thread::spawn(move || theirs.free_consumed_unless_busy(PAGE as u64));
        content.append(&[2]).unwrap();
        reader.join().unwrap();
        assert!(content.read_at(0, &mut [0]).is_err(), "it was passed before this call");
        end(content);
    });
}
