//! A value on the heap whose allocation may be refused: std's `Box::new` ends the process
//! where there is no memory.
//!
//! Held by: `tests/tests/refused_allocations/`.

use std::ops::{Deref, DerefMut};

/// A [`Box`], made of a vector, for which memory can be requested and refused.
#[derive(Debug)]
pub(crate) struct TryBox<T>(Box<[T; 1]>);

impl<T> TryBox<T> {
    /// `None` if there is no memory.
    pub(crate) fn new(value: T) -> Option<Self> {
        let mut one = Vec::new();
        one.try_reserve_exact(1).ok()?;
        one.push(value);
        one.into_boxed_slice().try_into().ok().map(TryBox)
    }

    pub(crate) fn into_box(self) -> Box<[T; 1]> {
        self.0
    }
}

impl<T> Deref for TryBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0[0]
    }
}

impl<T> DerefMut for TryBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0[0]
    }
}
