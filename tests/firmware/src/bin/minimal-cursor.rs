//! The smallest program with the cursor and all of the ring that needs no feature. Shows that it links no
//! panic.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use overspill_core::embedded_io::{Read, Write};
use overspill_core::ring::{LogRing, RecordRing, Ring};
use overspill_core::{Cursor, Fixed, SeekFrom};

#[entry]
fn main() -> ! {
    static mut RING: Ring<60> = Ring::new();
    static mut RECORDS: RecordRing<Ring<60>> = RecordRing::<Ring<60>>::new();
    static mut LOG: LogRing<16> = LogRing::new();
    let (mut producer, mut consumer) = RING.split();
    let (mut record_producer, mut record_consumer) = RECORDS.split();
    let (mut log_producer, mut log_consumer) = LOG.split();
    let mut cursor = Cursor::new(Fixed::new([0_u8; 64]));
    let mut buf = [0_u8; 16];
    loop {
        let buf = black_box(&mut buf[..]);
        let _ = black_box(cursor.write(buf));
        let _ = black_box(cursor.seek(SeekFrom::Start(black_box(7))));
        let _ = black_box(cursor.set_len(black_box(9)));
        let _ = black_box(cursor.read(buf));
        let _ = black_box(cursor.write_all(buf));
        let _ = black_box(cursor.read_exact(buf));

        let _ = black_box(producer.push(black_box(1)));
        black_box(producer.push_slice(buf));
        if let Ok(mut grant) = producer.grant_contiguous(black_box(5)) {
            black_box(grant.as_mut_slices());
            grant.commit(black_box(9));
        }
        black_box(consumer.peek());
        black_box(consumer.skip(black_box(2)));
        let grant = consumer.grant();
        black_box(grant.as_slices());
        grant.release(black_box(3));
        black_box(consumer.pop_slice(buf));
        let _ = black_box(producer.write_all(buf));
        let _ = black_box(consumer.read_exact(buf));

        let _ = black_box(record_producer.push(buf));
        let _ = black_box(record_consumer.pop(buf));
        let _ = black_box(log_producer.push(buf));
        let _ = black_box(log_consumer.pop(buf));
    }
}

/// Never linked if nothing panics: `.ci/firmware` looks for the call.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_was_linked() -> !;
    }
    a_panic_was_linked()
}
