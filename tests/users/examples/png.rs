//! An image is encoded into a buffer and decoded from it, in memory far smaller than either.
//!
//! `write_to` wants `Write + Seek`, and `ImageReader` wants `BufRead + Seek`. The buffer is the first, the
//! reader of its frozen content the second; the `BufReader` that a file needs is not needed, since small
//! reads are served from a window.
//!
//! ```sh
//! cargo run --manifest-path tests/users/Cargo.toml --example png -- /tmp/noise.png
//! ```

use image::{DynamicImage, ImageFormat, ImageReader, RgbImage};
use overspill::{Frozen, SpillPool};
use std::error::Error;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let Some(target) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: png TARGET".into());
    };
    let pool = SpillPool::builder().memory(256 << 10).build()?;
    let image = noise(1024, 1024);
    let png = encode(&image, &pool)?;
    assert!(decode(&png)? == image);
    println!("{} bytes of PNG in {} of memory", png.len(), pool.stats().memory_high_water);
    png.persist(&target)?.durable()?;
    Ok(())
}

/// Pixels that no encoder makes smaller: Knuth's hash of their places.
pub fn noise(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let [a, b, c, _] = (y * width + x).wrapping_mul(2_654_435_761).rotate_left(x % 32).to_be_bytes();
        image::Rgb([a, b, c])
    })
}

/// The image as PNG.
pub fn encode(image: &RgbImage, pool: &SpillPool) -> Result<Frozen> {
    let mut buffer = pool.buffer();
    image.write_to(&mut buffer, ImageFormat::Png)?;
    Ok(buffer.freeze())
}

/// The image of a file whose format is found by its first bytes.
pub fn decode(file: &Frozen) -> Result<RgbImage> {
    match ImageReader::new(file.reader()).with_guessed_format()?.decode()? {
        DynamicImage::ImageRgb8(image) => Ok(image),
        other => Err(format!("{:?} instead of RGB", other.color()).into()),
    }
}
