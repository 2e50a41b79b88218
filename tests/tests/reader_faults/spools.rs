//! Spools: a writer, and followers that keep everything or read once.

use super::{PAGE, Scene, Step, fail_everywhere, lend_on, read_on};
use overspill::testing::{Failure, Fault, FaultPlan, FaultStore};
use overspill::{Frozen, MemoryStore, SpillBuffer, SpillError, SpillPool, SpoolReader, SpoolWriter};
use overspill_tests::readers::part;
use overspill_tests::support::{Random, content_of, spill_error};
use std::io::{self, Read, Seek, Write};

/// What is written, in all.
const WRITTEN: usize = 9 * PAGE + 77;

/// A spool with a reader of each kind. `ONCE`: all of them read once.
struct SpoolScene<const ONCE: bool> {
    model: Vec<u8>,
    writer: Option<SpoolWriter>,
    frozen: Option<Frozen>,
    small: SpoolReader,
    large: SpoolReader,
    lending: SpoolReader,
    other: SpillBuffer,
}

impl<const ONCE: bool> SpoolScene<ONCE> {
    /// Writes on up to `to`. At an error, what was taken is there.
    fn write(&mut self, to: usize, piece: usize) -> io::Result<()> {
        let writer = self.writer.as_mut().unwrap();
        loop {
            let at = usize::try_from(writer.len()).unwrap();
            let data = part(&self.model, at, piece.min(to - at));
            if data.is_empty() {
                return Ok(());
            }
            let taken = writer.write(data);
            assert_eq!(writer.len(), (at + taken.as_ref().unwrap_or(&0)) as u64);
            taken?;
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(writer) = self.writer.take() {
            self.frozen = Some(writer.finish()?);
        }
        Ok(())
    }

    fn read_all(&mut self) -> io::Result<()> {
        let frozen = self.frozen.as_ref().unwrap();
        let kept_from = if ONCE { 3 * PAGE } else { 0 };
        assert!(frozen.slice(kept_from as u64..).to_vec()? == self.model[kept_from..]);
        Ok(())
    }

    fn disturb(&mut self) -> io::Result<()> {
        self.other.rewind()?;
        self.other.write_all(&[3; 4 * PAGE])
    }
}

impl<const ONCE: bool> Scene for SpoolScene<ONCE> {
    const STEPS: &'static [Step<Self>] = &[
        ("small writes", |s| s.write(2 * PAGE + 5, 1500)),
        ("small reads", |s| read_on(&mut s.small, &s.model, 2 * PAGE, 900)),
        ("large writes", |s| s.write(6 * PAGE, 3 * PAGE)),
        ("another's writes", Self::disturb),
        ("large reads", |s| read_on(&mut s.large, &s.model, 5 * PAGE + 9, 2 * PAGE)),
        ("a clone's reads", |s| read_on(&mut s.small.clone(), &s.model, 3 * PAGE, 1300)),
        ("fill_buf", |s| lend_on(&mut s.lending, &s.model, 3 * PAGE + 50)),
        ("small reads", |s| read_on(&mut s.small, &s.model, 4 * PAGE, 700)),
        ("small writes", |s| s.write(WRITTEN, 1500)),
        ("another's writes", Self::disturb),
        ("fill_buf", |s| lend_on(&mut s.lending, &s.model, 3 * PAGE + 60)),
        ("finish", Self::finish),
        ("large reads", |s| read_on(&mut s.large, &s.model, WRITTEN, 2 * PAGE)),
        ("to_vec", Self::read_all),
    ];

    fn new(pool: SpillPool) -> Self {
        let (writer, reader) = pool.spool();
        let kind = |reader: SpoolReader| if ONCE { reader.once() } else { reader };
        let small = kind(reader);
        SpoolScene {
            model: Random::new(8).bytes(WRITTEN),
            writer: Some(writer),
            frozen: None,
            large: small.clone(),
            // One that reads once, beside those that may go back.
            lending: small.clone().once(),
            small,
            other: pool.buffer(),
        }
    }

    fn look(&mut self) {
        let written = self.writer.as_ref().map_or(WRITTEN, |writer| usize::try_from(writer.len()).unwrap());
        for reader in [&mut self.small, &mut self.large] {
            // A clone, since what reads once cannot go back.
            let mut reader = reader.clone();
            let at = usize::try_from(reader.position()).unwrap();
            read_on(&mut reader, &self.model, written.min(at + 10), 10).unwrap();
        }
        self.other.check_invariants();
        self.writer.iter().for_each(SpoolWriter::check_invariants);
        self.frozen.iter().for_each(Frozen::check_invariants);
    }

    fn end(mut self) {
        self.look();
        assert!(content_of(&mut self.other) == [3; 4 * PAGE]);
        for mut reader in [self.small, self.large, self.lending] {
            read_on(&mut reader, &self.model, WRITTEN, PAGE).unwrap();
            assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0, "the end");
        }
        let frozen = self.frozen.unwrap();
        frozen.check_invariants();
        assert_eq!(frozen.into_buffer().is_ok(), !ONCE);
    }
}

const OF_SPOOLS: [&str; 8] = [
    "a clone's reads",
    "another's writes",
    "fill_buf",
    "large reads",
    "large writes",
    "small reads",
    "small writes",
    "to_vec",
];

#[test]
fn a_failure_is_the_followers_own_that_met_it() {
    fail_everywhere::<SpoolScene<false>>(&OF_SPOOLS, 1500);
}

#[test]
fn what_all_have_passed_is_freed_whatever_fails() {
    fail_everywhere::<SpoolScene<true>>(&OF_SPOOLS, 1500);
}

/// A writer that fails, or is dropped, says so to its readers, and the store's failures are not taken for
/// that.
#[test]
fn the_end_of_a_writer_is_no_failure_of_the_store() {
    let mut places = 0;
    for (n, ends) in (0..8).flat_map(|n| [(n, "fail"), (n, "drop")]) {
        let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
        let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store).build().unwrap();
        let (mut writer, reader) = pool.spool();
        let model = Random::new(2).bytes(3 * PAGE + 10);
        writer.write_all(&model).unwrap();
        match ends {
            "fail" => writer.fail("no more"),
            _ => drop(writer),
        }
        for mut reader in [reader.clone(), reader.once()] {
            faults.set(Fault::once(n, Failure::io()));
            while let Err(error) = read_on(&mut reader, &model, model.len(), 1000) {
                assert!(matches!(spill_error(error), SpillError::Store { .. }));
                places += 1;
            }
            faults.lift();
            let error = spill_error(reader.read(&mut [0; 10]).unwrap_err());
            assert!(matches!(error, SpillError::Unfinished { written, .. } if written == model.len() as u64));
        }
        assert_eq!((pool.stats().buffers, pool.stats().disk_used), (0, 0));
    }
    assert!(places >= 16, "{places} places are too few to prove anything");
}
