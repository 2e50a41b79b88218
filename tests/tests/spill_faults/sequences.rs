//! Sequences written by hand: each public operation at least once where it reaches the store.

use super::{PAGE, setup};
use overspill::Checksums;
use overspill_tests::ops::Op::*;
use overspill_tests::pools::PoolOp::{self, *};
use overspill_tests::pools::PoolSetup;
use std::io::SeekFrom::{End, Start};

/// A name, what the run starts from, and its operations.
pub(crate) type Sequence = (&'static str, PoolSetup, Vec<PoolOp>);

/// All of them.
pub(crate) fn named_sequences() -> Vec<Sequence> {
    [writes(), reads(), transfers(), lengths(), files(), limits(), several_buffers(), given(), slots()]
        .concat()
}

/// A pool without memory. With checksums, a small write reads first.
fn none() -> PoolSetup {
    checked(setup(PAGE, 0, 1))
}

/// A pool of one page.
fn one() -> PoolSetup {
    setup(PAGE, 2, 1)
}

/// A pool of three pages, with checksums.
fn few() -> PoolSetup {
    checked(setup(PAGE, 6, 1))
}

/// Four buffers that share four pages, with checksums.
fn shared() -> PoolSetup {
    checked(setup(PAGE, 8, 4))
}

fn checked(setup: PoolSetup) -> PoolSetup {
    PoolSetup { checksums: Checksums::On, ..setup }
}

/// Turns to buffer `n`.
fn turn(n: usize) -> PoolOp {
    Do(Turn(n))
}

fn at(place: u64) -> PoolOp {
    Do(Seek(Start(place)))
}

fn small(n: usize) -> Vec<PoolOp> {
    vec![Do(Write(3)); n]
}

fn writes() -> Vec<Sequence> {
    vec![
        (
            "writes past all memory",
            none(),
            vec![Do(Write(100)), Do(WriteAll(61)), Do(WriteVectored([9, 0, 30]))],
        ),
        ("small writes over one page", one(), small(20)),
        (
            "writing over, in the middle and over gaps",
            few(),
            vec![
                Do(WriteAll(50)),
                at(12),
                Do(Write(20)),
                at(90),
                Do(Write(5)),
                at(70),
                Do(WriteAll(3)),
                at(0),
                Do(WriteAll(33)),
            ],
        ),
        (
            "visits back and forth until pages are hot",
            few(),
            [0, 40, 8, 40, 16, 40, 24, 40]
                .repeat(6)
                .into_iter()
                .flat_map(|place| [at(place), Do(Write(2)), at(place), Do(Read(3))])
                .collect(),
        ),
    ]
}

fn reads() -> Vec<Sequence> {
    vec![(
        "reads in all ways",
        one(),
        vec![
            Do(WriteAll(70)),
            at(1),
            Do(Read(30)),
            Do(ReadExact(8)),
            Do(ReadVectored([3, 9, 5])),
            at(5),
            Do(FillBuf(3)),
            Do(FillBuf(100)),
            Do(ReadToEnd),
            at(2),
            Do(ReadToEnd),
            Do(ReadExact(1)),
        ],
    )]
}

fn transfers() -> Vec<Sequence> {
    vec![
        (
            "reads and writes at places, over pages, gaps and the end",
            few(),
            vec![
                Do(WriteAll(50)),
                Do(ReadAt(20, 3)),
                Do(WriteAt(3, 12)),
                Do(WriteAt(20, 40)),
                Do(ReadAt(9, 44)),
                Do(WriteAt(5, 90)),
                at(4),
                Do(ReadAt(200, 0)),
                Do(Read(4)),
                Do(WriteAt(2, 21)),
                Do(ReadAt(1, 95)),
            ],
        ),
        (
            "the whole content, from anywhere",
            one(),
            vec![Do(WriteAll(70)), Do(ToVec), at(9), Do(ToVec), Do(Write(3)), Do(Spill), Do(ToVec)],
        ),
        (
            "copies of the rest, to targets with and without room",
            none(),
            vec![
                Do(WriteAll(70)),
                at(5),
                Do(CopyTo(30)),
                Do(CopyTo(usize::MAX)),
                Do(CopyTo(0)),
                at(40),
                Do(CopyTo(30)),
                Do(WriteAt(9, 66)),
                Do(CopyTo(100)),
            ],
        ),
    ]
}

fn lengths() -> Vec<Sequence> {
    vec![
        (
            "length both ways",
            one(),
            vec![
                Do(WriteAll(60)),
                Do(SetLen(37)),
                Do(SetLen(80)),
                at(20),
                Do(Truncate),
                Do(SetLen(64)),
                at(0),
                Do(ReadToEnd),
            ],
        ),
        (
            "spilled, brought back, cleared and trimmed",
            few(),
            vec![
                Do(WriteAll(30)),
                Do(Spill),
                at(3),
                Do(Write(4)),
                Do(Spill),
                Do(Clear),
                Trim,
                Do(WriteAll(40)),
                Do(Renew),
                Trim,
            ],
        ),
    ]
}

fn files() -> Vec<Sequence> {
    vec![
        (
            "to a file without a name",
            few(),
            vec![Do(WriteAll(50)), at(7), IntoFile, Do(WriteAll(20)), IntoFile, IntoFile],
        ),
        (
            "to a file with a name",
            few(),
            vec![
                Do(WriteAll(50)),
                at(30),
                Do(Write(9)),
                Persist,
                Do(WriteAll(64)),
                Do(Spill),
                Persist,
                Persist,
            ],
        ),
    ]
}

fn limits() -> Vec<Sequence> {
    vec![
        (
            "a disk limit that makes freed blocks go at once",
            PoolSetup { disk: 64, ..one() },
            vec![
                Do(WriteAll(60)),
                Do(SetLen(16)),
                DiskLimit(40),
                Do(WriteAll(20)),
                DiskLimit(0),
                Do(Clear),
                DiskLimit(64),
                Do(Write(60)),
            ],
        ),
        (
            "a memory limit that falls and rises",
            few(),
            vec![
                Do(WriteAll(40)),
                MemoryLimit(8),
                at(0),
                Do(Read(20)),
                MemoryLimit(0),
                Do(Write(9)),
                MemoryLimit(64),
                at(4),
                Do(Read(4)),
                Do(Read(4)),
                Do(Read(4)),
                Do(Write(4)),
                MemoryLimit(3),
            ],
        ),
        (
            "limits of one buffer",
            shared(),
            vec![
                Limited(8, u64::MAX),
                Do(WriteAll(60)),
                turn(1),
                Limited(0, 24),
                Do(Write(60)),
                at(3),
                Do(Write(9)),
                turn(0),
                at(3),
                Do(ReadToEnd),
            ],
        ),
    ]
}

fn several_buffers() -> Vec<Sequence> {
    vec![
        (
            "frames reclaimed from idle buffers",
            shared(),
            (0..12).flat_map(|n| [vec![turn(n)], small(4), vec![at(1), Do(Read(5))]].concat()).collect(),
        ),
        (
            "one large buffer, and small ones that reclaim from it",
            shared(),
            [
                vec![Do(WriteAll(200))],
                (0..9).flat_map(|n| [vec![turn(1 + n % 3)], small(3)].concat()).collect(),
                vec![turn(0), at(0), Do(ReadToEnd)],
            ]
            .concat(),
        ),
    ]
}

fn given() -> Vec<Sequence> {
    vec![
        (
            "pages of given memory that are written to, cut and evicted",
            setup(PAGE, 64, 1),
            vec![
                Do(Push(6 * PAGE)),
                Do(Push(PAGE + 3)),
                at(11),
                Do(Write(9)),
                MemoryLimit(4 * PAGE),
                at(3),
                Do(Write(2)),
                Do(SetLen(5 * PAGE as u64 + 2)),
                at(5 * PAGE as u64 + 2),
                Do(WriteAll(20)),
                MemoryLimit(0),
                at(2),
                Do(ReadToEnd),
            ],
        ),
        (
            "given memory that another buffer needs",
            setup(PAGE, 16, 2),
            vec![
                Do(Push(2 * PAGE)),
                at(0),
                Do(ReadAt(3, 9)),
                Do(Turn(1)),
                Do(WriteAll(6 * PAGE)),
                Do(Push(PAGE)),
                at(0),
                Do(WriteAll(9 * PAGE)),
                Do(Turn(0)),
                Do(Spill),
                Do(ReadToEnd),
                Do(Push(2 * PAGE)),
                Do(Clear),
            ],
        ),
    ]
}

fn slots() -> Vec<Sequence> {
    vec![(
        "a page that outgrows its slot",
        checked(setup(16 << 10, 1, 1)),
        vec![
            Do(WriteAll(3000)),
            Do(Spill),
            Do(WriteAll(3000)),
            Do(Spill),
            Do(WriteAll(9000)),
            Do(Spill),
            at(3),
            Do(Write(5)),
            Do(Seek(End(0))),
            Do(WriteAll(20_000)),
            MemoryLimit(0),
            at(0),
            Do(SetLen(5000)),
            at(5000),
            Do(WriteAll(9000)),
            at(10),
            Do(ReadToEnd),
        ],
    )]
}
