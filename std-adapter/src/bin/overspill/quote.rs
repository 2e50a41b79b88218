//! Names in messages, and in commands that a user is to type.
//!
//! Promises: what a message shows is one line and harmless to a terminal, whatever names are in it; a quoted
//! name is, in a shell, that name.
//!
//! Held by: the tests at the end of this file, and `std-adapter/tests/command/refusals.rs`.

use std::ffi::OsStr;
use std::fmt::Write;

/// `text` with a `?` in place of each character that could break the line, drive a terminal, or let the text
/// read in another order than it stands.
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_harmful(c) { '?' } else { c }).collect()
}

/// Control characters, Unicode's two line separators, and its controls of the direction of writing.
fn is_harmful(c: char) -> bool {
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    let is_direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || is_separator || is_direction
}

/// The path `path` as a word for a shell: as it is, in quotes, or with escapes in `$'...'`, which all but the
/// oldest shells know. No command takes it for an option.
pub(crate) fn shell_word(path: &OsStr) -> String {
    let bytes = path.as_encoded_bytes();
    let start = if bytes.first() == Some(&b'-') { "./" } else { "" };
    let is_plain = |byte: &u8| {
        cfg!(windows) && *byte == b'\\' || byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte)
    };
    match path.to_str() {
        Some(text) if !text.is_empty() && bytes.iter().all(is_plain) => {
            format!("{start}{text}")
        }
        Some(text) if !text.chars().any(is_harmful) => format!("'{start}{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{start}{}'", escaped(bytes)),
    }
}

/// `bytes` with an escape for each that is not a harmless character.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "\\x{byte:02x}"); // writing to a string cannot fail
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                c if is_harmful(c) => hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harmful_character_is_replaced_and_others_stay() {
        let name =
            "a b\n\u{1b}[31m\u{7f}\u{9b}\u{85}\u{202e}\u{2067}\u{200f}\u{61c}\u{2028}\u{2029}é漢\u{1f600}";
        assert_eq!(harmless(name), "a b??[31m?????????é漢\u{1f600}");
    }

    /// A shell reads each word as the name, and no word has a harmful character.
    #[test]
    #[cfg(unix)]
    fn a_shell_reads_the_word_as_the_name() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let names: &[&[u8]] = &[
            b"plain/name-1.2_x",
            b"a b",
            b"it's",
            b"-rf",
            b"--x y",
            b"$(touch x)`y`$HOME*?~",
            b"~",
            b"a\\b",
            b"\n\x1b[31m'\\",
            b"\xff\xfe-\xe2\x80\xae",
            "\u{202e}é".as_bytes(),
            b"-\n",
            b"!#;&|<>(){}[]\"",
            b"",
        ];
        for name in names {
            let word = shell_word(OsStr::from_bytes(name));
            assert_eq!(harmless(&word), word);
            let mut shell = std::process::Command::new("bash");
            let output = shell.arg("-c").arg(format!("printf %s {word}")).output().unwrap();
            let read = std::ffi::OsString::from_vec(output.stdout);
            assert_eq!(read.as_bytes().strip_prefix(b"./").unwrap_or(read.as_bytes()), *name, "{word}");
            assert!(!read.as_bytes().starts_with(b"-"), "{word}");
        }
        assert_eq!(shell_word(OsStr::new("no/such")), "no/such");
    }
}
