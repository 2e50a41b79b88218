//! Calls of foreign code: stores, listeners, subscribers, wakers, owners of memory that was given, and what
//! they leave to be dropped.
//!
//! Foreign code may panic, and so may the drop of what it panicked with. A panic that unwound through the
//! move of a page would lose the page, leak its charge, and block the threads that wait for it for ever.
//!
//! A waker or an event may become due while the lock of shared content is held. A waker or a listener may use
//! that content, and would wait for its own thread. So a thread that takes such a lock [holds
//! back](hold_back) these calls until it has let go; and one that is to load a page for all, until it has.
//!
//! Promises:
//!
//! - No panic of a contained call leaves it.
//! - What is held back is told once the thread has let go, in order, on the same thread, after a panic too.
//!   Without memory to note it, a waker is called and memory is freed at once, since neither may be lost, and
//!   an event is not told.
//!
//! Held by: the tests below, `tests/tests/foreign_code.rs`, `tests/tests/panicking_subscriber.rs`,
//! `tests/tests/frozen.rs`.

use crate::sync::thread_local;
use crate::try_box::TryBox;
use std::any::Any;
use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls `call`, and returns the message of its panic instead of panicking.
///
/// `AssertUnwindSafe`: what the foreign code left half changed is its own. The panic hook has
/// reported the panic already.
pub(crate) fn contained<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let message = message(&*panic);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        message
    })
}

/// Drops what is foreign, or may have something foreign in it, as an error of a store has. Its drop may
/// panic, and pages, frames and bytes that were taken may be in no other hand than the caller's.
pub(crate) fn drop_quietly<T>(foreign: T) {
    let _ = contained(|| drop(foreign));
}

/// Moves `want` bytes by `step`, which is told how many are done and returns how many more are, at least one.
/// What was done before an error is returned: the next call meets the error, if it still occurs.
#[inline]
pub(crate) fn as_far_as<E>(want: usize, mut step: impl FnMut(usize) -> Result<usize, E>) -> Result<usize, E> {
    let mut done = 0;
    while done < want {
        let before = done;
        done = with_rest(done, step(done))?;
        if done == before {
            break;
        }
    }
    Ok(done)
}

/// The `done` bytes of a call, and how many the `rest` of it has moved. An error of the rest is returned only
/// if nothing is done.
#[inline]
pub(crate) fn with_rest<E>(done: usize, rest: Result<usize, E>) -> Result<usize, E> {
    match rest {
        Ok(rest) => Ok(done + rest),
        Err(error) if done == 0 => Err(error),
        Err(error) => {
            drop_quietly(error);
            Ok(done)
        }
    }
}

/// Wakers that are called in one go.
const WAKERS_MAX: usize = 16;

/// A few wakers, to be called once nothing is locked. So few that the list needs no memory beside the stack.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    list: [Option<Waker>; WAKERS_MAX],
    len: usize,
}

impl Wakers {
    /// Whether there is no room for a further one.
    pub(crate) fn is_full(&self) -> bool {
        self.len == WAKERS_MAX
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a waker, if there is one. The list must not be full.
    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        debug_assert!(!self.is_full());
        if waker.is_some() {
            self.list[self.len] = waker;
            self.len += 1;
        }
    }

    /// Wakes all, whatever one of them does. To be called with nothing locked but what is held back for,
    /// and no page in transit.
    pub(crate) fn wake_all(self) {
        for waker in self.list.into_iter().flatten() {
            let mut waker = Some(waker);
            let _ = HELD_BACK.try_with(|held| {
                if let Some(held) = &mut *held.borrow_mut()
                    && held.try_reserve(1).is_ok()
                {
                    held.extend(waker.take().map(Call::Wake));
                }
            });
            if let Some(waker) = waker {
                let _ = contained(|| waker.wake());
            }
        }
    }
}

/// Calls `waker`, if there is one, as [`Wakers::wake_all`] does.
#[cfg(feature = "tokio")]
pub(crate) fn wake(waker: Option<Waker>) {
    let mut wakers = Wakers::default();
    wakers.add(waker);
    wakers.wake_all();
}

/// Calls `call` contained: now, or once this thread holds nothing back any more, and not at all if there is
/// no memory to note it.
pub(crate) fn tell(call: impl FnOnce() + 'static) {
    let mut call = Some(call);
    let _ = HELD_BACK.try_with(|held| {
        if let Some(held) = &mut *held.borrow_mut()
            && let Some(noted) = TryBox::new(call.take())
            && held.try_reserve(1).is_ok()
        {
            held.push(Call::Tell(noted.into_box()));
        }
    });
    if let Some(call) = call {
        let _ = contained(call);
    }
}

/// As [`tell`], of a call that frees something: without memory to note it, it is called at once, since what
/// it frees would be lost.
pub(crate) fn free(call: impl FnOnce() + 'static) {
    let mut call = Some(call);
    let _ = HELD_BACK.try_with(|held| {
        if let Some(held) = &mut *held.borrow_mut()
            && held.try_reserve(1).is_ok()
            && let Some(mut noted) = TryBox::new(None)
        {
            *noted = call.take();
            held.push(Call::Tell(noted.into_box()));
        }
    });
    if let Some(call) = call {
        let _ = contained(call);
    }
}

/// Drops `waker`, which may be the last reference to its task, as [`free`] does: the task may hold any
/// buffer.
pub(crate) fn drop_waker(waker: Waker) {
    free(move || drop(waker));
}

/// What is to be called later.
enum Call {
    Wake(Waker),
    Tell(Box<dyn Tell>),
}

/// A closure that is called once, in a [`TryBox`].
trait Tell {
    fn tell(&mut self);
}

impl<F: FnOnce()> Tell for [Option<F>; 1] {
    fn tell(&mut self) {
        if let Some(call) = self[0].take() {
            call();
        }
    }
}

thread_local! {
    /// What this thread holds back; `None` if it tells at once. It is never dropped, and so is there
    /// for buffers that are in another thread-local, until the thread has ended. What is in it
    /// leaves with [`HeldBack`].
    static HELD_BACK: ManuallyDrop<RefCell<Option<Vec<Call>>>> = ManuallyDrop::default();
}

/// While it lives, this thread holds back what it has to tell.
pub(crate) struct HeldBack {
    /// False within another one, which tells.
    is_outermost: bool,
}

/// Holds back what this thread has to tell, until the result is dropped. To be called before a lock is taken
/// that those who are told may want.
pub(crate) fn hold_back() -> HeldBack {
    let is_outermost = HELD_BACK.try_with(|held| {
        let mut held = held.borrow_mut();
        let is_first = held.is_none();
        held.get_or_insert_default();
        is_first
    });
    HeldBack { is_outermost: is_outermost.unwrap_or(false) }
}

impl Drop for HeldBack {
    fn drop(&mut self) {
        if self.is_outermost {
            let held = HELD_BACK.try_with(|held| held.borrow_mut().take());
            for call in held.ok().flatten().unwrap_or_default() {
                let _ = contained(|| match call {
                    Call::Wake(waker) => waker.wake(),
                    Call::Tell(mut call) => call.tell(),
                });
            }
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    use super::*;
    use std::panic::panic_any;

    struct Angry;

    impl Drop for Angry {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn what_is_held_back_is_told_in_order_once_nothing_is_held() {
        use std::rc::Rc;
        let told = Rc::new(RefCell::new(Vec::new()));
        let note = |number: u32| {
            let told = Rc::clone(&told);
            move || told.borrow_mut().push(number)
        };
        let outer = hold_back();
        tell(note(1));
        tell(|| panic!("the rest is told all the same"));
        drop(hold_back());
        let unwinding = std::panic::catch_unwind(|| {
            let _inner = hold_back();
            panic!("in the middle");
        });
        tell(note(2));
        assert!(unwinding.is_err() && told.borrow().is_empty());
        drop(outer);
        assert_eq!(*told.borrow(), [1, 2]);
        tell(note(3));
        assert_eq!(*told.borrow(), [1, 2, 3]);
    }

    /// A buffer in a thread-local of the program's may be used when the thread ends, after the thread-locals
    /// here are gone: what it had to tell was told with its locks held.
    #[test]
    fn what_a_thread_tells_at_its_end_is_held_back_too() {
        use std::sync::{Arc, Mutex};

        struct Late(Arc<Mutex<Vec<u32>>>);
        impl Drop for Late {
            fn drop(&mut self) {
                let told = Arc::clone(&self.0);
                let held_back = hold_back();
                tell(move || told.lock().unwrap().push(1));
                self.0.lock().unwrap().push(0);
                drop(held_back);
            }
        }
        thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });

        let told = Arc::new(Mutex::new(Vec::new()));
        let late = Late(Arc::clone(&told));
        let thread = std::thread::spawn(move || {
            LATE.set(Some(late)); // before the first use of what holds back, and so dropped after it
            drop(hold_back());
        });
        thread.join().unwrap();
        assert_eq!(*told.lock().unwrap(), [0, 1]);
    }

    #[test]
    fn a_panic_ends_in_a_message_even_if_its_payload_panics_too() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(contained(|| panic!("with {}", 7)), Err::<(), _>("with 7".to_owned()));
        assert_eq!(contained(|| panic_any(Angry)), Err::<(), _>("without a message".to_owned()));
    }
}
