//! Transfers between the caller's bytes, or a frame, and slots: checked against the sums, and summed.
//!
//! Promises:
//!
//! - Nothing is read that does not fit its sum, if the pool keeps any. What comes before it is read, and
//!   the error has the place of the first block that does not.
//! - When a write returns, the sums are those of what the store says that it took.
//! - I5: nothing is summed, and no store works, while the table is locked.
//! - Without sums, a transfer is one transfer of the store.
//!
//! See [`sums`](crate::pages::sums) for the rules.

use crate::error::SpillError;
use crate::observe::counters::IoPath;
use crate::pager::span::Span;
use crate::pager::state::Pager;
use crate::pages::page::View;
use crate::pages::sums::{BLOCK, Checksums, sum};

/// How many sums are compared at a time: those of a page of 64 KiB.
const AT_ONCE: usize = 16;

/// A block that a write covers only a part of, as it was before.
struct Edge<'a> {
    index: u64,
    block: usize,
    /// How much of `bytes` its sum covers.
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

    /// Bytes that have one sum together.
    fn block(&self) -> usize {
        BLOCK.min(self.pool.page_size)
    }

    /// Bytes of spilled page `index` that have to be moved if it is, of which `valid` are content.
    pub(crate) fn covered(&mut self, index: u64, valid: usize) -> usize {
        if self.has_sums() { self.table(|table| table.sums.covered(index)).max(valid) } else { valid }
    }

    /// Page `index` was written to its slot whole.
    pub(crate) fn note_sums(&mut self, index: u64, content: &[u8]) {
        if let Some(page) = self.pool.checksums.of_page(content) {
            self.table(|table| table.sums.put(index, page));
        }
    }

    // ---- reading

    /// Reads `buf`, which is content at `offset`: of one spilled page or several side by side, from `place`
    /// in the store on. Says how much was read, at least one byte.
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
        let mut done = 0;
        while done < buf.len() {
            match self.read_blocks(path, offset + done as u64, store_offset + done as u64, &mut buf[done..]) {
                Ok(n) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Reads the blocks that lie in `buf` whole; or if it starts with a part of one, that part.
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
            let from = span.at % self.block();
            let mut room = [0; BLOCK];
            let covered = self.read_block(span, store_offset - from as u64, &mut room)?;
            let n = buf.len().min(covered - from);
            buf[..n].copy_from_slice(&room[from..from + n]);
            return Ok(n);
        }
        self.read_store(path, store_offset, &mut buf[..whole])?;
        match self.count_right(offset, &buf[..whole]) {
            0 => Err(corrupted(offset, store_offset, whole.min(self.block()))),
            right => Ok(right),
        }
    }

    /// How many of `len` bytes from `offset` on, in page `span` at first, are blocks that have sums of
    /// these bytes alone.
    fn whole_blocks(&mut self, span: Span, offset: u64, len: usize) -> usize {
        let rest = len % self.block();
        if !span.at.is_multiple_of(self.block()) {
            return 0;
        }
        // The last block of a page may be short.
        let last = self.span(offset + (len as u64 - 1), 1);
        let ends = rest > 0 && self.table(|table| table.sums.covered(last.index)) == last.end();
        if ends { len } else { len - rest }
    }

    /// How much of `data`, which was read from `offset` and is whole blocks, is right before something is
    /// not.
    fn count_right(&mut self, offset: u64, data: &[u8]) -> usize {
        let block = self.block();
        let mut right = 0;
        while right < data.len() {
            let span = self.span(offset + right as u64, (data.len() - right).min(AT_ONCE * block));
            let mut found = [None; AT_ONCE];
            let blocks = data[right..right + span.part].chunks(block);
            let count = blocks.len();
            found.iter_mut().zip(blocks).for_each(|(found, block)| *found = sum(block));
            let first = span.at / block;
            let fit = self.table(|table| table.sums.matching(span.index, first, &found[..count]));
            right = data.len().min(right + fit * block);
            if fit < count {
                break;
            }
        }
        right
    }

    /// Reads the block that `span` starts in, which is at `place` in the store, as far as its sum covers it;
    /// says how far that is.
    fn read_block(
        &mut self,
        span: Span,
        store_offset: u64,
        room: &mut [u8; BLOCK],
    ) -> Result<usize, SpillError> {
        let (size, block) = (self.block(), span.at / self.block());
        let covered = self.table(|table| table.sums.covered(span.index)) - block * size;
        let bytes = &mut room[..covered.min(size)];
        self.read_store(IoPath::Paged, store_offset, bytes)?;
        let found = [sum(bytes)];
        if self.table(|table| table.sums.matching(span.index, block, &found)) == 0 {
            let start = span.index * self.pool.page_size as u64 + (block * size) as u64;
            return Err(corrupted(start, store_offset, bytes.len()));
        }
        Ok(bytes.len())
    }

    // ---- writing

    /// Writes `data` as content at `offset`, to one page that is not in memory or several side by side, at
    /// `place` in the store. The number of bytes that are there now stands beside the result.
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
        let mut rooms = [[0; BLOCK]; 2];
        let [first_room, last_room] = &mut rooms;
        let first = match self.edge_before(offset, store_offset, first_room) {
            Ok(edge) => edge,
            Err(error) => return (0, Err(error)),
        };
        let (data, last) = match self.edge_behind(offset, store_offset, data.len(), first.as_ref(), last_room)
        {
            Ok(edge) => (data, edge),
            // What lies before a block that cannot be read can be written all the same.
            Err((0, error)) => return (0, Err(error)),
            Err((before, _)) => (&data[..before], None),
        };
        let (written, result) = self.write_store(path, store_offset, data);
        let mut edges = [first, last];
        let mut done = 0;
        while done < written {
            let from = self.span(offset + done as u64, 1).at % self.block();
            let len = (written - done).min(AT_ONCE * self.block() - from);
            let span = self.span(offset + done as u64, len);
            self.sum_written(span, &data[done..done + span.part], &mut edges);
            done += span.part;
        }
        (written, result)
    }

    /// The block that a write at `offset` begins within.
    fn edge_before<'a>(
        &mut self,
        offset: u64,
        store_offset: u64,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Option<Edge<'a>>, SpillError> {
        let span = self.span(offset, 1);
        match span.at % self.block() {
            0 => Ok(None),
            from => self.edge(span, store_offset - from as u64, room).map(Some),
        }
    }

    /// The block that a write of `len` bytes at `offset` ends within, unless that is `first`, or nothing lies
    /// behind its end. With an error comes how much lies before that block.
    fn edge_behind<'a>(
        &mut self,
        offset: u64,
        store_offset: u64,
        len: usize,
        first: Option<&Edge<'_>>,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Option<Edge<'a>>, (usize, SpillError)> {
        let last = self.span(offset + (len as u64 - 1), 1);
        let to = last.end() % self.block();
        let is_first = first.is_some_and(|edge| edge.is(last.index, last.at / self.block()));
        if to == 0 || is_first || self.table(|table| table.sums.covered(last.index)) <= last.end() {
            return Ok(None);
        }
        let before = len - to; // not less than nothing: the write begins with this block or before it
        self.edge(last, store_offset + before as u64, room).map(Some).map_err(|error| (before, error))
    }

    /// The block that `span` starts in, which is at `place` in the store.
    fn edge<'a>(
        &mut self,
        span: Span,
        store_offset: u64,
        room: &'a mut [u8; BLOCK],
    ) -> Result<Edge<'a>, SpillError> {
        let covered = self.read_block(span, store_offset, room)?;
        Ok(Edge { index: span.index, block: span.at / self.block(), covered, bytes: room })
    }

    /// Notes the sums of `data`, which was written to `span`: no more blocks than are summed at once.
    fn sum_written(&mut self, span: Span, data: &[u8], edges: &mut [Option<Edge<'_>>; 2]) {
        let size = self.block();
        let covered = self.table(|table| table.sums.covered(span.index));
        let mut sums = [None; AT_ONCE];
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
                // The store stopped in a block that was to be written whole: what is behind is old.
                None if to < size && covered > end => None,
                None => sum(piece),
            };
            count += 1;
            done += piece.len();
        }
        let first = span.at / size;
        self.table(|table| table.sums.set(span.index, first, &sums[..count], span.end()));
    }

    // ---- handing over

    /// Spilled pages whose sums cover more than their content: where they are, and how much content.
    fn covered_too_far(&mut self) -> Vec<(u64, u64, usize)> {
        self.table(|table| {
            let mut pages = Vec::new();
            table.for_each(|index, place| {
                if let View::Spilled { slot, valid } = place
                    && table.sums.covered(index) > valid
                {
                    pages.push((index, slot.offset, valid));
                }
            });
            pages
        })
    }

    /// Makes the sums of spilled pages cover their content and nothing behind it.
    pub(crate) fn fit_sums(&mut self) -> Result<(), SpillError> {
        let size = self.block();
        for (index, store_offset, valid) in self.covered_too_far() {
            let at = (valid - 1) / size * size;
            let mut room = [0; BLOCK];
            self.read_block(Span { index, at, part: 1 }, store_offset + at as u64, &mut room)?;
            let last = sum(&room[..valid - at]);
            self.table(|table| table.sums.shorten(index, valid, last));
        }
        Ok(())
    }
}

fn corrupted(position: u64, offset: u64, len: usize) -> SpillError {
    SpillError::Corrupted { position, offset, len: len as u64 }
}
