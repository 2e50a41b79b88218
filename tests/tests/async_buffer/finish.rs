//! Is a spool that cannot be finished still there?

use overspill::{MemoryStore, SpillError, SpillPool};
use overspill_tests::support::spill_error;
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

/// The room for what was accepted beside the pages was gone when the spool was finished. The writer was gone
/// with it, and all that it had accepted.
#[test]
fn a_spool_that_finds_no_room_is_finished_later() {
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let builder = SpillPool::builder().memory(0).disk(2 * 4096).page_size(4096);
        let pool = builder.store(MemoryStore::new()).build().unwrap();
        let (writer, reader) = pool.spool();
        let (mut writer, mut reader) = (writer.into_async(), reader.into_async());
        writer.write_all(b"accepted").await.unwrap();
        let mut other = pool.buffer();
        other.write_all(&[1; 2 * 4096]).unwrap();
        let refused = writer.finish().await.unwrap_err();
        assert!(matches!(SpillError::of(refused.error()), Some(SpillError::DiskLimit { .. })), "{refused:?}");
        assert_eq!(format!("{refused:#}"), format!("the spool could not be finished: {}", refused.error()));

        let (error, writer) = refused.into_parts();
        assert!(matches!(spill_error(error), SpillError::DiskLimit { .. }));
        let mut start = [0; 4];
        reader.read_exact(&mut start).await.unwrap();
        assert_eq!((&start, writer.len()), (b"acce", 8));
        drop(other);
        assert_eq!(writer.finish().await.unwrap().to_vec().unwrap(), b"accepted");
        let mut rest = String::new();
        reader.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "pted");

        let (writer, reader) = pool.spool();
        let (mut writer, mut reader) = (writer.into_async(), reader.into_async());
        writer.write_all(b"lost").await.unwrap();
        let _other = {
            let mut other = pool.buffer();
            other.write_all(&[1; 4096]).unwrap();
            other
        };
        let refused = writer.finish().await.unwrap_err();
        assert!(matches!(spill_error(refused.into_error()), SpillError::DiskLimit { .. }));
        let ended = reader.read_to_string(&mut rest).await.unwrap_err();
        assert!(matches!(spill_error(ended), SpillError::Unfinished { .. }));
    });
}
