//! The polled forms of buffers, readers and writers: what an event loop asks of them, whatever its runtime.
//!
//! | file | holds |
//! |---|---|
//! | `buffer`, `buffer_io` | a buffer, or where it is; its reads, writes and seeks |
//! | `reader`, `read_ahead` | readers of content that is not written any more; what is read for them |
//! | `follower`, `writer` | the ends of a spool |
//! | `job` | what is done for a buffer off the loop |
//! | `along` | what is done there while the buffer stays |
//! | `beside` | bytes that lie beside the pages |
//! | `blocked` | a call that waits for room |
//! | `held` | handles that a loop may drop |
//! | `runtime` | what is needed of a runtime |

pub(crate) mod along;
pub(crate) mod beside;
pub(crate) mod blocked;
pub(crate) mod buffer;
pub(crate) mod buffer_io;
pub(crate) mod follower;
pub(crate) mod held;
pub(crate) mod job;
pub(crate) mod read_ahead;
pub(crate) mod reader;
pub(crate) mod runtime;
pub(crate) mod writer;
