//! A sequential pass that goes on while a job moves pages: those that a reader comes to, and those that
//! a writer has filled.

use super::gated::Gated;
use super::last_wakers::last_waker;
use super::servers::{PAGE, content, pattern};
use super::subject::as_loop;
use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{AsyncSpillBuffer, MemoryStore, SpillBuffer, SpillPool};
use std::future::poll_fn;
use std::io::SeekFrom;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

const LEN: usize = 160 * PAGE;

/// A pass of which a job reads pages, and stands still in the store.
struct Pass {
    pool: SpillPool,
    buffer: AsyncSpillBuffer,
    position: usize,
    gate: Gate,
    /// Tells that a call stands before the gate.
    stands: mpsc::Receiver<()>,
    runtime: Runtime,
}

/// A gate that opens when a test fails, whose runtime would wait for the job otherwise.
struct Gate(Gated);

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.open(true);
        }
    }
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

    /// Reads while a job with other pages stands still. The job was begun while there were pages to read, and
    /// read alone what follows them only once there were none: one thread always waited for the other.
    ///
    /// It gave the job a millisecond after each read to come to the gate; a thread that was late by a few met
    /// a pass that had no pages left. The runtime has one thread for jobs, so a probe behind them is done
    /// only if no job stands there.
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
        let mut pass = Pass { pool, buffer, position: PAGE, gate: Gate(gate), stands, runtime };
        pass.gate.0.open(false);
        loop {
            assert!(pass.read().is_ready(), "no job has begun before {}", pass.position);
            if pass.does_a_job_stand() {
                return pass;
            }
        }
    }

    /// Whether a job stands at the gate that has begun before now.
    fn does_a_job_stand(&self) -> bool {
        let probe = self.runtime.spawn_blocking(|| ());
        while !probe.is_finished() {
            if self.stands.try_recv().is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    /// Writes the next page, if there is room for it.
    fn write(&mut self) -> Poll<()> {
        let _entered = self.runtime.enter();
        let page = pattern(1, self.position, PAGE);
        let mut context = Context::from_waker(Waker::noop());
        let polled = as_loop(|| pin!(self.buffer.write(&page)).poll(&mut context));
        polled.map(|written| self.position += written.unwrap())
    }

    /// Writes while a job that writes pages of the pass to the store stands still there. All jobs had the
    /// buffer, so the thread of the loop waited for each.
    fn begin_writing() -> (Self, Faults) {
        let (gate, stands) = Gated::of(Call::Write);
        gate.open(true);
        let (store, faults) = FaultStore::new(gate.clone(), FaultPlan::new());
        let pool = SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(store).build().unwrap();
        let runtime = Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        let begun = 48 * PAGE;
        let buffer = runtime.block_on(async {
            let mut buffer = pool.buffer().into_async();
            for at in (0..begun).step_by(PAGE) {
                buffer.write_all(&pattern(1, at, PAGE)).await.unwrap();
            }
            buffer
        });
        let mut pass = Pass { pool, buffer, position: begun, gate: Gate(gate), stands, runtime };
        loop {
            pass.gate.0.open(false);
            if pass.write().is_ready() {
                if pass.does_a_job_stand() {
                    return (pass, faults);
                }
                continue;
            }
            // A job has the buffer, or all that a pass has filled goes already: from here on,
            // nothing is under way.
            pass.gate.0.open(true);
            pass.runtime.block_on(async {
                pass.buffer.write_all(&pattern(1, pass.position, PAGE)).await.unwrap();
                pass.buffer.run(|_| ()).await.unwrap();
            });
            pass.position += PAGE;
            pass.stands.try_iter().for_each(drop);
        }
    }

    /// Opens the gate, writes the rest, and returns the buffer.
    fn write_to_the_end(self) -> (SpillPool, SpillBuffer) {
        let Pass { pool, mut buffer, position, gate, runtime, .. } = self;
        gate.0.open(true);
        let buffer = runtime.block_on(async {
            for at in (position..LEN).step_by(PAGE) {
                buffer.write_all(&pattern(1, at, PAGE)).await.unwrap();
            }
            buffer.into_inner().await.unwrap()
        });
        (pool, buffer)
    }
}

#[test]
fn a_pass_reads_on_while_the_next_pages_come() {
    let mut pass = Pass::begin();
    let before = pass.position;
    while pass.read().is_ready() {}
    assert!(pass.position >= before + PAGE && pass.position < LEN, "{before}, {}", pass.position);
    pass.gate.0.open(true);
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

/// Drops the buffer of a pass whose jobs stand still, and lets them end. Returns what was used of
/// the disk in between.
fn drop_before_its_jobs_end(pass: Pass) -> u64 {
    as_loop(|| drop(pass.buffer));
    let used = pass.pool.stats().disk_used;
    pass.gate.0.open(true);
    drop(pass.runtime); // waits for the job
    let stats = pass.pool.stats();
    assert_eq!((stats.memory_used, stats.disk_used, stats.buffers), (0, 0, 0));
    pass.pool.check_invariants();
    used
}

/// The pages' slots would be freed, and used again, while they are read.
#[test]
fn a_buffer_that_is_dropped_while_pages_come_is_freed_when_they_have() {
    assert_eq!(drop_before_its_jobs_end(Pass::begin()), LEN as u64);
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
    gate.0.open(true);
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

#[test]
fn a_pass_writes_on_while_the_pages_behind_it_go() {
    let (mut pass, _) = Pass::begin_writing();
    let before = pass.position;
    while pass.write().is_ready() {}
    assert!(pass.position >= before + PAGE, "{before}, {}", pass.position);
    let (pool, mut buffer) = pass.write_to_the_end();
    buffer.check_invariants();
    let io = pool.stats().io;
    assert!(io.written_bytes <= (LEN - 24 * PAGE) as u64, "a page is written once: {io:?}");
    assert!(content(buffer) == pattern(1, 0, LEN));
    pool.check_invariants();
}

#[test]
fn a_buffer_that_is_dropped_while_pages_go_is_freed_when_they_have() {
    let (mut pass, _) = Pass::begin_writing();
    while pass.write().is_ready() {}
    assert!(drop_before_its_jobs_end(pass) > 0);
}

/// The bytes are in a frame that the job has, and the page is not to be had.
#[test]
fn a_read_a_write_and_a_cut_wait_for_a_page_that_goes() {
    let (mut pass, _) = Pass::begin_writing();
    let going = {
        let _entered = pass.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let mut is_away = |at: &usize| {
            assert!(pin!(pass.buffer.seek(SeekFrom::Start(*at as u64))).poll(&mut context).is_ready());
            as_loop(|| pin!(pass.buffer.read(&mut [0])).poll(&mut context)).is_pending()
        };
        let going =
            (0..pass.position).step_by(PAGE).rev().take(9).find(|at| is_away(at)).expect("a page goes");
        assert!(as_loop(|| pin!(pass.buffer.write(b"x")).poll(&mut context)).is_pending());
        assert!(as_loop(|| pin!(pass.buffer.set_len(going as u64)).poll(&mut context)).is_pending());
        going
    };
    pass.gate.0.open(true);
    let Pass { pool, mut buffer, position, runtime, .. } = pass;
    let mut buffer = runtime.block_on(async {
        buffer.write_all(b"x").await.unwrap();
        buffer.into_inner().await.unwrap()
    });
    buffer.check_invariants();
    let mut expected = pattern(1, 0, position);
    expected[going] = b'x';
    assert!(content(buffer) == expected);
    pool.check_invariants();
}

/// They return to memory, and leave it again when the store writes.
#[test]
fn pages_that_the_store_refuses_on_their_way_return() {
    for failure in [Failure::io(), Failure::full(), Failure::Short(PAGE / 2)] {
        let (mut pass, faults) = Pass::begin_writing();
        faults.set(FaultPlan::new().with(Fault::once(0, failure).on(Call::Write)));
        while pass.write().is_ready() {}
        let (pool, mut buffer) = pass.write_to_the_end();
        assert_eq!(faults.failed(), 1, "{failure:?}");
        buffer.check_invariants();
        assert!(content(buffer) == pattern(1, 0, LEN), "{failure:?}");
        pool.check_invariants();
    }
}

/// The first of two jobs had ended, and was forgotten, and the second ran: what waited for both looked for
/// the first, for ever.
#[test]
fn an_end_waits_for_the_second_job_once_the_first_has_ended() {
    let (mut pass, _) = Pass::begin_writing();
    while pass.write().is_ready() {}
    let Pass { buffer, position, gate, stands, runtime, .. } = pass;
    gate.0.let_pass(4); // pages of the first job
    stands.recv_timeout(Duration::from_secs(20)).expect("no second job");
    let mut end = pin!(buffer.into_inner());
    let polled = runtime
        .block_on(async { as_loop(|| end.as_mut().poll(&mut Context::from_waker(Waker::noop()))).map(drop) });
    assert!(polled.is_pending());
    gate.0.open(true);
    let buffer = runtime.block_on(end).unwrap();
    assert!(content(buffer) == pattern(1, 0, position));
}

/// A pass waited for whatever the pool's one task did: another buffer's call, which may wait for the pass.
#[test]
fn a_pass_does_not_wait_for_a_call_of_another_buffer() {
    let pool =
        SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let (mut other, mut buffer) = (pool.buffer().into_async(), pool.buffer().into_async());
    let (done, is_done) = mpsc::channel();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let len = 3 * 32 * PAGE;
    let passes = runtime.block_on(async {
        let call = other.run(move |_| {
            let _ = begun.send(());
            is_done.recv_timeout(Duration::from_secs(20)).is_ok()
        });
        let pass = async {
            has_begun.await.unwrap();
            for at in (0..len).step_by(PAGE) {
                buffer.write_all(&pattern(1, at, PAGE)).await.unwrap();
            }
            buffer.rewind().await.unwrap();
            let mut read = Vec::new();
            buffer.read_to_end(&mut read).await.unwrap();
            assert!(read == pattern(1, 0, len));
            done.send(()).unwrap();
        };
        tokio::join!(call, pass).0.unwrap()
    });
    assert!(passes, "the pass has waited for the call");
}

/// What a pass comes to was to be read by a task that other buffers' calls had taken, and they waited for
/// this buffer: which waited for that, to write to a page in memory.
#[test]
fn what_needs_no_store_waits_for_no_job_that_has_not_begun() {
    let pool =
        SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut buffer = pool.buffer().into_async();
        buffer.write_all(&pattern(1, 0, LEN)).await.unwrap();
        buffer.run(|buffer| buffer.spill()).await.unwrap().unwrap();
        buffer.rewind().await.unwrap();
        let mut page = vec![0; PAGE];
        buffer.read_exact(&mut page).await.unwrap();

        let mut others: Vec<_> = (0..4).map(|_| pool.buffer().into_async()).collect();
        let mut calls = Vec::new();
        for other in &mut others {
            let ((done, is_done), (begun, has_begun)) =
                (mpsc::channel::<()>(), tokio::sync::oneshot::channel());
            let mut call = Box::pin(other.run(move |_| {
                let _ = begun.send(());
                is_done.recv_timeout(Duration::from_secs(20)).expect_err("nothing is sent")
            }));
            assert!(poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await.is_pending());
            has_begun.await.unwrap();
            calls.push((call, done));
        }
        for _ in 0..6 {
            buffer.read_exact(&mut page).await.unwrap();
        }
        let at = buffer.position() - 2 * PAGE as u64;
        buffer.seek(SeekFrom::Start(at)).await.unwrap();
        tokio::time::timeout(Duration::from_secs(15), buffer.write_all(b"x")).await.unwrap().unwrap();
        for (call, done) in calls {
            drop(done);
            assert_eq!(call.await.unwrap(), mpsc::RecvTimeoutError::Disconnected);
        }
    });
}

/// A read anywhere counted as one of a pass: each had the pages behind it read, and those before
/// it evicted for them.
#[test]
fn scattered_reads_have_nothing_moved_along() {
    let pool =
        SpillPool::builder().memory(64 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut buffer = pool.buffer().into_async();
    runtime.block_on(async {
        buffer.write_all(&pattern(1, 0, LEN)).await.unwrap();
        buffer.run(|buffer| buffer.spill()).await.unwrap().unwrap();
        for number in 1..=20 {
            let at = (number * 37 % (LEN / PAGE)) * PAGE + 100;
            buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
            let mut read = [0; 100];
            buffer.read_exact(&mut read).await.unwrap();
            assert!(read[..] == pattern(1, at, 100));
        }
    });
    let reads = pool.stats().io.reads;
    assert!(reads <= 20, "{reads} reads for twenty");
}

/// What left along a pass was counted in the pool alone, and what was requested was not told there.
#[test]
fn what_leaves_along_a_pass_is_counted() {
    let (mut pass, _) = Pass::begin_writing();
    while pass.write().is_ready() {}
    let (pool, mut buffer) = pass.write_to_the_end();
    let (stats, of_pool) = (buffer.stats(), pool.stats());
    assert_eq!(stats.io.written_bytes, of_pool.io.written_bytes);
    buffer.check_invariants();
    let late = LEN as u64 - of_pool.requested.written;
    assert!(late <= 32 * PAGE as u64, "{late} bytes are not told");
}

/// Of writes that end with their page, all but the first lay in the window: the next page
/// looked like no pass.
#[test]
fn a_pass_of_small_writes_has_its_pages_moved_along() {
    let pool =
        SpillPool::builder().memory(32 * PAGE).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let mut buffer = pool.buffer().into_async();
    runtime.block_on(async {
        for at in (0..LEN).step_by(PAGE / 4) {
            buffer.write_all(&pattern(1, at, PAGE / 4)).await.unwrap();
        }
    });
    let io = pool.stats().io;
    assert!(io.writes <= (LEN / PAGE / 2) as u64, "a page each time: {io:?}");
}

/// A job that no runtime runs any more gives its pages back.
#[test]
fn pages_that_were_to_go_return_from_a_runtime_that_ends() {
    let (mut pass, _) = Pass::begin_writing();
    while pass.write().is_ready() {}
    let gate = pass.gate.0.clone();
    let opener = std::thread::spawn(move || gate.open(true));
    drop(std::mem::replace(&mut pass.runtime, Builder::new_current_thread().build().unwrap()));
    opener.join().unwrap();
    let (pool, mut buffer) = pass.write_to_the_end();
    buffer.check_invariants();
    assert!(content(buffer) == pattern(1, 0, LEN));
    pool.check_invariants();
}

/// A write that waits for pages that come may have the last reference to a task, which is dropped with the
/// buffer, and reads another.
#[test]
fn a_buffer_is_dropped_with_the_task_that_waits_for_its_pages() {
    let Pass { mut buffer, gate, runtime, .. } = Pass::begin();
    let (waker, ended) = last_waker();
    {
        let _entered = runtime.enter();
        assert!(pin!(buffer.write(b"x")).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    drop(waker);
    ended.try_recv().unwrap_err();
    drop(buffer);
    let read = ended.try_recv();
    gate.0.open(true);
    assert_eq!(read, Ok(Ok(3 * PAGE)));
}
