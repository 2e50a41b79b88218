//! Reading the input to its end, into a buffer.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::block::{BLOCK, Block};
use crate::blocking;
use crate::failure::{self, Failure, Held};
use crate::progress::Progress;
use crate::standard::unbuffered_stdin;
use crate::target::{Identity, OldContent};
use overspill::{SpillBuffer, SpillPool};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What is needed to fill a buffer with the input.
pub(crate) struct Soak<'a> {
    pub(crate) pool: &'a SpillPool,
    /// The file that the content will become, if its bytes may spill to that file's directory.
    pub(crate) spill_beside: Option<PathBuf>,
    /// Where the buffer spills if that is known, for messages.
    pub(crate) dir: Option<&'a Path>,
    pub(crate) progress: &'a Progress,
}

/// What is to be written.
pub(crate) struct Content {
    /// The old content of the file, if that is appended to, and the input behind it.
    pub(crate) buffer: SpillBuffer,
    /// How many bytes of it are old content.
    pub(crate) old_len: u64,
    /// The identity that the file had when its content was read, if there was one.
    pub(crate) identity: Option<Identity>,
}

impl Soak<'_> {
    /// Reads all of standard input, behind the content of the file `old`, which the user calls `name`.
    pub(crate) fn read_input(
        &mut self,
        old: Option<OldContent>,
        name: Option<&Path>,
    ) -> Result<Content, Failure> {
        let mut buffer = self.new_buffer();
        let mut identity = None;
        // The file is closed again before the input comes: as long as it is open, nobody can
        // replace it on Windows.
        if let (Some(mut old), Some(name)) = (old, name) {
            let mut read = |block: &mut [u8]| counted(self.progress, blocking::read(&mut old.file, block));
            read_all(&mut read, name, &mut buffer, None, self.dir)?;
            identity = Some(old.identity);
        }
        let old_len = buffer.len();
        self.read_stdin(&mut buffer, old_len)?;
        Ok(Content { buffer, old_len, identity })
    }

    /// An empty buffer, which can become the file without a copy if it may spill beside it.
    fn new_buffer(&self) -> SpillBuffer {
        match &self.spill_beside {
            Some(path) => self.pool.buffer_for(path),
            None => self.pool.buffer(),
        }
    }

    fn read_stdin(&mut self, buffer: &mut SpillBuffer, old_len: u64) -> Result<(), Failure> {
        let failed =
            |error: io::Error| Failure::cannot("read", Path::new("standard input"), &error, TRY_AGAIN);
        let mut stdin = unbuffered_stdin().map_err(failed)?;
        self.progress.expect(&stdin);
        let mut read = |block: &mut [u8]| counted(self.progress, blocking::read(&mut stdin, block));
        read_all(&mut read, Path::new("standard input"), buffer, Some(old_len), self.dir)?;
        self.progress.input_has_ended();
        Ok(())
    }

    /// The input of `content` behind what `old` has, which the user calls `name`. For a file that has changed
    /// since its content was read.
    pub(crate) fn renew(
        &self,
        content: Content,
        old: Option<&OldContent>,
        name: &Path,
    ) -> Result<Content, Failure> {
        let Content { buffer: mut outdated, old_len, .. } = content;
        let mut buffer = self.new_buffer();
        if let Some(old) = old {
            let mut read = |block: &mut [u8]| blocking::read(&mut &old.file, block);
            read_all(&mut read, name, &mut buffer, None, self.dir)?;
        }
        let moved = outdated.seek(SeekFrom::Start(old_len));
        let held = Held { old: old_len, input: outdated.len() - old_len };
        moved.map_err(|error| failure::buffer_failure(error, held, self.dir))?;
        let old_len = buffer.len();
        let mut read = |block: &mut [u8]| outdated.read(block);
        read_all(&mut read, Path::new("the input again"), &mut buffer, Some(old_len), self.dir)?;
        Ok(Content { buffer, old_len, identity: old.map(|old| old.identity.clone()) })
    }
}

/// Shows what was read, if it was.
fn counted(progress: &Progress, read: io::Result<usize>) -> io::Result<usize> {
    read.inspect(|&n| progress.add(n))
}

/// A function that reads some bytes into a block.
type ReadSome<'a> = dyn FnMut(&mut [u8]) -> io::Result<usize> + 'a;

/// Appends to `buffer`, which spills to `dir` if that is known, all bytes that `read` returns.
/// They come from `name`. `old_len` of what is there before is old content of a file; without it, these are.
fn read_all(
    read: &mut ReadSome<'_>,
    name: &Path,
    buffer: &mut SpillBuffer,
    old_len: Option<u64>,
    dir: Option<&Path>,
) -> Result<(), Failure> {
    let mut block = Block::new();
    let block = block.bytes();
    loop {
        // Writes end at a multiple of the block, and so of the page: whole pages can go past the frames.
        let start = usize::try_from(buffer.len() % BLOCK as u64).unwrap_or(0);
        let filled = fill(read, &mut block[start..]);
        let (n, has_ended) = filled.map_err(|error| {
            let is_directory = error.kind() == io::ErrorKind::IsADirectory;
            Failure::cannot("read", name, &error, if is_directory { "read a file in it" } else { TRY_AGAIN })
        })?;
        let written = buffer.write_all(&block[start..start + n]);
        let old = old_len.unwrap_or(buffer.len());
        let held = Held { old, input: buffer.len() - old };
        written.map_err(|error| failure::buffer_failure(error, held, dir))?;
        if has_ended {
            return Ok(());
        }
    }
}

/// Reads until `block` is full or the input ends, since a pipe returns at most 64 KiB at a time.
/// Returns the number of bytes, and whether the input has ended. It must not be read after its end: a
/// terminal would start over.
fn fill(read: &mut ReadSome<'_>, block: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut filled = 0;
    while filled < block.len() {
        match read(&mut block[filled..]) {
            Ok(0) => return Ok((filled, true)),
            Ok(n) => filled += n,
            Err(error) => return Err(error),
        }
    }
    Ok((filled, false))
}

const TRY_AGAIN: &str = "nothing was written; try again";
