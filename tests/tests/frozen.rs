//! Many handles on one frozen content: each reads what it would read alone, wherever the bytes are and
//! whatever the others do.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore, Faults};
use overspill::{Chunks, Event, Frozen, FrozenReader, MemoryStore, SpillBuffer, SpillPool};
use overspill_tests::readers::{Reading, part, read_frozen};
use overspill_tests::support::{Random, content_of};
use std::fs;
use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const PAGE: usize = 4096;

#[test]
fn any_handle_reads_what_it_would_read_alone() {
    (1..150).for_each(|seed| read_frozen(&mut Random::new(seed)));
}

/// The table that a reader got was that of a buffer that was gone, with its frame: the reader's window came
/// beside it, and then there were two of the first page; or the window was as short as the body had been.
#[test]
fn a_reader_gets_the_table_of_a_buffer_that_is_gone() {
    let pool = SpillPool::builder().memory(1 << 20).store(MemoryStore::new()).build().unwrap();
    let model = Random::new(4).bytes(100_000);
    let mut body = pool.buffer();
    body.write_all(&model).unwrap();
    body.spill().unwrap();
    let small = pool.buffer();
    let mut gone = pool.buffer();
    gone.write_all(&[1; 100]).unwrap();
    drop((gone, small));
    let frozen = body.freeze();
    let mut reader = frozen.reader();
    for at in (0..model.len()).step_by(100) {
        let mut bytes = [0; 100];
        reader.read_exact(&mut bytes).unwrap();
        assert!(bytes == model[at..at + 100], "at {at}");
    }
    assert!(pool.stats().io.reads <= 10, "{:?}", pool.stats().io);
    drop((reader, frozen));
    pool.check_invariants();
}

/// The documentation said of all callers that what they read is counted. It says of which now.
#[test]
fn what_is_read_from_frozen_content_and_spools_is_not_counted_as_requested() {
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 4 * PAGE]).unwrap();
    let frozen = buffer.freeze();
    let (mut writer, mut follower) = pool.spool();
    writer.write_all(&[1; 4 * PAGE]).unwrap();
    frozen.reader().read_exact(&mut [0; 4 * PAGE]).unwrap();
    frozen.read_exact_at(&mut [0; PAGE], 0).unwrap();
    follower.read_exact(&mut [0; 4 * PAGE]).unwrap();
    let requested = frozen.stats().requested;
    assert_eq!((requested.read, requested.written), (0, 4 * PAGE as u64));
    drop((frozen, writer, follower));
    let stats = pool.stats();
    assert_eq!((stats.requested.read, stats.requested.written), (0, 8 * PAGE as u64));
    assert_eq!(stats.io.read_bytes, 9 * PAGE as u64);
}

/// A reader of a text that is spilled, whose store fails after so many reads.
fn reader_that_fails(text: &str, reads: u64) -> (FrozenReader, Faults) {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(0).page_size(256).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(text.as_bytes()).unwrap();
    let reader = buffer.freeze().reader();
    faults.set(Fault::lasting(reads, Failure::io()).on(Call::Read));
    (reader, faults)
}

/// `read_to_string` was std's, which drops all that it has read if an error comes within a character, though
/// the position has passed it.
#[test]
fn text_that_was_read_before_an_error_stays() {
    let text = "aé€😀".repeat(1500);
    for nth in 0..20 {
        let (mut reader, faults) = reader_that_fails(&text, nth);
        let mut read = String::from("before ");
        let failed = reader.read_to_string(&mut read);
        let position = usize::try_from(reader.position()).unwrap();
        assert_eq!(read["before ".len()..], text[..position], "after {nth} reads");
        faults.lift();
        assert_eq!(failed.is_err(), position < text.len());
        assert_eq!(reader.read_to_string(&mut read).unwrap(), text.len() - position);
        assert_eq!(read["before ".len()..], text);
        reader.seek(SeekFrom::Start(2)).unwrap();
        assert_eq!(reader.read_to_string(&mut read).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!((read["before ".len()..] == text, reader.position()), (true, reader.len()));
    }
}

/// std's `read_line` drops a line whose character an error has cut.
#[test]
fn a_line_that_an_error_has_cut_is_read_again() {
    let text = "aé€😀 ".repeat(70) + "\n";
    for nth in 0..6 {
        let (mut reader, faults) = reader_that_fails(&text, nth);
        let mut read = String::new();
        let failed = reader.read_line(&mut read);
        assert_eq!((failed.is_err(), reader.position()), (faults.failed() > 0, read.len() as u64));
        faults.lift();
        reader.read_line(&mut read).unwrap();
        assert_eq!(read, text, "after {nth} reads");
    }
}

#[test]
fn handles_can_go_to_other_threads() {
    const fn is_shared<T: Clone + Send + Sync + 'static>() {}
    const fn is_sent<T: Clone + Send + 'static>() {}
    const { is_shared::<Frozen>() };
    const { is_sent::<FrozenReader>() };
    const { is_sent::<Chunks>() };
}

#[test]
fn threads_read_while_others_take_their_memory() {
    let pool = SpillPool::builder().memory(24 * PAGE).page_size(PAGE).build().unwrap();
    let (mut buffer, model) = (pool.buffer(), Random::new(7).bytes(40 * PAGE));
    buffer.write_all(&model).unwrap();
    let (frozen, model, is_over) = (buffer.freeze(), Arc::new(model), Arc::new(AtomicBool::new(false)));
    let threads: Vec<_> = (1..5)
        .map(|seed| {
            let (frozen, model) = (frozen.clone(), Arc::clone(&model));
            thread::spawn(move || {
                let random = &mut Random::new(seed);
                let mut reading = Reading::new(&frozen, model.to_vec());
                for _ in 0..3000 {
                    reading.step(random);
                    let (at, mut bytes) = (random.index(model.len()), vec![0; random.index(300)]);
                    let n = frozen.read_at(&mut bytes, at as u64).unwrap();
                    assert!(bytes[..n] == *part(&model, at, n));
                }
            })
        })
        .collect();
    let disturbing = {
        let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            let random = &mut Random::new(99);
            let mut other = pool.buffer();
            while !is_over.load(Ordering::Relaxed) {
                other.write_all(&random.bytes(100)).unwrap();
                if other.len() > 20 * PAGE as u64 {
                    other.clear();
                    pool.set_memory_limit((4 + random.index(20)) * PAGE);
                }
            }
        })
    };
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    is_over.store(true, Ordering::Relaxed);
    disturbing.join().unwrap();
    frozen.check_invariants();
    pool.check_invariants();
    assert_eq!(frozen.to_vec().unwrap(), *model);
}

/// Eight that read the same places, one after the other, must not read the store eight times.
#[test]
fn readers_in_step_read_the_store_once() {
    for piece in [64, 1000, 16 << 10, 64 << 10] {
        let pool = SpillPool::builder().memory(2 << 20).store(MemoryStore::new()).build().unwrap();
        let (mut buffer, model) = (pool.buffer(), Random::new(3).bytes(8 << 20));
        buffer.write_all(&model).unwrap();
        let frozen = buffer.freeze();
        let before = pool.stats().io.read_bytes;
        let mut readers = [(); 8].map(|()| frozen.reader());
        let mut bytes = vec![0; piece];
        for at in (0..model.len()).step_by(piece) {
            let part = part(&model, at, piece);
            for reader in &mut readers {
                reader.read_exact(&mut bytes[..part.len()]).unwrap();
                assert!(bytes[..part.len()] == *part, "at {at}");
            }
        }
        let read = (pool.stats().io.read_bytes - before) as f64 / model.len() as f64;
        assert!(read <= 1.2, "by {piece} bytes, each byte was read {read} times");
    }
}

/// Readers far from each other share no page, and each byte was copied twice for them: to a frame, and from
/// it.
#[test]
fn readers_far_apart_read_past_the_frames() {
    let pool = SpillPool::builder().memory(1 << 20).store(MemoryStore::new()).build().unwrap();
    let (mut buffer, model) = (pool.buffer(), Random::new(9).bytes(16 << 20));
    buffer.write_all(&model).unwrap();
    let frozen = buffer.freeze();
    let mut readers = [0, 5 << 20, 10 << 20].map(|from| {
        let mut reader = frozen.reader();
        reader.seek(SeekFrom::Start(from)).unwrap();
        reader
    });
    let mut bytes = vec![0; 64 << 10];
    for _ in 0..80 {
        for reader in &mut readers {
            let at = usize::try_from(reader.position()).unwrap();
            reader.read_exact(&mut bytes).unwrap();
            assert!(bytes == part(&model, at, bytes.len()), "at {at}");
        }
    }
    let stats = pool.stats();
    let direct = stats.direct_io.reads as f64 / stats.io.reads as f64;
    assert!(direct > 0.75, "{direct} of the reads are direct");
}

/// While there is memory to spare, every page that is read gets a frame.
#[test]
fn readers_far_apart_use_memory_that_is_to_spare() {
    let pool = SpillPool::builder().memory(6 << 20).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 4 << 20]).unwrap();
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    let mut reads = [0; 2];
    for pass in &mut reads {
        let before = pool.stats().io.reads;
        let mut readers = [(); 2].map(|()| frozen.reader());
        readers[1].seek(SeekFrom::Start(2 << 20)).unwrap();
        for _ in 0..32 {
            readers.iter_mut().for_each(|reader| reader.read_exact(&mut [0; 64 << 10]).unwrap());
        }
        *pass = pool.stats().io.reads - before;
    }
    assert_eq!(reads, [64, 0]);
}

/// The window had been moved to where the read began, and had some of its bytes, when the rest failed.
#[test]
fn what_was_read_before_an_error_is_returned() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).store(store).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 3 * PAGE]).unwrap();
    buffer.spill().unwrap();
    let mut reader = buffer.freeze().reader();
    let mut bytes = [0; 100];
    reader.seek(SeekFrom::Start(PAGE as u64 - 110)).unwrap();
    reader.read_exact(&mut bytes).unwrap();
    faults.set(Fault::lasting(0, Failure::io()).on(Call::Read));
    assert_eq!(reader.read(&mut bytes).unwrap(), 10);
    assert!(reader.read(&mut bytes).is_err() && reader.position() == PAGE as u64);
}

/// Threads that read the same content meet at each window. Of 16 KiB each, two of them were as slow as one.
#[test]
fn a_window_grows_in_a_pass_from_memory_to_spare() {
    for (memory, evictions_max) in [(4 << 20, 0), (1 << 20, 2)] {
        let pool = SpillPool::builder().memory(memory).store(MemoryStore::new()).build().unwrap();
        let (mut buffer, model) = (pool.buffer(), Random::new(10).bytes(1 << 20));
        buffer.write_all(&model).unwrap();
        let mut reader = buffer.freeze().reader();
        let (mut used, mut bytes) = (pool.stats().memory_used, [0; 64]);
        for part in model.chunks(bytes.len()) {
            reader.read_exact(&mut bytes).unwrap();
            assert!(bytes == part);
            used = used.max(pool.stats().memory_used);
        }
        assert!(pool.stats().evictions <= evictions_max, "{} pages have made way", pool.stats().evictions);
        assert!(
            memory == 1 << 20 || used == (1 << 20) + (64 << 10),
            "the window has {} bytes",
            used - (1 << 20)
        );
    }
}

/// What one handle meets is not another's: neither its failed load, nor the loan that it keeps.
#[test]
fn a_failed_load_is_the_readers_own_and_is_tried_again() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(8 * PAGE).page_size(PAGE).store(store).build().unwrap();
    let (mut buffer, model) = (pool.buffer(), Random::new(5).bytes(6 * PAGE));
    buffer.write_all(&model).unwrap();
    buffer.spill().unwrap();
    let frozen = buffer.freeze();
    let (mut first, mut second) = (frozen.reader(), frozen.reader());
    let mut bytes = [0; 50];
    for _ in 0..3 {
        faults.set(Fault::once(0, Failure::io()).on(Call::Read));
        first.read_exact(&mut bytes).unwrap_err();
        assert_eq!((first.position(), second.position()), (0, 0));
        faults.lift();
    }
    second.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, model[..50]);
    first.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, model[..50]);
    // The first has its page in memory, and does not notice.
    faults.set(Fault::lasting(0, Failure::io()).on(Call::Read));
    first.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, model[50..100]);
    second.seek(SeekFrom::Start(3 * PAGE as u64)).unwrap();
    second.read_exact(&mut bytes).unwrap_err();
    faults.lift();
    assert_eq!(frozen.to_vec().unwrap(), model);
    frozen.check_invariants();
}

#[test]
fn a_reader_that_stands_still_holds_nothing_that_others_need() {
    let limit = 64 * PAGE;
    let pool = SpillPool::builder().memory(limit).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut standing: Vec<_> = (0..40)
        .map(|i| {
            let mut body = pool.buffer();
            body.write_all(&[i; 3 * PAGE]).unwrap();
            let mut reader = body.freeze().reader();
            reader.read_exact(&mut [0; 10]).unwrap();
            reader
        })
        .collect();
    let mut busy = pool.buffer();
    for _ in 0..4 {
        busy.rewind().unwrap();
        for _ in 0..limit / 100 {
            busy.write_all(&[7; 100]).unwrap();
        }
    }
    // As much as beside buffers that stand still: what one may take from those that are silent.
    let held = busy.stats().memory_used;
    assert!(held >= limit as u64 / 8, "{held} of {limit}");
    for (i, reader) in standing.iter_mut().enumerate() {
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!(rest.len() == 3 * PAGE - 10 && rest.iter().all(|byte| usize::from(*byte) == i));
    }
}

/// A table that was asked for memory and had none to release is not asked again before its epoch ends, and an
/// epoch ends with misses. A reader without a window noted no miss. So one refusal, by a store or by a table
/// that was in use, left the readers of a content that filled the limit without windows for good: eight of
/// them by 64 bytes took seventy times as long, in one of five runs.
#[test]
fn a_reader_that_was_refused_a_window_gets_one_later() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(16 * PAGE).page_size(PAGE).store(store).build().unwrap();
    let mut body = pool.buffer();
    body.write_all(&[1; 16 * PAGE]).unwrap();
    let mut reader = body.freeze().reader();
    let mut bytes = [0; 16];
    faults.set(Fault::lasting(0, Failure::full()).on(Call::Write));
    for _ in 0..200 {
        reader.read_exact(&mut bytes).unwrap();
    }
    assert!(faults.failed() > 0);
    faults.lift();
    assert_eq!(pool.stats().evictions, 0);
    for _ in 0..400 {
        reader.read_exact(&mut bytes).unwrap();
    }
    assert!(pool.stats().evictions > 0, "a page has made way for a window");
}

/// Foreign code ran while the content was locked, and waited for its own thread.
#[test]
fn a_listener_may_read_the_content_that_it_is_told_of() {
    let shared: Arc<Mutex<Option<Frozen>>> = Arc::default();
    let told = Arc::new(AtomicBool::new(false));
    let (of_listener, is_told) = (Arc::clone(&shared), Arc::clone(&told));
    let listener = move |_: &Event| {
        if let Some(frozen) = &*of_listener.lock().unwrap() {
            assert_eq!(frozen.to_vec().unwrap(), [1; 4 * PAGE]);
            is_told.store(true, Ordering::Relaxed);
        }
    };
    let builder = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(MemoryStore::new());
    let pool = builder.on_event(listener).build().unwrap();
    let mut body = pool.buffer();
    body.write_all(&[1; 4 * PAGE]).unwrap();
    let frozen = body.freeze();
    *shared.lock().unwrap() = Some(frozen.clone());
    // Takes memory from the content, or the reader does: the first spill.
    let mut other = pool.buffer();
    other.write_all(&[2; 4 * PAGE]).unwrap();
    let mut reader = frozen.reader();
    reader.read_exact(&mut [0; 100]).unwrap();
    pool.set_memory_limit(0);
    reader.read_exact(&mut [0; 100]).unwrap();
    assert!(told.load(Ordering::Relaxed));
    *shared.lock().unwrap() = None;
}

/// The same with the lock of a reader that threads share: the frame for its window was another buffer's,
/// whose first spill was told meanwhile.
#[test]
fn a_listener_may_read_while_a_shared_reader_gets_its_window() {
    let shared: Arc<Mutex<Option<Frozen>>> = Arc::default();
    let told = Arc::new(AtomicBool::new(false));
    let (of_listener, is_told) = (Arc::clone(&shared), Arc::clone(&told));
    let listener = move |_: &Event| {
        let frozen = of_listener.lock().unwrap().take();
        if let Some(frozen) = frozen {
            let mut bytes = [0; 50];
            frozen.read_exact_at(&mut bytes, 0).unwrap();
            is_told.store(bytes == [1; 50], Ordering::Relaxed);
        }
    };
    let builder = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(MemoryStore::new());
    let pool = builder.on_event(listener).build().unwrap();
    let mut body = pool.buffer();
    body.write_all(&[1; 4 * PAGE]).unwrap();
    body.spill().unwrap();
    let frozen = body.freeze();
    let mut other = pool.buffer();
    other.write_all(&[2; 4 * PAGE]).unwrap();
    *shared.lock().unwrap() = Some(frozen.clone());
    for at in (0..PAGE as u64).step_by(50) {
        frozen.read_at(&mut [0; 50], at).unwrap();
    }
    assert!(told.load(Ordering::Relaxed));
}

#[test]
fn a_part_becomes_a_file_while_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let pool = SpillPool::builder().memory(3 * PAGE).page_size(PAGE).build().unwrap();
    for buffer in [pool.buffer(), pool.buffer_for(dir.path().join("all")), SpillBuffer::with_budget(0)] {
        let mut buffer = buffer;
        buffer.seek(SeekFrom::Start(5 * PAGE as u64 + 10)).unwrap();
        buffer.write_all(&Random::new(8).bytes(5 * PAGE)).unwrap();
        buffer.set_len(20 * PAGE as u64).unwrap();
        let model = content_of(&mut buffer);
        let frozen = Frozen::from(buffer);
        let mut reader = frozen.reader();
        reader.read_exact(&mut [0; 100]).unwrap();
        for (from, to) in [(0, model.len()), (PAGE + 1, 7 * PAGE + 3), (9 * PAGE, 15 * PAGE), (7, 7)] {
            let path = dir.path().join("part");
            let part = frozen.slice(from as u64..to as u64);
            part.persist(&path).unwrap().durable().unwrap();
            assert!(fs::read(&path).unwrap() == model[from..to], "{from}..{to}");
            assert_eq!(frozen.persist_noclobber(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
            assert!(fs::read(&path).unwrap() == model[from..to], "{from}..{to}");
            fs::remove_file(&path).unwrap();
            part.persist_noclobber(&path).unwrap().durable().unwrap();
            assert!(fs::read(&path).unwrap() == model[from..to], "{from}..{to}");
            let mut file = part.to_file().unwrap();
            assert_eq!(file.stream_position().unwrap(), 0);
            assert!(content_of(&mut file) == model[from..to], "{from}..{to}");
            assert_eq!(reader.position(), 100);
        }
        let refused = frozen.persist(dir.path().join("no/such/directory")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound);
        assert_eq!(frozen.to_vec().unwrap(), model);
    }
}

#[test]
fn positions_end_where_they_can_be_counted() {
    let frozen = SpillBuffer::from(&b"some bytes"[..]).freeze();
    let mut reader = frozen.slice(5..).reader();
    assert_eq!(reader.seek(SeekFrom::End(i64::MAX)).unwrap(), i64::MAX as u64 + 5);
    assert_eq!(reader.read(&mut [0; 3]).unwrap(), 0);
    assert!(reader.fill_buf().unwrap().is_empty());
    let refused = reader.seek(SeekFrom::Start(u64::MAX)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    reader.seek(SeekFrom::Current(-i64::MAX)).unwrap();
    assert_eq!(reader.seek(SeekFrom::Current(-6)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!((reader.position(), reader.len()), (5, 5));
    for offset in [10, 11, u64::MAX - 3, u64::MAX] {
        assert_eq!(frozen.read_at(&mut [0; 3], offset).unwrap(), 0);
    }
    assert_eq!(frozen.read_exact_at(&mut [0; 3], 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    for range in
        [frozen.slice(u64::MAX..), frozen.slice(..0), frozen.slice((Bound::Included(3), Bound::Excluded(2)))]
    {
        assert!(range.is_empty() && range.reader().is_empty() && range.to_vec().unwrap().is_empty());
    }
}
