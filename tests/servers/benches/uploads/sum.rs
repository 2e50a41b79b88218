//! The sums by which uploads are checked.

use clap::ValueEnum;
use overspill_servers::hashed::Sum;
use sha2::Sha256;
use std::hash::Hasher;
use twox_hash::XxHash3_64;

/// A sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Quick: what is measured is the server.
    Xxh3,
    /// That of the upload server.
    Sha256,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Xxh3 => "xxh3",
            Kind::Sha256 => "sha256",
        }
    }

    /// The sum of `bytes`, in hexadecimal digits.
    pub(crate) fn of(self, bytes: &[u8]) -> String {
        fn of<S: Sum>(bytes: &[u8]) -> String {
            let mut sum = S::default();
            sum.add(bytes);
            sum.finish()
        }
        match self {
            Kind::Xxh3 => of::<Xxh3>(bytes),
            Kind::Sha256 => of::<Sha256>(bytes),
        }
    }
}

#[derive(Default)]
pub(crate) struct Xxh3(XxHash3_64);

impl Sum for Xxh3 {
    fn add(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn finish(self) -> String {
        format!("{:016x}", self.0.finish())
    }
}
