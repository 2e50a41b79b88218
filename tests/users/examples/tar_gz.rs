//! A compressed tar is sent while it is made, and stored once it is whole.
//!
//! The writer of a spool is the `Write` at the end of `tar` and `flate2`; a reader follows on another
//! thread, from the first bytes on. A writer that fails is an error of every reader: nobody takes half an
//! archive for a whole one.
//!
//! ```sh
//! cargo run --manifest-path tests/users/Cargo.toml --example tar_gz -- std-adapter/src /tmp/sources.tar.gz | tar tz
//! ```

use flate2::Compression;
use flate2::write::GzEncoder;
use overspill::{Frozen, SpillPool, SpoolWriter};
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(target)) = (args.next(), args.next()) else {
        return Err("usage: tar_gz FOLDER TARGET".into());
    };
    let pool = SpillPool::builder().memory(256 << 10).build()?;
    let archive = send_and_store(&folder, &pool, io::stdout())?;
    eprintln!("{} bytes of archive in {} of memory", archive.len(), pool.stats().memory_high_water);
    archive.persist(&target)?.durable()?;
    Ok(())
}

/// Packs the files in `folder`, and sends the archive to `receiver` meanwhile.
pub fn send_and_store(folder: &Path, pool: &SpillPool, mut receiver: impl Write + Send) -> Result<Frozen> {
    let (writer, mut reader) = pool.spool();
    thread::scope(|scope| {
        let sending = scope.spawn(move || io::copy(&mut reader, &mut receiver));
        let archive = pack(folder, writer)?;
        sending.join().expect("no panic")?;
        Ok(archive)
    })
}

fn pack(folder: &Path, writer: SpoolWriter) -> Result<Frozen> {
    let mut tar = tar::Builder::new(GzEncoder::new(writer, Compression::fast()));
    tar.follow_symlinks(false);
    tar.append_dir_all(".", folder)?;
    let writer = tar.into_inner()?.finish()?;
    Ok(writer.finish()?)
}
