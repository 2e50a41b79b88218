//! How much memory this process may use: the lowest limit of its control groups, or the machine's memory.
//!
//! Promises:
//!
//! - Every limit on the path from the process's group to the root counts; the lowest one holds.
//! - Memory in use is not subtracted: a group's use includes the page cache, which shrinks under pressure.
//! - Nothing here fails: a file that is missing or malformed sets no limit.
//!
//! Own code instead of a dependency: the crates that do this either bring a whole system monitor, or support
//! only one version of control groups.
//!
//! Held by: the tests below, `tests/tests/in_a_cgroup.rs`, `tests/tests/pool_limits.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of memory that this process may use; `None` where the system does not say.
pub(crate) fn memory_bytes() -> Option<u64> {
    memory_bytes_under(Path::new("/"))
}

/// As [`memory_bytes`], with the system's files below `root`.
fn memory_bytes_under(root: &Path) -> Option<u64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().filter_map(|line| group_limit(root, line));
    limits.chain(physical_bytes(root)).min()
}

/// The lowest limit of one group of the process and the groups above it. `line` is `id:controllers:path`,
/// from `/proc/self/cgroup`.
fn group_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = Path::new(path.trim_start_matches('/'));
    let mounts = root.join("sys/fs/cgroup");
    if controllers.is_empty() {
        // Version 2, alone or beside version 1.
        let both = ["", "unified"].map(|mount| lowest(&mounts.join(mount), path, "memory.max"));
        return both.into_iter().flatten().min();
    }
    let is_memory = controllers.split(',').any(|controller| controller == "memory");
    is_memory.then(|| lowest(&mounts.join("memory"), path, "memory.limit_in_bytes")).flatten()
}

/// The lowest number in a file called `name` in `mount/path` and the directories above, up to `mount`.
fn lowest(mount: &Path, path: &Path, name: &str) -> Option<u64> {
    let files = path.ancestors().map(|group| mount.join(group).join(name));
    // Without a limit, version 2 says "max", which does not parse, and version 1 a number near 2⁶³, which is
    // more than the machine's memory.
    files.filter_map(|file: PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

fn physical_bytes(root: &Path) -> Option<u64> {
    let info = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The product of `bytes` and `fraction`, which is between 0 and 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an approximate share of a number of bytes"
)]
pub(crate) fn fraction_of(bytes: u64, fraction: f64) -> usize {
    (bytes as f64 * fraction) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\n");

    fn with_files(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_bytes_under(root.path())
    }

    #[test]
    fn without_a_group_limit_the_machines_memory_holds() {
        assert_eq!(with_files(&[]), None);
        assert_eq!(with_files(&[MEMINFO]), Some(8000 << 10));
        assert_eq!(with_files(&[MEMINFO, ("proc/self/cgroup", "nonsense\n0::/gone\n")]), Some(8000 << 10));
    }

    #[test]
    fn the_lowest_limit_on_the_path_to_the_root_holds() {
        let group = ("proc/self/cgroup", "0::/a/b\n");
        let of_b = ("sys/fs/cgroup/a/b/memory.max", "max\n");
        let of_a = ("sys/fs/cgroup/a/memory.max", "2048\n");
        assert_eq!(with_files(&[MEMINFO, group, of_b]), Some(8000 << 10));
        assert_eq!(with_files(&[MEMINFO, group, of_b, of_a]), Some(2048));
        let lower = ("sys/fs/cgroup/a/b/memory.max", "1024\n");
        assert_eq!(with_files(&[MEMINFO, group, lower, of_a]), Some(1024));
    }

    #[test]
    fn the_root_group_of_a_container_has_its_limit() {
        let files = [MEMINFO, ("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "4096\n")];
        assert_eq!(with_files(&files), Some(4096));
    }

    #[test]
    fn limits_of_version_1_hold_too() {
        let group = ("proc/self/cgroup", "9:cpu,memory:/x\n3:pids:/y\n");
        let none = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        let of_x = ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "3000\n");
        assert_eq!(with_files(&[MEMINFO, group, none]), Some(8000 << 10));
        assert_eq!(with_files(&[MEMINFO, group, none, of_x]), Some(3000));
    }
}
