//! An async buffer as a subject of the driver. Its futures are dropped where a [`Cuts`] says.

use overspill::testing::{Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{AsyncSpillBuffer, Checksums, MemoryStore, SpillPool, Store};
use overspill_tests::driver::{Leeway, Pair, Subject, Watch, run};
use overspill_tests::ops::{Op, Refusal};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, SeekFrom};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    /// Whether this thread polls.
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// A store that counts the calls of threads that poll.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    on_loop: Arc<AtomicU64>,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S) -> (Self, Arc<AtomicU64>) {
        let on_loop = Arc::new(AtomicU64::new(0));
        (Watched { inner, on_loop: Arc::clone(&on_loop) }, on_loop)
    }

    fn look(&self) -> &S {
        self.on_loop.fetch_add(u64::from(IS_LOOP.get()), Ordering::Relaxed);
        &self.inner
    }
}

impl<S: Store> Store for Watched<S> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.look().read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.look().write_at(offset, data)
    }

    fn write_vectored_at(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.look().write_vectored_at(offset, parts)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.look().discard(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.look().set_len(len)
    }

    fn copy_to_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.look().copy_to_file(offset, len, file, at)
    }

    fn copy_from_file(&self, offset: u64, len: usize, file: &File, at: u64) -> io::Result<usize> {
        self.look().copy_from_file(offset, len, file, at)
    }
}

/// Runs `on_loop` on this thread as one that polls.
pub(crate) fn as_loop<R>(on_loop: impl FnOnce() -> R) -> R {
    IS_LOOP.set(true);
    let result = on_loop();
    IS_LOOP.set(false);
    result
}

/// Where futures are dropped: at the await point of this number, counted over a run; or there and at the
/// first of each later operation.
#[derive(Debug, Default)]
pub(crate) struct Cuts {
    left: Cell<Option<u64>>,
    is_lasting: bool,
    pub(crate) done: Cell<u64>,
}

impl Cuts {
    pub(crate) fn none() -> Rc<Self> {
        Rc::default()
    }

    pub(crate) fn at(point: u64, is_lasting: bool) -> Rc<Self> {
        Rc::new(Cuts { left: Cell::new(Some(point)), is_lasting, done: Cell::new(0) })
    }

    /// At an await point: whether to drop the future. `was_cut` is whether its operation was dropped before.
    pub(crate) fn is_here(&self, was_cut: bool) -> bool {
        let Some(left) = self.left.get() else { return false };
        if left > 0 {
            self.left.set(Some(left - 1));
            return false;
        }
        if was_cut {
            return false;
        }
        self.done.set(self.done.get() + 1);
        if !self.is_lasting {
            self.left.set(None);
        }
        true
    }
}

/// A runtime on one thread, or on two.
pub(crate) fn runtime(threads: usize) -> Runtime {
    let builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let mut builder = builder;
    builder.worker_threads(threads).enable_time().build().expect("a runtime")
}

/// What a run starts from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) page: usize,
    pub(crate) memory: usize,
    pub(crate) disk: u64,
    pub(crate) checksums: Checksums,
    pub(crate) buffers: usize,
    pub(crate) fault: Option<Fault>,
    pub(crate) threads: usize,
}

pub(crate) struct Polling {
    runtime: Rc<Runtime>,
    pool: SpillPool,
    faults: Faults,
    cuts: Rc<Cuts>,
    buffer: AsyncSpillBuffer,
    refusals: Rc<Cell<u64>>,
    unchecked: u64,
}

impl Polling {
    /// Does `op` on the loop's thread until one of its futures is ready. One that is dropped must have done
    /// nothing, if it `is_single`.
    fn block<R>(&mut self, is_single: bool, op: impl AsyncFn(&mut AsyncSpillBuffer) -> R) -> R {
        let mut was_cut = false;
        loop {
            let before = (self.buffer.len(), self.buffer.position());
            let (buffer, cuts) = (&mut self.buffer, &self.cuts);
            let result = self.runtime.block_on(async {
                let mut future = pin!(op(buffer));
                poll_fn(|context| match as_loop(|| future.as_mut().poll(context)) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if cuts.is_here(was_cut) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                })
                .await
            });
            if let Some(result) = result {
                return result;
            }
            was_cut = true;
            let now = (self.buffer.len(), self.buffer.position());
            assert!(!is_single || now == before, "a dropped future has moved {before:?} to {now:?}");
        }
    }

    fn refusal(&self, error: impl Into<io::Error>) -> Refusal {
        let error = error.into();
        let refusal = match error.kind() {
            ErrorKind::InvalidInput => return Refusal::OutOfRange,
            ErrorKind::UnexpectedEof => return Refusal::EndOfFile,
            ErrorKind::QuotaExceeded | ErrorKind::StorageFull | ErrorKind::FileTooLarge => Refusal::Full,
            _ => Refusal::Failed(error.to_string()),
        };
        self.refusals.set(self.refusals.get() + 1);
        refusal
    }
}

impl Subject for Polling {
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        self.block(true, async |buffer| buffer.write(data).await).map_err(|error| self.refusal(error))
    }

    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        let slices = slices.map(IoSlice::new);
        let written = self.block(true, async |buffer| buffer.write_vectored(&slices).await);
        written.map_err(|error| self.refusal(error))
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal> {
        let mut room = vec![0xEE; buf.len()];
        let room = RefCell::new(&mut room[..]);
        let read = self.block(true, async |buffer| {
            poll_fn(|context| {
                let mut room = room.borrow_mut();
                pin!(buffer.read(&mut room)).poll(context)
            })
            .await
        });
        let read = read.map_err(|error| self.refusal(error))?;
        buf[..read].copy_from_slice(&room.borrow()[..read]);
        Ok(read)
    }

    fn fill_buf(&mut self) -> Result<&[u8], Refusal> {
        let lent = self.block(true, async |buffer| buffer.fill_buf().await.map(<[u8]>::len));
        let len = lent.map_err(|error| self.refusal(error))?;
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut self.buffer).poll_fill_buf(&mut context) {
            Poll::Ready(Ok(lent)) => {
                assert_eq!(lent.len(), len, "lent again");
                Ok(lent)
            }
            other => panic!("{other:?}, though it was ready before"),
        }
    }

    fn consume(&mut self, n: usize) {
        as_loop(|| Pin::new(&mut self.buffer).consume(n));
    }

    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        self.block(true, async |buffer| buffer.seek(to).await).map_err(|error| self.refusal(error))
    }

    fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        self.block(false, async |buffer| buffer.set_len(len).await).map_err(|error| self.refusal(error))
    }

    fn clear(&mut self) -> Result<(), Refusal> {
        self.block(false, async |buffer| buffer.clear().await).map_err(|error| self.refusal(error))
    }

    fn position(&self) -> u64 {
        self.buffer.position()
    }

    fn len(&self) -> u64 {
        self.buffer.len()
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        self.block(true, async |buffer| buffer.flush().await).map_err(|error| self.refusal(error))
    }

    fn spill(&mut self) -> Result<(), Refusal> {
        let spilled = self.block(true, async |buffer| buffer.run(|buffer| buffer.spill()).await);
        spilled.and_then(|spilled| Ok(spilled?)).map_err(|error| self.refusal(error))
    }

    fn renew(&mut self) -> Result<(), Refusal> {
        let fresh = self.pool.buffer().into_async();
        as_loop(|| drop(std::mem::replace(&mut self.buffer, fresh)));
        Ok(())
    }

    /// Now and then: it moves what lies beside the pages into them.
    fn check_invariants(&mut self) {
        self.unchecked += 1;
        if self.unchecked.is_multiple_of(5) {
            let _ = self.block(true, async |buffer| buffer.run(|buffer| buffer.check_invariants()).await);
        }
    }

    fn content(&mut self) -> Result<Vec<u8>, Refusal> {
        let faults = self.faults.clone();
        faults.paused(|| self.to_vec())
    }
}

/// What a run has met.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) faults: u64,
    pub(crate) cuts: u64,
    pub(crate) refusals: u64,
}

/// Does `ops` to async buffers of one pool, compares each with a model, and at the end what is charged.
pub(crate) fn run_async(setup: Setup, cuts: &Rc<Cuts>, watch: Watch, ops: &[Op]) -> Met {
    let plan = setup.fault.map_or_else(FaultPlan::new, FaultPlan::from);
    let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
    let (store, on_loop) = Watched::new(store);
    let builder = SpillPool::builder().memory(setup.memory).disk(setup.disk).page_size(setup.page);
    let pool = builder.checksums(setup.checksums).store(store).build().expect("a power of two");
    let runtime = Rc::new(runtime(setup.threads));
    let refusals = Rc::new(Cell::new(0));
    let mut pairs: Vec<_> = (0..setup.buffers)
        .map(|_| Polling {
            runtime: Rc::clone(&runtime),
            pool: pool.clone(),
            faults: faults.clone(),
            cuts: Rc::clone(cuts),
            buffer: pool.buffer().into_async(),
            refusals: Rc::clone(&refusals),
            unchecked: 0,
        })
        .map(|subject| Pair::empty(subject, u64::MAX))
        .collect();
    if let Err(mismatch) = run(&mut pairs, ops, Leeway::Fail, watch) {
        panic!("{setup:?}, {cuts:?}: {mismatch}");
    }
    as_loop(|| drop(pairs));
    drop(runtime); // waits for jobs that are under way
    pool.check_invariants();
    let stats = pool.stats();
    assert_eq!((stats.memory_used, stats.disk_used, stats.waiters), (0, 0, 0), "{setup:?}, {cuts:?}");
    assert_eq!(on_loop.load(Ordering::Relaxed), 0, "calls of the store on the loop: {setup:?}, {cuts:?}");
    Met { faults: faults.failed(), cuts: cuts.done.get(), refusals: refusals.get() }
}

/// Lets each call of the store fail in turn, once and for good, and with each of them drops futures at each
/// point in turn; `run` is told the fault and the number of the point. Returns how many calls there were,
/// and how many points.
pub(crate) fn faults_and_cuts(failure: Failure, mut run: impl FnMut(Fault, u64) -> Met) -> (u64, u64) {
    let (mut places, mut points) = (0, 0);
    for fault in [Fault::once, Fault::lasting] {
        for call in 0.. {
            let mut failed = 0;
            for point in 0.. {
                let met = run(fault(call, failure), point);
                failed = failed.max(met.faults);
                if met.cuts == 0 {
                    break;
                }
                points += 1;
            }
            if failed == 0 {
                break;
            }
            places += 1;
        }
    }
    (places, points)
}
