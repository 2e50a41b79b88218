//! Many readers of one content, frozen or while it is written: each sees what a vector would show it,
//! whatever the others and the memory do.
//!
//! What is done is chosen by a [`Choices`]: a generator in tests, and the bytes of an input in fuzz targets.

use crate::support::{Random, content_of, spill_error};
use bytes::Bytes;
use overspill::testing::{Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{
    Checksums, Frozen, FrozenReader, MemoryStore, SpillBuffer, SpillError, SpillPool, SpoolReader,
};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::Duration;

const PAGE: usize = 4096;

/// Operations of a run, at most.
const STEPS: usize = 120;

/// What chooses among things.
pub trait Choices {
    /// A number from 0 up to, but not including, `n`; 0 if `n` is 0.
    fn index(&mut self, n: usize) -> usize;

    /// `len` bytes that do not repeat soon.
    fn bytes(&mut self, len: usize) -> Vec<u8>;

    /// Whether nothing is left to choose by.
    fn is_over(&self) -> bool;

    /// Whether files and threads may be used. A fuzz target has none.
    fn may_use_files(&self) -> bool;
}

impl Choices for Random {
    fn index(&mut self, n: usize) -> usize {
        Random::index(self, n)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        Random::bytes(self, len)
    }

    fn is_over(&self) -> bool {
        false
    }

    fn may_use_files(&self) -> bool {
        true
    }
}

/// Chooses by the bytes of an input, two for each choice, and the first of all once they are used up.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    /// How many times bytes were made, so that no two are the same.
    made: u8,
}

impl<'a> Input<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Input { rest: input, made: 0 }
    }
}

impl Choices for Input<'_> {
    fn index(&mut self, n: usize) -> usize {
        let Some((&two, rest)) = self.rest.split_first_chunk() else { return 0 };
        self.rest = rest;
        ((u64::from(u16::from_le_bytes(two)) * n as u64) >> u16::BITS) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        self.made = self.made.wrapping_add(31);
        (0..len).map(|i| (i ^ (i >> 8)) as u8 ^ self.made).collect()
    }

    fn is_over(&self) -> bool {
        self.rest.len() < 2
    }

    fn may_use_files(&self) -> bool {
        false
    }
}

/// A fuzz target: as [`read_frozen`], by the choices of `input`.
///
/// # Panics
/// If a reader sees something else than a vector would show it.
pub fn drive_frozen(input: &[u8]) {
    read_frozen(&mut Input::new(input));
}

/// A fuzz target: as [`follow_spool`], by the choices of `input`.
///
/// # Panics
/// If a reader sees something else than what was written.
pub fn drive_spool(input: &[u8]) {
    follow_spool(&mut Input::new(input));
}

/// Content with holes, written in any order, and what it is.
fn any_content(random: &mut impl Choices, mut buffer: SpillBuffer) -> (SpillBuffer, Vec<u8>) {
    let mut model = Vec::new();
    for _ in 0..random.index(12) {
        let (at, len) = (random.index(8 * PAGE), random.index(3 * PAGE));
        let bytes = random.bytes(len);
        model.resize(model.len().max(at + len), 0);
        model[at..at + len].copy_from_slice(&bytes);
        buffer.seek(SeekFrom::Start(at as u64)).unwrap();
        buffer.write_all(&bytes).unwrap();
        match random.index(6) {
            0 => buffer.spill().unwrap(),
            1 => drop(content_of(&mut buffer)),
            _ => {}
        }
    }
    let len = random.index(9 * PAGE);
    if random.index(4) == 0 {
        model.resize(len, 0);
        buffer.set_len(len as u64).unwrap();
    }
    model.resize(usize::try_from(buffer.len()).unwrap(), 0);
    (buffer, model)
}

/// A buffer of the pool: as any other, with limits of its own, with a file of its own, or with a pool of its
/// own.
pub(crate) fn any_buffer(random: &mut impl Choices, pool: &SpillPool) -> SpillBuffer {
    match random.index(if random.may_use_files() { 5 } else { 2 }) {
        0 => pool.buffer_builder().memory(random.index(4 * PAGE)).build(),
        3 => pool.buffer_for(std::env::temp_dir().join("frozen")),
        4 => SpillBuffer::with_budget(random.index(10 * PAGE)),
        _ => pool.buffer(),
    }
}

/// Up to `len` bytes from `at` on of a model.
pub fn part(model: &[u8], at: usize, len: usize) -> &[u8] {
    let rest = model.get(at..).unwrap_or_default();
    &rest[..len.min(rest.len())]
}

/// A reader, where it stands, and what it reads from.
pub struct Reading {
    reader: FrozenReader,
    at: usize,
    model: Vec<u8>,
}

impl Reading {
    /// A reader of `frozen`, whose content is `model`, at its beginning.
    pub fn new(frozen: &Frozen, model: Vec<u8>) -> Self {
        Reading { reader: frozen.reader(), at: 0, model }
    }

    /// Reads, moves or is cloned.
    ///
    /// # Panics
    /// If it sees something else than the model.
    pub fn step(&mut self, random: &mut impl Choices) {
        let len = if random.index(4) > 0 { random.index(200) } else { random.index(3 * PAGE) };
        match random.index(8) {
            0 => {
                self.at = random.index(self.model.len() + 100);
                self.reader.seek(SeekFrom::Start(self.at as u64)).unwrap();
            }
            1 | 2 => {
                let chunk = self.reader.fill_buf().unwrap();
                assert_eq!(chunk.is_empty(), self.at >= self.model.len());
                assert!(chunk == part(&self.model, self.at, chunk.len()), "lent at {}", self.at);
                let consumed = random.index(chunk.len() + 1);
                self.reader.consume(consumed);
                self.at += consumed;
            }
            3 => {
                let clone = self.reader.clone();
                self.reader = clone;
            }
            _ => {
                let mut bytes = vec![0; len];
                let n = self.reader.read(&mut bytes).unwrap();
                assert!(n > 0 || len == 0 || self.at >= self.model.len(), "at {}", self.at);
                assert!(bytes[..n] == *part(&self.model, self.at, n), "{n} bytes at {}", self.at);
                self.at += n;
            }
        }
        assert_eq!(self.reader.position(), self.at as u64);
    }
}

fn any_slice(random: &mut impl Choices, frozen: &Frozen, model: &[u8]) -> (Frozen, Vec<u8>) {
    let (from, to) = (random.index(model.len() + 10), random.index(model.len() + 10));
    let cut = |at: usize| at.min(model.len());
    (frozen.slice(from as u64..to as u64), model[cut(from)..cut(to.max(from))].to_vec())
}

/// Bytes that are lent or copied, and what they are.
struct Held(Vec<(Bytes, Vec<u8>)>);

impl Held {
    /// Takes bytes, or lets some go; on another thread, if threads may be used.
    fn step(&mut self, random: &mut impl Choices, frozen: &Frozen, model: &[u8]) {
        if !self.0.is_empty() && random.index(3) == 0 {
            let (bytes, _) = self.0.swap_remove(random.index(self.0.len()));
            if random.may_use_files() {
                thread::spawn(move || drop(bytes)).join().unwrap();
            }
        } else {
            let (at, len) = (random.index(model.len() + 5), random.index(2 * PAGE));
            let bytes = frozen.bytes_at(at as u64, len).unwrap();
            self.0.push((bytes, part(model, at, len).to_vec()));
        }
        assert!(self.0.iter().all(|(bytes, model)| bytes == model));
    }
}

/// All bytes of a slice, by any of the ways out.
fn leave_whole(random: &mut impl Choices, slice: &Frozen, model: &[u8]) {
    assert_eq!(slice.len(), model.len() as u64);
    let all = match random.index(if random.may_use_files() { 4 } else { 3 }) {
        0 => slice.chunks().collect::<io::Result<Vec<_>>>().unwrap().concat(),
        1 => {
            let mut all = Vec::new();
            slice.copy_to(&mut all).unwrap();
            all
        }
        2 => slice.to_vec().unwrap(),
        _ => {
            let dir = tempfile::tempdir().unwrap();
            drop(slice.persist(dir.path().join("slice")).unwrap());
            std::fs::read(dir.path().join("slice")).unwrap()
        }
    };
    assert!(all == model);
}

/// One call of the store fails during a read, which may fail with it; the next read does not.
fn fail_once(random: &mut impl Choices, faults: &Faults, frozen: &Frozen, model: &[u8]) {
    let failures = [Failure::io(), Failure::Short(0), Failure::Short(100), Failure::full()];
    let (nth, failure) = (random.index(3) as u64, failures[random.index(failures.len())]);
    let (at, len) = (random.index(model.len() + 5), random.index(2 * PAGE));
    faults.set(Fault::once(nth, failure));
    let bytes = match random.index(3) {
        0 => frozen.bytes_at(at as u64, len).map(|bytes| bytes.to_vec()),
        1 => frozen.slice(at as u64..(at + len) as u64).to_vec(),
        _ => {
            let mut bytes = vec![0; part(model, at, len).len()];
            frozen.read_exact_at(&mut bytes, at as u64).map(|()| bytes)
        }
    };
    match bytes {
        Ok(bytes) => assert!(bytes == part(model, at, len)),
        Err(error) => assert!(faults.failed() > 0, "{error}, though nothing has failed"),
    }
    faults.lift();
    assert!(frozen.slice(at as u64..(at + len) as u64).to_vec().unwrap() == part(model, at, len));
}

/// Freezes any content in any pool, and reads it by several handles, beside others that need memory.
///
/// # Panics
/// If a reader sees something else than a vector would show it.
pub fn read_frozen(random: &mut impl Choices) {
    let memory = [0, 1, PAGE, 3 * PAGE, 7 * PAGE, 1 << 20][random.index(6)];
    let checksums = if random.index(3) == 0 { Checksums::On } else { Checksums::Off };
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = builder.store(store).build().unwrap();
    let buffer = any_buffer(random, &pool);
    let (buffer, model) = any_content(random, buffer);
    let frozen = buffer.freeze();
    let mut readings: Vec<_> = (0..1 + random.index(4))
        .map(|_| {
            let (frozen, model) = if random.index(2) == 0 {
                any_slice(random, &frozen, &model)
            } else {
                (frozen.clone(), model.clone())
            };
            Reading::new(&frozen, model)
        })
        .collect();
    let mut other = pool.buffer();
    let mut held = Held(Vec::new());
    for _ in 0..STEPS {
        if random.is_over() {
            break;
        }
        match random.index(13) {
            10 => held.step(random, &frozen, &model),
            11 => {
                let (slice, model) = any_slice(random, &frozen, &model);
                leave_whole(random, &slice, &model);
            }
            12 => fail_once(random, &faults, &frozen, &model),
            0 => {
                let (at, len) = (random.index(model.len() + 5), random.index(2 * PAGE));
                let mut bytes = vec![0; len];
                let n = frozen.read_at(&mut bytes, at as u64).unwrap();
                assert!(bytes[..n] == *part(&model, at, len), "{n} of {len} bytes at {at}");
            }
            1 => other.write_all(&random.bytes(PAGE)).unwrap(),
            2 => pool.set_memory_limit(random.index(memory + 1)),
            _ => {
                let reading = random.index(readings.len());
                readings[reading].step(random);
            }
        }
        pool.check_invariants();
    }
    frozen.check_invariants();
    assert_eq!(frozen.to_vec().unwrap(), model);
    let frozen = frozen.into_buffer().unwrap_err();
    drop(readings);
    held.0.clear();
    let mut buffer = frozen.into_buffer().unwrap();
    assert_eq!(content_of(&mut buffer), model);
    buffer.write_all(b"and more").unwrap();
    assert_eq!(content_of(&mut buffer), [&model[..], b"and more"].concat());
    buffer.check_invariants();
    drop((buffer, other));
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
}

/// A reader, and where it stands.
struct Follower {
    reader: SpoolReader,
    at: usize,
    once: bool,
}

impl Follower {
    /// Reads or moves within `written`.
    fn step(&mut self, random: &mut impl Choices, written: &[u8]) {
        if self.at == written.len() {
            self.reader.set_timeout(Some(Duration::ZERO));
            let refused = spill_error(self.reader.read(&mut [0; 10]).unwrap_err());
            assert!(matches!(refused, SpillError::NothingWritten { .. }), "{refused}");
        }
        let rest = written.len() - self.at;
        match random.index(6) {
            0 if !self.once => {
                self.at = random.index(written.len() + 1);
                self.reader.seek(SeekFrom::Start(self.at as u64)).unwrap();
            }
            1 if rest > 0 => {
                let lent = self.reader.fill_buf().unwrap();
                assert!(!lent.is_empty() && *lent == written[self.at..self.at + lent.len()]);
                let consumed = random.index(lent.len() + 1);
                self.reader.consume(consumed);
                self.at += consumed;
            }
            2 => self.reader = self.reader.clone(),
            _ if rest > 0 => {
                let len = if random.index(4) > 0 { random.index(100) } else { random.index(3 * PAGE) };
                let mut bytes = vec![0; len];
                let n = self.reader.read(&mut bytes).unwrap();
                assert!(n > 0 || len == 0);
                assert!(bytes[..n] == written[self.at..self.at + n], "{n} bytes at {}", self.at);
                self.at += n;
            }
            _ => {}
        }
        assert_eq!(self.reader.position(), self.at as u64);
    }
}

/// Any interleaving of a writer and its readers, in any memory.
///
/// # Panics
/// If a reader sees something else than what was written.
pub fn follow_spool(random: &mut impl Choices) {
    let memory = [0, 1, PAGE / 2, PAGE, 3 * PAGE, 1 << 20][random.index(6)];
    let checksums = if random.index(3) == 0 { Checksums::On } else { Checksums::Off };
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = builder.store(store).build().unwrap();
    let (mut writer, reader) = pool.spool();
    let all_once = random.index(2) == 0;
    let mut followers: Vec<_> = (0..1 + random.index(3))
        .map(|_| {
            let once = all_once || random.index(3) == 0;
            let reader = reader.clone();
            Follower { reader: if once { reader.once() } else { reader }, at: 0, once }
        })
        .collect();
    drop(reader);
    let (mut written, mut other) = (Vec::new(), pool.buffer());
    for _ in 0..STEPS {
        if random.is_over() {
            break;
        }
        match random.index(9) {
            0..3 => {
                let len = if random.index(4) > 0 { random.index(300) } else { random.index(4 * PAGE) };
                let data = random.bytes(len);
                writer.write_all(&data).unwrap();
                written.extend_from_slice(&data);
            }
            8 => {
                let data = random.bytes(PAGE + 100);
                faults.set(Fault::once(random.index(3) as u64, Failure::io()));
                let taken = writer.write(&data);
                assert!(taken.is_ok() || faults.failed() > 0, "{taken:?}, though nothing has failed");
                faults.lift();
                written.extend_from_slice(&data[..taken.unwrap_or(0)]);
                assert_eq!(writer.len(), written.len() as u64);
            }
            3 => other.write_all(&random.bytes(PAGE)).unwrap(),
            4 => pool.set_memory_limit(random.index(memory + 1)),
            _ => {
                let follower = random.index(followers.len());
                followers[follower].step(random, &written);
            }
        }
        pool.check_invariants();
        writer.check_invariants();
    }
    let all_once = followers.iter().all(|follower| follower.once);
    let slowest = followers.iter().map(|follower| follower.at).min().unwrap();
    let frozen = writer.finish().unwrap();
    for mut follower in followers {
        let mut rest = Vec::new();
        follower.reader.read_to_end(&mut rest).unwrap();
        assert!(rest == written[follower.at..]);
        assert_eq!(follower.reader.read(&mut [0; 3]).unwrap(), 0);
    }
    assert_whole_or_passed(&frozen, &written, if all_once { slowest } else { 0 });
    drop((frozen, other));
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
}

/// What all have passed is gone, and never reads as zeros; the rest is there.
fn assert_whole_or_passed(frozen: &Frozen, written: &[u8], slowest: usize) {
    let passed = slowest / PAGE * PAGE;
    assert_eq!(frozen.len(), written.len() as u64);
    assert!(frozen.slice(passed as u64..).to_vec().unwrap() == written[passed..]);
    if passed > 0 {
        for offset in [0, passed as u64 - 1] {
            let gone = spill_error(frozen.read_at(&mut [0; 2], offset).unwrap_err());
            assert!(matches!(gone, SpillError::Passed { kept_from, .. } if kept_from == passed as u64));
        }
        assert!(frozen.persist("never/made").is_err());
        assert!(frozen.clone().into_buffer().is_err());
    }
}
