//! The report of `--stats` and `--json`: how much was kept where.
//!
//! Promise: the JSON is one object on one line, and its members add up.
//!
//! Held by: `std-adapter/tests/command/` of this package.

use indicatif::BinaryBytes;
use overspill::{BufferStats, PoolStats, SpillBuffer, SpillPool};
use std::fmt::Write;
use std::time::Duration;

/// The figures that `--stats` and `--json` print.
pub(crate) struct Report {
    /// Bytes of standard input.
    input_len: u64,
    /// Bytes that the file had before, with `--append`.
    old_len: u64,
    buffer: BufferStats,
    pool: PoolStats,
    input_time: Duration,
    pub(crate) output_time: Duration,
}

impl Report {
    /// Takes the figures. Call it between input and output, since writing the output consumes the buffer.
    pub(crate) fn new(pool: &SpillPool, buffer: &SpillBuffer, old_len: u64, input_time: Duration) -> Self {
        Report {
            input_len: buffer.len() - old_len,
            old_len,
            buffer: buffer.stats(),
            pool: pool.stats(),
            input_time,
            output_time: Duration::ZERO,
        }
    }

    /// Bytes of the content that are on disk.
    ///
    /// Each was written there at least once, and few twice, since input is only ever added. Frames and slots
    /// are counted whole, and the last page's bytes may lie in a frame while its slot is charged. So they
    /// only say how many bytes it is at least and at most.
    fn disk_bytes(&self) -> u64 {
        let len = self.input_len + self.old_len;
        let least = len.saturating_sub(self.buffer.memory_used);
        let most = self.buffer.disk_used.min(len);
        self.buffer.io.written_bytes.min(most).max(least)
    }

    fn memory_bytes(&self) -> u64 {
        self.input_len + self.old_len - self.disk_bytes()
    }

    /// The report in lines, for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line(
            "input",
            format!("{} ({} bytes) in {:.2?}", BinaryBytes(self.input_len), self.input_len, self.input_time),
        );
        if self.old_len > 0 {
            line("appended", format!("to {} ({} bytes)", BinaryBytes(self.old_len), self.old_len));
        }
        let memory = (BinaryBytes(self.memory_bytes()), BinaryBytes(self.pool.memory_high_water));
        let budget = BinaryBytes(self.pool.memory_limit);
        line("in memory", format!("{}; at most {} of a budget of {budget} taken", memory.0, memory.1));
        let limit = match self.pool.disk_limit {
            u64::MAX => "no limit".into(),
            limit => format!("a limit of {}", BinaryBytes(limit)),
        };
        line("on disk", format!("{}, with {limit}", BinaryBytes(self.disk_bytes())));
        let io = self.buffer.io;
        line(
            "spilling",
            format!("{} in {} writes, {:.2?}", BinaryBytes(io.written_bytes), io.writes, io.time),
        );
        line("output", format!("{} in {:.2?}", BinaryBytes(self.input_len + self.old_len), self.output_time));
        text
    }

    /// The report as JSON on one line, for programs.
    pub(crate) fn json(&self) -> String {
        let limit = match self.pool.disk_limit {
            u64::MAX => "null".into(),
            limit => limit.to_string(),
        };
        let io = self.buffer.io;
        let members = [
            ("input_bytes", self.input_len.to_string()),
            ("appended_to_bytes", self.old_len.to_string()),
            ("output_bytes", (self.input_len + self.old_len).to_string()),
            ("memory_bytes", self.memory_bytes().to_string()),
            ("memory_high_water_bytes", self.pool.memory_high_water.to_string()),
            ("memory_limit_bytes", self.pool.memory_limit.to_string()),
            ("disk_bytes", self.disk_bytes().to_string()),
            ("disk_high_water_bytes", self.pool.disk_high_water.to_string()),
            ("disk_limit_bytes", limit),
            ("spill_writes", io.writes.to_string()),
            ("spill_written_bytes", io.written_bytes.to_string()),
            ("spill_seconds", format!("{:.6}", io.time.as_secs_f64())),
            ("input_seconds", format!("{:.6}", self.input_time.as_secs_f64())),
            ("output_seconds", format!("{:.6}", self.output_time.as_secs_f64())),
        ];
        let members = members.map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}\n", members.join(","))
    }
}
