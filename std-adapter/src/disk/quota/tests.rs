use super::*;
use std::task::{Wake, Waker};
use std::time::Duration;

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
    let tickets: Vec<_> = (0..WAITERS).map(|_| quota.enter(1, None).unwrap()).collect();
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
        ticket.ask(2, None);
    }
    // 34 gave a byte back each, which are two for each of 17.
    assert_eq!((quota.waiting(), quota.set_aside()), (17, WAITERS));
    drop(tickets);
    assert_eq!((quota.used(), quota.waiting(), quota.set_aside()), (0, 0, 0));
    let queue = quota.queue().unwrap();
    assert_eq!((queue.tickets, queue.waiting.capacity(), queue.served.capacity()), (0, 0, 0));
}

/// Tickets past their deadlines kept their place, and what was set aside for them, for as long as something
/// kept the tickets.
#[test]
fn a_ticket_past_its_deadline_is_passed_over() {
    let quota = Arc::new(Quota::new(10));
    quota.reserve(10, None).unwrap();
    let soon = Some(Instant::now() + Duration::from_millis(50));
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let is_ready = |ticket: &Ticket| ticket.poll(&Context::from_waker(&waker)).is_ready();
    let served = quota.enter(3, soon).unwrap();
    quota.release(4);
    let first = quota.enter(9, soon).unwrap();
    let second = quota.enter(4, None).unwrap();
    assert!(!is_ready(&first) && !is_ready(&second));
    let is_early = !quota.expire();
    assert!(quota.reserve(1, None).is_err() || !is_early);
    std::thread::sleep(Duration::from_millis(50));
    assert!(is_early && quota.expire() && !quota.expire());
    assert_eq!(count.0.load(Ordering::Relaxed), 2, "the one is out of time, and the other served");
    assert_eq!((quota.used(), quota.set_aside(), quota.waiting()), (10, 4, 0));
    assert!(is_ready(&served) && is_ready(&first) && is_ready(&second));
    // What asks again past its deadline is passed over again, and what has a new one is not.
    first.ask(1, soon);
    assert_eq!(quota.waiting(), 0);
    served.ask(1, None);
    assert!(is_ready(&served) && !is_ready(&served), "it is woken, and waits");
    drop((served, first, second));
    assert_eq!((quota.used(), quota.set_aside()), (6, 0));
}

/// A look for room says what a reservation would, and takes nothing.
#[cfg(feature = "tokio")]
#[test]
fn a_look_says_what_a_reservation_would() {
    let quota = Arc::new(Quota::new(10));
    quota.reserve(7, None).unwrap();
    let looks = |ticket: Option<&Ticket>| [3, 4, 5].map(|bytes| quota.check_for_slot(bytes, ticket).is_ok());
    assert_eq!(looks(None), [true, false, false]);
    let first = quota.enter(5, None).unwrap();
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
