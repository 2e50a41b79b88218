//! What the system says of this process, and allows it.

/// The most memory that this process ever had resident, in KiB. `None` where the system does not say.
#[must_use]
pub fn peak_resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    most.split_whitespace().next()?.parse().ok()
}

/// The processors' time that this process has used so far, on all threads, in ms: a multiple of 10. `None`
/// where the system does not say.
#[must_use]
pub fn processor_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may have any characters: field 3 is the state, fields 14 and 15 are the times.
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().ok());
    Some(ticks.sum::<Option<u64>>()? * 10)
}

/// Lets this process, and those that it starts, have as many open files as the system allows.
pub fn raise_open_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            crate::log::log(format_args!("cannot raise the limit of open files: {error}"));
        }
    }
}
