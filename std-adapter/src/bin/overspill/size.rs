//! Sizes as people write them: `64M`, `1.5G`, `10MB`.
//!
//! The units are those of dd and of GNU's tools: a letter alone, or with `iB`, is a power of 1024; a letter
//! with `B` is a power of 1000. Published parsers treat the two as the same, or accept `1e+`, `_1` and `1 0`
//! as numbers, or make a limit of 0 from `0.4`. A wrong limit is noticed late, so this parser accepts only
//! unambiguous texts.
//!
//! Promises: the result is exact, or rounded down by less than a byte; no text makes the parser panic.
//!
//! Held by: the tests at the end of this file.

use std::fmt;

/// Why a text is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeError {
    NotANumber,
    UnknownUnit,
    PartOfAByte,
    TooLarge,
    /// As a number of bytes of memory.
    TooLargeForMemory,
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SizeError::TooLargeForMemory => return write!(f, "too large; the most is {} bytes", usize::MAX),
            SizeError::NotANumber => "not a size; write a number and perhaps a unit, such as 64M or 1.5G",
            SizeError::UnknownUnit => {
                "unknown unit; K, M, G, T, P, E (or KiB, MiB, ...) are powers of 1024, KB, MB, ... of 1000"
            }
            SizeError::PartOfAByte => "not a whole number of bytes; write 0.5M, not 0.5",
            SizeError::TooLarge => "too large; the most is 18446744073709551615 bytes, just under 16E",
        })
    }
}

impl std::error::Error for SizeError {}

/// The number of bytes that `text` stands for, rounded down to a whole byte.
pub(crate) fn parse(text: &str) -> Result<u64, SizeError> {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, unit) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return Err(SizeError::NotANumber),
        Some(parts) => parts,
        None => (number, ""),
    };
    if number.is_empty() || fraction.contains('.') {
        return Err(SizeError::NotANumber);
    }
    let factor = factor(unit.strip_prefix(' ').filter(|unit| !unit.is_empty()).unwrap_or(unit))
        .ok_or(SizeError::UnknownUnit)?;
    if factor == 1 && !fraction.is_empty() {
        return Err(SizeError::PartOfAByte);
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| SizeError::TooLarge)? };
    let bytes = whole.checked_mul(factor).ok_or(SizeError::TooLarge)?;
    bytes.checked_add(part_of(factor, fraction)).ok_or(SizeError::TooLarge)
}

/// `factor` times 0.`fraction`, rounded down. `fraction` has any number of digits, and nothing else.
fn part_of(factor: u64, fraction: &str) -> u64 {
    // From the last digit to the first. For an integer n, floor((n + x) / 10) is floor((n + floor(x)) / 10),
    // so rounding down at each digit rounds the result exactly.
    let add = |part, digit| (u128::from(factor) * u128::from(digit - b'0') + part) / 10;
    let part = fraction.bytes().rev().fold(0_u128, add);
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// The bytes in a unit; `None` if it is unknown. The empty unit is a byte.
fn factor(unit: &str) -> Option<u64> {
    let mut letters = unit.chars();
    let Some(letter) = letters.next().map(|c| c.to_ascii_uppercase()) else { return Some(1) };
    let rest = letters.as_str();
    if letter == 'B' {
        // For dd a small one is a block of 512 bytes.
        return (unit == "B").then_some(1);
    }
    let power = 1 + u32::try_from("KMGTPE".find(letter)?).ok()?;
    match rest.to_ascii_lowercase().as_str() {
        "" | "ib" => 1024_u64.checked_pow(power),
        "b" => 1000_u64.checked_pow(power),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dd_reads_them() {
        let table = [
            ("0", 0),
            ("007", 7),
            ("512B", 512),
            ("1K", 1024),
            ("1k", 1024),
            ("1KiB", 1024),
            ("1kib", 1024),
            ("1KB", 1000),
            ("1kB", 1000),
            ("64M", 64 << 20),
            ("64 M", 64 << 20),
            ("64MiB", 64 << 20),
            ("64MB", 64_000_000),
            ("10G", 10 << 30),
            ("1T", 1 << 40),
            ("1P", 1 << 50),
            ("1E", 1 << 60),
            ("1EB", 1_000_000_000_000_000_000),
            ("1.5G", 3 << 29),
            ("0.5K", 512),
            (".5K", 512),
            ("0.0001K", 0),
            ("1.9999999999999999999999999K", 2047),
            ("15.9999999999999999E", u64::MAX - 115),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_size_is_refused_with_the_reason() {
        let table = [
            (
                SizeError::NotANumber,
                &[
                    "", " ", "K", "M64", "-1", "-1K", "+1", "1.", ".", ".K", "1..5K", "..5K", "1.5.5K",
                    "inf", "NaN",
                ][..],
            ),
            (
                SizeError::UnknownUnit,
                &[
                    "1Z",
                    "1KK",
                    "1Ki",
                    "1KBs",
                    "1MiBx",
                    "1 ",
                    "1  K",
                    "1K ",
                    "1 0",
                    "1,5K",
                    "1_000",
                    "0x10",
                    "1e3",
                    "1E3",
                    "1e+",
                    "1%",
                    "1\u{212a}",
                    "1\u{663}",
                    "1M\0",
                    "64Mbit",
                    "1BB",
                    "512b",
                ],
            ),
            (SizeError::PartOfAByte, &["0.5", ".5", "1.0", "0.4B"]),
            (SizeError::TooLarge, &["16E", "18446744073709551616", "99999999999999999999999K"]),
        ];
        for (why, texts) in table {
            for text in texts {
                assert_eq!(parse(text), Err(why), "{text:?}");
            }
        }
    }

    /// Only eighteen digits of a fraction were read, in the belief that they determine every byte of any
    /// unit. But E has more than 10¹⁸ bytes, and the digits after the eighteenth can make one more.
    #[test]
    fn a_fraction_with_many_digits_is_exact() {
        assert_eq!(parse("0.2444444444000122077302035E"), Ok(281_825_256_630_446_824));
        assert_eq!(parse(&format!("0.{}E", "9".repeat(5000))), Ok((1 << 60) - 1));
    }

    /// Multiples of each unit are exact up to the largest that fits, and the next is refused.
    #[test]
    fn units_are_exact_up_to_the_end() {
        let letters = ["K", "M", "G", "T", "P", "E"];
        for (power, letter) in (1..).zip(letters) {
            for (suffix, base) in [("", 1024_u64), ("iB", 1024), ("B", 1000)] {
                let factor = base.pow(power);
                let max = u64::MAX / factor;
                for n in [0, 1, 2, max / 2, max - 1, max] {
                    assert_eq!(parse(&format!("{n}{letter}{suffix}")), Ok(n * factor), "{n}{letter}{suffix}");
                }
                assert_eq!(parse(&format!("{}{letter}{suffix}", max + 1)), Err(SizeError::TooLarge));
            }
        }
    }

    /// No text of up to five of these characters makes the parser panic, and each that it accepts is a number
    /// before a unit.
    #[test]
    fn every_short_text_is_a_size_or_refused() {
        let alphabet = ['0', '9', '.', '-', ' ', 'K', 'e', 'i', 'B', '\u{e9}'];
        for code in 0..alphabet.len().pow(5) {
            let mut text = String::new();
            let mut left = code;
            while left > 0 {
                text.push(alphabet[left % alphabet.len()]);
                left /= alphabet.len();
            }
            if parse(&text).is_ok() {
                assert!(text.starts_with(['0', '9', '.']) && !text.contains(['-', '\u{e9}']), "{text:?}");
            }
        }
    }
}
