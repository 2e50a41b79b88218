//! Access control lists of files: on Linux those of POSIX.
//!
//! Where a file has one, the group's bits of its mode are not what its group may do, but the most that
//! all in the list but the owner may. So a mode that is taken over without the list would give the group
//! what another was given.
//!
//! Held by: `tests/tests/hand_over.rs`, `tests/tests/refused_calls.rs`.

#[cfg(unix)]
use std::fs::File;
use std::path::Path;

/// The list of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Acl {
    /// There is none, and the mode says all.
    None,
    /// As the kernel has it.
    #[cfg(target_os = "linux")]
    List(Vec<u8>),
    /// The system does not say.
    #[cfg(target_os = "linux")]
    Unknown,
}

#[cfg(target_os = "linux")]
mod posix {
    use super::{Acl, File, Path};
    use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, lgetxattr};
    use rustix::io::{Errno, retry_on_intr};

    const NAME: &str = "system.posix_acl_access";

    /// The longest value of an attribute, in bytes.
    const LEN_MAX: usize = 64 << 10;

    fn read(get: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Acl {
        let mut value = Vec::new();
        if value.try_reserve_exact(LEN_MAX).is_err() {
            return Acl::Unknown;
        }
        value.resize(LEN_MAX, 0);
        match retry_on_intr(|| get(&mut value)) {
            Ok(len) => {
                value.truncate(len);
                Acl::List(value)
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Acl::None,
            Err(_) => Acl::Unknown,
        }
    }

    impl Acl {
        /// Of the file `path`, and not of what a link leads to.
        pub(crate) fn of_path(path: &Path) -> Self {
            read(|value| lgetxattr(path, NAME, value))
        }

        pub(crate) fn of_file(file: &File) -> Self {
            read(|value| fgetxattr(file, NAME, value))
        }

        /// Gives `file` this list instead of what it has from its directory. Returns whether it has it.
        pub(crate) fn give_to(&self, file: &File) -> bool {
            match self {
                Acl::None => match retry_on_intr(|| fremovexattr(file, NAME)) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => true,
                    Err(_) => Acl::of_file(file) == Acl::None,
                },
                Acl::List(value) => {
                    retry_on_intr(|| fsetxattr(file, NAME, value, XattrFlags::empty())).is_ok()
                }
                Acl::Unknown => false,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Acl {
    pub(crate) fn of_path(_path: &Path) -> Self {
        Acl::None
    }

    #[cfg(unix)]
    pub(crate) fn give_to(&self, _file: &File) -> bool {
        true
    }
}
