//! A limit on what a test waits for, so that what never comes fails and does not hang.

use std::panic::Location;
use std::time::Duration;
use tokio::time::timeout;

/// Longer than anything takes that ends at all.
pub const FOREVER: Duration = Duration::from_secs(60);

/// What `future` comes to.
///
/// # Panics
/// If that takes longer than [`FOREVER`]; the message has the caller's line.
#[track_caller]
pub fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = Location::caller();
    async move {
        let waited = timeout(FOREVER, future).await;
        waited.unwrap_or_else(|_| panic!("{caller}: nothing came within {FOREVER:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::scripted::polled_at_most;
    use std::future::pending;
    use std::io::ErrorKind;
    use tokio::net::TcpListener;

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "time_limit.rs")]
    async fn what_never_comes_fails() {
        within(pending::<()>()).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "scripted.rs")]
    async fn a_future_that_nothing_wakes_fails() {
        polled_at_most(pending::<()>(), 2).await;
    }

    /// A test against a server that answers nothing hung until its runner killed it, and said no line.
    #[tokio::test]
    async fn a_server_that_never_answers_fails_its_client() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap()).await.unwrap();
        tokio::time::pause(); // which goes on at once when all wait
        let error = client.request("GET", "/", &[], b"").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("head"), "{error}");
    }
}
