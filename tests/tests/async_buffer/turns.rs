//! Do tasks that move what is in memory let others run?

use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::bytes;
use std::cell::Cell;
use std::io::SeekFrom;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, yield_now};

const LEN: usize = 64 << 20;

/// At least so often another task has its turn while [`LEN`] bytes are moved: after each 8 MiB.
const TURNS_MIN: usize = LEN / (8 << 20) - 2;

/// Runs `work`, and returns how often another task had its turn meanwhile.
fn turns(work: impl AsyncFnOnce() + 'static) -> usize {
    thread_local!(static TURNS: Cell<usize> = const { Cell::new(0) });
    TURNS.set(0);
    let runtime = Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let other = tokio::task::spawn_local(async {
            loop {
                TURNS.set(TURNS.get() + 1);
                yield_now().await;
            }
        });
        tokio::task::spawn_local(async { work().await }).await.unwrap();
        other.abort();
    });
    TURNS.get()
}

fn filled() -> SpillBuffer {
    let mut buffer = SpillPool::builder().memory(2 * LEN).build().unwrap().buffer();
    std::io::Write::write_all(&mut buffer, &bytes(LEN)).unwrap();
    buffer
}

/// What is in memory is ready at each poll, so `read_to_end`, `write_all` and loops over them ended before any other task ran: timers and
/// accepts stood still for as long as a gigabyte takes.
#[test]
fn long_transfers_in_memory_let_other_tasks_run() {
    let written = turns(async || {
        let mut buffer = SpillPool::builder().memory(2 * LEN).build().unwrap().buffer().into_async();
        buffer.write_all(&vec![1; LEN]).await.unwrap();
    });
    let read = turns(async || {
        let mut buffer = filled().into_async();
        buffer.seek(SeekFrom::Start(0)).await.unwrap();
        let mut piece = vec![0; 48 << 10];
        while buffer.read(&mut piece).await.unwrap() > 0 {}
    });
    let small = turns(async || {
        let mut buffer = filled().into_async();
        buffer.seek(SeekFrom::Start(0)).await.unwrap();
        let mut piece = [0; 1000];
        while buffer.read(&mut piece).await.unwrap() > 0 {}
    });
    let frozen = turns(async || {
        let mut all = Vec::new();
        filled().freeze().reader().into_async().read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), LEN);
    });
    let lent = turns(async || {
        let mut reader = filled().freeze().reader().into_async();
        while let len @ 1.. = reader.fill_buf().await.unwrap().len() {
            reader.consume(len);
        }
    });
    let spooled = turns(async || {
        let (writer, reader) = SpillPool::builder().memory(2 * LEN).build().unwrap().spool();
        let (mut writer, mut reader) = (writer.into_async(), reader.into_async());
        writer.write_all(&vec![1; LEN]).await.unwrap();
        let mut all = vec![0; LEN];
        reader.read_exact(&mut all).await.unwrap();
        writer.finish().await.unwrap();
    });
    for (name, turns) in [
        ("written", written),
        ("read", read),
        ("read by 1,000 bytes", small),
        ("frozen", frozen),
        ("lent", lent),
        ("spooled", spooled),
    ] {
        assert!(turns >= TURNS_MIN, "{name}: {turns} turns of another task");
    }
}
