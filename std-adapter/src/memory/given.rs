//! Memory that a caller gave: pages lie in it as they were given, and it is only read.
//!
//! Promises:
//!
//! - I2: it is charged as a whole, from before its first page is kept until it is freed. A part of an
//!   allocation cannot be freed, so the pages that leave it first release nothing, and the last releases all.
//! - Nobody writes to it: its bytes are only lent as shared ones.
//! - Freeing it may be foreign code, which is [contained](crate::foreign), and runs with nothing locked.
//!
//! Held by: `tests/tests/given_bytes/`, `std-adapter/src/models/given.rs` (loom).

use crate::foreign;
use crate::memory::budget::WatchedBudget;
#[cfg(any(feature = "bytes", feature = "tokio"))]
use crate::memory::lent::LentBytes;
use crate::sync::{Arc, AtomicUsize, Ordering, can_make_arc};
use std::fmt;

/// What owns the memory.
pub(crate) enum Owner {
    Vec(Vec<u8>),
    #[cfg(feature = "bytes")]
    Bytes(bytes::Bytes),
}

impl Owner {
    /// The owner of a vector's memory.
    pub(crate) fn of_vec(vec: Vec<u8>) -> Owner {
        Owner::Vec(vec)
    }

    /// The owner of the memory of `bytes`, and how much that keeps from the allocator, as far as it can be
    /// known: only of bytes that nobody shares, and past their beginning.
    #[cfg(feature = "bytes")]
    pub(crate) fn of_bytes(bytes: bytes::Bytes) -> (Owner, usize) {
        match bytes.try_into_mut() {
            Ok(bytes) => {
                let capacity = bytes.capacity();
                (Owner::Bytes(bytes.freeze()), capacity)
            }
            Err(bytes) => {
                let len = bytes.len();
                (Owner::Bytes(bytes), len)
            }
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Owner::Vec(vec) => vec,
            #[cfg(feature = "bytes")]
            Owner::Bytes(bytes) => bytes,
        }
    }
}

/// Frees the memory now, or once this thread has let go of its locks.
impl Drop for Owner {
    fn drop(&mut self) {
        #[cfg(feature = "bytes")]
        if let Owner::Bytes(bytes) = self {
            let bytes = std::mem::take(bytes);
            foreign::free(move || drop(bytes));
        }
    }
}

/// Memory that was given in one piece.
pub(crate) struct Given {
    owner: Owner,
    /// Bytes charged.
    charge: u64,
    /// The budget that they are charged to.
    budget: Arc<WatchedBudget>,
    /// How many pages in it count as their buffer's, and one more while they are being put there.
    pages: AtomicUsize,
    /// How many of its pages are lent.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    loans: AtomicUsize,
}

impl Given {
    /// Memory of `charge` bytes, which are reserved in `budget` already. It counts as its buffer's until
    /// [`Given::leave`]. If there is no memory to note it, releases them and returns the owner.
    pub(crate) fn new(owner: Owner, charge: u64, budget: &Arc<WatchedBudget>) -> Result<Arc<Given>, Owner> {
        if !can_make_arc::<Given>() {
            // Not noted, as in `Frame::allocate`.
            budget.budget().release(charge);
            return Err(owner);
        }
        Ok(Arc::new(Given {
            owner,
            charge,
            budget: Arc::clone(budget),
            pages: AtomicUsize::new(1),
            #[cfg(any(feature = "bytes", feature = "tokio"))]
            loans: AtomicUsize::new(0),
        }))
    }

    /// All of its bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.owner.bytes()
    }

    /// The budget that it is charged to.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn budget(&self) -> &Arc<WatchedBudget> {
        &self.budget
    }

    /// Bytes charged for it.
    pub(crate) fn charge(&self) -> u64 {
        self.charge
    }

    /// Whether it counts as a buffer's.
    pub(crate) fn is_held(&self) -> bool {
        self.pages.load(Ordering::Relaxed) > 0
    }

    /// Notes that one page less counts as the buffer's, and returns the bytes that this releases:
    /// all if it was the last.
    pub(crate) fn leave(&self) -> u64 {
        // Relaxed: the count orders no other memory. The reference orders the end of it.
        if self.pages.fetch_sub(1, Ordering::Relaxed) == 1 { self.charge } else { 0 }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let owner = std::mem::replace(&mut self.owner, Owner::Vec(Vec::new()));
        let (charge, budget) = (self.charge, Arc::clone(&self.budget));
        // I2: free first, then credit.
        foreign::free(move || {
            drop(owner);
            budget.release(charge);
            budget.tell(); // the operation that has freed it may have ended
        });
    }
}

/// Shows lengths, never the content.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, pages) = (self.bytes().len(), self.pages.load(Ordering::Relaxed));
        f.debug_struct("Given")
            .field("len", &len)
            .field("charge", &self.charge)
            .field("pages", &pages)
            .finish()
    }
}

/// One page of given memory.
#[derive(Debug)]
pub(crate) struct GivenPage {
    given: Arc<Given>,
    /// The offset of its first byte.
    at: usize,
    /// Bytes of a page.
    len: u32,
}

impl GivenPage {
    /// The `len` bytes of `given` from `at` on, which it has. They count as its buffer's,
    /// until [`Given::leave`].
    pub(crate) fn new(given: &Arc<Given>, at: usize, len: u32) -> GivenPage {
        debug_assert!(at + len as usize <= given.bytes().len());
        given.pages.fetch_add(1, Ordering::Relaxed);
        GivenPage { given: Arc::clone(given), at, len }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.given.bytes()[self.at..][..self.len()]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The memory that it lies in.
    pub(crate) fn given(&self) -> &Arc<Given> {
        &self.given
    }

    /// Counts its memory in `lent` for one page more, if no more than `limit` bytes are lent then: all of it,
    /// since all of it is kept, and once for all of its pages. Returns whether it did. Not to be called by
    /// two threads at once for one piece.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn begin_loan(&self, lent: &LentBytes, limit: u64) -> bool {
        let is_first = self.given.loans.fetch_add(1, Ordering::Relaxed) == 0;
        let is_lent = !is_first || lent.add(self.given.charge, limit);
        if !is_lent {
            self.given.loans.fetch_sub(1, Ordering::Relaxed);
        }
        is_lent
    }

    /// Ends a loan.
    #[cfg(any(feature = "bytes", feature = "tokio"))]
    pub(crate) fn end_loan(&self, lent: &LentBytes) {
        if self.given.loans.fetch_sub(1, Ordering::Relaxed) == 1 {
            lent.subtract(self.given.charge);
        }
    }
}
