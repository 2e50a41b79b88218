//! Calls of foreign code: stores, listeners, subscribers, wakers, and what they leave to be dropped.
//!
//! Foreign code may panic, and so may the drop of what it panicked with. A panic that unwound through the move of a
//! page would lose the page, leak its charge, and block the threads that wait for it for ever.
//!
//! Promise: no panic of a contained call leaves it.
//!
//! Held by: the test below, `tests/tests/foreign_code.rs`, `tests/tests/panicking_subscriber.rs`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Calls `call`, and returns the message of its panic instead of panicking.
///
/// `AssertUnwindSafe`: what the foreign code left half changed is its own. The panic hook has reported the panic
/// already.
pub(crate) fn contained<R>(call: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let message = message(&*panic);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
        message
    })
}

/// Wakes all, whatever one of them does. To be called with nothing locked, and no page in transit.
pub(crate) fn wake_each(wakers: Vec<Waker>) {
    for waker in wakers {
        let _ = contained(|| waker.wake());
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
    fn a_panic_ends_in_a_message_even_if_its_payload_panics_too() {
        assert_eq!(contained(|| 7), Ok(7));
        assert_eq!(contained(|| panic!("with {}", 7)), Err::<(), _>("with 7".to_owned()));
        assert_eq!(contained(|| panic_any(Angry)), Err::<(), _>("without a message".to_owned()));
    }
}
