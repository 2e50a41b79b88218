//! Progress and hints: when something is shown, and what.

use super::*;
#[cfg(unix)]
use std::io::Read;
#[cfg(unix)]
use std::process::Child;

/// A terminal: the user's end, and the command's.
#[cfg(unix)]
fn terminal() -> (fs::File, fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::ffi::OsStrExt;
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    (user.into(), fs::File::options().read(true).write(true).open(path).unwrap())
}

/// Reads what `child` prints on the terminal until it has ended, and asserts that it succeeded.
#[cfg(unix)]
fn shown(user: &mut fs::File, mut child: Child) -> String {
    let (mut shown, mut some) = (Vec::new(), [0; 4096]);
    // Once no process has the command's end open, reading fails.
    while let Ok(n @ 1..) = user.read(&mut some) {
        shown.extend_from_slice(&some[..n]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

/// What a shell's `script` prints on a terminal that is its standard error.
#[cfg(unix)]
fn on_terminal(dir: &Path, script: &str) -> String {
    let (mut user, end) = terminal();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(dir).env("OVERSPILL", OVERSPILL).env("TERM", "xterm");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
    drop(command); // it holds the command's end open
    shown(&mut user, child)
}

/// A terminal shows progress: of the whole input, if its length is known, or of what has come. Nothing was
/// shown before 256 KiB had come, however long that took.
#[test]
#[cfg(unix)]
fn a_terminal_shows_a_bar() {
    let dir = TempDir::new().unwrap();
    let on_terminal = |script: &str| on_terminal(dir.path(), script);
    let piped = on_terminal("{ echo 1; sleep 0.3; echo 2; } | $OVERSPILL --progress -o file");
    assert!(piped.contains("2 B soaked up") && piped.contains("4 B soaked up"), "{piped:?}");
    assert!(piped.contains("writing 4 B to file"), "{piped:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"1\n2\n");
    let from_file = on_terminal("$OVERSPILL --progress -o copy <file");
    assert!(from_file.contains("4 B of 4 B"), "{from_file:?}");
    // Without the option, it shows a bar only if it takes long.
    assert_eq!(on_terminal("echo 1 | $OVERSPILL -o file"), "");
    let slow = on_terminal("{ echo 1; sleep 0.7; echo 2; } | $OVERSPILL -o file");
    assert!(slow.contains("4 B soaked up"), "{slow:?}");
}

/// A user who starts the command without input sees how to end it, instead of a silent terminal. The command
/// read the end of the input twice, and so the user had to type it twice.
#[test]
#[cfg(unix)]
fn input_from_a_terminal_starts_with_a_hint_how_to_end_it() {
    let dir = TempDir::new().unwrap();
    let (mut user, end) = terminal();
    let mut command = overspill(dir.path(), &["-o", "file"]);
    command.stdin(end.try_clone().unwrap()).stdout(Stdio::null()).stderr(end);
    let child = start(&mut command);
    drop(command);
    user.write_all(b"typed\n\x04").unwrap();
    let said = shown(&mut user, child);
    assert!(said.contains("overspill: reading from the terminal; end with Ctrl-D"), "{said:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"typed\n");
}

/// `--progress` prints lines where there is no terminal.
#[test]
fn progress_goes_to_standard_error() {
    let dir = TempDir::new().unwrap();
    let output = soak_slowly(dir.path(), &["--progress", "-o", "file"], 1100, &["1\n", "2\n", "3\n"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("soaked up") && said.contains("writing"), "{said}");
}

/// Progress was shown when bytes came, and only then: nothing for as long as the input stalled, and afterwards, to catch up, a
/// line for each second of that at once.
#[test]
fn a_stall_shows_progress_and_is_not_caught_up_with() {
    let dir = TempDir::new().unwrap();
    let mut child = start(&mut overspill(dir.path(), &["--progress", "-o", "file"]));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"1\n").unwrap();
    sleep(Duration::from_millis(3500));
    for part in noise(1 << 20).chunks(1 << 12) {
        stdin.write_all(part).unwrap();
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let stalled = lines.iter().filter(|line| **line == "overspill: 2 B soaked up").count();
    assert!((2..=4).contains(&stalled) && lines.len() <= stalled + 3, "{said}");
    assert!(output.status.success() && said.contains("writing 1.00 MiB"), "{said}");
}

/// As above, on a terminal.
#[test]
#[cfg(unix)]
fn a_terminal_shows_a_bar_while_the_input_stalls() {
    let dir = TempDir::new().unwrap();
    let stalled = on_terminal(dir.path(), "{ head -c 100K /dev/zero; sleep 1.5; } | $OVERSPILL -o file");
    assert!(stalled.matches("100.00 KiB soaked up").count() >= 5, "{stalled:?}");
    // The speed counts from the beginning, and not from when the bar is first shown.
    assert!(!stalled.contains("MiB/s") && !stalled.contains("GiB/s"), "{stalled:?}");
}

/// The length of the file was taken for what was to come, although some had been read, or the system had made it up.
#[test]
#[cfg(target_os = "linux")]
fn the_total_is_what_is_still_to_come() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("input"), noise(3000)).unwrap();
    let script = "{ dd bs=1000 count=1 status=none >/dev/null; $OVERSPILL --progress -o file; } <input";
    let shown = on_terminal(dir.path(), script);
    assert!(shown.contains("1.95 KiB of 1.95 KiB") && !shown.contains("2.93 KiB"), "{shown:?}");
    for made_up in ["/proc/self/status", "/sys/kernel/uevent_seqnum"] {
        if Path::new(made_up).exists() {
            let shown = on_terminal(dir.path(), &format!("$OVERSPILL --progress -o file <{made_up}"));
            assert!(shown.contains("soaked up") && !shown.contains(" of "), "{made_up}: {shown:?}");
        }
    }
}

/// With `--append`, input that was copied again, because the file had changed, was counted again.
#[test]
fn what_is_copied_again_does_not_count_again() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "one\n").unwrap();
    let mut child = start(&mut overspill(dir.path(), &["--progress", "-a", "-o", "log"]));
    let mut stdin = child.stdin.take().unwrap();
    sleep(Duration::from_millis(200));
    fs::File::options().append(true).open(dir.path().join("log")).unwrap().write_all(b"two\n").unwrap();
    stdin.write_all(b"three\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "overspill: writing 14 B to log\n");
}

/// A lock that another program holds was waited for in silence.
#[test]
#[cfg(unix)]
fn waiting_for_a_lock_is_shown() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let dir = TempDir::new().unwrap();
    let log = fs::File::options().append(true).create(true).open(dir.path().join("log")).unwrap();
    fcntl_lock(&log, FlockOperation::LockExclusive).unwrap();
    let mut child = start(&mut overspill(dir.path(), &["--progress", "-a", "-o", "log"]));
    drop(child.stdin.take());
    sleep(Duration::from_millis(2500));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    drop(log);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(before.contains(&"overspill: waiting for the lock on log"), "{said}");
    assert!(output.status.success() && *last == "overspill: writing 0 B to log", "{said}");
}
