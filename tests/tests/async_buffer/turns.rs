//! Do tasks that move what is in memory let others run?

use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::bytes;
use std::cell::Cell;
use std::future::poll_fn;
use std::io::SeekFrom;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, ReadBuf,
};
use tokio::runtime::Builder;
use tokio::task::coop::poll_proceed;
use tokio::task::{LocalSet, yield_now};
use tokio::time::timeout;

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
    filled_by_pages(64 << 10)
}

fn filled_by_pages(page: usize) -> SpillBuffer {
    let mut buffer = SpillPool::builder().memory(2 * LEN).page_size(page).build().unwrap().buffer();
    std::io::Write::write_all(&mut buffer, &bytes(LEN)).unwrap();
    buffer
}

/// What is in memory is ready at each poll, so `read_to_end`, `write_all` and loops over them ended before
/// any other task ran: timers and accepts stood still for as long as a gigabyte takes.
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
    // A page is a window here, which served all of it without a turn.
    let large_pages = turns(async || {
        let mut buffer = filled_by_pages(16 << 20).into_async();
        for step in [1000, 48 << 10, 4 << 20] {
            buffer.seek(SeekFrom::Start(0)).await.unwrap();
            let mut piece = vec![0; step];
            while buffer.read(&mut piece).await.unwrap() > 0 {}
        }
    });
    let in_one_place = turns(async || {
        let mut buffer = filled().into_async();
        for _ in 0..LEN / 1000 {
            buffer.seek(SeekFrom::Start(0)).await.unwrap();
            buffer.read_exact(&mut [0; 1000]).await.unwrap();
        }
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
        ("large pages", large_pages / 3),
        ("read in one place", in_one_place),
        ("frozen", frozen),
        ("lent", lent),
        ("spooled", spooled),
    ] {
        assert!(turns >= TURNS_MIN, "{name}: {turns} turns of another task");
    }
}

/// What was only waited for counted too: of thirty readers that one task polls, the last had no turn, and the
/// task was woken for that at once, for ever.
#[test]
fn readers_that_wait_leave_each_other_their_turns() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
        let (mut writers, mut readers): (Vec<_>, Vec<_>) = (0..30)
            .map(|_| {
                let (writer, reader) = pool.spool();
                (writer.into_async(), (reader.into_async(), vec![0; 256 << 10]))
            })
            .unzip();
        let mut polls = 0;
        let mut first_to_read = poll_fn(|context| {
            polls += 1;
            let ready = readers.iter_mut().position(|(reader, room)| {
                Pin::new(reader).poll_read(context, &mut ReadBuf::new(room)).is_ready()
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        timeout(Duration::from_millis(50), &mut first_to_read).await.unwrap_err();
        writers[29].write_all(b"x").await.unwrap();
        assert_eq!(first_to_read.await, 29);
        assert!(polls <= 4, "{polls}");
    });
}

/// A reader may ask for bytes, look at them and ask again before it consumes them, and take it for a fault if
/// they are gone meanwhile.
#[test]
fn what_was_lent_is_lent_again_without_another_turn() {
    /// What one poll of a task may do by tokio's count.
    const BUDGET: usize = 128;

    fn ask_twice(mut lends: impl AsyncBufRead + Unpin) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let lent = |lends: &mut (dyn AsyncBufRead + Unpin), context: &mut Context<'_>| {
            let lent = Pin::new(lends).poll_fill_buf(context);
            lent.map(|lent| lent.unwrap().len())
        };
        runtime.block_on(poll_fn(|context| {
            let Poll::Ready(len @ 1..) = lent(&mut lends, context) else { panic!("it is in memory") };
            Pin::new(&mut lends).consume(len);
            Poll::Ready(())
        }));
        // Another poll of the task, of which all but one was used by others.
        runtime.block_on(poll_fn(|context| {
            for _ in 1..BUDGET {
                let Poll::Ready(turn) = poll_proceed(context) else { panic!("there is less") };
                turn.made_progress();
            }
            let Poll::Ready(len @ 1..) = lent(&mut lends, context) else { panic!("there is one left") };
            assert_eq!(lent(&mut lends, context), Poll::Ready(len), "it is lent already");
            Pin::new(&mut lends).consume(len);
            assert_eq!(lent(&mut lends, context), Poll::Pending, "others have their turn");
            Poll::Ready(())
        }));
    }
    let mut buffer = filled();
    std::io::Seek::rewind(&mut buffer).unwrap();
    ask_twice(buffer.into_async());
    ask_twice(filled().freeze().reader().into_async());
    let (mut writer, reader) = SpillPool::builder().memory(2 * LEN).build().unwrap().spool();
    std::io::Write::write_all(&mut writer, &bytes(LEN)).unwrap();
    ask_twice(reader.into_async());
}
