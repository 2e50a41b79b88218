//! Models of the places of threads: one thread puts and takes, another looks through all places.

use super::explore;
use crate::pool::thread_place::{Recalls, ThreadPlace, look, take_all};
use crate::sync::{Arc, AtomicBool, Ordering, fences};
use loom::thread;

const KEY: usize = 7;
const OTHER_KEY: usize = 8;

/// Guards: once something has ended, no place has anything of it, and what was there is in one hand. A place
/// whose thread is inside is passed over; so that thread has to see the end.
#[test]
fn nothing_is_left_of_what_has_ended() {
    explore(3, || {
        let mut place = ThreadPlace::new().unwrap();
        let others = [place.for_others()];
        let (recalls, has_ended) = (Arc::new(Recalls::new()), Arc::new(AtomicBool::new(false)));
        let (their_recalls, they_ended) = (Arc::clone(&recalls), Arc::clone(&has_ended));
        let owner = thread::spawn(move || {
            let seen = their_recalls.seen();
            if they_ended.load(Ordering::Relaxed) {
                return 1;
            }
            let left = place.put(KEY, Box::new(1), &their_recalls, seen);
            left.map_or(0, |thing| *thing)
        });
        has_ended.store(true, Ordering::Relaxed);
        recalls.count();
        let found: usize = take_all(&others, KEY).map(|thing| *thing).sum();
        let returned: usize = owner.join().unwrap();
        assert_eq!(found + returned, 1);
        let left = look(&others, KEY, |_| ()).count();
        assert_eq!(left, 0, "it keeps alive what has ended");
        assert_eq!(
            others[0].unlocked().load(Ordering::Relaxed),
            0,
            "who looks for it passes a fence for nothing"
        );
    });
}

/// Guards: what a thread keeps is found by a later look for it, which is made only if a flag is raised. A
/// look came in between the raising of the flag and the keeping, lowered it, and found nothing: then a page
/// that an idle thread kept was missed by all that needed one.
#[test]
fn what_is_kept_beside_a_look_for_it_is_noted() {
    explore(3, || {
        let mut place = ThreadPlace::new().unwrap();
        let others = [place.for_others()];
        let (recalls, is_noted) = (Arc::new(Recalls::new()), Arc::new(AtomicBool::new(true)));
        let (their_recalls, they_note) = (Arc::clone(&recalls), Arc::clone(&is_noted));
        let owner = thread::spawn(move || {
            let seen = their_recalls.seen();
            if !they_note.load(Ordering::Relaxed) {
                they_note.store(true, Ordering::Relaxed);
            }
            place.put(KEY, Box::new(1), &their_recalls, seen).map_or(0, |thing| *thing)
        });
        is_noted.store(false, Ordering::Relaxed);
        recalls.count();
        let found: usize = take_all(&others, KEY).map(|thing| *thing).sum();
        let returned: usize = owner.join().unwrap();
        let left = look(&others, KEY, |_| ()).count();
        assert_eq!(found + returned + left, 1);
        assert!(left == 0 || is_noted.load(Ordering::Relaxed), "nobody will look for it");
    });
}

/// Guards: a waiter finds what a thread keeps, or that thread sees the waiter and keeps nothing. A thread
/// that looked for waiters before one came, and kept its page after that one had looked, let it sleep.
#[test]
fn what_is_kept_beside_a_waiter_is_found_or_not_kept() {
    explore(3, || {
        let mut place = ThreadPlace::new().unwrap();
        let others = [place.for_others()];
        let recalls = Arc::new(Recalls::new());
        let [waits, is_noted] = [0; 2].map(|_| Arc::new(AtomicBool::new(false)));
        let theirs = (Arc::clone(&recalls), Arc::clone(&waits), Arc::clone(&is_noted));
        let owner = thread::spawn(move || {
            let (recalls, waits, is_noted) = theirs;
            let seen = recalls.seen();
            if waits.load(Ordering::Relaxed) {
                return 1;
            }
            is_noted.store(true, Ordering::Relaxed);
            place.put(KEY, Box::new(1), &recalls, seen).map_or(0, |thing| *thing)
        });
        waits.store(true, Ordering::Relaxed);
        recalls.count();
        let found = if is_noted.load(Ordering::Relaxed) { take_all(&others, KEY).count() } else { 0 };
        let returned: usize = owner.join().unwrap();
        assert_eq!(found + returned, 1, "the waiter sleeps beside it");
    });
}

/// Guards: a thing is taken once, by its thread or by another, and one that was put with another key stays.
/// One of the two takes it, also if each is in the other's way: what both leave keeps its pool alive. While
/// another thread looks, a place may refuse to take what is put.
#[test]
fn what_is_in_a_place_is_taken_once() {
    explore(3, || {
        let mut place = ThreadPlace::new().unwrap();
        let others = [place.for_others()];
        let recalls = Recalls::new();
        assert!(place.put(KEY, Box::new(1), &recalls, recalls.seen()).is_none());
        let owner = thread::spawn(move || {
            let taken = place.take(KEY);
            let refused = place.put(OTHER_KEY, Box::new(10), &recalls, recalls.seen());
            assert!(place.take(KEY).is_none());
            (taken.map_or(0, |thing| *thing), refused.map_or(0, |thing| *thing), place)
        });
        let found: usize = take_all(&others, KEY).map(|thing| *thing).sum();
        let (taken, refused, mut place): (usize, usize, _) = owner.join().unwrap();
        assert_eq!(found + taken, 1, "found {found}");
        let left = place.take(OTHER_KEY).map_or(0, |thing| *thing);
        assert_eq!(refused + left, 10);
    });
}

/// Guards: after a refusal of the fence, a place keeps things again, once its thread has cleared it: until
/// then others keep out of it, since it may not know.
#[test]
fn a_place_is_used_again_after_a_refusal() {
    explore(3, || {
        fences::model_adopted();
        let [mut full, mut empty] = [0; 2].map(|_| ThreadPlace::new().unwrap());
        let others = [full.for_others(), empty.for_others()];
        assert!(full.put_for_good(KEY, 1).is_none());
        assert_eq!(look(&others, KEY, |_| ()).count(), 0, "the fence is refused");
        assert_eq!(full.take(KEY), Some(1));
        assert_eq!((empty.put_for_good(KEY, 2), empty.clear()), (Some(2), None));
        for place in [&mut full, &mut empty] {
            assert!(place.put_for_good(KEY, 3).is_none());
        }
        assert_eq!(look(&others, KEY, |_| ()).count(), 2);
        assert_eq!((full.take(KEY), empty.take(KEY)), (Some(3), Some(3)));
    });
}
