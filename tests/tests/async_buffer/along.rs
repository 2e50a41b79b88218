//! A sequential pass that reads on while the pages before it come.

use super::servers::{Gated, PAGE, pattern};
use super::subject::as_loop;
use overspill::{AsyncSpillBuffer, SpillPool};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const LEN: usize = 64 * PAGE;

/// A pass of which a job reads pages, and stands still in the store.
struct Pass {
    pool: SpillPool,
    buffer: AsyncSpillBuffer,
    position: usize,
    gate: Gated,
    runtime: Runtime,
}

impl Pass {
    /// Reads the next page, if it is there.
    fn read(&mut self) -> Poll<()> {
        let _entered = self.runtime.enter();
        let mut page = vec![0; PAGE];
        let mut context = Context::from_waker(Waker::noop());
        let polled = as_loop(|| pin!(self.buffer.read(&mut page)).poll(&mut context));
        polled.map(|read| {
            page.truncate(read.unwrap());
            assert!(page == pattern(1, self.position, page.len()));
            self.position += page.len();
        })
    }

    /// Reads while a job with other pages stands still. The job was begun while there were pages to read, and read alone what follows
    /// them only once there were none: one thread always waited for the other.
    ///
    /// It gave the job a millisecond after each read to come to the gate; a thread that was late by a few met a pass that had no
    /// pages left. The runtime has one thread for jobs, so a probe behind them is done only if no job stands there.
    fn begin() -> Self {
        let (gate, stands) = Gated::new();
        gate.open(true);
        let pool =
            SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(gate.clone()).build().unwrap();
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let buffer = runtime.block_on(async {
            let mut buffer = pool.buffer().into_async();
            buffer.write_all(&pattern(1, 0, LEN)).await.unwrap();
            buffer.run(|buffer| buffer.spill()).await.unwrap().unwrap();
            buffer.rewind().await.unwrap();
            buffer.read_exact(&mut [0; PAGE]).await.unwrap();
            buffer
        });
        let mut pass = Pass { pool, buffer, position: PAGE, gate, runtime };
        pass.gate.open(false);
        loop {
            assert!(pass.read().is_ready(), "no job has begun before {}", pass.position);
            let probe = pass.runtime.spawn_blocking(|| ());
            while !probe.is_finished() {
                if stands.try_recv().is_ok() {
                    return pass;
                }
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_pass_reads_on_while_the_next_pages_come() {
    let mut pass = Pass::begin();
    let before = pass.position;
    while pass.read().is_ready() {}
    assert!(pass.position >= before + PAGE && pass.position < LEN, "{before}, {}", pass.position);
    pass.gate.open(true);
    let Pass { pool, mut buffer, position, runtime, .. } = pass;
    runtime.block_on(async {
        let mut rest = Vec::new();
        buffer.read_to_end(&mut rest).await.unwrap();
        assert!(rest == pattern(1, position, LEN - position));
        let mut buffer = buffer.into_inner().await.unwrap();
        buffer.check_invariants();
        assert_eq!(pool.stats().io.reads, (LEN / PAGE) as u64, "each page is read once");
    });
}

/// The pages' slots would be freed, and used again, while they are read.
#[test]
fn a_buffer_that_is_dropped_while_pages_come_is_freed_when_they_have() {
    let pass = Pass::begin();
    as_loop(|| drop(pass.buffer));
    assert_eq!(pass.pool.stats().disk_used, LEN as u64);
    pass.gate.open(true);
    drop(pass.runtime); // waits for the job
    let stats = pass.pool.stats();
    assert_eq!((stats.memory_used, stats.disk_used, stats.buffers), (0, 0, 0));
    pass.pool.check_invariants();
}

/// A job reads a slot; what changes its page waits.
#[test]
fn a_write_and_a_cut_wait_for_pages_that_come() {
    let Pass { mut buffer, position, gate, runtime, .. } = Pass::begin();
    {
        let _entered = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        assert!(as_loop(|| pin!(buffer.write(b"x")).poll(&mut context)).is_pending());
        assert!(as_loop(|| pin!(buffer.set_len(5)).poll(&mut context)).is_pending());
    }
    gate.open(true);
    runtime.block_on(async {
        assert_eq!((buffer.position(), buffer.len()), (position as u64, LEN as u64));
        buffer.write_all(b"x").await.unwrap();
        let mut expected = pattern(1, 0, LEN);
        expected[position] = b'x';
        buffer.rewind().await.unwrap();
        let mut content = Vec::new();
        buffer.read_to_end(&mut content).await.unwrap();
        assert!(content == expected);
    });
}
