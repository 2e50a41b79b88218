//! What the compiler derives for the public types, and what it cannot: the same for rings of either kind and
//! any layout.
//!
//! Held by: the compiler.
#![cfg(not(overspill_loom))]
#![allow(missing_docs)]

use core::fmt::Debug;
use core::panic::{RefUnwindSafe, UnwindSafe};
use overspill_core::ring::{
    Consumer, HighWater, LogConsumer, LogProducer, LogRing, OwnedReadGrant, OwnedWriteGrant, Packed, Padded,
    Producer, ReadGrant, RecordConsumer, RecordProducer, RecordRing, Ring, SliceRing, WriteGrant,
};
use overspill_core::{Cursor, Fixed};

/// Of a type without `defmt`'s feature, nothing is asked of that.
#[cfg(not(feature = "defmt"))]
trait Format {}
#[cfg(not(feature = "defmt"))]
impl<T> Format for T {}
#[cfg(feature = "defmt")]
use defmt::Format;

/// Can be sent to and shared with other threads, moved while it is used, and printed.
const fn is_usual<T: Send + Sync + Unpin + Debug + Format>() {}
/// And used on after a panic was caught.
const fn survives<T: Send + Sync + Unpin + Debug + Format + UnwindSafe + RefUnwindSafe>() {}

/// The compiler took a `Ring` behind a reference, and any `SliceRing`, for broken once a panic had passed. No
/// panic leaves either half-way.
macro_rules! rings_survive {
    ($($ring:ty),+ $(,)?) => {$(
        survives::<$ring>();
        survives::<RecordRing<$ring>>();
        survives::<Producer<'static, $ring>>();
        survives::<Consumer<'static, $ring>>();
        survives::<RecordProducer<'static, $ring>>();
        survives::<RecordConsumer<'static, $ring>>();
        survives::<OwnedWriteGrant<'static, $ring>>();
        survives::<OwnedReadGrant<'static, $ring>>();
        // As any exclusive reference, they do not survive.
        is_usual::<WriteGrant<'static, 'static, $ring>>();
        is_usual::<ReadGrant<'static, 'static, $ring>>();
    )+};
}

const _: () = {
    rings_survive!(
        Ring<8, Packed>,
        Ring<8, Padded>,
        Ring<8, HighWater<Padded>>,
        SliceRing<'static, Packed>,
        SliceRing<'static, Padded>,
        SliceRing<'static, HighWater<Padded>>,
    );
    survives::<LogRing<8>>();
    survives::<LogProducer<'static, 8>>();
    survives::<LogConsumer<'static, 8>>();
    survives::<Cursor<Fixed<[u8; 8]>>>();
};

#[cfg(feature = "async")]
const _: () = {
    use overspill_core::ring::Waking;
    rings_survive!(Ring<8, Waking<Padded>>, SliceRing<'static, Waking<Padded>>);
};

/// What is known at compile time can size other things.
const _: () = assert!(Ring::<8>::new().capacity() == 8);
