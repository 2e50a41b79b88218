//! The two fences of a protocol of which one side is taken a million times as often as the other.
//!
//! Each side stores its own flag, passes its fence, and loads the other's flag: at least one of the two then
//! sees what the other has stored. With `membarrier(2)` the frequent side, the *owner*, needs no instruction
//! for its fence: the rare side, the *peer*, has the kernel run a full fence on every processor that runs a
//! thread of this process.
//!
//! Promises:
//!
//! - The kernel's help is an improvement and no requirement: without it both sides pass full fences, at some
//!   nanoseconds for each visit of an owner.
//! - No call of an owner registers for it. That takes the kernel 20 ms in a process that has threads: so it
//!   is done when a pool is built, by a thread of its own if the process has others.
//! - A call that is refused later, by a sandbox that the program has entered since, orders nothing. The peer
//!   is told ([`Reach::Aware`]), and does without those owners that cannot know yet.
//!
//! Held by: `std-adapter/src/models.rs` (loom) with `.ci/weaken-pool`, `tests/tests/membarrier.rs`.
//!
//! # Modes
//!
//! | mode | owners | peers | left by |
//! |---|---|---|---|
//! | [`SYMMETRIC`] | full fence | full fence | `adopt`: the process is registered |
//! | [`CHANGING`] | full fence | full fence and `membarrier` | `adopt`, after a full fence |
//! | [`ASYMMETRIC`] | compiler fence | full fence and `membarrier` | a refusal |
//! | [`REFUSED`] | full fence, after saying that they know | as before, and without the kernel's help only those owners count that know | never |
//!
//! The mode only rises. *Why a peer may go by [`SYMMETRIC`] while an owner goes by [`ASYMMETRIC`]*: the peer
//! has passed its fence and then not seen [`CHANGING`], so its fence comes before the one in `adopt`; an
//! owner that reads [`ASYMMETRIC`] comes after that one, and so sees the peer's flag.
//!
//! *Why an owner that knows is safe in [`REFUSED`]*: it has read that mode, so it never reads a lower
//! one again, on whichever thread it is; its visits before that have ended, as a peer sees that reads
//! what it said (Acquire).

use crate::sync::{Ordering, fence};
use kernel::{membarrier, mode, refuse};

pub(crate) use kernel::prepare;
#[cfg(all(test, overspill_loom))]
pub(crate) use kernel::{adopt, model, model_adopted};

/// Both sides pass full fences.
const SYMMETRIC: u8 = 0;
/// Peers need the kernel's help from now on; owners do not rely on it yet.
#[cfg(any(target_os = "linux", overspill_loom))]
const CHANGING: u8 = 1;
/// Owners rely on the kernel's help.
const ASYMMETRIC: u8 = 2;
/// The kernel has refused a peer. Owners pass full fences again.
const REFUSED: u8 = 3;

/// The owners that a [`heavy`] fence has ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    /// Those that know of the refusal.
    Aware,
}

/// The owner's fence, between its store and its load, and whether it is enough. If not, the owner has to pass
/// a [`full`] one, and to say before that it knows if [`are_refused`].
#[inline(always)]
pub(crate) fn of_owner() -> bool {
    let is_helped = mode() == ASYMMETRIC;
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    is_helped
}

/// The peer's fence, between its store and its load. Returns which owners it has ordered.
pub(crate) fn heavy() -> Reach {
    full();
    if mode() == SYMMETRIC || membarrier() {
        return Reach::All;
    }
    refuse();
    Reach::Aware
}

/// A full fence, for both sides of a protocol whose sides are as frequent as each other.
#[inline(always)]
pub(crate) fn full() {
    fence(Ordering::SeqCst);
}

/// Whether the kernel has refused a peer, which owners have to know.
#[inline(always)]
pub(crate) fn are_refused() -> bool {
    mode() == REFUSED
}

/// Where the kernel can help: the mode, and what changes it. Under loom the kernel refuses every call, and
/// the mode changes only in models that say so.
#[cfg(any(target_os = "linux", overspill_loom))]
mod kernel {
    use super::{ASYMMETRIC, CHANGING, REFUSED, SYMMETRIC, full};
    #[cfg(not(overspill_loom))]
    use crate::sync::AtomicBool;
    use crate::sync::{AtomicU8, Ordering};

    #[cfg(not(overspill_loom))]
    static MODE: AtomicU8 = AtomicU8::new(SYMMETRIC);

    #[cfg(overspill_loom)]
    loom::lazy_static! {
        static ref MODE: AtomicU8 = AtomicU8::new(SYMMETRIC);
    }

    #[inline(always)]
    pub(super) fn mode() -> u8 {
        #[cfg(overspill_loom)]
        if !IS_MODELLED.get() {
            return SYMMETRIC;
        }
        // Acquire: an owner that reads `ASYMMETRIC` comes after the fence in `adopt`.
        MODE.load(Ordering::Acquire)
    }

    pub(super) fn refuse() {
        // A swap, so that the change in `adopt` comes before it or not at all.
        MODE.swap(REFUSED, Ordering::Relaxed);
    }

    /// Lets owners rely on the kernel's help, for which the process is registered. To be called once.
    pub(crate) fn adopt() {
        MODE.store(CHANGING, Ordering::Relaxed);
        full();
        // Not over a refusal. Release: see `mode`.
        let _ = MODE.compare_exchange(CHANGING, ASYMMETRIC, Ordering::Release, Ordering::Relaxed);
    }

    /// Has the kernel run a full fence on every processor that runs a thread of this process.
    /// Returns whether it did.
    #[cfg(not(overspill_loom))]
    pub(super) fn membarrier() -> bool {
        use rustix::thread::{MembarrierCommand, membarrier};
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    /// Registers the process for the kernel's help, the first time that it is called. Does not wait for that
    /// if the process has several threads: the kernel waits until each of them has been scheduled.
    ///
    /// To be called when buffers that share memory are about to be made.
    #[cfg(not(overspill_loom))]
    pub(crate) fn prepare() {
        // Not a `Once`, on which a process that is forked meanwhile would wait for ever.
        static PREPARED: AtomicBool = AtomicBool::new(false);
        if PREPARED.swap(true, Ordering::Relaxed) {
            return;
        }
        match is_single() {
            Some(true) => register(),
            // A thread more or less, for some milliseconds. If there can be none, all goes on with full
            // fences.
            Some(false) => drop(std::thread::Builder::new().name("overspill".to_owned()).spawn(register)),
            None => {}
        }
    }

    /// Whether this process has one thread; `None` where the system does not say.
    #[cfg(not(overspill_loom))]
    fn is_single() -> Option<bool> {
        // A directory has a link for itself, one from above, and one from each folder in it: one for each
        // thread.
        rustix::fs::stat("/proc/self/task").ok().map(|folder| folder.st_nlink == 3)
    }

    #[cfg(not(overspill_loom))]
    fn register() {
        use rustix::thread::{MembarrierCommand, membarrier};
        if membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() {
            adopt();
        }
    }

    #[cfg(overspill_loom)]
    pub(crate) fn prepare() {}

    #[cfg(overspill_loom)]
    pub(super) fn membarrier() -> bool {
        false
    }

    // loom runs all threads of a model on one thread of the system.
    #[cfg(overspill_loom)]
    std::thread_local!(static IS_MODELLED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });

    /// Models the mode too, from here on in this test; without it, it is [`SYMMETRIC`].
    #[cfg(all(test, overspill_loom))]
    pub(crate) fn model() {
        IS_MODELLED.set(true);
    }

    /// As [`model`], for a process that is registered already.
    #[cfg(all(test, overspill_loom))]
    pub(crate) fn model_adopted() {
        model();
        MODE.store(ASYMMETRIC, Ordering::Relaxed);
    }
}

/// Elsewhere both sides pass full fences, always.
#[cfg(not(any(target_os = "linux", overspill_loom)))]
mod kernel {
    #[inline(always)]
    pub(super) fn mode() -> u8 {
        super::SYMMETRIC
    }

    pub(super) fn membarrier() -> bool {
        false
    }

    pub(super) fn refuse() {}

    pub(crate) fn prepare() {}
}
