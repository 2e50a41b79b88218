//! What `std::io::Write` promises.

use super::{Broken, Outcome, ROOM, Rule, SIZES, ensure, samples, try_all};
use std::io::{ErrorKind, IoSlice, Write};

/// How to make an empty writer, and how to see what it has been given.
pub struct Writers<F, C> {
    /// Makes an empty one.
    pub make: F,
    /// Everything written to it.
    pub content: C,
}

/// Checks the writers that `make` makes, empty ones, looking at what they hold with `content`.
/// Those of fixed capacity must have room for [`ROOM`] bytes.
///
/// # Errors
/// With the first rule that is broken.
pub fn check<W, F, C>(make: F, content: C) -> Result<(), Broken>
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    try_all(&rules(), &mut Writers { make, content })
}

/// As [`check`], with the rule for those that have room for exactly [`ROOM`] bytes.
///
/// # Errors
/// With the first rule that is broken.
pub fn check_limited<W, F, C>(make: F, content: C) -> Result<(), Broken>
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    let mut rules = rules();
    rules.push(limited_rule());
    try_all(&rules, &mut Writers { make, content })
}

/// The rules for every writer.
pub fn rules<W, F, C>() -> Vec<Rule<Writers<F, C>>>
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    vec![
        ("write takes one byte at least, and holds what it took", sizes),
        ("an empty write takes nothing and changes nothing", empty),
        ("write_all takes everything, in pieces of any size", all),
        ("write_vectored takes its slices in order", vectored),
        ("flush changes nothing, however often", flush),
    ]
}

/// The rule for writers of fixed capacity.
pub fn limited_rule<W, F, C>() -> Rule<Writers<F, C>>
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    ("write_all beyond the capacity says WriteZero and holds what fitted", limited)
}

fn sizes<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    for content in samples() {
        for size in SIZES {
            let (mut writer, mut taken) = ((writers.make)(), 0);
            while taken < content.len() {
                let piece = &content[taken..content.len().min(taken + size)];
                let n = writer.write(piece)?;
                ensure!((1..=piece.len()).contains(&n), "write took {n} of {} bytes", piece.len());
                taken += n;
            }
            writer.flush()?;
            ensure!((writers.content)(&mut writer) == content, "holds something else, in pieces of {size}");
        }
    }
    Ok(())
}

fn empty<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    let mut writer = (writers.make)();
    for piece in [&b""[..], b"abc", b"", b"def", b""] {
        let n = writer.write(piece)?;
        ensure!(!piece.is_empty() || n == 0, "an empty write took {n}");
        writer.write_all(&piece[n..])?;
    }
    writer.flush()?;
    let held = (writers.content)(&mut writer);
    ensure!(held == b"abcdef", "empty writes left {held:?}");
    Ok(())
}

fn all<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    for content in samples() {
        for size in SIZES {
            let mut writer = (writers.make)();
            for piece in content.chunks(size) {
                writer.write_all(piece)?;
            }
            writer.flush()?;
            ensure!((writers.content)(&mut writer) == content, "holds something else, in pieces of {size}");
        }
    }
    Ok(())
}

fn vectored<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    for content in samples() {
        let (mut writer, mut taken) = ((writers.make)(), 0);
        ensure!(writer.write_vectored(&[])? == 0, "no slices at all were taken");
        while taken < content.len() {
            let rest = &content[taken..];
            let (first, rest) = rest.split_at(rest.len().min(3));
            let (second, rest) = rest.split_at(rest.len().min(7));
            let third = &rest[..rest.len().min(50)];
            let given = first.len() + second.len() + third.len();
            let n = writer.write_vectored(&[&[], first, second, &[], third].map(IoSlice::new))?;
            ensure!((1..=given).contains(&n), "write_vectored took {n} of {given} bytes");
            taken += n;
        }
        writer.flush()?;
        ensure!((writers.content)(&mut writer) == content, "holds something else");
    }
    Ok(())
}

fn flush<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    let mut writer = (writers.make)();
    writer.flush()?;
    for piece in [b"abc", b"def"] {
        writer.write_all(piece)?;
        writer.flush()?;
        writer.flush()?;
    }
    let held = (writers.content)(&mut writer);
    ensure!(held == b"abcdef", "flushing left {held:?}");
    Ok(())
}

fn limited<W, F, C>(writers: &mut Writers<F, C>) -> Outcome
where
    W: Write,
    F: FnMut() -> W,
    C: FnMut(&mut W) -> Vec<u8>,
{
    for over in [1, 100] {
        let content: Vec<u8> = (0..ROOM + over).map(|n| (n % 251) as u8).collect();
        let mut writer = (writers.make)();
        match writer.write_all(&content) {
            Ok(()) => ensure!(false, "{over} bytes too many were taken"),
            Err(error) => ensure!(error.kind() == ErrorKind::WriteZero, "full: {error:?}"),
        }
        ensure!((writers.content)(&mut writer) == content[..ROOM], "what fitted is not there");
        ensure!(writer.write(b"")? == 0, "an empty write when full");
    }
    Ok(())
}
