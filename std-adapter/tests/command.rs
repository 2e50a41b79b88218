//! The `overspill` command, used as a user uses it: pipes, files in place, full disks, signals.
//!
//! Each test opens with what it guards. What needs root or Linux says so when it is skipped. What needs a shell, modes,
//! links, terminals or devices is Unix's alone; where Windows keeps a promise in another way, a test of its own says so.

use std::fs;
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
#[cfg(unix)]
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

const OVERSPILL: &str = env!("CARGO_BIN_EXE_overspill");

// ---- how it is used

/// `overspill` with `args`, to be run in `dir`.
fn overspill(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(OVERSPILL);
    command.current_dir(dir).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `command` to its end with `input`; one that does not want all of it is fine.
fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap()
    })
}

fn soak(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    run(overspill(dir, args), input)
}

/// Runs `overspill` with `args`, whose input is `parts` with a pause of so many milliseconds before each but the first.
fn soak_slowly(dir: &Path, args: &[&str], pause: u64, parts: &[&str]) -> Output {
    let mut child = overspill(dir, args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for (n, part) in parts.iter().enumerate() {
        sleep(Duration::from_millis(if n == 0 { 0 } else { pause }));
        stdin.write_all(part.as_bytes()).unwrap();
    }
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// A pipeline of the shell in `dir`; `$OVERSPILL` is the command.
#[cfg(unix)]
fn shell(dir: &Path, script: &str) -> Output {
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(dir).env("OVERSPILL", OVERSPILL).stdin(Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn assert_quiet_success(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{:?}: {said}", output.status);
}

/// The command failed with status 1 and one line, which holds all of `words`.
#[track_caller]
fn assert_says(output: &Output, words: &[&str]) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("overspill: ") && said.ends_with('\n'), "{said:?}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(!said.contains("os error"), "{said}");
}

/// `len` bytes that no two neighbouring pages share.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 8).to_le_bytes()[..7]);
    }
    bytes.truncate(len);
    bytes
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[cfg(unix)]
fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Says why a test did not run, on the terminal itself: the harness hides what a passing test prints.
#[cfg(unix)]
fn skip(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped {test}: {why}");
}

// ---- what goes in comes out

/// Guards the content, across every place that it can be kept in.
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

/// Guards input that comes in drops: a short read is not the end.
#[test]
fn input_may_come_slowly() {
    let dir = TempDir::new().unwrap();
    let output = soak_slowly(dir.path(), &["-m", "4K"], 20, &["1", "2", "3", "4", "5"]);
    assert_quiet_success(&output);
    assert_eq!(output.stdout, b"12345");
}

/// Guards the order: no output before the end of input, neither to a pipe nor to a file.
#[test]
fn nothing_comes_out_before_the_input_has_ended() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    let mut child = overspill(dir.path(), &["-o", "file", "-m", "64K"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&noise(1 << 20)).unwrap();
    sleep(Duration::from_millis(100));
    assert!(!file.exists());
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read(&file).unwrap(), noise(1 << 20));
}

/// Guards the reason to exist: a pipeline that reads the file that it writes.
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

/// Guards against a stale file: empty input is content too.
#[test]
fn empty_input_makes_an_empty_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b""));
    assert_quiet_success(&soak(dir.path(), &["-o", "new"], b""));
    assert_eq!((fs::read(&file).unwrap().len(), fs::read(dir.path().join("new")).unwrap().len()), (0, 0));
}

// ---- what the file is afterwards

/// Guards what a file has besides content: its mode, and the umask's say in a new one.
#[test]
#[cfg(unix)]
fn a_file_keeps_its_mode_and_a_new_one_gets_the_usual() {
    let dir = TempDir::new().unwrap();
    for wanted in [0o600, 0o640, 0o755, 0o666, 0o4755, 0o2711] {
        let file = dir.path().join("file");
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(wanted)).unwrap();
        assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
        assert_eq!((mode(&file), fs::read(&file).unwrap()), (wanted, b"new".to_vec()), "{wanted:o}");
    }
    assert_quiet_success(&shell(dir.path(), "umask 027; echo new | $OVERSPILL -o made"));
    assert_eq!(mode(&dir.path().join("made")), 0o640);
}

/// Guards the owner: root edits other people's files without taking them.
#[test]
#[cfg(unix)]
fn root_leaves_a_file_to_its_owner() {
    if !is_root() {
        return skip("root_leaves_a_file_to_its_owner", "it takes root to give a file away");
    }
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::chown(&file, Some(12345), Some(54321)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), found.gid(), mode(&file)), (12345, 54321, 0o4751));
}

/// Guards against a setuid program that changes hands: who may write a file but not give it away
/// must not end up with a program that runs as himself and was not meant to.
#[test]
#[cfg(unix)]
fn set_id_bits_do_not_pass_to_another_owner() {
    if !is_root() {
        return skip("set_id_bits_do_not_pass_to_another_owner", "it takes root to become two users");
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::chown(&file, Some(12345), Some(12345)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o6777)).unwrap();
    let mut command = overspill(dir.path(), &["-o", "file"]);
    command.uid(23456).gid(23456);
    assert_quiet_success(&run(command, b"new"));
    let found = fs::metadata(&file).unwrap();
    assert_eq!((found.uid(), mode(&file)), (23456, 0o777));
}

/// Guards links: the file behind them is replaced, in its own directory, and they stay.
#[test]
#[cfg(unix)] // Windows lets an administrator alone make one
fn a_symbolic_link_is_followed() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("real/deep")).unwrap();
    fs::write(path("real/deep/file"), "old").unwrap();
    symlink("deep/file", path("real/one")).unwrap();
    symlink("real/one", path("two")).unwrap();
    symlink("real/not-yet", path("dangling")).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "two"], b"new"));
    assert_quiet_success(&soak(dir.path(), &["-o", "dangling"], b"made"));
    assert_eq!(fs::read(path("real/deep/file")).unwrap(), b"new");
    assert_eq!(fs::read(path("real/not-yet")).unwrap(), b"made");
    for link in ["two", "real/one", "dangling"] {
        assert!(fs::symlink_metadata(path(link)).unwrap().is_symlink(), "{link}");
    }
    symlink("circle", path("circle")).unwrap();
    assert_says(&soak(dir.path(), &["-o", "circle"], b""), &["circle"]);
}

/// Guards the manual's word on hard links.
#[test]
fn other_hard_links_keep_the_old_content() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("one"), "old").unwrap();
    fs::hard_link(dir.path().join("one"), dir.path().join("two")).unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "one"], b"new"));
    assert_eq!(fs::read(dir.path().join("two")).unwrap(), b"old");
}

/// Guards readers: whoever opens the file meanwhile sees all of the old or all of the new.
#[test]
#[cfg(unix)] // for Windows, see `an_open_file_is_not_replaced`
fn a_reader_sees_the_old_file_or_the_new() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    let contents = [vec![b'a'; 300_000], vec![b'b'; 500_000]];
    fs::write(&file, &contents[0]).unwrap();
    let mut writers = Vec::new();
    for _ in 0..4 {
        for content in &contents {
            let mut child = overspill(dir.path(), &["-o", "file", "-m", "64K"]).spawn().unwrap();
            child.stdin.take().unwrap().write_all(content).unwrap();
            writers.push(child);
        }
    }
    while !writers.is_empty() {
        let seen = fs::read(&file).unwrap();
        assert!(contents.contains(&seen), "{} bytes, of both contents", seen.len());
        writers.retain_mut(|child: &mut std::process::Child| child.try_wait().unwrap().is_none());
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// Windows replaces no file that is open, by whomever. All input was read by then, so the message has to say what to do.
#[test]
#[cfg(windows)]
fn an_open_file_is_not_replaced() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let open = fs::File::open(&file).unwrap();
    assert_says(&soak(dir.path(), &["-o", "file"], b"new"), &["file", "as it was", "close it"]);
    drop(open);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_quiet_success(&soak(dir.path(), &["-o", "file"], b"new"));
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(names_in(dir.path()), ["file"]);
}

// ---- append

/// Guards `--append`: old and new in one file, its mode kept, a missing file made.
#[test]
fn append_puts_the_input_behind_the_old_content() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("log");
    let (old, new) = (noise(200_001), noise(300_007));
    fs::write(&file, &old).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&file, fs::Permissions::from_mode(0o604)).unwrap();
    #[cfg(unix)]
    let inode = fs::metadata(&file).unwrap().ino();
    assert_quiet_success(&soak(dir.path(), &["--append", "-o", "log", "-m", "32K"], &new));
    assert!(fs::read(&file).unwrap() == [old, new].concat());
    #[cfg(unix)]
    {
        assert_eq!(mode(&file), 0o604);
        assert_ne!(fs::metadata(&file).unwrap().ino(), inode, "it was replaced, in one step");
    }
    assert_quiet_success(&soak(dir.path(), &["-a", "-o", "new"], b"first"));
    assert_eq!(fs::read(dir.path().join("new")).unwrap(), b"first");
}

/// Guards what others write to the file while the input comes in.
#[test]
fn append_keeps_what_was_added_meanwhile() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("log"), "one\n").unwrap();
    let mut child = overspill(dir.path(), &["-a", "-o", "log"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    sleep(Duration::from_millis(100));
    let mut log = fs::File::options().append(true).open(dir.path().join("log")).unwrap();
    log.write_all(b"two\n").unwrap();
    drop(log);
    sleep(Duration::from_millis(100));
    stdin.write_all(b"three\n").unwrap();
    drop(stdin);
    assert_quiet_success(&child.wait_with_output().unwrap());
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "one\ntwo\nthree\n");
}

/// Guards against output that nobody asked for: there is nothing to append to without a file.
#[test]
fn append_needs_a_file() {
    let dir = TempDir::new().unwrap();
    assert_says(&soak(dir.path(), &["--append"], b""), &["--output"]);
    assert_says(&soak(dir.path(), &["--append", "-o", "-"], b""), &["--append needs a file"]);
}

// ---- what is not a regular file

/// Guards devices and FIFOs: they are written to, not replaced.
#[test]
#[cfg(unix)]
fn streams_are_written_to_as_they_are() {
    let dir = TempDir::new().unwrap();
    assert_quiet_success(&soak(dir.path(), &["-o", "/dev/null"], b"gone"));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let script = "mkfifo fifo && { cat fifo & echo through | $OVERSPILL -o fifo; wait; } && test -p fifo";
    let output = shell(dir.path(), script);
    assert_quiet_success(&output);
    assert_eq!(output.stdout, b"through\n");
    let output = shell(
        dir.path(),
        "echo through | $OVERSPILL -o >(cat > seen; touch done); \
        until test -e done; do sleep 0.01; done; cat seen",
    );
    assert_eq!(output.stdout, b"through\n");
}

/// Guards the names of standard output, which may be a regular file that has a beginning already.
#[test]
#[cfg(unix)]
fn standard_output_has_many_names() {
    let dir = TempDir::new().unwrap();
    for name in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        if !name.starts_with('/') || Path::new(name).exists() {
            let script = format!("{{ echo before; echo content | $OVERSPILL -o {name}; }} > file; cat file");
            let output = shell(dir.path(), &script);
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "before\ncontent\n", "{name}");
        }
    }
    let output =
        shell(dir.path(), "{ echo before; echo content | $OVERSPILL -o /dev/fd/3; } 3> file >&3; cat file");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "before\ncontent\n");
    assert!(!dir.path().join("-").exists());
}

// ---- what is refused, early

/// Guards the promise that what cannot work is refused before any input is read.
#[test]
fn a_hopeless_target_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "old").unwrap();
    // Windows has words of its own.
    let [missing, no_directory] =
        if cfg!(unix) { ["No such file", "Not a directory"] } else { ["cannot"; 2] };
    let table: &[(&[&str], &[&str])] = &[
        (&["-o", "."], &["directory"]),
        (&["-o", "no/such/file"], &["no/such/file", "mkdir -p no/such"]),
        (&["-o", "new/"], &["new/", "directory"]),
        (&["-o", "file/x"], &["file/x", no_directory]),
        (&["-o", ""], &["--output"]),
        (&["--dir", "nowhere"], &["nowhere", missing, "--dir"]),
        (&["--dir", "file"], &["file", no_directory]),
        (&["-o", "\n\u{1b}[31m/x"], &["??[31m/x"]),
    ];
    for (args, words) in table {
        let mut child = overspill(dir.path(), args).spawn().unwrap();
        // The input stays open: a command that reads it first would wait for ever.
        let stdin = child.stdin.take();
        assert_says(&child.wait_with_output().unwrap(), words);
        drop(stdin);
    }
    assert_eq!(names_in(dir.path()), ["file"]);
}

/// Guards files that their owner has closed: a rename would replace them all the same.
#[test]
#[cfg(unix)]
fn what_may_not_be_written_is_not_replaced() {
    let dir = TempDir::new().unwrap();
    let (file, locked) = (dir.path().join("file"), dir.path().join("locked"));
    fs::create_dir(&locked).unwrap();
    for (path, mode) in [(&file, 0o444), (&locked.join("file"), 0o666)] {
        fs::write(path, "old").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    for (name, words) in [("file", "make it writable"), ("locked/file", "make the directory writable")] {
        let mut command = overspill(dir.path(), &["-o", name]);
        if is_root() {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            command.uid(23456).gid(23456);
        }
        assert_says(&run(command, b"new"), &[name, words]);
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"old");
    }
}

/// The one permission that Windows has here.
#[test]
#[cfg(windows)]
fn a_read_only_file_is_refused_before_any_input() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let mut permissions = fs::metadata(&file).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&file, permissions.clone()).unwrap();
    let mut child = overspill(dir.path(), &["-o", "file"]).spawn().unwrap();
    let stdin = child.stdin.take();
    assert_says(&child.wait_with_output().unwrap(), &["file", "make it writable"]);
    drop(stdin);
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "on Windows it lets nobody in but who was in before"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(&file, permissions).unwrap();
    assert_eq!((names_in(dir.path()), fs::read(&file).unwrap()), (vec!["file".to_owned()], b"old".to_vec()));
}

/// Guards against gigabytes soaked up for a rename that the system then refuses.
#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_replaced_is_refused_before_any_input() {
    if !is_root() {
        return skip("what_cannot_be_replaced_is_refused_before_any_input", "it takes root to mount");
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("mounted"), "old").unwrap();
    let script = "touch other && mount --bind other mounted && { echo new | $OVERSPILL -o mounted; }";
    assert_says(&in_own_mounts(dir.path(), script), &["mounted", "mount point"]);

    fs::create_dir(dir.path().join("sticky")).unwrap();
    fs::write(dir.path().join("sticky/file"), "old").unwrap();
    for (name, mode) in [(".", 0o777), ("sticky", 0o1777), ("sticky/file", 0o666)] {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = overspill(dir.path(), &["-o", "sticky/file"]);
    command.uid(23456).gid(23456);
    assert_says(&run(command, b"new"), &["sticky/file", "somebody else"]);
}

/// Guards against budgets that are not what was meant.
#[test]
fn a_wrong_size_is_named() {
    let dir = TempDir::new().unwrap();
    for size in ["16E", "18446744073709551616", "-1", "", "64X", "1.5", "1e3", "64M ", "lots"] {
        for option in ["--memory", "--disk"] {
            let output = soak(dir.path(), &[&format!("{option}={size}")], b"");
            assert_says(&output, &[option]);
        }
    }
    for size in ["0", "1E", "15.9E", "18446744073709551615"] {
        let output = soak(dir.path(), &["--memory", size, "--disk", size], b"");
        assert_quiet_success(&output);
    }
}

/// Guards users of `sponge`: the file is not an operand here, and the message says what it is.
#[test]
fn usage_errors_say_what_to_do() {
    let dir = TempDir::new().unwrap();
    assert_says(&soak(dir.path(), &["file"], b""), &["-o file"]);
    assert_says(&soak(dir.path(), &["--memroy", "1M"], b""), &["--memory"]);
    assert_says(&soak(dir.path(), &["--memory"], b""), &["--memory"]);
}

// ---- limits, full disks, closed readers

/// Guards the disk limit, and the file that was to be replaced.
#[test]
fn the_disk_limit_stops_it_and_leaves_the_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "old").unwrap();
    let output = soak(dir.path(), &["-o", "file", "-m", "64K", "-d", "128K"], &noise(1 << 20));
    assert_says(&output, &["disk limit of 128.00 KiB", "--disk"]);
    assert_eq!(fs::read(&file).unwrap(), b"old");
    assert_quiet_success(&soak(dir.path(), &["-o", "file", "-m", "64K", "-d", "0"], &noise(64 << 10)));
    assert!(fs::read(&file).unwrap() == noise(64 << 10));
}

/// Runs `script` where its mounts are its own.
#[cfg(target_os = "linux")]
fn in_own_mounts(dir: &Path, script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", script]).current_dir(dir).env("OVERSPILL", OVERSPILL);
    command.stdin(Stdio::null()).output().unwrap()
}

/// Guards a full disk, below the spilled pages and below the target.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_named_and_the_file_untouched() {
    let dir = TempDir::new().unwrap();
    let mount = "mkdir full && mount -t tmpfs -o size=1M tmpfs full";
    if !is_root() || !in_own_mounts(dir.path(), mount).status.success() {
        return skip(
            "a_full_disk_is_named_and_the_file_untouched",
            "no tmpfs of a chosen size can be mounted",
        );
    }
    let mount = "mount -t tmpfs -o size=1M tmpfs full && echo old > full/file && cp full/file . &&";
    let below_pages = format!("{mount} head -c 3M /dev/zero | $OVERSPILL -m 64K --dir full -o file");
    assert_says(&in_own_mounts(dir.path(), &below_pages), &["full", "No space left", "--dir"]);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old\n");
    let below_target = format!(
        "{mount} head -c 3M /dev/urandom | $OVERSPILL -m 64K -o full/file; status=$?; cat full/*; exit $status"
    );
    let output = in_own_mounts(dir.path(), &below_target);
    assert_says(&output, &["full", "No space left", "--dir"]);
    assert_eq!(output.stdout, b"old\n");
    let only_target = below_target.replace("-m 64K", "-m 64K --dir .");
    let output = in_own_mounts(dir.path(), &only_target);
    assert_says(&output, &["full/file", "No space left", "as it was"]);
    assert_eq!(output.stdout, b"old\n");
}

/// Guards against output lost without a word.
#[test]
#[cfg(unix)]
fn a_full_standard_output_is_an_error() {
    if !Path::new("/dev/full").exists() {
        return skip("a_full_standard_output_is_an_error", "there is no /dev/full");
    }
    let dir = TempDir::new().unwrap();
    let output = shell(dir.path(), "echo lost | $OVERSPILL > /dev/full");
    assert_says(&output, &["standard output", "No space left"]);
    assert_says(&soak(dir.path(), &["-o", "/dev/full"], b"lost"), &["/dev/full", "No space left"]);
}

/// Guards `| head`: quiet, and never taken for a complete output.
#[test]
fn a_closed_reader_ends_it_quietly() {
    let dir = TempDir::new().unwrap();
    let mut child = overspill(dir.path(), &["--stats"]).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![0; 3 << 20]).unwrap();
    drop(stdin);
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(141), String::new()));
}

/// Guards input that is no input.
#[test]
#[cfg(unix)]
fn a_directory_as_input_is_an_error() {
    let dir = TempDir::new().unwrap();
    assert_says(&shell(dir.path(), "$OVERSPILL -o file < ."), &["standard input", "directory"]);
    assert_eq!(names_in(dir.path()), [""; 0]);
}

// ---- signals

/// Guards the file and the directories from a death in the middle, at whatever point of the work.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_leaves_the_file_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let (file, spilled) = (dir.path().join("file"), dir.path().join("spilled"));
    fs::create_dir(&spilled).unwrap();
    let input = noise(8 << 20);
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("KILL", 9)] {
        // Some die while they soak up, some while they write, some not at all.
        for (round, wait) in [0, 0, 2, 2, 5, 5, 10, 20, 40].into_iter().enumerate() {
            fs::write(&file, "old").unwrap();
            // By turns in a directory of its own, and beside the file.
            let place: &[&str] = if round % 2 == 0 { &["--dir", "spilled"] } else { &[] };
            let args = [&["-o", "file", "-m", "64K"], place].concat();
            let mut child = overspill(dir.path(), &args).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(&input).unwrap();
            // Without a wait, the input has not ended when the signal comes.
            let stdin = (wait == 0).then_some(stdin);
            sleep(Duration::from_millis(wait));
            let killed = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
            assert!(killed.unwrap().success());
            drop(stdin); // or a child that was started with the signal ignored would wait for ever
            let status = child.wait().unwrap();
            let content = fs::read(&file).unwrap();
            if status.success() {
                assert!(content == input);
            } else {
                assert_eq!(status.signal(), Some(number));
                assert!(content == b"old" || content == input, "{} bytes after {signal}", content.len());
            }
            assert_eq!(names_in(dir.path()), ["file", "spilled"], "{signal} after {wait} ms");
            assert_eq!(names_in(&spilled), [""; 0], "{signal} after {wait} ms");
        }
    }
}

/// Elsewhere the new file has a hidden name while it is written, which a death may leave; all else is as above. Windows
/// deletes the file that was spilled to with its last handle.
#[test]
#[cfg(not(target_os = "linux"))]
fn a_death_leaves_the_file_and_nothing_that_was_spilled() {
    let dir = TempDir::new().unwrap();
    let (file, spilled) = (dir.path().join("file"), dir.path().join("spilled"));
    fs::create_dir(&spilled).unwrap();
    let input = noise(8 << 20);
    for (round, wait) in [0, 0, 5, 20, 40, 80].into_iter().enumerate() {
        fs::write(&file, "old").unwrap();
        let mut child =
            overspill(dir.path(), &["-o", "file", "-m", "64K", "--dir", "spilled"]).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        let stdin = (wait == 0).then_some(stdin);
        if round == 0 {
            assert_eq!(names_in(&spilled).len(), usize::from(cfg!(windows)), "where it spills to is seen");
        }
        sleep(Duration::from_millis(wait));
        let _ = child.kill(); // it may have ended
        drop(stdin);
        child.wait().unwrap();
        let content = fs::read(&file).unwrap();
        assert!(content == b"old" || content == input, "{} bytes after {wait} ms", content.len());
        let mut names = names_in(dir.path());
        names.retain(|name| !name.starts_with(".overspill-"));
        assert_eq!(names, ["file", "spilled"], "after {wait} ms");
        assert_eq!(names_in(&spilled), [""; 0], "after {wait} ms");
    }
}

// ---- what is told

/// Guards the numbers that scripts read.
#[test]
fn json_is_one_object_that_adds_up() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), noise(1000)).unwrap();
    let args = ["--json", "--stats", "-m", "128K", "-d", "10M", "-a", "-o", "file"];
    let output = soak(dir.path(), &args, &noise(1 << 20));
    assert!(output.status.success() && output.stdout.is_empty());
    assert_eq!(output.stderr.iter().filter(|&&byte| byte == b'\n').count(), 1);
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name} in {told}"));
    assert_eq!(number("input_bytes"), 1 << 20);
    assert_eq!(number("appended_to_bytes"), 1000);
    assert_eq!(number("output_bytes"), (1 << 20) + 1000);
    assert_eq!(number("memory_bytes") + number("disk_bytes"), number("output_bytes"));
    assert!(number("memory_high_water_bytes") <= number("memory_limit_bytes"));
    assert_eq!((number("memory_limit_bytes"), number("disk_limit_bytes")), (128 << 10, 10 << 20));
    assert!(number("spill_writes") > 0 && told["input_seconds"].is_f64());
    let output = soak(dir.path(), &["--json"], b"");
    let told: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert!(told["disk_limit_bytes"].is_null());
}

/// A terminal: what the user has, and what the command gets.
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

/// Reads what `child` shows on the terminal until it has ended, and asserts that it succeeded.
#[cfg(unix)]
fn shown(user: &mut fs::File, mut child: std::process::Child) -> String {
    let (mut shown, mut some) = (Vec::new(), [0; 4096]);
    // The end of a terminal that nobody has open is an error.
    while let Ok(n @ 1..) = user.read(&mut some) {
        shown.extend_from_slice(&some[..n]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8_lossy(&shown).into_owned()
}

/// On a terminal there is a bar: of what is known to come, or of what has come. It told nothing before a quarter of a mebibyte
/// had come, however long that took.
#[test]
#[cfg(unix)]
fn a_terminal_shows_a_bar() {
    let dir = TempDir::new().unwrap();
    let on_terminal = |script: &str| {
        let (mut user, end) = terminal();
        let mut command = Command::new("bash");
        command.args(["-c", script]).current_dir(dir.path()).env("OVERSPILL", OVERSPILL).env("TERM", "xterm");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(end).spawn().unwrap();
        drop(command); // it has the terminal open
        shown(&mut user, child)
    };
    let piped = on_terminal("{ echo 1; sleep 0.3; echo 2; } | $OVERSPILL --progress -o file");
    assert!(piped.contains("2 B soaked up") && piped.contains("4 B soaked up"), "{piped:?}");
    assert!(piped.contains("writing 4 B to file"), "{piped:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"1\n2\n");
    let from_file = on_terminal("$OVERSPILL --progress -o copy <file");
    assert!(from_file.contains("4 B of 4 B"), "{from_file:?}");
    // Without being asked, only when it takes long enough.
    assert_eq!(on_terminal("echo 1 | $OVERSPILL -o file"), "");
    let slow = on_terminal("{ echo 1; sleep 0.7; echo 2; } | $OVERSPILL -o file");
    assert!(slow.contains("4 B soaked up"), "{slow:?}");
}

/// Who calls it without input sits before a silent terminal, unless it says what it waits for. The end of the input was looked
/// for twice, and so had to be typed twice.
#[test]
#[cfg(unix)]
fn who_types_the_input_is_told_how_to_end_it() {
    let dir = TempDir::new().unwrap();
    let (mut user, end) = terminal();
    let mut command = overspill(dir.path(), &["-o", "file"]);
    command.stdin(end.try_clone().unwrap()).stdout(Stdio::null()).stderr(end);
    let child = command.spawn().unwrap();
    drop(command);
    user.write_all(b"typed\n\x04").unwrap();
    let said = shown(&mut user, child);
    assert!(said.contains("overspill: reading from the terminal; end with Ctrl-D"), "{said:?}");
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"typed\n");
}

/// Guards what people read, and that it does not mix with the output.
#[test]
fn stats_and_progress_go_to_standard_error() {
    let dir = TempDir::new().unwrap();
    let output = soak(dir.path(), &["--stats", "-m", "64K"], &noise(1 << 20));
    assert!(output.status.success() && output.stdout == noise(1 << 20));
    let said = String::from_utf8(output.stderr).unwrap();
    for word in ["input", "1.00 MiB (1048576 bytes)", "in memory", "64.00 KiB", "on disk", "no limit"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let output = soak_slowly(dir.path(), &["--progress", "-o", "file"], 1100, &["1\n", "2\n", "3\n"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("soaked up") && said.contains("writing"), "{said}");
}

/// Guards a script whose standard error is closed: nothing may panic over a message.
#[test]
#[cfg(unix)]
fn nobody_need_listen() {
    let dir = TempDir::new().unwrap();
    let output = shell(
        dir.path(),
        "echo x | $OVERSPILL --stats --progress 2>&-; echo $?; $OVERSPILL --no 2>&-; echo $?",
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "x\n0\n1\n");
}

/// Guards the manual: it is there, and it says what must be known.
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

// ---- memory

/// Guards the promise in the name: 64 times the budget goes through, and the process stays small.
#[test]
#[cfg(target_os = "linux")]
fn memory_stays_within_the_budget() {
    const BUDGET: u64 = 4 << 20;
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
    assert!(peak <= BUDGET + BESIDES, "{peak} bytes at the peak");
    let start = std::time::Instant::now();
    let left = std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(left, (256 << 20) - 1, "after {:?}", start.elapsed());
    assert!(child.wait().unwrap().success());
}
