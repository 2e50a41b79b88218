use super::*;
use crate::sync::Mutex;
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

/// A runtime.
const OURS: u64 = 1;

fn double(number: &mut u32) -> u32 {
    *number += 1;
    *number * 2
}

#[test]
fn a_job_gives_its_subject_back_and_a_task_runs_all() {
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    let spawn = |drain| tasks.borrow_mut().push(drain);
    let mut jobs: Vec<_> = (0..10).map(|n| offload.submit(n, double).unwrap()).collect();
    assert!(jobs.iter_mut().all(|job| job.poll(&context, OURS, &spawn).is_pending()));
    assert_eq!((tasks.borrow().len(), offload.tasks()), (TASKS_MAX, TASKS_MAX));
    assert_eq!(jobs[9].take_back(), Some(9), "it was not begun");
    tasks.take().into_iter().for_each(Drain::run);
    for (n, job) in (0..).zip(&mut jobs[..9]) {
        assert_eq!(job.poll(&context, OURS, &spawn), Poll::Ready((n + 1, Ok(2 * n + 2))));
    }
    assert_eq!((tasks.borrow().len(), offload.tasks()), (0, 0));
}

/// A runtime that is shut down drops what it has not begun. The count of tasks would stay, and no
/// job would run again.
#[test]
fn tasks_that_are_dropped_are_replaced_or_reported() {
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    let spawn = |drain| tasks.borrow_mut().push(drain);
    let [mut first, mut second] = [1, 2].map(|n| offload.submit(n, double).unwrap());
    assert!(first.poll(&context, OURS, &spawn).is_pending());
    assert!(second.poll(&context, OURS, &spawn).is_pending());
    drop(tasks.take());
    assert_eq!(offload.tasks(), 0);
    assert_eq!(first.poll(&context, OURS, &drop), Poll::Ready((1, Err(NotRun::ShutDown))));
    assert_eq!(offload.queue().unwrap().jobs.len(), 1, "what is not run is not kept");
    assert!(second.poll(&context, OURS, &spawn).is_pending());
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!(second.poll(&context, OURS, &spawn), Poll::Ready((3, Ok(6))));
}

/// Jobs whose waiters are gone stayed in the queue until a task came by. Without one they heaped up there,
/// and each counted as one more for which to begin a task.
#[test]
fn a_job_that_nobody_waits_for_leaves_the_queue() {
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    let spawn = |drain| tasks.borrow_mut().push(drain);
    let mut jobs: Vec<_> = (0..10).map(|n| offload.submit(n, double).unwrap()).collect();
    assert_eq!((jobs[5].take_back(), offload.queue().unwrap().jobs.len()), (Some(5), 9));
    let mut last = jobs.pop().unwrap();
    drop(jobs);
    assert_eq!(offload.queue().unwrap().jobs.len(), 1);
    for _ in 0..3 {
        assert!(last.poll(&context, OURS, &spawn).is_pending());
    }
    assert_eq!(tasks.borrow().len(), 1, "a task for each job");
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!(last.poll(&context, OURS, &spawn), Poll::Ready((10, Ok(20))));
}

/// A task went on for as long as there were jobs, of whichever runtime: one that was shut down waited for it.
#[test]
fn a_task_ends_though_there_are_more_jobs() {
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    let spawn = |drain| tasks.borrow_mut().push(drain);
    let number = u32::try_from(JOBS_MAX).unwrap() + 1;
    let mut jobs: Vec<_> = (0..number).map(|n| offload.submit(n, double).unwrap()).collect();
    assert!(jobs[0].poll(&context, OURS, &spawn).is_pending());
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!((offload.tasks(), offload.queue().unwrap().jobs.len()), (0, 1));
    let last = jobs.last_mut().unwrap();
    assert!(last.poll(&context, OURS, &spawn).is_pending(), "a waiter starts another");
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!(last.poll(&context, OURS, &spawn), Poll::Ready((number, Ok(2 * number))));
}

/// Its threads were all taken, by what waited for the other, and no task was ever started there.
#[test]
fn a_waiter_does_not_wait_for_the_threads_of_another_runtime() {
    const THEIRS: u64 = 2;
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let (stuck, tasks) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let jobs = |from: u32| (from..from + 5).map(|n| offload.submit(n, double).unwrap()).collect::<Vec<_>>();
    let (mut theirs, mut ours) = (jobs(0), jobs(5));
    for job in &mut theirs {
        assert!(job.poll(&context, THEIRS, &|drain| stuck.borrow_mut().push(drain)).is_pending());
    }
    for round in 0..2 {
        for job in &mut ours {
            assert!(job.poll(&context, OURS, &|drain| tasks.borrow_mut().push(drain)).is_pending());
        }
        assert!(!tasks.borrow().is_empty(), "round {round}");
        tasks.take().into_iter().for_each(Drain::run);
        for (n, job) in (5..).zip(&mut ours) {
            assert_eq!(job.poll(&context, OURS, &drop), Poll::Ready((n + 1, Ok(2 * n + 2))));
        }
        ours = jobs(5);
    }
    let done = theirs[0].poll(&context, THEIRS, &drop);
    assert_eq!(done, Poll::Ready((1, Ok(2))), "jobs are of no runtime");
    assert_eq!((stuck.borrow().len(), offload.tasks()), (TASKS_MAX, TASKS_MAX));
    let mut elsewhere = offload.submit(9, double).unwrap();
    assert_eq!(elsewhere.poll(&context, 0, &drop), Poll::Ready((9, Err(NotRun::ShutDown))));
    drop(ours);
    stuck.take().into_iter().for_each(Drain::run);
    assert_eq!(offload.tasks(), 0);
}

/// It was dropped by the task, outside what contains a panic: the task was counted for ever, and four
/// such held up all jobs.
#[test]
fn a_result_that_panics_when_it_is_dropped_leaves_no_task_behind() {
    #[derive(Debug)]
    struct Angry;
    impl Drop for Angry {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    type Waiter = Arc<Mutex<Option<Pending<Subject, Angry>>>>;
    #[derive(Debug)]
    struct Subject(Waiter);
    let offload = Arc::new(Offload::new());
    let waiter = Waiter::default();
    let work = |subject: &mut Subject| {
        subject.0.lock().unwrap().take(); // nobody waits any more
        Angry
    };
    let mut pending = offload.submit(Subject(Arc::clone(&waiter)), work).unwrap();
    let tasks = RefCell::new(Vec::new());
    let context = Context::from_waker(Waker::noop());
    assert!(pending.poll(&context, OURS, &|drain| tasks.borrow_mut().push(drain)).is_pending());
    *waiter.lock().unwrap() = Some(pending);
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!(offload.tasks(), 0);
}

#[test]
fn a_panic_gives_the_subject_back_and_a_dropped_waiter_drops_it() {
    let offload = Arc::new(Offload::new());
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    let spawn = |drain| tasks.borrow_mut().push(drain);
    fn refuse(_: &mut Arc<u32>) {
        panic!("refused");
    }
    let subject = Arc::new(7);
    let [mut kept, mut dropped] = [0, 1].map(|_| offload.submit(Arc::clone(&subject), refuse).unwrap());
    assert!(
        kept.poll(&context, OURS, &spawn).is_pending() && dropped.poll(&context, OURS, &spawn).is_pending()
    );
    drop(dropped);
    assert_eq!(Arc::strong_count(&subject), 2, "the queue keeps no subject");
    tasks.take().into_iter().for_each(Drain::run);
    let Poll::Ready((back, Err(NotRun::Panicked(message)))) = kept.poll(&context, OURS, &spawn) else {
        panic!()
    };
    assert_eq!((*back, &message[..]), (7, "refused"));
}

/// A task that was refused woke all waiters, and so the one that had asked for it, which asked again at once,
/// for as long as the task that ran went on.
#[test]
fn a_task_that_is_refused_wakes_nobody_while_another_runs() {
    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);
    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    #[derive(Debug)]
    struct Subject {
        offload: Arc<Offload>,
        wakes: Arc<Wakes>,
        other: Option<Pending<u32, u32>>,
    }
    let work = |subject: &mut Subject| {
        let mut other = subject.offload.submit(1, double).unwrap();
        let waker = Waker::from(Arc::clone(&subject.wakes));
        assert!(
            other.poll(&Context::from_waker(&waker), 0, &drop).is_pending(),
            "it waits for the one that runs"
        );
        assert_eq!(subject.wakes.0.load(Ordering::Relaxed), 0);
        subject.other = Some(other);
    };
    let (offload, wakes) = (Arc::new(Offload::new()), Arc::new(Wakes::default()));
    let subject = Subject { offload: Arc::clone(&offload), wakes: Arc::clone(&wakes), other: None };
    let mut job = offload.submit(subject, work).unwrap();
    let context = Context::from_waker(Waker::noop());
    let tasks = RefCell::new(Vec::new());
    assert!(job.poll(&context, OURS, &|drain| tasks.borrow_mut().push(drain)).is_pending());
    tasks.take().into_iter().for_each(Drain::run);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "its job was done by the one that ran");
    let Poll::Ready((mut subject, Ok(()))) = job.poll(&context, OURS, &drop) else {
        panic!("it was refused")
    };
    assert_eq!(subject.other.as_mut().unwrap().poll(&context, OURS, &drop), Poll::Ready((2, Ok(4))));
}
