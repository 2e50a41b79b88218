//! A server as a process of its own, and what it says of itself when it ends.

use crate::Args;
use crate::serve::Kind;
use std::error::Error;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server that runs. It is killed if it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

/// How a server was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    /// The most memory that it had resident.
    pub(crate) resident_mib: f64,
    /// The processors' time that it used.
    pub(crate) processor_ms: f64,
    /// How late its ticker of 1 ms was: 99.9 % of the ticks.
    pub(crate) stall_ms: f64,
    /// The latest tick of all.
    pub(crate) longest_ms: f64,
}

impl Server {
    pub(crate) fn start(
        kind: Kind,
        args: &Args,
        workers: usize,
        dir: &Path,
    ) -> Result<Server, Box<dyn Error>> {
        let mut server = Command::new(std::env::current_exe()?);
        server.args(["--serve", kind.name(), "--memory", &args.memory.to_string()]);
        server.args(["--sum", args.sum.name()]);
        server.args(["--uploads", &args.uploads.to_string(), "--workers", &workers.to_string()]);
        server.arg("--dir").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = server.spawn()?;
        let mut said = BufReader::new(child.stdout.take().ok_or("it says nothing")?).lines();
        let address = match said.next() {
            Some(line) => line?.parse()?,
            None => return Err(format!("{} did not start: {}", kind.name(), child.wait()?).into()),
        };
        Ok(Server { address, child, said })
    }

    /// Ends it, and returns how it was.
    pub(crate) fn end(mut self) -> Result<Figures, Box<dyn Error>> {
        drop(self.child.stdin.take()); // it ends when there is no more to read
        let figures = self.said.next().ok_or("it did not end well")??;
        let mut figures = figures.split_whitespace().map(str::parse::<f64>);
        let mut next = || figures.next().ok_or("a figure is missing")?.map_err(|_| "no figure");
        Ok(Figures {
            resident_mib: next()? / 1024.0,
            processor_ms: next()?,
            stall_ms: next()? / 1000.0,
            longest_ms: next()? / 1000.0,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
