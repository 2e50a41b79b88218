//! loom models of the jobs that run off an event loop: on whatever thread they run, and whatever a runtime
//! drops, each waiter gets its subject back, once.
//!
//! A pool has one task here, so that jobs queue.
//!
//! Held by: `.ci/weaken-pool`.

use crate::models::explore;
use crate::pool::offload::{Drain, NotRun, Offload, Pending};
use crate::sync::{Arc, Condvar, Mutex, lock};
use loom::thread;
use std::cell::Cell;
use std::task::{Context, Poll, Wake, Waker};

/// The only runtime.
const RUNTIME: u64 = 1;

type Job = Pending<Arc<u32>, u32>;

fn job(offload: &Arc<Offload>, subject: &Arc<u32>) -> Job {
    offload.submit(Arc::clone(subject), |subject| **subject * 2).expect("there is memory")
}

/// A waker that remembers. loom forgets that a thread was unparked if it then waits for a lock.
#[derive(Default)]
struct Bell {
    has_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut has_rung = lock(&self.has_rung);
        while !std::mem::take(&mut *has_rung) {
            has_rung = self.rung.wait(has_rung).unwrap();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *lock(&self.has_rung) = true;
        self.rung.notify_one();
    }
}

/// Waits as an event loop does: polls, and sleeps until it is woken.
fn wait(job: &mut Job, spawn: &dyn Fn(Drain)) -> (Arc<u32>, Result<u32, NotRun>) {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    loop {
        if let Poll::Ready(done) = job.poll(&Context::from_waker(&waker), RUNTIME, spawn) {
            return done;
        }
        bell.wait();
    }
}

fn run(drain: Drain) {
    thread::spawn(|| drain.run());
}

/// Guards: a task that ends as a job comes, or with its share done, leaves it to another.
#[test]
fn each_job_is_run_by_the_one_task_or_the_next() {
    each_job_is_run(1);
    each_job_is_run(10);
}

fn each_job_is_run(share: usize) {
    explore(2, move || {
        let offload = Arc::new(Offload::with_share(share));
        let theirs = Arc::clone(&offload);
        let other = thread::spawn(move || {
            let subject = Arc::new(4);
            let (back, result) = wait(&mut job(&theirs, &subject), &run);
            assert_eq!((*back, result), (4, Ok(8)));
        });
        let subject = Arc::new(3);
        let (back, result) = wait(&mut job(&offload, &subject), &run);
        assert_eq!((*back, result), (3, Ok(6)));
        other.join().unwrap();
    });
}

/// Guards: a task that a runtime drops is replaced, by a waiter that is woken for that.
#[test]
fn a_task_that_is_dropped_is_replaced() {
    explore(3, || {
        let offload = Arc::new(Offload::new());
        let subject = Arc::new(5);
        let is_first = Cell::new(true);
        let spawn = |drain: Drain| {
            if is_first.replace(false) {
                thread::spawn(|| drop(drain));
            } else {
                run(drain);
            }
        };
        let mut job = job(&offload, &subject);
        match wait(&mut job, &spawn) {
            (_, Ok(result)) => assert_eq!(result, 10),
            // The task was dropped before its waiter looked whether there is one.
            (back, Err(error)) => assert_eq!((*back, error), (5, NotRun::ShutDown)),
        }
        assert_eq!(Arc::strong_count(&subject), 1);
    });
}

/// Guards: a waiter that is dropped, or takes its subject back, races with the task that runs its job. The
/// subject is dropped once, and the count of tasks ends at 0.
#[test]
fn a_subject_is_taken_back_or_worked_on() {
    explore(3, || {
        let offload = Arc::new(Offload::new());
        let subject = Arc::new(6);
        drop(job(&offload, &subject));
        assert_eq!(Arc::strong_count(&subject), 1, "before anything runs");
        let mut taken = job(&offload, &subject);
        let dropped = job(&offload, &subject);
        let waker = Waker::from(Arc::new(Bell::default()));
        let task = std::cell::RefCell::new(None);
        let spawn = |drain: Drain| *task.borrow_mut() = Some(thread::spawn(|| drain.run()));
        assert!(
            taken.poll(&Context::from_waker(&waker), RUNTIME, &spawn).is_pending() || task.borrow().is_some()
        );
        drop(dropped);
        if let Some(back) = taken.take_back() {
            assert_eq!(*back, 6);
        }
        drop(taken);
        task.take().unwrap().join().unwrap();
        assert_eq!((Arc::strong_count(&subject), offload.tasks()), (1, 0));
    });
}
