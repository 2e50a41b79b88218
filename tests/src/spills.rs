//! `SpillBuffer` under any limits, as a [`Subject`].
//!
//! A run starts from a [`SpillSetup`]. It compares each buffer of a pool with a model of its own, checks the
//! invariants that the buffer and the pool can recount, and at the end what is charged to the pool.

use crate::driver::{Leeway, Mismatch, Pair, Subject, Target, Watch, guarded, run, same_bytes};
use crate::model::Model;
use crate::ops::{Op, Refusal, Shape, affordable};
use crate::support::content_of;
use arbitrary::{Arbitrary, Unstructured};
use overspill::testing::{Fault, FaultPlan, FaultStore, Faults};
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool};
use std::cell::Cell;
use std::io::{self, BufRead, ErrorKind, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};

/// What lies below the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// A `MemoryStore`.
    Memory,
    /// A `MemoryStore` with room for so many pages.
    FullAt(u64),
    /// A `MemoryStore` with a fault.
    Failing(Fault),
    /// A temp file.
    TempFile,
}

/// What a run over buffers of one pool starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpillSetup {
    /// The page size in bytes, a power of two.
    pub page: usize,
    /// The memory limit in bytes.
    pub memory: usize,
    /// The disk limit in bytes.
    pub disk: u64,
    /// The store.
    pub below: Below,
    /// Where the content starts. What lies before it is a hole that no operation touches. So positions at the
    /// far end of `u64` can be compared with a model, which has to hold its bytes in memory.
    pub base: u64,
    /// Whether spilled bytes have checksums.
    pub checksums: Checksums,
    /// How many buffers share the pool.
    pub buffers: usize,
    /// When the whole content is compared.
    pub watch: Watch,
}

impl SpillSetup {
    /// Page sizes that are worth a run. Pages of the last one have slots of three sizes.
    pub const PAGES: [usize; 6] = [1, 2, 8, 64, 4096, 16384];

    /// Memory limits that are worth a run with pages of `page` bytes.
    pub const fn budgets(page: usize) -> [usize; 7] {
        [0, 1, page, page + page / 2, 2 * page, 5 * page, usize::MAX]
    }

    /// Places where content can start, with pages of `page` bytes. The last is so close to the end of `u64`
    /// that some runs reach it.
    pub const fn bases(page: usize) -> [u64; 4] {
        let span = 50 * page as u64;
        [0, (1 << 32) - span / 2, i64::MAX as u64 - span / 2, u64::MAX - span]
    }

    /// Any bytes are a setup, and one that runs quickly: it has no file.
    pub fn decode([page, memory, disk, below, base, buffers, watch]: [u8; 7]) -> Self {
        let pick = |byte: u8, count: usize| usize::from(byte) % count;
        let checksums = if page < 128 { Checksums::Off } else { Checksums::On };
        // Pages of the last size have slots of two sizes.
        let page = [1, 2, 8, 64, 8, 8192][pick(page, 6)];
        let pages = |n: u64| n * page as u64;
        SpillSetup {
            page,
            memory: Self::budgets(page)[pick(memory, 7)],
            disk: [u64::MAX, u64::MAX, u64::MAX, 0, pages(1), pages(7)][pick(disk, 6)],
            below: match below % 16 {
                1 => Below::FullAt(3),
                2 => Below::FullAt(11),
                3..6 => Below::Failing(any_fault([watch / 3, below / 16, buffers / 3])),
                _ => Below::Memory,
            },
            base: if base < 128 { 0 } else { Self::bases(page)[pick(base, 4)] },
            checksums,
            buffers: 1 + pick(buffers, 3),
            // Seldom, or a fuzzer would spend its time on comparing.
            watch: [Watch::AtEnd, Watch::Every(6), Watch::Every(25)][pick(watch, 3)],
        }
    }

    /// What the operations of a run from here look like.
    pub fn shape(&self, kinds: u32) -> Shape {
        Shape { page: self.page, kinds, extremes: false }
    }

    fn pool(&self) -> (SpillPool, Faults) {
        let builder = SpillPool::builder().memory(self.memory).disk(self.disk).page_size(self.page);
        let builder = builder.checksums(self.checksums);
        let (inner, plan) = match self.below {
            Below::FullAt(pages) => (MemoryStore::with_capacity(pages * self.page as u64), FaultPlan::new()),
            Below::Failing(fault) => (MemoryStore::new(), fault.into()),
            Below::Memory | Below::TempFile => (MemoryStore::new(), FaultPlan::new()),
        };
        let (store, faults) = FaultStore::new(inner, plan);
        let builder = if self.below == Below::TempFile { builder } else { builder.store(store) };
        (builder.build().expect("a setup's page size is a power of two"), faults)
    }

    fn leeway(&self) -> Leeway {
        match self.below {
            Below::Failing(_) => Leeway::Fail,
            Below::FullAt(_) => Leeway::Refuse,
            _ if self.disk < u64::MAX => Leeway::Refuse,
            _ => Leeway::Pieces,
        }
    }
}

/// A fault in one of the first 64 calls, from any bytes.
pub(crate) fn any_fault(bytes: [u8; 3]) -> Fault {
    Fault::arbitrary(&mut Unstructured::new(&bytes)).expect("three bytes are enough for a fault")
}

/// A buffer whose content starts at `base`, and the pool that it came from.
pub(crate) struct Spilling {
    pub(crate) buffer: SpillBuffer,
    pub(crate) pool: SpillPool,
    faults: Faults,
    base: u64,
    page: usize,
    /// Operations since the last check of its invariants.
    unchecked: u64,
    pub(crate) refusals: Refusals,
    /// Whether the pool's limits change, and so may lie below what is used already.
    pub(crate) limits_move: bool,
    /// Whether other threads use the pool, too.
    has_others: bool,
}

/// Makes refusals of errors, and counts those that name memory, disk or store.
#[derive(Default)]
pub(crate) struct Refusals(Cell<u64>);

impl Refusals {
    pub(crate) fn count(&self) -> u64 {
        self.0.get()
    }

    pub(crate) fn of(&self, error: impl Into<io::Error>) -> Refusal {
        let error = error.into();
        let refusal = match error.kind() {
            ErrorKind::InvalidInput => return Refusal::OutOfRange,
            ErrorKind::UnexpectedEof => return Refusal::EndOfFile,
            ErrorKind::QuotaExceeded | ErrorKind::StorageFull | ErrorKind::FileTooLarge => Refusal::Full,
            _ => Refusal::Failed(error.to_string()),
        };
        self.0.set(self.0.get() + 1);
        refusal
    }
}

impl Spilling {
    pub(crate) fn new(pool: SpillPool, faults: Faults, page: usize, base: u64) -> Self {
        let (buffer, refusals) = (pool.buffer(), Refusals::default());
        let (limits_move, has_others) = (false, false);
        let mut spilling =
            Spilling { buffer, pool, faults, base, page, unchecked: 0, refusals, limits_move, has_others };
        spilling.start().expect("a hole and a seek need no room");
        spilling
    }

    fn all_from_base(&mut self) -> Result<Vec<u8>, Refusal> {
        let position = self.position();
        self.set_position(0)?;
        let all = self.read_to_end();
        self.set_position(position)?;
        all
    }

    fn start(&mut self) -> Result<(), Refusal> {
        self.buffer.set_len(self.base).map_err(|error| self.refusals.of(error))?;
        self.buffer.seek(SeekFrom::Start(self.base)).map(drop).map_err(|error| self.refusals.of(error))
    }
}

impl Subject for Spilling {
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        self.buffer.write(data).map_err(|error| self.refusals.of(error))
    }

    fn write_all(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.buffer.write_all(data).map_err(|error| self.refusals.of(error))
    }

    fn push(&mut self, data: &[u8]) -> Result<(), Refusal> {
        self.buffer.push(data.to_vec().into()).map_err(|error| self.refusals.of(error))
    }

    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        self.buffer.write_vectored(&slices.map(IoSlice::new)).map_err(|error| self.refusals.of(error))
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal> {
        self.buffer.read(buf).map_err(|error| self.refusals.of(error))
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), Refusal> {
        self.buffer.read_exact(buf).map_err(|error| self.refusals.of(error))
    }

    fn read_vectored(&mut self, slices: [&mut [u8]; 3]) -> Result<usize, Refusal> {
        self.buffer.read_vectored(&mut slices.map(IoSliceMut::new)).map_err(|error| self.refusals.of(error))
    }

    fn read_to_end(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        self.buffer.read_to_end(&mut all).map(|_| all).map_err(|error| self.refusals.of(error))
    }

    fn fill_buf(&mut self) -> Result<&[u8], Refusal> {
        self.buffer.fill_buf().map_err(|error| self.refusals.of(error))
    }

    fn consume(&mut self, n: usize) {
        self.buffer.consume(n);
    }

    /// Places count from `base`, and a place before it is a place before 0.
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        let (from, offset) = match to {
            SeekFrom::Start(place) => {
                let place = SeekFrom::Start(self.base.checked_add(place).ok_or(Refusal::OutOfRange)?);
                return self
                    .buffer
                    .seek(place)
                    .map(|place| place - self.base)
                    .map_err(|error| self.refusals.of(error));
            }
            SeekFrom::End(offset) => (self.len(), offset),
            SeekFrom::Current(offset) => (self.position(), offset),
        };
        if self.base > 0 && from.checked_add_signed(offset).is_none() {
            return Err(Refusal::OutOfRange);
        }
        self.buffer.seek(to).map(|place| place - self.base).map_err(|error| self.refusals.of(error))
    }

    fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        let len = self.base.checked_add(len).ok_or(Refusal::Full)?;
        self.buffer.set_len(len).map_err(|error| self.refusals.of(error))
    }

    fn clear(&mut self) -> Result<(), Refusal> {
        self.buffer.clear();
        assert_eq!((self.buffer.len(), self.buffer.position()), (0, 0), "after clear");
        self.start()
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.buffer.flush().map_err(|error| self.refusals.of(error))
    }

    fn spill(&mut self) -> Result<(), Refusal> {
        self.buffer.spill().map_err(|error| self.refusals.of(error))?;
        assert_eq!(self.buffer.stats().memory_used, 0, "after spill, it still uses memory");
        Ok(())
    }

    fn renew(&mut self) -> Result<(), Refusal> {
        self.buffer = self.pool.buffer();
        self.start()
    }

    fn position(&self) -> u64 {
        self.buffer.position() - self.base
    }

    fn len(&self) -> u64 {
        self.buffer.len() - self.base
    }

    fn is_empty(&self) -> bool {
        if self.base == 0 { self.buffer.is_empty() } else { self.len() == 0 }
    }

    /// At a place that cannot be counted from `base`, nothing lies.
    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<usize, Refusal> {
        let Some(offset) = self.base.checked_add(offset) else { return Ok(0) };
        self.buffer.read_at(buf, offset).map_err(|error| self.refusals.of(error))
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> Result<usize, Refusal> {
        let Some(offset) = self.base.checked_add(offset) else {
            return if data.is_empty() { Ok(0) } else { Err(Refusal::Full) };
        };
        self.buffer.write_at(data, offset).map_err(|error| self.refusals.of(error))
    }

    /// The buffer's own, unless it would have to copy the hole before `base`, too.
    fn to_vec(&mut self) -> Result<Vec<u8>, Refusal> {
        if self.base > 0 {
            return self.all_from_base();
        }
        self.buffer.to_vec().map_err(|error| self.refusals.of(error))
    }

    fn copy_to(&mut self, target: &mut Target) -> Result<u64, Refusal> {
        self.buffer.copy_to(target).map_err(|error| {
            // The store's own errors hold a `SpillError`, whatever their kind.
            let is_of_target = error.kind() == ErrorKind::WriteZero && error.get_ref().is_none();
            if is_of_target { Refusal::TargetFull } else { self.refusals.of(error) }
        })
    }

    /// The store's faults are paused: what a failed call has left behind must be readable once the store
    /// works again.
    fn content(&mut self) -> Result<Vec<u8>, Refusal> {
        let faults = self.faults.clone();
        faults.paused(|| self.all_from_base())
    }

    /// The check visits all pages. A buffer of many pages is checked after some operations only.
    fn check_invariants(&mut self) {
        const PAGES_QUICK: u64 = 32;
        self.unchecked += 1;
        let pages = self.len() / self.page as u64;
        if self.unchecked * PAGES_QUICK >= pages {
            self.unchecked = 0;
            self.buffer.check_invariants();
        }
        if self.limits_move {
            return;
        }
        let pool = self.pool.stats();
        // The free lists are counted one after another, so a frame that another thread moves
        // meanwhile may count twice.
        let recycled = if self.has_others { 0 } else { pool.memory_recycled };
        let kept = pool.memory_used + recycled;
        assert!(kept <= pool.memory_limit, "I2: {kept} bytes of {}", pool.memory_limit);
        assert!(pool.memory_high_water <= pool.memory_limit, "I2: at some moment");
        assert!(pool.disk_used <= pool.disk_limit, "I6: {} bytes of {}", pool.disk_used, pool.disk_limit);
        assert!(pool.disk_high_water <= pool.disk_limit, "I6: at some moment");
    }
}

/// What is charged to the pool must be what its buffers hold, and nothing once they are dropped.
pub(crate) fn check_accounts(mut pairs: Vec<Pair<Spilling>>, pool: &SpillPool) -> Result<(), String> {
    pairs.iter_mut().for_each(|pair| pair.subject.buffer.check_invariants());
    let held = |of: fn(&SpillBuffer) -> u64| pairs.iter().map(|pair| of(&pair.subject.buffer)).sum::<u64>();
    let resident = held(|buffer| buffer.stats().memory_used);
    let spilled = held(|buffer| buffer.stats().disk_used);
    let stats = pool.stats();
    // A block that small bodies share is the pool's as a whole: see `check_invariants`, which
    // counts what is free there.
    if stats.memory_used != resident || stats.disk_used < spilled {
        return Err(format!("buffers hold {resident} and {spilled} bytes, but {stats:?}"));
    }
    pool.check_invariants();
    drop(pairs);
    let stats = pool.stats();
    if (stats.memory_used, stats.disk_used) != (0, 0) {
        return Err(format!("all buffers are dropped, but {stats:?}"));
    }
    Ok(())
}

/// The file that a buffer becomes must hold what the model holds.
fn check_hand_over(pair: Pair<Spilling>) -> Result<(), String> {
    let mut file = pair.subject.buffer.into_file().map_err(|failed| format!("into_file: {failed}"))?;
    same_bytes("into_file", &content_of(&mut file), pair.model.content())
}

/// Empty buffers of `pool`, each with its model.
fn pairs(setup: SpillSetup, pool: &SpillPool, faults: &Faults) -> Vec<Pair<Spilling>> {
    // More than any sequence reaches, unless positions end before it.
    let model = Model::new(Vec::new(), 1 << 40).ending_at(u64::MAX - setup.base);
    let subject = || Spilling::new(pool.clone(), faults.clone(), setup.page, setup.base);
    (0..setup.buffers).map(|_| Pair { subject: subject(), model: model.clone() }).collect()
}

/// Does `ops` to the buffers of a pool and to their models, and returns how many calls of the store failed as
/// planned.
///
/// # Errors
/// The first difference.
pub fn run_spill(setup: SpillSetup, ops: &[Op]) -> Result<u64, Mismatch> {
    let (pool, faults) = setup.pool();
    let mut pairs = pairs(setup, &pool, &faults);
    let at_end = |what: String| Mismatch { ops: ops.to_vec(), what, again: String::new() };
    run(&mut pairs, ops, setup.leeway(), setup.watch)
        .and_then(|()| {
            let handed_over =
                if setup.below == Below::TempFile && setup.base == 0 { pairs.pop() } else { None };
            handed_over.map_or(Ok(()), |pair| guarded(|| check_hand_over(pair))).map_err(at_end)
        })
        .and_then(|()| check_accounts(pairs, &pool).map_err(at_end))
        .map(|()| faults.failed())
        .map_err(|mismatch| Mismatch { again: format!("run_spill({setup:?}, &ops).unwrap();"), ..mismatch })
}

/// Does each of `sequences` on a thread of its own, to buffers of its own. All buffers are of one pool.
///
/// # Errors
/// The first difference. The mismatch prints the operations of one thread; whether they fail again depends on
/// the other threads.
pub fn run_spill_threads(setup: SpillSetup, sequences: &[Vec<Op>]) -> Result<(), Mismatch> {
    let (pool, faults) = setup.pool();
    let again = || format!("run_spill_threads({setup:?}, &[ops.to_vec(), ops.to_vec()]).unwrap();");
    let mut left = Vec::new();
    std::thread::scope(|scope| {
        let start = |ops: &'_ Vec<Op>| {
            let (mut pairs, ops) = (pairs(setup, &pool, &faults), ops.clone());
            pairs.iter_mut().for_each(|pair| pair.subject.has_others = true);
            scope.spawn(move || run(&mut pairs, &ops, setup.leeway(), setup.watch).map(|()| pairs))
        };
        let threads: Vec<_> = sequences.iter().map(start).collect();
        threads.into_iter().try_for_each(|thread| {
            left.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            Ok(())
        })
    })
    .and_then(|()| {
        let at_end = |what| Mismatch { ops: Vec::new(), what, again: String::new() };
        check_accounts(left, &pool).map_err(at_end)
    })
    .map_err(|mismatch| Mismatch { again: again(), ..mismatch })
}

/// Any bytes are a run: the first eleven are its setup, the rest its operations.
///
/// # Panics
/// If a buffer and its model differ, with a test to paste.
pub fn drive_spill(input: &[u8]) {
    let Some((&setup, rest)) = input.split_first_chunk::<7>() else { return };
    let Some((&kinds, ops)) = rest.split_first_chunk::<4>() else { return };
    let setup = SpillSetup::decode(setup);
    let ops = affordable(setup.shape(u32::from_le_bytes(kinds)).decode(ops), Op::effort);
    if let Err(mismatch) = run_spill(setup, &ops) {
        panic!("{mismatch}");
    }
}
