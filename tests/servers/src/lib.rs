//! An upload server over a pool: any number of uploads at once, within one limit of memory and one of disk.
//!
//! The program is `examples/upload_server.rs`; here it is as a library, so that tests start it by themselves.
//! What it answers is in `docs/servers.md`.
//!
//! | file | holds |
//! |---|---|
//! | `server.rs` | connections: accepting them, and ending them at a shutdown |
//! | `turns.rs` | and which of them read next |
//! | `routes.rs` | which request goes where |
//! | `foreign.rs` | and which comes from a page of another site |
//! | `files.rs` | what was uploaded, by name |
//! | `temp_file.rs` | the pool's file, beside requests |
//! | `upload.rs`, `resume.rs`, `multipart.rs` | bodies on their way in |
//! | `partial.rs` | those that take several requests |
//! | `hashed.rs` | their sums, computed while they pass |
//! | `download.rs`, `range.rs` | and out |
//! | `precondition.rs` | whether a request is for the file as it is |
//! | `metrics.rs`, `page.html` | the pool, for Prometheus and for the eye |
//! | `refusal.rs`, `log.rs` | what is answered instead, and what the operator is told |
//! | `client.rs`, `running.rs`, `scripted.rs` | clients, servers in this process, bodies and stores for tests and loads |
//! | `time_limit.rs` | and how long they wait |
//! | `process.rs` | open files and memory of the process |

// What is pasted from a page shows no warning.
#![doc(test(attr(deny(unused_imports))))]

pub mod client;
pub mod download;
pub mod files;
pub mod foreign;
pub mod hashed;
pub mod log;
pub mod metrics;
pub mod multipart;
pub mod partial;
pub mod precondition;
pub mod process;
pub mod range;
pub mod refusal;
pub mod resume;
pub mod routes;
pub mod running;
pub mod scripted;
pub mod server;
pub mod temp_file;
pub mod time_limit;
pub mod turns;
pub mod upload;

/// Runs the code of the page as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/servers.md")]
struct Page;
