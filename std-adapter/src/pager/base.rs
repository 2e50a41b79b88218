//! What a buffer shares with its clones: content that nobody writes any more, and which of it
//! the buffer still sees.
//!
//! When a buffer is cloned, its pages become a *source*, complete content with a table of its own, and both
//! buffers begin again with empty tables over it. A hole of such a table, before the end of the *base*, is
//! what the source has there; a page that is not a hole hides the source. So a clone moves and copies
//! nothing, the pool takes the source's memory as any other buffer's, and the first write to a page copies
//! that page. References counted for each page and slot would need a table copied for each clone, and pages
//! that neither owner's reclaim may take.
//!
//! A buffer that was written to since its last clone becomes a source again. Sources have no base
//! themselves: [`Layers`] say for each range of bytes which source has it. So a read asks one source,
//! however many clones there were before.
//!
//! Promises:
//!
//! - No source changes but by freeing what nobody sees: a buffer frees the pages of a source that it alone
//!   has, and that it hides.
//! - A cut takes time for the runs that it cuts off, and a search for room asks a bounded number of sources.
//! - Layers have at most twice as many runs as pages that were written, since a gap between two of them is a
//!   run of zeros. Those that a cut leaves behind are dropped. A source that no run names is freed.
//! - Nothing here allocates without asking.
//!
//! Held by: the tests below, `tests/tests/clones.rs`, `std-adapter/src/models/clones.rs` (loom).

use crate::error::SpillError;
use crate::pool::state::PoolState;
use crate::sync::{Arc, AtomicUsize, Ordering, try_arc};
use std::fmt::Debug;
use std::fs::File;
use std::ops::Range;

/// A cut goes over all runs if there are no more than these.
const FEW_RUNS: usize = 64;

/// Sources that one search for room asks at most.
const ASKED_MAX: usize = 16;

/// Which pages make way for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Those that leave memory without I/O: the frame is for a second copy of what is there.
    Clean,
    Any,
}

/// What the store has copied to a file by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StoreCopy {
    pub(crate) bytes: usize,
    /// It has refused some: they are to be read and written.
    pub(crate) is_refused: bool,
}

/// Complete content that buffers have as their base.
pub(crate) trait Source: Debug + Send + Sync {
    /// Reads into `buf` from `offset` on, as far as the content reaches.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError>;

    /// Lets the store copy what is spilled at `from`, and at most `most` bytes, to `at` in `file`: nothing if
    /// the page is in memory.
    fn copy_run(&self, from: u64, most: usize, file: &File, at: u64) -> StoreCopy;

    /// Where the first page begins, at or after `from`, that is no hole, or `from` if that lies in one.
    fn next_data(&self, from: u64) -> Result<Option<u64>, SpillError>;

    /// Frees the pages that lie in `range`, which nobody reads any more.
    fn discard(&self, range: Range<u64>);

    /// Evicts a page to make room for a frame of `bytes` in `pool`, for one buffer, if this has pages of
    /// that, and `leaving` allows. Returns whether it did.
    fn make_room(&self, bytes: usize, leaving: Leaving, pool: &PoolState) -> bool;

    /// Checks the invariants of the content.
    fn check_invariants(&self);
}

/// The bytes from the end of the run before to `end`: those of source number `source`, or zeros if that is
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    end: u64,
    source: Option<usize>,
}

/// Which source has which bytes.
#[derive(Debug)]
pub(crate) struct Layers {
    sources: Vec<Arc<dyn Source>>,
    /// In order, up to the end of the content. No two neighbours have the same source.
    runs: Vec<Run>,
    /// The source that the next search for room asks first.
    hand: AtomicUsize,
}

/// What lies below a buffer's own pages.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    layers: Arc<Layers>,
    /// Bytes of the layers that the buffer sees. A buffer that is cut sees less, whatever it grows to later.
    len: u64,
    /// The sources may still have what lies between `len` and here: others saw it when it was cut off, and a
    /// later cut frees it. From here on all is freed.
    held_to: u64,
}

/// Layers that are being made, with room for all that will come.
#[derive(Debug)]
pub(crate) struct LayersBuilder {
    layers: Arc<Layers>,
    /// For each source of the layers below: its number here, if it has one already.
    numbers: Vec<Option<usize>>,
}

impl LayersBuilder {
    /// Room for `ranges` of a new source above `below`. `None` if there is no memory for it.
    pub(crate) fn new(below: Option<&Base>, ranges: usize) -> Option<Self> {
        let (old_sources, old_runs) =
            below.map_or((0, 0), |base| (base.layers.sources.len(), base.layers.runs.len()));
        let (mut sources, mut runs, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
        sources.try_reserve_exact(old_sources + 1).ok()?;
        // Each range may cut a run in two, and stand between.
        runs.try_reserve_exact(old_runs + 2 * ranges + 2).ok()?;
        numbers.try_reserve_exact(old_sources).ok()?;
        numbers.resize(old_sources, None);
        Some(LayersBuilder { layers: try_arc(Layers { sources, runs, hand: AtomicUsize::new(0) })?, numbers })
    }

    /// The base of `len` bytes in which `source` has `ranges`, and `below` the rest.
    pub(crate) fn build(
        mut self,
        below: Option<&Base>,
        source: Arc<dyn Source>,
        ranges: &[Range<u64>],
        len: u64,
    ) -> Base {
        if let Some(layers) = Arc::get_mut(&mut self.layers) {
            layers.sources.push(source);
            let mut at = 0;
            for range in ranges {
                layers.add_below(below, at..range.start.min(len), &mut self.numbers);
                at = range.end.min(len);
                layers.add_run(Some(0), at);
            }
            layers.add_below(below, at..len, &mut self.numbers);
        }
        Base { layers: self.layers, len, held_to: len }
    }
}

impl Layers {
    fn add_below(&mut self, below: Option<&Base>, range: Range<u64>, numbers: &mut [Option<usize>]) {
        let Some(base) = below else { return self.add_run(None, range.end) };
        let mut at = range.start;
        while at < range.end.min(base.len) {
            let (end, source) = base.layers.run_at(at);
            at = end.min(range.end).min(base.len);
            let source = source.map(|number| {
                *numbers[number].get_or_insert_with(|| {
                    self.sources.push(Arc::clone(&base.layers.sources[number]));
                    self.sources.len() - 1
                })
            });
            self.add_run(source, at);
        }
        self.add_run(None, range.end);
    }

    fn add_run(&mut self, source: Option<usize>, end: u64) {
        match self.runs.last_mut() {
            Some(last) if last.end >= end => {}
            Some(last) if last.source == source => last.end = end,
            None if end == 0 => {}
            _ => self.runs.push(Run { end, source }),
        }
    }

    /// The end of the run that has `offset`, which lies before the end of all, and the number of its source.
    fn run_at(&self, offset: u64) -> (u64, Option<usize>) {
        self.runs.get(self.position(offset)).map_or((u64::MAX, None), |run| (run.end, run.source))
    }

    /// The position of the run that has `offset`.
    fn position(&self, offset: u64) -> usize {
        self.runs.partition_point(|run| run.end <= offset)
    }

    /// Where the run at `position` ends, together with the runs of zeros behind it; `u64::MAX` if no source
    /// follows. With them, because a run may end inside a page, of which they then have the rest.
    fn end_with_zeros(&self, position: usize) -> u64 {
        let mut further = self.runs.iter().skip(position + 1);
        let next = further.position(|run| run.source.is_some());
        next.map_or(u64::MAX, |next| self.runs[position + next].end)
    }

    /// Drops the runs past `len`, of which nobody sees anything any more, and the memory that they took.
    fn shorten(&mut self, len: u64) {
        self.runs.truncate(self.runs.partition_point(|run| run.end < len) + 1);
        if self.runs.len() < self.runs.capacity() / 4 {
            self.runs.shrink_to(2 * self.runs.len());
        }
    }

    /// Frees what the run at `position` has in `range`. Returns false if others have its source too, and may
    /// see it.
    fn free(&mut self, position: usize, range: Range<u64>) -> bool {
        let Some(number) = self.runs.get(position).and_then(|run| run.source) else { return true };
        let is_own = Arc::get_mut(&mut self.sources[number]).is_some();
        if is_own {
            self.sources[number].discard(range);
        }
        is_own
    }
}

impl Base {
    /// Bytes of the sources that the buffer sees.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Sees no more than `len` bytes from now on.
    pub(crate) fn cut(&mut self, len: u64) {
        if len >= self.len {
            return;
        }
        self.len = len;
        if self.layers.runs.len() <= FEW_RUNS {
            return self.free_unseen();
        }
        let held_to = self.held_to;
        let Some(layers) = Arc::get_mut(&mut self.layers) else { return };
        let (mut from, mut all_freed) = (len, true);
        for position in layers.position(len)..layers.runs.len() {
            if from >= held_to {
                break;
            }
            all_freed &= layers.free(position, from..layers.end_with_zeros(position));
            from = layers.runs[position].end;
        }
        if all_freed {
            self.held_to = len;
            layers.shorten(len);
        }
    }

    /// Reads at least one byte of `buf`, which is not empty, from `offset` on, which lies before the end.
    pub(crate) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError> {
        let (end, source) = self.layers.run_at(offset);
        let left = end.min(self.len).saturating_sub(offset);
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buf = &mut buf[..len];
        match source {
            Some(number) => self.layers.sources[number].read_at(offset, buf),
            None => {
                buf.fill(0);
                Ok(len)
            }
        }
    }

    /// See [`Source::copy_run`]. `offset` may lie past the end.
    pub(crate) fn copy_run(&self, offset: u64, most: usize, file: &File, at: u64) -> StoreCopy {
        let (end, source) = self.layers.run_at(offset);
        let left = end.min(self.len).saturating_sub(offset);
        let most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
        match source {
            Some(number) if most > 0 => self.layers.sources[number].copy_run(offset, most, file, at),
            _ => StoreCopy::default(),
        }
    }

    /// Fills `buf` from `offset` on. All of it lies before the end.
    pub(crate) fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), SpillError> {
        let mut done = 0;
        while done < buf.len() {
            done += self.read_at(offset + done as u64, &mut buf[done..])?;
        }
        Ok(())
    }

    /// The first byte of `range` that lies in no hole, as far as whole pages tell.
    pub(crate) fn next_data(&self, range: Range<u64>) -> Result<Option<u64>, SpillError> {
        let (mut at, until) = (range.start, range.end.min(self.len));
        while at < until {
            let (end, source) = self.layers.run_at(at);
            if let Some(number) = source
                && let Some(found) = self.layers.sources[number].next_data(at)?
                && found < end.min(until)
            {
                return Ok(Some(found));
            }
            at = end;
        }
        Ok(None)
    }

    /// Frees what `range` has in its source, if nobody else sees that. The buffer does not any more.
    pub(crate) fn forget(&mut self, range: Range<u64>) {
        if range.start >= self.len {
            return;
        }
        let Some(layers) = Arc::get_mut(&mut self.layers) else { return };
        let position = layers.position(range.start);
        if range.end.min(self.len) <= layers.end_with_zeros(position) {
            layers.free(position, range);
        }
    }

    /// Frees what sources have that only these layers name, and that no run shows. Not without memory to find
    /// out.
    pub(crate) fn free_unseen(&mut self) {
        let len = self.len;
        let Some(layers) = Arc::get_mut(&mut self.layers) else { return };
        let mut all_freed = true;
        // Up to where each source was looked at; `None` if others see it too.
        let mut done = Vec::new();
        if done.try_reserve_exact(layers.sources.len()).is_err() {
            return;
        }
        done.extend(layers.sources.iter_mut().map(|source| Arc::get_mut(source).map(|_| 0)));
        let mut start = 0;
        for run in &layers.runs {
            let (from, end) = (start, run.end.min(len));
            start = run.end;
            if let Some(number) = run.source
                && let Some(done) = &mut done[number]
                && from < end
            {
                layers.sources[number].discard(*done..from);
                *done = end;
            }
        }
        for (source, done) in layers.sources.iter().zip(done) {
            match done {
                Some(done) => source.discard(done..u64::MAX),
                None => all_freed = false,
            }
        }
        if all_freed {
            self.held_to = len;
            layers.shorten(len);
        }
    }

    /// Makes room for a frame of `bytes`: see [`Source::make_room`]. Asks a few sources, the one first that
    /// made room last.
    pub(crate) fn make_room(&self, bytes: usize, leaving: Leaving, pool: &PoolState) -> bool {
        let Layers { sources, hand, .. } = &*self.layers;
        let first = hand.load(Ordering::Relaxed).checked_rem(sources.len()).unwrap_or(0);
        let mut turn = (first..sources.len()).chain(0..first).take(ASKED_MAX);
        let found = turn.find(|&number| sources[number].make_room(bytes, leaving, pool));
        hand.store(found.unwrap_or(first + ASKED_MAX), Ordering::Relaxed);
        found.is_some()
    }

    pub(crate) fn check_invariants(&self) {
        let runs = &self.layers.runs;
        assert!(runs.windows(2).all(|two| two[0].end < two[1].end && two[0].source != two[1].source));
        assert!(runs.last().is_some_and(|last| last.end >= self.len && self.len > 0));
        self.layers.sources.iter().for_each(|source| source.check_invariants());
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests;
