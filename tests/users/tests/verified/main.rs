//! Each program of `examples/`, over a pool with far less memory than it makes, and what it made
//! verified by another program.

#[expect(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/compound.rs"]
mod compound;
#[expect(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/parquet.rs"]
mod parquet;
#[expect(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/png.rs"]
mod png;
#[expect(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/tar_gz.rs"]
mod tar_gz;
#[expect(dead_code, reason = "its main is for those who run it")]
#[path = "../../examples/zip.rs"]
mod zip;

use overspill::{Frozen, SpillPool};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const MEMORY: usize = 64 << 10;

fn pool() -> SpillPool {
    SpillPool::builder().memory(MEMORY).build().unwrap()
}

/// Saves `made` as a file, which has to be far larger than the memory was.
fn saved(made: Frozen, pool: &SpillPool, path: &Path) {
    assert!(made.len() > 8 * MEMORY as u64, "only {} bytes", made.len());
    made.persist(path).unwrap().durable().unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), made.len());
    assert!(pool.stats().memory_high_water <= MEMORY as u64);
    drop(made);
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.buffers, stats.memory_used, stats.memory_lent, stats.disk_used), (0, 0, 0, 0));
}

/// Runs a script that exits with an error if it finds one. Skipped, and said so, if there is no Python with
/// `modules`; `.ci/users` has them.
fn verify(modules: &str, script: &str, args: &[&Path]) {
    let found =
        Command::new("python3").args(["-c", &format!("import {modules}")]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        // `cargo test` holds back what `eprintln!` prints.
        let _ = writeln!(io::stderr(), "skipped: verifying {args:?}: no python3 with {modules}");
        return;
    }
    let status = Command::new("python3").args(["-c", script]).args(args).status().unwrap();
    assert!(status.success(), "python3 found {args:?} to be wrong");
}

/// The files that git has of this repository, in a folder.
fn repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut git = Command::new("git")
        .args(["-C", concat!(env!("CARGO_MANIFEST_DIR"), "/../.."), "archive", "HEAD"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tree = git.stdout.take().unwrap();
    let tar = Command::new("tar").args(["x", "-C"]).arg(folder.path()).stdin(tree).status().unwrap();
    assert!(tar.success() && git.wait().unwrap().success());
    folder
}

/// The files in a folder, by their names.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 100);
    files
}

#[test]
fn zip_is_what_zipfile_reads() {
    let (pool, tree, dir) = (pool(), repository(), tempfile::tempdir().unwrap());
    let archive = zip::pack(tree.path(), &pool).unwrap();
    let unpacked: usize = files(tree.path()).values().map(Vec::len).sum();
    assert_eq!(zip::unpacked_len(&archive).unwrap(), unpacked as u64);
    let path = dir.path().join("tree.zip");
    saved(archive, &pool, &path);
    let script = "
import pathlib, sys, zipfile
archive, tree = zipfile.ZipFile(sys.argv[1]), pathlib.Path(sys.argv[2])
assert archive.testzip() is None
files = {str(file.relative_to(tree)): file.read_bytes() for file in tree.rglob('*') if file.is_file()}
assert {name: archive.read(name) for name in archive.namelist()} == files
";
    verify("zipfile", script, &[&path, tree.path()]);
}

#[test]
fn tar_gz_is_what_tar_unpacks() {
    let (pool, tree, dir) = (pool(), repository(), tempfile::tempdir().unwrap());
    let mut sent = Vec::new();
    let archive = tar_gz::send_and_store(tree.path(), &pool, &mut sent).unwrap();
    assert!(archive.to_vec().unwrap() == sent);
    let path = dir.path().join("tree.tar.gz");
    saved(archive, &pool, &path);
    let unpacked = tempfile::tempdir().unwrap();
    let tar = Command::new("tar").arg("xzf").arg(&path).arg("-C").arg(unpacked.path()).status().unwrap();
    assert!(tar.success() && files(unpacked.path()) == files(tree.path()));
}

/// The pixels are computed in Python once more, and the file is decoded there from its chunks on.
#[test]
fn png_is_what_its_specification_says() {
    let (pool, dir) = (pool(), tempfile::tempdir().unwrap());
    let (width, height) = (640, 300);
    let image = png::noise(width, height);
    let file = png::encode(&image, &pool).unwrap();
    assert!(png::decode(&file).unwrap() == image);
    let path = dir.path().join("noise.png");
    saved(file, &pool, &path);
    verify("zlib", include_str!("png.py"), &[&path]);
}

#[test]
fn compound_is_what_olefile_reads() {
    let (pool, dir) = (pool(), tempfile::tempdir().unwrap());
    let path = dir.path().join("streams.msg");
    saved(compound::build(&pool, 5).unwrap(), &pool, &path);
    let script = "
import olefile, sys
file = olefile.OleFileIO(sys.argv[1], raise_defects=olefile.DEFECT_INCORRECT)
assert sorted(file.listdir()) == [['parts', str(number)] for number in range(5)]
for number in range(5):
    stream = file.openstream(['parts', str(number)]).read()
    assert stream == b'\\xff' + bytes([number]) * 299_999, number
";
    verify("olefile", script, &[&path]);
}

#[test]
fn parquet_is_what_pyarrow_reads() {
    let (pool, dir) = (pool(), tempfile::tempdir().unwrap());
    let file = parquet::write(&pool).unwrap();
    assert_eq!(parquet::sum_of_numbers(&file).unwrap(), (0..parquet::ROWS).sum());
    let path = dir.path().join("rows.parquet");
    saved(file, &pool, &path);
    let script = "
import pyarrow.parquet, sys
table, rows = pyarrow.parquet.read_table(sys.argv[1]), range(400_000)
assert table.column_names == ['number', 'square', 'name']
assert table['number'].to_pylist() == list(rows)
assert table['square'].to_pylist() == [row * row for row in rows]
assert table['name'].to_pylist() == [f'row {row}' for row in rows]
";
    verify("pyarrow.parquet", script, &[&path]);
}
