//! `overspill`: soaks up its input within a memory limit, then writes it out.
//!
//! Promises:
//!
//! - No byte of output before the last byte of input.
//! - A regular file named with `-o` is whole or untouched, whatever ends the process.
//! - What can be known to fail is refused before any input is read.
//! - Memory stays within the limit and a few MiB; nothing else grows with the input, except by 34 bytes at
//!   most for each page of it, of 64 KiB or less.
//!
//! The order: [`args`] parses the command line, [`target`] chooses where the output goes, [`soak`] reads the
//! input, and [`pour`] writes it. An error is a [`failure`], printed in one line.
//!
//! Held by: `std-adapter/tests/command/` of this package.

mod append;
mod args;
mod block;
mod blocking;
mod checks;
mod failure;
mod links;
mod lock;
mod pour;
mod progress;
mod quote;
mod report;
mod size;
mod soak;
mod standard;
mod target;

use args::{Args, NotRun};
use failure::Failure;
use overspill::SpillPool;
use progress::Progress;
use report::Report;
use soak::Soak;
use standard::Standard;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
#[cfg(unix)]
use std::sync::Arc;
use std::time::Instant;
use target::Target;

fn main() -> ExitCode {
    ignore_file_size_signal();
    let result = match args::parse(std::env::args_os()) {
        Ok(args) => run(&args),
        Err(NotRun::Help(text)) => print_help(&text),
        Err(NotRun::Refused(line)) => Err(Failure::Message(line)),
    };
    result.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

/// Prints help or the version on standard output.
fn print_help(text: &clap::Error) -> Result<(), Failure> {
    Standard::Output.check_writable()?;
    let printed = text.print().and_then(|()| io::stdout().flush());
    printed.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
        _ => Failure::cannot("write", Path::new("standard output"), &error, "the help is not complete"),
    })
}

/// Lets a write past the limit on the size of files (`ulimit -f`) fail, as one on a full disk does.
/// The system would send SIGXFSZ first, which ends the process without a word. A handler that does
/// nothing of note is enough.
fn ignore_file_size_signal() {
    #[cfg(unix)]
    {
        let signal = rustix::process::Signal::XFSZ.as_raw();
        // It fails for signals that cannot be handled, and this can.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    Standard::Input.check_readable()?;
    checks::check_descriptors()?;
    let mut target = Target::choose(args.output.as_deref(), args.append)?;
    if let Target::File(file) = &target {
        append::check(file)?;
    }
    let pool = pool(args)?;
    let mut progress = Progress::new(args.progress);
    let old = if let Target::File(file) = &mut target { file.old.take() } else { None };
    let file = if let Target::File(file) = &target { Some(file) } else { None };
    // With --dir the content spills there, although it then has to be copied to the file.
    let spill_beside = file.filter(|_| args.dir.is_none()).map(|file| file.path.clone());
    let dir = args.dir.clone().or_else(|| Some(links::parent(spill_beside.as_ref()?).to_owned()));
    let dir = dir.as_deref();

    let start = Instant::now();
    let mut soak = Soak { pool: &pool, spill_beside, dir, progress: &progress };
    let content = soak.read_input(old, file.map(|file| &*file.user_path))?;
    let input_time = start.elapsed();

    let start = Instant::now();
    let mut report = match target {
        Target::File(file) if file.append => append::put(content, &file, &mut soak, input_time)?,
        target => {
            let report = Report::new(&pool, &content.buffer, content.old_len, input_time);
            pour::pour(content.buffer, target, dir, &mut progress)?;
            report
        }
    };
    report.output_time = start.elapsed();

    progress.finish();
    let text = match args {
        Args { json: true, .. } => report.json(),
        Args { stats: true, .. } => report.text(),
        _ => return Ok(()),
    };
    failure::say(&text); // the output is complete, so a closed standard error is no failure
    Ok(())
}

fn pool(args: &Args) -> Result<SpillPool, Failure> {
    let mut builder = SpillPool::builder().memory(args.memory).disk(args.disk.unwrap_or(u64::MAX));
    if let Some(dir) = &args.dir {
        // The library uses the directory when it first spills, which may be gigabytes later; so try it now.
        tempfile::tempfile_in(dir).map_err(|error| {
            Failure::cannot("use", dir, &error, "--dir needs a directory in which files can be made")
        })?;
        builder = builder.dir(dir);
    }
    builder.build().map_err(|error| Failure::message(error.to_string()))
}
