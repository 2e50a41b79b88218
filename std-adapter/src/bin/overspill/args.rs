//! The command line and the manual.
//!
//! Promise: a command line that is refused is refused in one line, which says what to do.
//!
//! Held by: the tests at the end of this file, and `std-adapter/tests/command/` of this package.

use super::quote::{harmless, shell_word};
use super::size;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};
use std::ffi::OsString;
use std::path::PathBuf;

/// Soaks up standard input to its end, then writes it out.
///
/// Nothing is written before the input has ended, so the file that a pipeline reads can be the file
/// that it writes: `sort f | overspill -o f`.
///
/// Input is kept in memory up to a limit, and beyond that in an unnamed temporary file. In addition to the
/// limit, the process takes a few MiB, and 24 to 34 bytes for each page of the input: 0.5 MiB for a GiB where
/// the limit is 1M or more, 6 MiB where it is 64K or less.
#[derive(Debug, Parser)]
#[command(name = "overspill", version, args_override_self = true, override_usage = USAGE, after_help = BRIEF, after_long_help = MANUAL)]
pub(crate) struct Args {
    /// Keep up to SIZE of the input in memory; with 0 all of it goes to disk
    #[arg(short, long, value_name = "SIZE", default_value = "64M", value_parser = memory_size)]
    pub(crate) memory: usize,

    /// Use up to SIZE on disk, and fail beyond that [default: no limit]
    #[arg(short, long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) disk: Option<u64>,

    /// Make the temporary file in DIR [default: with -o, beside FILE; else see ENVIRONMENT]
    #[arg(short = 'T', long, value_name = "DIR", allow_hyphen_values = true, value_parser = name())]
    pub(crate) dir: Option<PathBuf>,

    /// Write to FILE, which appears whole or not at all [default: standard output]
    ///
    /// A new file keeps the mode of the one that it replaces, and its owner where that is allowed.
    /// `-` is standard output.
    #[arg(short, long, value_name = "FILE", allow_hyphen_values = true, value_parser = name())]
    pub(crate) output: Option<PathBuf>,

    /// Add the input after the content that FILE has already, in one step
    #[arg(short, long, requires = "output")]
    pub(crate) append: bool,

    /// Print on standard error, at the end, how much was kept where
    #[arg(long)]
    pub(crate) stats: bool,

    /// Like --stats, but as one JSON object on one line
    #[arg(long)]
    pub(crate) json: bool,

    /// Show progress on standard error, terminal or not
    ///
    /// On a terminal it is shown anyway when the job takes more than half a second. Elsewhere it is
    /// a line every second, and only with this option.
    #[arg(long)]
    pub(crate) progress: bool,
}

const USAGE: &str = "producer | overspill [OPTIONS]";

const BRIEF: &str = "SIZE is a number of bytes, or has a unit: 64M, 1.5G, 10MB.
'overspill --help' is the manual.";

const MANUAL: &str = "\
SIZES
  A number of bytes, perhaps with a unit: K, M, G, T, P or E, alone or as KiB, MiB, ..., are
  powers of 1024; KB, MB, ... are powers of 1000. Fractions are allowed before a unit: 1.5G.

EXAMPLES
  sort -u words | overspill -o words
      Sorts a file in place.

  pg_dump app | overspill --memory 256M | ssh backup 'cat > app.sql'
      Lets the database go before the network has caught up: the dump is complete on this side
      before its first byte is sent.

  sed s/old/new/ config | overspill -o config && systemctl reload app
      No reader ever sees half a config, and a failure leaves the old one. (To keep it also when sed
      fails, set the shell's pipefail and check before you write.)

  make 2>&1 | overspill --append -o build.log --stats
      Adds the output of one run to a log as one piece.

FILES
  With -o, a regular file is written without a name in FILE's directory, synced to disk, and put
  in FILE's place by a rename. What does not fit in memory goes to that file at once; with --dir it
  goes to DIR first, and is copied in the end. Readers see the old content or the new, never a
  mixture, even after a crash. FILE is not touched before the rename.

  A symbolic link is followed: the file that it points to is replaced, and the link stays.
  If the file that a link points to does not exist, it is made.
  A file with other hard links is replaced under this name only; the others keep the old content.
  The mode is kept. The owner and group are kept where the system allows it (root may); where it
  does not, set-user-ID and set-group-ID are dropped, and the group and all others may do
  what both could before. On Linux POSIX ACLs are kept; a file with an NFSv4 ACL that names others
  is then its owner's alone. Extended attributes are not kept.
  A new file gets the usual mode, 0666 less the umask.
  A read-only file is refused, although a rename could replace it.
  Devices, FIFOs and the like (/dev/null, >(command)) are written to as they are, and so is what a
  descriptor is open for: /dev/fd/3 from where it stands, a file at /proc/PID/fd/3 of another
  process at its end.

  With --append, a regular file is replaced in the same way, by a copy of itself followed by the
  input; the copy counts as input against --memory and --disk, twice while it is made again because
  another program has changed FILE. A file that does not exist is made.
  Commands that append to one file at once wait for each other, by a lock (fcntl's) that is held
  while the file is replaced and not while the input comes. What a plain >> adds until the rename
  is added behind the input. A program that has FILE open for longer writes to the old file. A
  command without --append does not wait: the last to replace FILE wins.
  Devices, FIFOs and the like are simply written to.

  Checked before any input is read: that FILE is not a directory or a socket, that it can be
  written and replaced (it may be a mount point, another user's in a sticky directory, or marked
  by chattr +a), that a file can be made in its directory and in DIR, and that enough descriptors
  are left. What a device says can be known only when it is opened, after the input.

  Empty input makes an empty file. A standard input or output that is closed is an error, if it is
  used.

ENVIRONMENT
  TMPDIR  The directory of the temporary file, unless it is beside FILE or --dir is given. If
          TMPDIR is empty or not set, /tmp. If that directory is itself in memory (tmpfs), or no
          file can be made in it, the first of /var/tmp, /usr/tmp and the current directory that is
          on a disk and lets a file be made is used instead. --dir is used as it is.

SIGNALS
  Any signal that ends the process, SIGKILL too, leaves FILE as it was, or new and complete if it
  comes while the directory of the new FILE is synced, and nothing else on the disk: neither the
  temporary file nor the new FILE has a name before it is complete. With --append, what a plain >>
  added to the old FILE right before it was replaced is lost with a signal during that sync.
  There are two exceptions. A FILE that exists is replaced by a rename, for which the complete new
  file has a hidden name, .overspill-*, beside FILE for some microseconds. Where the file system
  cannot make a file without a name, as NFS cannot, the new file has such a name while it is
  written. A signal that comes then may leave it, complete or not. The next command that replaces
  FILE removes it; one that a living process works on stays, which is known by a lock on it.
  A write past the limit on the size of files (ulimit -f) is an error, not a signal.

WINDOWS
  A FILE that any program has open cannot be replaced, nor can a read-only one. The temporary file
  and the new FILE have names while they are written; the first is deleted by the system however
  the process ends, of the second a hidden .overspill-* may be left, and is not removed later. The
  lock of --append is a file .overspill-lock-FILE, which the system deletes. There are no modes or
  owners to keep. TEMP takes the place of TMPDIR.

EXIT STATUS
  0    All input was written.
  1    Something failed; one line on standard error says what, and what to do. A regular FILE is as
       it was; but where only its directory could not be synced, it is new, and a crash of the
       machine may undo that; and where --append could not keep what another program had changed
       meanwhile, it has its old content and the input.
  141  The reader of the output closed it early; nothing is printed. (The shell reports the same
       for a command that SIGPIPE ended.)";

/// Why the command line is not to be run.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// It requests help or the version; this is the text.
    Help(Box<clap::Error>),
    /// It is wrong; this is the message.
    Refused(String),
}

/// Parses a command line, which begins with the program's name.
pub(crate) fn parse(command_line: impl IntoIterator<Item = OsString>) -> Result<Args, NotRun> {
    let command_line: Vec<_> = command_line.into_iter().collect();
    let parsed = Args::command().try_get_matches_from(&command_line);
    let args = parsed.and_then(|matches| Args::from_arg_matches(&matches));
    let args = args.map_err(|error| refuse(error, &command_line))?;
    if args.append && args.output.as_deref().is_some_and(|path| path.as_os_str() == "-") {
        let message = "--append needs a file, and -o - is standard output; name a file";
        return Err(NotRun::Refused(message.to_owned()));
    }
    Ok(args)
}

/// The text of an error of clap's. In what the user typed, nothing looks like a paragraph of it, or like
/// what would be valid.
fn with_harmless_values(error: &clap::Error) -> String {
    let mut text = error.render().to_string();
    for (_, value) in error.context() {
        if let ContextValue::String(value) = value
            && harmless(value) != *value
        {
            text = text.replace(value, &harmless(value));
        }
    }
    text
}

/// Puts an error of clap's on one line. Help and the version stay as they are.
fn refuse(error: clap::Error, command_line: &[OsString]) -> NotRun {
    if !error.use_stderr() {
        return NotRun::Help(Box::new(error));
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(operand)) = error.get(ContextKind::InvalidArg)
        && !operand.starts_with('-')
    {
        // The file must not be replaced by advice to one that appends.
        let append = if appends(command_line, operand) { "-a " } else { "" };
        return NotRun::Refused(format!(
            "unexpected operand '{}'; to write to that file, say {append}-o {}",
            harmless(operand),
            shell_word(operand.as_ref())
        ));
    }
    let is_sign = |option: &str| option.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg)
        && option.strip_prefix('-').is_some_and(is_sign)
    {
        return NotRun::Refused(format!("unexpected argument '{option}'; a size has no sign, as in -m 64M"));
    }
    let text = with_harmless_values(&error);
    let mut paragraphs = text.trim().split("\n\n");
    let problem = paragraphs.next().unwrap_or_default();
    let problem = problem.strip_prefix("error: ").unwrap_or(problem);
    let tip = paragraphs.find_map(|paragraph| paragraph.trim().strip_prefix("tip: "));
    let tip = tip.unwrap_or("'overspill --help' tells more");
    NotRun::Refused(one_line(&format!("{problem}; {tip}")))
}

/// Whether a command line that has an `operand` says to append.
fn appends(command_line: &[OsString], operand: &str) -> bool {
    let (name, words) = command_line.split_at(command_line.len().min(1));
    let options = name.iter().chain(words.iter().filter(|word| word.as_os_str() != operand));
    let parsed = Args::command().ignore_errors(true).try_get_matches_from(options);
    parsed.is_ok_and(|matches| matches!(matches.try_get_one("append"), Ok(Some(true))))
}

/// Joins the lines of `text`. Blanks within a line stay: they may be what is wrong.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Reads the name of a file or a directory. clap's own parser answers an empty one as it does a missing one.
fn name() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|name| match name.is_empty() {
        true => Err("the name is empty"),
        false => Ok(PathBuf::from(name)),
    })
}

fn memory_size(text: &str) -> Result<usize, size::SizeError> {
    size::parse(text)?.try_into().map_err(|_| size::SizeError::TooLargeForMemory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_manual_fits_a_terminal() {
        for line in MANUAL.lines().chain(BRIEF.lines()) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
