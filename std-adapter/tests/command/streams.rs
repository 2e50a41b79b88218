//! Outputs that are not regular files are written as they are.

use super::*;
use rustix::fs::{OFlags, fcntl_setfl};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
#[cfg(target_os = "linux")]
use std::os::unix::fs::symlink;

/// Devices and FIFOs are written to, not replaced.
#[test]
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

/// Standard output may be a regular file with content, which must stay, under whatever name the output is
/// named.
#[test]
fn standard_output_has_many_names() {
    let dir = TempDir::new().unwrap();
    let names =
        ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "/proc/$BASHPID/fd/1"];
    for name in names {
        if !name.starts_with("/proc") || Path::new("/proc/self/fd").exists() {
            let script =
                format!("{{ echo before; echo content | exec $OVERSPILL -o {name}; }} > file; cat file");
            let output = shell(dir.path(), &script);
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "before\ncontent\n", "{name}");
        }
    }
    let output =
        shell(dir.path(), "{ echo before; echo content | $OVERSPILL -o /dev/fd/3; } 3> file >&3; cat file");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "before\ncontent\n");
    assert!(!dir.path().join("-").exists());
}

/// A descriptor was known by two of its names. By the others, the file behind it was replaced and lost its
/// content, as was that behind a descriptor of the shell that started the command.
#[test]
#[cfg(target_os = "linux")]
fn a_descriptor_has_many_names() {
    let dir = TempDir::new().unwrap();
    symlink("/proc/thread-self/fd", dir.path().join("link")).unwrap();
    for fd in ["/dev/fd", "/proc/self/fd", "/proc/thread-self/fd", "/proc/$BASHPID/fd", "/proc/$$/fd", "link"]
    {
        let script =
            format!("{{ echo before >&3; echo content | exec $OVERSPILL -o {fd}/3; }} 3> file; cat file");
        let output = shell(dir.path(), &script);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "before\ncontent\n", "{fd}");
    }
}

/// A descriptor was opened again, and appended to: what came later by it stood over the output, its position
/// was passed over, and one that may be written was refused for the mode of its file.
#[test]
fn a_descriptor_is_written_to_where_it_stands() {
    let dir = TempDir::new().unwrap();
    let table = [
        ("{ echo one | $OVERSPILL -o /dev/fd/3; echo two >&3; } 3>file", "one\ntwo\n"),
        ("{ echo one | $OVERSPILL -o /dev/stderr; echo two >&2; } 2>file", "one\ntwo\n"),
        ("{ read -u 3; echo ONE | $OVERSPILL -o /dev/fd/3; echo TWO >&3; } 3<>file", "old\nONE\nTWO\nold\n"),
        (
            "{ echo one | $OVERSPILL -a -o /dev/fd/3; echo two >&3; } 3<>file",
            "old\nold\nold\nold\none\ntwo\n",
        ),
        ("{ echo one | $OVERSPILL -a -o /dev/stdout; echo two; } 1<>file", "old\nold\nold\nold\none\ntwo\n"),
    ];
    for (script, content) in table {
        fs::write(dir.path().join("file"), "old\nold\nold\nold\n").unwrap();
        assert_quiet_success(&shell(dir.path(), script));
        assert_eq!(fs::read_to_string(dir.path().join("file")).unwrap(), content, "{script}");
    }
    let output = shell(dir.path(), "echo lost | $OVERSPILL -o /dev/fd/3 3<file");
    assert_refused(&output, &["/dev/fd/3", "reading only", "3>FILE"]);

    let program = ForAnyUser::new();
    let file = fs::File::create(dir.path().join("file")).unwrap();
    let mut command = if is_root() {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        program.overspill(23456, dir.path(), &["-o", "/dev/fd/2"])
    } else {
        overspill(dir.path(), &["-o", "/dev/fd/2"])
    };
    file.set_permissions(fs::Permissions::from_mode(0o000)).unwrap();
    command.stderr(file.try_clone().unwrap());
    assert_quiet_success(&run(command, b"through"));
    assert_eq!(file.metadata().unwrap().len(), 7);
}

/// To open a FIFO that nobody reads any more waits for a new reader: with a descriptor of one, the command
/// hung.
///
/// The reader had 0.3 s to go; a late one still read. It is waited for.
#[test]
#[cfg(target_os = "linux")]
fn a_fifo_whose_reader_has_gone_ends_it_quietly() {
    let dir = TempDir::new().unwrap();
    let script = "mkfifo fifo; : <fifo & reader=$!; exec 3>fifo; wait $reader
        echo lost | timeout 60 $OVERSPILL -o /dev/fd/3; echo $?";
    let output = shell(dir.path(), script);
    assert_eq!((&*output.stdout, &*output.stderr), (&b"141\n"[..], &b""[..]));
}

/// std opens /dev/null in place of a closed standard stream, so a closed standard input was empty input,
/// which emptied the file, and a closed standard output took all of the output. Both with status 0.
#[test]
fn a_closed_standard_stream_is_an_error() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "old").unwrap();
    let refused = [
        ("$OVERSPILL -o file <&-", "standard input"),
        ("$OVERSPILL -a -o file <&-", "standard input"),
        ("$OVERSPILL <&-", "standard input"),
        ("$OVERSPILL <&- >&-", "standard input"),
        ("echo lost | $OVERSPILL >&-", "standard output"),
        ("echo lost | $OVERSPILL -o - >&-", "standard output"),
        ("echo lost | $OVERSPILL -o /dev/stdout >&-", "standard output"),
        // As is a stream that is open for the other direction.
        ("$OVERSPILL -o file 0>>file", "standard input: it is open for writing only"),
        ("echo lost | $OVERSPILL 1<file", "standard output: it is open for reading only"),
        ("echo lost | $OVERSPILL -o /dev/fd/1 1<file", "standard output"),
    ];
    for (script, words) in refused {
        assert_refused(&shell(dir.path(), script), &[words]);
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"old", "{script}");
    }
    // One that is not used may be closed, and /dev/null may be used.
    assert_quiet_success(&shell(dir.path(), "echo new | $OVERSPILL -o file >&-"));
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"new\n");
    assert_quiet_success(&shell(dir.path(), "echo gone | $OVERSPILL >/dev/null"));
    // However it is open: Python's DEVNULL and daemon(3) open it for reading and writing, as std does in
    // place of what is closed.
    assert_quiet_success(&shell(dir.path(), "echo gone | $OVERSPILL 1<>/dev/null"));
    for script in ["$OVERSPILL -o file </dev/null", "$OVERSPILL -o file <>/dev/null"] {
        fs::write(dir.path().join("file"), "old").unwrap();
        assert_quiet_success(&shell(dir.path(), script));
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"");
    }
}

/// With a standard error that is closed, it was a name for /dev/null, too.
#[test]
fn a_closed_standard_error_takes_no_output() {
    let dir = TempDir::new().unwrap();
    let output = shell(dir.path(), "echo lost | $OVERSPILL -o /dev/stderr 2>&-; echo $?");
    assert_eq!(output.stdout, b"1\n");
}

/// A pipe or a terminal that another process had made non-blocking was taken for broken as soon as it was
/// full or empty: the output ended in its middle, and input that came slowly was refused.
#[test]
fn streams_that_do_not_block_are_waited_for() {
    let dir = TempDir::new().unwrap();
    let (input, mut to_command) = std::io::pipe().unwrap();
    let (mut from_command, output) = std::io::pipe().unwrap();
    fcntl_setfl(&input, OFlags::NONBLOCK).unwrap();
    fcntl_setfl(&output, OFlags::NONBLOCK).unwrap();
    let mut command = overspill(dir.path(), &["-m", "64K"]);
    let child = command.stdin(input).stdout(output).spawn().unwrap();
    drop(command); // it holds the command's ends open
    let bytes = noise(4 << 20);
    for part in bytes.chunks(2 << 20) {
        sleep(Duration::from_millis(100));
        to_command.write_all(part).unwrap();
    }
    drop(to_command);
    let mut read = Vec::new();
    let mut block = vec![0; 512 << 10];
    loop {
        sleep(Duration::from_millis(20));
        match from_command.read(&mut block).unwrap() {
            0 => break,
            n => read.extend_from_slice(&block[..n]),
        }
    }
    assert_quiet_success(&child.wait_with_output().unwrap());
    assert!(read == bytes);
}
