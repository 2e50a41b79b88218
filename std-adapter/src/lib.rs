//! A file-like buffer that starts in RAM and spills to disk.
#![deny(missing_docs)]
