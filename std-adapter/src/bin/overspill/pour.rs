//! Writing the content to its target.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use crate::block::Block;
use crate::blocking;
use crate::failure::{self, Failure, Held};
use crate::progress::Progress;
use crate::standard::unbuffered_stdout;
use crate::target::{FileTarget, Target, open_stream};
use overspill::SpillBuffer;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Writes all of `buffer` to `target`.
pub(crate) fn pour(
    buffer: SpillBuffer,
    target: Target,
    dir: Option<&Path>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    match target {
        Target::File(file) => replace(buffer, &file, dir, progress),
        Target::Stdout => {
            // Standard output may be the terminal that shows the bar.
            progress.finish();
            let name = Path::new("standard output");
            let out = unbuffered_stdout().map_err(|error| cannot_write(name, &error))?;
            copy(buffer, out, name, dir)
        }
        Target::Stream { user_path, append } => {
            progress.finish();
            let out = open_stream(&user_path, append)?;
            copy(buffer, out, &user_path, dir)
        }
        Target::Descriptor { user_path, mut file, at_end } => {
            progress.finish();
            if at_end {
                file.seek(SeekFrom::End(0)).map_err(|error| cannot_write(&user_path, &error))?;
            }
            copy(buffer, file, &user_path, dir)
        }
    }
}

fn replace(
    buffer: SpillBuffer,
    file: &FileTarget,
    dir: Option<&Path>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let len = buffer.len();
    progress.writing(&file.user_path, len);
    match buffer.persist(&file.path) {
        Ok(persisted) => persisted
            .durable()
            .map(drop)
            .map_err(|error| failure::spill_failure(&error, Held::input(len), dir)),
        Err(refused) => Err(failure::spill_failure(refused.error(), Held::input(len), dir)),
    }
}

fn copy(mut buffer: SpillBuffer, mut out: File, name: &Path, dir: Option<&Path>) -> Result<(), Failure> {
    let held = Held::input(buffer.len());
    let failed = |error| failure::buffer_failure(error, held, dir);
    buffer.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut block = Block::new();
    let block = block.bytes();
    loop {
        let n = buffer.read(block).map_err(failed)?;
        if n == 0 {
            // Dropping the buffer would free its disk room piece by piece. The process is about to end, and
            // the kernel then frees the file as a whole.
            std::mem::forget(buffer);
            return close(out).map_err(|error| cannot_write(name, &error));
        }
        blocking::write_all(&mut out, &block[..n]).map_err(|error| cannot_write(name, &error))?;
    }
}

/// Closes the output. Network file systems write then what they have kept until then, and say only now
/// that they could not.
fn close(out: File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use nix::errno::Errno;
        match nix::unistd::close(out) {
            Ok(()) | Err(Errno::EINTR) => Ok(()), // it is closed in each case
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(unix))]
    {
        drop(out);
        Ok(())
    }
}

fn cannot_write(name: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::cannot("write", name, error, "free some room there, and run it again")
        }
        _ => Failure::cannot("write", name, error, "part of the output is missing; run it again"),
    }
}
