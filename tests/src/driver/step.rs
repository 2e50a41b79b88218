//! One operation of a run: done to the subject and to its model, and compared.

use super::{Leeway, Pair, Subject, Target, same, same_bytes};
use crate::model::Model;
use crate::ops::{Op, Refusal, pattern};
use std::io::SeekFrom;

impl<S: Subject> Pair<S> {
    /// Does `op`, which is operation number `step` of the run, to both, and compares what they returned.
    pub(crate) fn step(&mut self, op: Op, step: usize, leeway: Leeway) -> Result<(), String> {
        let (subject, model) = (&mut self.subject, &mut self.model);
        match op {
            Op::Write(n) => self.write(&pattern(step, n), leeway),
            Op::WriteAll(n) => self.write_all(&pattern(step, n), leeway, S::write_all),
            Op::Push(n) => self.write_all(&pattern(step, n), leeway, S::push),
            Op::WriteVectored(sizes) => {
                self.write_vectored(&pattern(step, sizes.iter().sum()), sizes, leeway)
            }
            Op::WriteAt(n, place) => self.write_at(&pattern(step, n), place, leeway),
            Op::Read(n) => self.read(n, leeway),
            Op::ReadExact(n) => self.read_exact(n, leeway),
            Op::ReadVectored(sizes) => self.read_vectored(sizes, leeway),
            Op::ReadAt(n, place) => self.read_at(n, place, leeway),
            Op::ReadToEnd => self.read_to_end(leeway),
            Op::ToVec => self.read_whole(leeway),
            Op::FillBuf(n) => self.fill_and_consume(n, leeway),
            Op::CopyTo(room) => self.copy_to(room, leeway),
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

    fn write(&mut self, data: &[u8], leeway: Leeway) -> Result<(), String> {
        let got = self.subject.write(data);
        self.written("write", data, got, leeway, Model::write)
    }

    fn write_vectored(&mut self, data: &[u8], sizes: [usize; 3], leeway: Leeway) -> Result<(), String> {
        let (first, rest) = data.split_at(sizes[0]);
        let (second, third) = rest.split_at(sizes[1]);
        let got = self.subject.write_vectored([first, second, third]);
        self.written("write_vectored", data, got, leeway, Model::write)
    }

    fn write_at(&mut self, data: &[u8], place: u64, leeway: Leeway) -> Result<(), String> {
        let got = self.subject.write_at(data, place);
        self.written("write_at", data, got, leeway, |model, data| model.write_at(data, place))
    }

    /// What one write took: the model takes the same by `write`, if that is within the leeway.
    fn written(
        &mut self,
        what: &str,
        data: &[u8],
        got: Result<usize, Refusal>,
        leeway: Leeway,
        write: impl FnOnce(&mut Model, &[u8]) -> Result<usize, Refusal>,
    ) -> Result<(), String> {
        let offered = match &got {
            Err(refusal) if leeway.excuses(refusal) => return Ok(()),
            Ok(n @ 1..) if leeway >= Leeway::Refuse => data.get(..*n).unwrap_or(data),
            _ => data,
        };
        same(what, &got, &write(&mut self.model, offered))
    }

    /// `write_all` shows how much it took by the position alone, and so does `push`.
    fn write_all(
        &mut self,
        data: &[u8],
        leeway: Leeway,
        write_all: impl FnOnce(&mut S, &[u8]) -> Result<(), Refusal>,
    ) -> Result<(), String> {
        let got = write_all(&mut self.subject, data);
        let moved = self.subject.position().checked_sub(self.model.position());
        let taken = moved.and_then(|moved| usize::try_from(moved).ok()).and_then(|n| data.get(..n));
        let taken = taken.ok_or("write_all moved further than it had bytes")?;
        same("write_all", &Ok(taken.len()), &self.model.write(taken))?;
        match got {
            Err(refusal) if leeway.excuses(&refusal) => Ok(()),
            got => same("write_all", &got, &self.model.write(&data[taken.len()..]).map(drop)),
        }?;
        same("bytes that write_all took", &self.subject.position(), &self.model.position())
    }

    fn read(&mut self, n: usize, leeway: Leeway) -> Result<(), String> {
        let mut buf = vec![0xEE; n];
        let got = self.subject.read(&mut buf);
        let read = was_read("read", &buf, got, self.model.rest(), leeway)?;
        self.advance(read)
    }

    fn read_vectored(&mut self, sizes: [usize; 3], leeway: Leeway) -> Result<(), String> {
        let mut buf = vec![0xEE; sizes.iter().sum()];
        let (first, rest) = buf.split_at_mut(sizes[0]);
        let (second, third) = rest.split_at_mut(sizes[1]);
        let got = self.subject.read_vectored([first, second, third]);
        let read = was_read("read_vectored", &buf, got, self.model.rest(), leeway)?;
        self.advance(read)
    }

    fn read_at(&mut self, n: usize, place: u64, leeway: Leeway) -> Result<(), String> {
        let mut buf = vec![0xEE; n];
        let got = self.subject.read_at(&mut buf, place);
        was_read("read_at", &buf, got, self.model.rest_from(place), leeway).map(drop)
    }

    fn read_to_end(&mut self, leeway: Leeway) -> Result<(), String> {
        match self.subject.read_to_end() {
            Err(refusal) if leeway.excuses(&refusal) => self.follow("read_to_end"),
            Err(refusal) => Err(format!("read_to_end refused: {refusal:?}")),
            Ok(rest) => {
                same_bytes("read_to_end", &rest, self.model.rest())?;
                self.advance(rest.len())
            }
        }
    }

    fn read_whole(&mut self, leeway: Leeway) -> Result<(), String> {
        match self.subject.to_vec() {
            Err(refusal) if leeway.excuses(&refusal) => Ok(()),
            Err(refusal) => Err(format!("to_vec refused: {refusal:?}")),
            Ok(all) => same_bytes("to_vec", &all, self.model.content()),
        }
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
            (got, there) => {
                Err(format!("read_exact returned {got:?}, {:?} bytes there", there.map(<[u8]>::len)))
            }
        }
    }

    /// Moves the model to where the subject stands. No promise says how far a read of many bytes moves before
    /// it fails, except that it stays between its start and the end.
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
        // It may lend more the second time, but the first bytes are the same.
        same_bytes("fill_buf the second time", &lent[..lent.len().min(first.len())], &first)?;
        let rest = self.model.rest();
        let whole = rest.len().min(if leeway == Leeway::None { rest.len() } else { lent.len().max(1) });
        same_bytes("fill_buf", lent, &rest[..whole])?;
        let used = n.min(lent.len());
        self.subject.consume(used);
        self.advance(used)
    }

    /// Whatever the result is, the target has the bytes by which the position moved.
    fn copy_to(&mut self, room: usize, leeway: Leeway) -> Result<(), String> {
        let mut target = Target::new(room);
        let got = self.subject.copy_to(&mut target);
        let rest = self.model.rest();
        let fits = rest.len().min(room);
        same_bytes("copy_to", &target.taken, &rest[..fits.min(target.taken.len())])?;
        match got {
            Err(refusal) if leeway.excuses(&refusal) => {}
            got => {
                let whole = if fits < rest.len() { Err(Refusal::TargetFull) } else { Ok(fits as u64) };
                same("copy_to", &got, &whole)?;
                same("bytes that copy_to copied", &target.taken.len(), &fits)?;
            }
        }
        self.advance(target.taken.len())
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

    /// Compares what must agree after every operation, and with `look` the whole content.
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

/// What one read read: the first bytes of `rest`, as many as the leeway asks for. Returns how many.
fn was_read(
    what: &str,
    buf: &[u8],
    got: Result<usize, Refusal>,
    rest: &[u8],
    leeway: Leeway,
) -> Result<usize, String> {
    let mut there = &rest[..buf.len().min(rest.len())];
    match &got {
        Err(refusal) if leeway.excuses(refusal) => return Ok(0),
        Ok(n @ 1..) if leeway >= Leeway::Fail => there = there.get(..*n).unwrap_or(there),
        _ => {}
    }
    same(what, &got, &Ok(there.len()))?;
    same_bytes(what, &buf[..there.len()], there)?;
    Ok(there.len())
}
