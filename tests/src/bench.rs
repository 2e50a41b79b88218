//! Rivals in one run: in turn, with medians and ratios.
//!
//! Wall-clock times on a shared machine vary much; the ratio of two medians that were taken in turn varies
//! much less. So every time is printed beside the rival's.

use std::hint::black_box;
use std::io::{Read, Seek, Write};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

/// The arguments of a bench, without the options that cargo adds.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect()
}

/// How long `f` takes.
pub fn timed(f: impl FnOnce()) -> Duration {
    let started = Instant::now();
    f();
    started.elapsed()
}

/// A figure of this process from `/proc/self/status`: in KiB, if it is one of memory. `None` where there is
/// no such file.
pub fn process_status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let figures = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    figures.split_whitespace().next()?.parse().ok()
}

/// The most memory that this process ever had resident, in KiB; 0 where the system does not say.
pub fn peak_resident_kib() -> u64 {
    process_status("VmHWM").unwrap_or(0)
}

/// What is measured: a name, and a run that returns how long each of its parts took.
pub struct Contender<'a, const PARTS: usize> {
    /// Its name in the table.
    pub name: &'a str,
    /// One run from scratch. Only what it times itself counts.
    pub run: Box<dyn FnMut() -> [Duration; PARTS] + 'a>,
}

impl<'a, const PARTS: usize> Contender<'a, PARTS> {
    /// A contender of that name.
    pub fn new(name: &'a str, run: impl FnMut() -> [Duration; PARTS] + 'a) -> Self {
        Contender { name, run: Box::new(run) }
    }
}

/// Runs all contenders in turn, in one round that does not count and in `rounds` that do. Over the rounds
/// each comes after each other one as often. Returns, for each contender, the median of each part.
pub fn alternate<const PARTS: usize>(
    rounds: usize,
    contenders: &mut [Contender<'_, PARTS>],
) -> Vec<[Duration; PARTS]> {
    let mut times = vec![vec![Vec::with_capacity(rounds); PARTS]; contenders.len()];
    for round in 0..=rounds {
        for at in order(round, contenders.len()) {
            let parts = (contenders[at].run)();
            if round > 0 {
                times[at].iter_mut().zip(parts).for_each(|(times, part)| times.push(part));
            }
        }
    }
    times.iter_mut().map(|parts| std::array::from_fn(|part| median(&mut parts[part]))).collect()
}

/// The order of `count` contenders in a round: over `2 * count` rounds each comes next to each other one as
/// often, before it and after it, and at each place as often (a Williams design).
///
/// What ran before has a part in the times: whose memory is still in the caches, and what the file system has
/// to tidy up. While each round began with the next contender, but went on in the same order, a vector always
/// ran in the memory that the spooled file before it had left warm, and seemed half as fast again.
fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    let is_reversed = !count.is_multiple_of(2) && !(round / count).is_multiple_of(2);
    (0..count).map(move |turn| {
        let turn = if is_reversed { count - 1 - turn } else { turn };
        let zigzag = if turn.is_multiple_of(2) { count - turn / 2 } else { turn.div_ceil(2) };
        (round + zigzag) % count
    })
}

/// The median of `times`: of an even number, the lower one of the two in the middle. Zero if `times` is
/// empty.
pub fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// Bytes that share no cache line with other memory. What threads that are measured together copy from and to
/// has to be such: pieces of 64 bytes of two of them lay in one line, and took half as long again.
#[derive(Debug)]
pub struct Apart(Vec<u8>);

/// More than the bytes that any processor fetches at a time.
const APART: usize = 256;

impl Apart {
    /// `len` bytes of `value`.
    pub fn new(value: u8, len: usize) -> Self {
        Apart(vec![value; len + 2 * APART])
    }
}

impl Deref for Apart {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[APART..self.0.len() - APART]
    }
}

impl DerefMut for Apart {
    fn deref_mut(&mut self) -> &mut [u8] {
        let end = self.0.len() - APART;
        &mut self.0[APART..end]
    }
}

/// Bytes that differ from page to page.
pub fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 9)) as u8).collect()
}

/// Writes `total` bytes, from `data` over and over, in pieces of `chunk` bytes; the last of each `data` may
/// be shorter, and so may the last of all.
///
/// # Panics
/// If a write fails.
pub fn write_chunks(file: &mut impl Write, data: &[u8], total: usize, chunk: usize) {
    let mut left = total;
    while left > 0 {
        for piece in data[..data.len().min(left)].chunks(chunk) {
            file.write_all(piece).unwrap();
            left -= piece.len();
        }
    }
}

/// Reads as many times all of `buf` as fit in `total`, and at the end the rest.
///
/// # Panics
/// If a read fails.
pub fn read_chunks(file: &mut impl Read, buf: &mut [u8], total: usize) {
    for _ in 0..total / buf.len() {
        file.read_exact(buf).unwrap();
        black_box(&buf);
    }
    let rest = total % buf.len();
    file.read_exact(&mut buf[..rest]).unwrap();
}

/// Writes `total` bytes in chunks into a new file, rewinds, and reads them. Times both parts.
///
/// # Panics
/// If a call fails.
pub fn write_read<F: Read + Write + Seek>(
    make: impl FnOnce() -> F,
    data: &[u8],
    total: usize,
    chunk: usize,
) -> [Duration; 2] {
    let mut buf = vec![0; chunk];
    let mut made = None;
    let write = timed(|| write_chunks(made.insert(make()), data, total, chunk));
    let mut made = made.unwrap();
    made.rewind().unwrap();
    let read = timed(|| read_chunks(&mut made, &mut buf, total));
    [write, read]
}

/// One line of a table of results: ours against one rival, and the ratio that is the target.
pub struct Row {
    /// What was done.
    pub case: String,
    /// The rival's name.
    pub rival: String,
    /// Our time, memory or other figure. Less is better.
    pub ours: f64,
    /// The rival's figure.
    pub theirs: f64,
    /// What the rival's figure divided by ours should be at least.
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

    /// The rival's figure divided by ours.
    pub fn ratio(&self) -> f64 {
        self.theirs / self.ours
    }

    /// Prints the line, with `MISSED` at its end if the ratio is below the target.
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

    /// Prints the heading of the table.
    pub fn print_header() {
        println!(
            "{:<44} {:>12} {:<18} {:>12} {:>8} {:>7}",
            "case (µs, medians)", "overspill", "rival", "rival's", "ratio", "target"
        );
    }
}

/// Prints both parts of what [`write_read`] measured.
pub fn print_write_read(case: &str, rival: &str, ours: [Duration; 2], theirs: [Duration; 2], target: f64) {
    Row::times(format!("{case}, write"), rival, ours[0], theirs[0], target).print();
    Row::times(format!("{case}, read"), rival, ours[1], theirs[1], target).print();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_contender_comes_next_to_each_other_as_often() {
        for count in 1..=7 {
            let (mut neighbours, mut places) = (BTreeMap::new(), BTreeMap::new());
            for round in 0..2 * count {
                let turns: Vec<usize> = order(round, count).collect();
                turns.windows(2).for_each(|pair| *neighbours.entry((pair[0], pair[1])).or_insert(0) += 1);
                turns.into_iter().enumerate().for_each(|place| *places.entry(place).or_insert(0) += 1);
            }
            assert_eq!(neighbours.len(), count * (count - 1), "of {count}");
            assert!(neighbours.values().all(|times| *times == 2), "of {count}: {neighbours:?}");
            assert!(places.len() == count * count && places.values().all(|times| *times == 2), "of {count}");
        }
    }
}
