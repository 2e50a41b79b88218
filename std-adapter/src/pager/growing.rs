//! Content that grows: what its writer appends, and what its readers have consumed.
//!
//! Promises:
//!
//! - What was appended is there for every reader, whatever part of it lies in the
//!   [`tail`](crate::pager::tail).
//! - A writer that waits for room holds no lock.
//! - What all readers have consumed is freed at once, or by the thread that has the lock, when it lets go. No
//!   reader waits for that on an event loop, and nothing is forgotten, since a writer may wait for the room.
//!
//! # Why nothing is forgotten
//!
//! A reader that must not wait notes what is consumed, passes a full fence, and tries the lock. A thread that
//! has released the lock passes a full fence, and looks whether something is noted. So at least one of the
//! two sees what the other did.
//!
//! Held by: the test below, `tests/tests/spool.rs`, `tests/tests/async_buffer/`,
//! `std-adapter/src/models/spool.rs` (loom).

#[cfg(feature = "tokio")]
use crate::disk::quota::Ticket;
use crate::disk::store_access;
#[cfg(feature = "tokio")]
use crate::disk::store_access::{if_resident, without_store};
use crate::error::SpillError;
use crate::foreign::hold_back;
use crate::pager::content::{Content, State};
use crate::pager::state::Pager;
#[cfg(feature = "tokio")]
use crate::pager::tail::TAIL_MAX;
#[cfg(feature = "tokio")]
use crate::pager::waiting::{Blockage, Wait};
use crate::pager::waiting::{Tried, block_until};
use crate::sync::{Ordering, fences};

impl Content {
    /// Appends `data`, and returns how much was taken: at least one byte, unless there are none. Waits for
    /// room as the policy says, without the lock. The tail must be empty.
    pub(crate) fn append(&self, data: &[u8]) -> Result<usize, SpillError> {
        let mut state = self.state()?;
        let mut end = state.pager.len;
        if state.pager.write_window(&mut end, data) {
            self.len.store(end, Ordering::Release);
            drop(state);
            self.free_what_is_noted();
            return Ok(data.len());
        }
        drop(state);
        let mut wait = None;
        loop {
            let written = self.locked(|state| {
                let end = state.pager.len;
                let written = state.pager.attempt(&mut wait, |pager| pager.write_once(end, data));
                if let Ok(Tried::Done(taken)) = &written {
                    state.pager.requested.written += *taken as u64;
                }
                self.len.store(state.pager.len, Ordering::Release);
                written
            })?;
            match written? {
                Tried::Done(taken) => return Ok(taken),
                Tried::Blocked(blockage) => {
                    let ticket = self.with_pager(Pager::take_ticket)?;
                    let served = block_until(ticket.as_ref(), blockage);
                    self.with_pager(|pager| pager.return_ticket(ticket))?;
                    if let Err(blockage) = served {
                        return Err(self.with_pager(|pager| pager.give_up(wait, blockage))?);
                    }
                }
            }
        }
    }

    /// Ends the growing: the last page is complete too.
    pub(crate) fn close(&self) {
        let _ = self.locked(State::close);
    }

    /// Frees the pages before `end`, which every reader has consumed. Not once the content is complete: it
    /// may have other handles then.
    pub(crate) fn free_consumed(&self, end: u64) {
        if store_access::is_resident_only() {
            self.free_consumed_unless_busy(end);
        } else {
            let _ = self.locked(|state| state.free_consumed(end));
        }
    }

    /// As [`free_consumed`](Content::free_consumed), now or once another thread has released the lock.
    pub(crate) fn free_consumed_unless_busy(&self, end: u64) {
        self.noted_consumed.fetch_max(end, Ordering::Relaxed);
        self.free_what_is_noted();
    }

    /// Frees what was noted by a reader that found the lock taken. To be called whenever it was released.
    pub(crate) fn free_what_is_noted(&self) {
        if !self.grows {
            return;
        }
        fences::full();
        while self.noted_consumed.load(Ordering::Relaxed) > 0 {
            let _held_back = hold_back();
            let Some(mut state) = self.try_state() else { return };
            let end = self.noted_consumed.swap(0, Ordering::Relaxed);
            if state.pager.check().is_ok() {
                state.free_consumed(end);
            }
            drop(state);
            fences::full();
        }
    }
}

impl State {
    fn close(&mut self) {
        self.pager.leave_queue();
        #[cfg(feature = "tokio")]
        self.pager.end_ahead();
        self.is_open = false;
    }

    fn free_consumed(&mut self, end: u64) {
        if !self.is_open {
            return;
        }
        self.consumed_by_all = self.consumed_by_all.max(end);
        let page = self.pager.pool.page_size as u64;
        // A page of which the tail has some comes when it has all of it.
        let (from, to) = (self.first_kept, self.consumed_by_all.min(self.pager.len) / page);
        self.freed = self.freed.max(to * page);
        self.first_kept = self.pager.discard_pages(from..to).unwrap_or(from.max(to));
    }
}

/// For the async writer. Its ticket is with the pager only while the lock is held.
#[cfg(feature = "tokio")]
impl Content {
    /// Appends what there is room for in memory. `None` if that is nothing, if the lock is busy, or if the
    /// content holds more than its share of a lowered limit, unless it `has_paid`. The tail must be empty.
    pub(crate) fn append_inline(
        &self,
        data: &[u8],
        wait: &mut Option<Wait>,
        ticket: &mut Option<Ticket>,
        has_paid: &mut bool,
    ) -> Option<Result<usize, SpillError>> {
        let append = |state: &mut State| {
            let pager = &mut state.pager;
            let owes = pager.owes_memory();
            *has_paid &= owes;
            if owes && !*has_paid {
                return None;
            }
            let mut end = pager.len;
            if ticket.is_none() && pager.write_window(&mut end, data) {
                self.len.store(end, Ordering::Release);
                return Some(Ok(data.len()));
            }
            let taken = pager.with_ticket(ticket, |pager| pager.write_inline(end, data, wait));
            self.len.store(pager.len, Ordering::Release);
            taken
        };
        if_resident(|| self.locked_unless_busy(self.len(), append))?.unwrap_or_else(|error| Some(Err(error)))
    }

    /// Appends to the tail what lies before the position `room_end`, and has place there.
    pub(crate) fn append_beside(&self, data: &[u8], room_end: u64) -> Result<usize, SpillError> {
        let end = self.len();
        let taken = self.tail.append(end, data, room_end)?;
        self.len.store(end + taken as u64, Ordering::Release);
        Ok(taken)
    }

    /// Moves the tail into the pages, and what is above a lowered limit out of memory. Does not wait
    /// for room on the disk.
    pub(crate) fn settle(
        &self,
        wait: &mut Option<Wait>,
        ticket: &mut Option<Ticket>,
    ) -> Result<Tried<()>, SpillError> {
        loop {
            let bytes = self.tail.copy()?;
            let settled = self.locked(|state| {
                let end = state.pager.len;
                if bytes.is_empty() {
                    state.pager.keep_limit();
                    return Ok(Tried::Done(0));
                }
                let written = state
                    .pager
                    .with_ticket(ticket, |pager| pager.attempt(wait, |pager| pager.write_once(end, &bytes)));
                if let Ok(Tried::Done(taken)) = written {
                    state.pager.requested.written += taken as u64;
                    self.tail.advance(taken)?;
                    state.free_consumed(0); // what was consumed while it lay in the tail
                }
                written
            })??;
            match settled {
                Tried::Done(0) => return Ok(Tried::Done(())),
                Tried::Done(_) => {}
                Tried::Blocked(blockage) => return Ok(Tried::Blocked(blockage)),
            }
        }
    }

    /// Makes room in memory for an append of `len` bytes. If it gets no frame or is to be `beside` the pages,
    /// also looks how far it would find room where it goes then. Returns where the room for the tail ends.
    /// The tail must be empty.
    pub(crate) fn prepare_append(
        &self,
        len: usize,
        beside: bool,
        wait: &mut Option<Wait>,
        ticket: &mut Option<Ticket>,
    ) -> Result<Tried<u64>, SpillError> {
        self.locked(|state| {
            let end = state.pager.len;
            state.pager.with_ticket(ticket, |pager| {
                pager.attempt(wait, |pager| {
                    if pager.prepare_write(end, len)? && !beside {
                        Ok(end)
                    } else {
                        pager.room_beside(end, len, TAIL_MAX)
                    }
                })
            })
        })?
    }

    /// Ends a call that has waited for as long as it may.
    pub(crate) fn give_up(
        &self,
        wait: Option<Wait>,
        ticket: Option<Ticket>,
        blockage: Blockage,
    ) -> SpillError {
        let mut ticket = ticket;
        let given_up =
            self.with_pager(|pager| pager.with_ticket(&mut ticket, |pager| pager.give_up(wait, blockage)));
        given_up.unwrap_or_else(|error| error)
    }

    /// As [`close`](Content::close), if that can be done now. Returns whether it was.
    pub(crate) fn close_inline(&self) -> bool {
        without_store(|| self.tail.is_empty() && self.locked_unless_busy(0, State::close).is_ok())
    }

    /// Frees what was made ready for more, if that can be done now. Otherwise it goes with the content.
    pub(crate) fn abandon_inline(&self) {
        let _ = without_store(|| self.locked_unless_busy(0, |state| state.pager.end_ahead()));
    }
}

#[cfg(feature = "tokio")]
impl Pager {
    /// Runs `f` with `ticket` in the pager, and takes out what it has left there.
    fn with_ticket<R>(&mut self, ticket: &mut Option<Ticket>, f: impl FnOnce(&mut Self) -> R) -> R {
        if ticket.is_some() {
            self.return_ticket(ticket.take());
        }
        let result = f(self);
        *ticket = self.take_ticket();
        result
    }
}

#[cfg(test)]
#[cfg(not(overspill_loom))]
mod tests {
    #[cfg(feature = "tokio")]
    use crate::{
        api::pool::SpillPool, disk::store_access::if_resident, disk::store_access::without_store,
        pager::waiting::Tried, pages::page::Page, pages::transit::Transit,
    };

    /// A page that was on its way to the file of the content, when an event loop had consumed it, was passed
    /// over then and ever after.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_page_in_transit_that_was_consumed_is_freed_later() {
        const PAGE: usize = 4096;
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).build().unwrap();
        let (mut writer, _reader) = pool.spool();
        let content = &writer.shared.content;
        content.with_pager(|pager| pager.spill_to_own_file(&std::env::temp_dir())).unwrap();
        std::io::Write::write_all(&mut writer, &[1; 5 * PAGE]).unwrap();
        let content = &writer.shared.content;
        let moving = content.with_pager(|pager| {
            pager.table(|table| {
                let page = table.remove_resident(1).unwrap();
                let (transit, carrier) = Transit::start(page, 1).unwrap();
                table.put(1, Page::InTransit(transit));
                carrier
            })
        });
        let first = || content.with_pager(|pager| pager.table(|table| table.next_page(0))).unwrap();
        without_store(|| content.free_consumed(3 * PAGE as u64));
        assert_eq!(first(), Some(1), "it is moving");
        drop(moving); // it comes back
        without_store(|| content.free_consumed(4 * PAGE as u64));
        assert_eq!(first(), Some(4));
    }

    /// A reader on an event loop that came to a page in transit left its own place as that of the last
    /// access: the writer's next append was taken for a scattered one.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_read_that_fails_leaves_the_place_of_the_writer() {
        const PAGE: usize = 4096;
        let pool = SpillPool::builder().memory(64 * PAGE).page_size(PAGE).build().unwrap();
        let (mut writer, _reader) = pool.spool();
        std::io::Write::write_all(&mut writer, &[1; 2 * PAGE + 10]).unwrap();
        let content = &writer.shared.content;
        let moving = content.with_pager(|pager| {
            pager.table(|table| {
                let page = table.remove_resident(0).unwrap();
                let (transit, carrier) = Transit::start(page, 0).unwrap();
                table.put(0, Page::InTransit(transit));
                carrier
            })
        });
        assert!(if_resident(|| content.read_at(0, &mut [0; 10])).is_none());
        assert_eq!(content.with_pager(|pager| pager.last_end).unwrap(), content.len());
        drop(moving); // it comes back
        assert_eq!(content.read_at(0, &mut [0; 10]).unwrap(), 10);
    }
    /// A writer whose attempt found the content busy accepted 16 KiB behind a page in memory, whether or not
    /// there was room for them anywhere: the content could not be closed until others had freed some.
    #[cfg(feature = "tokio")]
    #[test]
    fn what_is_accepted_beside_a_page_in_memory_has_room() {
        let pool = SpillPool::builder().memory(8192).disk(8192).page_size(64 << 10).build().unwrap();
        let (mut writer, _reader) = pool.spool();
        for piece in [1; 12_188].chunks(1000) {
            std::io::Write::write_all(&mut writer, piece).unwrap();
        }
        let content = &writer.shared.content;
        let Ok(Tried::Done(room)) = content.prepare_append(16_384, true, &mut None, &mut None) else {
            panic!("there are some bytes left");
        };
        let taken = content.append_beside(&[2; 16_384], room).unwrap();
        assert!((1..16_384).contains(&taken), "{taken}");
        assert!(matches!(content.settle(&mut None, &mut None), Ok(Tried::Done(()))));
        assert_eq!(content.len(), 12_188 + taken as u64);
        content.with_pager(|pager| pager.check_invariants()).unwrap();
        assert!(content.prepare_append(16_384, true, &mut None, &mut None).is_err(), "all is full");
    }
}
