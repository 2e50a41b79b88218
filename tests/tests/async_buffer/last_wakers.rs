//! What runs with the last reference to a task: a waker that is dropped drops the task, and
//! this may use any buffer.

use super::servers::PAGE;
use super::subject::runtime;
use overspill::{MemoryStore, SpillBuffer, SpillPool, WhenFull};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// A task that reads its buffer when it is dropped, and says what came of it.
struct Task {
    buffer: Mutex<SpillBuffer>,
    ended: mpsc::Sender<Result<usize, ErrorKind>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Task {
    fn drop(&mut self) {
        let buffer = self.buffer.get_mut().unwrap();
        buffer.rewind().unwrap();
        let read = buffer.read_to_end(&mut Vec::new());
        let _ = self.ended.send(read.map_err(|error| error.kind()));
    }
}

/// The waker of a task whose buffer is spilled, and where this task says how much it has read.
pub(crate) fn last_waker() -> (Waker, mpsc::Receiver<Result<usize, ErrorKind>>) {
    let pool = SpillPool::builder().memory(0).page_size(PAGE).store(MemoryStore::new()).build().unwrap();
    let mut buffer = pool.buffer();
    buffer.write_all(&[1; 3 * PAGE]).unwrap();
    let (ended, has_ended) = mpsc::channel();
    (Waker::from(Arc::new(Task { buffer: Mutex::new(buffer), ended })), has_ended)
}

/// A reader that waits for more has the last reference to a task. With the reader the task was dropped, in
/// the middle of what may call no store: its read of another buffer was refused.
#[test]
fn a_waiting_reader_is_dropped_with_its_task() {
    let (_writer, reader) = SpillPool::default().spool();
    let mut reader = reader.into_async();
    let (waker, ended) = last_waker();
    let mut memory = [0; 8];
    let read =
        Pin::new(&mut reader).poll_read(&mut Context::from_waker(&waker), &mut ReadBuf::new(&mut memory));
    assert!(read.is_pending());
    drop(waker);
    ended.try_recv().unwrap_err();
    drop(reader);
    assert_eq!(ended.try_recv(), Ok(Ok(3 * PAGE)));
}

/// The same of a seek from the end that is polled by another task.
#[test]
fn a_seek_lets_go_of_the_task_that_polled_it_before() {
    let (_writer, reader) = SpillPool::default().spool();
    let mut reader = reader.into_async();
    let (waker, ended) = last_waker();
    Pin::new(&mut reader).start_seek(SeekFrom::End(0)).unwrap();
    assert!(Pin::new(&mut reader).poll_complete(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(Pin::new(&mut reader).poll_complete(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(ended.try_recv(), Ok(Ok(3 * PAGE)));
}

/// The same of a buffer that waits for room on the disk.
#[test]
fn a_buffer_that_waits_for_room_is_dropped_with_its_task() {
    let wait = WhenFull::Wait { at_most: Duration::MAX };
    let builder = SpillPool::builder().memory(0).disk(PAGE as u64).page_size(PAGE).when_full(wait);
    let pool = builder.store(MemoryStore::new()).build().unwrap();
    let mut holder = pool.buffer();
    holder.write_all(&[1; PAGE]).unwrap();
    let runtime = runtime(1);
    let _inside = runtime.enter();
    let mut buffer = pool.buffer().into_async();
    let (waker, ended) = last_waker();
    while pool.stats().waiters == 0 || buffer.stats().is_none() {
        let written = Pin::new(&mut buffer).poll_write(&mut Context::from_waker(&waker), &[2; PAGE]);
        assert!(written.is_pending());
        std::thread::yield_now();
    }
    let written = Pin::new(&mut buffer).poll_write(&mut Context::from_waker(&waker), &[2; PAGE]);
    assert!(written.is_pending(), "its waker is in the queue");
    drop(waker);
    ended.try_recv().unwrap_err();
    drop(buffer);
    // Dropped here, or by the thread of a job that calls it just now.
    assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(Ok(3 * PAGE)));
}
