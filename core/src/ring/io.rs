//! `embedded-io`.
//!
//! `read` and `write` block, as their contract says, and the documentation of both ends warns of that. A ring
//! without memory is empty and full until an end is closed.
//!
//! Held by: `core/tests/ring_threads.rs`, `core/tests/ring_handles.rs`.

use core::convert::Infallible;

use embedded_io::{BufRead, ErrorType, Read, ReadExactError, ReadReady, Write, WriteReady};

use super::any_ring::AnyRing;
use super::consumer::Consumer;
use super::errors::Closed;
use super::producer::Producer;
use crate::io::{read_exact, write_all};
use crate::sync::spin_loop;

impl<R: AnyRing> ErrorType for Producer<'_, R> {
    type Error = Closed;
}

impl<R: AnyRing> ErrorType for Consumer<'_, R> {
    type Error = Infallible;
}

impl<R: AnyRing> Write for Producer<'_, R> {
    /// Waits for room, in a [loop that spins](Producer#blocking), and writes as many bytes as there is room
    /// for. Fails only if the consumer is closed and the ring is full.
    fn write(&mut self, buf: &[u8]) -> Result<usize, Closed> {
        loop {
            let count = self.push_slice(buf);
            if count > 0 || buf.is_empty() {
                return Ok(count);
            }
            if self.is_closed() {
                return self.write_after_close(buf);
            }
            spin_loop();
        }
    }

    fn write_all(&mut self, buf: &[u8]) -> Result<(), Closed> {
        write_all(self, buf)
    }

    /// Does nothing: what was written is in the ring.
    fn flush(&mut self) -> Result<(), Closed> {
        Ok(())
    }
}

impl<R: AnyRing> Producer<'_, R> {
    /// Tries once more: the consumer may have read between the last attempt and its close.
    pub(crate) fn write_after_close(&mut self, buf: &[u8]) -> Result<usize, Closed> {
        match self.push_slice(buf) {
            0 => Err(Closed),
            count => Ok(count),
        }
    }
}

impl<R: AnyRing> WriteReady for Producer<'_, R> {
    /// Whether `write` returns at once. If true, it stays true until you write. If false, it may
    /// turn true at any moment.
    fn write_ready(&mut self) -> Result<bool, Closed> {
        Ok(self.is_writable(1) || self.is_closed())
    }
}

impl<R: AnyRing> Read for Consumer<'_, R> {
    /// Waits for bytes, in a [loop that spins](Consumer#blocking), and reads as many as there are and as
    /// `buf` has room for. Returns `Ok(0)` if the producer is closed and all is read.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Infallible> {
        if buf.is_empty() {
            return Ok(0);
        }
        self.fill_buf()?;
        Ok(self.pop_slice(buf))
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), ReadExactError<Infallible>> {
        read_exact(self, buf)
    }
}

impl<R: AnyRing> BufRead for Consumer<'_, R> {
    /// Waits for bytes, in a [loop that spins](Consumer#blocking), and lends those before the wrap. Lends
    /// none if the producer is closed and all is read.
    fn fill_buf(&mut self) -> Result<&[u8], Infallible> {
        while self.end.filled_bytes(1) == 0 {
            if self.is_closed() {
                // The producer may have written between the last load of its index and its close.
                self.end.filled_bytes(1);
                break;
            }
            spin_loop();
        }
        Ok(self.end.filled_slices(usize::MAX).0)
    }

    /// Removes the first `amount` of the bytes that `fill_buf` lent. A larger `amount` may also remove bytes
    /// that it did not lend: how many depends on the layout, and never more than are in the ring.
    fn consume(&mut self, amount: usize) {
        self.end.release(amount);
    }
}

impl<R: AnyRing> ReadReady for Consumer<'_, R> {
    /// Whether `read` returns at once. If true, it stays true until you read. If false, it may
    /// turn true at any moment.
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.is_readable(1) || self.is_closed())
    }
}
