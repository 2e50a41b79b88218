//! Turning the content of an async buffer into a file, off the loop.
//!
//! Promises: those of [`persist`](crate::api::persist), and that no poll calls the store or the file system.
//!
//! Held by: `tests/tests/async_buffer/persist.rs`.

use crate::api::persisted::Persisted;
use crate::disk::atomic_file::Existing;
use crate::error::text::write_sources;
use crate::tokio::buffer::AsyncSpillBuffer;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

impl AsyncSpillBuffer {
    /// Saves the content as the file `path`, whole or not at all, as
    /// [`SpillBuffer::persist`](crate::SpillBuffer::persist) does, on a thread that may block.
    ///
    /// A buffer that was made [for that path](crate::SpillPool::buffer_for) is not copied: its file gets the
    /// name.
    ///
    /// A future that is to be spawned needs an owned path, such as a `PathBuf`.
    ///
    /// For as long as the copy and its sync take, it takes the place of one of the pool's four
    /// [jobs](AsyncSpillBuffer): while four files are being saved, all else that the pool's async buffers
    /// have to spill waits for one of them.
    ///
    /// ```
    /// use overspill::SpillPool;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload.bin");
    /// let pool = SpillPool::builder().memory(64 << 10).build()?;
    /// let mut upload = pool.buffer_for(&path).into_async();
    /// upload.write_all(&[7; 1_000_000]).await?;
    /// upload.persist(&path).await?.durable()?;
    /// # assert_eq!(std::fs::read(&path)?, [7; 1_000_000]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`SpillBuffer::persist`](crate::SpillBuffer::persist). It also fails if no runtime can run
    /// the job, or if there is no room for what is in the [staging buffer](AsyncSpillBuffer#memory). No name
    /// has changed then, and the error contains the buffer, with all that it holds.
    ///
    /// # Cancel safety
    /// The future owns the buffer: dropping the future drops the buffer. If it is dropped before a thread has
    /// begun, no name changes. After that, the thread goes on to its end, and the name may change: to the
    /// whole content, and never to a part of it.
    pub async fn persist(self, path: impl AsRef<Path>) -> Result<Persisted, AsyncPersistError> {
        let path = path.as_ref().to_owned();
        self.persist_over(path, Existing::Replaced).await
    }

    /// Like [`persist`](AsyncSpillBuffer::persist), but never replaces anything: an existing file, directory
    /// or link stays as it is.
    ///
    /// # Errors
    /// As [`persist`](AsyncSpillBuffer::persist), and of kind `AlreadyExists` if the name exists, even if it
    /// came to exist only while the content was being written.
    ///
    /// # Cancel safety
    /// As for `persist`.
    pub async fn persist_noclobber(self, path: impl AsRef<Path>) -> Result<Persisted, AsyncPersistError> {
        let path = path.as_ref().to_owned();
        self.persist_over(path, Existing::Kept).await
    }

    async fn persist_over(
        mut self,
        path: PathBuf,
        existing: Existing,
    ) -> Result<Persisted, AsyncPersistError> {
        let written = self.run(move |buffer| buffer.write_named(&path, existing)).await;
        match written {
            Ok(Ok(persisted)) => Ok(persisted),
            Ok(Err(error)) => Err(AsyncPersistError::new(error.into(), self)),
            Err(error) => Err(AsyncPersistError::new(error, self)),
        }
    }
}

/// The content of an async buffer could not become a file. Holds the buffer, with all its bytes and its
/// position. No name has changed, and the buffer stays usable.
///
/// The operator [`?`](crate::PersistError#the-question-mark) does not turn it into an [`io::Error`].
/// [`into_buffer`](AsyncPersistError::into_buffer) keeps the content, and
/// [`into_error`](AsyncPersistError::into_error) drops it.
pub struct AsyncPersistError {
    /// Boxed, so that a `Result` with it is small.
    parts: Box<(io::Error, AsyncSpillBuffer)>,
}

impl AsyncPersistError {
    fn new(error: io::Error, buffer: AsyncSpillBuffer) -> Self {
        AsyncPersistError { parts: Box::new((error, buffer)) }
    }

    /// The cause; [`SpillError::of`](crate::SpillError::of) returns its inner error.
    #[must_use]
    pub fn error(&self) -> &io::Error {
        &self.parts.0
    }

    /// The buffer.
    #[must_use]
    pub fn buffer(&self) -> &AsyncSpillBuffer {
        &self.parts.1
    }

    /// Returns the buffer, to be persisted elsewhere or read.
    #[must_use]
    pub fn into_buffer(self) -> AsyncSpillBuffer {
        self.parts.1
    }

    /// Returns the cause. Drops the buffer, and its content with it.
    #[must_use]
    pub fn into_error(self) -> io::Error {
        self.parts.0
    }

    /// Returns the cause, and the buffer.
    #[must_use]
    pub fn into_parts(self) -> (io::Error, AsyncSpillBuffer) {
        *self.parts
    }
}

/// `{error:#}` adds the sources.
impl fmt::Display for AsyncPersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the content could not become a file; the buffer still has it")?;
        write_sources(self, f)
    }
}

impl fmt::Debug for AsyncPersistError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, buffer) = &*self.parts;
        f.debug_struct("AsyncPersistError").field("error", error).field("buffer", buffer).finish()
    }
}

impl std::error::Error for AsyncPersistError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error())
    }
}
