//! What was kept where, for people or for programs.

use indicatif::BinaryBytes;
use overspill::{BufferStats, PoolStats, SpillBuffer, SpillPool};
use std::fmt::Write;
use std::time::Duration;

/// What `--stats` and `--json` tell.
pub(crate) struct Report {
    input: u64,
    old: u64,
    buffer: BufferStats,
    pool: PoolStats,
    soaking: Duration,
    pub(crate) writing: Duration,
}

impl Report {
    /// To be taken when the input has ended: the buffer goes away with its content.
    pub(crate) fn new(pool: &SpillPool, buffer: &SpillBuffer, old: u64, soaking: Duration) -> Self {
        Report {
            input: buffer.len() - old,
            old,
            buffer: buffer.stats(),
            pool: pool.stats(),
            soaking,
            writing: Duration::ZERO,
        }
    }

    /// Bytes of the content that are on disk, not counting the unused ends of slots.
    fn on_disk(&self) -> u64 {
        self.buffer.disk_used.min(self.input + self.old)
    }

    fn in_memory(&self) -> u64 {
        self.input + self.old - self.on_disk()
    }

    /// A few lines.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        line("input", format!("{} ({} bytes) in {:.2?}", BinaryBytes(self.input), self.input, self.soaking));
        if self.old > 0 {
            line("appended", format!("to {} ({} bytes)", BinaryBytes(self.old), self.old));
        }
        let memory = (BinaryBytes(self.in_memory()), BinaryBytes(self.pool.memory_high_water));
        let budget = BinaryBytes(self.pool.memory_limit);
        line("in memory", format!("{}; at most {} of a budget of {budget} taken", memory.0, memory.1));
        let limit = match self.pool.disk_limit {
            u64::MAX => "no limit".into(),
            limit => format!("a limit of {}", BinaryBytes(limit)),
        };
        line("on disk", format!("{}, with {limit}", BinaryBytes(self.on_disk())));
        let io = self.buffer.io;
        line(
            "spilling",
            format!("{} in {} writes, {:.2?}", BinaryBytes(io.written_bytes), io.writes, io.time),
        );
        line("output", format!("{} in {:.2?}", BinaryBytes(self.input + self.old), self.writing));
        text
    }

    /// One line.
    pub(crate) fn json(&self) -> String {
        let limit = match self.pool.disk_limit {
            u64::MAX => "null".into(),
            limit => limit.to_string(),
        };
        let io = self.buffer.io;
        let members = [
            ("input_bytes", self.input.to_string()),
            ("appended_to_bytes", self.old.to_string()),
            ("output_bytes", (self.input + self.old).to_string()),
            ("memory_bytes", self.in_memory().to_string()),
            ("memory_high_water_bytes", self.pool.memory_high_water.to_string()),
            ("memory_limit_bytes", self.pool.memory_limit.to_string()),
            ("disk_bytes", self.on_disk().to_string()),
            ("disk_high_water_bytes", self.pool.disk_high_water.to_string()),
            ("disk_limit_bytes", limit),
            ("spill_writes", io.writes.to_string()),
            ("spill_written_bytes", io.written_bytes.to_string()),
            ("spill_seconds", format!("{:.6}", io.time.as_secs_f64())),
            ("input_seconds", format!("{:.6}", self.soaking.as_secs_f64())),
            ("output_seconds", format!("{:.6}", self.writing.as_secs_f64())),
        ];
        let members = members.map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}\n", members.join(","))
    }
}
