//! The handles' own `read_exact` and `write_all`: do they do what tokio's do?
#![allow(clippy::cast_possible_truncation, reason = "made-up bytes and small sizes")]

use super::gated::Gated;
use super::subject::runtime;
use overspill::testing::Call;
use overspill::{AsyncSpillBuffer, SpillError, SpillPool};
use overspill_tests::support::Random;
use std::future::poll_fn;
use std::io::{ErrorKind, SeekFrom};
use std::pin::pin;
use std::task::Poll;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

const PAGE: usize = 4096;

fn buffer(memory: usize, disk: u64) -> AsyncSpillBuffer {
    let builder = SpillPool::builder().memory(memory).disk(disk).page_size(PAGE);
    builder.build().unwrap().buffer().into_async()
}

/// The same calls by both, in turn over the same buffer, in memory, in pieces and on the disk.
#[test]
fn they_move_what_the_traits_move() {
    runtime(1).block_on(async {
        for memory in [0, PAGE, 16 * PAGE, 1 << 20] {
            let (mut buffer, mut random) = (buffer(memory, u64::MAX), Random::new(memory as u64));
            let mut model = vec![0; 40 * PAGE];
            buffer.set_len(model.len() as u64).await.unwrap();
            for call in 0..2000 {
                let at = random.index(model.len() - 2 * PAGE);
                let range = at..at + random.index([70, 2 * PAGE, 10][call % 3]);
                let mut piece = vec![call as u8; range.len()];
                buffer.seek(SeekFrom::Start(at as u64)).await.unwrap();
                match call % 4 {
                    0 => buffer.write_all(&piece).await.unwrap(),
                    1 => AsyncWriteExt::write_all(&mut buffer, &piece).await.unwrap(),
                    2 => assert_eq!(buffer.read_exact(&mut piece).await.unwrap(), range.len()),
                    _ => assert_eq!(
                        AsyncReadExt::read_exact(&mut buffer, &mut piece).await.unwrap(),
                        range.len()
                    ),
                }
                assert_eq!(buffer.position(), range.end as u64);
                if call % 4 < 2 {
                    model[range].copy_from_slice(&piece);
                } else {
                    assert!(piece == model[range.clone()], "{range:?} of {memory} bytes of memory");
                }
            }
            let mut reader = buffer.into_inner().await.unwrap().freeze().reader().into_async();
            for call in 0..1000 {
                let at = random.index(model.len() - 2 * PAGE);
                let range = at..at + random.index([70, 2 * PAGE, 10][call % 3]);
                let mut piece = vec![1; range.len()];
                reader.seek(SeekFrom::Start(at as u64)).await.unwrap();
                let read = match call % 2 {
                    0 => reader.read_exact(&mut piece).await,
                    _ => AsyncReadExt::read_exact(&mut reader, &mut piece).await,
                };
                assert_eq!((read.unwrap(), reader.position()), (range.len(), range.end as u64));
                assert!(piece == model[range.clone()], "{range:?} frozen, of {memory} bytes of memory");
            }
            reader.seek(SeekFrom::End(-2)).await.unwrap();
            assert_eq!(reader.read_exact(&mut [0; 3]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            assert_eq!(reader.position(), model.len() as u64);
        }
    });
}

/// What there is has been read, as by the blocking call; nothing and too much are told apart.
#[test]
fn the_end_of_the_content_is_an_error_of_a_longer_read() {
    runtime(1).block_on(async {
        for memory in [0, 1 << 20] {
            let mut buffer = buffer(memory, u64::MAX);
            buffer.write_all(&[7; 3 * PAGE]).await.unwrap();
            for (from_end, len) in [(0, 1), (10, 11), (2 * PAGE, 2 * PAGE + 1)] {
                let mut piece = vec![0; len];
                buffer.seek(SeekFrom::End(-(from_end as i64))).await.unwrap();
                let error = buffer.read_exact(&mut piece).await.unwrap_err();
                assert_eq!((error.kind(), buffer.position()), (ErrorKind::UnexpectedEof, 3 * PAGE as u64));
                assert!(piece[..from_end].iter().all(|byte| *byte == 7) && piece[len - 1] == 0);
            }
            assert_eq!(buffer.read_exact(&mut []).await.unwrap(), 0);
            buffer.seek(SeekFrom::Start(u64::MAX - 3)).await.unwrap();
            assert_eq!(buffer.read_exact(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    });
}

/// Errors are those of the buffer, and the position tells what was written before.
#[test]
fn a_full_disk_and_the_last_position_are_their_own_errors() {
    runtime(1).block_on(async {
        let mut buffer = buffer(0, 8 * PAGE as u64);
        let error = buffer.write_all(&[7; 10 * PAGE]).await.unwrap_err();
        let spill_error = SpillError::of(&error);
        assert!(matches!(spill_error, Some(SpillError::DiskLimit { .. })), "{error}");
        let (written, len) = (buffer.position(), buffer.len());
        assert_eq!(written, len);
        buffer.rewind().await.unwrap();
        let mut all = vec![0; len as usize];
        buffer.read_exact(&mut all).await.unwrap();
        assert!(all.iter().all(|byte| *byte == 7));

        buffer.seek(SeekFrom::Start(u64::MAX)).await.unwrap();
        let error = buffer.write_all(&[7]).await.unwrap_err();
        assert!(matches!(SpillError::of(&error), Some(SpillError::TooLarge { .. })), "{error}");
    });
}

/// A dropped call has done a part, to the position; the next one goes on from there.
#[test]
fn a_dropped_call_has_done_what_the_position_says() {
    let (store, stands) = Gated::of(Call::Read);
    let pool = SpillPool::builder().memory(4 * PAGE).page_size(PAGE).store(store.clone()).build().unwrap();
    let content: Vec<u8> = (0..64 * PAGE).map(|at| (at % 251) as u8).collect();
    runtime(1).block_on(async {
        let mut buffer = pool.buffer().into_async();
        buffer.write_all(&content).await.unwrap();
        buffer.rewind().await.unwrap();
        let mut all = vec![0; content.len()];
        {
            let mut reading = pin!(buffer.read_exact(&mut all));
            let first = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
            assert!(first.is_pending(), "the gate is closed");
            stands.recv().unwrap();
        }
        store.open(true);
        let read = buffer.position() as usize;
        assert!(all[..read] == content[..read]);
        buffer.read_exact(&mut all[read..]).await.unwrap();
        assert!(all == content);
    });
}
