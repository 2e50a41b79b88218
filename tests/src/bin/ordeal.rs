//! A program that must keep its data while the machine fails: `ordeal SCENARIO DIR`.
//!
//! `tests/real_faults.rs` and `tests/leftovers.rs` run it where the disk is full, without free descriptors,
//! and under a tracer that makes system calls fail; and kill it. It does a failed operation again, and
//! compares all content after each failure. It prints the number of failures and ends with 0, or panics and
//! says what was lost.
#![allow(missing_docs, clippy::cast_possible_truncation)]

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("ordeal runs on Linux only");
}

#[cfg(target_os = "linux")]
mod linux {
    use overspill::{SpillBuffer, SpillError, SpillPool};
    use overspill_tests::ops::pattern;
    use overspill_tests::support::chain;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::fs;
    use std::io::{self, Read, Seek, SeekFrom, Write};
    use std::path::Path;
    use std::process::Command;

    const KIB: usize = 1 << 10;
    const PAGE: usize = 4 * KIB;

    /// After so many attempts, an operation counts as failing for good. No test lets so many calls fail in a
    /// row.
    const TRIES: usize = 30;

    pub(crate) fn main() {
        // A mark in the tracer's log: the calls before it are the loader's.
        let _ = std::os::unix::process::parent_id();
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [scenario, dir] = &args[..] else { panic!("ordeal SCENARIO DIR") };
        let dir = Path::new(dir);
        let failures = match &**scenario {
            "spill" => spill(dir),
            "spill-privately" => {
                // A new file has no rights for others, whether or not its mode is set.
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
                spill(dir)
            }
            "lower" => lower(dir),
            "persist" => persist(dir),
            "fill" => fill(dir),
            "read-only" => read_only(dir),
            "descriptors" => descriptors(dir),
            "first-write" => first_write(dir),
            "alone" => alone(),
            "for-ever" => for_ever(dir),
            "once" => once(dir),
            _ => panic!("no such scenario"),
        };
        println!("{failures} failures");
    }

    fn pool(dir: &Path, memory: usize) -> SpillPool {
        SpillPool::builder().memory(memory).page_size(PAGE).dir(dir).build().unwrap()
    }

    /// What `read` returns, or that the file is not there. Other errors are the tracer's: then it reads
    /// again.
    fn insisting<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let settled = |found: &io::Result<T>| {
            found.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound)
        };
        (0..TRIES).map(|_| read()).find(settled).expect("failures end")
    }

    /// A buffer and what it must hold.
    struct Kept {
        buffer: SpillBuffer,
        model: Vec<u8>,
        failures: usize,
    }

    impl Kept {
        fn new(buffer: SpillBuffer) -> Self {
            Kept { buffer, model: Vec::new(), failures: 0 }
        }

        /// Writes `len` bytes at `at`, in as many attempts as it takes.
        fn write(&mut self, at: usize, len: usize) {
            let data = pattern(at + len, len);
            self.model.resize(self.model.len().max(at + len), 0);
            let mut done = 0;
            let mut tries = 0;
            while done < len {
                self.buffer.seek(SeekFrom::Start((at + done) as u64)).unwrap();
                match self.buffer.write(&data[done..]) {
                    Ok(taken) => {
                        self.model[at + done..][..taken].copy_from_slice(&data[done..][..taken]);
                        done += taken;
                    }
                    Err(error) => {
                        // The bytes behind have not been written yet, but the model has them already.
                        let len = self.model.len().min(self.buffer.len() as usize);
                        let ahead = self.model.split_off(len);
                        self.failed(&error);
                        self.model.extend(ahead);
                        tries += 1;
                        assert!(tries < TRIES, "writing {len} bytes at {at} still fails: {error}");
                    }
                }
            }
        }

        /// Does `act` in as many attempts as it takes.
        fn insist(&mut self, what: &str, mut act: impl FnMut(&mut SpillBuffer) -> Result<(), SpillError>) {
            for _ in 0..TRIES {
                match act(&mut self.buffer) {
                    Ok(()) => return,
                    Err(error) => self.failed(&error.into()),
                }
            }
            panic!("{what} still fails");
        }

        fn cut(&mut self, len: usize) {
            self.insist("set_len", |buffer| buffer.set_len(len as u64));
            self.model.truncate(len);
        }

        /// The buffer can be cut, read and lengthened, and is as long as before in the end.
        fn works_on(&mut self) {
            let len = self.model.len();
            self.cut(len - 2 * PAGE);
            self.write(len - 2 * PAGE, 2 * PAGE);
            self.check();
        }

        /// Counts a failure, and compares what it has left behind, as far as that can be read now.
        fn failed(&mut self, error: &io::Error) {
            self.failures += 1;
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SpillError>());
            assert!(inner.is_some(), "an error without a SpillError: {error}");
            let _ = self.try_check();
        }

        fn try_check(&mut self) -> io::Result<()> {
            let mut content = Vec::new();
            self.buffer.rewind()?;
            self.buffer.read_to_end(&mut content)?;
            assert!(
                content == self.model,
                "{} bytes instead of {}, or wrong ones",
                content.len(),
                self.model.len()
            );
            self.buffer.check_invariants();
            Ok(())
        }

        /// Compares everything, in as many attempts as it takes to read it.
        fn check(&mut self) {
            for _ in 0..TRIES {
                match self.try_check() {
                    Ok(()) => return,
                    Err(_) => self.failures += 1,
                }
            }
            panic!("the content cannot be read");
        }
    }

    /// Drops the buffers, after which `pool` must use neither memory nor disk. Returns how many failures
    /// there were.
    fn all_released(pool: &SpillPool, kept: [Kept; 2]) -> usize {
        pool.check_invariants();
        let failures = kept.iter().map(|kept| kept.failures).sum();
        drop(kept);
        assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0));
        failures
    }

    /// Everything that a pool does to its file, in few system calls.
    fn spill(dir: &Path) -> usize {
        let pool = pool(dir, 2 * PAGE);
        let (mut a, mut b) = (Kept::new(pool.buffer()), Kept::new(pool.buffer()));
        a.write(0, 5 * PAGE);
        b.write(0, 3 * PAGE);
        a.write(20 * KIB, 100); // a page of memory, or its beginning
        a.write(7000, 3000); // over two pages on disk
        b.insist("spill", SpillBuffer::spill);
        a.check();
        b.check();
        a.write(30 * KIB, 500); // after a gap
        b.cut(0); // in the middle of the file
        pool.trim();
        a.cut(10_000); // and at its end
        pool.trim();
        b.write(0, 2 * PAGE + 10);
        a.write(10_000, 4000);
        a.insist("spill", SpillBuffer::spill);
        a.check();
        b.check();
        all_released(&pool, [a, b])
    }

    /// Lowers the limit below what is in memory, so that several pages leave in one write. Pages whose write
    /// fails leave later.
    fn lower(dir: &Path) -> usize {
        let pool = pool(dir, 64 * PAGE);
        let (mut a, mut b) = (Kept::new(pool.buffer()), Kept::new(pool.buffer()));
        for round in 0..3 {
            pool.set_memory_limit(64 * PAGE);
            a.write(round * PAGE, 10 * PAGE);
            b.write(100 + round * 5 * PAGE, 4 * PAGE);
            pool.set_memory_limit(2 * PAGE);
            a.check();
            b.check();
            assert!(pool.stats().memory_used <= 2 * PAGE as u64);
        }
        all_released(&pool, [a, b])
    }

    /// Puts content under a name: from a file that lies beside it, and by a copy; under a free name, and over
    /// a file.
    fn persist(dir: &Path) -> usize {
        let path = dir.join("target");
        let pool = pool(dir, 2 * PAGE);
        let mut failures = 0;
        for (round, buffer) in [pool.buffer_for(&path), pool.buffer()].into_iter().enumerate() {
            let before = insisting(|| fs::read(&path)).ok();
            let mut kept = Kept::new(buffer);
            kept.write(0, 4 * PAGE + 300 * (round + 1)); // a last page that is cut
            kept.write(100, 50);
            let arrived = (0..TRIES).any(|_| {
                let buffer = std::mem::take(&mut kept.buffer);
                let failed = match buffer.persist(&path) {
                    Ok(persisted) => {
                        kept.failures += usize::from(persisted.not_durable().is_some());
                        return true;
                    }
                    Err(failed) => failed,
                };
                let (error, buffer) = failed.into_parts();
                kept.buffer = buffer;
                kept.failed(&error.into());
                assert!(insisting(|| fs::read(&path)).ok() == before, "an error, and the name has changed");
                kept.works_on();
                assert!(insisting(|| fs::read(&path)).ok() == before, "the buffer reaches the named file");
                false
            });
            assert!(arrived, "persist still fails");
            assert!(insisting(|| fs::read(&path)).unwrap() == kept.model);
            failures += kept.failures;
        }
        let names: Vec<_> =
            insisting(|| fs::read_dir(dir)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["target"]);
        failures
    }

    /// Writes until the disk is full, or the file as long as it may be; makes room; writes on.
    fn fill(dir: &Path) -> usize {
        let pool = pool(dir, 16 * PAGE);
        let mut first = Kept::new(pool.buffer());
        first.write(0, 300 * KIB);
        let mut second = Kept::new(pool.buffer());
        let refused = loop {
            let data = pattern(second.model.len(), 3 * PAGE + 5);
            match second.buffer.write(&data) {
                Ok(taken) => second.model.extend(&data[..taken]),
                Err(error) => break error,
            }
            assert!(second.model.len() < 16 << 20, "the disk is never full");
        };
        let error = refused.downcast::<SpillError>().unwrap();
        assert!(matches!(error, SpillError::StoreFull { .. }), "{error}");
        println!(
            "{}, after {} KiB",
            chain(&error).join(": "),
            (first.model.len() + second.model.len()) / KIB
        );
        assert!(first.model.len() + second.model.len() > 700 * KIB, "full too early");
        first.check();
        second.check();
        pool.check_invariants();

        drop(first);
        let end = second.model.len();
        second.write(end, 200 * KIB);
        second.write(end / 2, 50 * KIB);
        second.check();
        pool.check_invariants();
        1 + second.failures
    }

    /// Spilling must be refused, and lose nothing; once `mend` has run, it must succeed.
    fn refused_at_first(dir: &Path, mend: impl FnOnce()) -> usize {
        let pool = pool(dir, 2 * PAGE);
        let mut kept = Kept::new(pool.buffer());
        kept.write(0, PAGE);
        for _ in 0..3 {
            let refused = kept.buffer.spill().unwrap_err();
            assert!(
                matches!(&refused, SpillError::Directory { dir: named, .. } if named == dir),
                "{refused}"
            );
            println!("{}", chain(&refused).join(": "));
            kept.failed(&refused.into());
        }
        kept.check();
        mend();
        kept.write(PAGE, 10 * PAGE);
        assert!(kept.buffer.is_spilled());
        kept.check();
        kept.failures
    }

    fn read_only(dir: &Path) -> usize {
        refused_at_first(dir, || {
            let mended = Command::new("mount").args(["-o", "remount,rw"]).arg(dir).status();
            assert!(mended.unwrap().success());
        })
    }

    fn descriptors(dir: &Path) -> usize {
        let before = getrlimit(Resource::Nofile);
        // Standard input, output and error are open.
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
        refused_at_first(dir, || setrlimit(Resource::Nofile, before).unwrap())
    }

    /// The first write to a pool, in a process that has other threads.
    fn first_write(dir: &Path) -> usize {
        let (parked, held) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || held.recv().is_err());
        let mut kept = Kept::new(pool(dir, 64 * PAGE).buffer());
        kept.write(0, 100);
        kept.check();
        drop(parked);
        assert!(thread.join().unwrap());
        kept.failures
    }

    /// Buffers without a pool, in a process that has other threads.
    fn alone() -> usize {
        let write = |byte: u8| {
            let mut kept = Kept::new(SpillBuffer::with_budget(4 * PAGE));
            kept.write(0, 9 * PAGE + usize::from(byte));
            kept.insist("spill", SpillBuffer::spill);
            kept.check();
            kept.failures
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| write(1));
            write(2) + other.join().unwrap()
        })
    }

    fn spill_error(error: io::Error) -> SpillError {
        error.downcast().expect("an error of a buffer")
    }

    /// A buffer of `pool` with six pages of content, less some bytes.
    fn filled(mut buffer: SpillBuffer) -> Result<Kept, Failed> {
        let content = pattern(6 * PAGE, 6 * PAGE - 100);
        // Small writes take frames, large ones go past them.
        for part in [&content[..PAGE + 9], &content[PAGE + 9..3 * PAGE], &content[3 * PAGE..]] {
            buffer.write_all(part).map_err(spill_error)?;
        }
        let mut kept = Kept::new(buffer);
        kept.model = content;
        Ok(kept)
    }

    /// Checks the content, which can be read.
    fn read_back(kept: &mut Kept) -> Result<(), Failed> {
        Ok(kept.try_check().map_err(spill_error)?)
    }

    /// What came of a part that failed.
    struct Failed(String);

    impl From<SpillError> for Failed {
        fn from(error: SpillError) -> Self {
            Failed(format!("{error:?}: {}", chain(&error).join(": ")))
        }
    }

    /// One part of what the library does, with targets in a directory.
    type Part = fn(&SpillPool, &Path) -> Result<(), Failed>;

    const PARTS: [(&str, Part); 8] = [
        ("spilling", |pool, _| {
            let (mut a, mut b) = (filled(pool.buffer())?, filled(pool.buffer())?);
            b.buffer.spill()?;
            a.buffer.set_len(PAGE as u64)?;
            a.model.truncate(PAGE);
            pool.trim();
            read_back(&mut a)?;
            read_back(&mut b)
        }),
        ("lowering", |pool, _| {
            pool.set_memory_limit(64 * PAGE);
            let (mut a, mut b) = (filled(pool.buffer())?, filled(pool.buffer())?);
            pool.set_memory_limit(2 * PAGE);
            if pool.stats().memory_used > 2 * PAGE as u64 {
                return Err(Failed("the pages stay in memory".to_owned()));
            }
            read_back(&mut a)?;
            read_back(&mut b)
        }),
        ("spilling alone", |_, _| {
            let mut kept = filled(SpillBuffer::with_budget(PAGE))?;
            kept.buffer.spill()?;
            read_back(&mut kept)
        }),
        ("taking in a file", |pool, _| {
            let mut kept = filled(pool.buffer())?;
            kept.buffer.rewind().map_err(spill_error)?;
            let source = kept.buffer.into_file().map_err(|refused| refused.into_error())?;
            let mut taken = Kept::new(pool.buffer());
            taken.model = kept.model;
            taken.buffer.extend_from_file(&source).map_err(|error| match error.downcast::<SpillError>() {
                Ok(error) => Failed::from(error),
                Err(error) => Failed(format!("the source: {error}")),
            })?;
            read_back(&mut taken)
        }),
        ("a new file", |pool, dir| save(pool.buffer(), &dir.join("new"))),
        ("a new file beside", |pool, dir| {
            let path = dir.join("beside");
            save(pool.buffer_for(&path), &path)
        }),
        ("replacing", |pool, dir| save(pool.buffer(), &dir.join("old"))),
        ("replacing from beside", |pool, dir| {
            let path = dir.join("old-beside");
            save(pool.buffer_for(&path), &path)
        }),
    ];

    fn save(buffer: SpillBuffer, path: &Path) -> Result<(), Failed> {
        let saved = filled(buffer)?.buffer.persist(path).map_err(|refused| {
            assert_eq!(refused.buffer().len() as usize, 6 * PAGE - 100);
            refused.into_error()
        })?;
        saved.durable()?;
        Ok(())
    }

    /// Does each part of what the library does once, and prints what came of it. Returns how many have
    /// failed.
    fn once(dir: &Path) -> usize {
        let pool = pool(dir, 2 * PAGE);
        let mut failures = 0;
        for (name, part) in PARTS {
            match part(&pool, dir) {
                Ok(()) => println!("{name}: done"),
                Err(Failed(how)) => {
                    println!("{name}: {how}");
                    failures += 1;
                }
            }
            pool.check_invariants();
            assert_eq!((pool.stats().memory_used, pool.stats().disk_used), (0, 0), "after {name}");
        }
        failures
    }

    /// Spills, and puts whole files under free names, until it is killed.
    fn for_ever(dir: &Path) -> usize {
        let pool = pool(dir, 2 * PAGE);
        for round in 0_usize.. {
            let path = dir.join(format!("whole-{round}"));
            let mut buffer = if round % 2 == 0 { pool.buffer() } else { pool.buffer_for(&path) };
            for _ in 0..4 {
                buffer.write_all(&[7; 25_000]).unwrap();
            }
            println!("spilled");
            if round % 4 > 1 {
                buffer.persist(&path).unwrap().durable().unwrap();
                fs::remove_file(&path).unwrap();
            }
        }
        0
    }
}
