use super::*;
use std::task::Wake;

#[derive(Default)]
struct Count(AtomicU64);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Wakers are called a few in one go, so that their list needs no memory. All are called all
/// the same, each once.
#[test]
fn all_of_many_waiters_are_woken_and_served() {
    const WAITERS: u64 = 100;
    let (quota, count) = (Arc::new(Quota::new(WAITERS)), Arc::new(Count::default()));
    quota.reserve(WAITERS, None).unwrap();
    let tickets: Vec<_> = (0..WAITERS).map(|_| quota.enter(1).unwrap()).collect();
    let waker = Waker::from(Arc::clone(&count));
    let poll_all = || {
        let ready = |ticket: &&Ticket| ticket.poll(&Context::from_waker(&waker)).is_ready();
        tickets.iter().filter(ready).count() as u64
    };
    assert_eq!(poll_all(), 0);
    quota.wake_waiters_but(Some(&tickets[40]));
    assert_eq!((count.0.load(Ordering::Relaxed), poll_all()), (WAITERS - 1, WAITERS - 1));
    assert_eq!(poll_all(), 0);
    quota.release(WAITERS);
    assert_eq!(count.0.load(Ordering::Relaxed), 2 * WAITERS - 1, "each once more");
    assert_eq!((poll_all(), quota.waiting(), quota.set_aside()), (WAITERS, 0, WAITERS));
    for ticket in tickets.iter().rev().step_by(3) {
        ticket.ask(2);
    }
    // 34 gave a byte back each, which are two for each of 17.
    assert_eq!((quota.waiting(), quota.set_aside()), (17, WAITERS));
    drop(tickets);
    assert_eq!((quota.used(), quota.waiting(), quota.set_aside()), (0, 0, 0));
    let queue = quota.queue().unwrap();
    assert_eq!((queue.tickets, queue.waiting.capacity(), queue.served.capacity()), (0, 0, 0));
}

/// A look for room says what a reservation would, and takes nothing.
#[cfg(feature = "tokio")]
#[test]
fn a_look_says_what_a_reservation_would() {
    let quota = Arc::new(Quota::new(10));
    quota.reserve(7, None).unwrap();
    let looks = |ticket: Option<&Ticket>| [3, 4, 5].map(|bytes| quota.check_for_slot(bytes, ticket).is_ok());
    assert_eq!(looks(None), [true, false, false]);
    let first = quota.enter(5).unwrap();
    assert_eq!(looks(None), [false; 3], "what is free is to be the first one's");
    assert_eq!(looks(Some(&first)), [true, false, false]);
    quota.release(2);
    assert_eq!((looks(Some(&first)), looks(None)), ([true; 3], [false; 3]));
    assert_eq!((quota.used(), quota.set_aside()), (10, 5));
    quota.release(1);
    assert!(quota.check_for_slot(6, Some(&first)).is_ok() && quota.check_for_slot(7, Some(&first)).is_err());
    quota.reserve(6, Some(&first)).unwrap();
    assert_eq!((quota.used(), quota.set_aside()), (10, 0));
}
