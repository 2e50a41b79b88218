//! System calls that are refused for good: which does a program make, and what comes of each?
//!
//! A table names every call that a program makes, with the errors that refuse it and what has to come of
//! that. The calls are counted from a mark on, the program's first own call: those before it are the
//! loader's, and are not refused. On a thread that the program starts, as many calls of a kind are let
//! through as the loader made of it.
//!
//! `tests/tests/refused_calls.rs`, in this crate's repository, has the library's table, and uses this file
//! too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What has to come of a call that is refused.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    /// All is done that would be done with it.
    Harmless,
    /// Where it is not done, the error has one of these words.
    Error(&'static [&'static str]),
    /// It is not refused: the kernel has no error for it, or the runtime cannot go on without it.
    NotRefused,
}

/// Names of a call, which differ between kernels, processors and C libraries; the errors that refuse it; the
/// outcome; and why that is so.
pub(crate) type Entry = (&'static [&'static str], &'static [&'static str], Outcome, &'static str);

/// What refuses a call that a sandbox forbids, or that a file system does not have.
pub(crate) const FORBIDDEN: &[&str] = &["EPERM", "ENOSYS", "EOPNOTSUPP"];

/// The command that runs `program` under strace, with `expressions`, and leaves its log at `log`.
pub(crate) fn traced(program: &Path, log: &Path, expressions: &[String]) -> Command {
    // A call that is refused may also be what ends a wait.
    let mut strace = Command::new("timeout");
    strace.args(["60", "strace", "-f", "-qq", "-o"]).arg(log);
    strace.args(expressions.iter().flat_map(|expression| ["-e", expression]));
    strace.arg(program).stdin(Stdio::null());
    strace
}

/// How often each call was made before the mark, and after it.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    before: BTreeMap<String, usize>,
    after: BTreeMap<String, usize>,
}

impl Calls {
    /// Reads a log of strace's, in which the first line that has `mark` begins the program's own calls.
    pub(crate) fn read(log: &Path, mark: &str) -> Calls {
        let mut calls = Calls::default();
        let mut is_own = false;
        for line in fs::read_to_string(log).unwrap().lines() {
            is_own |= line.contains(mark);
            let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
            let Some((name, _)) = call.split_once('(') else { continue };
            if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let counts = if is_own { &mut calls.after } else { &mut calls.before };
                *counts.entry(name.to_owned()).or_default() += 1;
            }
        }
        assert!(is_own, "no line of the log has {mark}");
        calls
    }

    /// How often the program made a call.
    #[allow(dead_code, reason = "the library's table does not count")]
    pub(crate) fn count(&self, name: &str) -> usize {
        self.before.get(name).unwrap_or(&0) + self.after.get(name).unwrap_or(&0)
    }

    /// The calls of the program's own.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.after.keys().map(|name| &**name).collect()
    }

    /// The expressions that refuse each call of `names` that the program makes, with `error` and from the
    /// mark on. None if it makes no such call.
    pub(crate) fn refusing(&self, names: &[&str], error: &str) -> Vec<String> {
        let made: Vec<&str> = names.iter().copied().filter(|name| self.after.contains_key(*name)).collect();
        let refuse = |name: &&str| {
            let first = self.before.get(*name).copied().unwrap_or(0) + 1;
            format!("inject={name}:error={error}:when={first}+")
        };
        let trace = (!made.is_empty()).then(|| format!("trace={}", made.join(",")));
        trace.into_iter().chain(made.iter().map(refuse)).collect()
    }
}

/// Checks that `made` is in `table`, and each of its names in one entry only.
#[track_caller]
pub(crate) fn assert_listed(made: &BTreeSet<&str>, table: &[Entry]) {
    let listed: Vec<&str> = table.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
    let set: BTreeSet<&str> = listed.iter().copied().collect();
    assert_eq!(listed.len(), set.len(), "a call is listed twice");
    let missing: Vec<_> = made.difference(&set).collect();
    assert!(missing.is_empty(), "no entry says what comes of it if these are refused: {missing:?}");
    for (names, errors, outcome, why) in table {
        let is_refused = !matches!(outcome, Outcome::NotRefused);
        assert!(is_refused != errors.is_empty() && !why.is_empty(), "{names:?}");
    }
}

/// What a program said.
pub(crate) fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said)).concat()
}
