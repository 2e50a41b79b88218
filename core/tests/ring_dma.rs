//! Grants as the buffers of `embedded-dma`: what a driver fills and sends by address and length.
#![cfg(not(overspill_loom))]
#![allow(missing_docs)]

use embedded_dma::{ReadBuffer, WriteBuffer};
use overspill_core::ring::{AnyRing, Consumer, Padded, Producer, Ring, SliceRing};

/// A channel that writes `data` to a buffer which it has for the time, as a driver's transfer does.
#[allow(unsafe_code)]
fn receive<B: WriteBuffer<Word = u8>>(mut buffer: B, data: &[u8]) -> B {
    // SAFETY: the buffer is not touched until the transfer is over.
    let (to, len) = unsafe { buffer.write_buffer() };
    assert!(data.len() <= len);
    // SAFETY: as above; no more than the buffer has.
    unsafe { to.copy_from_nonoverlapping(data.as_ptr(), data.len()) };
    // SAFETY: as above.
    assert_eq!(unsafe { buffer.write_buffer() }, (to, len), "it stays where it is");
    buffer
}

/// A channel that sends a buffer, while `meanwhile` goes on at the other end of the ring.
#[allow(unsafe_code)]
fn send<B: ReadBuffer<Word = u8>>(buffer: B, meanwhile: impl FnOnce()) -> (B, Vec<u8>) {
    // SAFETY: the buffer is not touched until the transfer is over.
    let (from, len) = unsafe { buffer.read_buffer() };
    meanwhile();
    // SAFETY: as above.
    let sent = unsafe { core::slice::from_raw_parts(from, len) }.to_vec();
    // SAFETY: as above.
    assert_eq!(unsafe { buffer.read_buffer() }, (from, len), "it stays where it is");
    (buffer, sent)
}

/// From the wrap on, and from the front, to which an empty ring jumps.
fn transfers<R: AnyRing>((producer, consumer): (Producer<'static, R>, Consumer<'static, R>)) {
    let grant = receive(producer.into_grant(8).unwrap(), b"abcde");
    let producer = grant.commit(5);
    let (grant, sent) = send(consumer.into_grant(), || {});
    assert_eq!(sent, b"abcde");
    let consumer = grant.release(5);

    let (grant, sent) = send(consumer.into_grant(), || {
        let producer = receive(producer.into_grant(7).unwrap(), b"1234567").commit(7);
        // The ring stays split.
        std::mem::forget(producer);
    });
    assert_eq!(sent, b"", "it was empty");
    let (grant, sent) = send(grant.release(0).into_grant(), || {});
    assert_eq!(sent, b"1234567");
    std::mem::forget(grant);
}

#[test]
fn a_grant_is_the_buffer_of_a_transfer_and_stays_where_it_is() {
    static PACKED: Ring<8> = Ring::new();
    static PADDED: Ring<8, Padded> = Ring::new();
    transfers(PACKED.try_split().unwrap());
    transfers(PADDED.try_split().unwrap());
    let memory = vec![0; 8].leak();
    let ring: &'static mut SliceRing<'static> = Box::leak(Box::new(SliceRing::new(memory)));
    transfers(ring.split());
}

/// Byte number `at` of what is received.
fn received(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

/// Receives 10,000 frames of 48 bytes, which the consumer takes whole, by transfers of up to 64 bytes that an
/// idle line may end at any byte.
fn receives_on<R: AnyRing>((mut producer, mut consumer): (Producer<'static, R>, Consumer<'static, R>)) {
    const FRAMES: usize = 10_000;
    let (mut written, mut read, mut transfers) = (0, 0, 0);
    while read < 48 * FRAMES {
        transfers += 1;
        let grant = producer.into_grant_up_to(64);
        assert!(!grant.is_empty(), "after {transfers} transfers and {read} bytes");
        let count = grant.len().min(1 + transfers * 7 % 64);
        let data: Vec<u8> = (written..).take(count).map(received).collect();
        producer = receive(grant, &data).commit(count);
        written += count;
        let mut frame = [0; 48];
        while consumer.is_readable(48) {
            assert_eq!(consumer.pop_slice(&mut frame), 48);
            assert!(frame.iter().copied().eq((read..).map(received).take(48)), "from {read} on");
            read += 48;
        }
    }
}

/// The example of how to receive took 64 bytes in one piece or none, in a ring of 256. A consumer that waits
/// for whole frames leaves a part of one in it, so that it is never empty: where less than 64 bytes lay
/// before the wrap, no transfer was ever started again.
#[test]
fn receiving_goes_on_whatever_the_consumer_leaves_in_the_ring() {
    static PACKED: Ring<256> = Ring::new();
    static PADDED: Ring<250, Padded> = Ring::new();
    receives_on(PACKED.try_split().unwrap());
    receives_on(PADDED.try_split().unwrap());
}
