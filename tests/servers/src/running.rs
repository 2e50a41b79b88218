//! A server in this process, for tests and loads.

use crate::client::{Client, Reply};
use crate::files::{Config, Files};
use crate::server::{listen, serve};
use crate::time_limit::{FOREVER, within};
use overspill::SpillPool;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// A server that listens on a free port of this machine.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its files.
    pub files: Arc<Files>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<bool>,
}

/// Limits that no test reaches by accident.
#[must_use]
pub fn config() -> Config {
    Config { memory: 8 << 20, disk: 1 << 30, dir: None, limit: 1 << 30, idle: FOREVER, resume: FOREVER }
}

impl Running {
    /// Starts a server with a pool by `config`.
    ///
    /// # Panics
    /// If the machine has no port or the configuration makes no pool.
    pub async fn start(config: Config) -> Running {
        Running::over(Files::new(config).expect("a pool can be made")).await
    }

    /// Starts a server over a pool.
    ///
    /// # Panics
    /// If the machine has no port.
    pub async fn in_pool(pool: SpillPool, config: Config) -> Running {
        Running::over(Files::over(pool, config)).await
    }

    async fn over(files: Files) -> Running {
        let listener = listen("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (files, (stop, stopped)) = (Arc::new(files), oneshot::channel::<()>());
        let stopped = async move { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, Arc::clone(&files), stopped, FOREVER));
        Running { address, files, stop, task }
    }

    /// A new connection.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn client(&self) -> Client {
        Client::connect(self.address).await.expect("the server listens")
    }

    /// One request over a connection of its own.
    ///
    /// # Panics
    /// If it gets no answer.
    pub async fn request(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
        let reply = self.client().await.request(method, path, headers, body).await;
        reply.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Asks the server to end, and says whether all requests were carried out.
    ///
    /// # Panics
    /// If the server itself has.
    pub async fn stop(self) -> bool {
        let _ = self.stop.send(());
        within(self.task).await.expect("it does not panic")
    }

    /// Waits until nothing of the pool is used.
    ///
    /// # Panics
    /// If that does not come.
    pub async fn until_empty(&self) {
        until_empty(&self.files.pool).await;
    }
}

/// Waits until nothing of a pool is used.
///
/// # Panics
/// If that does not come.
pub async fn until_empty(pool: &SpillPool) {
    until("all is given back", || {
        let stats = pool.stats();
        (stats.memory_used, stats.memory_lent, stats.disk_used, stats.buffers) == (0, 0, 0, 0)
    })
    .await;
    pool.check_invariants();
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it never does; `what` it is stands in the message.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(FOREVER, holds).await.is_ok(), "{what}: it never came");
}
