//! The face for tokio: what is polled in [`api`](crate::api) as `AsyncRead`, `AsyncWrite`,
//! `AsyncSeek` and `AsyncBufRead`.
//!
//! | file | holds |
//! |---|---|
//! | `buffer` | a buffer |
//! | `persist` | a buffer on its way to a name |
//! | `frozen_reader` | a reader of frozen content |
//! | `spool_reader`, `spool_writer` | the ends of a spool |
//! | `whole` | calls for small pieces that the handles have of their own |
//! | `vectored` | how several slices are written |
//! | `turn` | how a task lets others run |
//! | `runtime` | how a job gets a thread, and a wait its end |

pub(crate) mod buffer;
pub(crate) mod frozen_reader;
pub(crate) mod persist;
pub(crate) mod runtime;
pub(crate) mod spool_reader;
pub(crate) mod spool_writer;
pub(crate) mod turn;
pub(crate) mod vectored;
pub(crate) mod whole;
