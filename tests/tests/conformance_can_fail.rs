//! Can the checkers fail? For every rule there is a type that breaks it, and the rule must say so.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small made-up sizes")]

use overspill_core::{CapacityError, Fixed, Medium, ReadMedium};
use overspill_tests::conformance::write::Writers;
use overspill_tests::conformance::{ROOM, Rule, buf_read, medium, read, seek, write};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{self, BufRead, Cursor, IoSlice, IoSliceMut, Read, Seek, SeekFrom, Write};

/// What is wrong with a [`Bad`].
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The control.
    Nothing,
    ReadSkipsAByte,
    ReadClaimsTooMuch,
    ReadStopsEarly,
    EmptyReadMoves,
    EndFails,
    ReadExactGivesLess,
    ReadExactSaysOther,
    ReadToEndClears,
    ReadToEndCountsAll,
    ReadToStringReplaces,
    ReadVectoredBackwards,
    WriteTakesNothing,
    WriteLosesAByte,
    EmptyWriteWrites,
    WriteAllStopsEarly,
    WriteVectoredForgetsFirst,
    FlushRepeats,
    FullIsAnotherKind,
    SeekEndIsCurrent,
    BeforeZeroIsZero,
    RefusedSeekMoves,
    FarEndWraps,
    SeekStopsAtEnd,
    SeekRelativeIsAbsolute,
    ReadToEndMovesBack,
    GapKeepsOldBytes,
    SeekPastEndExtends,
    WriteAppends,
    FillBufShrinks,
    ConsumeTakesOneMore,
    FillBufIsEmptyInBetween,
    ReadSkipsWhatIsLent,
    ReadUntilDropsTheByte,
    SkipUntilCountsLess,
    ReadLineReplaces,
}
use Fault::*;

/// std's cursor, which keeps all the rules, but for one fault.
struct Bad {
    inner: Cursor<Vec<u8>>,
    fault: Fault,
    /// Calls of `fill_buf` so far.
    fills: usize,
}

impl Bad {
    fn rest(&self) -> Vec<u8> {
        let start = self.inner.position().min(self.inner.get_ref().len() as u64);
        self.inner.get_ref()[start as usize..].to_vec()
    }

    fn at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn step(&mut self, by: u64) {
        self.inner.set_position(self.inner.position() + by);
    }
}

impl Read for Bad {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.fault {
            ReadSkipsAByte if self.inner.position() == 1 => self.step(1),
            ReadStopsEarly if self.rest().len() == 1 => return Ok(0),
            EmptyReadMoves if buf.is_empty() => self.step(1),
            EndFails if self.at_end() && !buf.is_empty() => self.inner.rewind()?,
            ReadSkipsWhatIsLent if self.fills > 0 => self.step(1),
            _ => {}
        }
        let n = self.inner.read(buf)?;
        Ok(if self.fault == ReadClaimsTooMuch { n + 1 } else { n })
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> io::Result<()> {
        match self.fault {
            ReadExactGivesLess => self.inner.read(buf).map(drop),
            ReadExactSaysOther => self.inner.read_exact(buf).map_err(io::Error::other),
            _ => self.inner.read_exact(buf),
        }
    }

    fn read_to_end(&mut self, all: &mut Vec<u8>) -> io::Result<usize> {
        let before = Vec::len(all); // not Medium's
        if self.fault == ReadToEndClears {
            all.clear();
        }
        let n = self.inner.read_to_end(all)?;
        if self.fault == ReadToEndMovesBack {
            self.inner.set_position(0);
        }
        Ok(if self.fault == ReadToEndCountsAll { before + n } else { n })
    }

    fn read_to_string(&mut self, string: &mut String) -> io::Result<usize> {
        if self.fault == ReadToStringReplaces {
            let rest = self.rest();
            string.push_str(&String::from_utf8_lossy(&rest));
            self.step(rest.len() as u64);
            return Ok(rest.len());
        }
        self.inner.read_to_string(string)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        if self.fault == ReadVectoredBackwards {
            bufs.reverse();
        }
        self.inner.read_vectored(bufs)
    }
}

impl Write for Bad {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let position = self.inner.position();
        let len = self.inner.get_ref().len() as u64;
        match self.fault {
            WriteTakesNothing if data.len() > 1 => return Ok(0),
            WriteLosesAByte if data.len() > 1 => {
                self.inner.write_all(&data[1..])?;
                return Ok(data.len());
            }
            EmptyWriteWrites if data.is_empty() => return self.inner.write(b"!").map(|_| 0),
            GapKeepsOldBytes if position > len => self.inner.get_mut().resize(position as usize, 7),
            WriteAppends => self.inner.set_position(len.max(position)),
            FullIsAnotherKind if position >= ROOM as u64 => return Err(io::ErrorKind::StorageFull.into()),
            FullIsAnotherKind => {
                let room = ROOM - position as usize;
                return self.inner.write(&data[..data.len().min(room)]);
            }
            _ => {}
        }
        self.inner.write(data)
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        if self.fault == WriteAllStopsEarly && data.len() > 5 {
            return self.inner.write_all(&data[..5]);
        }
        let mut left = data;
        while !left.is_empty() {
            match self.write(left)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => left = &left[n..],
            }
        }
        Ok(())
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let n = self.inner.write_vectored(bufs)?;
        if self.fault == WriteVectoredForgetsFirst && n > 3 {
            let at = self.inner.position() as usize - n;
            self.inner.get_mut()[at] = 0;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.fault == FlushRepeats && self.inner.position() > 2 {
            let last = self.inner.get_ref()[self.inner.position() as usize - 1];
            self.inner.write_all(&[last])?;
        }
        self.inner.flush()
    }
}

impl Seek for Bad {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (here, len) = (self.inner.position(), self.inner.get_ref().len() as u64);
        let sought = match (self.fault, to) {
            (SeekEndIsCurrent, SeekFrom::End(offset)) => self.inner.seek(SeekFrom::Current(offset)),
            (FarEndWraps, SeekFrom::Current(offset)) => {
                self.inner.set_position(here.wrapping_add_signed(offset));
                Ok(self.inner.position())
            }
            _ => self.inner.seek(to),
        };
        match (self.fault, sought) {
            (BeforeZeroIsZero, Err(_)) => self.inner.seek(SeekFrom::Start(0)),
            (RefusedSeekMoves, Err(error)) => {
                self.inner.set_position(len + 1);
                Err(error)
            }
            (SeekStopsAtEnd, Ok(place)) if place > len => self.inner.seek(SeekFrom::End(0)),
            (SeekPastEndExtends, Ok(place)) if place > len && place < ROOM as u64 => {
                self.inner.get_mut().resize(place as usize, 0);
                Ok(place)
            }
            (_, sought) => sought,
        }
    }

    fn seek_relative(&mut self, offset: i64) -> io::Result<()> {
        let to = match self.fault {
            SeekRelativeIsAbsolute if offset > 0 => SeekFrom::Start(offset as u64),
            _ => SeekFrom::Current(offset),
        };
        self.seek(to).map(drop)
    }
}

impl BufRead for Bad {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.fills += 1;
        let even = self.fills.is_multiple_of(2);
        let lent = self.inner.fill_buf()?;
        Ok(match self.fault {
            FillBufShrinks if even => &lent[..lent.len() / 2],
            FillBufIsEmptyInBetween if lent.len() == 1 => &[],
            _ => lent,
        })
    }

    fn consume(&mut self, n: usize) {
        self.inner.consume(if self.fault == ConsumeTakesOneMore && n > 0 { n + 1 } else { n });
    }

    fn read_until(&mut self, byte: u8, all: &mut Vec<u8>) -> io::Result<usize> {
        let n = self.inner.read_until(byte, all)?;
        if self.fault == ReadUntilDropsTheByte && n > 0 {
            all.pop();
        }
        Ok(n)
    }

    fn skip_until(&mut self, byte: u8) -> io::Result<usize> {
        let n = self.inner.skip_until(byte)?;
        Ok(if self.fault == SkipUntilCountsLess { n.saturating_sub(1) } else { n })
    }

    fn read_line(&mut self, line: &mut String) -> io::Result<usize> {
        if self.fault != ReadLineReplaces {
            return self.inner.read_line(line);
        }
        let mut bytes = Vec::new();
        let n = self.inner.read_until(b'\n', &mut bytes)?;
        line.push_str(&String::from_utf8_lossy(&bytes));
        Ok(n)
    }
}

fn bad(fault: Fault) -> impl Fn(&[u8]) -> Bad {
    move |content| Bad { inner: Cursor::new(content.to_vec()), fault, fills: 0 }
}

fn writers(fault: Fault) -> Writers<impl FnMut() -> Bad, impl FnMut(&mut Bad) -> Vec<u8>> {
    Writers { make: move || bad(fault)(b""), content: |bad: &mut Bad| bad.inner.get_ref().clone() }
}

/// Each fault must break the rule it is listed with (and may break more); the control none; and no
/// rule may be left unbroken.
fn each_rule_can_fail<F, X: Copy + Debug>(
    rules: impl Fn() -> Vec<Rule<F>>,
    make: impl Fn(X) -> F,
    control: X,
    faults: &[(X, usize)],
) {
    for (rule, attempt) in rules() {
        assert!(attempt(&mut make(control)).is_ok(), "nothing is wrong, but {rule:?} is broken");
    }
    for &(fault, number) in faults {
        let (rule, attempt) = rules()[number];
        assert!(attempt(&mut make(fault)).is_err(), "{fault:?} does not break {rule:?}");
    }
    let broken: BTreeSet<usize> = faults.iter().map(|&(_, number)| number).collect();
    assert!(broken.into_iter().eq(0..rules().len()), "some rule has no fault that breaks it");
}

#[test]
fn each_rule_for_readers_can_fail() {
    let faults = [
        (ReadSkipsAByte, 0),
        (ReadClaimsTooMuch, 0),
        (ReadStopsEarly, 0),
        (EmptyReadMoves, 1),
        (EndFails, 2),
        (ReadExactGivesLess, 3),
        (ReadExactSaysOther, 3),
        (ReadToEndClears, 4),
        (ReadToEndCountsAll, 4),
        (ReadToStringReplaces, 5),
        (ReadVectoredBackwards, 6),
    ];
    each_rule_can_fail(read::rules, bad, Nothing, &faults);
}

#[test]
fn each_rule_for_writers_can_fail() {
    let faults = [
        (WriteTakesNothing, 0),
        (WriteLosesAByte, 0),
        (EmptyWriteWrites, 1),
        (WriteAllStopsEarly, 2),
        (WriteVectoredForgetsFirst, 3),
        (FlushRepeats, 4),
    ];
    each_rule_can_fail(write::rules, writers, Nothing, &faults);
}

/// The rule for limited writers has a control of its own: std's cursor over memory that cannot grow.
#[test]
fn the_rule_for_limited_writers_can_fail() {
    let (rule, attempt) = write::limited_rule();
    assert!(attempt(&mut writers(Nothing)).is_err(), "a writer without limits keeps {rule:?}");
    assert!(attempt(&mut writers(FullIsAnotherKind)).is_err(), "another kind of error keeps {rule:?}");
}

#[test]
fn each_rule_for_seekers_can_fail() {
    let faults = [
        (SeekEndIsCurrent, 0),
        (BeforeZeroIsZero, 1),
        (RefusedSeekMoves, 1),
        (FarEndWraps, 2),
        (SeekStopsAtEnd, 3),
        (SeekRelativeIsAbsolute, 4),
        (ReadToEndMovesBack, 5),
    ];
    each_rule_can_fail(seek::rules, bad, Nothing, &faults);
}

#[test]
fn each_rule_for_gaps_can_fail() {
    let faults = [(GapKeepsOldBytes, 0), (SeekPastEndExtends, 1), (WriteAppends, 2)];
    each_rule_can_fail(seek::gap_rules, bad, Nothing, &faults);
}

#[test]
fn each_rule_for_buffered_readers_can_fail() {
    let faults = [
        (FillBufShrinks, 0),
        (ConsumeTakesOneMore, 1),
        (FillBufIsEmptyInBetween, 2),
        (ReadSkipsWhatIsLent, 3),
        (ReadUntilDropsTheByte, 4),
        (SkipUntilCountsLess, 4),
        (ReadLineReplaces, 5),
    ];
    each_rule_can_fail(buf_read::rules, bad, Nothing, &faults);
}

/// Memory that keeps the rules of a medium, but for one fault.
struct BadMedium {
    inner: Fixed<[u8; medium::ROOM]>,
    fault: MediumFault,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum MediumFault {
    Nothing,
    ReadWrapsAtEnd,
    ChunkFailsAtEnd,
    ReadLosesAByte,
    ChunkIsEmpty,
    ChunkIsOneOff,
    WriteStopsAtEnd,
    WriteIsOneOff,
    WritePastEndAppends,
    WritePastEndTakesNothing,
    FullTakesNothing,
    FullForgets,
    GapKeepsOldBytes,
    RefusalCuts,
    RoomForEverything,
    FlushClears,
}

impl ReadMedium for BadMedium {
    type Error = CapacityError;

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, CapacityError> {
        match self.fault {
            MediumFault::ReadWrapsAtEnd if offset > self.len() => self.inner.read_at(0, buf),
            MediumFault::ReadLosesAByte if offset == 7 => self.inner.read_at(8, buf),
            _ => self.inner.read_at(offset, buf),
        }
    }

    fn chunk_at(&mut self, offset: u64) -> Result<&[u8], CapacityError> {
        match self.fault {
            MediumFault::ChunkFailsAtEnd if offset > self.len() => {
                self.inner.set_len(offset).map(|()| &[][..])
            }
            MediumFault::ChunkIsEmpty if offset == 5 => Ok(&[]),
            MediumFault::ChunkIsOneOff => self.inner.chunk_at(offset + u64::from(offset < self.len())),
            _ => self.inner.chunk_at(offset),
        }
    }
}

impl Medium for BadMedium {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, CapacityError> {
        let before_end = (self.len().saturating_sub(offset) as usize).min(data.len());
        match self.fault {
            MediumFault::WriteStopsAtEnd if !self.is_empty() => {
                self.inner.write_at(offset, &data[..before_end])
            }
            MediumFault::WriteIsOneOff if before_end > 1 => self.inner.write_at(offset + 1, data),
            MediumFault::WritePastEndAppends => self.inner.write_at(offset.min(self.len()), data),
            MediumFault::WritePastEndTakesNothing if offset > self.len() => Ok(0),
            MediumFault::FullTakesNothing if offset == medium::ROOM as u64 => Ok(0),
            MediumFault::FullForgets if offset == medium::ROOM as u64 => {
                self.inner.set_len(offset - 1)?;
                self.inner.write_at(offset, data)
            }
            _ => self.inner.write_at(offset, data),
        }
    }

    fn set_len(&mut self, len: u64) -> Result<(), CapacityError> {
        let old = self.inner.clone().into_inner();
        let held = self.inner.as_slice().len();
        let resized = self.inner.set_len(len);
        match (self.fault, resized) {
            (MediumFault::GapKeepsOldBytes, Ok(())) if len as usize > held => {
                self.inner.write_at(held as u64, &old[held..len as usize]).map(drop)
            }
            (MediumFault::RefusalCuts, Err(error)) => {
                self.inner.set_len(0)?;
                Err(error)
            }
            (MediumFault::RoomForEverything, Err(_)) => Ok(()),
            (_, resized) => resized,
        }
    }

    fn flush(&mut self) -> Result<(), CapacityError> {
        if self.fault == MediumFault::FlushClears { self.inner.set_len(0) } else { Ok(()) }
    }
}

#[test]
fn each_rule_for_media_can_fail() {
    use MediumFault::*;
    let make = |fault| move || BadMedium { inner: Fixed::new([0xAA; medium::ROOM]), fault };
    let faults = [
        (ReadWrapsAtEnd, 0),
        (ChunkFailsAtEnd, 0),
        (ReadLosesAByte, 1),
        (ChunkIsEmpty, 2),
        (ChunkIsOneOff, 2),
        (WriteStopsAtEnd, 3),
        (WriteIsOneOff, 3),
        (WritePastEndAppends, 4),
        (WritePastEndTakesNothing, 4),
        (FullTakesNothing, 5),
        (FullForgets, 5),
        (GapKeepsOldBytes, 6),
        (RefusalCuts, 7),
        (RoomForEverything, 7),
        (FlushClears, 8),
    ];
    each_rule_can_fail(medium::rules, make, Nothing, &faults);
}
