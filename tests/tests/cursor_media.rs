//! A cursor over media that are odd: that break the rules for media, that are shared, or that are
//! written past their end.
//!
//! Held here: a cursor neither panics nor moves wrongly whatever its medium says, and several
//! cursors read one content.
#![allow(missing_docs)]

use embedded_io::{Error as _, ErrorKind};
use overspill_core::{Cursor, CursorError, Fixed, Medium, ReadMedium, SeekFrom, WriteError};

/// The position and the bytes of a write that was refused for want of room.
fn full<T, E: std::fmt::Debug>(result: Result<T, WriteError<E>>) -> (u64, usize) {
    match result.err() {
        Some(WriteError::Full { position, refused, .. }) => (position, refused),
        other => panic!("not refused for want of room: {other:?}"),
    }
}

// The far end of u64.

/// Claims to have taken, and to have read, more than was requested.
struct Braggart;

impl ReadMedium for Braggart {
    type Error = core::convert::Infallible;

    fn len(&self) -> u64 {
        100
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(usize::MAX)
    }

    fn chunk_at(&mut self, _: u64) -> Result<&[u8], Self::Error> {
        Ok(&[])
    }
}

impl Medium for Braggart {
    fn write_at(&mut self, _: u64, _: &[u8]) -> Result<usize, Self::Error> {
        Ok(usize::MAX)
    }

    fn set_len(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// The core was believed not to panic on any input. But `write` added the medium's count to the
/// position unchecked: a count larger than the data, from a faulty medium, overflowed, which panics in
/// a debug build and moves the position backwards in a release build. Where `usize` is shorter than
/// `u64`, no count is too large.
#[test]
fn a_medium_that_claims_too_much_does_not_make_the_cursor_panic() {
    let mut file = Cursor::new(Braggart);
    for start in [1, 99, 100, 101] {
        file.set_position(start);
        assert_eq!(file.write(b"x"), Ok(usize::MAX));
        let end = start.saturating_add(usize::MAX as u64);
        assert_eq!(file.position(), end, "written from {start}");
        file.set_position(start);
        assert_eq!(file.read(&mut [0]), Ok(usize::MAX));
        assert_eq!(file.position(), end, "read from {start}");
    }
}

/// Takes nothing, and does not say why, which the rules for media forbid.
struct Silent;

impl ReadMedium for Silent {
    type Error = core::convert::Infallible;

    fn len(&self) -> u64 {
        2
    }

    fn read_at(&mut self, _: u64, _: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(0)
    }

    fn chunk_at(&mut self, _: u64) -> Result<&[u8], Self::Error> {
        Ok(&[])
    }
}

impl Medium for Silent {
    fn write_at(&mut self, _: u64, _: &[u8]) -> Result<usize, Self::Error> {
        Ok(0)
    }

    fn set_len(&mut self, _: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// `write` of at least one byte never returns `Ok(0)`, or `write_all` would loop for ever.
#[test]
fn a_medium_that_takes_nothing_without_a_reason_is_full() {
    for position in [0, 2, 3] {
        let mut file = Cursor::at(Silent, position);
        assert_eq!(full(file.write(b"x")), (position, 1));
        assert_eq!((file.write(b""), file.position()), (Ok(0), position));
    }
}

/// Storage that lends less than it once did.
struct Shrinking {
    bytes: [u8; 8],
    lent: usize,
}

impl AsRef<[u8]> for Shrinking {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.lent]
    }
}

impl AsMut<[u8]> for Shrinking {
    fn as_mut(&mut self) -> &mut [u8] {
        self.lent /= 2;
        &mut self.bytes[..self.lent]
    }
}

#[test]
fn storage_that_shrinks_does_not_make_the_cursor_panic() {
    let mut file = Cursor::new(Fixed::filled(Shrinking { bytes: *b"abcdefgh", lent: 8 }));
    file.set_position(6);
    // Four bytes are lent by then: nothing fits at 6.
    assert_eq!(full(file.write(b"xy")), (6, 2));
    assert_eq!(file.len(), 4);
    assert_eq!(file.set_len(3), Ok(()));
    file.rewind();
    assert_eq!(file.fill_buf(), Ok(&b"ab"[..]));
}

// Traits of other crates.

/// Reads all of `cursor` in steps of `step` bytes.
fn read_by(mut cursor: Cursor<impl ReadMedium>, step: usize) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), vec![0; step]);
    while let Ok(count @ 1..) = cursor.read(&mut buf) {
        all.extend_from_slice(&buf[..count]);
    }
    all
}

#[test]
fn several_cursors_read_one_content_each_from_its_own_position() {
    let content: Vec<u8> = (0..=255).collect();
    let memory = Fixed::filled(content.clone());
    let mut ahead = Cursor::at(&memory, 100);
    let mut behind = Cursor::new(&memory);
    for _ in 0..50 {
        let (mut one, mut other) = ([0; 1], [0; 3]);
        assert_eq!((ahead.read(&mut one), behind.read(&mut other)), (Ok(1), Ok(3)));
        assert_eq!(u64::from(one[0]) + 1, ahead.position());
        assert_eq!(u64::from(other[2]) + 1, behind.position());
    }
    let mut fork = ahead.clone();
    fork.seek(SeekFrom::End(-1)).unwrap();
    assert_eq!((fork.fill_buf(), ahead.position()), (Ok(&[255][..]), 150), "a clone moves by itself");

    let slice = content.as_slice();
    std::thread::scope(|scope| {
        for step in 1..=4 {
            let (content, memory) = (&content, &memory);
            scope.spawn(move || assert_eq!(read_by(Cursor::new(memory), step), *content));
            scope.spawn(move || assert_eq!(read_by(Cursor::new(slice), step), *content));
        }
    });
}

/// `embedded-io` reads a medium that cannot be written, and its error is that of a cursor over any.
#[test]
fn a_shared_medium_is_read_through_embedded_io() {
    use embedded_io::{BufRead, Read, Seek};
    let mut file = Cursor::new(&b"abcdef"[..]);
    file.seek_relative(2).unwrap();
    assert_eq!(BufRead::fill_buf(&mut file).unwrap(), b"cdef");
    BufRead::consume(&mut file, 1);
    let mut rest = [0; 3];
    file.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"def");
    let outside = Seek::seek(&mut file, SeekFrom::Current(-7)).unwrap_err();
    assert!(matches!(outside, CursorError::InvalidSeek(_)));
}

/// A write past the end of a medium, which a cursor never makes, says what has to come first.
#[test]
fn a_medium_refuses_a_write_past_its_end() {
    let text = "a write up to 7 began past the end of the content: lengthen that first";
    let refused = Fixed::with_len([0; 8], 3).unwrap().write_at(5, b"xy").unwrap_err();
    assert_eq!((refused.requested, refused.capacity, refused.to_string().as_str()), (7, 8, text));
    let refused = Medium::write_at(&mut b"abc".to_vec(), 5, b"xy").unwrap_err();
    assert_eq!(
        (refused.requested, refused.kind(), refused.to_string().as_str()),
        (7, ErrorKind::WriteZero, text)
    );
}
