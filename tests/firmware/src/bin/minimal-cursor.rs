//! The smallest program with the cursor, and with every call of the rings that needs no feature. Shows that
//! it links no panic. What is left out is formatting, which is `core`'s.
#![no_std]
#![no_main]

use core::hint::black_box;

use cortex_m_rt::entry;
use overspill_core::embedded_io::{BufRead, Read, ReadReady, Write, WriteReady};
use overspill_core::ring::{
    AnyRing, Consumer, HighWater, KeepsHighWater, LogConsumer, LogProducer, LogRing, Padded, Producer,
    RecordConsumer, RecordProducer, RecordRing, Ring, SliceRing,
};
use overspill_core::{Cursor, Fixed, Medium, SeekFrom};

#[entry]
fn main() -> ! {
    static mut RING: Ring<60> = Ring::new();
    static mut POWER_OF_TWO: Ring<64, HighWater> = Ring::new();
    static mut PADDED: Ring<60, HighWater<Padded>> = Ring::new();
    static mut MEMORY: [u8; 60] = [0; 60];
    static mut RECORDS: RecordRing<Ring<60>> = RecordRing::<Ring<60>>::new();
    static mut PADDED_RECORDS: RecordRing<Ring<64, Padded>> = RecordRing::<Ring<64, Padded>>::new();
    static mut LOG: LogRing<16> = LogRing::new();
    let mut slice: SliceRing<'_> = SliceRing::new(black_box(MEMORY));
    let mut fixed = Cursor::new(Fixed::new([0_u8; 64]));
    let mut heapless = Cursor::new(heapless::Vec::<u8, 64>::new());
    let mut buf = [0_u8; 16];
    loop {
        let buf = black_box(&mut buf[..]);
        cursor(&mut fixed, buf);
        cursor(&mut heapless, buf);
        black_box(RING.push_overwriting(buf));
        black_box(slice.push_overwriting(buf));
        ends(RING.split(), buf);
        ends(PADDED.split(), buf);
        ends(slice.split(), buf);
        marks(PADDED.split());
        marks(POWER_OF_TWO.split());
        #[cfg(target_has_atomic = "8")]
        {
            let (shared, records, log) = (&*POWER_OF_TWO, &*RECORDS, &*LOG);
            if let Some(both) = shared.try_split() {
                ends(both, buf);
            }
            black_box((
                shared.len(),
                shared.high_water(),
                records.try_split().is_some(),
                log.try_split().is_some(),
            ));
        }
        records(RECORDS.split(), buf);
        records(PADDED_RECORDS.split(), buf);
        log(LOG.split(), buf);
    }
}

fn cursor<M: Medium>(cursor: &mut Cursor<M>, buf: &mut [u8]) {
    let _ = black_box(cursor.write(buf));
    let _ = black_box(Cursor::seek(cursor, SeekFrom::Start(black_box(7))));
    let _ = black_box(Cursor::seek(cursor, SeekFrom::End(black_box(-7))));
    let _ = black_box(cursor.set_len(black_box(9)));
    let _ = black_box(cursor.set_len_to_position());
    let _ = black_box(cursor.read(buf));
    black_box(Cursor::fill_buf(cursor).is_ok());
    Cursor::consume(cursor, black_box(3));
    let _ = black_box(cursor.write_all(buf));
    let _ = black_box(cursor.read_exact(buf));
    let _ = black_box(Cursor::flush(cursor));
}

fn ends<R: AnyRing>((mut producer, mut consumer): (Producer<'_, R>, Consumer<'_, R>), buf: &mut [u8]) {
    let _ = black_box(producer.push(black_box(1)));
    black_box(producer.push_slice(buf));
    let mut grant = producer.grant();
    black_box(grant.as_mut_slices());
    grant.commit(black_box(3));
    if let Ok(mut grant) = producer.grant_exact(black_box(5)) {
        black_box(grant.as_mut_slices());
        grant.commit(black_box(9));
    }
    if let Ok(mut grant) = producer.grant_contiguous(black_box(5)) {
        black_box(grant.as_mut_slices());
        grant.commit(black_box(9));
    }
    let mut grant = match producer.into_grant(black_box(5)) {
        Ok(grant) => grant,
        Err((producer, _)) => producer.into_grant_up_to(black_box(5)),
    };
    black_box(grant.as_mut_slice());
    producer = grant.commit(black_box(9));

    black_box((consumer.peek(), consumer.pop(), consumer.skip(black_box(2))));
    black_box(consumer.peek_slice(buf));
    let grant = consumer.grant();
    black_box(grant.as_slices());
    grant.release(black_box(3));
    if let Ok(grant) = consumer.grant_exact(black_box(2)) {
        black_box(grant.as_slices());
        grant.release(black_box(9));
    }
    let grant = consumer.into_grant();
    black_box(grant.as_slice());
    consumer = grant.release(black_box(9));
    black_box(consumer.pop_slice(buf));

    black_box((producer.len(), producer.is_writable(black_box(3)), producer.write_ready().is_ok()));
    black_box((consumer.len(), consumer.is_readable(black_box(3)), consumer.read_ready().is_ok()));
    let _ = black_box(producer.write_all(buf));
    let _ = black_box(consumer.read_exact(buf));
    black_box(consumer.fill_buf().is_ok());
    consumer.consume(black_box(3));
    black_box((producer.is_closed(), consumer.is_closed()));
    producer.close();
    consumer.close();
}

fn marks<R: AnyRing<Layout: KeepsHighWater>>((producer, consumer): (Producer<'_, R>, Consumer<'_, R>)) {
    black_box((producer.high_water(), consumer.high_water()));
}

fn records<R: AnyRing>(
    (mut producer, mut consumer): (RecordProducer<'_, R>, RecordConsumer<'_, R>),
    buf: &mut [u8],
) {
    let _ = black_box(producer.push(buf));
    black_box(producer.largest());
    if let Ok(mut grant) = producer.grant(black_box(5)) {
        black_box(grant.as_mut_slices());
        grant.commit(black_box(9));
    }
    let _ = black_box(consumer.pop(buf));
    if let Some(record) = consumer.peek() {
        black_box(record.as_slices());
        record.release();
    }
    black_box((consumer.is_empty(), consumer.is_closed(), producer.is_closed()));
}

fn log<const WORDS: usize>(
    (mut producer, mut consumer): (LogProducer<'_, WORDS>, LogConsumer<'_, WORDS>),
    buf: &mut [u8],
) {
    let _ = black_box(producer.push(buf));
    let _ = black_box(consumer.pop(buf));
    black_box((consumer.is_closed(), producer.is_closed()));
}

/// Never linked if nothing panics: `.ci/firmware` looks for the call.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        safe fn a_panic_was_linked() -> !;
    }
    a_panic_was_linked()
}
