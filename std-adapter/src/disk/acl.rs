//! Access control lists of files: on Linux those of POSIX. Those of NFS 4 are looked at there, and not taken
//! over.
//!
//! Where a file has one, the group's bits of its mode are not what its group may do, but the most that
//! all in the list but the owner may. So a mode that is taken over without the list would give the group
//! what another was given. The lists of other systems are not looked at.
//!
//! Held by: the tests below, `tests/tests/hand_over.rs`, `tests/tests/refused_calls.rs`.

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
    const NAME_OF_NFS4: &str = "system.nfs4_acl";

    /// The longest value of an attribute, in bytes.
    const LEN_MAX: usize = 64 << 10;

    /// Reads a list by `get`, which reads the attribute of a name.
    pub(super) fn read(get: impl Fn(&str, &mut [u8]) -> rustix::io::Result<usize>) -> Acl {
        let mut value = Vec::new();
        if value.try_reserve_exact(LEN_MAX).is_err() {
            return Acl::Unknown;
        }
        value.resize(LEN_MAX, 0);
        match retry_on_intr(|| get(NAME, &mut value)) {
            Ok(len) => {
                value.truncate(len);
                Acl::List(value)
            }
            Err(Errno::NODATA) => Acl::None,
            // A file system without lists, or with those of NFS 4.
            Err(Errno::OPNOTSUPP) => match retry_on_intr(|| get(NAME_OF_NFS4, &mut value)) {
                Ok(len) if !is_mode(&value[..len]).unwrap_or(false) => Acl::Unknown,
                Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Acl::None,
                Err(_) => Acl::Unknown,
            },
            Err(_) => Acl::Unknown,
        }
    }

    /// Whether a list of NFS 4 says no more than a mode does: all its entries are of the owner, the group or
    /// everyone. `None` if it is no list. It is in the form of RFC 7530: the number of entries; of each its
    /// type, flags, rights, and a name, which has its length before it and is filled up to a multiple of
    /// four.
    fn is_mode(list: &[u8]) -> Option<bool> {
        fn word(list: &mut &[u8]) -> Option<u32> {
            let (word, rest) = list.split_first_chunk()?;
            *list = rest;
            Some(u32::from_be_bytes(*word))
        }
        let mut rest = list;
        for _ in 0..word(&mut rest)? {
            let [_, _, _, len] = [(); 4].map(|()| word(&mut rest));
            let len = usize::try_from(len?).ok()?;
            let name = rest.get(..len)?;
            if ![&b"OWNER@"[..], b"GROUP@", b"EVERYONE@"].contains(&name) {
                return Some(false);
            }
            rest = rest.get(len.next_multiple_of(4)..)?;
        }
        Some(true)
    }

    impl Acl {
        /// Of the file `path`, and not of what a link leads to.
        pub(crate) fn of_path(path: &Path) -> Self {
            read(|name, value| lgetxattr(path, name, value))
        }

        pub(crate) fn of_file(file: &File) -> Self {
            read(|name, value| fgetxattr(file, name, value))
        }

        /// Gives `file` this list instead of what it has from its directory. Returns whether it has it.
        pub(crate) fn give_to(&self, file: &File) -> bool {
            match self {
                Acl::None => match retry_on_intr(|| fremovexattr(file, NAME)) {
                    Ok(()) | Err(Errno::NODATA) => true,
                    // Without lists of POSIX it may have one of NFS 4 from its directory.
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

#[cfg(test)]
#[cfg(not(overspill_loom))]
#[cfg(target_os = "linux")]
mod tests {
    use super::Acl;
    use super::posix::read;
    use rustix::io::Errno;

    /// A list of NFS 4, in which each of `names` may read.
    fn list(names: &[&str]) -> Vec<u8> {
        let mut list = u32::try_from(names.len()).unwrap().to_be_bytes().to_vec();
        for name in names {
            let len = u32::try_from(name.len()).unwrap();
            list.extend([0, 0, 1, len].map(u32::to_be_bytes).concat());
            list.extend(name.as_bytes());
            list.resize(list.len().next_multiple_of(4), 0);
        }
        list
    }

    /// A list of NFS 4 counted as none: the bits of the group, which are what all in the list may do at most,
    /// became the group's.
    #[test]
    fn a_list_of_nfs4_says_more_than_a_mode_if_it_names_others() {
        let of = |list: &[u8]| {
            read(|name, value| {
                if name != "system.nfs4_acl" {
                    return Err(Errno::OPNOTSUPP);
                }
                value[..list.len()].copy_from_slice(list);
                Ok(list.len())
            })
        };
        let plain = list(&["OWNER@", "GROUP@", "EVERYONE@"]);
        assert_eq!([of(&plain), of(&list(&[]))], [Acl::None, Acl::None]);
        for name in ["someone@example.org", "12345", "OWNER", ""] {
            assert_eq!(of(&list(&["OWNER@", name, "EVERYONE@"])), Acl::Unknown, "{name}");
        }
        for no_list in [&plain[..plain.len() - 1], &[0, 0, 0, 1, 0xff], &[]] {
            assert_eq!(of(no_list), Acl::Unknown, "{no_list:?}");
        }
        assert_eq!(read(|_, _| Err(Errno::OPNOTSUPP)), Acl::None);
    }
}
