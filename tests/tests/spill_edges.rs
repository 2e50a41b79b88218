//! The edges of `SpillBuffer` by hand, and the bugs that its model has found.

use overspill_tests::replay::*;

/// Pages of one byte exist, and then the last page has the number `u64::MAX`. The walk over a
/// table's entries was believed to count no further than the entries there are; but it paired them
/// with an open range, which counts one ahead, and overflowed behind the last page.
#[test]
fn the_last_page_there_can_be_is_walked_over() {
    let ops = [Seek(Start(27)), WriteVectored([15, 0, 13])];
    let setup = SpillSetup {
        page: 1,
        memory: 5,
        disk: u64::MAX,
        below: Memory,
        base: u64::MAX - 50,
        buffers: 1,
        watch: AtEnd,
    };
    run_spill(setup, &ops).unwrap();
}
