//! One runner for every file-like thing: it does the same to the thing and to the [`Model`], and
//! compares result, position, length and content.
//!
//! Promises:
//!
//! - Every operation's result is compared, its error included, and position and length after it.
//! - Content is compared in whole after each operation, or each nth, or at the end, as [`Watch`]
//!   says; at the end always.
//! - A [`Mismatch`] prints as a test that can be pasted into a file.
//! - A panic of the thing is a mismatch like any other.
//! - The data written is the same in every run of the same operations.

use crate::model::Model;
use crate::ops::{Op, Refusal, pattern};
use std::fmt;
use std::io::SeekFrom;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A file-like thing that can be compared with the [`Model`].
///
/// The defaults say what an operation means in terms of the others; a thing that has its own
/// version of one overrides it, so that it is this version that is tested.
pub trait Subject {
    /// As `std::io::Write::write`; `Ok(0)` for at least one byte is never right.
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal>;

    /// As `std::io::Read::read`.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal>;

    /// As `std::io::BufRead::fill_buf`.
    fn fill_buf(&mut self) -> Result<&[u8], Refusal>;

    /// As `std::io::BufRead::consume`.
    fn consume(&mut self, n: usize);

    /// As `std::io::Seek::seek`.
    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal>;

    /// Cuts, or adds zeros. The position stays.
    fn set_len(&mut self, len: u64) -> Result<(), Refusal>;

    /// Where the next read or write starts.
    fn position(&self) -> u64;

    /// The number of bytes.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As `std::io::Write::write_all`.
    fn write_all(&mut self, mut data: &[u8]) -> Result<(), Refusal> {
        while !data.is_empty() {
            match self.write(data)? {
                0 => return Err(Refusal::Failed("write gave Ok(0)".into())),
                n => data = &data[n..],
            }
        }
        Ok(())
    }

    /// As `std::io::Write::write_vectored`.
    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        self.write(&slices.concat())
    }

    /// As `std::io::Read::read_exact`.
    fn read_exact(&mut self, mut buf: &mut [u8]) -> Result<(), Refusal> {
        while !buf.is_empty() {
            match self.read(buf)? {
                0 => return Err(Refusal::EndOfFile),
                n => buf = &mut buf[n..],
            }
        }
        Ok(())
    }

    /// As `std::io::Read::read_vectored`.
    fn read_vectored(&mut self, slices: [&mut [u8]; 3]) -> Result<usize, Refusal> {
        let mut total = 0;
        for slice in slices {
            let n = self.read(slice)?;
            total += n;
            if n < slice.len() {
                break;
            }
        }
        Ok(total)
    }

    /// As `std::io::Read::read_to_end`, into a new vector.
    fn read_to_end(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut all = Vec::new();
        loop {
            let lent = self.fill_buf()?;
            let n = lent.len();
            if n == 0 {
                return Ok(all);
            }
            all.extend_from_slice(lent);
            self.consume(n);
        }
    }

    /// Moves to `position`.
    fn set_position(&mut self, position: u64) -> Result<(), Refusal> {
        self.seek(SeekFrom::Start(position)).map(drop)
    }

    /// Cuts or extends to the position.
    fn truncate(&mut self) -> Result<(), Refusal> {
        self.set_len(self.position())
    }

    /// Drops the content and rewinds.
    fn clear(&mut self) -> Result<(), Refusal> {
        self.set_len(0)?;
        self.set_position(0)
    }

    /// As `std::io::Write::flush`.
    fn flush(&mut self) -> Result<(), Refusal>;

    /// Pushes everything to disk, where there is one.
    fn spill(&mut self) -> Result<(), Refusal> {
        Ok(())
    }

    /// Becomes a fresh one of its kind, the old one dropped.
    fn renew(&mut self) -> Result<(), Refusal> {
        self.clear()
    }

    /// Checks what must hold between any two calls, and panics where it does not.
    fn check_invariants(&mut self) {}

    /// Everything there is. The position stays.
    fn content(&mut self) -> Result<Vec<u8>, Refusal> {
        let position = self.position();
        self.set_position(0)?;
        let all = self.read_to_end()?;
        self.set_position(position)?;
        Ok(all)
    }
}

/// How far a thing may stray from the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leeway {
    /// Not at all: counts and refusals are the model's.
    None,
    /// `fill_buf` may lend less than all there is, but not nothing.
    Pieces,
    /// As `Pieces`, and what needs room may be refused where the model has room; a write may stop
    /// short then, but not before one byte. Reading needs no room.
    Refuse,
    /// As `Refuse`, and what may need the store may fail, reading included. It loses nothing then.
    Fail,
}

impl Leeway {
    pub(crate) fn excuses(self, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::Full => self >= Leeway::Refuse,
            Refusal::Failed(_) => self >= Leeway::Fail,
            Refusal::OutOfRange | Refusal::EndOfFile => false,
        }
    }
}

/// When the whole content is compared. Reading it moves a window and recycles frames, so a run
/// that looks all the time tests another thing than one that does not look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// At the end of the run only.
    AtEnd,
    /// After every nth operation, and at the end.
    Every(usize),
}

/// A thing and its truth.
#[derive(Debug)]
pub struct Pair<S> {
    /// The real thing.
    pub subject: S,
    /// What it has to be like.
    pub model: Model,
}

impl<S: Subject> Pair<S> {
    /// An empty `subject` that can hold `capacity` bytes.
    pub fn empty(subject: S, capacity: u64) -> Self {
        Pair { subject, model: Model::new(Vec::new(), capacity) }
    }
}

/// Where thing and model parted. Printed, it is a test.
pub struct Mismatch<O = Op> {
    /// The operations of the run.
    pub ops: Vec<O>,
    /// What the thing did, and what it should have done.
    pub what: String,
    /// The expression that repeats the run, with `&ops` for the operations.
    pub again: String,
}

impl<O: fmt::Debug> fmt::Display for Mismatch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.what)?;
        writeln!(f, "#[test]\nfn a_name_for_it() {{")?;
        writeln!(f, "    // The story: what was believed, what was true.")?;
        writeln!(f, "    use overspill_tests::replay::*;")?;
        writeln!(f, "    let ops = [")?;
        for op in &self.ops {
            writeln!(f, "        {op:?},")?;
        }
        writeln!(f, "    ];\n    {}\n}}", self.again)
    }
}

/// The same, so that `unwrap` prints the test too.
impl<O: fmt::Debug> fmt::Debug for Mismatch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<O: fmt::Debug> std::error::Error for Mismatch<O> {}

/// Does `ops` to the pairs, to the first until [`Op::Turn`] says otherwise, and compares.
///
/// # Errors
/// With the first mismatch; `again` is left for the caller to fill in.
pub fn run<S: Subject>(
    pairs: &mut [Pair<S>],
    ops: &[Op],
    leeway: Leeway,
    watch: Watch,
) -> Result<(), Mismatch> {
    let mismatch = |what| Mismatch { ops: ops.to_vec(), what, again: String::new() };
    let mut turn = 0;
    for (step, &op) in ops.iter().enumerate() {
        if let Op::Turn(n) = op {
            turn = n % pairs.len();
        }
        let look = matches!(watch, Watch::Every(n) if step % n.max(1) == 0);
        let pair = &mut pairs[turn];
        guarded(|| pair.step(op, step, leeway).and_then(|()| pair.compare(look)))
            .map_err(|what| mismatch(format!("step {step}, {op:?}: {what}")))?;
    }
    for (n, pair) in pairs.iter_mut().enumerate() {
        guarded(|| pair.compare(true))
            .map_err(|what| mismatch(format!("at the end, subject {n}: {what}")))?;
    }
    Ok(())
}

/// A panic is a finding like any other; its own message has gone to standard error.
pub(crate) fn guarded(step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied());
        Err(format!("panicked: {}", said.unwrap_or("without a message")))
    })
}

/// The first difference, in words that fit on a screen.
pub(crate) fn same_bytes(what: &str, got: &[u8], want: &[u8]) -> Result<(), String> {
    if got == want {
        return Ok(());
    }
    let at = got.iter().zip(want).take_while(|(got, want)| got == want).count();
    let near = |bytes: &[u8]| format!("{:?}", &bytes[at..bytes.len().min(at + 8)]);
    Err(format!(
        "{what}: {} bytes, should be {}; from {at} on {} should be {}",
        got.len(),
        want.len(),
        near(got),
        near(want)
    ))
}

fn same<T: PartialEq + fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what} gave {got:?}, should be {want:?}")) }
}

impl<S: Subject> Pair<S> {
    pub(crate) fn step(&mut self, op: Op, step: usize, leeway: Leeway) -> Result<(), String> {
        let (subject, model) = (&mut self.subject, &mut self.model);
        match op {
            Op::Write(n) => {
                let data = pattern(step, n);
                let got = subject.write(&data);
                self.written(&data, got, leeway)
            }
            Op::WriteVectored(sizes) => {
                let data = pattern(step, sizes.iter().sum());
                let (first, rest) = data.split_at(sizes[0]);
                let (second, third) = rest.split_at(sizes[1]);
                let got = subject.write_vectored([first, second, third]);
                self.written(&data, got, leeway)
            }
            Op::WriteAll(n) => self.write_all(&pattern(step, n), leeway),
            Op::Read(n) => {
                let mut buf = vec![0xEE; n];
                let got = subject.read(&mut buf);
                self.was_read(&buf, got, leeway)
            }
            Op::ReadVectored(sizes) => {
                let mut buf = vec![0xEE; sizes.iter().sum()];
                let (first, rest) = buf.split_at_mut(sizes[0]);
                let (second, third) = rest.split_at_mut(sizes[1]);
                let got = subject.read_vectored([first, second, third]);
                self.was_read(&buf, got, leeway)
            }
            Op::ReadExact(n) => self.read_exact(n, leeway),
            Op::ReadToEnd => match subject.read_to_end() {
                Err(refusal) if leeway.excuses(&refusal) => self.follow("read_to_end"),
                got => {
                    let all = got.map_err(|refusal| format!("refused: {refusal:?}"))?;
                    same_bytes("read_to_end", &all, model.rest())?;
                    self.advance(all.len())
                }
            },
            Op::FillBuf(n) => self.fill_and_consume(n, leeway),
            Op::Seek(to) => same("seek", &subject.seek(to), &model.seek(to)),
            Op::SetPosition(to) => {
                same("set_position", &subject.set_position(to), &model.seek(SeekFrom::Start(to)).map(drop))
            }
            Op::SetLen(len) => {
                let got = subject.set_len(len);
                self.resized("set_len", len, got, leeway)
            }
            Op::Truncate => {
                let len = model.position();
                let got = subject.truncate();
                self.resized("truncate", len, got, leeway)
            }
            Op::Clear => {
                same("clear", &subject.clear(), &Ok(()))?;
                self.emptied()
            }
            Op::Renew => {
                same("renew", &subject.renew(), &Ok(()))?;
                self.emptied()
            }
            Op::Flush => same("flush", &subject.flush(), &Ok(())),
            Op::Spill => match subject.spill() {
                Err(refusal) if leeway.excuses(&refusal) => Ok(()),
                got => same("spill", &got, &Ok(())),
            },
            Op::Turn(_) => Ok(()),
        }
    }

    /// What one `write` took: the model takes the same, if that is within the leeway.
    fn written(&mut self, data: &[u8], got: Result<usize, Refusal>, leeway: Leeway) -> Result<(), String> {
        let offered = match &got {
            Err(refusal) if leeway.excuses(refusal) => return Ok(()),
            Ok(n @ 1..) if leeway >= Leeway::Refuse => data.get(..*n).unwrap_or(data),
            _ => data,
        };
        same("write", &got, &self.model.write(offered))
    }

    /// `write_all` tells how much it took only by the position.
    fn write_all(&mut self, data: &[u8], leeway: Leeway) -> Result<(), String> {
        let got = self.subject.write_all(data);
        let moved = self.subject.position().checked_sub(self.model.position());
        let taken = moved.and_then(|moved| usize::try_from(moved).ok()).and_then(|n| data.get(..n));
        let taken = taken.ok_or("write_all moved further than it was given bytes")?;
        same("write_all", &Ok(taken.len()), &self.model.write(taken))?;
        match got {
            Err(refusal) if leeway.excuses(&refusal) => Ok(()),
            got => same("write_all", &got, &self.model.write(&data[taken.len()..]).map(drop)),
        }?;
        same("bytes that write_all took", &self.subject.position(), &self.model.position())
    }

    fn was_read(&mut self, buf: &[u8], got: Result<usize, Refusal>, leeway: Leeway) -> Result<(), String> {
        let mut there = &self.model.rest()[..buf.len().min(self.model.rest().len())];
        match &got {
            Err(refusal) if leeway.excuses(refusal) => return Ok(()),
            Ok(n @ 1..) if leeway >= Leeway::Fail => there = there.get(..*n).unwrap_or(there),
            _ => {}
        }
        same("read", &got, &Ok(there.len()))?;
        same_bytes("read", &buf[..there.len()], there)?;
        self.advance(there.len())
    }

    fn read_exact(&mut self, n: usize, leeway: Leeway) -> Result<(), String> {
        let mut buf = vec![0xEE; n];
        let got = self.subject.read_exact(&mut buf);
        match (got, self.model.rest().get(..n)) {
            (Ok(()), Some(there)) => {
                same_bytes("read_exact", &buf, there)?;
                self.advance(n)
            }
            (Err(Refusal::EndOfFile), None) => self.follow("read_exact"),
            (Err(refusal), _) if leeway.excuses(&refusal) => self.follow("read_exact"),
            (got, there) => Err(format!("read_exact gave {got:?}, {:?} bytes there", there.map(<[u8]>::len))),
        }
    }

    /// How far a read of many bytes got before it failed is nobody's promise, but not past the end.
    fn follow(&mut self, what: &str) -> Result<(), String> {
        let (before, now) = (self.model.position(), self.subject.position());
        if !(before..=before + self.model.rest().len() as u64).contains(&now) {
            return Err(format!("{what} moved from {before} to {now}, past the end"));
        }
        self.model.seek(SeekFrom::Start(now)).map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    fn fill_and_consume(&mut self, n: usize, leeway: Leeway) -> Result<(), String> {
        let first = match self.subject.fill_buf() {
            Err(refusal) if leeway.excuses(&refusal) => return Ok(()),
            got => got.map_err(|refusal| format!("fill_buf refused: {refusal:?}"))?.to_vec(),
        };
        let lent = match self.subject.fill_buf() {
            Err(refusal) if leeway.excuses(&refusal) => return Ok(()),
            got => got.map_err(|refusal| format!("fill_buf the second time refused: {refusal:?}"))?,
        };
        // More is as good: what was seen the first time is still there.
        same_bytes("fill_buf the second time", &lent[..lent.len().min(first.len())], &first)?;
        let rest = self.model.rest();
        let whole = rest.len().min(if leeway == Leeway::None { rest.len() } else { lent.len().max(1) });
        same_bytes("fill_buf", lent, &rest[..whole])?;
        let used = n.min(lent.len());
        self.subject.consume(used);
        self.advance(used)
    }

    fn resized(
        &mut self,
        what: &str,
        len: u64,
        got: Result<(), Refusal>,
        leeway: Leeway,
    ) -> Result<(), String> {
        let grows = len > self.model.content().len() as u64;
        match got {
            Err(refusal) if grows && leeway.excuses(&refusal) => Ok(()),
            got => same(what, &got, &self.model.set_len(len)),
        }
    }

    fn advance(&mut self, n: usize) -> Result<(), String> {
        let by = i64::try_from(n).map_err(|error| error.to_string())?;
        self.model.seek(SeekFrom::Current(by)).map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    pub(crate) fn emptied(&mut self) -> Result<(), String> {
        let emptied = self.model.set_len(0).and_then(|()| self.model.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(|refusal| format!("{refusal:?}"))
    }

    /// What must agree after every operation.
    pub(crate) fn compare(&mut self, look: bool) -> Result<(), String> {
        let want = self.model.content();
        self.subject.check_invariants();
        same("position", &self.subject.position(), &self.model.position())?;
        same("len", &self.subject.len(), &(want.len() as u64))?;
        same("is_empty", &self.subject.is_empty(), &want.is_empty())?;
        if look {
            let got = self.subject.content().map_err(|refusal| format!("content refused: {refusal:?}"))?;
            same_bytes("content", &got, want)?;
            same("position after content was read", &self.subject.position(), &self.model.position())?;
        }
        Ok(())
    }
}
