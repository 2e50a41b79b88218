//! What becomes of the name while the content is on its way to it: rights that are taken away, and files that
//! are made there, count as if they had been so from the beginning.
#![allow(missing_docs)]
#![cfg(unix)]

use overspill::{MemoryStore, SpillBuffer, SpillError, SpillPool, Store, TempFileStore};
use overspill_tests::support::skip;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::{Arc, Mutex};

type Hook = Box<dyn FnOnce() + Send>;

/// Runs a hook at the next read: while the content is being copied.
#[derive(Default)]
struct Hooked {
    store: MemoryStore,
    hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Store for Hooked {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let hook = self.hook.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
        self.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.store.write_at(offset, data)
    }
}

/// A spilled buffer, during whose copy `hook` runs.
fn buffer_with(hook: impl FnOnce() + Send + 'static) -> SpillBuffer {
    let store = Arc::new(Hooked::default());
    let pool = SpillPool::builder().memory(0).store(Arc::clone(&store)).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[7; 100_000]).unwrap();
    *store.hook.lock().unwrap() = Some(Box::new(hook));
    buffer
}

/// Persists as `target` while `meanwhile` happens to it, and returns the mode that the new file has, or what
/// is wrong. The buffer is whole then.
fn persist(target: &Path, meanwhile: impl FnOnce(&Path) + Send + 'static) -> Result<u32, ErrorKind> {
    let path = target.to_owned();
    match buffer_with(move || meanwhile(&path)).persist(target) {
        Ok(persisted) => {
            persisted.durable().unwrap();
            assert_eq!(fs::read(target).unwrap(), [7; 100_000]);
            Ok(fs::metadata(target).unwrap().mode() & 0o7777)
        }
        Err(failed) => {
            let (error, mut buffer) = failed.into_parts();
            assert_eq!(buffer.to_vec().unwrap(), [7; 100_000]);
            assert!(matches!(&error, SpillError::Target { path, .. } if path == target), "{error:?}");
            Err(error.kind())
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The target was looked at before the copy alone. What lost a right meanwhile was replaced by a file that
/// granted it; what came to be there, too.
#[test]
fn rights_that_are_taken_away_meanwhile_are_not_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::write(&target, "old").unwrap();
    set_mode(&target, 0o644);
    assert_eq!(persist(&target, |path| set_mode(path, 0o600)), Ok(0o600));
    set_mode(&target, 0o644);
    let exchanged = persist(&target, |path| {
        fs::remove_file(path).unwrap();
        fs::write(path, "another").unwrap();
        set_mode(path, 0o640);
    });
    assert_eq!(exchanged, Ok(0o640));
    fs::remove_file(&target).unwrap();
    let made = persist(&target, |path| {
        fs::write(path, "secret").unwrap();
        set_mode(path, 0o600);
    });
    assert_eq!(made, Ok(0o600));
    // What is gone has granted something, and nothing grants less now.
    assert_eq!(persist(&target, |path| fs::remove_file(path).unwrap()), Ok(0o600));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
}

/// Content of this process would have got the set-user-ID bit of a user whom it had been given to before.
#[test]
fn another_owner_lends_no_rights_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::write(&target, "old").unwrap();
    if chown(&target, Some(1234), Some(1234)).is_err() {
        return skip("another_owner_lends_no_rights_meanwhile", "files cannot be given away");
    }
    set_mode(&target, 0o755);
    assert_eq!(persist(&target, |path| set_mode(path, 0o4750)), Ok(0o750));
    let mine = fs::metadata(dir.path()).unwrap();
    let taken = persist(&target, move |path| {
        chown(path, Some(mine.uid()), Some(mine.gid())).unwrap();
        set_mode(path, 0o4711);
    });
    assert_eq!(taken, Ok(0o4711), "the owner and group of this process");
    assert_eq!(fs::metadata(&target).unwrap().uid(), fs::metadata(dir.path()).unwrap().uid());
}

/// A FIFO, a socket or a directory that came to be there was replaced, or refused after a second copy.
#[test]
fn what_is_no_file_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let socket = persist(&target, |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
    assert_eq!(socket, Err(ErrorKind::InvalidInput));
    assert!(!fs::symlink_metadata(&target).unwrap().is_file());
    fs::remove_file(&target).unwrap();
    assert_eq!(persist(&target, |path| fs::create_dir(path).unwrap()), Err(ErrorKind::IsADirectory));
    fs::remove_dir(&target).unwrap();
    let link = persist(&target, |path| std::os::unix::fs::symlink("elsewhere", path).unwrap());
    assert!(link.is_ok() && fs::symlink_metadata(&target).unwrap().is_file(), "the link is replaced");
    fs::remove_file(&target).unwrap();
    let path = target.clone();
    let refused = buffer_with(move || fs::write(path, "first").unwrap()).persist_noclobber(&target);
    assert_eq!(refused.unwrap_err().error().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&target).unwrap(), b"first");
}

/// A name that no file can have was refused by the system after the content had been written twice.
#[test]
fn a_directorys_name_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["new/", "new/.", "new//"] {
        let buffer = buffer_with(|| panic!("it is read"));
        let refused = buffer.persist(dir.path().join(name)).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::IsADirectory, "{name}");
    }
    let refused = buffer_with(|| panic!("it is read")).persist("").unwrap_err();
    assert_eq!(refused.error().kind(), ErrorKind::NotFound);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::create_dir(dir.path().join("sub")).unwrap();
    for name in ["sub", "sub/", "sub/.", "sub/.."] {
        let buffer = buffer_with(|| panic!("it is read"));
        let refused = buffer.persist_noclobber(dir.path().join(name)).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::AlreadyExists, "{name}");
    }
}

/// Where a name could not be replaced, the file kept the lock that it had had under its hidden name: whoever
/// got it under another name could not lock it as long as the process had it open.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_is_handed_out_is_not_locked() {
    use rustix::fs::{FlockOperation, flock};
    use rustix::mount::{mount_bind, unmount};
    let dir = tempfile::tempdir().unwrap();
    let (target, other) = (dir.path().join("target"), dir.path().join("other"));
    fs::write(&target, "old").unwrap();
    fs::write(dir.path().join("mounted"), "mounted").unwrap();
    // A name that something is mounted on is not replaced.
    if mount_bind(dir.path().join("mounted"), &target).is_err() {
        return skip("a_file_that_is_handed_out_is_not_locked", "nothing can be mounted");
    }
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let mut buffer = pool.buffer_for(&target);
    buffer.write_all(&[7; 10_000]).unwrap();
    let refused = buffer.persist(&target);
    unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
    let persisted = refused.unwrap_err().into_buffer().persist(&other).unwrap();
    let opened = fs::File::open(&other).unwrap();
    flock(&opened, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(persisted);
}

/// A relative directory was that of the first spill. So a server that goes to `/` after its start failed
/// hours later, or spilled there.
#[test]
fn a_relative_directory_is_that_of_when_it_was_named() {
    let dir = tempfile::tempdir().unwrap();
    let sub = dir.path().join("sub");
    fs::create_dir(&sub).unwrap();
    let child = || {
        std::env::set_current_dir(dir.path()).unwrap();
        let pool = SpillPool::builder().memory(0).dir("sub").build().unwrap();
        let builder = pool.buffer_builder().file("sub/second");
        let store = SpillPool::builder().memory(0).store(TempFileStore::in_dir("sub")).build().unwrap();
        let buffers = [pool.buffer_for("sub/first"), builder.build(), pool.buffer(), store.buffer()];
        std::env::set_current_dir("/").unwrap();
        for (mut buffer, name) in buffers.into_iter().zip(["first", "second", "third", "fourth"]) {
            buffer.write_all(&[7; 10_000]).unwrap();
            buffer.persist(sub.join(name)).unwrap().durable().unwrap();
        }
        fs::read_dir(&sub).unwrap().count() == 4
    };
    assert!(overspill_tests::children::in_a_child(child));
}

/// In an append-only directory nothing is renamed or removed. Each attempt left whole copies there under
/// hidden names, one of which was the file that the buffer went on spilling to.
#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_in_a_directory_that_is_append_only() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let link = dir.path().join("link");
    fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink("elsewhere", &link).unwrap();
    let opened = fs::File::open(dir.path()).unwrap();
    let set = |is_fixed| {
        let flags = ioctl_getflags(&opened)?;
        let rest = flags.difference(IFlags::APPEND);
        ioctl_setflags(&opened, if is_fixed { rest | IFlags::APPEND } else { rest })
    };
    if set(true).is_err() {
        return skip("nothing_is_left_in_a_directory_that_is_append_only", "it cannot be marked");
    }
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let taken = [&target, &link].into_iter();
    let buffers = taken.flat_map(|name| [pool.buffer(), pool.buffer_for(name)].map(|buffer| (name, buffer)));
    let mut refused: Vec<_> = buffers
        .map(|(name, mut buffer)| {
            buffer.write_all(&[7; 10_000]).unwrap();
            buffer.persist(name).map(drop).map_err(|refused| refused.into_error())
        })
        .collect();
    let (late, path) = (dir.path().join("late"), dir.path().join("late"));
    let meanwhile = buffer_with(move || fs::write(path, "first").unwrap()).persist(late);
    refused.push(meanwhile.map(drop).map_err(|refused| refused.into_error()));
    let made = pool.buffer().persist(dir.path().join("new")).map(drop);
    set(false).unwrap();
    for refused in refused {
        let SpillError::Target { source, .. } = refused.unwrap_err() else { panic!("of the target") };
        assert!(source.kind() == ErrorKind::PermissionDenied && source.to_string().contains("append-only"));
    }
    made.unwrap();
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["late", "link", "new", "target"]);
}
