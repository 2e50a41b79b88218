//! Plans generated from a fuzzer's bytes.
//!
//! Promises:
//!
//! - Every plan can happen to a real store. None panics, delays, or hangs a caller that tries again.
//! - Most plans are small: a fault in one of the first calls is worth more than one that is never reached.
//!
//! Held by: the tests at the end of this file; the targets in `fuzz/` run on it.

use super::{Call, Failure, Fault, FaultPlan, PoolPlan};
use crate::pages::sums::Checksums;
use arbitrary::{Arbitrary, Result, Unstructured};
use std::io::ErrorKind;

/// The most faults of one plan.
const FAULTS_MAX: usize = 3;

impl<'a> Arbitrary<'a> for Call {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        input.choose(&Call::ALL).copied()
    }
}

/// Errors of the kinds that stores return, and short transfers of up to 15 bytes; never a panic.
impl<'a> Arbitrary<'a> for Failure {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let byte = u8::arbitrary(input)?;
        Ok(match byte % 8 {
            0 => Failure::full(),
            1 => Failure::Error(ErrorKind::Interrupted),
            2 => Failure::Error(ErrorKind::WouldBlock),
            3 => Failure::Error(ErrorKind::TimedOut),
            4 => Failure::io(),
            5 => Failure::Error(ErrorKind::PermissionDenied),
            _ => Failure::Short(usize::from(byte / 16)),
        })
    }
}

impl<'a> Arbitrary<'a> for Fault {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let nth = u64::from(u8::arbitrary(input)? % 64);
        let failure = Failure::arbitrary(input)?;
        let choice = u8::arbitrary(input)?;
        let fault = if choice % 2 == 0 { Fault::once(nth, failure) } else { Fault::lasting(nth, failure) };
        let only = Call::ALL.get(usize::from(choice / 2) % 8);
        Ok(only.map_or(fault, |&call| fault.on(call)))
    }
}

/// At most three faults; neither delays nor recording.
impl<'a> Arbitrary<'a> for FaultPlan {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let faults = usize::from(u8::arbitrary(input)?) % (FAULTS_MAX + 1);
        (0..faults).map(|_| Fault::arbitrary(input)).collect()
    }
}

/// Pages of 1 to 64 bytes, at most eight of them in memory, mostly no disk limit, checksums or not.
impl<'a> Arbitrary<'a> for PoolPlan {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let [page, memory, disk] = <[u8; 3]>::arbitrary(input)?;
        let page_size = 1 << (page % 7);
        let disk = if disk < 192 { u64::MAX } else { u64::from(disk % 16) * page_size as u64 };
        // Half a page at a time, so that memory for a part of a page is tried too.
        let memory = usize::from(memory % 16) * page_size / 2;
        let checksums = if page < 128 { Checksums::Off } else { Checksums::On };
        Ok(PoolPlan { page_size, memory, disk, checksums, faults: FaultPlan::arbitrary(input)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against a generator that makes only some of the plans that it should.
    #[test]
    fn every_kind_of_plan_is_made_from_some_bytes() {
        let mut seen = std::collections::BTreeSet::new();
        let mut state = 1_u64;
        for _ in 0..4000 {
            let bytes: Vec<u8> = (0..16)
                .map(|_| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    (state >> 56) as u8
                })
                .collect();
            let plan = PoolPlan::arbitrary(&mut Unstructured::new(&bytes)).unwrap();
            seen.insert(format!("pages of {}", plan.page_size));
            seen.insert(format!("{} faults", plan.faults.faults.len()));
            seen.insert(format!("checksums {:?}", plan.checksums));
            seen.insert(format!("limited: {}", plan.disk < u64::MAX));
            for fault in &plan.faults.faults {
                let printed = format!("{fault:?}");
                assert!(!printed.contains("Panic"), "{printed}");
                seen.insert(printed.split('(').next().unwrap_or_default().to_owned());
                seen.insert(printed.split(".on").nth(1).unwrap_or("any").to_owned());
            }
            let (pool, _) = plan.pool();
            drop(pool);
        }
        // 7 page sizes, 0 to 3 faults, checksums or not, a disk limit or not, once or lasting, and faults on
        // one of five kinds of calls or on any.
        assert_eq!(seen.len(), 7 + 4 + 2 + 2 + 2 + 6, "{seen:?}");
    }

    #[test]
    fn empty_input_makes_the_simplest_plan() {
        let plan = PoolPlan::arbitrary(&mut Unstructured::new(&[])).unwrap();
        assert_eq!(plan, PoolPlan { page_size: 1, ..PoolPlan::default() });
    }
}
