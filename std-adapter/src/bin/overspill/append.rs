//! Replacing a file by its content and the input behind it.
//!
//! Promises:
//!
//! - Processes that append to one file at once each add their input as one piece: the check that the copied
//!   content is the file's, and the replacing, happen under one [lock](crate::lock).
//! - What a program without the lock adds to the old file until it is replaced is added to the new one,
//!   behind the input. Any other change that would be lost is an error.
//! - A file that did not exist replaces nothing that came to exist.
//!
//! Not promised: what a program writes later, through a descriptor that it opened before, goes to the old
//! file. And a file that takes the name while the new one is synced is replaced, as by any rename.
//!
//! Held by: `std-adapter/tests/command/append.rs`.

use crate::failure::{self, Failure, Held};
use crate::lock::Locked;
use crate::report::Report;
use crate::soak::{Content, Soak};
use crate::target::{FileTarget, OldContent};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::time::Duration;

/// Fails if `file` is one to append to, and the lock on it cannot be had at all.
pub(crate) fn check(file: &FileTarget) -> Result<(), Failure> {
    if file.append { Locked::check(&file.path).map_err(|error| cannot_lock(file, &error)) } else { Ok(()) }
}

/// Puts `content` in the place of `file`, after what the file has in the meantime. Returns the figures of
/// `soak`, which took `input_time`.
pub(crate) fn put(
    mut content: Content,
    file: &FileTarget,
    soak: &mut Soak<'_>,
    input_time: Duration,
) -> Result<Report, Failure> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        soak.progress.now("waiting for the lock on", &file.user_path);
        let mut locked = Locked::wait(&file.path).map_err(|error| cannot_lock(file, &error))?;
        if locked.old.as_ref().map(|old| &old.identity) != content.identity.as_ref() {
            soak.progress.now("copying again, since it has changed:", &file.user_path);
            content = soak.renew(content, locked.old.as_ref(), &file.user_path)?;
        }
        #[cfg(unix)]
        if locked.old.as_ref().is_some_and(|old| !old.has_name(&file.path)) {
            continue; // another program gave the name to another file while this one was copied again
        }
        let is_new = locked.old.is_none();
        if cfg!(windows) {
            locked.old = None; // Windows replaces no file that is open
        }
        let report = Report::new(soak.pool, &content.buffer, content.old_len, input_time);
        let len = content.buffer.len();
        soak.progress.writing(&file.user_path, len);
        let Content { buffer, old_len, identity } = content;
        #[cfg(target_os = "linux")]
        let names = locked.old.as_ref().map(OldContent::names);
        let held = Held { old: old_len, input: len - old_len };
        let put = if is_new { buffer.persist_noclobber(&file.path) } else { buffer.persist(&file.path) };
        match put {
            Ok(persisted) => {
                #[cfg(target_os = "linux")]
                check_replaced(locked.old.as_ref(), names, file)?;
                locked.old.map_or(Ok(()), |old| add_late(old, old_len, file))?;
                let durable = persisted.durable().map(|_| report);
                return durable.map_err(|error| failure::spill_failure(&error, held, soak.dir));
            }
            Err(refused) => match refused.error().kind() {
                // Another process made the file first.
                ErrorKind::AlreadyExists if is_new => {
                    content = Content { buffer: refused.into_buffer(), old_len, identity };
                }
                // On Windows, no more than that another process looks at the file.
                ErrorKind::PermissionDenied if cfg!(windows) && attempt < ATTEMPTS => {
                    std::thread::sleep(PAUSE);
                    content = Content { buffer: refused.into_buffer(), old_len, identity };
                }
                _ => return Err(failure::spill_failure(refused.error(), held, soak.dir)),
            },
        }
    }
}

/// How often a file that is open elsewhere is tried, and the time between, on Windows.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Fails if the `old` file, which had so many `names`, has lost none by being replaced: then another program
/// had moved it away before, and what had its name meanwhile is gone. Only where the file system is known to
/// count so: NFS keeps a name for a file that is open.
#[cfg(target_os = "linux")]
fn check_replaced(old: Option<&OldContent>, names: Option<u64>, file: &FileTarget) -> Result<(), Failure> {
    const EXT: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    const TMPFS: i64 = 0x0102_1994;
    let (Some(old), Some(1..)) = (old, names) else { return Ok(()) };
    // The type of `f_type` differs between architectures. The magic numbers fit in the low 32 bits of each.
    #[allow(clippy::unnecessary_cast)]
    let counts = rustix::fs::fstatfs(&old.file)
        .is_ok_and(|found| [EXT, XFS, BTRFS, TMPFS].contains(&(found.f_type as i64 & 0xFFFF_FFFF)));
    if !counts || names.is_some_and(|names| old.names() < names) {
        return Ok(());
    }
    Err(Failure::message(format!(
        "another program moved {} while it was replaced; {LATE}, and what that program put there instead is gone",
        file.user_path.display()
    )))
}

/// Adds to the file what was written to the `old` one after its first `old_len` bytes had been copied.
fn add_late(old: OldContent, old_len: u64, file: &FileTarget) -> Result<(), Failure> {
    let Ok(now) = old.file.metadata() else { return Ok(()) };
    if !old.is_changed(&now, old_len) {
        return Ok(());
    }
    let add = |mut old: File| {
        let gone = || io::Error::new(ErrorKind::NotFound, "it is not there any more");
        let mut now = Locked::wait(&file.path)?.old.ok_or_else(gone)?.file;
        if !begin_alike(&mut old, &mut now, old_len)? {
            return Ok(false);
        }
        old.seek(SeekFrom::Start(old_len))?;
        let len = now.metadata()?.len();
        // It is open for appending, so the copy goes to its end.
        if let Err(error) = io::copy(&mut old, &mut now) {
            let _ = now.set_len(len); // no piece of it stays
            return Err(error);
        }
        // std has the drive empty its cache on Apple's systems, which SMB shares refuse.
        #[cfg(unix)]
        rustix::io::retry_on_intr(|| rustix::fs::fsync(&now))?;
        #[cfg(not(unix))]
        now.sync_data()?;
        Ok(true)
    };
    let is_added = now.len() > old_len
        && add(old.file).map_err(|error| {
            let advice = match failure::remedy(&error) {
                Some(remedy) => format!("{LATE}; before the next input, {remedy}"),
                None => LATE.to_owned(),
            };
            let (path, reason) = (file.user_path.display(), failure::reason(&error));
            Failure::message(format!(
                "cannot add what another program wrote meanwhile to {path}: {reason}; {advice}"
            ))
        })?;
    if is_added {
        return Ok(());
    }
    Err(Failure::message(format!(
        "cannot keep a change that another program made in {} while it was replaced; {LATE}",
        file.user_path.display()
    )))
}

/// Whether two files have the same first `len` bytes.
fn begin_alike(one: &mut File, other: &mut File, len: u64) -> io::Result<bool> {
    let (mut left, mut parts) = (len, [Vec::new(), Vec::new()]);
    one.rewind()?;
    other.rewind()?;
    while left > 0 {
        let part = left.min(64 << 10);
        for (file, bytes) in [&mut *one, &mut *other].into_iter().zip(&mut parts) {
            bytes.clear();
            file.take(part).read_to_end(bytes)?;
        }
        if parts[0] != parts[1] || parts[0].len() as u64 != part {
            return Ok(false);
        }
        left -= part;
    }
    Ok(true)
}

const LATE: &str = "the file has its old content and the input";

fn cannot_lock(file: &FileTarget, error: &io::Error) -> Failure {
    let is_other = matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::NotADirectory);
    let advice = if is_other { "look what has its name" } else { "use >> instead" };
    Failure::cannot("lock", &file.user_path, error, format!("nothing was written; {advice}"))
}
