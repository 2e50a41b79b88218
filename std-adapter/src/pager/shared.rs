//! What all handles of frozen content share: the content, and readers for those that have none of their own.
//!
//! Held by: `tests/tests/frozen.rs`.

use crate::error::SpillError;
use crate::foreign::hold_back;
use crate::pager::content::Content;
use crate::pager::reader::Reader;
use crate::sync::{Arc, Mutex, OnceLock, lock, thread_number};
use crate::try_box::TryBox;
use std::array;

/// Readers for threads that read through one handle: a thread uses the one that its number falls on, so that two threads
/// seldom meet.
const COMMON: usize = 8;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) content: Content,
    /// Made by the first that reads without a reader.
    common: OnceLock<TryBox<[Apart; COMMON]>>,
}

/// A reader that shares no cache line with its neighbours, nor the next line, which processors load with it.
#[derive(Debug)]
#[repr(align(128))]
struct Apart(Mutex<Reader>);

impl Shared {
    pub(crate) fn new(content: Content) -> Self {
        Shared { content, common: OnceLock::new() }
    }

    /// See [`Content::read_at`]. Threads may call this at once.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let Some(common) = self.common() else { return self.content.read_at(offset, buf) };
        // A frame for the window may be another buffer's, whose first spill is an event; and its listener may read here too.
        let _held_back = hold_back();
        let mut reader = lock(&common[thread_number() % COMMON].0);
        if reader.read_window(&mut { offset }, buf) {
            return Ok(buf.len());
        }
        reader.read(&self.content, offset, buf)
    }

    /// The readers; `None` if there is no memory for them.
    fn common(&self) -> Option<&[Apart; COMMON]> {
        if self.common.get().is_none() {
            let reader = || Apart(Mutex::new(Reader::new(Arc::clone(&self.content.pool))));
            let made = TryBox::new(array::from_fn(|_| reader()))?;
            self.common.get_or_init(|| {
                self.content.add_readers(COMMON);
                made
            });
        }
        self.common.get().map(|common| &**common)
    }
}
