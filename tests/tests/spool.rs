//! Content that is read while it is written: what the readers see, when they wait, and what is kept.
#![allow(missing_docs)]

use overspill::testing::{Call, Failure, Fault, FaultPlan, FaultStore};
use overspill::{Event, MemoryStore, SpillError, SpillPool, SpoolReader, SpoolWriter, WhenFull};
use overspill_tests::readers::follow_spool;
use overspill_tests::support::{Random, spill_error};
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;

fn pool(memory: usize) -> SpillPool {
    SpillPool::builder().memory(memory).page_size(PAGE).store(MemoryStore::new()).build().unwrap()
}

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Any interleaving of a writer and its readers, in any memory, is what a vector would be.
#[test]
fn readers_see_what_was_written_whatever_the_memory() {
    (1..200).for_each(|seed| follow_spool(&mut Random::new(seed)));
}

#[test]
fn a_reader_waits_for_more_and_for_the_end() {
    for finishes in [true, false] {
        let (mut writer, mut reader) = pool(1 << 20).spool();
        let follower = thread::spawn(move || {
            let (mut all, mut byte) = (Vec::new(), [0; 100]);
            loop {
                match reader.read(&mut byte) {
                    Ok(0) => return (all, None),
                    Ok(n) => all.extend_from_slice(&byte[..n]),
                    Err(error) => return (all, Some(spill_error(error))),
                }
            }
        });
        for i in 0..50 {
            writer.write_all(&[i; 7]).unwrap();
            if i % 10 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        if finishes {
            drop(writer.finish().unwrap());
        } else {
            drop(writer);
        }
        let (all, error) = follower.join().unwrap();
        assert_eq!(all.len(), 350);
        match error {
            None => assert!(finishes),
            Some(SpillError::Unfinished { written: 350, reason: None, .. }) => assert!(!finishes),
            Some(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_failed_writer_is_an_error_of_every_reader_once_it_has_read_what_there_is() {
    let (mut writer, reader) = pool(1 << 20).spool();
    writer.write_all(b"some").unwrap();
    let mut readers = [reader.clone(), reader.once()];
    writer.fail(format_args!("status {}", 7));
    for reader in &mut readers {
        let mut all = Vec::new();
        let error = reader.read_to_end(&mut all).unwrap_err();
        assert_eq!((&all[..], error.kind()), (&b"some"[..], ErrorKind::ConnectionAborted));
        assert_eq!(error.to_string(), "the writer failed (status 7) after 4 bytes, before the end");
        assert_eq!(reader.fill_buf().unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(reader.seek(SeekFrom::End(0)).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(reader.position(), 4);
    }
    readers[0].rewind().unwrap();
    assert_eq!(readers[0].fill_buf().unwrap(), b"some");
    let back = spill_error(readers[1].seek(SeekFrom::Start(3)).unwrap_err());
    assert!(matches!(back, SpillError::Passed { position: 3, kept_from: 4, .. }));
}

#[test]
fn a_seek_stays_within_what_is_written() {
    let (mut writer, mut reader) = pool(1 << 20).spool();
    writer.write_all(&[1; 10]).unwrap();
    assert_eq!(reader.seek(SeekFrom::Start(10)).unwrap(), 10);
    for to in [SeekFrom::Start(11), SeekFrom::Current(1), SeekFrom::Current(-11), SeekFrom::Start(u64::MAX)] {
        assert_eq!(reader.seek(to).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(reader.position(), 10);
    }
    let (mut late, end) = (reader.clone(), thread::spawn(move || reader.seek(SeekFrom::End(-3))));
    writer.write_all(&[1; 10]).unwrap();
    writer.finish().unwrap();
    assert_eq!(end.join().unwrap().unwrap(), 17);
    assert_eq!(late.seek(SeekFrom::End(0)).unwrap(), 20);
    assert_eq!(late.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_timeout_ends_one_read() {
    let (mut writer, mut reader) = pool(1 << 20).spool();
    reader.set_timeout(Some(Duration::from_millis(20)));
    for _ in 0..2 {
        let (began, error) = (Instant::now(), reader.read(&mut [0; 10]).unwrap_err());
        assert!(error.kind() == ErrorKind::TimedOut && began.elapsed() >= Duration::from_millis(20));
    }
    writer.write_all(b"late").unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"late");
    reader.set_timeout(Some(Duration::MAX));
    assert_eq!(reader.read(&mut [0; 10]).unwrap(), 4);
}

#[test]
fn wakers_are_called_for_bytes_and_for_every_end() {
    let ends: [fn(SpoolWriter); 3] = [drop, |writer| drop(writer.finish()), |writer| writer.fail("no")];
    for end in ends {
        let (mut writer, mut reader) = pool(1 << 20).spool();
        let counted = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&counted));
        let poll = |reader: &mut SpoolReader| reader.poll_readable(&mut Context::from_waker(&waker));
        let woken = || counted.0.load(Ordering::SeqCst);
        assert_eq!(poll(&mut reader), Poll::Pending);
        assert_eq!(poll(&mut reader), Poll::Pending);
        writer.write_all(b"1").unwrap();
        writer.write_all(b"2").unwrap();
        assert_eq!(woken(), 1, "once for each that waits");
        assert_eq!(poll(&mut reader), Poll::Ready(()));
        reader.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(poll(&mut reader), Poll::Pending);
        let mut gone = reader.clone();
        assert_eq!(poll(&mut gone), Poll::Pending);
        drop(gone);
        end(writer);
        assert_eq!((woken(), poll(&mut reader)), (2, Poll::Ready(())));
    }
}

/// The writer waits for room that a reader makes, which needs the content's lock meanwhile.
#[test]
fn a_spool_of_any_length_fits_a_small_disk_if_it_is_read_once() {
    let builder = SpillPool::builder().memory(2 * PAGE).disk(8 * PAGE as u64).page_size(PAGE);
    let builder = builder.store(MemoryStore::new());
    let pool = builder.when_full(WhenFull::Wait { at_most: Duration::from_secs(60) }).build().unwrap();
    let (mut writer, reader) = pool.spool();
    let readers = [reader.clone().once(), reader.once()].map(|mut reader| {
        thread::spawn(move || {
            let (mut at, mut piece) = (0_usize, [0; 1000]);
            loop {
                let n = reader.read(&mut piece).unwrap();
                if n == 0 {
                    return at;
                }
                let number = |i: usize| u8::try_from((at + i) / 1234 % 256).unwrap();
                assert!(piece[..n].iter().enumerate().all(|(i, byte)| *byte == number(i)));
                at += n;
            }
        })
    });
    for i in (0..=255).cycle().take(400) {
        writer.write_all(&[i; 1234]).unwrap();
    }
    let frozen = writer.finish().unwrap();
    assert_eq!(readers.map(|reader| reader.join().unwrap()), [400 * 1234; 2]);
    assert!(pool.stats().disk_high_water <= 8 * PAGE as u64);
    drop(frozen);
    assert_eq!(pool.stats().disk_used, 0);
}

/// A reader for later could only be had from one that was kept from the beginning, and that held back all
/// others.
#[test]
fn a_late_reader_stands_at_the_first_byte_that_is_kept() {
    let number = |at: usize| u8::try_from(at / PAGE).unwrap();
    let (mut writer, reader) = pool(1 << 20).spool();
    drop(reader);
    writer.write_all(&[number(0); PAGE]).unwrap();
    writer.write_all(&[number(PAGE); PAGE]).unwrap();
    assert_eq!(writer.reader().position(), 0, "without a reader nothing is freed");

    let mut first = writer.reader().once();
    first.read_exact(&mut [0; PAGE + 7]).unwrap();
    let mut late = writer.reader();
    assert_eq!((late.position(), late.written(), late.timeout()), (PAGE as u64, 2 * PAGE as u64, None));
    writer.write_all(&[number(2 * PAGE); PAGE]).unwrap();
    first.read_exact(&mut [0; PAGE]).unwrap();
    assert_eq!(writer.reader().position(), PAGE as u64, "kept for the late reader, which may go back");
    let mut bytes = [0; PAGE];
    late.read_exact(&mut bytes).unwrap();
    assert_eq!((bytes, late.written()), ([number(PAGE); PAGE], 3 * PAGE as u64));
    late.seek(SeekFrom::Start(PAGE as u64)).unwrap();
    drop((first, late));
    assert_eq!(writer.reader().position(), PAGE as u64, "no reader is left that has passed it");

    late = writer.reader();
    late.set_timeout(Some(Duration::ZERO));
    assert_eq!((late.timeout(), late.clone().timeout()), (Some(Duration::ZERO), Some(Duration::ZERO)));
    let mut rest = Vec::new();
    assert_eq!(late.copy_to(&mut rest).unwrap_err().kind(), ErrorKind::TimedOut);
    assert_eq!((rest.len(), late.position()), (2 * PAGE, 3 * PAGE as u64));
    writer.finish().unwrap();
    assert_eq!(late.copy_to(&mut rest).unwrap(), 0);
}

/// Many readers that come and go while others pass: none ever meets a byte that is gone.
#[test]
fn readers_that_come_while_others_pass_find_what_is_kept() {
    let (mut writer, reader) = pool(1 << 20).spool();
    let mut passing = reader.once();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = [0; 100];
            while passing.read(&mut piece).unwrap() > 0 {}
        });
        for i in 0..=255 {
            writer.write_all(&[i; PAGE]).unwrap();
            let mut late = writer.reader();
            late.set_timeout(Some(Duration::ZERO));
            let (at, mut byte) = (late.position(), [0]);
            match late.read_exact(&mut byte) {
                Ok(()) => assert_eq!(u64::from(byte[0]), at / PAGE as u64),
                Err(error) => assert_eq!((error.kind(), at), (ErrorKind::TimedOut, writer.len())),
            }
        }
        drop(writer.finish().unwrap());
    });
}

/// What a target took of a copy is passed, and no more.
#[test]
fn a_copy_moves_by_what_its_target_took() {
    struct Short(Vec<u8>);
    impl Write for Short {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            let taken = data.len().min(3).min(10 - self.0.len());
            self.0.extend_from_slice(&data[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (mut writer, mut reader) = pool(1 << 20).spool();
    writer.write_all(b"more than ten bytes").unwrap();
    let mut frozen = writer.finish().unwrap().reader();
    let (mut target, mut other) = (Short(Vec::new()), Short(Vec::new()));
    let refused = [reader.copy_to(&mut target), frozen.copy_to(&mut other)];
    assert!(refused.into_iter().all(|refused| refused.unwrap_err().kind() == ErrorKind::WriteZero));
    assert_eq!((&target.0[..], &other.0[..]), (&b"more than "[..], &b"more than "[..]));
    assert_eq!((reader.position(), frozen.position()), (10, 10));
    assert_eq!((reader.copy_to(&mut io::sink()).unwrap(), frozen.copy_to(&mut io::sink()).unwrap()), (9, 9));
}

/// At the limit the writer's error names it, and nothing that was written is lost.
#[test]
fn a_writer_without_room_fails_and_goes_on() {
    let builder = SpillPool::builder().memory(2 * PAGE).disk(2 * PAGE as u64).page_size(PAGE);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let (mut writer, reader) = pool.spool();
    let mut reader = reader.once();
    let error = writer.write_all(&[3; 20 * PAGE]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
    let written = usize::try_from(writer.len()).unwrap();
    assert!((2 * PAGE..20 * PAGE).contains(&written));
    let mut all = vec![0; written];
    reader.read_exact(&mut all).unwrap();
    writer.write_all(&[4; PAGE]).unwrap();
    let mut more = [0; PAGE];
    reader.read_exact(&mut more).unwrap();
    assert!(all.iter().all(|byte| *byte == 3) && more == [4; PAGE]);
}

/// Reads `text` by `read`, which a timeout interrupts after so many bytes, many of them within a character or
/// at the end of a page.
fn read_in_two(text: &str, read: fn(&mut SpoolReader, &mut String) -> io::Result<usize>) {
    let cuts = (0..30).chain([1, 3].into_iter().flat_map(|pages| pages * PAGE - 5..pages * PAGE + 5));
    for (cut, once) in cuts.flat_map(|cut| [(cut, false), (cut, true)]) {
        let (mut writer, reader) = pool(1 << 20).spool();
        let mut reader = if once { reader.once() } else { reader };
        reader.set_timeout(Some(Duration::ZERO));
        writer.write_all(&text.as_bytes()[..cut]).unwrap();
        let mut found = String::from("before ");
        assert_eq!(read(&mut reader, &mut found).unwrap_err().kind(), ErrorKind::TimedOut);
        let position = usize::try_from(reader.position()).unwrap();
        assert_eq!(found["before ".len()..], text[..position], "{cut} bytes are there");
        assert!(position + 4 > cut, "{position} of {cut}");
        writer.write_all(&text.as_bytes()[cut..]).unwrap();
        writer.finish().unwrap();
        assert_eq!(read(&mut reader, &mut found).unwrap(), text.len() - position);
        assert_eq!(found["before ".len()..], *text);
    }
}

/// `read_to_string` was std's, which drops all that it has read if an error comes within a character: text
/// that the position had passed was with nobody, and a reader that reads once could not go back for it. A
/// writer that paused there was enough.
#[test]
fn text_that_was_read_before_an_error_stays() {
    read_in_two(&"aé€😀".repeat(1500), |reader, text| reader.read_to_string(text));
}

/// std's `read_line` drops a line whose character a timeout has cut, and a reader that reads once cannot
/// go back for all of it.
#[test]
fn a_line_that_a_timeout_has_cut_is_read_again() {
    read_in_two(&("aé€😀".repeat(1500) + "\n"), |reader, line| reader.read_line(line));
}

/// Beginnings and middles of characters, in lines of all lengths, and pages whose ends cut them.
#[test]
fn lines_are_those_that_std_reads() {
    let mut random = Random::new(5);
    for round in 0..200 {
        let parts = ["a", "é", "€", "😀", "\n"].map(str::as_bytes);
        let mut bytes = Vec::new();
        while bytes.len() < 2 * PAGE {
            match random.index(40) {
                0 if round % 2 == 0 => bytes.push(random.bytes(1)[0]),
                part => bytes.extend_from_slice(parts[part % parts.len()]),
            }
        }
        let (mut writer, reader) = pool(1 << 20).spool();
        let (mut reader, mut expected) = (reader.once(), std::io::Cursor::new(&bytes));
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        loop {
            let [mut found, mut line] = [(); 2].map(|()| String::from("before "));
            let read = [reader.read_line(&mut found), expected.read_line(&mut line)];
            let [read, std] = read.map(|read| read.map_err(|error| error.kind()));
            assert_eq!((read, &found, reader.position()), (std, &line, expected.position()), "round {round}");
            if std == Ok(0) {
                break;
            }
        }
    }
}

/// As std's: of bytes that are no text, the string gets none.
#[test]
fn bytes_that_are_no_text_leave_the_string_alone() {
    for bad in [&b"\xFF"[..], b"\xE2\x82"] {
        let bytes = [&b"text ".repeat(PAGE)[..], bad].concat();
        let (mut writer, reader) = pool(1 << 20).spool();
        let mut readers = [reader.clone(), reader.once()];
        writer.write_all(&bytes).unwrap();
        writer.finish().unwrap();
        for reader in &mut readers {
            let mut read = String::from("before");
            assert_eq!(reader.read_to_string(&mut read).unwrap_err().kind(), ErrorKind::InvalidData);
            assert_eq!((read.as_str(), reader.position()), ("before", bytes.len() as u64));
        }
    }
}

#[test]
fn a_store_that_fails_is_an_error_of_who_met_it() {
    let (store, faults) = FaultStore::new(MemoryStore::new(), FaultPlan::new());
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(store).build().unwrap();
    let (mut writer, mut reader) = pool.spool();
    let mut other = reader.clone();
    writer.write_all(&[1; 3 * PAGE + 5]).unwrap();
    for at in [0, 2 * PAGE, 3 * PAGE] {
        reader.seek(SeekFrom::Start(at as u64)).unwrap();
        faults.set(Fault::once(0, Failure::io()).on(Call::Read));
        assert!(matches!(spill_error(reader.read(&mut [0; 5]).unwrap_err()), SpillError::Store { .. }));
        assert_eq!(reader.position(), at as u64);
        assert_eq!(reader.read(&mut [0; 5]).unwrap(), 5);
    }
    faults.set(Fault::once(0, Failure::io()).on(Call::Write));
    writer.write_all(&[2; PAGE]).unwrap_err();
    faults.lift();
    let before = writer.len();
    writer.write_all(&[2; PAGE]).unwrap();
    let mut all = vec![0; usize::try_from(writer.len()).unwrap()];
    other.read_exact(&mut all).unwrap();
    assert!(all[usize::try_from(before).unwrap()..] == [2; PAGE]);
}

/// A listener or a waker that reads the spool ran with its lock held.
#[test]
fn who_is_told_may_read_the_spool() {
    struct Reads(std::sync::Mutex<Option<SpoolReader>>, AtomicUsize);
    impl Wake for Reads {
        fn wake(self: Arc<Self>) {
            let mut all = Vec::new();
            let reader = self.0.lock().unwrap();
            let mut reader = reader.as_ref().unwrap().clone();
            reader.set_timeout(Some(Duration::ZERO));
            let error = reader.read_to_end(&mut all).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            self.1.store(all.len(), Ordering::SeqCst);
        }
    }
    let told = Arc::new(Reads(std::sync::Mutex::new(None), AtomicUsize::new(0)));
    let listener = Arc::clone(&told);
    let on_event = move |_: &Event| listener.clone().wake();
    let builder = SpillPool::builder().memory(PAGE).page_size(PAGE).store(MemoryStore::new());
    let (mut writer, reader) = builder.on_event(on_event).build().unwrap().spool();
    *told.0.lock().unwrap() = Some(reader.clone());
    let (mut waiting, waker) = (reader, Waker::from(Arc::clone(&told)));
    assert_eq!(waiting.poll_readable(&mut Context::from_waker(&waker)), Poll::Pending);
    writer.write_all(&[1; 10]).unwrap();
    assert_eq!(told.1.load(Ordering::SeqCst), 10);
    for _ in 0..3 * PAGE {
        writer.write_all(&[1]).unwrap(); // spills for the first time
    }
    assert!(told.1.load(Ordering::SeqCst) > 10);
    *told.0.lock().unwrap() = None;
}

/// Notes the length of a spool each time that its reader is woken.
struct Lengths(std::sync::Mutex<(Option<SpoolReader>, Vec<u64>)>);

impl Wake for Lengths {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut noted = self.0.lock().unwrap();
        let (Some(reader), lengths) = &mut *noted else { return };
        reader.read_to_end(&mut Vec::new()).unwrap_err();
        lengths.push(reader.position());
        assert_eq!(reader.poll_readable(&mut Context::from_waker(&waker)), Poll::Pending);
    }
}

/// A value whose text comes in many pieces, of which the last may be an error.
struct Pieces(usize, bool);

impl std::fmt::Display for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (0..self.0).try_for_each(|_| f.write_str("0123456789"))?;
        if self.1 { Err(std::fmt::Error) } else { Ok(()) }
    }
}

/// Each piece of a formatted line was a write of its own, which woke all readers: a log with six followers
/// took 34 times as long as by whole lines.
#[test]
fn a_formatted_line_wakes_its_readers_once() {
    let (mut writer, mut reader) = pool(1 << 20).spool();
    reader.set_timeout(Some(Duration::ZERO));
    let noted = Arc::new(Lengths(std::sync::Mutex::new((Some(reader), Vec::new()))));
    Arc::clone(&noted).wake();
    let mut expected = Vec::new();
    for (line, part) in [(1, "a"), (2, "longer"), (3, "")] {
        writeln!(writer, "line {line} of {part}, and {}", Pieces(20, false)).unwrap();
        expected.push(writer.len());
    }
    writeln!(writer, "no piece").unwrap();
    expected.push(writer.len());
    let long = "x".repeat(600);
    write!(writer, "{}{long}{}", 1, 2).unwrap();
    expected.extend([1, 601, 602].map(|len| expected[3] + len));
    write!(writer, "{}{}", Pieces(50, false), Pieces(2, false)).unwrap();
    expected.extend([510, 520].map(|len| expected[6] + len));
    assert_eq!(noted.0.lock().unwrap().1[1..], expected);
    noted.0.lock().unwrap().0 = None;
    writer.finish().unwrap();
}

/// As std says of `write_fmt`: what was formatted before an error is written, and the error of a write comes
/// out.
#[test]
fn what_was_formatted_before_an_error_is_written() {
    let (mut writer, mut reader) = pool(1 << 20).spool();
    assert_eq!(write!(writer, "some {}", Pieces(1, true)).unwrap_err().kind(), ErrorKind::Other);
    let mut text = [0; 15];
    reader.read_exact(&mut text).unwrap();
    assert_eq!((&text, writer.len()), (b"some 0123456789", 15));

    let small = SpillPool::builder().memory(PAGE).disk(0).page_size(PAGE).build().unwrap();
    let lengths = [true, false].map(|formats| {
        let (mut writer, text) = (small.spool().0, Pieces(1000, false));
        let all = text.to_string();
        let mut by_pieces = || all.as_bytes().chunks(10).try_for_each(|piece| writer.write_all(piece));
        let written = if formats { write!(writer, "{text}") } else { by_pieces() };
        assert!(matches!(spill_error(written.unwrap_err()), SpillError::DiskLimit { .. }));
        writer.len()
    });
    assert!(lengths[0] > 0 && lengths[0] == lengths[1], "{lengths:?}");
}

#[test]
fn ends_go_to_other_threads() {
    const fn is_sent<T: Send + 'static>() {}
    const { is_sent::<(SpoolWriter, SpoolReader)>() };
    let mut writer = pool(1 << 20).spool().0;
    io::copy(&mut &b"without a reader"[..], &mut writer).unwrap();
    assert_eq!(writer.finish().unwrap().into_buffer().unwrap().to_vec().unwrap(), b"without a reader");
}
