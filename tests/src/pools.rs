//! A whole pool as what is driven: several buffers in turn, limits that move, and a store that fails in any
//! one call.
//!
//! Promises, beside those of the [`driver`](crate::driver):
//!
//! - After each operation, the invariants of the pool and of the buffer are checked. After an operation in
//!   which a call of the store failed, the whole content of every buffer is compared, too.
//! - Without any limit, an operation is refused only if a call of the store failed during it.
//! - Once the fault is [lifted](After::Lifted), a refused operation is done again, and must succeed.

use crate::driver::{Leeway, Mismatch, Pair, Watch, guarded, same_bytes};
use crate::model::Model;
use crate::ops::{Op, Shape, affordable};
use crate::spills::{Spilling, any_fault, check_accounts};
use crate::support::content_of;
use overspill::testing::{Fault, FaultPlan, Faults, PoolPlan};
use overspill::{Checksums, PersistError, Persisted, SpillBuffer, SpillPool};
use proptest::prelude::*;
use std::fs::File;
use std::io::{self, Seek};

/// One thing done to a pool, or to the buffer whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolOp {
    /// This operation, to the buffer.
    Do(Op),
    /// The memory limit becomes so many bytes.
    MemoryLimit(usize),
    /// The disk limit becomes so many bytes.
    DiskLimit(u64),
    /// The pool frees recycled frames and spare blocks: `trim`.
    Trim,
    /// The buffer becomes an unnamed file, and a fresh one takes its place.
    IntoFile,
    /// The buffer becomes a file with a name. A buffer that is meant for the same name takes its place.
    Persist,
    /// A fresh buffer takes its place, with a memory and a disk limit of its own, in bytes.
    Limited(usize, u64),
}

/// What becomes of the fault once a call has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stays to the end, if it is a lasting fault.
    GoesOn,
    /// It is lifted after the first operation in which a call failed.
    Lifted,
}

/// What a run over a pool starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSetup {
    /// The page size in bytes, a power of two.
    pub page: usize,
    /// The memory limit in bytes.
    pub memory: usize,
    /// The disk limit in bytes.
    pub disk: u64,
    /// Whether spilled bytes have checksums.
    pub checksums: Checksums,
    /// How many buffers there are.
    pub buffers: usize,
    /// How the store fails.
    pub fault: Option<Fault>,
    /// What becomes of the fault.
    pub after: After,
    /// When whole contents are compared though nothing has failed.
    pub watch: Watch,
}

impl PoolSetup {
    /// Any bytes are a setup.
    pub fn decode([page, memory, disk, buffers, watch, fault @ ..]: [u8; 8]) -> Self {
        let checksums = if page < 128 { Checksums::Off } else { Checksums::On };
        let page = [1, 2, 8, 8, 8, 64, 64, 8192][usize::from(page % 8)];
        PoolSetup {
            page,
            memory: usize::from(memory % 24) * page / 2,
            disk: if disk < 192 { u64::MAX } else { u64::from(disk % 16) * page as u64 },
            checksums,
            buffers: 1 + usize::from(buffers % 5),
            fault: (buffers >= 64).then(|| any_fault(fault)),
            after: if buffers < 160 { After::Lifted } else { After::GoesOn },
            watch: [Watch::AtEnd, Watch::Every(6), Watch::Every(25)][usize::from(watch % 3)],
        }
    }

    /// The operations that `bytes` stand for, four bytes each; with `files`, contents become files.
    pub fn ops(&self, kinds: u32, files: bool, bytes: &[u8]) -> Vec<PoolOp> {
        let shape = Shape { page: self.page, kinds, extremes: false };
        bytes.chunks_exact(4).map(|record| any_op(shape, files, record)).collect()
    }

    fn plan(&self) -> PoolPlan {
        let faults = self.fault.map_or_else(FaultPlan::new, FaultPlan::from);
        let PoolSetup { page: page_size, memory, disk, checksums, .. } = *self;
        PoolPlan { page_size, memory, disk, checksums, faults }
    }
}

fn any_op(shape: Shape, files: bool, record: &[u8]) -> PoolOp {
    let (kind, a, b) = (record[0], record[1], record[2]);
    let half_pages = |byte: u8| usize::from(byte) * shape.page / 2;
    let pages = |byte: u8| if byte < 128 { u64::MAX } else { u64::from(byte % 16) * shape.page as u64 };
    // A quarter of the bytes stand for operations of the pool, and most of these change the turn: pages are
    // reclaimed only from buffers that were in turn before.
    match kind {
        ..192 => shape.decode(record).first().map_or(PoolOp::Trim, |&op| PoolOp::Do(op)),
        192..232 => PoolOp::Do(Op::Turn(usize::from(a))),
        232..238 => PoolOp::MemoryLimit(half_pages(a % 24)),
        238..242 => PoolOp::DiskLimit(pages(a)),
        242..247 => PoolOp::Trim,
        247..250 => PoolOp::Limited(half_pages(a % 16), pages(b)),
        250..253 if files => PoolOp::Persist,
        250.. if files => PoolOp::IntoFile,
        250.. => PoolOp::Do(Op::Spill),
    }
}

/// Any sequence of at most `most` operations for `setup`, with any swarm.
pub fn pool_sequences(setup: PoolSetup, most: usize) -> impl Strategy<Value = Vec<PoolOp>> {
    let kinds = prop_oneof![1 => Just(0), 4 => any::<u32>()];
    let records = prop::collection::vec(any::<[u8; 4]>(), most / 2..=most);
    (kinds, records).prop_map(move |(kinds, records)| setup.ops(kinds, true, records.as_flattened()))
}

struct Run {
    setup: PoolSetup,
    pool: SpillPool,
    faults: Faults,
    pairs: Vec<Pair<Spilling>>,
    turn: usize,
    /// Whether some buffer, or the pool, has had a disk limit.
    is_limited: bool,
    /// Where contents become files; made with the first of them.
    dir: Option<tempfile::TempDir>,
}

/// Does `ops` to the buffers of a pool and to their models, and returns how many calls of the store failed as
/// planned.
///
/// # Errors
/// The first difference, or the first invariant that does not hold.
pub fn run_pool(setup: PoolSetup, ops: &[PoolOp]) -> Result<u64, Mismatch<PoolOp>> {
    let mut run = Run::new(setup);
    let done = ops.iter().enumerate().try_for_each(|(step, &op)| {
        guarded(|| run.one(op, step)).map_err(|what| format!("step {step}, {op:?}: {what}"))
    });
    let faults = run.faults.clone();
    let done = done.and_then(|()| guarded(|| run.end()).map_err(|what| format!("at the end: {what}")));
    done.map(|()| faults.failed()).map_err(|what| Mismatch {
        ops: ops.to_vec(),
        what,
        again: format!("run_pool({setup:?}, &ops).unwrap();"),
    })
}

impl Run {
    fn new(setup: PoolSetup) -> Self {
        let (pool, faults) = setup.plan().pool();
        let model = Model::new(Vec::new(), 1 << 40); // more than any sequence reaches
        let pair = |_| {
            let mut subject = Spilling::new(pool.clone(), faults.clone(), setup.page, 0);
            subject.limits_move = true;
            Pair { subject, model: model.clone() }
        };
        let pairs = (0..setup.buffers).map(pair).collect();
        Run { setup, pool, faults, pairs, turn: 0, is_limited: setup.disk < u64::MAX, dir: None }
    }

    /// Does one operation, and checks all that must hold after it.
    fn one(&mut self, op: PoolOp, step: usize) -> Result<(), String> {
        let failed = self.faults.failed();
        let refused = self.attempt(op, step, self.leeway())?;
        if self.faults.failed() == failed {
            if refused && !self.is_limited {
                return Err("refused, though nothing has failed and nothing is full".into());
            }
            let look = matches!(self.setup.watch, Watch::Every(n) if step.is_multiple_of(n.max(1)));
            return self.pairs[self.turn].compare(look).map(|()| self.pool.check_invariants());
        }
        self.check()?;
        if self.setup.after == After::Lifted {
            self.faults.lift();
            if refused && self.attempt(op, step, self.leeway())? && !self.is_limited {
                return Err("refused again, though the fault is lifted".into());
            }
        }
        self.check()
    }

    /// Does one operation, and returns whether it was refused for want of memory or disk, or by a failure.
    fn attempt(&mut self, op: PoolOp, step: usize, leeway: Leeway) -> Result<bool, String> {
        let pair = &mut self.pairs[self.turn];
        let refusals = pair.subject.refusals.count();
        match op {
            PoolOp::Do(Op::Turn(n)) => {
                self.turn = n % self.pairs.len();
                return Ok(false);
            }
            PoolOp::Do(op) => pair.step(op, step, leeway)?,
            PoolOp::MemoryLimit(bytes) => self.pool.set_memory_limit(bytes),
            PoolOp::DiskLimit(bytes) => {
                self.pool.set_disk_limit(bytes);
                self.is_limited |= bytes < u64::MAX;
            }
            PoolOp::Trim => self.pool.trim(),
            PoolOp::IntoFile => self.hand_over(SpillBuffer::into_file, self.pool.buffer(), leeway)?,
            PoolOp::Persist => self.persist(leeway)?,
            PoolOp::Limited(memory, disk) => {
                pair.subject.buffer = self.pool.buffer_builder().memory(memory).disk(disk).build();
                pair.emptied()?;
                self.is_limited |= disk < u64::MAX;
            }
        }
        Ok(self.pairs[self.turn].subject.refusals.count() > refusals)
    }

    fn leeway(&self) -> Leeway {
        // `one` finds refusals without a reason.
        if self.setup.fault.is_some() { Leeway::Fail } else { Leeway::Refuse }
    }

    fn persist(&mut self, leeway: Leeway) -> Result<(), String> {
        let made = self.dir.take().map_or_else(quick_dir, Ok);
        let dir = self.dir.insert(made.map_err(|error| error.to_string())?);
        let path = dir.path().join("content");
        let next = self.pool.buffer_for(&path);
        self.hand_over(|buffer| buffer.persist(&path).map(Persisted::into_file), next, leeway)
    }

    /// The file must have the content and the position of the buffer. On an error, the buffer is put back.
    fn hand_over(
        &mut self,
        how: impl FnOnce(SpillBuffer) -> Result<File, PersistError>,
        next: SpillBuffer,
        leeway: Leeway,
    ) -> Result<(), String> {
        let pair = &mut self.pairs[self.turn];
        let buffer = std::mem::replace(&mut pair.subject.buffer, next);
        let mut file = match how(buffer) {
            Ok(file) => file,
            Err(failed) => {
                let (error, buffer) = failed.into_parts();
                pair.subject.buffer = buffer;
                let refusal = pair.subject.refusals.of(error);
                return if leeway.excuses(&refusal) { Ok(()) } else { Err(format!("refused: {refusal:?}")) };
            }
        };
        let position = file.stream_position().map_err(|error| error.to_string())?;
        same_bytes("the file", &content_of(&mut file), pair.model.content())?;
        if position != pair.model.position() {
            return Err(format!("the file is at position {position}, not at {}", pair.model.position()));
        }
        pair.emptied()
    }

    /// Compares every content, and checks every invariant.
    fn check(&mut self) -> Result<(), String> {
        let Run { faults, pairs, pool, .. } = self;
        faults.paused(|| {
            for (n, pair) in pairs.iter_mut().enumerate() {
                pair.subject.buffer.check_invariants();
                pair.compare(true).map_err(|what| format!("buffer {n}: {what}"))?;
            }
            pool.check_invariants();
            Ok(())
        })
    }

    fn end(mut self) -> Result<(), String> {
        self.check()?;
        check_accounts(self.pairs, &self.pool)?;
        self.pool.trim();
        self.pool.check_invariants();
        Ok(())
    }
}

/// A directory in memory, where the system has one: `persist` syncs, which takes long on a disk.
fn quick_dir() -> io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// Any bytes are a run: the first twelve are its setup, the rest its operations.
///
/// # Panics
/// If a buffer and its model differ, or an invariant does not hold, with a test to paste.
pub fn drive_pool(input: &[u8]) {
    let Some((&setup, rest)) = input.split_first_chunk::<8>() else { return };
    let Some((&kinds, ops)) = rest.split_first_chunk::<4>() else { return };
    let setup = PoolSetup::decode(setup);
    let effort = |op: &PoolOp| if let PoolOp::Do(op) = op { op.effort() } else { 0 };
    let ops = affordable(setup.ops(u32::from_le_bytes(kinds), false, ops), effort);
    if let Err(mismatch) = run_pool(setup, &ops) {
        panic!("{mismatch}");
    }
}
