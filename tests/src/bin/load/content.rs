//! Buffers, and bodies of known content in them.

use overspill::{SpillBuffer, SpillPool};
use std::io::{Read, Seek, Write};

pub(crate) fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).build().unwrap()
}

/// The bytes of a body from `at` on.
pub(crate) fn piece(body: usize, at: usize, out: &mut [u8]) {
    let seed = (body as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let word = |i: usize| (seed ^ (at / 8 + i) as u64).to_le_bytes();
    // Arrays make this fast beside what is measured: with slices it took a quarter of the time.
    let (words, rest) = out.as_chunks_mut::<8>();
    words.iter_mut().enumerate().for_each(|(i, bytes)| *bytes = word(i));
    let last = word(words.len());
    rest.copy_from_slice(&last[..rest.len()]);
}

pub(crate) fn fill(file: &mut impl Write, body: usize, len: usize, chunk: usize) {
    let mut data = vec![0; chunk];
    for at in (0..len).step_by(chunk) {
        let data = &mut data[..chunk.min(len - at)];
        piece(body, at, data);
        file.write_all(data).unwrap();
    }
}

pub(crate) fn verify(file: &mut (impl Read + Seek), body: usize, len: usize, chunk: usize) {
    let (mut wanted, mut found) = (vec![0; chunk], vec![0; chunk]);
    file.rewind().unwrap();
    for at in (0..len).step_by(chunk) {
        let n = chunk.min(len - at);
        piece(body, at, &mut wanted[..n]);
        file.read_exact(&mut found[..n]).unwrap();
        assert!(wanted[..n] == found[..n], "body {body} differs past {at}");
    }
}

pub(crate) fn fill_all(buffers: &mut [SpillBuffer], len: usize, chunk: usize) {
    for (body, buffer) in buffers.iter_mut().enumerate() {
        buffer.rewind().unwrap();
        fill(buffer, body, len, chunk);
    }
}

pub(crate) fn verify_all(buffers: &mut [SpillBuffer], len: usize, chunk: usize) {
    buffers.iter_mut().enumerate().for_each(|(body, buffer)| verify(buffer, body, len, chunk));
}

pub(crate) fn buffers(pool: &SpillPool, count: usize) -> Vec<SpillBuffer> {
    (0..count).map(|_| pool.buffer()).collect()
}
