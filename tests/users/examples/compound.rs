//! A compound file, as `.msi`, `.msg` and old Office documents are, is built and changed where it lies.
//!
//! It is a file system in a file: while streams grow, `cfb` reads, writes and seeks all over it. It wants
//! `Read + Write + Seek`; a buffer of a pool is that, whatever is in memory and whatever on disk.
//!
//! ```sh
//! cargo run --manifest-path tests/users/Cargo.toml --example compound -- /tmp/streams.msg
//! ```

use cfb::CompoundFile;
use overspill::{Frozen, SpillPool};
use std::error::Error;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Bytes of each stream.
pub const STREAM: usize = 300_000;

fn main() -> Result<()> {
    let Some(target) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: compound TARGET".into());
    };
    let pool = SpillPool::builder().memory(256 << 10).build()?;
    let file = build(&pool, 10)?;
    println!("{} bytes of file in {} of memory", file.len(), pool.stats().memory_high_water);
    file.persist(&target)?.durable()?;
    Ok(())
}

/// Streams that grow in turn, so that the pieces of each lie between those of the others. Each byte is the
/// stream's number; at the end, the first of each is changed to 255.
pub fn build(pool: &SpillPool, streams: u8) -> Result<Frozen> {
    let mut file = CompoundFile::create(pool.buffer())?;
    file.create_storage("/parts")?;
    let name = |number: u8| format!("/parts/{number}");
    for number in 0..streams {
        file.create_stream(name(number))?;
    }
    for _ in 0..STREAM / 10_000 {
        for number in 0..streams {
            let mut stream = file.open_stream(name(number))?;
            stream.seek(SeekFrom::End(0))?;
            stream.write_all(&[number; 10_000])?;
        }
    }
    for number in 0..streams {
        let mut stream = file.open_stream(name(number))?;
        stream.write_all(&[255])?;
        let mut second = [0];
        stream.read_exact(&mut second)?;
        assert_eq!(second, [number]);
    }
    file.flush()?;
    Ok(file.into_inner().freeze())
}
