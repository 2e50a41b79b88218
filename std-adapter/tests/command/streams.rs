//! Outputs that are not regular files are written as they are.

use super::*;
use std::os::unix::fs::FileTypeExt;

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
