//! The operations, what a subject may answer, and how operations are made: one decoder from bytes, for
//! proptest and for the fuzzer.
//!
//! - An operation is four bytes, whatever they are. So proptest and the fuzzer can drop or change one without
//!   disturbing its neighbours.
//! - The kind is chosen among those that the [`Shape`] of the run switches on. This is swarm testing: where
//!   everything is on, rare pairs of operations hardly ever occur.
//! - Sizes and places cluster around multiples of the page size. A few lie at the far ends of their types.
//! - Kinds that were added later have a range of bytes of their own, so that older inputs still decode mostly
//!   as before.

use proptest::prelude::*;
use std::io::SeekFrom;
use std::ops::Range;

/// One call on a subject. The data that it writes is not part of it: see [`pattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `write` of so many bytes.
    Write(usize),
    /// `write_all` of so many bytes.
    WriteAll(usize),
    /// `write_vectored` of three slices.
    WriteVectored([usize; 3]),
    /// `read` into so many bytes.
    Read(usize),
    /// `read_exact` of so many bytes.
    ReadExact(usize),
    /// `read_vectored` into three slices.
    ReadVectored([usize; 3]),
    /// `read_to_end`.
    ReadToEnd,
    /// `fill_buf`, twice, then `consume` of so many bytes, or of all that were lent if those are fewer.
    FillBuf(usize),
    /// `seek`.
    Seek(SeekFrom),
    /// `set_position`, where there is one; else `seek` from the start.
    SetPosition(u64),
    /// `set_len`.
    SetLen(u64),
    /// Cuts or extends to the position.
    Truncate,
    /// Drops the content and rewinds.
    Clear,
    /// `flush`.
    Flush,
    /// Pushes everything to disk, where there is one.
    Spill,
    /// Drops the subject and takes a fresh one from where it came.
    Renew,
    /// The next operations go to the subject with this number, modulo how many there are.
    Turn(usize),
    /// `read_at` into so many bytes, at a place. The position stays.
    ReadAt(usize, u64),
    /// `write_at` of so many bytes, at a place. The position stays.
    WriteAt(usize, u64),
    /// `to_vec`. The position stays.
    ToVec,
    /// `copy_to` a target that takes so many bytes and then nothing.
    CopyTo(usize),
    /// `push` of so many bytes, with their memory.
    Push(usize),
}

/// What a subject may answer instead of doing an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No room: not for one byte of a write, or not for the requested length.
    Full,
    /// A seek to before 0 or past `u64::MAX`.
    OutOfRange,
    /// The content ended inside a `read_exact`.
    EndOfFile,
    /// The target of a `copy_to` takes no more.
    TargetFull,
    /// Anything else, as the error prints. The model never answers this.
    Failed(String),
}

/// Switches of the first kinds: one for each kind of [`Op`], and one for `Clear`, `Renew` and `Turn`
/// together.
const KINDS: Range<u8> = 0..17;

/// Switches of the kinds that were added later.
const LATER_KINDS: Range<u8> = 17..22;

/// The first bytes of a record that stand for a later kind, if one is switched on. The range lies below 192,
/// since the bytes from there on stand for the operations of a pool in `pools.rs`.
const LATER: Range<u8> = 160..192;

/// What the operations of one run look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sizes and places cluster around multiples of this. At least 1.
    pub page: usize,
    /// Bit k switches kind k on. If none of the first kinds is on, all of them are; if no bit is set at all,
    /// the later kinds are on, too.
    pub kinds: u32,
    /// Whether places near `i64::MAX` and `u64::MAX` occur.
    pub extremes: bool,
}

impl Shape {
    /// The operations that `bytes` stand for, four bytes each. A remainder of fewer bytes is ignored.
    pub fn decode(&self, bytes: &[u8]) -> Vec<Op> {
        bytes.chunks_exact(4).map(|record| self.op([record[0], record[1], record[2], record[3]])).collect()
    }

    fn op(&self, [kind, a, b, c]: [u8; 4]) -> Op {
        match self.kind(kind) {
            0 => Op::Write(self.size(a)),
            1 => Op::WriteAll(self.size(a)),
            2 => Op::WriteVectored([self.size(a), self.size(b), self.size(c)]),
            3 => Op::Read(self.size(a)),
            4 => Op::ReadExact(self.size(a)),
            5 => Op::ReadVectored([self.size(a), self.size(b), self.size(c)]),
            6 => Op::ReadToEnd,
            7 => Op::FillBuf(self.size(a)),
            8 => Op::Seek(SeekFrom::Start(self.place(a, b))),
            9 => Op::Seek(SeekFrom::End(self.offset(a, b, c))),
            10 => Op::Seek(SeekFrom::Current(self.offset(a, b, c))),
            11 => Op::SetPosition(self.place(a, b)),
            12 => Op::SetLen(self.place(a, b)),
            13 => Op::Truncate,
            14 => Op::Flush,
            15 => Op::Spill,
            17 => Op::ReadAt(self.size(a), self.place(b, c)),
            18 => Op::WriteAt(self.size(a), self.place(b, c)),
            19 => Op::ToVec,
            20 => Op::CopyTo(if a < 128 { usize::MAX } else { self.size(b) }),
            21 => Op::Push(self.size(a)),
            // Rare: they end what the others have built up.
            _ => match a % 4 {
                0 => Op::Clear,
                1 => Op::Renew,
                _ => Op::Turn(usize::from(b)),
            },
        }
    }

    fn kind(&self, byte: u8) -> u8 {
        let on = |kind: &u8| self.kinds >> kind & 1 == 1;
        let pick = |kinds: Range<u8>| {
            let count = kinds.clone().filter(on).count();
            kinds.filter(on).nth(usize::from(byte) % count.max(1))
        };
        let later = match byte {
            _ if !LATER.contains(&byte) => None,
            _ if self.kinds == 0 => Some(LATER_KINDS.start + byte % LATER_KINDS.len() as u8),
            _ => pick(LATER_KINDS),
        };
        later.or_else(|| pick(KINDS)).unwrap_or(byte % KINDS.end)
    }

    /// A size: a few pages at most, most often at or next to a page's end.
    fn size(&self, byte: u8) -> usize {
        const PAGES: [usize; 16] = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 8, 13];
        let pages = PAGES[usize::from(byte >> 4)].min(self.pages_max());
        match byte & 15 {
            0..4 => pages * self.page,
            4..6 => pages * self.page + 1,
            6..8 => (pages * self.page).saturating_sub(1),
            8..11 => pages * self.page + self.page / 2,
            11 => pages * self.page + self.page / 4 + 1,
            _ => usize::from(byte >> 4),
        }
    }

    /// A place from 0: within some forty pages, fewer if they are large, or at the far end.
    fn place(&self, a: u8, b: u8) -> u64 {
        if self.extremes && a >= 248 {
            let far = if a.is_multiple_of(2) { u64::MAX } else { i64::MAX as u64 };
            return far - u64::from(b % 8);
        }
        (self.size(a) + usize::from(b % 32).min(self.pages_max()) * self.page) as u64
    }

    /// Fewer pages if they are large: a few find as much as many, and faster.
    fn pages_max(&self) -> usize {
        ((64 << 10) / self.page).max(3)
    }

    /// A distance in either direction.
    fn offset(&self, a: u8, b: u8, c: u8) -> i64 {
        if self.extremes && a >= 248 {
            let inwards = i64::from(b % 8);
            return if a.is_multiple_of(2) { i64::MAX - inwards } else { i64::MIN + inwards };
        }
        let distance = (self.size(a) + usize::from(b % 8) * self.page) as i64;
        if c.is_multiple_of(3) { distance } else { -distance }
    }
}

impl Op {
    /// The bytes that it may move, or that a later comparison of the content may move because of it.
    pub fn effort(&self) -> usize {
        match *self {
            Op::Write(n) | Op::WriteAll(n) | Op::Push(n) => n,
            Op::Read(n) | Op::ReadExact(n) | Op::ReadAt(n, _) | Op::FillBuf(n) => n,
            Op::WriteVectored(sizes) | Op::ReadVectored(sizes) => sizes.iter().sum(),
            Op::Seek(SeekFrom::Start(place)) | Op::SetPosition(place) | Op::SetLen(place) => {
                usize::try_from(place / 8).unwrap_or(usize::MAX)
            }
            Op::WriteAt(n, place) => usize::try_from(place / 8).unwrap_or(usize::MAX).saturating_add(n),
            _ => 0,
        }
    }
}

/// The first of `ops`, as many as one run of a fuzzer should do: at most 128, which move at most 32 KiB in
/// all. A longer run finds no more, and in an hour there are fewer of them.
pub fn affordable<O>(mut ops: Vec<O>, effort: impl Fn(&O) -> usize) -> Vec<O> {
    const OPS_MAX: usize = 128;
    const EFFORT_MAX: usize = 32 << 10;
    let mut left = EFFORT_MAX;
    let spent = |op: &O| left.checked_sub(effort(op)).map(|rest| left = rest).is_none();
    let first = ops.iter().position(spent).unwrap_or(ops.len());
    ops.truncate(first.min(OPS_MAX));
    ops
}

/// Any sequence of at most `most` operations, with any swarm.
pub fn sequences(page: usize, extremes: bool, most: usize) -> impl Strategy<Value = Vec<Op>> {
    // Both as bytes, so that a failure shrinks by whole operations and towards small numbers.
    let kinds = prop_oneof![1 => Just(0), 4 => any::<u32>()];
    let records = prop::collection::vec(any::<[u8; 4]>(), 0..=most);
    (kinds, records)
        .prop_map(move |(kinds, records)| Shape { page, kinds, extremes }.decode(records.as_flattened()))
}

/// What step number `step` writes: never a zero, since gaps consist of zeros, and with another phase at each
/// step, so that neither stale bytes nor shifted ones look right.
pub fn pattern(step: usize, len: usize) -> Vec<u8> {
    // Prime, so that no page size divides it.
    const PERIOD: usize = 251;
    let phase = step * 59 % PERIOD;
    let period: Vec<u8> = (1..).take(PERIOD).collect();
    let mut data = period.repeat((phase + len).div_ceil(PERIOD));
    data.truncate(phase + len);
    data.split_off(phase)
}
