//! How the `overspill` command reads its command line, compared with a naive reading of the same line.
//!
//! The command is a program, and nothing in it can be called from outside. So its files that read the line
//! are compiled here a second time, as they are.

#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/quote.rs"]
mod quote;
#[allow(dead_code)]
#[path = "../../std-adapter/src/bin/overspill/size.rs"]
mod size;

use args::{Args, NotRun};
use indicatif::BinaryBytes;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The number of bytes that a size stands for, by arithmetic on its decimal digits; `None` if it is not a
/// size.
fn naive_size(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits_end);
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            (Some(rest[..end].to_owned()), &rest[end..])
        }
        None => (None, rest),
    };
    let unit = match unit.strip_prefix(' ') {
        Some("") => return None,
        Some(unit) => unit,
        None => unit,
    };
    if unit == "b" {
        return None;
    }
    let unit = unit.chars().map(|c| c.to_ascii_lowercase()).collect::<String>();
    let mut factor: u64 = 1;
    if !["", "b"].contains(&&*unit) {
        let base = if unit.len() == 2 { 1000 } else { 1024 };
        let power = "kmgtpe".find(unit.chars().next()?)?;
        if !["", "b", "ib"].contains(&&unit[1..]) {
            return None;
        }
        (0..=power).for_each(|_| factor *= base);
    }
    let has_digits = !whole.is_empty() || fraction.is_some();
    if !has_digits || fraction.as_deref() == Some("") || (fraction.is_some() && factor == 1) {
        return None;
    }
    let fraction = fraction.unwrap_or_default();
    times(&format!("{whole}{fraction}"), factor, fraction.len()).parse().ok()
}

/// `digits` times `factor`, without its last `cut` digits: as on paper.
fn times(digits: &str, factor: u64, cut: usize) -> String {
    let mut product = Vec::new();
    let mut carry = 0_u128;
    for digit in digits.bytes().rev() {
        carry += u128::from(digit - b'0') * u128::from(factor);
        product.push(b'0' + (carry % 10) as u8);
        carry /= 10;
    }
    let product: String =
        product[cut.min(product.len())..].iter().rev().map(|&digit| char::from(digit)).collect();
    format!("{carry}{product}")
}

/// The command takes the same texts as sizes as the naive reading, with the same values; and can read the
/// sizes it prints.
///
/// # Panics
/// Where they differ.
pub fn drive_size(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let size = size::parse(&text);
    assert_eq!(size.ok(), naive_size(&text), "{text:?}");
    if let Err(why) = size {
        assert!(!why.to_string().contains('\n'), "{text:?}: {why:?} is longer than one line");
    }
    let bytes = input.first_chunk().map_or(input.len() as u64, |first: &[u8; 8]| u64::from_le_bytes(*first));
    let printed = BinaryBytes(bytes).to_string();
    match size::parse(&printed) {
        // Sizes are printed with two decimals, of a number up to 1024.
        Ok(read) => {
            assert!(read.abs_diff(bytes) <= bytes / 100, "{bytes} is printed as {printed}, which is {read}");
        }
        Err(why) => {
            assert!(why == size::SizeError::TooLarge && bytes > u64::MAX / 1001 * 1000, "{printed}: {why}");
        }
    }
}

/// What a command line requests.
#[derive(Debug, Default, PartialEq)]
struct Requested {
    memory: Option<OsString>,
    disk: Option<OsString>,
    dir: Option<OsString>,
    output: Option<OsString>,
    append: bool,
    stats: bool,
    json: bool,
    progress: bool,
}

/// What the line requests, of what is repeated the last; `None` if it must be refused.
fn naive_line(line: &[OsString]) -> Option<Requested> {
    let mut requested = Requested::default();
    let mut rest = line.iter().peekable();
    // An argument that looks like an option is no size. It may be a name.
    let is_value = |name: &[u8], next: &OsString| {
        is_name(name) || !next.as_bytes().starts_with(b"-") || next.as_bytes() == b"-"
    };
    while let Some(arg) = rest.next() {
        let mut arg = arg.as_bytes();
        if arg == b"--" {
            return if rest.next().is_none() { requested.valid() } else { None };
        }
        if let Some(long) = arg.strip_prefix(b"--") {
            let (name, value) = match long.iter().position(|&c| c == b'=') {
                Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_owned())),
                None => (long, None),
            };
            match requested.flag(name) {
                Some(flag) if value.is_none() => *flag = true,
                Some(_) => return None,
                None => {
                    let value = value.or_else(|| rest.next_if(|next| is_value(name, next)).cloned());
                    requested.set(name, value?)?;
                }
            }
            continue;
        }
        arg = arg.strip_prefix(b"-").filter(|cluster| !cluster.is_empty())?;
        while let Some((letter, behind)) = arg.split_first() {
            if *letter == b'a' {
                requested.append = true;
                arg = behind;
                continue;
            }
            let name: &[u8] = match letter {
                b'm' => b"memory",
                b'd' => b"disk",
                b'T' => b"dir",
                b'o' => b"output",
                _ => return None,
            };
            let value = if behind.is_empty() {
                rest.next_if(|next| is_value(name, next)).cloned()?
            } else {
                OsStr::from_bytes(behind.strip_prefix(b"=").unwrap_or(behind)).to_owned()
            };
            requested.set(name, value)?;
            break;
        }
    }
    requested.valid()
}

/// Whether the value of this option is the name of a file.
fn is_name(option: &[u8]) -> bool {
    matches!(option, b"dir" | b"output")
}

impl Requested {
    fn flag(&mut self, name: &[u8]) -> Option<&mut bool> {
        match name {
            b"append" => Some(&mut self.append),
            b"stats" => Some(&mut self.stats),
            b"json" => Some(&mut self.json),
            b"progress" => Some(&mut self.progress),
            _ => None,
        }
    }

    /// Sets an option. `None` if there is none of that name, or the value is none for it.
    fn set(&mut self, name: &[u8], value: OsString) -> Option<()> {
        let is_valid = match is_name(name) {
            true => !value.is_empty(),
            false => naive_size(value.to_str()?).is_some(),
        };
        let option = match name {
            b"memory" => &mut self.memory,
            b"disk" => &mut self.disk,
            b"dir" => &mut self.dir,
            b"output" => &mut self.output,
            _ => return None,
        };
        *option = Some(value);
        is_valid.then_some(())
    }

    /// Itself, if its values fit together.
    fn valid(self) -> Option<Self> {
        let is_valid = !self.append || self.output.as_ref().is_some_and(|path| path != "-");
        is_valid.then_some(self)
    }

    /// Whether the command has read the same.
    fn matches(&self, args: &Args) -> bool {
        let size = |text: &Option<OsString>| text.as_ref().and_then(|text| naive_size(text.to_str()?));
        args.memory as u64 == size(&self.memory).unwrap_or(64 << 20)
            && args.disk == size(&self.disk)
            && args.dir.as_ref().map(|dir| dir.as_os_str()) == self.dir.as_deref()
            && args.output.as_ref().map(|path| path.as_os_str()) == self.output.as_deref()
            && (args.append, args.stats, args.json, args.progress)
                == (self.append, self.stats, self.json, self.progress)
    }
}

/// Words that command lines consist of, or nearly so.
const WORDS: [&str; 32] = [
    "-m",
    "--memory",
    "-d",
    "--disk",
    "-T",
    "--dir",
    "-o",
    "--output",
    "-a",
    "--append",
    "--stats",
    "--json",
    "--progress",
    "--",
    "-",
    "",
    "64K",
    "1.5G",
    "0",
    "16E",
    "file",
    "-m4k",
    "-aofile",
    "-ad1",
    "-d=2M",
    "--memory=0",
    "--disk=",
    "--output=-",
    "--append=yes",
    "--mem",
    "-x",
    "-5",
];

/// Words from the list, and words of any bytes, as the input chooses.
fn words(mut input: &[u8]) -> Vec<OsString> {
    const WORDS_MAX: usize = 16;
    let mut line = Vec::new();
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        if let Some(word) = WORDS.get(usize::from(first)) {
            line.push(OsString::from(word));
        } else {
            let len = usize::from(first % 16).min(input.len());
            let (word, rest) = input.split_at(len);
            line.push(OsString::from_vec(word.iter().copied().filter(|&byte| byte != 0).collect()));
            input = rest;
        }
        if line.len() == WORDS_MAX {
            break;
        }
    }
    line
}

/// Any command line is read as the naive reading reads it, or refused in one line where that refuses it.
///
/// # Panics
/// Where they differ.
pub fn drive_args(input: &[u8]) {
    let line = words(input);
    let naive = naive_line(&line);
    let program = std::iter::once(OsString::from("overspill"));
    match args::parse(program.chain(line.iter().cloned())) {
        Ok(args) => {
            assert!(
                naive.as_ref().is_some_and(|requested| requested.matches(&args)),
                "{line:?}: {args:?}, {naive:?}"
            );
        }
        // Help or version, which win over the rest of the line.
        Err(NotRun::Help(_)) => {}
        Err(NotRun::Refused(said)) => {
            assert!(naive.is_none(), "{line:?} is refused: {said}");
            assert!(!said.trim().is_empty() && !said.contains('\n'), "{line:?}: {said:?} is not one line");
        }
    }
}
