//! A seekable cursor over any medium, such as fixed memory, and a lock-free byte ring, for machines with
//! nothing but memory.
//!
//! [`ring`] is the queue for interrupt handlers, DMA and threads: see its documentation.
//!
//! [`Cursor`] is a binary file's interface (position, seek, gaps, truncation) over anything that
//! implements [`Medium`]: bytes at offsets. The same cursor serves the `overspill` crate, whose
//! medium moves its pages from RAM to disk.
//!
//! What this crate promises:
//!
//! - It never allocates, unless feature `alloc` adds [`Medium`] for `Vec<u8>`.
//! - It never panics, whatever its input. Two exceptions are code of others: the provided methods of other
//!   crates' traits, such as `bytes::Buf::get_u32`, which panics if fewer bytes remain (`try_get_u32` does
//!   not); and a `Display` that is passed to `write!`. `write_all` and `read_exact` are this crate's own.
//! - Positions and lengths are `u64` on every target; none is truncated on a 32-bit machine.
//! - A fixed medium has a length apart from its capacity: the end of the file is where writing
//!   stopped, not where the memory stops.
//!
//! ```
//! use overspill_core::embedded_io::{Read, Write};
//! use overspill_core::{Cursor, Fixed, SeekFrom};
//!
//! let mut file = Cursor::new(Fixed::new([0u8; 64]));
//! file.write_all(b"header")?; // all of it, or an error; `write` and `read` return how much they moved
//! file.seek(SeekFrom::Start(10))?; // past the end: the gap reads as zeros
//! file.write_all(b"body")?;
//! assert_eq!(file.len(), 14);
//!
//! file.rewind();
//! let mut head = [0; 12];
//! file.read_exact(&mut head)?;
//! assert_eq!(&head, b"header\0\0\0\0bo");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `heapless` (default) | [`Medium`] for `heapless::Vec<u8, N>` and `heapless::VecView<u8>` |
//! | `alloc` | [`Medium`] for `alloc::vec::Vec<u8>`, and for `Box<M>` of any medium `M` |
//! | `std` | conversions between std's and embedded-io's types; implies `alloc` |
//! | `async` | wake-ups (`ring::Waking`) and `embedded-io-async`, for the ring: a cursor's calls never wait for another end |
//! | `bytes` | `bytes::Buf` and `bytes::BufMut` for the ring |
//! | `embedded-dma` | `embedded_dma::WriteBuffer` and `ReadBuffer` for grants that own their end of a `static` ring |
//! | `defmt` | `defmt::Format` |
//! | `portable-atomic` | atomics for targets without compare-and-swap, and of 16 bits |
//! | `critical-section` | the same, swapping in a critical section |
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg), doc(auto_cfg(hide(overspill_loom))))]
#![deny(missing_docs)]
// Code that is pasted from the documentation compiles without warnings.
#![doc(test(attr(deny(unused_imports))))]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
mod alloc_vec;
#[doc(hidden)]
pub mod copy;
mod cursor;
mod fixed;
#[cfg(feature = "heapless")]
mod heapless_vec;
mod io;
mod medium;
pub mod ring;
mod sync;

#[cfg(feature = "alloc")]
pub use alloc_vec::AllocError;
pub use cursor::{Cursor, CursorError, InvalidSeek, WriteError};
pub use embedded_io::{self, SeekFrom};
pub use fixed::Fixed;
pub use medium::{CapacityError, Medium, ReadMedium};
