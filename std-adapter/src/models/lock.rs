//! loom models of the lock that is biased to its owner, of its fences, and of the lock that no thread waits
//! for.
//!
//! Held by: `.ci/weaken-pool`.

use crate::models::explore;
use crate::sync::biased::{Looks, Owner, Peer, TryLock};
use crate::sync::{Arc, fences};
use loom::thread;

/// Adds one to each value that no other thread is using. Returns their number.
fn visit(peers: &[Peer<usize, ()>]) -> usize {
    visit_with(Looks::Once, peers)
}

fn visit_with(looks: Looks, peers: &[Peer<usize, ()>]) -> usize {
    Peer::try_with_each(peers.iter().map(|peer| ((), peer)), looks, |(), n| *n += 1).len()
}

/// Guards: the owner and a peer are never inside together, and each sees what the other did there.
#[test]
fn owner_and_peer_take_turns() {
    explore(4, || {
        let mut owner = Owner::new(0, ()).unwrap();
        let peer = owner.peer();
        let visitor = thread::spawn(move || visit(&[peer]));
        let tries = owner.try_with(|n| *n += 1).map_or(0, |()| 1);
        owner.with(|n| *n += 1);
        let visits = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), tries + 1 + visits);
    });
}

/// Guards: the same of a peer that looks twice; and if that gives up all the same, the owner learns of it
/// when it has left.
#[test]
fn a_peer_that_insists_gets_in_or_the_owner_learns_of_it() {
    explore(4, || {
        let mut owner = Owner::new(0, ()).unwrap();
        let peer = owner.peer();
        let visitor = thread::spawn(move || visit_with(Looks::Twice, &[peer]));
        let was_missed = [(); 2].map(|()| {
            owner.with(|n| *n += 1);
            owner.take_missed()
        });
        let visits = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), 2 + visits);
        assert!(visits == 1 || was_missed.contains(&true));
    });
}

/// Guards: a `TryLock` lets one thread in at a time, which sees what the one before it did.
#[test]
fn a_try_lock_lets_one_thread_in_at_a_time() {
    explore(4, || {
        let lock = Arc::new(TryLock::new(0_u32));
        let visit = |lock: &TryLock<u32>| lock.try_with(|n| *n += 1).map_or(0, |()| 1);
        let visitors = [0, 1].map(|_| {
            let lock = Arc::clone(&lock);
            thread::spawn(move || visit(&lock))
        });
        let visits = visit(&lock) + visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum::<u32>();
        assert_eq!(lock.try_with(|n| *n), Some(visits));
    });
}

/// Guards: a search that asks whether the owner was inside lets no peer in beside it.
#[test]
fn a_check_for_idleness_lets_no_peer_in_beside_the_owner() {
    explore(4, || {
        let mut owner = Owner::new(0, ()).unwrap();
        let peer = owner.peer();
        let visitor = thread::spawn(move || {
            let was_visited = peer.was_visited();
            (was_visited, visit(&[peer]))
        });
        owner.with(|n| *n += 1);
        let (was_visited, visits) = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), 1 + visits);
        let peer = owner.peer();
        assert!(was_visited || peer.was_visited(), "no visit is passed over");
        owner.with(|n| *n += 1);
        assert_eq!([peer.was_visited(), peer.was_visited()], [true, false]);
    });
}

/// Guards: two peers of one owner are never inside together.
#[test]
fn peers_take_turns() {
    explore(3, || {
        let mut owner = Owner::new(0, ()).unwrap();
        let visitors = [owner.peer(), owner.peer()].map(|peer| thread::spawn(move || visit(&[peer])));
        owner.with(|n| *n += 1);
        let visits: usize = visitors.into_iter().map(|visitor| visitor.join().unwrap()).sum();
        assert_eq!(owner.with(|n| *n), 1 + visits);
    });
}

/// Guards: a thread that visits several values for one fence has exclusive access to each.
#[test]
fn a_peer_of_two_takes_turns_with_both_owners() {
    explore(3, || {
        let mut owners = [Owner::new(0, ()).unwrap(), Owner::new(0, ()).unwrap()];
        let peers = [owners[1].peer(), owners[0].peer()];
        let visitor = thread::spawn(move || visit(&peers));
        let tries = owners.iter_mut().filter_map(|owner| owner.try_with(|n| *n += 1)).count();
        let visits = visitor.join().unwrap();
        assert_eq!(owners.map(|mut owner| owner.with(|n| *n)).iter().sum::<usize>(), tries + visits);
    });
}

/// Guards: a peer whose fence is refused, because the program has entered a sandbox since, keeps out
/// of a value whose owner still relies on that fence. Once the owner knows, both pass full fences,
/// and the peer gets in.
#[test]
fn a_peer_that_is_refused_keeps_out_until_the_owner_knows() {
    explore(4, || {
        fences::model_adopted();
        let mut owner = Owner::new(0, ()).unwrap();
        let (peer, again) = (owner.peer(), owner.peer());
        let visitor = thread::spawn(move || {
            let peers = [peer];
            visit(&peers) + visit(&peers)
        });
        owner.with(|n| *n += 1);
        owner.with(|n| *n += 1);
        let visits = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), 2 + visits);
        assert_eq!(visit(&[again]), 1, "the owner has seen the refusal by now");
    });
}

/// Guards: while a process comes to rely on the kernel's fence, one owner and one peer may go by the old
/// fences and the new ones, and keep apart all the same.
#[test]
fn owner_and_peer_take_turns_while_the_fences_change() {
    explore(3, || {
        fences::model();
        let mut owner = Owner::new(0, ()).unwrap();
        let peer = owner.peer();
        let changer = thread::spawn(fences::adopt);
        let visitor = thread::spawn(move || {
            let peers = [peer];
            visit(&peers) + visit(&peers)
        });
        owner.with(|n| *n += 1);
        owner.with(|n| *n += 1);
        changer.join().unwrap();
        let visits = visitor.join().unwrap();
        assert_eq!(owner.with(|n| *n), 2 + visits);
    });
}

/// Guards: no peer ever enters a private value, whose owner passes no fence at all.
#[test]
fn a_private_value_has_no_visitors() {
    explore(3, || {
        let mut owner = Owner::private(0, ()).unwrap();
        let peer = owner.peer();
        let visitor = thread::spawn(move || visit(&[peer]));
        owner.with(|n| *n += 1);
        assert_eq!((visitor.join().unwrap(), owner.with(|n| *n)), (0, 1));
    });
}
