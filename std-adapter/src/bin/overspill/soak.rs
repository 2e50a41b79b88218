//! Reading the input to its end, into a buffer.
//!
//! Promise: with `--append`, the content that the file has when the input ends is the content that is kept.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::block::{BLOCK, Block};
use crate::failure::{self, Failure};
use crate::progress::Progress;
use crate::target::{FileTarget, OldContent};
use overspill::{SpillBuffer, SpillPool};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What is needed to fill a buffer with the input.
pub(crate) struct Soak<'a> {
    pub(crate) pool: &'a SpillPool,
    /// The file that the content will become, if its bytes may spill to that file's directory.
    pub(crate) spill_beside: Option<PathBuf>,
    /// Where the buffer spills if that is known, for messages.
    pub(crate) dir: Option<&'a Path>,
    pub(crate) progress: &'a mut Progress,
}

impl Soak<'_> {
    /// Reads all of standard input, behind the old content of `file` if that is to be kept. Returns the
    /// buffer, and how many bytes of it are old content.
    pub(crate) fn read_input(
        &mut self,
        file: Option<&mut FileTarget>,
    ) -> Result<(SpillBuffer, u64), Failure> {
        let mut buffer = self.new_buffer();
        let old = file.and_then(|file| Some((file.old.as_mut()?, &file.path, &file.user_path)));
        let Some((old, path, user_path)) = old else {
            self.read_stdin(&mut buffer)?;
            return Ok((buffer, 0));
        };
        self.read_all(&mut old.file, user_path, &mut buffer)?;
        let old_len = buffer.len();
        self.read_stdin(&mut buffer)?;
        if old.is_outdated(path) {
            return self.append_to_current(path, user_path, buffer, old_len);
        }
        Ok((buffer, old_len))
    }

    /// An empty buffer, which can become the file without a copy if it may spill beside it.
    fn new_buffer(&self) -> SpillBuffer {
        match &self.spill_beside {
            Some(path) => self.pool.buffer_for(path),
            None => self.pool.buffer(),
        }
    }

    fn read_stdin(&mut self, buffer: &mut SpillBuffer) -> Result<(), Failure> {
        let failed =
            |error: io::Error| Failure::cannot("read", Path::new("standard input"), &error, TRY_AGAIN);
        let mut stdin = unbuffered_stdin().map_err(failed)?;
        self.progress.expect(&stdin);
        self.read_all(&mut stdin, Path::new("standard input"), buffer)
    }

    /// Puts the current content of a file that changed during input before the input. `buffer` has the input
    /// after `outdated` bytes of the file's earlier content.
    fn append_to_current(
        &mut self,
        path: &Path,
        user_path: &Path,
        mut buffer: SpillBuffer,
        outdated: u64,
    ) -> Result<(SpillBuffer, u64), Failure> {
        let mut whole = self.new_buffer();
        match OldContent::open(path) {
            Ok(mut old) => self.read_all(&mut old.file, user_path, &mut whole)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::cannot("read", user_path, &error, TRY_AGAIN)),
        }
        let old_len = whole.len();
        let moved = buffer.seek(SeekFrom::Start(outdated));
        moved.map_err(|error| failure::buffer_failure(error, buffer.len(), self.dir))?;
        self.read_all(&mut buffer, Path::new("the input again"), &mut whole)?;
        Ok((whole, old_len))
    }

    /// Appends all bytes of `from` to `buffer`.
    fn read_all(
        &mut self,
        from: &mut impl Read,
        name: &Path,
        buffer: &mut SpillBuffer,
    ) -> Result<(), Failure> {
        let mut block = Block::new();
        let block = block.bytes();
        loop {
            // Writes end at a multiple of the block, and so of the page: whole pages can go past the frames.
            let start = usize::try_from(buffer.len() % BLOCK as u64).unwrap_or(0);
            let filled = self.fill(from, &mut block[start..]);
            let (n, has_ended) = filled.map_err(|error| Failure::cannot("read", name, &error, TRY_AGAIN))?;
            let written = buffer.write_all(&block[start..start + n]);
            written.map_err(|error| failure::buffer_failure(error, buffer.len(), self.dir))?;
            if has_ended {
                return Ok(());
            }
        }
    }

    /// Reads until `block` is full or the input ends, since a pipe returns at most 64 KiB at a time. Returns
    /// the number of bytes, and whether the input has ended. It must not be read after its end: a terminal
    /// would start over.
    fn fill(&mut self, from: &mut impl Read, block: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut filled = 0;
        while filled < block.len() {
            match from.read(&mut block[filled..]) {
                Ok(0) => return Ok((filled, true)),
                Ok(n) => {
                    filled += n;
                    self.progress.add(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((filled, false))
    }
}

const TRY_AGAIN: &str = "nothing was written; try again";

/// Standard input without std's buffer, which would copy every byte once more.
fn unbuffered_stdin() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    let file = File::from(handle);
    widen(&file);
    Ok(file)
}

/// Lets a pipe hold 1 MiB in place of the usual 64 KiB, so that both of its ends sleep and wake less often.
/// That saves a quarter of a pipeline's time. Errors are ignored: the limit for pipes may be lower, and
/// `pipe` may be no pipe.
pub(crate) fn widen(pipe: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}
