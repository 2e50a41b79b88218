//! Does a failing store cost a reader anything but the call that met it, and does it show in any
//! other handle? (I3, I11)
//!
//! As in `spill_faults`, faults are counted: call 0 of the store fails, then call 1, and so on until a run
//! has no failing call; each place once, and together with all calls after it. A step in which a call failed
//! may return an error, and no other step may. It is then done again at once, and must succeed; the other
//! handles stand where they stood, and read on. In half of the runs nothing is looked at between the steps,
//! since looking moves pages.
#![allow(missing_docs)]

mod frozen;
mod spools;

use overspill::testing::{Failure, Fault, FaultPlan, FaultStore};
use overspill::{Checksums, MemoryStore, SpillPool};
use overspill_tests::readers::part;
use overspill_tests::support::hush_planned_panics;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

const PAGE: usize = 4096;

/// One call fails, or one and all after it.
const FAULTS: [fn(u64, Failure) -> Fault; 2] = [Fault::once, Fault::lasting];

const FAILURES: [Failure; 5] = [
    Failure::io(),
    Failure::Error(io::ErrorKind::Interrupted),
    Failure::Short(0),
    Failure::Short(1000),
    Failure::Panic,
];

/// A step's name, and what it does.
type Step<S> = (&'static str, fn(&mut S) -> io::Result<()>);

/// Several handles, and what is done with them.
trait Scene: Sized + 'static {
    /// What each does can be done again if it has failed.
    const STEPS: &'static [Step<Self>];

    /// Over a pool with so much memory, whose store does not fail yet.
    fn new(pool: SpillPool) -> Self;

    /// Reads a little by every handle, and leaves each where it stood.
    fn look(&mut self);

    /// Checks the content as a whole, by the handles that are left.
    fn end(self);
}

/// Does all steps of a scene over a store that fails by `fault`. Returns those in which a call failed.
fn run<S: Scene>(memory: usize, checksums: Checksums, fault: Fault, is_watched: bool) -> Vec<&'static str> {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    let pool = builder.store(store).build().unwrap();
    let mut scene = S::new(pool.clone());
    faults.set(fault);
    let mut failed_in = Vec::new();
    for (name, step) in S::STEPS {
        let before = faults.failed();
        let done = step(&mut scene);
        if faults.failed() > before {
            failed_in.push(*name);
            if is_watched {
                faults.paused(|| scene.look());
            }
        }
        if let Err(error) = done {
            assert!(faults.failed() > before, "{name}: {error}, though nothing has failed");
            if format!("{fault:?}").contains("lasting") {
                faults.lift();
            }
            step(&mut scene).unwrap_or_else(|error| panic!("{name}, again: {error}"));
        }
        pool.check_invariants();
    }
    faults.lift();
    scene.end();
    pool.trim();
    pool.check_invariants();
    let stats = pool.stats();
    let left = (stats.buffers, stats.memory_used, stats.memory_lent, stats.disk_used);
    assert_eq!(left, (0, 0, 0, 0), "{fault:?}");
    failed_in
}

/// Lets each call of each scene fail in turn, in every way. Every one of `reaching` must have failed
/// somewhere.
fn fail_everywhere<S: Scene>(reaching: &[&str], places_min: usize) {
    hush_planned_panics();
    let (mut failed_in, mut places) = (BTreeSet::new(), 0);
    for memory in [0, 5 * PAGE] {
        for checksums in [Checksums::Off, Checksums::On] {
            for failure in FAILURES {
                for fault in FAULTS {
                    for n in 0.. {
                        let failed = run::<S>(memory, checksums, fault(n, failure), n % 2 == 0);
                        if failed.is_empty() {
                            break;
                        }
                        failed_in.extend(failed);
                        places += 1;
                    }
                }
            }
        }
    }
    assert_eq!(failed_in.into_iter().collect::<Vec<_>>(), reaching, "steps in which a call has failed");
    assert!(places >= places_min, "{places} places are too few to prove anything");
}

/// Reads `len` bytes by `reader` from where it stands, in pieces. At an error it stands behind what it has
/// read.
fn read_on(reader: &mut (impl Read + Seek), model: &[u8], to: usize, piece: usize) -> io::Result<()> {
    let mut bytes = vec![0; piece];
    loop {
        let at = usize::try_from(reader.stream_position()?).unwrap();
        let want = piece.min(to.saturating_sub(at));
        if want == 0 {
            return Ok(());
        }
        match reader.read(&mut bytes[..want]) {
            Ok(n) => {
                assert!(n > 0 && bytes[..n] == *part(model, at, n), "{n} bytes at {at}");
                assert_eq!(reader.stream_position()?, (at + n) as u64);
            }
            Err(error) => {
                assert_eq!(reader.stream_position()?, at as u64);
                return Err(error);
            }
        }
    }
}

/// Reads on by what is lent.
fn lend_on(reader: &mut (impl BufRead + Seek), model: &[u8], to: usize) -> io::Result<()> {
    loop {
        let at = usize::try_from(reader.stream_position()?).unwrap();
        if at >= to {
            return Ok(());
        }
        let lent = reader.fill_buf()?;
        assert!(!lent.is_empty() && *lent == *part(model, at, lent.len()), "lent at {at}");
        let len = lent.len().min(to - at);
        reader.consume(len);
    }
}

/// Reads a little where a handle stands, and leaves it there.
fn glance(reader: &mut (impl Read + Seek), model: &[u8]) {
    let at = reader.stream_position().unwrap();
    let to = model.len().min(usize::try_from(at).unwrap() + 10);
    read_on(reader, model, to, 10).unwrap();
    reader.seek(SeekFrom::Start(at)).unwrap();
}
