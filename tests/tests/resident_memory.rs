//! Does the memory of the process follow what its pools are charged? And what of the memory that passes from
//! pool to pool: does it show its old bytes, and does it survive a fork or a system that has none left?
//!
//! Each test that measures, forks or sets limits has a process of its own.
#![cfg(target_os = "linux")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up sizes")]

use overspill::{SpillBuffer, SpillPool};
use overspill_tests::bench::{peak_resident_kib, process_status};
use overspill_tests::support::{Nothing, Random, content_of};
use std::io::{BufRead, Read, Seek, SeekFrom, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What a process may have resident beside the limits of its pools and its buffers: less than I2' allows.
const BESIDE: u64 = 8 * MIB;

/// Runs the ignored test called `name` in a process of its own, by a line of the shell.
fn alone(name: &str, line: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).arg(std::env::current_exe().unwrap()).arg(name);
    let output = shell.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}

/// Runs it in this thread, so that the test harness holds no more memory than it must.
const PLAIN: &str = "exec \"$0\" --exact \"$1\" --ignored --nocapture --test-threads=1";

/// Without the pages of the program itself, which come in as it runs.
fn resident() -> u64 {
    process_status("RssAnon").unwrap() * KIB
}

/// With them.
fn peak() -> u64 {
    peak_resident_kib() * KIB
}

/// A pool was charged 48 MiB for 10,000 bodies of 60 kB that came in turn, and its process had 76 MiB
/// resident; 50 stayed when the bodies were gone.
#[test]
fn resident_memory_follows_the_charge() {
    alone("bodies_in_turn", PLAIN);
    alone("bodies_of_all_sizes", PLAIN);
    alone("pools_of_all_page_sizes", PLAIN);
    alone("a_small_body_behind_long_slots", PLAIN);
    alone("bodies_that_have_lent_a_line", PLAIN);
    alone("bodies_that_stay_spilled", PLAIN);
    alone("pages_that_stay_spilled", PLAIN);
    alone("pools_and_buffers_of_their_own", PLAIN);
}

/// Each was said to take 24 bytes, its entry in the table. But the file has two bits for each slot that
/// there may be in it, whose vectors doubled: up to 16 bytes more for each page.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn pages_that_stay_spilled() {
    const LEN: u64 = (17 << 30) + MIB; // just past a power of two
    let pool = SpillPool::builder().memory(0).page_size(64 << 10).store(Nothing).build().unwrap();
    let (mut body, before) = (pool.buffer(), resident());
    (0..LEN / MIB).for_each(|_| body.write_all(&DATA).unwrap());
    let (taken, pages) = (resident().saturating_sub(before), LEN / (64 * KIB));
    assert!(taken <= pages * 34 + MIB / 2, "{:.1} bytes each", taken as f64 / pages as f64);
}

/// They were said to take 2.5 kB each, and took 3.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn pools_and_buffers_of_their_own() {
    const COUNT: u64 = 4000;
    let before = resident();
    let pools: Vec<_> = (0..COUNT).map(|_| SpillPool::default()).collect();
    let between = resident();
    let mut buffers: Vec<_> = (0..COUNT).map(|_| SpillBuffer::new()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.write_all(b"a").unwrap());
    let each = [between - before, resident() - between].map(|taken| taken / COUNT);
    assert!(each.iter().all(|&each| each <= 3500), "{each:?} bytes each");
    drop(pools);
}

/// Each was said to take 300 bytes beside its limit, or 512. Only few were measured, beside a margin of 8
/// MiB.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn bodies_that_stay_spilled() {
    const COUNT: u64 = 100_000;
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let mut bodies: Vec<_> = Vec::with_capacity(COUNT as usize);
    let before = resident();
    for _ in 0..COUNT {
        let mut body = pool.buffer();
        body.write_all(&[7; 600]).unwrap();
        bodies.push(body);
    }
    let taken = resident().saturating_sub(before);
    assert!(taken <= COUNT * 768, "{} bytes each", taken / COUNT);
}

/// The copy that a line is lent from, while there is no frame for its page, stayed with its buffer until that
/// was dropped: 4 KiB each, which no limit knew.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn bodies_that_have_lent_a_line() {
    const COUNT: u64 = 20_000;
    let pool = SpillPool::builder().memory(0).build().unwrap();
    let text = "a line of twenty bytes\n".repeat(100);
    let mut bodies: Vec<_> = (0..COUNT).map(|_| pool.buffer()).collect();
    bodies.iter_mut().for_each(|body| body.write_all(text.as_bytes()).unwrap());
    let clones = bodies.iter_mut().map(|body| body.try_clone().unwrap());
    let mut readers: Vec<_> = clones.map(|clone| clone.freeze().reader()).collect();
    let before = resident();
    for body in &mut bodies {
        body.rewind().unwrap();
        assert_eq!(body.read_line(&mut String::new()).unwrap(), 23);
    }
    for reader in &mut readers {
        assert_eq!(reader.read_line(&mut String::new()).unwrap(), 23);
    }
    let taken = resident().saturating_sub(before);
    assert!(taken <= 2 * bookkeeping(COUNT, 0) + MIB, "{} KiB", taken / KIB);
}

/// The first body that took parts of a block had 8 bytes noted for each block of the file, whatever
/// that held: 200 MiB here.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn a_small_body_behind_long_slots() {
    const COUNT: u64 = 4000;
    let pool = SpillPool::builder().memory(0).page_size(16 << 20).build().unwrap();
    let mut long: Vec<_> = (0..COUNT).map(|_| pool.buffer()).collect();
    // Slots in which the bodies can grow: 64 GB of holes in the file.
    long.iter_mut().for_each(|body| body.write_all(&[1; 10]).unwrap());
    pool.set_memory_limit(1 << 20);
    let before = resident();
    let mut small: Vec<_> = (0..COUNT).map(|_| pool.buffer()).collect();
    small.iter_mut().for_each(|body| body.write_all(&[2; 600]).unwrap());
    small.iter_mut().for_each(|body| body.spill().unwrap());
    let taken = resident().saturating_sub(before);
    assert!(taken <= MIB + bookkeeping(COUNT, 600) + BESIDE, "{} KiB", taken / KIB);
    pool.check_invariants();
}

/// Not a vector, whose memory the allocator would keep.
static DATA: [u8; 1 << 20] = [7; 1 << 20];

/// What I2' allows for the pages and the buffers themselves, if there are `buffers` with `len` bytes each.
fn bookkeeping(buffers: u64, len: u64) -> u64 {
    buffers * 512 + buffers * len.div_ceil(64 * KIB) * 64
}

#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn bodies_in_turn() {
    const COUNT: u64 = 1500;
    let (before, before_peak) = (resident(), peak());
    let pool = SpillPool::builder().memory(8 << 20).build().unwrap();
    let mut bodies: Vec<_> = (0..COUNT).map(|_| pool.buffer()).collect();
    for _ in 0..10 {
        bodies.iter_mut().for_each(|body| body.write_all(&[7; 6000]).unwrap());
    }
    assert!(pool.stats().disk_used > 60 * MIB, "most of it is spilled");
    let allowed = 8 * MIB + BESIDE + bookkeeping(COUNT, 60_000);
    assert!(peak() - before_peak <= allowed, "{} KiB of {}", (peak() - before_peak) / KIB, allowed / KIB);
    bodies.truncate(20);
    pool.trim();
    let left = pool.stats().memory_used + BESIDE / 2;
    assert!(resident() <= before + left, "{} KiB are left", (resident() - before) / KIB);
    drop(bodies);
    drop(pool);
    assert!(resident() <= before + BESIDE, "{} KiB are left", (resident() - before) / KIB);
}

/// Bodies of log-uniform size, some hundreds alive: what fragments an allocator.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn bodies_of_all_sizes() {
    let (before_peak, mut random) = (peak(), Random::new(7));
    let pool = SpillPool::builder().memory(8 << 20).build().unwrap();
    let mut bodies: Vec<_> = (0..300).map(|_| pool.buffer()).collect();
    for _ in 0..6000 {
        let len = 100.0 * 10_000_f64.powf(random.below(1 << 20) as f64 / f64::from(1 << 20));
        let mut body = pool.buffer();
        DATA[..len as usize].chunks(8192).for_each(|piece| body.write_all(piece).unwrap());
        let at = random.index(bodies.len());
        bodies[at] = body;
    }
    let allowed = 8 * MIB + BESIDE + bookkeeping(300, 1_000_000);
    assert!(peak() - before_peak <= allowed, "{} KiB of {}", (peak() - before_peak) / KIB, allowed / KIB);
}

/// What one pool gave back, the next one uses, though its pages have another size.
#[test]
#[ignore = "run by resident_memory_follows_the_charge"]
fn pools_of_all_page_sizes() {
    let before = resident();
    for round in 0..3 {
        for page in [4096, 64 << 10, 16 << 10, 1 << 20, 8192, 16 << 20] {
            let pool = SpillPool::builder().memory(32 << 20).page_size(page).build().unwrap();
            let mut buffer = pool.buffer();
            (0..32).for_each(|_| buffer.write_all(&DATA).unwrap());
            assert!(!buffer.is_spilled());
            let used = resident() - before;
            assert!(used <= 32 * MIB + BESIDE, "round {round}: {} KiB with pages of {page}", used / KIB);
            drop(buffer);
            drop(pool);
            let left = resident().saturating_sub(before);
            assert!(left <= BESIDE, "round {round}: {} KiB are left of pages of {page}", left / KIB);
        }
    }
}

/// No byte of a buffer of one pool is ever read from a buffer of another, though the memory is the same.
#[test]
fn memory_that_passes_from_pool_to_pool_shows_nothing() {
    const CANARY: u8 = 0xC5;
    let page_sizes = [2048, 4096, 16 << 10, 64 << 10];
    let (mut random, mut looked) = (Random::new(3), 0);
    for round in 0..40 {
        let page = page_sizes[round % page_sizes.len()];
        let secret = SpillPool::builder().memory(1 << 20).page_size(page).build().unwrap();
        secret.buffer().write_all(&[CANARY; 900_000]).unwrap();
        SpillBuffer::new().write_all(&[CANARY; 300_000]).unwrap();
        drop(secret);

        let pool = SpillPool::builder().memory(256 << 10).page_size(page).build().unwrap();
        for mut buffer in [pool.buffer(), SpillBuffer::new(), SpillBuffer::with_budget(64 << 10)] {
            for _ in 0..30 {
                let at = random.below(400_000);
                buffer.seek(SeekFrom::Start(at)).unwrap();
                match random.below(4) {
                    0 => buffer.set_len(at).unwrap(),
                    1 => buffer.write_all(&vec![1; random.index(9000)]).unwrap(),
                    2 => assert!(!buffer.fill_buf().unwrap().contains(&CANARY)),
                    _ => buffer.write_all(&[2]).unwrap(),
                }
            }
            let content = content_of(&mut buffer);
            assert!(!content.contains(&CANARY), "round {round}, pages of {page}");
            looked += content.len();
        }
    }
    assert!(looked > 10_000_000, "{looked}");
}

/// A thread held the allocator's lock at the moment of a fork, and no thread of the child could release it.
#[test]
fn a_fork_while_other_threads_allocate_hangs_no_child() {
    alone("fork_and_allocate", PLAIN);
}

fn use_memory(byte: u8) {
    let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
    for mut buffer in [pool.buffer(), SpillBuffer::new()] {
        (0..30).for_each(|_| buffer.write_all(&[byte; 10_000]).unwrap());
        assert!(content_of(&mut buffer) == [byte; 300_000]);
    }
}

#[test]
#[ignore = "run by a_fork_while_other_threads_allocate_hangs_no_child"]
fn fork_and_allocate() {
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        for byte in [1, 2, 3] {
            scope.spawn({
                let ends = &ends;
                move || {
                    while !ends.load(Ordering::Relaxed) {
                        use_memory(byte);
                    }
                }
            });
        }
        let statuses: Vec<_> = (0..100).map(|_| fork_once()).collect();
        ends.store(true, Ordering::Relaxed);
        assert_eq!(statuses, [0; 100], "a child hung (14) or failed");
    });
}

/// Forks; the child uses memory, and has ten seconds for it. Returns the child's status as `waitpid` has it.
#[allow(unsafe_code)]
fn fork_once() -> i32 {
    // SAFETY: the child calls no function that may need a lock of std or libc that another thread held, but
    // for the allocator's, which glibc releases in the child; and it ends by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: sets a timer.
            unsafe { libc::alarm(10) };
            let fine = std::panic::catch_unwind(|| use_memory(9)).is_ok();
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!fine)) };
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` is a local variable.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            status
        }
    }
}

/// A process whose address space was limited (`ulimit -v`) was aborted at the next page. The bytes go to
/// disk.
#[test]
fn where_the_system_has_no_memory_left_the_bytes_go_to_disk() {
    alone("little_address_space", PLAIN);
}

#[test]
#[ignore = "run by where_the_system_has_no_memory_left_the_bytes_go_to_disk"]
fn little_address_space() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let pool = SpillPool::builder().memory(1 << 30).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 100]).unwrap();
    let piece: Vec<u8> = (0..=250).cycle().take(50_000).collect();
    let mut found = vec![0; piece.len()];
    // The thread that registers the process for the kernel's fences gives its stack back when it ends. If
    // that was counted, there was room for all.
    while process_status("Threads").unwrap() > 2 {
        thread::yield_now();
    }
    let mapped = process_status("VmSize").unwrap() * KIB;
    let limits = Rlimit { current: Some(mapped + 20 * MIB), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limits).unwrap();

    (0..1000).for_each(|_| buffer.write_all(&piece).unwrap());
    let stats = pool.stats();
    assert!(stats.disk_used > 20 * MIB, "{} bytes are on disk", stats.disk_used);
    assert!(stats.memory_used > MIB, "what could be had was used");
    buffer.seek(SeekFrom::Start(100)).unwrap();
    for _ in 0..1000 {
        buffer.read_exact(&mut found).unwrap();
        assert!(found == piece);
    }
}
