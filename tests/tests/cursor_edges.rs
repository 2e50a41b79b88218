//! The edge cases of `Cursor`, by hand: the far end of `u64`, what a refusal says and leaves behind,
//! media that fail and that have no end. Odd media are in `cursor_media.rs`.

use embedded_io::{Error as _, ErrorKind};
use overspill_core::{
    CapacityError, Cursor, CursorError, Fixed, InvalidSeek, Medium, ReadMedium, SeekFrom, WriteError,
};
use overspill_tests::driver::Subject;
use overspill_tests::faulty::{Faults, Faulty, FaultyError};
use overspill_tests::ops::Refusal;
use std::error::Error as _;

/// A cursor over each medium, holding `abc`; the fixed ones have room for eight bytes.
fn each_cursor(test: impl Fn(&str, &mut dyn Subject)) {
    let mut memory = *b"abc?????";
    let heapless = || heapless::Vec::<u8, 8>::from_slice(b"abc").unwrap();
    test("array", &mut Cursor::new(Fixed::with_len(memory, 3).unwrap()));
    test("borrowed", &mut Cursor::new(Fixed::with_len(&mut memory[..], 3).unwrap()));
    test("heapless::Vec", &mut Cursor::new(heapless()));
    test("VecView", &mut Cursor::new(heapless().as_mut_view()));
    test("Vec", &mut Cursor::new(b"abc".to_vec()));
}

fn eight_bytes() -> Cursor<Fixed<[u8; 8]>> {
    Cursor::new(Fixed::with_len(*b"abc?????", 3).unwrap())
}

/// The position and the bytes of a write that was refused for want of room.
fn full<T, E: std::fmt::Debug>(result: Result<T, WriteError<E>>) -> (u64, usize) {
    match result.err() {
        Some(WriteError::Full { position, refused, .. }) => (position, refused),
        other => panic!("not refused for want of room: {other:?}"),
    }
}

// The far end of u64.

#[test]
fn at_the_last_position_there_is_nothing_to_read_and_no_room() {
    each_cursor(|name, file| {
        for position in [u64::MAX, u64::MAX - 1, i64::MAX as u64, i64::MAX as u64 + 1] {
            assert_eq!(file.seek(std::io::SeekFrom::Start(position)), Ok(position), "{name}");
            assert_eq!(file.read(&mut [0; 4]), Ok(0), "{name} at {position}");
            assert_eq!(file.fill_buf(), Ok(&[][..]), "{name} at {position}");
            assert_eq!(file.write(b"xy"), Err(Refusal::Full), "{name} at {position}");
            assert_eq!(file.truncate(), Err(Refusal::Full), "{name} at {position}");
            assert_eq!(file.write(b""), Ok(0), "{name} at {position}: nothing always fits");
            assert_eq!(file.position(), position, "{name}");
            assert_eq!(file.content().unwrap(), b"abc", "{name} at {position}");
        }
    });
}

#[test]
fn a_seek_out_of_range_says_from_where_and_by_how_much() {
    let mut file = eight_bytes();
    file.set_position(u64::MAX);
    for (to, from, offset) in [
        (SeekFrom::Current(1), u64::MAX, 1),
        (SeekFrom::Current(i64::MAX), u64::MAX, i64::MAX),
        (SeekFrom::End(-4), 3, -4),
        (SeekFrom::End(i64::MIN), 3, i64::MIN),
    ] {
        let refused = file.seek(to).unwrap_err();
        assert_eq!((refused.from, refused.offset), (from, offset), "{to:?}");
        assert_eq!(file.position(), u64::MAX, "{to:?} moved");
    }
    assert_eq!(file.seek(SeekFrom::Current(i64::MIN)), Ok(i64::MAX as u64), "the longest step back");
    assert_eq!(file.seek(SeekFrom::End(i64::MAX)), Ok(i64::MAX as u64 + 3), "the longest step forward");
}

/// Accepts any length and stores only what was written, so that the end of `u64` can be reached.
#[derive(Default)]
struct Endless {
    len: u64,
    written: Vec<(u64, Vec<u8>)>,
}

impl ReadMedium for Endless {
    type Error = core::convert::Infallible;

    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(0)
    }

    fn chunk_at(&mut self, _: u64) -> Result<&[u8], Self::Error> {
        Ok(&[])
    }
}

impl Medium for Endless {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<usize, Self::Error> {
        if !data.is_empty() {
            self.written.push((offset, data.to_vec()));
        }
        self.len = self.len.max(offset + data.len() as u64);
        Ok(data.len())
    }

    fn set_len(&mut self, len: u64) -> Result<(), Self::Error> {
        self.len = len;
        Ok(())
    }
}

#[test]
fn a_write_stops_at_the_last_byte_that_can_be_counted() {
    let mut file = Cursor::new(Endless::default());
    file.set_position(u64::MAX - 2);
    assert_eq!(file.write(b"abcde"), Ok(2), "across a gap");
    assert_eq!((file.position(), file.len()), (u64::MAX, u64::MAX));
    assert_eq!(full(file.write(b"cde")), (u64::MAX, 3));

    // It asked the medium for a gap of all positions before: an error of the medium's, or zeros for ever.
    let mut vector = Cursor::new(Vec::new());
    vector.set_position(u64::MAX);
    assert_eq!(full(vector.write(b"x")), (u64::MAX, 1));

    file.set_position(u64::MAX - 1);
    assert_eq!(file.write(b"xyz"), Ok(1), "over what is there");
    assert_eq!(file.get_ref().written, [(u64::MAX - 2, b"ab".to_vec()), (u64::MAX - 1, b"x".to_vec())]);

    let mut file = Cursor::new(Endless::default());
    file.set_position(u64::MAX);
    assert_eq!(full(file.write(b"a")), (u64::MAX, 1));
    assert_eq!(file.len(), 0, "the gap that was made for it is gone");
}

// Refusals.

#[test]
fn a_full_medium_takes_what_fits_then_says_what_it_refused() {
    let mut file = eight_bytes();
    file.set_position(6);
    assert_eq!(file.write(b"12345"), Ok(2));
    let refused = file.write(b"345").unwrap_err();
    assert_eq!(full(Err::<(), _>(refused)), (8, 3));
    assert_eq!(refused.kind(), ErrorKind::WriteZero);
    assert_eq!(refused.to_string(), "no room at position 8: 3 bytes refused");
    assert_eq!(file.get_ref().as_slice(), b"abc\0\0\x0012");
    assert_eq!(file.position(), 8);
}

#[test]
fn a_gap_that_leaves_no_room_for_a_byte_is_not_made() {
    for position in [8, 9, 1000] {
        let mut file = eight_bytes();
        file.set_position(position);
        assert_eq!(full(file.write(b"xy")), (position, 2));
        assert_eq!((file.len(), file.position()), (3, position));
        assert_eq!(file.get_ref().as_slice(), b"abc");
    }
}

#[test]
fn a_vec_too_long_for_memory_is_an_error_of_its_own() {
    let mut file = Cursor::new(b"abc".to_vec());
    let requested = u64::MAX / 2;
    let refused = file.set_len(requested).unwrap_err();
    assert_eq!((refused.requested, refused.kind()), (requested, ErrorKind::OutOfMemory));
    file.set_position(requested);
    assert_eq!(file.write(b"x"), Err(WriteError::Medium(refused)), "the gap needs as much");
    assert_eq!(file.get_ref(), b"abc");
}

#[test]
fn a_medium_without_room_is_still_a_file() {
    let mut empty = Cursor::new(Fixed::new([]));
    assert_eq!(empty.write(b""), Ok(0));
    assert_eq!(full(empty.write(b"a")), (0, 1));
    assert_eq!(empty.read(&mut [0; 1]), Ok(0));
    assert_eq!(
        empty.set_len(1).unwrap_err().to_string(),
        "a length of 1 bytes was requested of a medium that holds 0"
    );
    assert_eq!(empty.set_len(0), Ok(()));
}

// Position and length.

#[test]
fn consuming_past_the_end_is_a_seek_forward() {
    each_cursor(|name, file| {
        assert_eq!(file.fill_buf(), Ok(&b"abc"[..]), "{name}");
        file.consume(5);
        assert_eq!((file.position(), file.len()), (5, 3), "{name}");
        assert_eq!(file.fill_buf(), Ok(&[][..]), "{name}");
        assert_eq!(file.write(b"x"), Ok(1), "{name}");
        assert_eq!(file.content().unwrap(), b"abc\0\0x", "{name}");
        file.set_position(u64::MAX - 1).unwrap();
        file.consume(usize::MAX);
        assert_eq!(file.position(), u64::MAX, "{name}: stops there");
    });
}

#[test]
fn an_empty_write_past_the_end_makes_no_gap() {
    each_cursor(|name, file| {
        file.set_position(6).unwrap();
        assert_eq!(file.write(b""), Ok(0), "{name}");
        assert_eq!((file.position(), file.len()), (6, 3), "{name}");
    });
}

#[test]
fn a_gap_is_zeros_even_where_bytes_once_stood() {
    each_cursor(|name, file| {
        file.set_position(3).unwrap();
        file.write(b"defg").unwrap();
        file.set_len(1).unwrap();
        assert_eq!((file.position(), file.len()), (7, 1), "{name}: the position stays");
        assert_eq!(file.read(&mut [0; 1]), Ok(0), "{name}");
        file.write(b"h").unwrap();
        assert_eq!(file.content().unwrap(), b"a\0\0\0\0\0\0h", "{name}: by a write past the end");

        file.set_len(1).unwrap();
        file.set_len(3).unwrap();
        assert_eq!(file.content().unwrap(), b"a\0\0", "{name}: by set_len");
    });
}

#[test]
fn fixed_memory_says_how_long_it_can_be() {
    let refused = Fixed::with_len([0; 4], 5).unwrap_err();
    assert_eq!((refused.requested, refused.capacity), (5, 4));
    let filled = Fixed::filled(*b"abcd");
    assert_eq!((filled.capacity(), filled.as_slice()), (4, &b"abcd"[..]));
    assert_eq!(Fixed::new([9; 4]).as_slice(), b"", "room is not content");
    let mut half = Fixed::with_len([9; 4], 2).unwrap();
    half.as_mut_slice().fill(7);
    assert_eq!(half.into_inner(), [7, 7, 9, 9]);
}

// Media that fail.

type Call =
    fn(&mut Cursor<Faulty<Vec<u8>>>) -> Result<(), CursorError<FaultyError<overspill_core::AllocError>>>;

/// Every method that can fail, and every way through `write`.
const CALLS: [Call; 9] = [
    |file| Ok(file.write(b"append").map(drop)?),
    |file| Ok(file.write(b"").map(drop)?),
    |file| {
        file.set_position(20);
        Ok(file.write(b"past the end").map(drop)?)
    },
    |file| {
        file.set_position(2);
        Ok(file.write(b"over").map(drop)?)
    },
    |file| file.read(&mut [0; 4]).map(drop).map_err(CursorError::Medium),
    |file| file.fill_buf().map(drop).map_err(CursorError::Medium),
    |file| file.set_len(5).map_err(CursorError::Medium),
    |file| {
        file.set_position(9);
        file.set_len_to_position().map_err(CursorError::Medium)
    },
    |file| file.flush().map_err(CursorError::Medium),
];

/// Runs all of [`CALLS`] and, after each that fails, `check` with the content before it.
fn run_calls(faults: Faults, check: impl Fn(&[u8], &Cursor<Faulty<Vec<u8>>>)) -> Cursor<Faulty<Vec<u8>>> {
    let mut file = Cursor::new(Faulty::new(Vec::new(), faults));
    for call in CALLS {
        let before = file.get_ref().inner().clone();
        if call(&mut file).is_err() {
            check(&before, &file);
            let position = file.position();
            // After a transient fault, the same call works from the same position.
            if matches!(faults, Faults::Once(_)) {
                call(&mut file).unwrap_or_else(|error| panic!("again, at {position}, {faults:?}: {error}"));
            }
        }
    }
    file
}

#[test]
fn a_medium_that_fails_once_leaves_no_trace() {
    let untouched = run_calls(Faults::Never, |_, _| unreachable!("nothing fails"));
    let mut runs = 0;
    loop {
        let faults = Faults::Once(runs);
        let file = run_calls(faults, |before, file| {
            assert_eq!(file.get_ref().inner(), before, "{faults:?}");
        });
        assert_eq!(file.get_ref().inner(), untouched.get_ref().inner(), "{faults:?}");
        assert_eq!(file.position(), untouched.position(), "{faults:?}");
        if !file.get_ref().has_failed() {
            break;
        }
        runs += 1;
    }
    assert!(runs >= CALLS.len(), "{runs} runs are too few: some call was never made to fail");
}

/// One trace is allowed, and documented in the code: where the medium takes a gap, refuses the
/// bytes behind it, and then refuses to be cut back, the gap's zeros stay.
#[test]
fn a_medium_that_fails_for_good_leaves_at_most_the_zeros_of_a_gap() {
    let mut zeros_left = 0;
    for n in 0.. {
        let faults = Faults::From(n);
        let left = std::cell::Cell::new(0);
        let file = run_calls(faults, |before, file| {
            let (held, added) = file.get_ref().inner().split_at(before.len());
            assert_eq!(held, before, "{faults:?}");
            assert!(added.iter().all(|&byte| byte == 0), "{faults:?} left {added:?}");
            left.set(left.get() + usize::from(!added.is_empty()));
        });
        zeros_left += left.get();
        if !file.get_ref().has_failed() {
            break;
        }
    }
    assert_eq!(zeros_left, 1, "one of the runs fails between a gap and its bytes");
}

#[test]
fn a_failed_read_or_write_does_not_move() {
    let mut file = Cursor::new(Faulty::new(b"abc".to_vec(), Faults::From(0)));
    file.set_position(1);
    assert_eq!(file.read(&mut [0; 1]), Err(FaultyError::Planned(0)));
    assert_eq!(file.write(b"x"), Err(WriteError::Medium(FaultyError::Planned(1))));
    assert_eq!(file.fill_buf(), Err(FaultyError::Planned(2)));
    assert_eq!(file.set_len(0), Err(FaultyError::Planned(3)));
    assert_eq!(file.position(), 1);
    assert_eq!(file.seek(SeekFrom::End(0)), Ok(3), "a seek never asks the medium to do anything");
}

// Media that break the rules.

/// Says that it read and took more than there was.
struct Boasting;

impl ReadMedium for Boasting {
    type Error = CapacityError;

    fn len(&self) -> u64 {
        9
    }

    fn read_at(&mut self, _: u64, buf: &mut [u8]) -> Result<usize, CapacityError> {
        Ok(buf.len() + 1)
    }

    fn chunk_at(&mut self, _: u64) -> Result<&[u8], CapacityError> {
        Ok(&[])
    }
}

impl Medium for Boasting {
    fn write_at(&mut self, _: u64, data: &[u8]) -> Result<usize, CapacityError> {
        Ok(data.len() + 1)
    }

    fn set_len(&mut self, _: u64) -> Result<(), CapacityError> {
        Ok(())
    }
}

/// The core promises not to panic, but what `embedded-io` provides for its cursor did: it cuts a slice at
/// whatever count it is told.
#[test]
fn a_count_that_cannot_be_panics_nowhere() {
    use embedded_io::{Read, Write};
    let mut file = Cursor::new(Boasting);
    assert_eq!(Write::write_all(&mut file, b"four"), Ok(()));
    assert!(Read::read_exact(&mut file, &mut [0; 4]).is_ok());
    assert!(Write::write_fmt(&mut file, format_args!("{}", 4)).is_ok());
}

#[test]
fn the_error_kinds_of_embedded_io() {
    use embedded_io::{Seek, Write};
    let mut file = eight_bytes();
    file.set_position(8);
    let full = Write::write(&mut file, b"x").unwrap_err();
    assert!(matches!(full, CursorError::Full { position: 8, refused: 1, .. }));
    assert_eq!(full.kind(), ErrorKind::WriteZero);
    let outside =
        Seek::seek(&mut file, SeekFrom::Start(0)).and_then(|_| Seek::seek(&mut file, SeekFrom::Current(-1)));
    let outside = outside.unwrap_err();
    assert_eq!(outside.kind(), ErrorKind::InvalidInput);
    assert!(matches!(outside, CursorError::InvalidSeek(InvalidSeek { from: 0, offset: -1, .. })));
    assert_eq!(outside.to_string(), format!("a seek by -1 from 0 leads out of 0..={}", u64::MAX));

    let mut failing = Cursor::new(Faulty::new(Vec::new(), Faults::From(0)));
    assert_eq!(Write::flush(&mut failing).unwrap_err().kind(), ErrorKind::TimedOut, "the medium's own kind");
    let mut medium = Faulty::new(Vec::new(), Faults::From(0));
    assert!(Cursor::new(&mut medium).flush().is_err() && medium.has_failed(), "a borrowed one is asked too");
    assert_eq!(Write::write(&mut failing, b"x").unwrap_err().kind(), ErrorKind::TimedOut);
}

/// No error took all three of a seek, a read and a write by `?`: even the crate's first
/// example unwrapped a seek.
#[test]
fn question_marks_carry_every_error_of_a_cursor() {
    fn copy(file: &mut Cursor<Fixed<[u8; 8]>>) -> Result<usize, WriteError<CapacityError>> {
        file.set_len(8)?; // the medium's error
        file.set_position(0);
        file.write(b"x") // the cursor's
    }
    assert_eq!(copy(&mut eight_bytes()), Ok(1));

    fn seek_and_write(file: &mut Cursor<Fixed<[u8; 8]>>) -> Result<usize, CursorError<CapacityError>> {
        file.read(&mut [0; 4])?;
        file.seek(SeekFrom::End(-4))?;
        file.flush()?;
        Ok(file.write(b"x")?)
    }
    let refused = seek_and_write(&mut eight_bytes()).unwrap_err();
    assert!(refused.source().is_none());
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_cursor_borrows_its_medium_and_needs_no_size() {
    let mut memory = Fixed::new([0; 8]);
    Cursor::new(&mut memory).write(b"lent").unwrap();
    assert_eq!(memory.as_slice(), b"lent");

    let mut sized = Cursor::new(memory);
    let unsized_: &mut Cursor<dyn Medium<Error = CapacityError>> = &mut sized;
    unsized_.seek(SeekFrom::End(0)).unwrap();
    assert_eq!(unsized_.write(b" and erased"), Ok(4));
    assert_eq!(unsized_.remaining(), 0);
    assert_eq!(sized.into_inner().as_slice(), b"lent and");
}

// Media that are shared.
