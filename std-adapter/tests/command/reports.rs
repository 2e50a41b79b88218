//! Statistics and the manual: right, and apart from the output.

use super::*;

/// `--json` prints one object, and its numbers, which scripts read, add up.
#[test]
fn json_is_one_object_that_adds_up() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), noise(1000)).unwrap();
    let args = ["--json", "--stats", "-m", "128K", "-d", "10M", "-a", "-o", "file"];
    let output = soak(dir.path(), &args, &noise(1 << 20));
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(output.stderr.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let reported: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let number = |name: &str| reported[name].as_u64().unwrap_or_else(|| panic!("{name} in {reported}"));
    assert_eq!(number("input_bytes"), 1 << 20);
    assert_eq!(number("appended_to_bytes"), 1000);
    assert_eq!(number("output_bytes"), (1 << 20) + 1000);
    assert_eq!(number("memory_bytes") + number("disk_bytes"), number("output_bytes"));
    assert!(number("memory_high_water_bytes") <= number("memory_limit_bytes"));
    assert_eq!((number("memory_limit_bytes"), number("disk_limit_bytes")), (128 << 10, 10 << 20));
    assert!(number("spill_writes") > 0 && reported["input_seconds"].is_f64());
    let output = soak(dir.path(), &["--json"], b"");
    let reported: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(reported["disk_limit_bytes"].is_null());
}

/// `--stats` prints for people, and never into the output.
#[test]
fn stats_go_to_standard_error() {
    let dir = TempDir::new().unwrap();
    let output = soak(dir.path(), &["--stats", "-m", "64K"], &noise(1 << 20));
    assert!(output.status.success() && output.stdout == noise(1 << 20));
    let said = String::from_utf8(output.stderr).unwrap();
    for word in ["input", "1.00 MiB (1048576 bytes)", "in memory", "64.00 KiB", "on disk", "no limit"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// With standard error closed, the command works: no message may make it panic.
#[test]
#[cfg(unix)]
fn standard_error_may_be_closed() {
    let dir = TempDir::new().unwrap();
    let output = shell(
        dir.path(),
        "echo x | $OVERSPILL --stats --progress 2>&-; echo $?; $OVERSPILL --no 2>&-; echo $?",
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x\n0\n1\n");
}

/// `--help` is a manual with all its sections.
#[test]
fn help_is_a_manual() {
    let dir = TempDir::new().unwrap();
    let output = soak(dir.path(), &["--help"], b"");
    assert_quiet_success(&output);
    let text = String::from_utf8(output.stdout).unwrap();
    for section in ["Usage:", "SIZES", "EXAMPLES", "FILES", "ENVIRONMENT", "SIGNALS", "EXIT STATUS"] {
        assert!(text.contains(section), "{section}");
    }
}

/// Of the help that could not be written, nothing was said, and the status was 0.
#[test]
#[cfg(unix)]
fn help_that_cannot_be_written_is_an_error() {
    let dir = TempDir::new().unwrap();
    for option in ["--help", "-h", "--version"] {
        if Path::new("/dev/full").exists() {
            let output = shell(dir.path(), &format!("$OVERSPILL {option} > /dev/full"));
            assert_refused(&output, &["standard output", "No space left"]);
        }
        assert_refused(&shell(dir.path(), &format!("$OVERSPILL {option} >&-")), &["standard output"]);
    }
}

/// What is on disk was counted in slots, the last of which is seldom full. What is in memory was all the
/// rest, and came out too low: 67,043,329 bytes of 64 MiB that were full.
#[test]
fn what_is_in_memory_and_on_disk_is_counted_in_bytes_of_content() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("old"), noise(100_001)).unwrap();
    let numbers = |args: &[&str], input: &[u8]| {
        let output = soak(dir.path(), &[args, &["--json"]].concat(), input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} of {} bytes: {:?}: {said}", input.len(), output.status);
        let reported: serde_json::Value = serde_json::from_str(&said).unwrap();
        ["memory_bytes", "disk_bytes", "output_bytes", "spill_written_bytes", "memory_high_water_bytes"]
            .map(|name| reported[name].as_u64().unwrap())
    };
    let [in_memory, on_disk, ..] = numbers(&["-o", "file"], &vec![7; (64 << 20) + 196_609]);
    assert_eq!((in_memory, on_disk), (64 << 20, 196_609));
    let input = noise(3 << 20);
    for past in [-70_000_i64, -1, 0, 1, 4095, 4097, 30_000, 32_768, 32_769, 65_537, 196_609, 1_000_000] {
        let len = usize::try_from((1 << 20) + past).unwrap();
        for args in
            [&["-m1M"][..], &["-m1M", "-ofile"], &["-m1M", "-ofile", "-T."], &["-m1M", "-aoold"], &["-m0"]]
        {
            let [in_memory, on_disk, all, written, high_water] = numbers(args, &input[..len]);
            // Each byte that is on disk was written there once.
            assert_eq!((in_memory + on_disk, on_disk), (all, written), "{args:?} {len}");
            assert!(in_memory <= high_water, "{args:?} {len}: {in_memory} in {high_water}");
        }
        fs::write(dir.path().join("old"), &input[..100_001]).unwrap();
    }
    // The slot of a page is charged to its end, though the last bytes lie in a frame: they were said to be on
    // disk, where 42,319 bytes were written and 43,799 counted.
    for len in [1, 700, 1480, 2048, 3000] {
        fs::write(dir.path().join("old"), &input[..42_319]).unwrap();
        let [in_memory, on_disk, all, written, _] = numbers(&["-m4096", "-aoold"], &input[..len]);
        assert_eq!((in_memory + on_disk, on_disk), (all, written), "{len}");
    }
}
