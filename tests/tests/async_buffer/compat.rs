//! For crates that speak futures-io, `tokio_util::compat` wraps what speaks tokio's traits, and
//! nothing is lost by it.

use super::servers::{PAGE, pattern};
use super::subject::runtime;
use futures_util::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use overspill::{MemoryStore, SpillPool};
use std::io::SeekFrom;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

#[test]
fn compat_has_the_traits_of_futures_io() {
    let pool =
        SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let bytes = pattern(1, 0, 30 * PAGE);
    runtime(2).block_on(async {
        let mut buffer = pool.buffer().into_async().compat();
        buffer.write_all(&bytes).await.unwrap();
        buffer.seek(SeekFrom::Start(5)).await.unwrap();
        let (writer, reader) = pool.spool();
        let mut writer = writer.into_async().compat_write();
        let mut follower = reader.into_async().compat();
        let copy = async {
            futures_util::io::copy(&mut buffer, &mut writer).await.unwrap();
            writer.close().await.unwrap(); // no end: that is `finish`
            writer.into_inner().finish().await.unwrap()
        };
        let mut followed = Vec::new();
        let (frozen, read) = futures_util::future::join(copy, follower.read_to_end(&mut followed)).await;
        assert!(read.unwrap() == bytes.len() - 5 && followed == bytes[5..]);

        let mut reader = frozen.reader().into_async().compat();
        reader.seek(SeekFrom::End(-7)).await.unwrap();
        assert_eq!(reader.fill_buf().await.unwrap(), &bytes[bytes.len() - 7..]);
        reader.consume_unpin(7);
        assert_eq!(reader.read(&mut [0]).await.unwrap(), 0);
    });
}
