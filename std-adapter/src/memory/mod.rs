//! Memory for pages: frames, the budget that they are charged to, and free lists.
//!
//! | file | holds |
//! |---|---|
//! | `budget` | a limit, and the bytes used of it |
//! | `system` | chunks of address space from the operating system |
//! | `pieces` | chunks that are cut into pieces of one length, and which pieces are free |
//! | `warm` | freed pieces whose memory stays resident |
//! | `chunks` | the pieces of the process, and which of them go back to the system |
//! | `block` | a piece, or memory of the allocator, and how much of it was written |
//! | `frame` | the memory of one page, with its charge |
//! | `given` | memory that a caller gave, with its charge |
//! | `page_frame` | a frame, or a page of given memory |
//! | `lent` | how much of a pool's memory is lent |
//! | `size_class` | the lengths of frames |
//! | `free_lists` | frames for recycling |
//! | `frame_pool` | acquiring and recycling frames |
//! | `copy` | copies between frames and callers |
//! | `scratch` | memory to copy through |
//! | `prefetch` | what is read soon, on its way to the processor's cache |
//! | `ordered` | a map in order, whose growth may be refused |
//! | `machine` | how much memory this process may use |

pub(crate) mod block;
pub(crate) mod budget;
pub(crate) mod chunks;
pub(crate) mod copy;
pub(crate) mod frame;
pub(crate) mod frame_pool;
pub(crate) mod free_lists;
pub(crate) mod given;
pub(crate) mod lent;
pub(crate) mod machine;
pub(crate) mod ordered;
pub(crate) mod page_frame;
pub(crate) mod pieces;
pub(crate) mod prefetch;
pub(crate) mod scratch;
pub(crate) mod size_class;
pub(crate) mod system;
pub(crate) mod warm;
