//! Connections: accepting them, and ending them at a shutdown.
//!
//! Promises: of the response of a client that reads slowly, the process has a frame and at most
//! [`BUFFERED_MAX`] bytes, and on Linux the system a frame past [`UNSENT_MAX`] and what is on its way; a
//! client that reads nothing for [`Config::idle`](crate::files::Config::idle) holds neither any more; at a
//! shutdown, requests that run are carried out, and files that are saved or wait for that are saved, though
//! their clients may have gone, for as long as is allowed.

use crate::files::Files;
use crate::log::{chain, log};
use crate::routes::routes;
use crate::temp_file::keep_trimmed;
use crate::turns::{InTurn, Turns};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::AbortOnDropHandle;

/// Bytes of a request that hyper reads at a time, and of a response that wait for its client, past its
/// last frame. hyper's own limit is 400 KiB; with 64 KiB, a thousand clients that upload had 200 MiB
/// resident over a pool of 64.
pub const BUFFERED_MAX: usize = 16 << 10;

/// Bytes of a response in the system that are not on their way to its client. Without it the system takes up
/// to 4 MiB for each connection: five hundred clients that read slowly had 1.7 GiB of it, and made those that
/// read fast wait for memory.
#[cfg(target_os = "linux")]
pub const UNSENT_MAX: u32 = 128 << 10;

/// The time that a client has for the head of its request. A shutdown waits for half a head too, so it is
/// shorter than what one allows.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a connection could not be accepted, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted. A thousand clients that came at once overflowed the queue that
/// `TcpListener::bind` makes, and some were reset in the middle of their requests.
const BACKLOG: u32 = 4096;

/// Listens on a host and port.
///
/// # Errors
/// If the name cannot be resolved, or none of its addresses can be listened on.
pub async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // On Windows it would let two servers listen on one port.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Serves `files` on `listener` until `shutdown` is ready, and then at most for `grace`. Returns whether all
/// requests had been carried out by then, and all files saved. Removes [stale](Files::remove_stale) files
/// meanwhile, and [trims](keep_trimmed) the pool's file.
pub async fn serve(
    listener: TcpListener,
    files: Arc<Files>,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> bool {
    let idle = files.config.idle;
    let saved = files.all_saved();
    tokio::select! {
        is_done = serve_until(listener, routes(Arc::clone(&files)), idle, shutdown, saved, grace) => is_done,
        never = files.keep_removing_stale() => match never {},
        never = keep_trimmed(&files.pool) => match never {},
    }
}

/// The same for any routes. A client has to read some 128 KiB of its response, or the rest, in each `idle`
/// time: a socket takes more only when half of [`UNSENT_MAX`] has gone.
pub async fn serve_routes(
    listener: TcpListener,
    routes: Router,
    idle: Duration,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> bool {
    serve_until(listener, routes, idle, shutdown, ready(()), grace).await
}

/// The same, and awaits `settled` too once the last connection has ended.
async fn serve_until(
    listener: TcpListener,
    routes: Router,
    idle: Duration,
    shutdown: impl Future<Output = ()>,
    settled: impl Future<Output = ()>,
    grace: Duration,
) -> bool {
    let turns = Turns::default();
    let _renewing = AbortOnDropHandle::new(tokio::spawn(turns.clone().renew()));
    let open = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFERED_MAX);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok(stream) => {
                let service = TowerToHyperService::new(routes.clone());
                let mut stream = Box::pin(TimeoutStream::new(InTurn::new(stream, turns.clone())));
                stream.as_mut().set_write_timeout_pinned(Some(idle));
                let connection = open.watch(http.serve_connection(TokioIo::new(stream), service));
                tokio::spawn(async move {
                    // A client that is gone, or sends what is no request, is not worth a line. A body of the
                    // server's own that fails is.
                    if let Err(error) = connection.await
                        && error.is_user()
                    {
                        log(format_args!("a response broke off: {}", chain(&error)));
                    }
                });
            }
            Err(error) => {
                log(format_args!("cannot accept a connection: {error}"));
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = async {
        open.shutdown().await;
        settled.await;
    };
    timeout(grace, ended).await.is_ok()
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    set_options(&stream);
    Ok(stream)
}

/// Sets what makes a connection fast, and small in the system. One that takes no option is served without:
/// its client may have gone already, which is no reason to accept no others.
fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn the_system_keeps_little_for_a_client_that_does_not_read() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener));
        let (_client, accepted) = (client.unwrap(), accepted.unwrap());
        assert_eq!(socket2::SockRef::from(&accepted).tcp_notsent_lowat().unwrap(), UNSENT_MAX);
    }

    /// An option that a connection did not take was an error of `accept`: the connection was lost, and no
    /// other was accepted for a while. A socket of another family takes none of them.
    #[tokio::test]
    async fn a_connection_that_takes_no_option_is_served_without() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = std::net::TcpStream::from(std::os::fd::OwnedFd::from(ours));
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert!(stream.set_nodelay(true).is_err());
        set_options(&stream);
        drop(theirs);
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it can be used");
    }
}
