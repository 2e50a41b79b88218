//! Models of the places of threads: one thread puts and takes, another looks through all places.

use super::explore;
use crate::pool::thread_place::{Endings, ThreadPlace, look, take_all};
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
        let (endings, has_ended) = (Arc::new(Endings::new()), Arc::new(AtomicBool::new(false)));
        let (their_endings, they_ended) = (Arc::clone(&endings), Arc::clone(&has_ended));
        let owner = thread::spawn(move || {
            let seen = their_endings.seen();
            if they_ended.load(Ordering::Relaxed) {
                return 1;
            }
            let left = place.put(KEY, Box::new(1), &their_endings, seen);
            left.map_or(0, |thing| *thing)
        });
        has_ended.store(true, Ordering::Relaxed);
        endings.count();
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

/// Guards: a thing is taken once, by its thread or by another, and one that was put with another key stays.
/// One of the two takes it, also if each is in the other's way: what both leave keeps its pool alive. While
/// another thread looks, a place may refuse to take what is put.
#[test]
fn what_is_in_a_place_is_taken_once() {
    explore(3, || {
        let mut place = ThreadPlace::new().unwrap();
        let others = [place.for_others()];
        let endings = Endings::new();
        assert!(place.put(KEY, Box::new(1), &endings, endings.seen()).is_none());
        let owner = thread::spawn(move || {
            let taken = place.take(KEY);
            let refused = place.put(OTHER_KEY, Box::new(10), &endings, endings.seen());
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
