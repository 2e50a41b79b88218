//! Small things that many tests need, each of them once.

use overspill::{SpillBuffer, SpillError, SpillPool, Store};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, IoSlice, Read, Seek, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Wake;
use std::thread;
use std::time::Duration;

/// A store that accepts all bytes, forgets them, and reads as zeros.
#[derive(Debug)]
pub struct Nothing;

#[deny(clippy::missing_trait_methods)]
impl Store for Nothing {
    fn read_at(&self, _offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        buf.fill(0);
        Ok(buf.len())
    }

    fn write_at(&self, _offset: u64, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }

    fn write_vectored_at(&self, _offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn copy_to_file(&self, _offset: u64, _len: usize, _file: &File, _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn copy_from_file(&self, _offset: u64, _len: usize, _file: &File, _at: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A waker that counts its calls.
#[derive(Debug, Default)]
pub struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    /// How often it was called.
    pub fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A generator of pseudo-random numbers that is small and the same everywhere: Vigna's xorshift64*.
///
/// The same seed yields the same numbers in every run, on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from `seed`. A seed of 0 counts as 1: the generator would stay at 0.
    pub fn new(seed: u64) -> Self {
        Random(seed.max(1))
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from 0 up to, but not including, `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // The upper bits are the better ones.
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// As [`below`](Random::below), for indices and lengths.
    pub fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }

    /// `len` bytes that do not repeat.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// Rewinds `file` and reads it to its end, where the position stays.
///
/// # Panics
/// If that fails.
pub fn content_of(file: &mut (impl Read + Seek + ?Sized)) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().expect("a rewind never fails");
    file.read_to_end(&mut content).expect("the content can be read");
    content
}

/// A new buffer of `pool` that holds `len` times `byte`, written a KiB at a time, as a stream comes in.
///
/// # Panics
/// If the pool refuses a write.
pub fn stream(pool: &SpillPool, len: usize, byte: u8) -> SpillBuffer {
    let mut buffer = pool.buffer();
    for start in (0..len).step_by(1024) {
        buffer.write_all(&[byte; 1024][..1024.min(len - start)]).expect("the pool has room");
    }
    buffer
}

/// The typed error inside the [`io::Error`] of a buffer.
///
/// # Panics
/// If there is none.
pub fn spill_error(error: io::Error) -> SpillError {
    error.downcast().expect("an error of a buffer holds a SpillError")
}

/// What `error` and its sources print, outermost first.
pub fn chain(error: &dyn Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        lines.push(error.to_string());
        next = error.source();
    }
    lines
}

/// The names in a directory, in order.
///
/// # Panics
/// If it cannot be read, or a name is not UTF-8.
pub fn names_in(dir: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string());
    let entries = fs::read_dir(dir).expect("the directory can be read");
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).expect("an entry can be read").expect("names are UTF-8")).collect();
    names.sort_unstable();
    names
}

/// Reports a skipped test on the real standard error: `cargo test` holds back what `eprintln!` prints.
pub fn skip(test: &str, why: &str) {
    let _ = writeln!(io::stderr(), "skipped {test}: {why}");
}

/// Runs `f` on a thread of its own, and fails if it hangs.
///
/// # Panics
/// If `f` takes longer than twenty seconds, or panics.
pub fn in_time(f: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        f();
        let _ = done.send(());
    });
    if ended.recv_timeout(Duration::from_secs(20)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    thread.join().unwrap();
}

/// Keeps the messages of planned panics off the screen.
pub fn hush_planned_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref() != Some(&"a panic was planned here") {
                usual(info);
            }
        }));
    });
}
