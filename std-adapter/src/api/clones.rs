//! A second buffer with the same content.
//!
//! Held by: `tests/tests/clones.rs`.

use crate::api::buffer::SpillBuffer;
use crate::error::SpillError;

impl SpillBuffer {
    /// Makes a second buffer with the same content, which then goes its own way.
    ///
    /// It begins at this buffer's position, and has a position of its own from then on. Neither of the two
    /// sees what is written to the other, nor how that is cut or grows.
    /// [`File::try_clone`](std::fs::File::try_clone) does something else: its two files share one content and
    /// one position.
    ///
    /// No byte is copied, neither in memory nor on the disk: both share the pages there are. A write to a
    /// shared page first copies it for the writer, unless it covers the whole page. While memory is spare,
    /// small sequential reads copy pages too, and otherwise a part of one at a time. A copy is charged as any
    /// other page. Shared pages are the pool's, which counts those that were written between the same two
    /// clones as one more buffer: they leave memory as any others do, and [`stats`](SpillBuffer::stats) and
    /// [`is_spilled`](SpillBuffer::is_spilled) of the two do not count them, nor what is read of them from
    /// the store, which only the pool's statistics have. They are freed with the last that sees them.
    ///
    /// The clone is a buffer of the same pool, with the same limits of its own. Both count from 0: what they
    /// share counts towards no buffer's own limits, also once one of them is gone, and only the pool's limits
    /// bound it. That of a buffer without a
    /// pool has none either: what it writes is charged to a memory limit of its own, as large. A buffer
    /// that was made by [`SpillPool::buffer_for`](crate::SpillPool::buffer_for) shares its file too: to
    /// persist either copies then.
    ///
    /// It takes `&mut self`, since the pages change hands. For many that read and none that writes,
    /// [`freeze`](SpillBuffer::freeze) costs less.
    ///
    /// ```
    /// use overspill::SpillBuffer;
    /// use std::io::Write;
    ///
    /// let mut page = SpillBuffer::new();
    /// page.write_all(b"<h1>Hello, ")?;
    /// let mut other = page.try_clone()?;
    /// page.write_all(b"Ada")?;
    /// other.write_all(b"Blaise")?;
    /// assert_eq!((page.to_vec()?, other.to_vec()?), (b"<h1>Hello, Ada".to_vec(), b"<h1>Hello, Blaise".to_vec()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// ```compile_fail,E0596
    /// fn keep(buffer: &overspill::SpillBuffer) -> overspill::SpillBuffer {
    ///     buffer.try_clone().unwrap()
    /// }
    /// ```
    ///
    /// # Cost
    /// - A clone takes some microseconds, and 5 to 10 ns more for each page that was written since the last
    ///   clone: a million pages took 5 to 9 ms.
    /// - A clone of a buffer that was cloned before goes over its *runs* too: pages that lie side by side and
    ///   were written between the same two clones, and the gaps between such. There are at most twice as many
    ///   runs as pages, however many clones were made. Each takes 24 bytes of memory in each clone, which are
    ///   not charged; and what was written between two clones takes 1 kB, as long as a clone sees any of it.
    /// - A cut goes over the runs that it cuts off, and frees what they took if no clone has them too.
    /// - A read takes as long as in a buffer that was never cloned, however many clones there are. While
    ///   memory is short, small reads in a row of what is shared bring as much of it at a time as the
    ///   buffer's share of memory allows; from there each takes some 50 ns, where it would take 3 in pages of
    ///   the buffer's own.
    ///
    /// A shared page that only one of the two still has, and that it has overwritten or cut off, is freed
    /// once that one goes on to another page; at the latest when it is cloned next, or is dropped, and if it
    /// has no more than 64 runs, when it is cut next.
    /// [`spill`](SpillBuffer::spill) moves the pages that a buffer has for itself, not those it shares.
    ///
    /// With [`Checksums`](crate::Checksums), bytes of a shared page that were changed in the store are an
    /// error for the reads of those bytes alone, and for each write to that page which does not cover all of
    /// it: what it does not cover is copied before.
    ///
    /// # Errors
    /// [`SpillError::OutOfMemory`] if there is no memory for the second buffer, or for its list of runs;
    /// [`SpillError::Forked`] in a forked child, if another thread of its parent was using the pages of this
    /// buffer at the moment of the fork. Nothing has changed then.
    pub fn try_clone(&mut self) -> Result<SpillBuffer, SpillError> {
        let pager = self.pager.try_clone()?;
        Ok(SpillBuffer { position: self.position, pager })
    }
}
