//! Input, taken in to its end.

use crate::block::{BLOCK, Block};
use crate::failure::{self, Failure};
use crate::progress::Progress;
use crate::target::{Old, Place};
use overspill::{SpillBuffer, SpillPool};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A buffer being filled, and what belongs to it.
pub(crate) struct Soak<'a> {
    pub(crate) pool: &'a SpillPool,
    /// The file that the content will be, if what is spilled may go to its directory.
    pub(crate) beside: Option<PathBuf>,
    /// Where it goes as far as that is known, for messages.
    pub(crate) dir: Option<&'a Path>,
    pub(crate) progress: &'a mut Progress,
}

impl Soak<'_> {
    /// Takes in all of standard input, behind what `place` wants kept. Returns the buffer, and how
    /// many bytes of it are old.
    pub(crate) fn input(&mut self, place: Option<&mut Place>) -> Result<(SpillBuffer, u64), Failure> {
        let mut buffer = self.buffer();
        let old = place.and_then(|place| Some((place.old.as_mut()?, &place.path, &place.shown)));
        let Some((old, path, shown)) = old else {
            self.standard_input(&mut buffer)?;
            return Ok((buffer, 0));
        };
        self.take(&mut old.file, shown, &mut buffer)?;
        let old_len = buffer.len();
        self.standard_input(&mut buffer)?;
        if old.is_outdated(path) {
            return self.behind_current(path, shown, buffer, old_len);
        }
        Ok((buffer, old_len))
    }

    /// An empty one, from which a file can be made without copying if it is to be one.
    fn buffer(&self) -> SpillBuffer {
        match &self.beside {
            Some(path) => self.pool.buffer_for(path),
            None => self.pool.buffer(),
        }
    }

    fn standard_input(&mut self, buffer: &mut SpillBuffer) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::at("read", Path::new("standard input"), &error, TRY_AGAIN);
        let mut stdin = unbuffered_stdin().map_err(failed)?;
        self.progress.expect(&stdin);
        self.take(&mut stdin, Path::new("standard input"), buffer)
    }

    /// The file was changed while the input came in: what it holds now is put before the input.
    fn behind_current(
        &mut self,
        path: &Path,
        shown: &Path,
        mut buffer: SpillBuffer,
        outdated: u64,
    ) -> Result<(SpillBuffer, u64), Failure> {
        let mut whole = self.buffer();
        match Old::open(path) {
            Ok(mut old) => self.take(&mut old.file, shown, &mut whole)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::at("read", shown, &error, TRY_AGAIN)),
        }
        let old_len = whole.len();
        let sought = buffer.seek(SeekFrom::Start(outdated));
        sought.map_err(|error| failure::of_buffer(error, buffer.len(), self.dir))?;
        self.take(&mut buffer, Path::new("the input again"), &mut whole)?;
        Ok((whole, old_len))
    }

    /// Moves all of `from` to the end of `buffer`.
    fn take(&mut self, from: &mut impl Read, name: &Path, buffer: &mut SpillBuffer) -> Result<(), Failure> {
        let mut block = Block::new();
        let block = block.bytes();
        loop {
            // Up to a boundary of blocks, and so of pages: a whole page can go past the cache.
            let past = usize::try_from(buffer.len() % BLOCK as u64).unwrap_or(0);
            let read = self.fill(from, &mut block[past..]);
            let (n, has_ended) = read.map_err(|error| Failure::at("read", name, &error, TRY_AGAIN))?;
            let written = buffer.write_all(&block[past..past + n]);
            written.map_err(|error| failure::of_buffer(error, buffer.len(), self.dir))?;
            if has_ended {
                return Ok(());
            }
        }
    }

    /// Reads until `block` is full or the input ends, since a pipe gives 64 KiB at a time at best; says how much that
    /// was, and whether the input has ended. After that it is not read again: on a terminal it would go on.
    fn fill(&mut self, from: &mut impl Read, block: &mut [u8]) -> io::Result<(usize, bool)> {
        let mut filled = 0;
        while filled < block.len() {
            match from.read(&mut block[filled..]) {
                Ok(0) => return Ok((filled, true)),
                Ok(n) => {
                    filled += n;
                    self.progress.soaked(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((filled, false))
    }
}

const TRY_AGAIN: &str = "nothing was written; try again";

/// Standard input without std's buffer, which would hold bytes twice.
fn unbuffered_stdin() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdin()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdin()).try_clone_to_owned()?;
    let file = File::from(handle);
    widen(&file);
    Ok(file)
}

/// Lets a pipe hold more than the usual 64 KiB, so that both of its ends sleep and wake less often; of
/// a pipeline's time that is a quarter. Not all pipes can, and what is none does not mind.
pub(crate) fn widen(pipe: &File) {
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
    #[cfg(not(target_os = "linux"))]
    let _ = pipe;
}
