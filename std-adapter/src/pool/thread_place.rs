//! A thread's place for one thing, which other threads may take out.
//!
//! A thing is *recalled* where its pool needs the memory, or ends with its last handle: from then on no place
//! may have anything of that pool.
//!
//! | thread | steps |
//! |---|---|
//! | the one that recalls | notes why; adds one to the count of recalls; heavy fence; takes out what it finds, but passes over a place whose thread is inside |
//! | one that puts something in its place | reads the count; asks whether anything speaks against it; puts; fence; reads the count again, and if it differs, takes out what it has put |
//!
//! By the fences, either the first finds what is put, or the second reads the new count. Once the second has
//! put the thing, it may not touch the pool, which may be gone by then: hence a count apart.
//!
//! Promises:
//!
//! - Taking and putting cost the place's thread no atomic read-modify-write. Taking waits for no thread but
//!   one that looks at what is there, or takes it out; putting waits for none, and while one looks, nothing
//!   can be put.
//!
//! Held by: `std-adapter/src/models/places.rs` (loom) with `.ci/weaken-pool`.

use crate::sync::biased::{Looks, Owner, Peer};
use crate::sync::{AtomicUsize, Ordering, const_fn, fences};
use std::iter::Flatten;
use std::vec::IntoIter;

/// How often things were recalled. Wraps.
#[derive(Debug)]
pub(crate) struct Recalls(AtomicUsize);

impl Recalls {
    const_fn! {
        pub(crate) fn new() -> Self {
            Recalls(AtomicUsize::new(0))
        }
    }

    /// The count so far. To be read before asking whether anything speaks against keeping a thing.
    #[inline]
    pub(crate) fn seen(&self) -> usize {
        // Acquire: what was noted before the count is seen.
        self.0.load(Ordering::Acquire)
    }

    /// Counts a recall, of which the reason was noted. After this, places are to be looked through.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
        fences::heavy();
    }
}

/// A place, as its thread has it.
#[derive(Debug)]
pub(crate) struct ThreadPlace<T> {
    /// Beside the thing, readable without the lock: the key that it was put with, or 0. Stored only inside
    /// the lock.
    owner: Owner<Option<T>, AtomicUsize>,
}

/// A place, as other threads see it.
pub(crate) type OtherPlace<T> = Peer<Option<T>, AtomicUsize>;

impl<T> ThreadPlace<T> {
    /// An empty place. `None` if there is no memory.
    pub(crate) fn new() -> Option<Self> {
        Some(ThreadPlace { owner: Owner::new(None, AtomicUsize::new(0))? })
    }

    pub(crate) fn for_others(&self) -> OtherPlace<T> {
        self.owner.peer()
    }

    /// Takes out what was put last, if that was with this `key`, and is still there.
    #[inline]
    pub(crate) fn take(&mut self, key: usize) -> Option<T> {
        if self.owner.unlocked().load(Ordering::Relaxed) != key {
            return None;
        }
        if let Some(inside) = self.owner.try_enter() {
            return inside.visit(take);
        }
        self.take_after_another(key)
    }

    /// The same, after a thread that looks. That one has passed the place over if this one was in its way:
    /// then nobody else takes out what is there.
    #[cold]
    fn take_after_another(&mut self, key: usize) -> Option<T> {
        self.owner.check().ok()?;
        let is_still = |noted: &AtomicUsize| noted.load(Ordering::Relaxed) == key;
        self.owner.with_both(|place, noted| if is_still(noted) { take(place, noted) } else { None })
    }

    /// Makes the place empty, and returns what was there. Waits for a thread that looks.
    #[cold]
    pub(crate) fn clear(&mut self) -> Option<T> {
        if self.owner.check().is_err() {
            return None;
        }
        // Also if it is empty: after a refusal of the fence, nothing can be put before the
        // owner has entered so.
        self.owner.with_both(take)
    }

    /// Puts `thing` in the place with a `key` other than 0. Returns it if the place is not
    /// [clear](ThreadPlace::clear), while another thread looks, or if there were `recalls` since the count
    /// was `seen`: it may have been meant.
    #[inline]
    pub(crate) fn put(&mut self, key: usize, thing: T, recalls: &Recalls, seen: usize) -> Option<T> {
        if let Some(refused) = self.put_for_good(key, thing) {
            return Some(refused);
        }
        if !fences::of_owner() {
            fences::full();
        }
        if recalls.0.load(Ordering::Relaxed) == seen { None } else { self.clear() }
    }

    /// Puts a `thing` that nothing ends but the place. Returns it if the place is not clear, or while
    /// another thread looks.
    #[inline]
    pub(crate) fn put_for_good(&mut self, key: usize, thing: T) -> Option<T> {
        if self.owner.unlocked().load(Ordering::Relaxed) != 0 {
            return Some(thing);
        }
        let Some(inside) = self.owner.try_enter() else { return Some(thing) };
        inside.visit(|place, noted| {
            if place.is_some() {
                return Some(thing); // never, since its key was 0
            }
            *place = Some(thing);
            noted.store(key, Ordering::Relaxed);
            None
        })
    }
}

/// Takes out what is in a place, with its key. Inside the lock.
#[inline]
fn take<T>(place: &mut Option<T>, key: &AtomicUsize) -> Option<T> {
    key.store(0, Ordering::Relaxed);
    place.take()
}

/// Takes out what was put with `key` in each of `places`. To be called by one thread at a time. Takes nothing
/// if there is no memory to look.
pub(crate) fn take_all<T>(places: &[OtherPlace<T>], key: usize) -> Flatten<IntoIter<Option<T>>> {
    visit(places, key, |noted, thing| take(thing, noted))
}

/// What `f` says of what was put with `key` in each of `places`. To be called by one thread at a time. Asks
/// for none if there is no memory for that.
pub(crate) fn look<T, R>(
    places: &[OtherPlace<T>],
    key: usize,
    f: impl Fn(&T) -> R,
) -> Flatten<IntoIter<Option<R>>> {
    visit(places, key, |_, thing| thing.as_ref().map(&f))
}

fn visit<T, R>(
    places: &[OtherPlace<T>],
    key: usize,
    f: impl Fn(&AtomicUsize, &mut Option<T>) -> Option<R>,
) -> Flatten<IntoIter<Option<R>>> {
    let noted = |place: &OtherPlace<T>| place.unlocked().load(Ordering::Relaxed) == key;
    let those = places.iter().filter(|place| noted(place)).map(|place| (place, place));
    // The thread may have put something else since.
    let visit = |place: &OtherPlace<T>, thing: &mut Option<T>| {
        if noted(place) { f(place.unlocked(), thing) } else { None }
    };
    Peer::try_with_each(those, Looks::Once, visit).into_iter().flatten()
}
