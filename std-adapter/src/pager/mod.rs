//! The pager: one buffer's pages as the medium below the cursor. It moves bytes between the caller, frames
//! and slots.
//!
//! | file | holds |
//! |---|---|
//! | `state` | the buffer's table, pool, length and statistics |
//! | `medium` | small operations in the window; the pager as a medium |
//! | `reading`, `writing` | operations outside the window |
//! | `descent`, `descending` | passes downwards |
//! | `scattered` | small operations on resident pages outside the window |
//! | `turning` | the step of a pass to its next page, while all is in memory |
//! | `segments`, `slide` | frames that are shorter than their pages, while memory is short |
//! | `whole` | spilling everything, truncating, a file of the buffer's own |
//! | `residency` | which pages get frames; eviction |
//! | `span` | the part of a page that an access is for |
//! | `direct` | transfers between the caller and slots, without a frame |
//! | `checked` | transfers checked against checksums |
//! | `slot_io` | slots allocated and freed, transfers counted |
//! | `lending`, `loan` | bytes lent in place, for `fill_buf` |
//! | `inline`, `ahead` | what an event loop does without the store, and what is done for it off the loop |
//! | `load` | pages that are read while nothing keeps them where they are |
//! | `along` | what is done off the loop while the buffer stays there |
//! | `waiting`, `wait_state` | waiting for room at the disk limit |
//! | `base` | what a buffer shares with its clones |
//! | `overlay` | a buffer's pages over that |
//! | `split` | a buffer's pages become what it shares |
//! | `content` | pages that several handles read at once |
//! | `shared_frames`, `finished` | which of these pages get frames, and which make way first |
//! | `reader`, `shared` | the window that each of these has, and what they share |
//! | `content_loans`, `lent_page` | pages of content that are lent outside the pool |
//! | `growing`, `tail` | content that is appended to, and what of it lies beside its pages |
//! | `feed` | what stands between the writer of a spool and those that follow it |
//! | `export` | the whole content moved or copied to a file |
//! | `import` | the content of a file taken in |
//! | `keeping` | memory that a caller gives, as content |
//! | `audit` | the invariants recounted, for tests |

#[cfg(feature = "tokio")]
pub(crate) mod ahead;
#[cfg(feature = "tokio")]
pub(crate) mod along;
pub(crate) mod audit;
pub(crate) mod base;
pub(crate) mod below;
pub(crate) mod checked;
pub(crate) mod content;
#[cfg(any(feature = "bytes", feature = "tokio"))]
pub(crate) mod content_loans;
pub(crate) mod descending;
pub(crate) mod descent;
pub(crate) mod direct;
pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod finished;
pub(crate) mod growing;
pub(crate) mod import;
#[cfg(feature = "tokio")]
pub(crate) mod inline;
pub(crate) mod keeping;
pub(crate) mod lending;
#[cfg(any(feature = "bytes", feature = "tokio"))]
pub(crate) mod lent_page;
pub(crate) mod load;
pub(crate) mod loan;
pub(crate) mod medium;
pub(crate) mod overlay;
pub(crate) mod reader;
pub(crate) mod reading;
pub(crate) mod residency;
pub(crate) mod scattered;
pub(crate) mod segments;
pub(crate) mod shared;
pub(crate) mod shared_frames;
pub(crate) mod slide;
pub(crate) mod slot_io;
pub(crate) mod span;
pub(crate) mod split;
pub(crate) mod state;
#[cfg(feature = "tokio")]
pub(crate) mod tail;
pub(crate) mod turning;
pub(crate) mod wait_state;
pub(crate) mod waiting;
pub(crate) mod whole;
pub(crate) mod writing;
