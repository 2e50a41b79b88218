//! Async readers of frozen content and the ends of a spool, against a vector: whatever the memory, with
//! futures dropped and stores that fail.

use super::subject::{Cuts, Met, Watched, as_loop, faults_and_cuts, runtime};
use overspill::testing::{Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{
    AsyncFrozenReader, AsyncSpoolReader, AsyncSpoolWriter, Checksums, Frozen, MemoryStore, SpillError,
    SpillPool,
};
use overspill_tests::readers::part;
use overspill_tests::support::Random;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, SeekFrom, Write};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWriteExt,
};
use tokio::runtime::Runtime;

/// Operations of a run.
const STEPS: usize = 40;

/// What a run starts from.
#[derive(Clone, Copy, Debug)]
struct Setup {
    seed: u64,
    page: usize,
    memory: usize,
    checksums: Checksums,
    threads: usize,
    fault: Option<Fault>,
}

impl Setup {
    /// Another one for each number.
    fn of(n: usize) -> Self {
        let page = [8, 4096, 64][n % 3];
        Setup {
            seed: 1 + n as u64,
            page,
            memory: [0, page, usize::MAX, 3 * page, page / 2, 9 * page, 40 * page][n % 7],
            checksums: [Checksums::Off, Checksums::On][n / 2 % 2],
            threads: 1 + n % 2,
            fault: None,
        }
    }
}

/// The loop, and what is done to it.
struct Bench {
    runtime: Runtime,
    pool: SpillPool,
    faults: Faults,
    on_loop: Arc<AtomicU64>,
    cuts: Rc<Cuts>,
    refusals: Cell<u64>,
}

impl Bench {
    fn new(setup: Setup, cuts: &Rc<Cuts>) -> Self {
        let plan = setup.fault.map_or_else(FaultPlan::new, FaultPlan::from);
        let (store, faults) = FaultStore::new(MemoryStore::new(), plan);
        let (store, on_loop) = Watched::new(store);
        let builder = SpillPool::builder().memory(setup.memory).page_size(setup.page);
        let pool = builder.checksums(setup.checksums).store(store).build().unwrap();
        let (runtime, cuts) = (runtime(setup.threads), Rc::clone(cuts));
        Bench { runtime, pool, faults, on_loop, cuts, refusals: Cell::new(0) }
    }

    /// Does `op` on the loop's thread until one of its futures is ready. One that is dropped must have
    /// left `state` as it was.
    fn block<S, R, K: PartialEq + Debug>(
        &self,
        subject: &mut S,
        state: impl Fn(&S) -> K,
        op: impl AsyncFn(&mut S) -> R,
    ) -> R {
        let mut was_cut = false;
        loop {
            let before = state(subject);
            let result = self.runtime.block_on(async {
                let mut future = pin!(op(subject));
                poll_fn(|context| match as_loop(|| future.as_mut().poll(context)) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if self.cuts.is_here(was_cut) => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                })
                .await
            });
            if let Some(result) = result {
                return result;
            }
            was_cut = true;
            assert_eq!(state(subject), before, "a dropped future has changed something");
        }
    }

    /// Counts an error of the store. There is no other.
    fn note<R>(&self, result: io::Result<R>) -> Option<R> {
        result
            .map_err(|error| {
                assert!(self.faults.failed() > 0, "{error:?}");
                self.refusals.set(self.refusals.get() + 1);
            })
            .ok()
    }

    /// Once all handles are gone.
    fn end(self, setup: Setup) -> Met {
        drop(self.runtime); // waits for jobs that are under way
        self.pool.check_invariants();
        let stats = self.pool.stats();
        let left = (stats.memory_used, stats.memory_lent, stats.disk_used, stats.waiters);
        assert_eq!(left, (0, 0, 0, 0), "{setup:?}, {:?}", self.cuts);
        assert_eq!(self.on_loop.load(Ordering::Relaxed), 0, "calls of the store on the loop: {setup:?}");
        Met { faults: self.faults.failed(), cuts: self.cuts.done.get(), refusals: self.refusals.get() }
    }
}

/// What both kinds of readers have.
trait Reader: AsyncRead + AsyncBufRead + AsyncSeek + Clone + Unpin {
    fn position(&self) -> u64;
}

impl Reader for AsyncFrozenReader {
    fn position(&self) -> u64 {
        AsyncFrozenReader::position(self)
    }
}

impl Reader for AsyncSpoolReader {
    fn position(&self) -> u64 {
        AsyncSpoolReader::position(self)
    }
}

/// A reader, and where it must stand.
struct Reading<R> {
    reader: R,
    at: usize,
}

impl<R: Reader> Reading<R> {
    fn read(&mut self, bench: &Bench, model: &[u8], len: usize) {
        let mut room = vec![0xEE; len];
        let shared = RefCell::new(&mut room[..]);
        let read = bench.block(&mut self.reader, R::position, async |reader| {
            poll_fn(|context| pin!(reader.read(&mut shared.borrow_mut())).poll(context)).await
        });
        let Some(read) = bench.note(read) else { return assert_eq!(self.reader.position(), self.at as u64) };
        assert!(read > 0 || len == 0 || self.at >= model.len(), "nothing at {}", self.at);
        assert!(room[..read] == *part(model, self.at, read), "{read} bytes at {}", self.at);
        self.at += read;
    }

    fn lend(&mut self, bench: &Bench, model: &[u8], random: &mut Random) {
        let lent = bench
            .block(&mut self.reader, R::position, async |reader| reader.fill_buf().await.map(<[u8]>::len));
        let Some(len) = bench.note(lent) else { return };
        let again =
            as_loop(|| Pin::new(&mut self.reader).poll_fill_buf(&mut Context::from_waker(Waker::noop())));
        let Poll::Ready(Ok(lent)) = again else { panic!("{again:?}, though it was ready before") };
        assert_eq!((lent.len(), lent.is_empty()), (len, self.at >= model.len()), "lent again at {}", self.at);
        assert!(lent == part(model, self.at, len), "lent at {}", self.at);
        let consumed = random.index(len + 1);
        as_loop(|| Pin::new(&mut self.reader).consume(consumed));
        self.at += consumed;
    }

    fn seek(&mut self, bench: &Bench, to: SeekFrom, at: Option<usize>) {
        let moved = bench.block(&mut self.reader, R::position, async |reader| reader.seek(to).await);
        match at {
            Some(at) => {
                assert_eq!(moved.unwrap(), at as u64);
                self.at = at;
            }
            None => assert_eq!(moved.unwrap_err().kind(), ErrorKind::InvalidInput),
        }
    }

    fn step(&mut self, bench: &Bench, model: &[u8], random: &mut Random, page: usize) {
        match random.index(7) {
            0 | 1 => self.lend(bench, model, random),
            2 => {
                let clone = self.reader.clone();
                as_loop(|| self.reader = clone);
            }
            3 => self.read(bench, model, random.index(9 * page)),
            _ => self.read(bench, model, random.index(page / 2 + 3)),
        }
        assert_eq!(self.reader.position(), self.at as u64);
    }
}

/// Content in the pool, some of it spilled, and what it is. The store does not fail meanwhile.
fn any_content(bench: &Bench, page: usize, random: &mut Random) -> (Frozen, Vec<u8>) {
    bench.faults.clone().paused(|| {
        let mut buffer = bench.pool.buffer();
        let len = random.index(12 * page);
        let model = random.bytes(len);
        let mut cuts = [0, random.index(len + 1), random.index(len + 1), len];
        cuts.sort_unstable();
        for piece in cuts.windows(2) {
            buffer.write_all(&model[piece[0]..piece[1]]).unwrap();
            if random.index(2) == 0 {
                buffer.spill().unwrap();
            }
        }
        (buffer.freeze(), model)
    })
}

/// Readers of one content, each with its own position, one of them of a slice.
fn read_frozen(setup: Setup, cuts: &Rc<Cuts>) -> Met {
    let (bench, mut random) = (Bench::new(setup, cuts), Random::new(setup.seed));
    let (frozen, model) = any_content(&bench, setup.page, &mut random);
    let (from, to) = (random.index(model.len() + 1), random.index(model.len() + 1));
    let models = [&model[..], &model[..], &model[from.min(to)..to]];
    let slice = frozen.slice(from as u64..to as u64);
    let mut readers =
        [&frozen, &frozen, &slice].map(|frozen| Reading { reader: frozen.reader().into_async(), at: 0 });
    drop((frozen, slice));
    for _ in 0..STEPS {
        let n = random.index(3);
        let (reading, model) = (&mut readers[n], models[n]);
        assert_eq!(reading.reader.len(), model.len() as u64);
        if random.index(6) == 0 {
            let at = random.index(model.len() + 10);
            let (to, at) = match random.index(4) {
                0 => (SeekFrom::End(at as i64 - model.len() as i64), Some(at)),
                1 => (SeekFrom::Current(at as i64 - reading.at as i64), Some(at)),
                2 => (SeekFrom::Current(-1 - reading.at as i64), None),
                _ => (SeekFrom::Start(at as u64), Some(at)),
            };
            reading.seek(&bench, to, at);
        }
        reading.step(&bench, model, &mut random, setup.page);
    }
    for (reading, model) in readers.into_iter().zip(models) {
        let mut all = Vec::new();
        bench.faults.clone().paused(|| {
            let mut blocking = reading.reader.into_inner();
            blocking.read_to_end(&mut all).unwrap();
        });
        assert!(all == part(model, reading.at, model.len()), "from {} on", reading.at);
    }
    bench.end(setup)
}

/// A writer, and readers that follow it, some of which read once. Blocking handles take over now and then.
struct Spool {
    writer: AsyncSpoolWriter,
    readers: Vec<(Reading<AsyncSpoolReader>, bool)>,
    model: Vec<u8>,
}

impl Spool {
    fn write(&mut self, bench: &Bench, data: &[u8]) {
        let written =
            bench.block(&mut self.writer, AsyncSpoolWriter::len, async |writer| writer.write(data).await);
        if let Some(taken) = bench.note(written) {
            assert!(taken > 0 || data.is_empty());
            self.model.extend_from_slice(&data[..taken]);
        }
        assert_eq!(self.writer.len(), self.model.len() as u64);
    }

    fn follow(&mut self, bench: &Bench, random: &mut Random, page: usize) {
        let n = random.index(self.readers.len());
        let (reading, is_once) = &mut self.readers[n];
        let len = self.model.len();
        match random.index(6) {
            0 if !*is_once => {
                let at = random.index(len + 1);
                reading.seek(bench, SeekFrom::Start(at as u64), Some(at));
                reading.seek(bench, SeekFrom::Start(len as u64 + 1), None);
            }
            _ if reading.at < len => reading.step(bench, &self.model, random, page),
            case => as_loop(|| {
                let mut context = Context::from_waker(Waker::noop());
                if case == 1 {
                    let sought = pin!(reading.reader.seek(SeekFrom::End(-1))).poll(&mut context);
                    assert!(sought.is_pending(), "the writer has not ended: {sought:?}");
                }
                // Forgets the seek.
                let read = pin!(reading.reader.read(&mut [0; 9])).poll(&mut context);
                assert!(read.is_pending(), "the writer has written no more: {read:?}");
            }),
        }
        assert_eq!(reading.reader.position(), reading.at as u64);
    }
}

fn follow_spool(setup: Setup, cuts: &Rc<Cuts>) -> Met {
    let (bench, mut random) = (Bench::new(setup, cuts), Random::new(setup.seed));
    let (writer, reader) = bench.pool.spool();
    let onces = [[false, false], [true, false], [true, true]][random.index(3)];
    let readers = onces.map(|is_once| {
        let reader = reader.clone().into_async();
        (Reading { reader: if is_once { reader.once() } else { reader }, at: 0 }, is_once)
    });
    as_loop(|| drop(reader.into_async()));
    let mut spool = Spool { writer: writer.into_async(), readers: readers.into(), model: Vec::new() };
    for _ in 0..STEPS {
        match random.index(3) {
            0 => {
                let len =
                    if random.index(4) > 0 { random.index(setup.page) } else { random.index(5 * setup.page) };
                spool.write(&bench, &random.bytes(len));
            }
            _ => spool.follow(&bench, &mut random, setup.page),
        }
    }
    let Spool { writer, readers, model } = spool;
    let frozen = end_of(&bench, writer, &mut random, model.len() as u64);
    bench.faults.lift();
    for (mut reading, _) in readers {
        while reading.at < model.len() {
            reading.step(&bench, &model, &mut random, setup.page);
        }
        let end =
            bench.block(&mut reading.reader, Reader::position, async |reader| reader.read(&mut [0]).await);
        match &frozen {
            Some(_) => assert_eq!(end.unwrap(), 0),
            None => assert!(matches!(SpillError::of(&end.unwrap_err()), Some(SpillError::Unfinished { .. }))),
        }
        as_loop(|| drop(reading));
    }
    if let Some(frozen) = frozen.filter(|_| onces != [true, true]) {
        frozen.check_invariants();
        assert!(bench.faults.clone().paused(|| frozen.to_vec().unwrap()) == model);
    }
    bench.end(setup)
}

/// Ends the writing in one of three ways. Not whole is also what has met an error of the store.
fn end_of(bench: &Bench, writer: AsyncSpoolWriter, random: &mut Random, written: u64) -> Option<Frozen> {
    match random.index(4) {
        0 => {
            as_loop(|| drop(writer));
            None
        }
        1 => {
            as_loop(|| writer.fail("no more"));
            None
        }
        _ => {
            let finish = async { writer.finish().await };
            let finished = bench.runtime.block_on(async {
                let mut finish = pin!(finish);
                poll_fn(|context| as_loop(|| finish.as_mut().poll(context))).await
            });
            bench.note(finished.map_err(io::Error::from)).inspect(|frozen| assert_eq!(frozen.len(), written))
        }
    }
}

/// A run, and its name.
type Run = (&'static str, fn(Setup, &Rc<Cuts>) -> Met);

const RUNS: [Run; 2] = [("spool", follow_spool), ("frozen", read_frozen)];

#[test]
fn readers_see_what_a_vector_would_show_them() {
    for (n, (_, run)) in (0..210).flat_map(|n| RUNS.map(|run| (n, run))) {
        assert_eq!(run(Setup::of(n), &Cuts::none()), Met::default());
    }
}

/// At each await point of a run in turn, in both ways.
#[test]
fn futures_that_are_dropped_have_read_and_written_nothing() {
    for (name, run) in RUNS {
        let mut points = 0;
        for (n, is_lasting) in (0..42).flat_map(|n| [(n, false), (n, true)]) {
            for point in 0.. {
                let met = run(Setup::of(n), &Cuts::at(point, is_lasting));
                assert_eq!(met.refusals, 0, "a dropped future makes no error");
                if met.cuts == 0 {
                    break;
                }
                points += 1;
            }
        }
        assert!(points > 100, "{name}: {points} points are too few to prove anything");
    }
}

/// Each call of the store fails in turn, and with some of them futures are dropped.
#[test]
fn faults_and_dropped_futures_together_cost_no_byte() {
    for (name, run) in RUNS {
        let (mut places, mut points) = (0, 0);
        for n in 0..14 {
            let failure = [Failure::io(), Failure::full(), Failure::Short(3)][n % 3];
            let met = faults_and_cuts(failure, |fault, point| {
                run(Setup { fault: Some(fault), ..Setup::of(n) }, &Cuts::at(point * 5, point % 2 == 1))
            });
            (places, points) = (places + met.0, points + met.1);
        }
        assert!(places > 50 && points > 100, "{name}: {places} places and {points} points are too few");
    }
}

/// What was read ahead stayed lent after a seek, until the next read: readers that are kept for later held a
/// quarter of the memory limit, and others got copies.
#[test]
fn a_seek_gives_back_what_was_read_ahead_for_another_place() {
    const LEN: u64 = 8 << 20;
    async fn check(pool: &SpillPool, mut reader: impl AsyncRead + AsyncSeek + Unpin) {
        let mut pages = vec![0; 40_000]; // of a few bytes it would make a copy
        reader.seek(SeekFrom::Start(LEN / 2)).await.unwrap();
        reader.read_exact(&mut pages).await.unwrap();
        let lent = pool.stats().memory_lent;
        reader.seek(SeekFrom::Current(10)).await.unwrap();
        assert_eq!((lent > 0, pool.stats().memory_lent), (true, lent), "it goes on there");
        reader.seek(SeekFrom::Start(0)).await.unwrap();
        assert_eq!(pool.stats().memory_lent, 0);
        reader.seek(SeekFrom::Start(LEN / 4 * 3)).await.unwrap();
        reader.read_exact(&mut pages).await.unwrap();
        assert!(pool.stats().memory_lent > 0);
        reader.seek(SeekFrom::End(0)).await.unwrap();
        assert_eq!(pool.stats().memory_lent, 0);
    }
    let content = vec![7; usize::try_from(LEN).unwrap()];
    let pool =
        SpillPool::builder().memory(2 << 20).page_size(4096).store(MemoryStore::new()).build().unwrap();
    runtime(1).block_on(async {
        let mut buffer = pool.buffer();
        buffer.write_all(&content).unwrap();
        check(&pool, buffer.freeze().reader().into_async()).await;
        let (mut writer, reader) = pool.spool();
        writer.write_all(&content).unwrap();
        writer.finish().unwrap();
        check(&pool, reader.into_async()).await;
    });
}
