//! Does a pool with a share of a container's memory limit stay within that limit? A gigabyte goes through a
//! process in a control group of 256 MiB, which must never be killed for want of memory.
//!
//! The control group is a real one, of version 1 or 2. That takes Linux, and the right to make one; without
//! it the test is skipped, and says why on standard error.
#![cfg(target_os = "linux")]

use overspill::SpillPool;
use overspill_tests::skip;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{env, fs, io, thread};

const MIB: u64 = 1 << 20;
const GROUP_LIMIT: u64 = 256 * MIB;
const CONTENT: u64 = 1 << 30;
const PIECE: usize = 64 << 10;

/// The environment variable that is set in the process in the group.
const INSIDE: &str = "OVERSPILL_IN_A_CGROUP";

/// A control group with a memory limit. Dropping it removes it.
struct Group {
    dir: PathBuf,
    /// The file that counts processes killed for want of memory.
    kills: &'static str,
}

impl Group {
    /// Of the version in which this machine has the memory controller.
    fn new() -> Result<Self, String> {
        let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let mut refused = String::from("no memory controller is mounted");
        for (mount, path, limit, kills) in places(&own) {
            match Group::at(&mount, &path, limit, kills) {
                Ok(group) => return Ok(group),
                Err(error) => refused = format!("no group can be made in {}: {error}", mount.display()),
            }
        }
        Err(refused)
    }

    fn at(mount: &Path, path: &str, limit: &str, kills: &'static str) -> io::Result<Self> {
        if kills == V2_KILLS {
            // Of all groups, only the root may have both processes and children that limit memory.
            fs::write(mount.join("cgroup.subtree_control"), "+memory")?;
        }
        let dir = mount.join(path.trim_start_matches('/')).join(format!("overspill-{}", std::process::id()));
        fs::create_dir(&dir)?;
        let group = Group { dir, kills };
        fs::write(group.dir.join(limit), GROUP_LIMIT.to_string())?;
        Ok(group)
    }

    fn kills(&self) -> String {
        let events = fs::read_to_string(self.dir.join(self.kills)).unwrap();
        events.lines().find(|line| line.starts_with("oom_kill ")).unwrap_or("not counted").to_owned()
    }
}

const V2_KILLS: &str = "memory.events";

/// Where a group may be made: mount point, path below it, file of the limit, file of the kills.
fn places(own: &str) -> Vec<(PathBuf, String, &'static str, &'static str)> {
    let mut places = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                if Path::new(mount).join("cgroup.subtree_control").exists() {
                    places.push((PathBuf::from(mount), String::new(), "memory.max", V2_KILLS));
                }
            }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let mount = PathBuf::from("/sys/fs/cgroup/memory");
            // In a container, the path is the one on the host, and the mount shows only what lies below it.
            let path = if mount.join(path.trim_start_matches('/')).exists() { path } else { "" };
            places.push((mount, path.to_owned(), "memory.limit_in_bytes", "memory.oom_control"));
        }
    }
    places
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended may still be counted as in the group.
        for _ in 0..50 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Fills `piece` so that no two pieces are alike.
fn fill(piece: &mut [u8], number: u64) {
    for (at, word) in piece.chunks_exact_mut(512).enumerate() {
        word[..8].copy_from_slice(&(number << 8 | at as u64).to_le_bytes());
    }
}

/// What runs in the group.
fn inside() {
    let pool = SpillPool::builder().memory_fraction(0.25).build().unwrap();
    assert_eq!(pool.stats().memory_limit, GROUP_LIMIT / 4, "the group's limit was not found");
    let (mut piece, mut found) = (vec![0x5A; PIECE], vec![0; PIECE]);
    let mut buffer = pool.buffer();
    let pieces = CONTENT / PIECE as u64;
    for number in 0..pieces {
        fill(&mut piece, number);
        buffer.write_all(&piece).unwrap();
    }
    buffer.rewind().unwrap();
    for number in 0..pieces {
        fill(&mut piece, number);
        buffer.read_exact(&mut found).unwrap();
        assert!(piece == found, "piece {number} is not what was written");
    }
    assert_eq!(buffer.len(), CONTENT);
    let stats = pool.stats();
    assert!(stats.memory_high_water <= stats.memory_limit);
    assert!(stats.disk_used >= CONTENT - stats.memory_limit, "{stats:?}");
}

const TEST: &str = "a_gigabyte_goes_through_a_quarter_of_a_small_group";

#[test]
fn a_gigabyte_goes_through_a_quarter_of_a_small_group() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let group = match Group::new() {
        Ok(group) => group,
        Err(reason) => return skip(TEST, &reason),
    };
    // The shell enters the group before it starts the program, so that all memory of the program is counted
    // there.
    let enter = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", enter]).arg(&group.dir).arg(env::current_exe().unwrap());
    command.args(["--exact", TEST]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}\n{complained}", output.status);
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!(group.kills(), "oom_kill 0");
}
