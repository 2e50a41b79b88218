//! The thread cache in models: nothing is kept, since it would pass from one execution to the next.

use crate::pool::leftover::Leftover;
use crate::pool::state::PoolState;

pub(crate) fn take(_: &PoolState) -> Option<Leftover> {
    None
}

pub(crate) fn take_private(_: usize) -> Option<Leftover> {
    None
}

pub(crate) fn recalls() -> usize {
    0
}

pub(crate) fn recall() {}

pub(crate) fn put(leftover: Leftover, _: usize) -> Option<Leftover> {
    Some(leftover)
}

pub(crate) fn put_private(_: usize, leftover: Leftover) -> Option<Leftover> {
    Some(leftover)
}

pub(crate) fn make_room() -> Option<Leftover> {
    None
}

pub(crate) fn make_private_room() -> Option<Leftover> {
    None
}

pub(crate) fn take_all(_: &PoolState) -> impl Iterator<Item = Leftover> {
    None.into_iter()
}

pub(crate) fn take_all_private(_: usize) -> impl Iterator<Item = Leftover> {
    None.into_iter()
}

pub(crate) fn count(_: &PoolState) -> (usize, u64) {
    (0, 0)
}
