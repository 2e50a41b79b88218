//! Progress and hints: when something is shown, and what.

use super::*;
use std::io::Read;
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

/// What a command prints, as it comes.
struct Printed {
    pieces: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Printed {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut some = [0; 4096];
            // Once no process has the command's end of a terminal open, reading fails.
            while let Ok(n @ 1..) = from.read(&mut some) {
                let _ = sender.send(some[..n].to_vec());
            }
        });
        Printed { pieces, bytes: Vec::new() }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Waits for more, and returns whether some has come before the end.
    fn more(&mut self) -> bool {
        let piece = self.pieces.recv_timeout(Duration::from_secs(60));
        assert_ne!(piece, Err(RecvTimeoutError::Timeout), "it hangs after {:?}", self.text());
        piece.is_ok_and(|piece| {
            self.bytes.extend(piece);
            true
        })
    }

    /// Waits until what was printed `is_enough`.
    #[track_caller]
    fn until(&mut self, is_enough: impl Fn(&str) -> bool) {
        while !is_enough(&self.text()) {
            assert!(self.more(), "it has ended: {:?}", self.text());
        }
    }

    /// All that `child` prints until it has ended. Asserts that it succeeded.
    #[track_caller]
    fn all_of(mut self, mut child: Child) -> String {
        while self.more() {}
        assert!(child.wait().unwrap().success(), "{:?}", self.text());
        self.text()
    }
}

/// Starts `overspill` with `args`, and returns it with what it prints on standard error, and its input.
fn start_beside(dir: &Path, args: &[&str]) -> (Child, Printed, ChildStdin) {
    let mut child = start(&mut overspill(dir, args));
    let (stderr, stdin) = (child.stderr.take().unwrap(), child.stdin.take().unwrap());
    (child, Printed::new(stderr), stdin)
}

/// The same on a terminal.
#[cfg(unix)]
fn start_on_terminal(dir: &Path, args: &[&str]) -> (Child, Printed, ChildStdin) {
    let (user, end) = terminal();
    // The command holds its end open, and is dropped with this statement.
    let mut child = start(overspill(dir, args).stdout(Stdio::null()).stderr(end).env("TERM", "xterm"));
    let stdin = child.stdin.take().unwrap();
    (child, Printed::new(user), stdin)
}

/// A terminal: the user's end, and the command's.
#[cfg(unix)]
fn terminal() -> (fs::File, fs::File) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::os::unix::ffi::OsStrExt;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    // Or the commands of other tests have it, too.
    #[cfg(target_os = "linux")]
    let flags = flags | OpenptFlags::CLOEXEC;
    let user = openpt(flags).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    (user.into(), fs::File::options().read(true).write(true).open(path).unwrap())
}

/// What a shell's `script` prints on a terminal that is its standard error.
#[cfg(unix)]
fn on_terminal(dir: &Path, script: &str) -> String {
    let (user, end) = terminal();
    let mut command = Command::new("bash");
    command.args(["-c", script]).current_dir(dir).env("OVERSPILL", OVERSPILL).env("TERM", "xterm");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
    drop(command); // it holds the command's end open
    Printed::new(user).all_of(child)
}

/// A terminal shows progress: of the whole input, if its length is known, or of what has come. Nothing was
/// shown before 256 KiB had come, however long that took.
///
/// Its input came after so many tenths of a second, and a quick command had to be one; a late command showed
/// the sum alone, or a bar.
#[test]
#[cfg(unix)]
fn a_terminal_shows_a_bar() {
    let dir = TempDir::new().unwrap();
    let on_terminal = |script: &str| on_terminal(dir.path(), script);
    let in_two = |args: &[&str]| {
        let (child, mut printed, mut stdin) = start_on_terminal(dir.path(), args);
        stdin.write_all(b"1\n").unwrap();
        printed.until(|shown| shown.contains("2 B soaked up"));
        stdin.write_all(b"2\n").unwrap();
        drop(stdin);
        printed.all_of(child)
    };
    let piped = in_two(&["--progress", "-o", "file"]);
    assert!(piped.contains("4 B soaked up") && piped.contains("writing 4 B to file"), "{piped:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"1\n2\n");
    let from_file = on_terminal("$OVERSPILL --progress -o copy <file");
    assert!(from_file.contains("4 B of 4 B"), "{from_file:?}");
    // Without the option, it shows a bar only if it takes long.
    let began = Instant::now();
    let quick = on_terminal("echo 1 | $OVERSPILL -o file");
    assert!(quick.is_empty() || began.elapsed() >= Duration::from_millis(500), "{quick:?}");
    let slow = in_two(&["-o", "file"]);
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
    let said = Printed::new(user).all_of(child);
    assert!(said.contains("overspill: reading from the terminal; end with Ctrl-D"), "{said:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"typed\n");
}

/// `--progress` prints lines where there is no terminal. It had two seconds to start and to print one; a
/// late command did not.
#[test]
fn progress_goes_to_standard_error() {
    let dir = TempDir::new().unwrap();
    let (child, mut printed, mut stdin) = start_beside(dir.path(), &["--progress", "-o", "file"]);
    stdin.write_all(b"1\n").unwrap();
    printed.until(|said| said.contains("soaked up"));
    drop(stdin);
    let said = printed.all_of(child);
    assert!(said.contains("writing 2 B to file"), "{said}");
}

/// Progress was shown when bytes came, and only then: nothing for as long as the input stalled, and
/// afterwards, to catch up, a line for each second of that at once.
///
/// It asked for two to four lines in 3.5 s, and at most three more; a late command printed others.
#[test]
fn a_stall_shows_progress_and_is_not_caught_up_with() {
    let dir = TempDir::new().unwrap();
    let began = Instant::now();
    let (child, mut printed, mut stdin) = start_beside(dir.path(), &["--progress", "-o", "file"]);
    stdin.write_all(b"1\n").unwrap();
    printed.until(|said| said.matches("overspill: 2 B soaked up\n").count() >= 2);
    for part in noise(1 << 20).chunks(1 << 12) {
        stdin.write_all(part).unwrap();
    }
    drop(stdin);
    let said = printed.all_of(child);
    // One a second, and that of writing.
    assert!(said.lines().count() as u64 <= began.elapsed().as_secs() + 1, "{said}");
    assert!(said.contains("writing 1.00 MiB"), "{said}");
}

/// As above, on a terminal. It asked for five pictures in 1.5 s; a late command showed fewer.
#[test]
#[cfg(unix)]
fn a_terminal_shows_a_bar_while_the_input_stalls() {
    let dir = TempDir::new().unwrap();
    let (child, mut printed, mut stdin) = start_on_terminal(dir.path(), &["-o", "file"]);
    stdin.write_all(&[0; 100 << 10]).unwrap();
    printed.until(|shown| shown.matches("100.00 KiB soaked up").count() >= 5);
    drop(stdin);
    let stalled = printed.all_of(child);
    // The speed counts from the beginning, and not from when the bar is first shown.
    assert!(!stalled.contains("MiB/s") && !stalled.contains("GiB/s"), "{stalled:?}");
}

/// The length of the file was taken for what was to come, although some had been read, or the
/// system had made it up.
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
///
/// It asked for one line; a command that took longer than a second had printed another.
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
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().last(), Some("overspill: writing 14 B to log"), "{said}");
    let soaked = |line: &str| line.strip_prefix("overspill: ")?.strip_suffix(" B soaked up")?.parse().ok();
    assert!(said.lines().filter_map(soaked).all(|bytes: u64| bytes <= 14), "{said}");
}

/// A lock that another program holds was waited for in silence. It had 2.5 s to start and to say so; a
/// late command did not.
#[test]
#[cfg(unix)]
fn waiting_for_a_lock_is_shown() {
    use rustix::fs::{FlockOperation, fcntl_lock};
    let dir = TempDir::new().unwrap();
    let log = fs::File::options().append(true).create(true).open(dir.path().join("log")).unwrap();
    fcntl_lock(&log, FlockOperation::LockExclusive).unwrap();
    let (mut child, mut printed, stdin) = start_beside(dir.path(), &["--progress", "-a", "-o", "log"]);
    drop(stdin);
    printed.until(|said| said.contains("overspill: waiting for the lock on log\n"));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    drop(log);
    let said = printed.all_of(child);
    assert_eq!(said.lines().last(), Some("overspill: writing 0 B to log"), "{said}");
}
