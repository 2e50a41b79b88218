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
//! - Layers have at most as many runs as there are pages, and a source that no run names is freed.
//! - Nothing here allocates without asking.
//!
//! Held by: the tests below, `tests/tests/clones.rs`, `std-adapter/src/models/clones.rs` (loom).

use crate::error::SpillError;
use crate::pool::state::PoolState;
use crate::sync::{Arc, try_arc};
use std::fmt::Debug;
use std::ops::Range;

/// Which pages make way for a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Those that leave memory without I/O: the frame is for a second copy of what is there.
    Clean,
    Any,
}

/// Complete content that buffers have as their base.
pub(crate) trait Source: Debug + Send + Sync {
    /// Reads into `buf` from `offset` on, as far as the content reaches.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, SpillError>;

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

/// Up to `end`, from the end of the run before: the number of the source, or `None` for zeros.
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
}

/// What lies below a buffer's own pages.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    layers: Arc<Layers>,
    /// Bytes of the layers that the buffer sees. A buffer that is cut sees less, whatever it grows to later.
    len: u64,
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
        Some(LayersBuilder { layers: try_arc(Layers { sources, runs })?, numbers })
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
        Base { layers: self.layers, len }
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
        let after = self.runs.partition_point(|run| run.end <= offset);
        self.runs.get(after).map_or((u64::MAX, None), |run| (run.end, run.source))
    }
}

impl Base {
    /// Bytes of the sources that the buffer sees.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Sees no more than `len` bytes from now on.
    pub(crate) fn cut(&mut self, len: u64) {
        if len < self.len {
            self.len = len;
            self.free_unseen();
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
        let (end, source) = layers.run_at(range.start);
        if let Some(number) = source
            && range.end.min(self.len) <= end
            && Arc::get_mut(&mut layers.sources[number]).is_some()
        {
            layers.sources[number].discard(range);
        }
    }

    /// Frees what sources have that only these layers name, and that no run shows. Not without memory to find
    /// out.
    pub(crate) fn free_unseen(&mut self) {
        let len = self.len;
        let Some(layers) = Arc::get_mut(&mut self.layers) else { return };
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
            if let Some(done) = done {
                source.discard(done..u64::MAX);
            }
        }
    }

    /// Makes room for a frame of `bytes`: see [`Source::make_room`].
    pub(crate) fn make_room(&self, bytes: usize, leaving: Leaving, pool: &PoolState) -> bool {
        self.layers.sources.iter().any(|source| source.make_room(bytes, leaving, pool))
    }

    pub(crate) fn check_invariants(&self) {
        let runs = &self.layers.runs;
        assert!(runs.windows(2).all(|two| two[0].end < two[1].end && two[0].source != two[1].source));
        assert!(runs.last().is_some_and(|last| last.end >= self.len && self.len > 0));
        self.layers.sources.iter().for_each(|source| source.check_invariants());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation of `try_clone` says what a run takes. It said 16 bytes.
    #[test]
    fn a_run_takes_as_much_as_is_said() {
        let (_, said) = include_str!("../api/clones.rs").split_once("Each takes ").unwrap();
        let bytes: usize = said.split_once(' ').unwrap().0.parse().unwrap();
        assert_eq!(size_of::<Run>(), if cfg!(target_pointer_width = "64") { bytes } else { 16 });
    }
}
