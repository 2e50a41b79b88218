//! A folder becomes a zip archive in memory that is far smaller, and eight threads read the archive at once.
//!
//! `ZipWriter` wants `Write + Seek`: when an entry is complete, it goes back to fill in the length and the
//! checksum. A buffer of a pool is that, and what does not fit moves to disk. Frozen, it is read by any
//! number of threads: a `ZipArchive` reads the index once, and its clones have readers, positions and
//! errors of their own.
//!
//! ```sh
//! cargo run --manifest-path tests/users/Cargo.toml --example zip -- std-adapter/src /tmp/sources.zip
//! ```

use overspill::{Frozen, SpillPool};
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const READERS: usize = 8;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(target)) = (args.next(), args.next()) else {
        return Err("usage: zip FOLDER TARGET".into());
    };
    let pool = SpillPool::builder().memory(256 << 10).build()?;
    let archive = pack(&folder, &pool)?;
    println!("{} bytes unpacked, by {READERS} threads", unpacked_len(&archive)?);
    println!("{} bytes of archive in {} of memory", archive.len(), pool.stats().memory_high_water);
    archive.persist(&target)?.durable()?;
    Ok(())
}

/// The files in `folder` as an archive.
pub fn pack(folder: &Path, pool: &SpillPool) -> Result<Frozen> {
    let mut zip = ZipWriter::new(pool.buffer());
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let name = path.strip_prefix(folder)?.to_string_lossy().replace('\\', "/");
                zip.start_file(name, SimpleFileOptions::default())?;
                io::copy(&mut File::open(path)?, &mut zip)?;
            }
        }
    }
    Ok(zip.finish()?.freeze())
}

/// Unpacks every entry, each of the threads every eighth, and returns the number of bytes. The crate
/// checks the checksums.
pub fn unpacked_len(archive: &Frozen) -> Result<u64> {
    let archive = ZipArchive::new(archive.reader())?;
    thread::scope(|scope| {
        let threads = [0, 1, 2, 3, 4, 5, 6, 7].map(|first| {
            let mut archive = archive.clone();
            scope.spawn(move || -> Result<u64> {
                let mut len = 0;
                for index in (first..archive.len()).step_by(READERS) {
                    len += io::copy(&mut archive.by_index(index)?, &mut io::sink())?;
                }
                Ok(len)
            })
        });
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}
