//! A seekable cursor over any medium, for machines with nothing but memory.
#![no_std]
#![deny(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod ring;
mod sync;
