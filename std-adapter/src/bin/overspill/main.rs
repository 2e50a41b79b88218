//! `overspill`: soaks up its input within a memory budget, then writes it out.
//!
//! Promises:
//!
//! - No byte of output before the last byte of input.
//! - A file named with `-o` is whole or untouched, whatever ends the process.
//! - What can be known to fail is refused before any input is read.
//! - Memory stays within the budget and a few MiB; nothing else grows with the input, but 64 bytes for
//!   each 64 KiB.
//!
//! The order: [`args`] reads the command line, [`target`] decides where the output goes, [`soak`] takes
//! the input in, [`pour`] hands it over. What goes wrong is a [`failure`], in one line.

mod args;
mod block;
mod failure;
mod pour;
mod progress;
mod report;
mod size;
mod soak;
mod target;

use args::{Args, NoArgs};
use failure::Failure;
use overspill::SpillPool;
use progress::Progress;
use report::Report;
use soak::Soak;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;
use target::Target;

fn main() -> ExitCode {
    let done = match args::parse(std::env::args_os()) {
        Ok(args) => run(&args),
        Err(NoArgs::Shown(asked_for)) => asked_for.exit(),
        Err(NoArgs::Refused(line)) => Err(Failure::Said(line)),
    };
    done.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

fn run(args: &Args) -> Result<(), Failure> {
    let mut target = Target::choose(args.output.as_deref(), args.append)?;
    let pool = pool(args)?;
    let mut progress = Progress::new(args.progress);
    let place = match &mut target {
        Target::File(place) => Some(place),
        Target::Stdout | Target::Stream { .. } => None,
    };
    let path = place.as_ref().map(|place| place.path.clone());
    // A directory that was asked for is taken, though the file then costs a copy.
    let beside = path.filter(|_| args.dir.is_none());
    let dir = args.dir.clone().or_else(|| Some(target::parent(beside.as_ref()?).to_owned()));
    let dir = dir.as_deref();

    let start = Instant::now();
    let (buffer, old) = Soak { pool: &pool, beside, dir, progress: &mut progress }.input(place)?;
    if let Target::File(place) = &mut target {
        place.old = None; // Windows replaces no file that is open
    }
    let mut report = Report::new(&pool, &buffer, old, start.elapsed());

    let start = Instant::now();
    pour::pour(buffer, &target, dir, &mut progress)?;
    report.writing = start.elapsed();

    progress.finish();
    let told = match args {
        Args { json: true, .. } => report.json(),
        Args { stats: true, .. } => report.text(),
        _ => return Ok(()),
    };
    // The output is where it belongs; that nobody hears about it changes nothing.
    let _ = io::stderr().write_all(told.as_bytes());
    Ok(())
}

fn pool(args: &Args) -> Result<SpillPool, Failure> {
    let mut builder = SpillPool::builder().memory(args.memory).disk(args.disk.unwrap_or(u64::MAX));
    if let Some(dir) = &args.dir {
        // The library looks when it first spills; that may be gigabytes from now.
        tempfile::tempfile_in(dir).map_err(|error| {
            Failure::at("use", dir, &error, "--dir needs a directory in which files can be made")
        })?;
        builder = builder.dir(dir);
    }
    builder.build().map_err(|error| Failure::said(error.to_string()))
}
