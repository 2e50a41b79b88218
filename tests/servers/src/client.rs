//! A client of few lines, for tests and loads: what goes over its connection, and when, is written out.
//!
//! Promise: no call takes longer than [`FOREVER`] for what it sends or receives; the error
//! says which call it was.

use crate::time_limit::FOREVER;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// The longest head of an answer.
const HEAD_MAX: usize = 64 << 10;

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// What was received past the last answer.
    received: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The lines of the head.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
    }
}

/// What `call` comes to, unless that takes for ever.
async fn in_time<T>(name: &str, call: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{name} took {FOREVER:?}"));
    timeout(FOREVER, call).await.unwrap_or_else(|_| Err(late()))
}

impl Client {
    /// Connects to a server.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub async fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = in_time("connect", TcpStream::connect(address)).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// The same with a receive buffer of so many bytes in the system, of which a client that reads slowly
    /// takes little in advance.
    ///
    /// # Errors
    /// As [`TcpSocket::connect`].
    pub async fn connect_narrow(address: SocketAddr, bytes: u32) -> io::Result<Client> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_recv_buffer_size(bytes)?;
        let stream = in_time("connect_narrow", socket.connect(address)).await?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// Sends the head of a request, with further header lines.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn begin(&mut self, method: &str, path: &str, headers: &[&str]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        headers.iter().for_each(|header| head.extend([header, "\r\n"]));
        head += "\r\n";
        in_time("begin", self.stream.write_all(head.as_bytes())).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        in_time("send", self.stream.write_all(bytes)).await
    }

    /// Sends a chunk of a body whose length is not known; an empty one ends it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn send_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let chunk = [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        in_time("send_chunk", self.stream.write_all(&chunk)).await
    }

    /// Receives the head of an answer; its body is empty, and still to come.
    ///
    /// # Errors
    /// If the connection breaks, or ends before.
    pub async fn head(&mut self) -> io::Result<Reply> {
        let end = in_time("head", self.head_end()).await?;
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no answer: {head}")))?;
        Ok(Reply { status, head, body: Vec::new() })
    }

    /// Receives until the head of an answer is there, and returns its length.
    async fn head_end(&mut self) -> io::Result<usize> {
        loop {
            if let Some(at) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Ok(at + 4);
            }
            if self.received.len() > HEAD_MAX || self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Receives `len` bytes of a body.
    ///
    /// # Errors
    /// If the connection breaks, or ends before.
    pub async fn receive(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let filled = async {
            while self.received.len() < len {
                self.received.reserve(len - self.received.len());
                if self.stream.read_buf(&mut self.received).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(())
        };
        in_time("receive", filled).await?;
        Ok(self.received.drain(..len).collect())
    }

    /// Receives an answer. That to a `HEAD` has no body.
    ///
    /// # Errors
    /// If the connection breaks, or ends before.
    pub async fn reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut reply = self.head().await?;
        let len = reply.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
        if method != "HEAD" {
            reply.body = self.receive(len).await?;
        }
        Ok(reply)
    }

    /// Sends a request with a body, and receives the answer.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[&str],
        body: &[u8],
    ) -> io::Result<Reply> {
        let length = format!("content-length: {}", body.len());
        self.begin(method, path, &[headers, &[&length]].concat()).await?;
        self.send(body).await?;
        self.reply(method).await
    }
}
