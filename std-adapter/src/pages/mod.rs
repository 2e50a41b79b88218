//! Which page of a buffer is in which state. Bookkeeping only, without I/O.
//!
//! | file | holds |
//! |---|---|
//! | `table` | the page table, and all operations on pages |
//! | `window` | the page that operations come to one after another |
//! | `page_map` | the pages outside the window, by index |
//! | `leaf` | the entries of 256 neighbouring pages in the page map |
//! | `page` | the state of one page |
//! | `resident` | the bytes of a page in memory |
//! | `transit` | a page that a reclaiming thread moves from its frame to a slot |
//! | `sharing` | pages that are read without the table's lock |
//! | `sought` | what searches for memory could not take for the moment |
//! | `copies` | pages that a hole would show as well |
//! | `behind` | pages that a pass has left |
//! | `cutting` | cutting a table to a length |
//! | `cut_off` | what was cut off a table, to be freed |
//! | `retired` | the table that a dropped buffer leaves |
//! | `sums` | checksums of spilled pages |
//! | `usage` | the memory and disk that one buffer uses |

#[cfg(feature = "tokio")]
pub(crate) mod behind;
pub(crate) mod copies;
pub(crate) mod cut_off;
pub(crate) mod cutting;
pub(crate) mod leaf;
pub(crate) mod page;
pub(crate) mod page_map;
pub(crate) mod resident;
pub(crate) mod retired;
pub(crate) mod sharing;
pub(crate) mod sought;
pub(crate) mod sums;
pub(crate) mod table;
pub(crate) mod transit;
pub(crate) mod usage;
pub(crate) mod window;
