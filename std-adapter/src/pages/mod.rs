//! Which page of a buffer is where: bookkeeping alone, without I/O and without a limit.

pub(crate) mod page;
pub(crate) mod page_map;
pub(crate) mod resident;
pub(crate) mod sums;
pub(crate) mod table;
pub(crate) mod transit;
pub(crate) mod usage;
