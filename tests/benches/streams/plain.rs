//! *The limit*: the plainest program that could keep many streams within the same memory.
//!
//! It knows beforehand how many streams there are and how long each becomes. Each has its fair share of the
//! memory: a tail that is written to its place in one unnamed file when it is full, and read back by the same
//! share. It cannot seek, shrink, fail well, share memory otherwise, or be used by two threads.

use crate::KIB;
use crate::turns::Streams;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// All streams of the plain program.
pub(crate) struct Plain {
    file: File,
    /// Bytes of memory of each stream: a multiple of 4 KiB where it is as much.
    share: usize,
    /// Bytes between the places of two streams: a multiple of `share`.
    place: u64,
    streams: Vec<Stream>,
}

/// Its tail while it is written, and what was read ahead while it is read.
#[derive(Default)]
struct Stream {
    memory: Vec<u8>,
    /// Bytes of it that are in the file, or were read from there.
    at: u64,
    /// Where in `memory` the next read begins.
    next: usize,
}

impl Plain {
    /// `count` streams that become up to `len` bytes long, within `memory` bytes.
    pub(crate) fn new(count: usize, len: usize, memory: usize) -> Self {
        let fair = memory / count;
        let share = if fair < 4 * KIB { fair } else { fair / (4 * KIB) * (4 * KIB) };
        let stream = || Stream { memory: Vec::with_capacity(share), ..Stream::default() };
        Plain {
            file: tempfile::tempfile().unwrap(),
            share,
            place: len.next_multiple_of(share) as u64,
            streams: (0..count).map(|_| stream()).collect(),
        }
    }
}

impl Streams for Plain {
    fn write(&mut self, stream: usize, mut data: &[u8]) {
        let tail = &mut self.streams[stream];
        while !data.is_empty() {
            let n = data.len().min(self.share - tail.memory.len());
            tail.memory.extend_from_slice(&data[..n]);
            data = &data[n..];
            if tail.memory.len() == self.share {
                self.file.write_all_at(&tail.memory, stream as u64 * self.place + tail.at).unwrap();
                tail.at += self.share as u64;
                tail.memory.clear();
            }
        }
    }

    /// The tail is written too, so that its memory is there for reading ahead.
    fn rewind(&mut self, stream: usize) {
        let tail = &mut self.streams[stream];
        self.file.write_all_at(&tail.memory, stream as u64 * self.place + tail.at).unwrap();
        (tail.at, tail.next) = (0, 0);
        tail.memory.clear();
    }

    fn read(&mut self, stream: usize, mut buf: &mut [u8]) {
        let ahead = &mut self.streams[stream];
        while !buf.is_empty() {
            if ahead.next == ahead.memory.len() {
                ahead.memory.resize(self.share, 0);
                // Short at the end of the file alone: what is missing there is not asked for.
                self.file.read_at(&mut ahead.memory, stream as u64 * self.place + ahead.at).unwrap();
                ahead.at += self.share as u64;
                ahead.next = 0;
            }
            let n = buf.len().min(ahead.memory.len() - ahead.next);
            buf[..n].copy_from_slice(&ahead.memory[ahead.next..][..n]);
            ahead.next += n;
            buf = &mut buf[n..];
        }
    }
}
