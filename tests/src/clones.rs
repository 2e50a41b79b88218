//! Buffers and their clones, and clones of these: each is what a vector of its own would be, whatever the
//! others and the memory do.
//!
//! What is done is chosen by a [`Choices`].

use crate::readers::{Choices, Input, Reading, any_buffer, part};
use crate::support::content_of;
use overspill::{Checksums, MemoryStore, SpillBuffer, SpillPool};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};

const PAGE: usize = 4096;

/// Operations of a run, at most.
const STEPS: usize = 150;

/// Buffers at a time, at most.
const HANDLES: usize = 6;

/// Where content ends, at most: enough for a few pages, and the layers of several clones.
const END_MAX: usize = 9 * PAGE;

/// A fuzz target: as [`write_clones`], by the choices of `input`.
///
/// # Panics
/// If a buffer is something else than a vector would be.
pub fn drive_clones(input: &[u8]) {
    write_clones(&mut Input::new(input));
}

/// A buffer, and what it ought to be.
struct Handle {
    buffer: SpillBuffer,
    model: Vec<u8>,
    at: usize,
}

impl Handle {
    fn clone(&mut self) -> Handle {
        let buffer = self.buffer.try_clone().unwrap();
        assert_eq!(buffer.position(), self.at as u64);
        Handle { buffer, model: self.model.clone(), at: self.at }
    }

    fn write(&mut self, random: &mut impl Choices) {
        let len = if random.index(3) > 0 { random.index(200) } else { random.index(3 * PAGE) };
        let len = len.min(END_MAX.saturating_sub(self.at));
        let bytes = random.bytes(len);
        self.buffer.write_all(&bytes).unwrap();
        let end = self.at + len;
        if len > 0 {
            self.model.resize(self.model.len().max(end), 0);
            self.model[self.at..end].copy_from_slice(&bytes);
        }
        self.at = end;
    }

    fn read(&mut self, random: &mut impl Choices) {
        if random.index(3) == 0 {
            let chunk = self.buffer.fill_buf().unwrap();
            assert_eq!(chunk.is_empty(), self.at >= self.model.len());
            assert!(chunk == part(&self.model, self.at, chunk.len()), "lent at {}", self.at);
            let consumed = random.index(chunk.len() + 1);
            self.buffer.consume(consumed);
            self.at += consumed;
            return;
        }
        let len = if random.index(3) > 0 { random.index(200) } else { random.index(3 * PAGE) };
        let mut bytes = vec![0; len];
        let n = self.buffer.read(&mut bytes).unwrap();
        assert!(n > 0 || len == 0 || self.at >= self.model.len(), "at {}", self.at);
        assert!(bytes[..n] == *part(&self.model, self.at, n), "{n} bytes at {}", self.at);
        self.at += n;
    }

    fn cut(&mut self, random: &mut impl Choices) {
        let len = random.index(END_MAX);
        self.buffer.set_len(len as u64).unwrap();
        self.model.resize(len, 0);
    }

    /// Freezes the buffer, reads it by several handles, and goes on with it as a buffer.
    fn freeze(self, random: &mut impl Choices) -> Handle {
        let frozen = self.buffer.freeze();
        let mut readings = [0, 1].map(|_| Reading::new(&frozen, self.model.clone()));
        for _ in 0..random.index(6) {
            readings[random.index(2)].step(random);
        }
        drop(readings);
        frozen.check_invariants();
        let buffer = frozen.into_buffer().unwrap();
        Handle { buffer, model: self.model, at: 0 }
    }

    fn step(mut self, random: &mut impl Choices) -> Handle {
        match random.index(12) {
            0..4 => self.write(random),
            4..8 => self.read(random),
            8 => {
                self.at = random.index(END_MAX);
                self.buffer.seek(SeekFrom::Start(self.at as u64)).unwrap();
            }
            9 => self.cut(random),
            10 => self.buffer.spill().unwrap(),
            _ => return self.freeze(random),
        }
        self
    }

    fn check(&mut self) {
        self.buffer.check_invariants();
        assert_eq!((self.buffer.position(), self.buffer.len()), (self.at as u64, self.model.len() as u64));
    }

    /// Compares the content, which may have become a file.
    fn end(mut self, random: &mut impl Choices) {
        assert!(content_of(&mut self.buffer) == self.model);
        if random.may_use_files() && random.index(4) == 0 {
            let (mut file, mut bytes) = (self.buffer.into_file().unwrap(), Vec::new());
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            assert!(bytes == self.model);
        }
    }
}

/// Any interleaving of buffers that are written to, read, cut, frozen, cloned and dropped, in any memory.
///
/// # Panics
/// If a buffer is something else than a vector would be, or anything is left.
pub fn write_clones(random: &mut impl Choices) {
    let memory = [0, 1, PAGE / 2, 2 * PAGE, 7 * PAGE, 1 << 20][random.index(6)];
    let checksums = if random.index(3) == 0 { Checksums::On } else { Checksums::Off };
    let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(checksums);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut handles = vec![Handle { buffer: any_buffer(random, &pool), model: Vec::new(), at: 0 }];
    let mut other = pool.buffer();
    for _ in 0..STEPS {
        if random.is_over() {
            break;
        }
        let chosen = random.index(handles.len());
        match random.index(16) {
            0 | 1 if handles.len() < HANDLES => {
                let clone = handles[chosen].clone();
                handles.push(clone);
            }
            2 if handles.len() > 1 => handles.swap_remove(chosen).end(random),
            3 => other.write_all(&random.bytes(PAGE)).unwrap(),
            4 => pool.set_memory_limit(random.index(memory + 1)),
            _ => {
                let handle = handles.swap_remove(chosen);
                handles.push(handle.step(random));
            }
        }
        handles.iter_mut().for_each(Handle::check);
        pool.check_invariants();
    }
    handles.into_iter().for_each(|handle| handle.end(random));
    drop(other);
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.disk_used), (0, 0, 0));
}
