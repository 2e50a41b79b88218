//! The ring against `VecDeque`, by scripts of random calls.

use overspill_tests::drive_ring;
use proptest::prelude::*;

/// A script of mostly a few calls: rare ones follow each other only if the frequent ones are off.
fn swarm() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), proptest::collection::vec(any::<u8>(), 1..8)).prop_flat_map(|(kind, alphabet)| {
        proptest::collection::vec(prop_oneof![proptest::sample::select(alphabet), any::<u8>()], 0..400)
            .prop_map(move |mut script| {
                script.insert(0, kind);
                script
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_script_agrees_with_the_model(script in swarm()) {
        drive_ring(&script);
    }
}
