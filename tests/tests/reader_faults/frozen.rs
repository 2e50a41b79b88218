//! Frozen content: readers, slices, lent bytes, files, and another buffer beside them.

use super::{PAGE, Scene, Step, fail_everywhere, glance, lend_on, read_on};
use bytes::Bytes;
use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{Frozen, FrozenReader, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::readers::part;
use overspill_tests::support::{Random, content_of, hush_planned_panics, names_in};
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

struct FrozenScene {
    pool: SpillPool,
    model: Vec<u8>,
    frozen: Frozen,
    small: FrozenReader,
    large: FrozenReader,
    lending: FrozenReader,
    /// From the second page on.
    slice: Frozen,
    held: Vec<(usize, Bytes)>,
    other: SpillBuffer,
    dir: tempfile::TempDir,
}

impl FrozenScene {
    fn read_at(&mut self) -> io::Result<()> {
        for (at, len) in [(10, 3 * PAGE), (4 * PAGE - 5, 10), (6 * PAGE, 2 * PAGE)] {
            let mut bytes = vec![0; len];
            self.frozen.read_exact_at(&mut bytes, at as u64)?;
            assert!(bytes == *part(&self.model, at, len), "{len} at {at}");
        }
        Ok(())
    }

    fn bytes_at(&mut self) -> io::Result<()> {
        for (at, len) in [(PAGE, PAGE), (3 * PAGE + 7, PAGE - 7), (5 * PAGE - 3, 6), (0, PAGE)] {
            self.held.push((at, self.frozen.bytes_at(at as u64, len)?));
        }
        Ok(())
    }

    fn chunks(&mut self) -> io::Result<()> {
        let all: Vec<Bytes> = self.slice.chunks().collect::<io::Result<_>>()?;
        assert!(all.concat() == self.model[PAGE..]);
        Ok(())
    }

    fn copy_to(&mut self) -> io::Result<()> {
        let mut all = Vec::new();
        let copied = self.slice.copy_to(&mut all);
        assert!(all == self.model[PAGE..][..all.len()], "what was written before an error is right, too");
        assert_eq!(copied?, self.slice.len());
        Ok(())
    }

    fn persist(&mut self) -> io::Result<()> {
        let path = self.dir.path().join("part");
        if let Err(error) = self.slice.persist(&path) {
            assert!(names_in(self.dir.path()).is_empty(), "whole, or not at all");
            return Err(error.into());
        }
        assert!(fs::read(&path)? == self.model[PAGE..]);
        fs::remove_file(path)
    }

    /// Another buffer takes the memory, and gets the errors of its own writes alone.
    fn disturb(&mut self) -> io::Result<()> {
        self.other.rewind()?;
        self.other.write_all(&[3; 6 * PAGE])
    }

    fn limits(&mut self) -> io::Result<()> {
        let limit = usize::try_from(self.pool.stats().memory_limit).unwrap();
        self.pool.set_memory_limit(limit / 2);
        self.pool.set_memory_limit(limit);
        Ok(())
    }
}

impl Scene for FrozenScene {
    const STEPS: &'static [Step<Self>] = &[
        ("small reads", |s| read_on(&mut s.small, &s.model, PAGE + 500, 700)),
        ("a clone's reads", |s| read_on(&mut s.small.clone(), &s.model, 3 * PAGE, 1500)),
        ("large reads", |s| read_on(&mut s.large, &s.model, 4 * PAGE, 3 * PAGE)),
        ("read_at", FrozenScene::read_at),
        ("bytes_at", FrozenScene::bytes_at),
        ("another's writes", FrozenScene::disturb),
        ("fill_buf", |s| lend_on(&mut s.lending, &s.model, 3 * PAGE + 9)),
        ("limits", FrozenScene::limits),
        ("chunks", FrozenScene::chunks),
        ("small reads", |s| read_on(&mut s.small, &s.model, 2 * PAGE, 500)),
        ("copy_to", FrozenScene::copy_to),
        ("another's writes", FrozenScene::disturb),
        ("persist", FrozenScene::persist),
        ("to_vec", |s| {
            assert!(s.frozen.to_vec()? == s.model);
            Ok(())
        }),
    ];

    fn new(pool: SpillPool) -> Self {
        let mut buffer = pool.buffer();
        buffer.write_all(&Random::new(6).bytes(8 * PAGE)).unwrap();
        buffer.set_len(8 * PAGE as u64 + 100).unwrap();
        let model = content_of(&mut buffer);
        buffer.spill().unwrap();
        let frozen = buffer.freeze();
        FrozenScene {
            small: frozen.reader(),
            large: frozen.reader(),
            lending: frozen.reader(),
            slice: frozen.slice(PAGE as u64..),
            held: Vec::new(),
            other: pool.buffer(),
            dir: tempfile::tempdir().unwrap(),
            pool,
            model,
            frozen,
        }
    }

    fn look(&mut self) {
        for reader in [&mut self.small, &mut self.large, &mut self.lending] {
            glance(reader, &self.model);
        }
        assert!(self.held.iter().all(|(at, bytes)| *bytes == *part(&self.model, *at, bytes.len())));
        self.frozen.check_invariants();
        self.other.check_invariants();
    }

    fn end(mut self) {
        self.look();
        assert!(content_of(&mut self.other) == [3; 6 * PAGE]);
        assert_eq!(self.small.position(), 2 * PAGE as u64);
        assert_eq!(self.large.position(), 4 * PAGE as u64);
        assert_eq!(self.lending.position(), 3 * PAGE as u64 + 9);
        drop((self.small, self.large, self.lending, self.slice));
        drop(self.held);
        let mut buffer = self.frozen.into_buffer().unwrap();
        assert!(content_of(&mut buffer) == self.model);
        buffer.write_all(b"more").unwrap();
        buffer.check_invariants();
    }
}

#[test]
fn a_failure_is_the_handles_own_that_met_it() {
    let reaching = [
        "a clone's reads",
        "another's writes",
        "bytes_at",
        "chunks",
        "copy_to",
        "fill_buf",
        "large reads",
        "limits",
        "persist",
        "read_at",
        "small reads",
        "to_vec",
    ];
    fail_everywhere::<FrozenScene>(&reaching, 1500);
}

/// Four threads need one page at the same time: one of them reads it for all. If that fails, it is an error
/// of this one alone, and another tries again.
#[test]
fn a_load_that_fails_is_tried_again_by_those_that_wait_for_it() {
    let model = Random::new(9).bytes(8 * PAGE);
    let mut failed = 0;
    for failure in [Failure::io(), Failure::Short(0), Failure::Panic] {
        hush_planned_panics();
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).store(store).build().unwrap();
        let mut buffer = pool.buffer();
        buffer.write_all(&model).unwrap();
        buffer.spill().unwrap();
        let frozen = buffer.freeze();
        for page in 0..8 {
            let fault = FaultPlan::from(Fault::once(0, failure).on(Call::Read));
            faults.set(fault.slow(Call::Read, Duration::from_millis(5)));
            let start = Barrier::new(4);
            let errors: usize = thread::scope(|scope| {
                let readings = [(); 4].map(|()| {
                    let mut reader = frozen.reader();
                    reader.seek(SeekFrom::Start((page * PAGE) as u64)).unwrap();
                    scope.spawn(|| {
                        let mut reader = reader;
                        start.wait();
                        let first = read_on(&mut reader, &model, (page + 1) * PAGE, PAGE);
                        first.is_err().then(|| read_on(&mut reader, &model, (page + 1) * PAGE, PAGE).unwrap())
                    })
                });
                readings.into_iter().filter_map(|reading| reading.join().unwrap()).count()
            });
            assert_eq!(errors, 1, "page {page}: the failure is one thread's");
            failed += errors;
        }
        frozen.check_invariants();
        assert!(frozen.to_vec().unwrap() == model);
    }
    assert_eq!(failed, 24);
}
