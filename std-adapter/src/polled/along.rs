//! What a job reads for a sequential pass of a polled buffer, which stays at home and is read meanwhile.
//!
//! Promises:
//!
//! - What comes is waited for before anything else is done to the buffer, and by a read that finds no bytes.
//! - If it fails, or no runtime runs it, the read that needs it has a job of its own, and gets its error.
//!
//! Held by: `tests/tests/async_buffer/`.

use crate::api::buffer::SpillBuffer;
use crate::pager::along::Coming;
use crate::polled::runtime::Runtime;
use crate::pool::offload::Pending;
use crate::sync::fork::Lock;
use crate::sync::{Arc, try_arc};
use std::task::{Context, Poll, Waker};

#[derive(Debug, Default)]
pub(crate) struct Along {
    coming: Option<(Pending<Reading, ()>, Arc<Heir>)>,
    /// The page of the operation that last looked what to begin.
    looked: u64,
}

/// Pages that come. If their buffer's handle is dropped meanwhile they inherit it, so that their slots are not freed while they are
/// read.
#[derive(Debug)]
struct Reading {
    coming: Option<Coming>,
    heir: Arc<Heir>,
}

type Heir = Lock<Option<SpillBuffer>>;

impl Reading {
    fn run(&mut self) {
        self.coming.iter_mut().for_each(Coming::run);
    }

    fn give_to(mut self, buffer: &mut SpillBuffer) {
        self.coming.take().into_iter().for_each(|coming| buffer.pager.take_in(coming));
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let inherited = { self.heir.lock().map(|mut heir| heir.take()) };
        if let (Ok(Some(mut buffer)), Some(coming)) = (inherited, self.coming.take()) {
            buffer.pager.take_in(coming);
        }
    }
}

impl Along {
    pub(crate) fn is_coming(&self) -> bool {
        self.coming.is_some()
    }

    /// After a read of `buffer` up to `position`: has the pages that a pass comes to read, if it has entered another page.
    pub(crate) fn go_on(&mut self, buffer: &mut SpillBuffer, position: u64, runtime: &impl Runtime) {
        let index = position / buffer.pager.pool.page_size as u64;
        let context = Context::from_waker(Waker::noop());
        // Another task may wait for what comes: its waker stays.
        let is_under_way = self.coming.as_ref().is_some_and(|(reading, _)| !reading.is_done());
        if std::mem::replace(&mut self.looked, index) == index
            || is_under_way
            || self.poll_come(buffer, &context, runtime).is_pending()
        {
            return;
        }
        let Some(coming) = buffer.pager.let_come(index) else { return };
        let Some(heir) = try_arc(Heir::new(None)) else { return buffer.pager.take_in(coming) };
        let reading = Reading { coming: Some(coming), heir: Arc::clone(&heir) };
        match buffer.pager.pool.offload().clone().submit(reading, Reading::run) {
            Ok(pending) => self.coming = Some((pending, heir)),
            Err(reading) => return reading.give_to(buffer),
        }
        let _begins = self.poll_come(buffer, &context, runtime);
    }

    /// Waits until nothing comes. Ready with whether something has come since.
    pub(crate) fn poll_come(
        &mut self,
        buffer: &mut SpillBuffer,
        context: &Context<'_>,
        runtime: &impl Runtime,
    ) -> Poll<bool> {
        let Some((reading, _)) = &mut self.coming else { return Poll::Ready(false) };
        match reading.poll(context, runtime.number(), &|drain| runtime.spawn(drain)) {
            Poll::Ready((reading, _)) => reading.give_to(buffer),
            Poll::Pending if reading.is_lost() => {}
            Poll::Pending => return Poll::Pending,
        }
        self.coming = None;
        Poll::Ready(true)
    }

    /// Takes back what was to come and has not begun to. Returns false if it has.
    pub(crate) fn forget(&mut self, buffer: &mut SpillBuffer) -> bool {
        let Some((reading, _)) = &mut self.coming else { return true };
        let Some(reading) = reading.take_back() else { return false };
        self.coming = None;
        reading.give_to(buffer);
        true
    }

    /// Leaves `buffer`, whose handle is dropped, to a job that reads pages of it, if there is one.
    pub(crate) fn leave(mut self, buffer: &mut Option<SpillBuffer>) {
        if buffer.as_mut().is_none_or(|buffer| self.forget(buffer)) {
            return;
        }
        if let Some((_, heir)) = &self.coming
            && let Ok(mut heir) = heir.lock()
        {
            *heir = buffer.take();
        }
    }
}
