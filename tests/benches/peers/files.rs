//! From a buffer to a file or a socket, and from a file to a buffer, against a plain file in its place.
//!
//! Nothing is synced on a disk: that costs the same whatever is synced. So the copies on the disk
//! are by `into_file`, which is `persist` without the sync, and `persist` is measured in RAM,
//! where a sync is nothing.

use crate::{KIB, MIB, bytes};
use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::{Contender, Row, alternate, timed, write_chunks};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

const MEMORY: usize = 4 * MIB;

/// What is measured: so many bytes, so often, in a directory.
#[derive(Clone, Copy)]
struct Run<'a> {
    total: usize,
    name: &'a str,
    rounds: usize,
    dir: &'a Path,
}

pub(crate) fn files() {
    all("256 MiB", 256 * MIB, 9);
}

pub(crate) fn files_1g() {
    all("1 GiB", 1024 * MIB, 3);
}

fn all(name: &str, total: usize, rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let run = Run { total, name, rounds, dir: dir.path() };
    into_file(run);
    from_file(run);
    to_socket(run);
    #[cfg(target_os = "linux")]
    persist_synced(run);
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        let dir = tempfile::tempdir_in(memory).unwrap();
        persist(Run { dir: dir.path(), ..run });
    }
}

fn pool(dir: &Path) -> SpillPool {
    SpillPool::builder().memory(MEMORY).dir(dir).build().unwrap()
}

fn filled<F: Write + Seek>(mut file: F, total: usize) -> F {
    write_chunks(&mut file, &bytes(MIB), total, MIB);
    file.rewind().unwrap();
    file
}

/// Copies a file that was just written to a new one, as a program without a buffer does, and closes it: the
/// buffer is dropped, too.
fn copied(Run { total, dir, .. }: Run<'_>) -> [Duration; 1] {
    let mut file = filled(tempfile::tempfile_in(dir).unwrap(), total);
    let mut target = tempfile::tempfile_in(dir).unwrap();
    [timed(|| {
        assert_eq!(io::copy(&mut file, &mut target).unwrap(), total as u64);
        drop(file);
    })]
}

fn into_file(run: Run<'_>) {
    let Run { total, name, rounds, dir } = run;
    let pool = pool(dir);
    let medians = alternate(
        rounds,
        &mut [
            Contender::new("overspill", || {
                let buffer = filled(pool.buffer(), total);
                let mut file = None;
                [timed(|| file = Some(buffer.into_file().unwrap()))]
            }),
            Contender::new("io::copy", || copied(run)),
        ],
    );
    let case = format!("{name} over 4 MiB into a file");
    Row::times(case, "io::copy of a file", medians[0][0], medians[1][0], 1.0).print();
}

fn persist(run: Run<'_>) {
    let Run { total, name, rounds, dir } = run;
    let path = dir.join("target");
    let pool = pool(dir);
    let persisted = |buffer: SpillBuffer| {
        let _ = std::fs::remove_file(&path); // to free it is no part of this
        let buffer = filled(buffer, total);
        let mut file = None;
        [timed(|| file = Some(buffer.persist(&path).unwrap()))]
    };
    let medians = alternate(
        rounds,
        &mut [
            Contender::new("of the pool's file", || persisted(pool.buffer())),
            Contender::new("of its own", || persisted(pool.buffer_for(&path))),
            Contender::new("io::copy", || copied(run)),
        ],
    );
    let row = |case: &str, ours: usize, target| {
        Row::times(case, "io::copy of a file", medians[ours][0], medians[2][0], target).print();
    };
    row(&format!("persist {name} over 4 MiB, tmpfs"), 0, 1.0);
    row("the same of a buffer for that path", 1, 20.0);
}

/// A buffer for a path, all of whose file is synced before: what is left is a name, and the sync of the pages
/// that were in memory.
#[cfg(target_os = "linux")]
fn persist_synced(run: Run<'_>) {
    let Run { total, name, rounds, dir } = run;
    let path = dir.join("target");
    let pool = pool(dir);
    let sync = || rustix::fs::syncfs(File::open(dir).unwrap()).unwrap();
    let medians = alternate(
        rounds,
        &mut [
            Contender::new("of its own", || {
                let _ = std::fs::remove_file(&path);
                let buffer = filled(pool.buffer_for(&path), total);
                sync();
                let mut file = None;
                [timed(|| file = Some(buffer.persist(&path).unwrap()))]
            }),
            Contender::new("io::copy", || copied(run)),
        ],
    );
    let case = format!("persist {name} of its own file, synced before");
    Row::times(case, "io::copy of a file", medians[0][0], medians[1][0], 20.0).print();
}

fn from_file(run: Run<'_>) {
    let Run { total, name, rounds, dir } = run;
    let pool = pool(dir);
    let from = |take: &dyn Fn(&mut File, &mut SpillBuffer)| {
        let (mut file, mut buffer) = (filled(tempfile::tempfile_in(dir).unwrap(), total), pool.buffer());
        [timed(|| take(&mut file, &mut buffer))]
    };
    let medians = alternate(
        rounds,
        &mut [
            Contender::new("extend_from_file", || {
                from(&|file, buffer| assert_eq!(buffer.extend_from_file(file).unwrap(), total as u64))
            }),
            Contender::new("io::copy to a buffer", || {
                from(&|file, buffer| assert_eq!(io::copy(file, buffer).unwrap(), total as u64))
            }),
            Contender::new("io::copy to a file", || copied(run)),
        ],
    );
    let case = format!("a file of {name} into 4 MiB");
    Row::times(&*case, "io::copy to a file", medians[0][0], medians[2][0], 1.0).print();
    Row::times(case, "io::copy to buffer", medians[0][0], medians[1][0], 1.0).print();
}

/// Reads all of `source` in pieces of 64 KiB, and writes them to a socket.
fn pieces(source: &mut impl Read, socket: &mut TcpStream) {
    let mut piece = vec![0; 64 * KIB];
    loop {
        match source.read(&mut piece).unwrap() {
            0 => break,
            n => socket.write_all(&piece[..n]).unwrap(),
        }
    }
}

/// Sends by `send` over the loopback device to a peer that reads it all.
fn sent(total: usize, send: impl FnOnce(&mut TcpStream)) -> [Duration; 1] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let (mut buf, mut received) = (vec![0; 256 * KIB], 0);
            while received < total {
                received += peer.read(&mut buf).unwrap();
            }
        });
        [timed(|| {
            send(&mut socket);
            reading.join().unwrap();
        })]
    })
}

fn to_socket(run: Run<'_>) {
    let Run { total, name, rounds, dir } = run;
    let mut plain = filled(tempfile::tempfile_in(dir).unwrap(), total);
    let pool = pool(dir);
    let mut buffer = filled(pool.buffer(), total);
    let mut copied = filled(pool.buffer(), total);
    let medians = alternate(
        rounds,
        &mut [
            Contender::new("read and write", || {
                buffer.rewind().unwrap();
                sent(total, |socket| pieces(&mut buffer, socket))
            }),
            Contender::new("copy_to", || {
                copied.rewind().unwrap();
                sent(total, |socket| assert_eq!(copied.copy_to(socket).unwrap(), total as u64))
            }),
            Contender::new("file", || {
                plain.rewind().unwrap();
                sent(total, |socket| pieces(&mut plain, socket))
            }),
        ],
    );
    for (how, ours) in [("by 64 KiB", 0), ("copy_to", 1)] {
        let case = format!("{name} over 4 MiB to a socket, {how}");
        Row::times(case, "file, by 64 KiB", medians[ours][0], medians[2][0], 1.0).print();
    }
}
