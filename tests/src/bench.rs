//! Rivals in one run: alternating, medians, ratios.
//!
//! Wall-clock times on a shared machine swing; the ratio of two medians that were taken in turn does
//! so much less. So nothing here prints a time without the rival's beside it.

use std::time::Duration;

/// Something to be measured: a name, and a run that says how long each of its parts took.
pub struct Contender<'a, const PARTS: usize> {
    /// What the table calls it.
    pub name: &'a str,
    /// One run from scratch. What is not timed inside does not count.
    pub run: Box<dyn FnMut() -> [Duration; PARTS] + 'a>,
}

impl<'a, const PARTS: usize> Contender<'a, PARTS> {
    /// A contender of that name.
    pub fn new(name: &'a str, run: impl FnMut() -> [Duration; PARTS] + 'a) -> Self {
        Contender { name, run: Box::new(run) }
    }
}

/// Runs all contenders in turn, `rounds` times after one that does not count, and returns the median
/// of each part of each of them.
pub fn alternate<const PARTS: usize>(
    rounds: usize,
    contenders: &mut [Contender<'_, PARTS>],
) -> Vec<[Duration; PARTS]> {
    let mut times = vec![vec![Vec::with_capacity(rounds); PARTS]; contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let parts = (contender.run)();
            if round > 0 {
                times.iter_mut().zip(parts).for_each(|(times, part)| times.push(part));
            }
        }
    }
    times.iter_mut().map(|parts| std::array::from_fn(|part| median(&mut parts[part]))).collect()
}

/// The middle one of `times`, or the lower of two. Zero if there are none.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// One line of a result table: ours against one rival, with the ratio that is aimed at.
pub struct Row {
    /// What was done.
    pub case: String,
    /// Against whom.
    pub rival: String,
    /// Our time, memory or whatever is counted; less is better.
    pub ours: f64,
    /// The rival's.
    pub theirs: f64,
    /// Their figure divided by ours is to be at least this.
    pub target: f64,
}

impl Row {
    /// Compares two times.
    pub fn times(
        case: impl Into<String>,
        rival: &str,
        ours: Duration,
        theirs: Duration,
        target: f64,
    ) -> Self {
        let (ours, theirs) = (ours.as_secs_f64() * 1e6, theirs.as_secs_f64() * 1e6);
        Row { case: case.into(), rival: rival.into(), ours, theirs, target }
    }

    /// How many times less ours is than theirs.
    pub fn ratio(&self) -> f64 {
        self.theirs / self.ours
    }

    /// Prints the line; the last column says how it stands to the target.
    pub fn print(&self) {
        let verdict = if self.ratio() >= self.target { "" } else { "  MISSED" };
        println!(
            "{:<44} {:>12.1} {:<18} {:>12.1} {:>8.2} {:>7.2}{verdict}",
            self.case,
            self.ours,
            self.rival,
            self.theirs,
            self.ratio(),
            self.target,
        );
    }

    /// Prints the line above all lines.
    pub fn print_header() {
        println!(
            "{:<44} {:>12} {:<18} {:>12} {:>8} {:>7}",
            "case (µs, medians)", "overspill", "rival", "rival's", "ratio", "target"
        );
    }
}
