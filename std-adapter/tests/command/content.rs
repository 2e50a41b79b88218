//! The output is the input, comes after its end, and takes no more memory than the limit.

use super::*;
#[cfg(target_os = "linux")]
use std::io::Read;
#[cfg(target_os = "linux")]
use std::time::Instant;

/// The output is the input, wherever the bytes lie in between.
#[test]
fn what_goes_in_comes_out() {
    let dir = TempDir::new().unwrap();
    for len in [0, 1, 4095, 65536, 65537, 262_144, 3_000_001] {
        let input = noise(len);
        for memory in ["0", "1", "4K", "100K", "1M", "64M", "15.9E"] {
            let output = soak(dir.path(), &["--memory", memory], &input);
            assert_quiet_success(&output);
            assert!(output.stdout == input, "{len} bytes through {memory}");
        }
    }
}

/// A short read is not the end of the input.
#[test]
fn input_may_come_slowly() {
    let dir = TempDir::new().unwrap();
    let output = soak_slowly(dir.path(), &["-m", "4K"], 20, &["1", "2", "3", "4", "5"]);
    assert_quiet_success(&output);
    assert_eq!(output.stdout, b"12345");
}

/// There is no output before the end of the input.
#[test]
fn nothing_comes_out_before_the_input_has_ended() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    let mut child = start(&mut overspill(dir.path(), &["-o", "file", "-m", "64K"]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(1 << 20)).unwrap();
    sleep(Duration::from_millis(100));
    assert!(!file.exists());
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read(&file).unwrap(), noise(1 << 20));
}

/// What the command is for: a pipeline that writes the file that it reads.
#[test]
#[cfg(unix)] // there is no `sort` of this kind elsewhere
fn a_file_can_be_sorted_in_place() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("words");
    fs::write(&file, (0..50_000).rev().map(|n| format!("{n:05}\n")).collect::<String>()).unwrap();
    assert_quiet_success(&shell(dir.path(), "sort words | $OVERSPILL -m 16K -o words"));
    let sorted: String = (0..50_000).map(|n| format!("{n:05}\n")).collect();
    assert!(fs::read_to_string(&file).unwrap() == sorted);
    assert_eq!(names_in(dir.path()), ["words"]);
}

/// Empty input is content, too: it must not leave a stale file.
#[test]
fn empty_input_makes_an_empty_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b""));
    assert_quiet_success(&soak(dir.path(), &["-o", "new"], b""));
    assert_eq!((fs::read(&file).unwrap().len(), fs::read(dir.path().join("new")).unwrap().len()), (0, 0));
}

/// Sixty-four times the memory limit goes through, and the peak memory of the process stays within the limit
/// and 8 MiB.
#[test]
#[cfg(target_os = "linux")]
fn memory_stays_within_the_limit() {
    const LIMIT: u64 = 4 << 20;
    const BESIDES: u64 = 8 << 20;
    let dir = TempDir::new().unwrap();
    let mut child = overspill(dir.path(), &["-m", "4M"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let block = noise(1 << 20);
    for _ in 0..256 {
        stdin.write_all(&block).unwrap();
    }
    drop(stdin);
    // The first byte of output comes after the last of input; the peak is the process's own count.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    assert!(peak <= LIMIT + BESIDES, "{peak} bytes at the peak");
    let start = Instant::now();
    let left = std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(left, (256 << 20) - 1, "after {:?}", start.elapsed());
    assert!(child.wait().unwrap().success());
}
