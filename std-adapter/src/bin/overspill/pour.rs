//! The content, handed over to where it goes.

use crate::block::Block;
use crate::failure::{self, Failure};
use crate::progress::Progress;
use crate::soak::widen;
use crate::target::{Place, Target, open_stream};
use overspill::SpillBuffer;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Writes all of `buffer` to `target`.
pub(crate) fn pour(
    buffer: SpillBuffer,
    target: &Target,
    dir: Option<&Path>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    match target {
        Target::File(place) => replace(buffer, place, dir, progress),
        Target::Stdout => {
            // The terminal, if it is one, is the reader's from here on.
            progress.finish();
            let name = Path::new("standard output");
            let mut out = unbuffered_stdout().map_err(|error| cannot_write(name, &error))?;
            copy(buffer, &mut out, name, dir)
        }
        Target::Stream { shown, append } => {
            progress.finish();
            let mut out = open_stream(shown, *append)?;
            copy(buffer, &mut out, shown, dir)
        }
    }
}

fn replace(
    buffer: SpillBuffer,
    place: &Place,
    dir: Option<&Path>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.writing(&place.shown);
    let done = buffer.persist(&place.path);
    done.map_err(|refused| failure::of_spill(refused.error(), refused.buffer().len(), dir))?;
    Ok(())
}

fn copy(mut buffer: SpillBuffer, out: &mut File, name: &Path, dir: Option<&Path>) -> Result<(), Failure> {
    let len = buffer.len();
    let of_buffer = |error| failure::of_buffer(error, len, dir);
    buffer.seek(SeekFrom::Start(0)).map_err(of_buffer)?;
    let mut block = Block::new();
    let block = block.bytes();
    loop {
        let n = buffer.read(block).map_err(of_buffer)?;
        if n == 0 {
            // Dropped, the buffer would give back its room on the disk piece by piece; the process is
            // about to end, and the kernel then frees the file as a whole.
            std::mem::forget(buffer);
            return Ok(());
        }
        out.write_all(&block[..n]).map_err(|error| cannot_write(name, &error))?;
    }
}

fn cannot_write(name: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::at("write", name, error, "free some room there, and run it again")
        }
        _ => Failure::at("write", name, error, "part of the output is missing; run it again"),
    }
}

/// Standard output without std's buffer, which would look for the last newline in every block.
fn unbuffered_stdout() -> io::Result<File> {
    #[cfg(unix)]
    let handle = std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?;
    #[cfg(windows)]
    let handle = std::os::windows::io::AsHandle::as_handle(&io::stdout()).try_clone_to_owned()?;
    let file = File::from(handle);
    widen(&file);
    Ok(file)
}
