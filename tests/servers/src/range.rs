//! The header `Range`: which part of a file is meant.

/// What of a file is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it: there is no range, or it is none of bytes, or there are several, or it makes no sense.
    Whole,
    /// The bytes from the first to before the second offset, of which there is at least one.
    Part(u64, u64),
    /// None of it: the range begins past the end.
    Nothing,
}

/// Reads `range`, the value of the header, for a file of `len` bytes, by the rules of RFC 9110, section 14.
#[must_use]
pub fn wanted(range: Option<&str>, len: u64) -> Wanted {
    let Some((unit, range)) = range.and_then(|range| range.split_once('=')) else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Whole };
    let (start, end) = match (digits(first), digits(last)) {
        (Digits::Number(start), Digits::None) => (start, len),
        (Digits::Number(start), Digits::Number(last)) if start <= last => (start, last.saturating_add(1)),
        // The last bytes of an empty file are all that it has.
        (Digits::None, Digits::Number(1..)) if len == 0 => return Wanted::Whole,
        (Digits::None, Digits::Number(count)) => (len.saturating_sub(count), len),
        _ => return Wanted::Whole,
    };
    let end = end.min(len);
    if start < end { Wanted::Part(start, end) } else { Wanted::Nothing }
}

enum Digits {
    None,
    Number(u64),
    Other,
}

/// A number too large for its type is larger than any file.
fn digits(text: &str) -> Digits {
    match text.trim() {
        "" => Digits::None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Digits::Number(digits.parse().unwrap_or(u64::MAX))
        }
        _ => Digits::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::Wanted::{Nothing, Part, Whole};
    use super::wanted;

    #[test]
    fn each_form_of_a_range_is_read() {
        for (range, len, expected) in [
            ("bytes=0-0", 10, Part(0, 1)),
            ("bytes=2-5", 10, Part(2, 6)),
            ("bytes=2-", 10, Part(2, 10)),
            ("bytes=2-100", 10, Part(2, 10)),
            ("bytes=-3", 10, Part(7, 10)),
            ("bytes=-30", 10, Part(0, 10)),
            (" bytes= 2 - 5 ", 10, Part(2, 6)),
            ("bytes=9-18446744073709551615", 10, Part(9, 10)),
            ("bytes=9-99999999999999999999999", 10, Part(9, 10)),
            ("Bytes=0-0", 10, Part(0, 1)), // a unit's name has no case
            ("bytes=10-", 10, Nothing),
            ("bytes=99999999999999999999999-", 10, Nothing),
            ("bytes=-0", 10, Nothing),
            ("bytes=0-", 0, Nothing),
            ("bytes=-0", 0, Nothing),
            ("bytes=-5", 0, Whole),
            ("bytes=5-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1-2,4-5", 10, Whole),
            ("bytes", 10, Whole),
            ("lines=1-2", 10, Whole),
        ] {
            assert_eq!(wanted(Some(range), len), expected, "{range} of {len}");
        }
        assert_eq!(wanted(None, 10), Whole);
    }
}
