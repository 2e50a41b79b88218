//! A store whose panics are errors.
//!
//! A store is foreign code, called in the middle of moving a page. A panic that unwound through the move
//! would lose the page in transit, leak its charge, and block the threads that wait for it for ever.
//!
//! Promises:
//!
//! - No panic of a store leaves this file. The operation fails with an error that carries the panic's
//!   message.
//!
//! Held by: the test below, `tests/tests/spill_edges.rs`, `tests/tests/spill_faults/`.

use crate::disk::store::Store;
use crate::foreign::contained;
use std::fs::File;
use std::io;

/// Forwards to the store within, and catches its panics.
#[derive(Debug)]
pub(crate) struct CatchUnwind(pub(crate) Box<dyn Store>);

/// Turns a panic of `call` into an error.
///
/// The crate assumes nothing about a store after an error of any kind, so a half-done call
/// breaks nothing here.
fn catch<R>(call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    contained(call).unwrap_or_else(|message| Err(io::Error::other(format!("the store panicked: {message}"))))
}

#[deny(clippy::missing_trait_methods)]
impl Store for CatchUnwind {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        catch(|| self.0.read_at(offset, buf))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        catch(|| self.0.write_at(offset, data))
    }

    fn write_vectored_at(&self, offset: u64, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        catch(|| self.0.write_vectored_at(offset, parts))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        catch(|| self.0.discard(offset, len))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        catch(|| self.0.set_len(len))
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        catch(|| self.0.copy_to_file(offset, len, file, at))
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        catch(|| self.0.copy_from_file(offset, len, file, at))
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Panicking;

    impl Store for Panicking {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            panic!("while reading")
        }

        fn write_at(&self, offset: u64, _: &[u8]) -> io::Result<usize> {
            panic!("while writing at {offset}")
        }

        fn discard(&self, _: u64, _: u64) -> io::Result<()> {
            std::panic::panic_any(7)
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        let store = CatchUnwind(Box::new(Panicking));
        let error = |result: io::Result<usize>| result.unwrap_err().to_string();
        assert_eq!(error(store.read_at(0, &mut [])), "the store panicked: while reading");
        assert_eq!(error(store.write_at(3, &[])), "the store panicked: while writing at 3");
        assert_eq!(error(store.write_vectored_at(4, &[])), "the store panicked: while writing at 4");
        assert_eq!(error(store.discard(0, 1).map(|()| 0)), "the store panicked: without a message");
        store.set_len(0).unwrap();
    }
}
