//! All `unsafe` of the ring: its memory, its two ends and its wakers, one folder to audit.
//!
//! Constructors of the ends and accesses to memory are visible in this folder only. Every proof
//! rests on these facts:
//!
//! - **R1** There is at most one [`WriteEnd`](write_end::WriteEnd) and one [`ReadEnd`](read_end::ReadEnd) of
//!   a ring at a time: [`ends::split`] borrows the ring exclusively, [`ends::try_split`] makes the next two
//!   once the last two are gone, one call at a time. Whatever an end does to the ring takes `&mut self`.
//! - **R2** Only the write end stores the write index; only the read end stores the read index.
//! - **R3** `read ≤ write ≤ read + capacity`, `read` having jumped where `write` has (R6): each end moves its
//!   index only over bytes that it owns.
//! - **R4** The write end owns the bytes from `write` to one capacity ahead of `seen`. `seen` is a read
//!   index that was loaded with Acquire, so that the reads which the read end made before storing it
//!   (Release) are over.
//! - **R5** The read end owns the bytes from `read` to `seen`. `seen` is a write index that was loaded with
//!   Acquire, so that the writes which the write end made before storing it (Release) have happened.
//! - **R6** The write index jumps ([`Indices::jump`](super::index::Indices::jump)) only while the ring is
//!   empty, the write end having loaded (Acquire) a read index equal to its own; and only away from a place
//!   that is not the first, so not again before bytes were written, and read by a read end that has
//!   followed. Each end takes the two indices through
//!   [`Indices::follow_jump`](super::index::Indices::follow_jump), by which the read index follows: over no
//!   byte, so that neither jump hands anything over or needs an ordering.
//! - **R7** A [`Bytes`](memory::Bytes) points to `capacity` bytes, initialised and alive while the ring is
//!   borrowed. Only the ends access them.
//!
//! Held by: `core/tests/loom_ring.rs` with `.ci/weaken` (interleavings and orderings),
//! `core/tests/ring_threads.rs` under the sanitizers, `core/tests/ring_jump.rs` (R6),
//! `tests/tests/ring_model.rs`.
#![allow(unsafe_code)]

#[cfg(feature = "bytes")]
pub(crate) mod buf;
#[cfg(feature = "embedded-dma")]
mod dma;
pub(crate) mod ends;
pub(crate) mod memory;
pub(crate) mod read_end;
#[cfg(feature = "async")]
pub(crate) mod waker_cell;
pub(crate) mod write_end;
