//! Does the driver find bugs? It is run over subjects with one planted bug each, and must find each of them;
//! over a subject without a bug it must find nothing. What it prints must be a test.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small made-up sizes")]

use overspill_tests::driver::{Leeway, Mismatch, Pair, Subject, Target, Watch, run};
use overspill_tests::model::Model;
use overspill_tests::ops::{Op, Refusal, sequences};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use std::io::SeekFrom;

const CAPACITY: u64 = 200;
const PAGE: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    /// The control: no bug.
    None,
    GapKeepsOldBytes,
    WriteLosesLastByteOfPage,
    WriteTakesNothingWhenFull,
    VectoredWriteDropsThirdSlice,
    ReadStopsBeforeEnd,
    ReadDoesNotMove,
    ReadToEndLeavesOneByte,
    ReadExactRunsPastEnd,
    FillBufLendsLessTheSecondTime,
    FillBufLendsOneByte,
    FillBufLendsNothing,
    RefusedSeekMoves,
    SetLenPullsPositionBack,
    ClearKeepsPosition,
    RenewKeepsContent,
    LenLagsOneBehind,
    FlushFails,
    PanicsPastEnd,
    ReadAtMoves,
    WriteAtMoves,
    WriteAtIgnoresThePlace,
    ToVecStartsAtPosition,
    CopyToStartsOver,
    CopyToLosesWhatTheTargetRefuses,
    CopyToIgnoresAFullTarget,
}

const BUGS: [Bug; 25] = [
    Bug::GapKeepsOldBytes,
    Bug::WriteLosesLastByteOfPage,
    Bug::WriteTakesNothingWhenFull,
    Bug::VectoredWriteDropsThirdSlice,
    Bug::ReadStopsBeforeEnd,
    Bug::ReadDoesNotMove,
    Bug::ReadToEndLeavesOneByte,
    Bug::ReadExactRunsPastEnd,
    Bug::FillBufLendsLessTheSecondTime,
    Bug::FillBufLendsOneByte,
    Bug::FillBufLendsNothing,
    Bug::RefusedSeekMoves,
    Bug::SetLenPullsPositionBack,
    Bug::ClearKeepsPosition,
    Bug::RenewKeepsContent,
    Bug::LenLagsOneBehind,
    Bug::FlushFails,
    Bug::PanicsPastEnd,
    Bug::ReadAtMoves,
    Bug::WriteAtMoves,
    Bug::WriteAtIgnoresThePlace,
    Bug::ToVecStartsAtPosition,
    Bug::CopyToStartsOver,
    Bug::CopyToLosesWhatTheTargetRefuses,
    Bug::CopyToIgnoresAFullTarget,
];

/// The model with one bug.
struct Planted {
    inner: Model,
    bug: Bug,
    /// Bytes that were in the content once, for the bug that shows them again.
    stale: Vec<u8>,
    fills: usize,
}

impl Planted {
    fn new(bug: Bug) -> Self {
        Planted { inner: Model::new(Vec::new(), CAPACITY), bug, stale: vec![7; CAPACITY as usize], fills: 0 }
    }

    fn overwrite(&mut self, start: u64, bytes: &[u8]) {
        let position = self.inner.position();
        self.inner.seek(SeekFrom::Start(start)).unwrap();
        self.inner.write(bytes).unwrap();
        self.inner.seek(SeekFrom::Start(position)).unwrap();
    }

    fn advance(&mut self, n: usize) {
        self.inner.seek(SeekFrom::Current(n as i64)).unwrap();
    }
}

impl Subject for Planted {
    fn write(&mut self, data: &[u8]) -> Result<usize, Refusal> {
        let (end, start) = (self.inner.content().len(), self.inner.position());
        let taken = match self.inner.write(data) {
            Err(Refusal::Full) if self.bug == Bug::WriteTakesNothingWhenFull => return Ok(0),
            other => other?,
        };
        let page_end = PAGE as u64 - 1;
        match self.bug {
            Bug::GapKeepsOldBytes if taken > 0 && start > end as u64 => {
                let old = self.stale[end..start as usize].to_vec();
                self.overwrite(end as u64, &old);
            }
            Bug::WriteLosesLastByteOfPage if start < page_end && start + taken as u64 > page_end => {
                self.overwrite(page_end, &[0]);
            }
            _ => {}
        }
        Ok(taken)
    }

    fn write_vectored(&mut self, slices: [&[u8]; 3]) -> Result<usize, Refusal> {
        if self.bug == Bug::VectoredWriteDropsThirdSlice {
            self.write(&slices[..2].concat()).map(|n| n + slices[2].len())
        } else {
            self.write(&slices.concat())
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, Refusal> {
        assert!(
            self.bug != Bug::PanicsPastEnd || self.inner.position() <= self.len(),
            "read past the end by {}",
            self.inner.position() - self.len()
        );
        let rest = self.inner.rest();
        let there = rest.len() - usize::from(self.bug == Bug::ReadStopsBeforeEnd && !rest.is_empty());
        let n = there.min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        if self.bug != Bug::ReadDoesNotMove {
            self.advance(n);
        }
        Ok(n)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), Refusal> {
        match self.inner.rest().get(..buf.len()) {
            Some(there) => {
                buf.copy_from_slice(there);
                self.advance(buf.len());
                Ok(())
            }
            None => {
                if self.bug == Bug::ReadExactRunsPastEnd {
                    self.advance(buf.len());
                }
                Err(Refusal::EndOfFile)
            }
        }
    }

    fn read_to_end(&mut self) -> Result<Vec<u8>, Refusal> {
        let mut all = self.inner.rest().to_vec();
        if self.bug == Bug::ReadToEndLeavesOneByte {
            all.pop();
        }
        self.advance(all.len());
        Ok(all)
    }

    fn fill_buf(&mut self) -> Result<&[u8], Refusal> {
        self.fills += 1;
        let rest = self.inner.rest();
        Ok(match self.bug {
            Bug::FillBufLendsLessTheSecondTime if self.fills.is_multiple_of(2) => &rest[..rest.len() / 2],
            Bug::FillBufLendsOneByte => &rest[..rest.len().min(1)],
            Bug::FillBufLendsNothing => &[],
            _ => rest,
        })
    }

    fn consume(&mut self, n: usize) {
        self.advance(n);
    }

    fn seek(&mut self, to: SeekFrom) -> Result<u64, Refusal> {
        let sought = self.inner.seek(to);
        if sought.is_err() && self.bug == Bug::RefusedSeekMoves {
            self.inner.seek(SeekFrom::Start(0)).unwrap();
        }
        sought
    }

    fn set_len(&mut self, len: u64) -> Result<(), Refusal> {
        self.inner.set_len(len)?;
        if self.bug == Bug::SetLenPullsPositionBack && self.inner.position() > len {
            self.inner.seek(SeekFrom::Start(len)).unwrap();
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Refusal> {
        if self.bug != Bug::ClearKeepsPosition {
            self.inner.seek(SeekFrom::Start(0))?;
        }
        self.inner.set_len(0)
    }

    fn renew(&mut self) -> Result<(), Refusal> {
        self.inner.seek(SeekFrom::Start(0))?;
        if self.bug == Bug::RenewKeepsContent { Ok(()) } else { self.inner.set_len(0) }
    }

    fn flush(&mut self) -> Result<(), Refusal> {
        if self.bug == Bug::FlushFails { Err(Refusal::Failed("flush".into())) } else { Ok(()) }
    }

    fn read_at(&mut self, buf: &mut [u8], offset: u64) -> Result<usize, Refusal> {
        let rest = self.inner.rest_from(offset);
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        if self.bug == Bug::ReadAtMoves {
            self.advance(n);
        }
        Ok(n)
    }

    fn write_at(&mut self, data: &[u8], offset: u64) -> Result<usize, Refusal> {
        let place = if self.bug == Bug::WriteAtIgnoresThePlace { self.inner.position() } else { offset };
        let taken = self.inner.write_at(data, place)?;
        if self.bug == Bug::WriteAtMoves {
            self.advance(taken);
        }
        Ok(taken)
    }

    fn to_vec(&mut self) -> Result<Vec<u8>, Refusal> {
        let all = self.bug != Bug::ToVecStartsAtPosition;
        Ok(if all { self.inner.content() } else { self.inner.rest() }.to_vec())
    }

    fn copy_to(&mut self, target: &mut Target) -> Result<u64, Refusal> {
        let rest = if self.bug == Bug::CopyToStartsOver { self.inner.content() } else { self.inner.rest() };
        let rest = rest.to_vec();
        let mut copied = 0;
        while copied < rest.len() {
            match target.take(&rest[copied..]) {
                0 if self.bug == Bug::CopyToIgnoresAFullTarget => break,
                0 => {
                    let lost = self.bug == Bug::CopyToLosesWhatTheTargetRefuses;
                    self.advance(if lost { rest.len() } else { copied });
                    return Err(Refusal::TargetFull);
                }
                taken => copied += taken,
            }
        }
        self.advance(copied);
        Ok(copied as u64)
    }

    fn position(&self) -> u64 {
        self.inner.position()
    }

    fn len(&self) -> u64 {
        let lag = u64::from(self.bug == Bug::LenLagsOneBehind);
        (self.inner.content().len() as u64).saturating_sub(lag)
    }

    fn content(&mut self) -> Result<Vec<u8>, Refusal> {
        Ok(self.inner.content().to_vec())
    }
}

fn one_run(bug: Bug, ops: &[Op]) -> Result<(), Mismatch> {
    run(&mut [Pair::empty(Planted::new(bug), CAPACITY)], ops, Leeway::None, Watch::AtEnd)
}

/// What the first of 400 fixed random sequences that finds the bug says.
fn found(bug: Bug) -> Option<Mismatch> {
    let mut runner = TestRunner::deterministic();
    let sequences = sequences(PAGE, true, 48);
    (0..400).find_map(|_| one_run(bug, &sequences.new_tree(&mut runner).unwrap().current()).err())
}

#[test]
fn every_planted_bug_is_found() {
    let missed: Vec<Bug> = BUGS.into_iter().filter(|&bug| found(bug).is_none()).collect();
    assert_eq!(missed, [], "not found");
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert!(found(Bug::None).is_none());
}

#[test]
fn a_mismatch_prints_as_a_test() {
    let ops = [Op::Write(3), Op::Seek(SeekFrom::End(-1)), Op::Flush, Op::Read(1)];
    let printed = one_run(Bug::FlushFails, &ops).unwrap_err().to_string();
    let wanted = "    let ops = [\n        Write(3),\n        Seek(End(-1)),\n        Flush,\n        Read(1),\n    ];\n";
    assert!(printed.contains(wanted), "{printed}");
    assert!(
        printed.starts_with("step 2, Flush: flush returned Err(Failed(\"flush\")), should be Ok(())"),
        "{printed}"
    );
}

#[test]
fn leeway_is_for_pieces_short_writes_and_refusals_only() {
    let with = |bug, capacity, ops: &[Op], leeway| {
        run(&mut [Pair::empty(Planted::new(bug), capacity)], ops, leeway, Watch::AtEnd)
    };
    // The subject has less room than its model: it stops short of what the model takes, then refuses.
    let full = [Op::WriteAll(150), Op::Write(60), Op::Write(1), Op::SetLen(400)];
    assert!(with(Bug::None, 500, &full, Leeway::Pieces).is_err(), "a refusal, where there is room");
    assert!(with(Bug::None, 500, &full, Leeway::Refuse).is_ok(), "a refusal, where it may be");

    let short_read = [Op::Write(3), Op::Seek(SeekFrom::Start(0)), Op::Read(3)];
    assert!(with(Bug::ReadStopsBeforeEnd, CAPACITY, &short_read, Leeway::Refuse).is_err());

    let pieces = [Op::Write(3), Op::Seek(SeekFrom::Start(0)), Op::FillBuf(3)];
    assert!(with(Bug::FillBufLendsOneByte, CAPACITY, &pieces, Leeway::None).is_err());
    assert!(with(Bug::FillBufLendsOneByte, CAPACITY, &pieces, Leeway::Pieces).is_ok());
    assert!(with(Bug::FillBufLendsNothing, CAPACITY, &pieces, Leeway::Pieces).is_err());
}
