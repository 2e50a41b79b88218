//! The model that every subject is compared with: a binary file as a `Vec<u8>` and a position.
//!
//! Held by: `tests/tests/model_is_a_file.rs`, which compares it with a real file.

use crate::ops::Refusal;
use std::io::SeekFrom;

/// A binary file that can hold `capacity` bytes.
#[derive(Clone, Debug)]
pub struct Model {
    content: Vec<u8>,
    position: u64,
    capacity: u64,
    /// The last place that a seek can reach.
    last: u64,
}

impl Model {
    /// Holds `content`, at position 0, and can grow to `capacity` bytes. A run must stay below what fits in
    /// memory.
    pub fn new(content: Vec<u8>, capacity: u64) -> Self {
        Model { content, position: 0, capacity, last: u64::MAX }
    }

    /// The same, but positions and content end at `last` instead of `u64::MAX`.
    pub fn ending_at(self, last: u64) -> Self {
        Model { capacity: self.capacity.min(last), last, ..self }
    }

    /// All bytes.
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    /// Where the next read or write starts.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The bytes between the position and the end.
    pub fn rest(&self) -> &[u8] {
        self.rest_from(self.position)
    }

    /// The bytes between `place` and the end; none if it lies past that.
    pub fn rest_from(&self, place: u64) -> &[u8] {
        usize::try_from(place).ok().and_then(|start| self.content.get(start..)).unwrap_or(&[])
    }

    /// Takes as much of `data` as there is room for, at least one byte of it, and moves past what it took.
    pub fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let room = usize::try_from(self.capacity.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let taken = data.len().min(room);
        if taken == 0 {
            return if data.is_empty() { Ok(0) } else { Err(Refusal::Full) };
        }
        let start = self.position as usize; // below `capacity`, which fits in memory
        let end = start + taken;
        self.content.resize(self.content.len().max(end), 0);
        self.content[start..end].copy_from_slice(&data[..taken]);
        self.position = end as u64;
        Ok(taken)
    }

    /// As [`write`](Model::write) at `place`. The position stays.
    pub fn write_at(&mut self, data: &[u8], place: u64) -> Result<usize, Refusal> {
        let position = std::mem::replace(&mut self.position, place);
        let taken = self.write(data);
        self.position = position;
        taken
    }

    /// Moves the position. A place before 0 or past the last is refused, and the position stays.
    pub fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        let place = match to {
            SeekFrom::Start(place) => i128::from(place),
            SeekFrom::End(offset) => self.content.len() as i128 + i128::from(offset),
            SeekFrom::Current(offset) => i128::from(self.position) + i128::from(offset),
        };
        let place = u64::try_from(place).ok().filter(|&place| place <= self.last);
        self.position = place.ok_or(Refusal::OutOfRange)?;
        Ok(self.position)
    }

    /// Cuts the content, or adds zeros. The position stays.
    pub fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        let fits = usize::try_from(len).ok().filter(|_| len <= self.capacity);
        self.content.resize(fits.ok_or(Refusal::Full)?, 0);
        Ok(())
    }
}
