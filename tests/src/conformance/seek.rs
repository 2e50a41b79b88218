//! What `std::io::Seek` promises, and what a file adds to it.

use super::{Broken, Outcome, Rule, ensure, samples, try_all};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};

/// Checks the seekers that `make` makes, each with the content it is given.
///
/// # Errors
/// With the first rule that is broken.
pub fn check<S: Read + Seek, F: FnMut(&[u8]) -> S>(mut make: F) -> Result<(), Broken> {
    try_all(&rules(), &mut make)
}

/// Checks what a file does beyond that: gaps, and writing in the middle.
///
/// # Errors
/// With the first rule that is broken.
pub fn check_gaps<S: Read + Write + Seek, F: FnMut(&[u8]) -> S>(mut make: F) -> Result<(), Broken> {
    try_all(&gap_rules(), &mut make)
}

/// The rules for all seekers.
pub fn rules<S: Read + Seek, F: FnMut(&[u8]) -> S>() -> Vec<Rule<F>> {
    vec![
        ("a seek from any origin goes where it says, and reading goes on there", origins),
        ("a seek to before 0 is InvalidInput and moves nothing", before_zero),
        ("a seek to the far end of u64 goes there exactly, or moves nothing", far_end),
        ("past the end there is nothing to read, and the position stays", past_end),
        ("stream_position, rewind and seek_relative agree with seek", shorthands),
        ("reading moves by as many bytes as it gives", read_moves),
    ]
}

/// The rules for seekers that can be written to.
pub fn gap_rules<S: Read + Write + Seek, F: FnMut(&[u8]) -> S>() -> Vec<Rule<F>> {
    vec![
        ("a write past the end fills the gap with zeros", gap),
        ("a seek past the end alone changes nothing", no_gap),
        ("a write before the end changes its own bytes only", overwrite),
    ]
}

fn at<S: Seek>(seeker: &mut S, place: u64, after: &str) -> Outcome {
    let position = seeker.stream_position()?;
    ensure!(position == place, "stands at {position} after {after}, should be {place}");
    Ok(())
}

fn everything<S: Read + Seek>(seeker: &mut S) -> Result<Vec<u8>, std::io::Error> {
    let mut all = Vec::new();
    seeker.seek(SeekFrom::Start(0))?;
    seeker.read_to_end(&mut all)?;
    Ok(all)
}

fn origins<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        let len = content.len() as i64;
        let mut seeker = make(&content);
        for place in
            [0, 1, len / 3, len / 2, len - 1, len].into_iter().filter(|place| (0..=len).contains(place))
        {
            let here = seeker.stream_position()? as i64;
            for to in
                [SeekFrom::Start(place as u64), SeekFrom::End(place - len), SeekFrom::Current(place - here)]
            {
                // Each starts from the same place, so that Current means the same.
                seeker.seek(SeekFrom::Start(here as u64))?;
                let sought = seeker.seek(to)?;
                ensure!(sought == place as u64, "{to:?} from {here} of {len} gave {sought}");
                let mut rest = Vec::new();
                seeker.read_to_end(&mut rest)?;
                ensure!(rest == content[place as usize..], "{to:?} from {here} of {len} reads wrong bytes");
            }
            seeker.seek(SeekFrom::Start(place as u64))?;
        }
    }
    Ok(())
}

fn before_zero<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut seeker, len) = (make(&content), content.len() as i64);
        let start = content.len() as u64 / 2;
        for to in [
            SeekFrom::End(-len - 1),
            SeekFrom::End(i64::MIN),
            SeekFrom::Current(-(start as i64) - 1),
            SeekFrom::Current(i64::MIN),
        ] {
            seeker.seek(SeekFrom::Start(start))?;
            match seeker.seek(to) {
                Ok(place) => ensure!(false, "{to:?} from {start} of {len} gave {place}"),
                Err(error) => ensure!(error.kind() == ErrorKind::InvalidInput, "{to:?}: {error:?}"),
            }
            at(&mut seeker, start, "a refused seek")?;
        }
    }
    Ok(())
}

/// How far a seeker reaches is its own affair; the arithmetic is not.
fn far_end<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    let len = 3;
    let mut seeker = make(b"abc");
    let far = [u64::MAX, u64::MAX - 1, i64::MAX as u64 + 1, i64::MAX as u64, 1];
    for start in far {
        let tried = seeker.seek(SeekFrom::Start(start));
        ensure!(tried.is_err() || tried? == start, "Start({start}) went elsewhere");
        let here = seeker.stream_position()?;
        for (to, from, offset) in [
            (SeekFrom::Current(1), here, 1),
            (SeekFrom::Current(i64::MAX), here, i64::MAX),
            (SeekFrom::Current(i64::MIN), here, i64::MIN),
            (SeekFrom::End(i64::MAX), len, i64::MAX),
        ] {
            let before = seeker.stream_position()?;
            let exact = from.checked_add_signed(offset);
            match seeker.seek(to) {
                Ok(place) => {
                    ensure!(Some(place) == exact, "{to:?} from {from} gave {place}, should be {exact:?}");
                    at(&mut seeker, place, "a seek to the far end")?;
                    seeker.seek(SeekFrom::Start(here))?;
                }
                Err(_) => at(&mut seeker, before, "a refused seek")?,
            }
        }
    }
    Ok(())
}

fn past_end<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut seeker, len) = (make(&content), content.len() as u64);
        for to in [SeekFrom::End(10), SeekFrom::Start(len + 10), SeekFrom::Current(0)] {
            ensure!(seeker.seek(to)? == len + 10, "{to:?} of {len} did not go 10 past the end");
            let n = seeker.read(&mut [0; 8])?;
            ensure!(n == 0, "{n} bytes were read past the end");
            ensure!(seeker.read_to_end(&mut Vec::new())? == 0, "read_to_end found some past the end");
            at(&mut seeker, len + 10, "reading past the end")?;
        }
        ensure!(everything(&mut seeker)? == content, "the content is not what it was");
    }
    Ok(())
}

/// What `stream_position` is short for, kept from looking like an oversight.
const STAY: SeekFrom = SeekFrom::Current(0);

fn shorthands<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    let mut seeker = make(b"abcdefgh");
    for place in [5, 8, 12, 0] {
        seeker.seek(SeekFrom::Start(place))?;
        at(&mut seeker, place, "seek")?;
        ensure!(seeker.seek(STAY)? == place, "Current(0) moved from {place}");
        seeker.seek_relative(2)?;
        at(&mut seeker, place + 2, "seek_relative(2)")?;
        seeker.seek_relative(-1)?;
        at(&mut seeker, place + 1, "seek_relative(-1)")?;
        let before_zero = seeker.seek_relative(-14);
        ensure!(before_zero.is_err(), "seek_relative went to before 0");
        at(&mut seeker, place + 1, "a refused seek_relative")?;
        seeker.rewind()?;
        at(&mut seeker, 0, "rewind")?;
    }
    Ok(())
}

fn read_moves<S: Read + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        let (mut seeker, mut place) = (make(&content), 0);
        for size in [0, 1, 5, 100, 2000, 2000] {
            place += seeker.read(&mut vec![0; size])? as u64;
            at(&mut seeker, place, "a read")?;
        }
        seeker.read_to_end(&mut Vec::new())?;
        at(&mut seeker, content.len() as u64, "read_to_end")?;
    }
    Ok(())
}

fn gap<S: Read + Write + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        for width in [1, 2, 63, 1000] {
            let mut seeker = make(&content);
            seeker.seek(SeekFrom::End(width as i64))?;
            seeker.write_all(b"beyond")?;
            at(&mut seeker, (content.len() + width + 6) as u64, "a write past the end")?;
            let wanted = [&content, &vec![0; width], &b"beyond"[..]].concat();
            let held = everything(&mut seeker)?;
            ensure!(held == wanted, "a gap of {width} behind {} bytes is wrong", content.len());
        }
    }
    Ok(())
}

fn no_gap<S: Read + Write + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        let mut seeker = make(&content);
        seeker.seek(SeekFrom::End(500))?;
        seeker.flush()?;
        ensure!(seeker.seek(SeekFrom::End(0))? == content.len() as u64, "the end has moved");
        ensure!(everything(&mut seeker)? == content, "the content is not what it was");
    }
    Ok(())
}

fn overwrite<S: Read + Write + Seek, F: FnMut(&[u8]) -> S>(make: &mut F) -> Outcome {
    for content in samples() {
        for place in [0, content.len() / 2, content.len().saturating_sub(2), content.len()] {
            let (mut seeker, mut wanted) = (make(&content), content.clone());
            seeker.seek(SeekFrom::Start(place as u64))?;
            seeker.write_all(b"four")?;
            at(&mut seeker, place as u64 + 4, "a write")?;
            wanted.resize(content.len().max(place + 4), 0);
            wanted[place..place + 4].copy_from_slice(b"four");
            ensure!(
                everything(&mut seeker)? == wanted,
                "four bytes at {place} of {} are wrong",
                content.len()
            );
        }
    }
    Ok(())
}
