//! Changed content does not become a file, neither by a copy nor where it lies.

use super::*;

#[test]
fn changed_content_does_not_become_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("content");
    let store = OpenStore::default();
    let content = content(3 * PAGE);
    let mut buffer = spilled(&pool(PAGE, PAGE, &store), &content);
    let at = store.offset_of(&content, PAGE, PAGE + 1);
    store.flip(at, 0);
    let failed = buffer.into_file().unwrap_err();
    assert!(matches!(failed.error(), SpillError::Corrupted { position, .. } if *position == PAGE as u64));
    let failed = failed.into_buffer().persist(&path).unwrap_err();
    assert!(matches!(failed.error(), SpillError::Corrupted { position, .. } if *position == PAGE as u64));
    assert!(!path.exists());
    buffer = failed.into_buffer();
    store.flip(at, 0);
    assert_well(&mut buffer, &content);
    buffer.persist(&path).unwrap().durable().unwrap();
    assert!(std::fs::read(&path).unwrap() == content);
}

/// A buffer that was meant for its path spills to a file there, which only gets a name. Nothing would be
/// copied, so nothing would be read and checked.
#[cfg(target_os = "linux")]
mod own_file {
    use super::*;
    use overspill_tests::linux::open_files;
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    /// The one unnamed file in `dir` that this process has open, opened a second time.
    fn unnamed_in(dir: &Path) -> File {
        let path = open_files(|file| file.starts_with(dir)).pop().expect("the buffer's file is open");
        File::options().read(true).write(true).open(path).unwrap()
    }

    fn flip(file: &File, at: u64) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    }

    fn buffer_for(path: &Path, memory: usize) -> SpillBuffer {
        let builder = SpillPool::builder().memory(memory).page_size(PAGE).checksums(Checksums::On);
        builder.build().unwrap().buffer_for(path)
    }

    #[test]
    fn a_changed_file_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        for memory in [0, PAGE] {
            let content = content(3 * PAGE + 100);
            let mut buffer = buffer_for(&path, memory);
            buffer.write_all(&content).unwrap();
            buffer.spill().unwrap();
            let file = unnamed_in(dir.path());
            for position in [0, PAGE + BLOCK, 3 * PAGE + 99] {
                flip(&file, position as u64);
                assert_noticed(&mut buffer, &content, position, position);
                let failed = buffer.persist(&path).unwrap_err();
                let SpillError::Corrupted { position: found, len, .. } = *failed.error() else {
                    panic!("{}", failed.error())
                };
                assert!((found..found + len).contains(&(position as u64)));
                assert!(!path.exists());
                buffer = failed.into_buffer();
                flip(&file, position as u64);
            }
            assert_well(&mut buffer, &content);
            buffer.persist(&path).unwrap().durable().unwrap();
            assert!(fs::read(&path).unwrap() == content);
            fs::remove_file(&path).unwrap();
        }
    }

    /// Before the file gets its name, the bytes behind the content of its last page are cleared. The sum of a
    /// page that was cut covers some of them.
    #[test]
    fn a_buffer_that_comes_back_from_its_target_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("folder");
        fs::create_dir(&target).unwrap();
        let mut content = content(2 * PAGE);
        let mut buffer = buffer_for(&target, 0);
        buffer.write_all(&content).unwrap();
        buffer.set_len(PAGE as u64 + 5000).unwrap();
        content.truncate(PAGE + 5000);
        let failed = buffer.persist(&target).unwrap_err();
        assert!(matches!(failed.error(), SpillError::Target { .. }));
        buffer = failed.into_buffer();
        assert_well(&mut buffer, &content);
        let path = dir.path().join("content");
        buffer.persist(&path).unwrap().durable().unwrap();
        assert!(fs::read(&path).unwrap() == content);
    }
}
