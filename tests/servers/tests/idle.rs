//! Bodies of which nothing comes for a while.
#![allow(missing_docs)]

use bytes::Bytes;
use overspill::{CollectError, SpillPool};
use overspill_servers::running::until_empty;
use overspill_servers::scripted::{Scripted, Step};
use overspill_servers::time_limit::within;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn a_body_may_pause_for_as_long_as_it_is_allowed_and_no_longer() {
    let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let paused = http_body_util::StreamBody::new(stream(move |context| {
        receiver
            .poll_recv(context)
            .map(|data| data.map(|data| Ok::<_, std::io::Error>(http_body::Frame::data(data))))
    }));
    let idle = Duration::from_secs(10);
    let collecting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.collect(paused).idle_timeout(idle).await }
    });
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(9)).await; // of a clock that stands still
        sender.send(Bytes::from("piece")).await.unwrap();
    }
    let last = tokio::time::Instant::now();
    let error = within(collecting).await.unwrap().unwrap_err();
    assert!(matches!(error, CollectError::Idle { received: 25, .. }), "{error:?}");
    assert_eq!((error.status().as_u16(), last.elapsed().as_secs()), (408, 10));
    until_empty(&pool).await;
}

/// The timer was that of the runtime that had polled first. Once that was shut down the next poll panicked,
/// and while nothing ran it the body could stay away for ever.
#[test]
fn a_body_that_stays_away_is_late_in_whichever_runtime_polls() {
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let pool = SpillPool::builder().memory(1 << 20).build().unwrap();
    for is_dropped in [false, true] {
        let body = || Scripted::new([Step::Data(Bytes::from("piece")), Step::Stuck]);
        let idle = Duration::from_millis(50);
        let mut collecting = Box::pin(pool.collect(body()).idle_timeout(idle));
        let (receiving, reader) = pool.spool_body(body());
        let mut receiving = Box::pin(receiving.idle_timeout(idle));
        let first = runtime();
        first.block_on(async {
            assert!(timeout(Duration::ZERO, &mut collecting).await.is_err());
            assert!(timeout(Duration::ZERO, &mut receiving).await.is_err());
        });
        let first = (!is_dropped).then_some(first);
        for result in runtime().block_on(within(async { [collecting.await, receiving.await] })) {
            let error = result.unwrap_err();
            assert!(matches!(error, CollectError::Idle { received: 5, .. }), "{error:?}");
        }
        drop((reader, first));
    }
    runtime().block_on(until_empty(&pool));
}

fn stream<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
) -> impl futures_core::Stream<Item = T> + Unpin {
    struct Polled<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> futures_core::Stream
        for Polled<F>
    {
        type Item = T;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    Polled(poll)
}
