//! Which page of a buffer is where: bookkeeping alone, without I/O.
//!
//! | file | holds |
//! |---|---|
//! | `table` | the page table: the window and all operations on pages |
//! | `page_map` | the pages outside the window, by index |
//! | `page` | where the bytes of one page are |
//! | `resident` | the bytes of a page in memory |
//! | `transit` | a page between its frame and its slot, in the hands of a reclaiming thread |
//! | `sums` | checksums of what is spilled |
//! | `usage` | what one buffer holds |

pub(crate) mod page;
pub(crate) mod page_map;
pub(crate) mod resident;
pub(crate) mod sums;
pub(crate) mod table;
pub(crate) mod transit;
pub(crate) mod usage;
