//! What `overspill_core::Medium` promises, and its half `ReadMedium`: the rules that `Cursor` relies on.

use super::{Broken, Outcome, Rule, SIZES, ensure, try_all};
use embedded_io::{Error as _, ErrorKind};
use overspill_core::{Medium, ReadMedium};
use std::error::Error;

/// The capacity in bytes that a medium must have to be checked.
pub const ROOM: usize = 64;

/// Checks the empty media that `make` returns.
///
/// # Errors
/// With the first rule that is broken.
pub fn check<M, F>(mut make: F) -> Result<(), Broken>
where
    M: Medium,
    M::Error: 'static,
    F: FnMut() -> M,
{
    try_all(&rules(), &mut make)
}

/// Checks the media that `make` returns for a content of up to [`ROOM`] bytes, by the rules of reading alone.
///
/// # Errors
/// With the first rule that is broken.
pub fn check_reading<M, F>(mut make: F) -> Result<(), Broken>
where
    M: ReadMedium,
    M::Error: 'static,
    F: FnMut(&[u8]) -> M,
{
    let rules: [Rule<F>; 3] = [
        (PAST_END, |make| past_end(|content| Ok(make(content)))),
        (READS, |make| reads(|content| Ok(make(content)))),
        (CHUNKS, |make| chunks(|content| Ok(make(content)))),
    ];
    try_all(&rules, &mut make)
}

const PAST_END: &str = "reading at the end or past it gives nothing, and no error";
const READS: &str = "read_at gives what write_at took, from any offset";
const CHUNKS: &str = "chunk_at lends one byte at least, and the right ones";

/// A medium with content, or the error in making it.
type Made<M> = Result<M, Box<dyn Error>>;

/// The rules.
pub fn rules<M, F>() -> Vec<Rule<F>>
where
    M: Medium,
    M::Error: 'static,
    F: FnMut() -> M,
{
    vec![
        (PAST_END, |make| past_end(|content| filled(make(), content))),
        (READS, |make| reads(|content| filled(make(), content))),
        (CHUNKS, |make| chunks(|content| filled(make(), content))),
        ("write_at overwrites before the end, appends at it, or both", writes),
        ("write_at past the end is refused as if there were no room, and changes nothing", no_gaps),
        ("write_at takes a byte at least, or says that there is no room and changes nothing", full),
        ("bytes that set_len adds are zeros, even where others stood", zeros),
        ("a length that there is no room for is refused, and changes nothing", refusal),
        ("flush changes nothing", flush),
    ]
}

fn held<M: ReadMedium>(medium: &mut M) -> Result<Vec<u8>, M::Error> {
    let mut all = Vec::new();
    loop {
        let mut buf = [0; 16];
        match medium.read_at(all.len() as u64, &mut buf)? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

fn holding<M: ReadMedium>(medium: &mut M, wanted: &[u8], after: &str) -> Outcome
where
    M::Error: 'static,
{
    let all = held(medium)?;
    ensure!(all == wanted, "{after} left {all:?}, should be {wanted:?}");
    ensure!(medium.len() == wanted.len() as u64, "{after} left a length of {}", medium.len());
    ensure!(medium.is_empty() == wanted.is_empty(), "{after}: is_empty is wrong");
    Ok(())
}

fn filled<M: Medium>(mut medium: M, content: &[u8]) -> Made<M>
where
    M::Error: 'static,
{
    let mut taken = 0;
    while taken < content.len() {
        match medium.write_at(taken as u64, &content[taken..])? {
            0 => return Err("write_at took nothing, and did not say why".into()),
            n => taken += n,
        }
    }
    Ok(medium)
}

/// Checks the kind of a refusal for want of room. A medium that grows may say `OutOfMemory`:
/// the machine refuses it.
fn no_room(kind: ErrorKind) -> Outcome {
    ensure!(matches!(kind, ErrorKind::WriteZero | ErrorKind::OutOfMemory), "no room is {kind:?}");
    Ok(())
}

fn past_end<M: ReadMedium>(mut make: impl FnMut(&[u8]) -> Made<M>) -> Outcome
where
    M::Error: 'static,
{
    for content in [&b""[..], b"abc"] {
        let mut medium = make(content)?;
        let len = medium.len();
        for offset in [len, len + 1, len + 1000, u64::MAX] {
            let n = medium.read_at(offset, &mut [0; 4])?;
            ensure!(n == 0, "read_at({offset}) of {len} bytes gave {n}");
            let lent = medium.chunk_at(offset)?;
            ensure!(lent.is_empty(), "chunk_at({offset}) of {len} bytes lent {lent:?}");
        }
    }
    Ok(())
}

fn reads<M: ReadMedium>(mut make: impl FnMut(&[u8]) -> Made<M>) -> Outcome
where
    M::Error: 'static,
{
    let content: Vec<u8> = (1..=ROOM as u8).collect();
    let mut medium = make(&content)?;
    ensure!(medium.read_at(0, &mut [])? == 0, "an empty read gave something");
    for offset in 0..content.len() {
        for size in SIZES {
            let mut buf = vec![0; size];
            let n = medium.read_at(offset as u64, &mut buf)?;
            ensure!((1..=size).contains(&n), "read_at({offset}) of {size} bytes gave {n}");
            ensure!(content[offset..].starts_with(&buf[..n]), "read_at({offset}) gave {:?}", &buf[..n]);
        }
    }
    Ok(())
}

fn chunks<M: ReadMedium>(mut make: impl FnMut(&[u8]) -> Made<M>) -> Outcome
where
    M::Error: 'static,
{
    let content: Vec<u8> = (1..=ROOM as u8).collect();
    let mut medium = make(&content)?;
    for offset in 0..content.len() {
        let lent = medium.chunk_at(offset as u64)?;
        ensure!(!lent.is_empty(), "chunk_at({offset}) lent nothing");
        ensure!(content[offset..].starts_with(lent), "chunk_at({offset}) lent {lent:?}");
    }
    Ok(())
}

fn writes<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    for (offset, data) in [(0, "XY"), (2, "XYZ"), (4, "XYZ"), (5, "X"), (6, "XY"), (6, "")] {
        let mut medium = filled(make(), b"abcdef")?;
        let mut wanted = b"abcdef".to_vec();
        let taken = medium.write_at(offset, data.as_bytes())?;
        ensure!(taken <= data.len(), "write_at took {taken} of {} bytes", data.len());
        ensure!(taken > 0 || data.is_empty(), "write_at({offset}) took nothing where there is room");
        let end = offset as usize + taken;
        wanted.resize(wanted.len().max(end), 0);
        wanted[offset as usize..end].copy_from_slice(&data.as_bytes()[..taken]);
        holding(&mut medium, &wanted, &format!("write_at({offset}) of {} bytes", data.len()))?;
    }
    Ok(())
}

fn no_gaps<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    for offset in [4, 20, u64::MAX - 1, u64::MAX] {
        let mut medium = filled(make(), b"abc")?;
        match medium.write_at(offset, b"x") {
            Ok(taken) => ensure!(false, "write_at({offset}) of 3 bytes took {taken}"),
            Err(error) => {
                let kind = error.kind();
                ensure!(kind == ErrorKind::WriteZero, "past the end is {kind:?}");
            }
        }
        holding(&mut medium, b"abc", &format!("write_at({offset})"))?;
        let taken = medium.write_at(offset, b"")?;
        ensure!(taken == 0, "write_at({offset}) took {taken} of no bytes");
    }
    Ok(())
}

/// Appends until there is no room, or for a while if the medium grows.
fn full<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    let mut medium = make();
    let mut wanted = Vec::new();
    while wanted.len() < 4 * ROOM {
        match medium.write_at(wanted.len() as u64, b"abcdefg") {
            Ok(taken) => {
                ensure!((1..=7).contains(&taken), "write_at took {taken} of 7 bytes");
                wanted.extend_from_slice(&b"abcdefg"[..taken]);
            }
            Err(error) => {
                no_room(error.kind())?;
                holding(&mut medium, &wanted, "a refused write_at")?;
                ensure!(wanted.len() >= ROOM, "no room behind {} bytes", wanted.len());
                let taken = medium.write_at(wanted.len() as u64, b"")?;
                ensure!(taken == 0, "write_at took {taken} of no bytes");
                return Ok(());
            }
        }
    }
    holding(&mut medium, &wanted, "write_at")
}

fn zeros<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    let mut medium = filled(make(), b"abcdef")?;
    medium.set_len(2)?;
    holding(&mut medium, b"ab", "set_len(2)")?;
    medium.set_len(5)?;
    holding(&mut medium, b"ab\0\0\0", "set_len(5)")?;
    medium.set_len(5)?;
    holding(&mut medium, b"ab\0\0\0", "set_len(5) again")?;
    medium.set_len(0)?;
    holding(&mut medium, b"", "set_len(0)")?;
    medium.set_len(ROOM as u64)?;
    holding(&mut medium, &[0; ROOM], "set_len to all there is room for")
}

fn refusal<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    for len in [u64::MAX, u64::MAX / 2 + 1] {
        let mut medium = filled(make(), b"abc")?;
        match medium.set_len(len) {
            Ok(()) => ensure!(false, "a length of {len} was taken"),
            Err(error) => no_room(error.kind())?,
        }
        holding(&mut medium, b"abc", "a refused set_len")?;
    }
    Ok(())
}

fn flush<M: Medium, F: FnMut() -> M>(make: &mut F) -> Outcome
where
    M::Error: 'static,
{
    let mut medium = filled(make(), b"abc")?;
    medium.flush()?;
    medium.flush()?;
    holding(&mut medium, b"abc", "flush")
}
