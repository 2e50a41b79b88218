//! Does the whole content arrive when a buffer becomes a file, under the right name and with the right mode?
//! And if it cannot become one, is the buffer in the error, whole, and is nothing left on the disk?
#![allow(missing_docs)]
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use overspill::{Checksums, DiskLimitScope, MemoryStore, SpillBuffer, SpillError, SpillPool};
#[cfg(unix)]
use overspill_tests::support::skip;
use overspill_tests::support::{content_of, names_in};
use std::fs;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

const KIB: usize = 1 << 10;

/// Access control lists, as the kernel has them.
#[cfg(target_os = "linux")]
mod lists {
    use rustix::fs::{XattrFlags, getxattr, setxattr};
    use std::path::Path;

    /// A list for one more user, who may read and write, and for a group that may do nothing.
    pub(crate) fn list() -> Vec<u8> {
        const NOBODY: u32 = u32::MAX;
        let entries: [(u16, u16, u32); 5] =
            [(0x01, 6, NOBODY), (0x02, 6, 12345), (0x04, 0, NOBODY), (0x10, 6, NOBODY), (0x20, 0, NOBODY)];
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            bytes.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
        }
        bytes
    }

    pub(crate) fn set(path: &Path, kind: &str) -> bool {
        setxattr(path, format!("system.posix_acl_{kind}"), &list(), XattrFlags::empty()).is_ok()
    }

    pub(crate) fn of(path: &Path) -> Option<Vec<u8>> {
        let mut value = [0; 1000];
        let len = getxattr(path, "system.posix_acl_access", &mut value).ok()?;
        Some(value[..len].to_vec())
    }
}

/// Writes content with all sorts of pages: full, cut, overwritten, a hole, a partial one at the end. Returns
/// the content.
fn fill(buffer: &mut SpillBuffer) -> Vec<u8> {
    let text: Vec<u8> = (0..200 * KIB).map(|i| ((i / 7) ^ i) as u8).collect();
    buffer.write_all(&text).unwrap();
    let mut model = text;
    // Some of these bytes were on the disk, and must be zeros now.
    buffer.set_len(70_001).unwrap();
    model.truncate(70_001);
    buffer.set_len(150_000).unwrap();
    model.resize(150_000, 0);
    buffer.seek(SeekFrom::Start(180_000)).unwrap();
    buffer.write_all(b"after a gap").unwrap();
    model.resize(180_000, 0);
    model.extend(b"after a gap");
    buffer.seek(SeekFrom::Start(1000)).unwrap();
    buffer.write_all(&[9; 5000]).unwrap();
    model[1000..6000].fill(9);
    model
}

/// Buffers under all memory limits that make a difference: of the pool's store, meant for `path`, and meant
/// for a path in another directory.
fn buffers(path: &Path) -> Vec<SpillBuffer> {
    let pool = |memory, page, checksums| {
        let builder = SpillPool::builder().memory(memory).page_size(page).checksums(checksums);
        builder.dir(path.parent().unwrap()).build().unwrap()
    };
    let memories = [0, 4 * KIB, 64 * KIB, 1 << 30];
    let plain = memories.map(|memory| pool(memory, 4 * KIB, Checksums::Off));
    let checked = memories.map(|memory| pool(memory, 16 * KIB, Checksums::On));
    let pools = [plain, checked].concat();
    let beside = pools
        .iter()
        .flat_map(|pool| [pool.buffer_for(path), pool.buffer_builder().memory(48 * KIB).file(path).build()]);
    // On another file system, where Linux has one.
    let other = if cfg!(target_os = "linux") { "/dev/shm".into() } else { std::env::temp_dir() };
    let elsewhere = pools.iter().map(|pool| pool.buffer_for(other.join("elsewhere")));
    pools.iter().map(SpillPool::buffer).chain(beside).chain(elsewhere).collect()
}

/// The names in `dir`, without the temp files of Windows: it removes no file that is open, so the files of
/// buffers have names there until they are closed. [`assert_left`] is for afterwards.
fn names(dir: &Path) -> Vec<String> {
    let mut names = names_in(dir);
    names.retain(|name| !(cfg!(windows) && name.starts_with(".tmp")));
    names
}

/// When all buffers and files are closed, `dir` holds `names` and nothing else, on any platform.
#[track_caller]
fn assert_left(dir: &Path, names: &[&str]) {
    assert_eq!(names_in(dir), names);
}

#[test]
fn persist_puts_the_content_under_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    for (case, mut buffer) in buffers(&path).into_iter().enumerate() {
        let model = fill(&mut buffer);
        let position = buffer.position();
        let mut file = buffer.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == model, "case {case}");
        assert_eq!(file.stream_position().unwrap(), position);
        assert_eq!(names(dir.path()), ["content"]);
    }
    assert_left(dir.path(), &["content"]);
}

/// A buffer beside its file could have no limits of its own, nor could a spool. The store takes nothing.
#[test]
fn what_a_builder_makes_beside_a_file_has_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let store = MemoryStore::with_capacity(0);
    let pool = SpillPool::builder().memory(0).page_size(4 * KIB).store(store).build().unwrap();
    let builder = || pool.buffer_builder().disk(64 * KIB as u64).file(&path);
    let is_refused = |error: &std::io::Error| {
        matches!(SpillError::of(error), Some(SpillError::DiskLimit { scope: DiskLimitScope::Buffer, .. }))
    };

    assert!(is_refused(&builder().build().write_all(&[1; 68 * KIB]).unwrap_err()));
    let (mut writer, mut reader) = builder().spool();
    writer.write_all(&[3; 60 * KIB]).unwrap();
    assert!(is_refused(&writer.write_all(&[4; 8 * KIB]).unwrap_err()));
    let (whole, mut all) = (writer.finish().unwrap(), Vec::new());
    reader.read_to_end(&mut all).unwrap();
    drop(reader);
    whole.into_buffer().unwrap().persist(&path).unwrap().durable().unwrap();
    assert_eq!(fs::read(&path).unwrap(), all);

    let (mut writer, reader) = builder().spool();
    let mut reader = reader.once();
    for i in 0..20 {
        writer.write_all(&[i; 16 * KIB]).unwrap();
        let mut piece = [0; 16 * KIB];
        reader.read_exact(&mut piece).unwrap();
        assert_eq!(piece, [i; 16 * KIB]);
    }
    drop((writer, reader));
    assert_eq!(pool.stats().disk_used, 0);
    pool.check_invariants();
    drop(pool);
    assert_left(dir.path(), &["content"]);
}

/// A dropped buffer frees its slots. If they are in the file that now has a name, that would punch holes into
/// it.
#[test]
fn the_end_of_the_pool_does_not_touch_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let pool = SpillPool::builder().memory(0).page_size(4 * KIB).build().unwrap();
    let mut buffer = pool.buffer_for(&path);
    let model = fill(&mut buffer);
    let file = buffer.persist(&path).unwrap().durable().unwrap();
    assert_eq!(pool.stats().disk_used, 0, "the file no longer counts as the pool's");
    drop((file, pool));
    assert!(fs::read(&path).unwrap() == model);
}

#[test]
fn into_file_keeps_content_and_position() {
    let dir = tempfile::tempdir().unwrap();
    for (case, mut buffer) in buffers(&dir.path().join("content")).into_iter().enumerate() {
        let model = fill(&mut buffer);
        let position = buffer.position();
        let mut file = buffer.into_file().unwrap();
        assert_eq!(file.stream_position().unwrap(), position);
        assert!(content_of(&mut file) == model, "case {case}");
        assert!(names(dir.path()).is_empty());
    }
    assert_left(dir.path(), &[]);
}

#[test]
fn an_empty_buffer_makes_an_empty_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty");
    for buffer in buffers(&path) {
        buffer.persist(&path).unwrap().durable().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }
}

/// The `into_file` of a similar library lost the bytes when the disk was full. Here the error holds the
/// buffer.
#[test]
fn a_buffer_that_cannot_become_a_file_comes_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing").join("content");
    for mut buffer in buffers(&dir.path().join("content")) {
        let model = fill(&mut buffer);
        let position = buffer.position();
        let failed = buffer.persist(&path).unwrap_err();
        assert!(matches!(failed.error(), SpillError::Target { path: named, .. } if *named == path));
        assert!(failed.error().to_string().contains(&path.display().to_string()), "{}", failed.error());
        assert_eq!(failed.error().kind(), ErrorKind::NotFound);
        assert_eq!(names(dir.path()), [""; 0], "nothing is left beside the target");
        let mut buffer = failed.into_buffer();
        assert_eq!(buffer.position(), position);
        assert!(buffer.to_vec().unwrap() == model);
        // And now to a path where it can.
        let path = dir.path().join("content");
        buffer.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == model);
        fs::remove_file(&path).unwrap();
    }
}

/// A position that no file can have was found out by a seek after the rename: the call failed, with the new
/// file in place. A buffer with a file of its own, which had become that file, refused to grow from then on.
#[test]
fn a_position_that_no_file_has_is_refused_before_the_name_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    for mut buffer in buffers(&path) {
        let mut model = fill(&mut buffer);
        fs::write(&path, "old").unwrap();
        buffer.seek(SeekFrom::Start(u64::MAX - 1)).unwrap();
        let failed = buffer.persist(&path).unwrap_err();
        assert_eq!(failed.error().kind(), ErrorKind::InvalidInput);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut buffer = failed.into_buffer();
        assert_eq!(buffer.position(), u64::MAX - 1);
        let failed = buffer.into_file().unwrap_err();
        buffer = failed.into_buffer();
        buffer.set_len(5000).unwrap();
        buffer.seek(SeekFrom::Start(90_000)).unwrap();
        buffer.write_all(&[4; 30_000]).unwrap();
        model.truncate(5000);
        model.resize(90_000, 0);
        model.extend([4; 30_000]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        buffer.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == model);
    }
    assert_left(dir.path(), &["content"]);
}

/// The rename fails at the very end: all content has been written beside the directory by then, and must be
/// removed.
#[test]
fn a_target_that_is_a_directory_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("folder");
    fs::create_dir(&path).unwrap();
    for mut buffer in buffers(&path) {
        let model = fill(&mut buffer);
        let failed = buffer.persist(&path).unwrap_err();
        assert_eq!(names(dir.path()), ["folder"]);
        assert!(failed.into_buffer().to_vec().unwrap() == model);
    }
    assert_left(dir.path(), &["folder"]);
}

/// A file or directory that has the name stays, nothing is left beside it, and the buffer can be persisted
/// elsewhere.
#[test]
fn persist_noclobber_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [file, folder, free] = ["file", "folder", "free"].map(|name| dir.path().join(name));
    fs::write(&file, "first").unwrap();
    fs::create_dir(&folder).unwrap();
    for taken in [&file, &folder] {
        for mut buffer in buffers(taken) {
            let model = fill(&mut buffer);
            let failed = buffer.persist_noclobber(taken).unwrap_err();
            assert_eq!(failed.error().kind(), ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&file).unwrap(), b"first");
            assert_eq!(names(dir.path()), ["file", "folder"]);
            failed.into_buffer().persist_noclobber(&free).unwrap().durable().unwrap();
            assert!(fs::read(&free).unwrap() == model);
            fs::remove_file(&free).unwrap();
        }
    }
    // A link that leads nowhere takes the name, too.
    #[cfg(unix)]
    {
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for buffer in buffers(&link) {
            let failed = buffer.persist_noclobber(&link).unwrap_err();
            assert_eq!(failed.error().kind(), ErrorKind::AlreadyExists);
        }
        assert!(link.is_symlink());
    }
}

/// Windows does not replace a file that is read-only or open, and says so when all is written. Neither the
/// file nor the content may be lost by that, and nothing may be left beside it: a read-only temp file could
/// not be removed.
#[test]
#[cfg(windows)]
fn what_windows_does_not_replace_is_refused_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    fs::write(&path, "old").unwrap();
    let set_read_only = |read_only| {
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(read_only);
        fs::set_permissions(&path, permissions).unwrap();
    };
    let mut buffer = SpillBuffer::with_budget(4 * KIB);
    let model = fill(&mut buffer);
    set_read_only(true);
    let refused = buffer.persist(&path).unwrap_err();
    assert!(matches!(refused.error(), SpillError::Target { .. }));
    set_read_only(false);
    let open = fs::File::open(&path).unwrap();
    let refused = refused.into_buffer().persist(&path).unwrap_err();
    drop(open);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_left(dir.path(), &["content"]);
    refused.into_buffer().persist(&path).unwrap().durable().unwrap();
    assert!(fs::read(&path).unwrap() == model);
}

#[test]
fn into_file_copies_out_of_any_store() {
    let pool = SpillPool::builder().memory(0).page_size(16).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(b"never was in a file").unwrap();
    let mut file = buffer.into_file().unwrap();
    assert_eq!(content_of(&mut file), b"never was in a file");
}

/// A hole of a tebibyte is not copied byte by byte.
#[test]
fn holes_stay_holes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    for mut buffer in buffers(&path) {
        buffer.seek(SeekFrom::Start(1 << 40)).unwrap();
        buffer.write_all(b"far").unwrap();
        buffer.persist(&path).unwrap().durable().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), (1 << 40) + 3);
    }
}

#[cfg(unix)]
mod permissions {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_new_file_has_the_mode_of_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let usual = dir.path().join("usual");
        fs::File::create(&usual).unwrap();
        let path = dir.path().join("content");
        for mut buffer in buffers(&path) {
            fill(&mut buffer);
            buffer.persist(&path).unwrap().durable().unwrap();
            assert_eq!(mode(&path), mode(&usual));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn the_mode_of_a_replaced_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        for mut buffer in buffers(&path) {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            fill(&mut buffer);
            buffer.persist(&path).unwrap().durable().unwrap();
            assert_eq!(mode(&path), 0o640);
        }
    }
}

#[cfg(unix)]
mod names_that_others_chose {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    /// It was believed that a replaced file passes on its mode; but it was looked up through the name, links
    /// followed. A user who put a link to a set-user-ID program under a name that root persisted to got a
    /// set-user-ID file of root's with the content of the buffer.
    #[test]
    fn nothing_is_taken_over_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let [program, link, plain] = ["program", "link", "plain"].map(|name| dir.path().join(name));
        fs::write(&program, "theirs").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o6777)).unwrap();
        SpillBuffer::from(&b"new"[..]).persist(&plain).unwrap().durable().unwrap();
        for buffer in buffers(&link) {
            symlink(&program, &link).unwrap();
            buffer.persist(&link).unwrap().durable().unwrap();
            assert!(!link.is_symlink(), "the link is replaced");
            assert_eq!(mode(&link), mode(&plain), "by a file as any new one");
            fs::remove_file(&link).unwrap();
        }
        assert_eq!((fs::read(&program).unwrap(), mode(&program)), (b"theirs".to_vec(), 0o6777));
    }

    /// Set-ID bits speak for the owner of the old content, and stay only where that is who wrote the new one.
    #[test]
    fn set_id_bits_stay_with_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        SpillBuffer::from(&b"new"[..]).persist(&path).unwrap().durable().unwrap();
        assert_eq!(mode(&path), 0o4755, "our own");
        if std::os::unix::fs::chown(&path, Some(12345), Some(12345)).is_err() {
            return skip("another owner's", "it takes root to give a file away");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).unwrap();
        SpillBuffer::from(&b"new"[..]).persist(&path).unwrap().durable().unwrap();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), mode(&path)), (12345, 12345, 0o755));
    }

    /// A rename would put a regular file in the place of a FIFO that a program waits at, or of `/dev/null`.
    #[test]
    fn what_is_no_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [fifo, socket, device] = ["fifo", "socket", "device"].map(|name| dir.path().join(name));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let _listener = UnixListener::bind(&socket).unwrap();
        // It takes root to make a device: one like /dev/null.
        let made = Command::new("mknod").arg(&device).args(["c", "1", "3"]).output();
        let has_device = made.is_ok_and(|made| made.status.success());
        if !has_device {
            skip("a device", "none can be made");
        }
        for path in [&fifo, &socket].into_iter().chain(has_device.then_some(&device)) {
            for mut buffer in buffers(path) {
                let model = fill(&mut buffer);
                let failed = buffer.persist(path).unwrap_err();
                assert_eq!(failed.error().kind(), ErrorKind::InvalidInput, "{}", failed.error());
                assert!(failed.into_buffer().to_vec().unwrap() == model);
            }
        }
        let kind = |path: &Path| fs::symlink_metadata(path).unwrap().file_type();
        assert!(kind(&fifo).is_fifo() && kind(&socket).is_socket());
        assert!(!has_device || kind(&device).is_char_device());
    }
}

/// The group's bits of a file with a list are the most that those in the list may do. They became what its
/// group may do: a file for one more user was for all of its group. And a file without a list got that of its
/// directory, with the old group's rights.
#[test]
#[cfg(target_os = "linux")]
fn a_list_of_those_who_may_is_taken_over() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for (has_list, number) in (0..32).flat_map(|number| [(true, number), (false, number)]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let (listed, kind) = if has_list { (&*path, "access") } else { (dir.path(), "default") };
        if !lists::set(listed, kind) {
            return skip("a_list_of_those_who_may_is_taken_over", "the file system has no lists");
        }
        let before = (lists::of(&path), mode(&path));
        let mut buffers = buffers(&path);
        assert_eq!(buffers.len(), 32);
        let mut buffer = buffers.swap_remove(number);
        let content = fill(&mut buffer);
        buffer.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == content);
        assert_eq!((lists::of(&path), mode(&path)), before, "list: {has_list}, buffer {number}");
        assert_eq!(before.0, has_list.then(lists::list));
    }
}
