//! Checked transfers between memory and slots: a read verifies the checksums (sums), a write updates them.
//!
//! Promises:
//!
//! - I9: no block is returned that does not match its sum, if the pool keeps sums. A read returns the bytes
//!   before that block; a read that starts there fails with an error that names the place.
//! - When a write returns, the sums are those of the bytes that the store has accepted.
//! - I5: no sum is computed, and no store I/O happens, while the table is locked.
//! - Without sums, a transfer is one transfer of the store.
//!
//! See [`sums`](crate::pages::sums) for the rules.
//!
//! Held by: `tests/tests/checksums`, `tests/tests/spill_faults`.

use crate::error::SpillError;
use crate::foreign::{as_far_as, drop_quietly};
use crate::observe::counters::IoPath;
use crate::pager::span::Span;
use crate::pager::state::Pager;
use crate::pages::sums::{BLOCK, Checksums, sum};

/// How many sums are compared or noted at a time: those of a page of 64 KiB.
const BLOCKS_AT_ONCE: usize = 16;

/// A block that a write covers only in part, as it was before the write.
struct Edge<'a> {
    /// The index of the page.
    index: u64,
    /// The index of the block in the page.
    block: usize,
    /// How many of `bytes` the block's sum covers.
    covered: usize,
    bytes: &'a mut [u8; BLOCK],
}

impl Edge<'_> {
    fn is(&self, index: u64, block: usize) -> bool {
        (self.index, self.block) == (index, block)
    }
}

impl Pager {
    pub(crate) fn has_sums(&self) -> bool {
        self.pool.checksums == Checksums::On
    }

    /// The bytes of a block: [`BLOCK`], or a page if that is smaller.
    pub(crate) fn block_bytes(&self) -> usize {
        BLOCK.min(self.pool.page_size)
    }

    /// Bytes of spilled page `index` to copy when it moves: its content, which ends at `end`, and what the
    /// sums cover past it.
    pub(crate) fn covered(&mut self, index: u64, end: usize) -> usize {
        if self.has_sums() { self.table(|table| table.sums.covered(index)).max(end) } else { end }
    }

    /// Makes sure that the sums of `len` bytes at `offset` can be noted. Returns false if there
    /// is no memory for that.
    fn reserve_sums(&mut self, offset: u64, len: usize) -> bool {
        let mut done = 0;
        while done < len {
            let span = self.span(offset + done as u64, len - done);
            if !self.table(|table| table.sums.reserve(span.index, span.end())) {
                return false;
            }
            done += span.part;
        }
        true
    }

    // ---- reading

    /// Reads the content at `offset` into `buf`, from `store_offset` on: content of one spilled page, or of
    /// several whose slots are adjacent. Returns how much was read, at least one byte.
    pub(crate) fn read_spilled(
        &mut self,
        path: IoPath,
        offset: u64,
        store_offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        if !self.has_sums() {
            return self.read_store(path, store_offset, buf).map(|()| buf.len());
        }
        as_far_as(buf.len(), |done| {
            self.read_blocks(path, offset + done as u64, store_offset + done as u64, &mut buf[done..])
        })
    }

    /// Reads the blocks that lie in `buf` whole; if there is none at its start, reads a part of one block.
    fn read_blocks(
        &mut self,
        path: IoPath,
        offset: u64,
        store_offset: u64,
        buf: &mut [u8],
    ) -> Result<usize, SpillError> {
        let span = self.span(offset, buf.len());
        let whole = self.whole_blocks(span, offset, buf.len());
        if whole == 0 {
            let from = span.at % self.block_bytes();
            let mut room = [0; BLOCK];
            let covered = self.read_block(span, store_offset - from as u64, &mut room)?;
            let n = buf.len().min(covered - from);
            buf[..n].copy_from_slice(&room[from..from + n]);
            return Ok(n);
        }
        self.read_store(path, store_offset, &mut buf[..whole])?;
        match self.matching_len(offset, &buf[..whole]) {
            0 => Err(self.corrupted(path, offset, store_offset, whole.min(self.block_bytes()))),
            matching => Ok(matching),
        }
    }

    /// How many of `len` bytes at `offset` are whole blocks, whose sums cover these bytes and no others.
    /// `span` is the first page's part.
    fn whole_blocks(&mut self, span: Span, offset: u64, len: usize) -> usize {
        let rest = len % self.block_bytes();
        if !span.at.is_multiple_of(self.block_bytes()) {
            return 0;
        }
        // The last block of a page may be short.
        let last = self.span(offset + (len as u64 - 1), 1);
        let last_is_whole = rest > 0 && self.table(|table| table.sums.covered(last.index)) == last.end();
        if last_is_whole { len } else { len - rest }
    }

    /// How many bytes of `data`, which are whole blocks read at `offset`, lie before the first block that
    /// does not match its sum.
    fn matching_len(&mut self, offset: u64, data: &[u8]) -> usize {
        let block = self.block_bytes();
        let mut done = 0;
        while done < data.len() {
            let span = self.span(offset + done as u64, (data.len() - done).min(BLOCKS_AT_ONCE * block));
            let mut found = [None; BLOCKS_AT_ONCE];
            let blocks = data[done..done + span.part].chunks(block);
            let count = blocks.len();
            found.iter_mut().zip(blocks).for_each(|(found, block)| *found = sum(block));
            let first = span.at / block;
            let matching = self.table(|table| table.sums.matching(span.index, first, &found[..count]));
            done = data.len().min(done + matching * block);
            if matching < count {
                break;
            }
        }
        done
    }

    /// Reads the block that `span` starts in, from `store_offset`, as far as its sum covers it, and checks
    /// it. Returns how many bytes that is.
    fn read_block(
        &mut self,
        span: Span,
        store_offset: u64,
        room: &mut [u8; BLOCK],
    ) -> Result<usize, SpillError> {
        let (size, block) = (self.block_bytes(), span.at / self.block_bytes());
        let covered = self.table(|table| table.sums.covered(span.index)) - block * size;
        let bytes = &mut room[..covered.min(size)];
        self.read_store(IoPath::Paged, store_offset, bytes)?;
        let found = [sum(bytes)];
        if self.table(|table| table.sums.matching(span.index, block, &found)) == 0 {
            let start = span.index * self.pool.page_size as u64 + (block * size) as u64;
            return Err(self.corrupted(IoPath::Paged, start, store_offset, bytes.len()));
        }
        Ok(bytes.len())
    }

    // ---- writing

    /// Writes `data` as the content at `offset`, to `store_offset`: content of one page that is not in
    /// memory, or of several whose slots are adjacent. Returns the number of bytes written, also with an
    /// error.
    pub(crate) fn write_spilled(
        &mut self,
        path: IoPath,
        offset: u64,
        store_offset: u64,
        data: &[u8],
    ) -> (usize, Result<(), SpillError>) {
        if !self.has_sums() || data.is_empty() {
            return self.write_store(path, store_offset, data);
        }
        if !self.reserve_sums(offset, data.len()) {
            return (0, Err(SpillError::OutOfMemory));
        }
        let mut rooms = [[0; BLOCK]; 2];
        let [first_room, last_room] = &mut rooms;
        let first = match self.edge_before(offset, store_offset, first_room) {
            Ok(edge) => edge,
            Err(error) => return (0, Err(error)),
        };
        let (data, last) = match self.edge_after(offset, store_offset, data.len(), first.as_ref(), last_room)
        {
            Ok(edge) => (data, edge),
            // The last block cannot be read, so do not write it. Write what lies before it.
            Err((0, error)) => return (0, Err(error)),
            Err((before, error)) => {
                drop_quietly(error);
                (&data[..before], None)
            }
        };
        let (written, result) = self.write_store(path, store_offset, data);
        let mut edges = [first, last];
        let mut done = 0;
        while done < written {
            let from = self.span(offset + done as u64, 1).at % self.block_bytes();
            let len = (written - done).min(BLOCKS_AT_ONCE * self.block_bytes() - from);
            let span = self.span(offset + done as u64, len);
            self.sum_written(span, &data[done..done + span.part], &mut edges);
            done += span.part;
        }
        (written, result)
    }

    /// Reads the block that a write at `offset` begins within; `None` if it begins with a block.
    fn edge_before<'a>(
        &mut self,
        offset: u64,
        store_offset: u64,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Option<Edge<'a>>, SpillError> {
        let span = self.span(offset, 1);
        match span.at % self.block_bytes() {
            0 => Ok(None),
            from => self.edge(span, store_offset - from as u64, room).map(Some),
        }
    }

    /// Reads the block that a write of `len` bytes at `offset` ends within; `None` if that is `first`, or if
    /// its sum covers nothing past the write. An error comes with the number of bytes to write before that
    /// block.
    fn edge_after<'a>(
        &mut self,
        offset: u64,
        store_offset: u64,
        len: usize,
        first: Option<&Edge<'_>>,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Option<Edge<'a>>, (usize, SpillError)> {
        let last = self.span(offset + (len as u64 - 1), 1);
        let to = last.end() % self.block_bytes();
        let is_first = first.is_some_and(|edge| edge.is(last.index, last.at / self.block_bytes()));
        if to == 0 || is_first || self.table(|table| table.sums.covered(last.index)) <= last.end() {
            return Ok(None);
        }
        let before = len - to; // no underflow: the write begins at or before the start of this block
        self.edge(last, store_offset + before as u64, room).map(Some).map_err(|error| (before, error))
    }

    /// Reads the block that `span` starts in, from `store_offset`.
    fn edge<'a>(
        &mut self,
        span: Span,
        store_offset: u64,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Edge<'a>, SpillError> {
        let covered = self.read_block(span, store_offset, room)?;
        Ok(Edge { index: span.index, block: span.at / self.block_bytes(), covered, bytes: room })
    }

    /// Notes the sums of `data`, which was written to `span`: at most [`BLOCKS_AT_ONCE`] blocks of one page.
    fn sum_written(&mut self, span: Span, data: &[u8], edges: &mut [Option<Edge<'_>>; 2]) {
        let size = self.block_bytes();
        let covered = self.table(|table| table.sums.covered(span.index));
        let mut sums = [None; BLOCKS_AT_ONCE];
        let (mut done, mut count) = (0, 0);
        while done < data.len() {
            let at = span.at + done;
            let (block, from) = (at / size, at % size);
            let piece = &data[done..data.len().min(done + size - from)];
            let (to, end) = (from + piece.len(), at + piece.len());
            sums[count] = match edges.iter_mut().flatten().find(|edge| edge.is(span.index, block)) {
                Some(edge) => {
                    edge.bytes[from..to].copy_from_slice(piece);
                    sum(&edge.bytes[..to.max(edge.covered)])
                }
                // The store stopped inside a block that was to be written whole. The rest of it is old and
                // was not read, so the block has no sum.
                None if to < size && covered > end => None,
                None => sum(piece),
            };
            count += 1;
            done += piece.len();
        }
        let first = span.at / size;
        self.table(|table| table.sums.set(span.index, first, &sums[..count], span.end()));
    }

    // ---- exporting

    /// The first spilled page from `from` on whose sums cover more than its content: index, slot offset
    /// and bytes of content.
    fn next_covered_past_content(&mut self, from: u64) -> Option<(u64, u64, usize)> {
        self.table(|table| table.next_spilled(from, |index, end| table.sums.covered(index) > end))
            .map(|(index, slot, end)| (index, slot.offset, end))
    }

    /// Makes the sums of spilled pages cover their content and nothing past it. Reads and checks each last
    /// block.
    pub(crate) fn fit_sums(&mut self) -> Result<(), SpillError> {
        let size = self.block_bytes();
        let mut from = 0;
        while let Some((index, store_offset, end)) = self.next_covered_past_content(from) {
            from = index + 1;
            let at = (end - 1) / size * size;
            let mut room = [0; BLOCK];
            self.read_block(Span { index, at, part: 1 }, store_offset + at as u64, &mut room)?;
            let last = sum(&room[..end - at]);
            self.table(|table| table.sums.shorten(index, end, last));
        }
        Ok(())
    }
}
