//! Forked processes, in tests of what they inherit.

#![allow(unsafe_code)]

use overspill::{MemoryStore, Store};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `child` in a forked process, and returns whether it returned true there within 20
/// seconds. It ends by `_exit`.
///
/// # Panics
/// If the process cannot be forked.
pub fn in_a_child(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs on with one thread. It uses what it has inherited, which is what is tested, and
    // malloc, whose locks the C library releases there; and it ends by `_exit`.
    run_in_child(unsafe { libc::fork() }, child)
}

/// The same in a process that the kernel forks without the C library, which tells the child nothing.
///
/// # Panics
/// If the process cannot be forked.
#[cfg(target_os = "linux")]
pub fn in_a_child_of_the_kernel(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: as in `in_a_child`, but for the locks of malloc, which no other thread of the caller's may
    // hold. The kernel makes a copy of the process, on a copy of this stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    run_in_child(pid.try_into().expect("a number of a process"), child)
}

fn run_in_child(pid: libc::pid_t, child: impl FnOnce() -> bool) -> bool {
    match pid {
        0 => {
            // SAFETY: sets a timer, so that a child that hangs ends.
            unsafe { libc::alarm(20) };
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(false);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!fine)) };
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is a local variable.
            assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid, "no process was forked");
            if status != 0 {
                println!("the child failed, or hung (14): {status}");
            }
            status == 0
        }
    }
}

/// A kind of call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `read_at`
    Read = 1,
    /// `write_at`
    Write,
    /// `discard`
    Discard,
    /// `set_len`
    Cut,
}

/// A store in memory that stops calls of one kind.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    store: Arc<MemoryStore>,
    /// The kind of call that is stopped, or 0.
    stopped: Arc<AtomicU8>,
    /// Calls that stand there.
    standing: Arc<AtomicUsize>,
}

impl Gate {
    fn pass(&self, call: Call) {
        if self.stopped.load(Ordering::SeqCst) != call as u8 {
            return;
        }
        self.standing.fetch_add(1, Ordering::SeqCst);
        while self.stopped.load(Ordering::SeqCst) == call as u8 {
            thread::sleep(Duration::from_millis(1));
        }
        self.standing.fetch_sub(1, Ordering::SeqCst);
    }

    fn open(&self) {
        self.stopped.store(0, Ordering::SeqCst);
    }

    /// Runs `work` in a thread, and `child` in a process that is forked while a call of that
    /// thread stands at the gate.
    ///
    /// # Panics
    /// If no call comes, or the child fails or hangs.
    pub fn forked_during(&self, call: Call, work: impl FnOnce() + Send, child: impl FnOnce() -> bool) {
        thread::scope(|scope| {
            self.stopped.store(call as u8, Ordering::SeqCst);
            let worker = scope.spawn(work);
            let began = Instant::now();
            while self.standing.load(Ordering::SeqCst) == 0 && began.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
            let stands = self.standing.load(Ordering::SeqCst) > 0;
            let fine = in_a_child(|| {
                self.open();
                child()
            });
            self.open();
            worker.join().unwrap();
            assert!(stands, "no {call:?} was made");
            assert!(fine);
        });
    }
}

impl Store for Gate {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.pass(Call::Read);
        self.store.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.pass(Call::Write);
        self.store.write_at(offset, data)
    }

    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        self.pass(Call::Discard);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass(Call::Cut);
        self.store.set_len(len)
    }
}
