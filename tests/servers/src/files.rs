//! What was uploaded, by name.
//!
//! Promises: a name has no part that leads elsewhere; a file is seen whole or not at all, and one that is
//! being resumed is written by one request at a time; one that nothing was added to for
//! [`Config::resume`] is gone.

use crate::partial::Partial;
use crate::precondition::Precondition;
use crate::refusal::Refusal;
use crate::resume::UPLOAD_OFFSET;
use crate::temp_file::open_early;
use axum::http::StatusCode;
use overspill::{BuildError, Frozen, SpillBody, SpillPool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// The shortest and the longest time between two looks for files that are to go, or to be settled.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// A name is at most so many bytes long, as on most file systems.
const NAME_MAX: usize = 255;

/// At most so many files, since a name takes memory that no pool is charged for.
pub const FILES_MAX: usize = 100_000;

/// A list has at most so many names, since it is memory that no pool is charged for, until its client has
/// read it.
const LISTED_MAX: usize = 1000;

/// So many files are saved at once; the runtime has 512 threads that may block.
const SAVES_MAX: usize = 4;

/// So many files at most are saved or wait for that, since what waits goes on without its client: each has
/// the head of its request, 16 KiB, in memory that no pool is charged for.
pub(crate) const ASKED_MAX: u32 = 1000;

/// What the server was started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The memory limit of the pool, in bytes.
    pub memory: usize,
    /// The disk limit of the pool, in bytes.
    pub disk: u64,
    /// Where files are persisted, and where the pool spills.
    pub dir: Option<PathBuf>,
    /// The longest file, in bytes.
    pub limit: u64,
    /// The longest pause of a client within its body, and the time that it has to take 128 KiB of an answer.
    pub idle: Duration,
    /// How long a file that is not whole is kept after the last byte of it came.
    pub resume: Duration,
}

/// Why there is no server.
#[derive(Debug)]
pub enum StartError {
    /// No file can be made in the directory.
    Dir {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The limits make no pool.
    Pool(BuildError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Dir { dir, .. } => {
                write!(
                    f,
                    "no file can be made in {}; --dir is a directory that may be written to",
                    dir.display()
                )
            }
            StartError::Pool(_) => f.write_str("no pool can be made"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Dir { source, .. } => Some(source),
            StartError::Pool(error) => Some(error),
        }
    }
}

/// The server's state: the pool, and the files in it.
#[derive(Debug)]
pub struct Files {
    /// All uploads are in this pool.
    pub pool: SpillPool,
    /// What the server was started with.
    pub config: Config,
    /// Each file that is being saved has a permit: all take threads that may block, which the pool's
    /// disk work needs too.
    pub(crate) saves: Arc<Semaphore>,
    /// Each file that is saved or waits for that has a permit.
    pub(crate) asked: Arc<Semaphore>,
    by_name: Mutex<BTreeMap<String, File>>,
}

/// A file, whole or not.
#[derive(Clone, Debug)]
pub enum File {
    /// All of it is there.
    Whole(Stored),
    /// More is to come, by requests that resume it.
    Partial(Arc<tokio::sync::Mutex<Partial>>),
}

/// A file that is all there.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its bytes: as a body, since an event loop may drop that. A `Frozen` calls the store then.
    pub body: SpillBody,
    /// Their SHA-256, in hexadecimal digits.
    pub sha256: Arc<str>,
}

impl Stored {
    /// Its bytes.
    #[must_use]
    pub fn frozen(&self) -> &Frozen {
        self.body.frozen()
    }

    /// The value of its header `ETag`.
    #[must_use]
    pub fn tag(&self) -> String {
        format!("\"{}\"", self.sha256)
    }

    /// What the client is told of the file.
    #[must_use]
    pub fn describe(&self, name: &str) -> Value {
        json!({ "name": name, "len": self.frozen().len(), "sha256": &*self.sha256 })
    }
}

/// Refuses a name that could lead out of a directory, or be hidden in it.
///
/// # Errors
/// Status 400, and what a name may be.
pub fn check_name(name: &str) -> Result<(), Refusal> {
    let leads_elsewhere = |c: char| ['/', '\\', ':'].contains(&c) || c.is_control();
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || name.contains(leads_elsewhere) {
        let rule = "a name has 1 to 255 bytes, begins with no dot, and has no /, \\, : or control character";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, rule));
    }
    Ok(())
}

impl Files {
    /// No files yet, and an empty pool, whose temp file is open.
    ///
    /// # Errors
    /// If no file can be made in the directory, or no pool by this configuration.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let builder = SpillPool::builder().name("uploads").memory(config.memory).disk(config.disk);
        let builder = match &config.dir {
            Some(dir) => {
                // It has no name, or none for long.
                tempfile::tempfile_in(dir).map_err(|source| StartError::Dir { dir: dir.clone(), source })?;
                builder.dir(dir) // one file system, so that persisting is the kernel's work
            }
            None => builder,
        };
        let pool = builder.build().map_err(StartError::Pool)?;
        open_early(&pool);
        Ok(Files::over(pool, config))
    }

    /// The same over a pool of the caller's.
    #[must_use]
    pub fn over(pool: SpillPool, config: Config) -> Self {
        let [saves, asked] = [SAVES_MAX, ASKED_MAX as usize].map(|most| Arc::new(Semaphore::new(most)));
        Files { pool, config, saves, asked, by_name: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, File>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file may be put in the place of that name: as [`put`](Files::put), by which time
    /// it may be otherwise.
    ///
    /// # Errors
    /// As those of `put`.
    pub fn check(&self, name: &str, precondition: &Precondition) -> Result<(), Refusal> {
        let files = self.lock();
        check(&files, name, precondition)?;
        check_count(&files, [name])
    }

    /// Puts a file in the place of that name. Returns whether there was none that is whole.
    ///
    /// # Errors
    /// Status 412 for the precondition, 507 if there are too many files.
    pub fn put(&self, name: &str, stored: Stored, precondition: &Precondition) -> Result<bool, Refusal> {
        let replaced = {
            let mut files = self.lock();
            check(&files, name, precondition)?;
            check_count(&files, [name])?;
            files.insert(name.to_owned(), File::Whole(stored))
        };
        Ok(!matches!(replaced, Some(File::Whole(_)))) // it is dropped with no lock
    }

    /// Puts all of these files, which have different names, in their places, or none of them.
    ///
    /// # Errors
    /// Status 507 if there are too many files.
    pub fn put_all(&self, all: Vec<(String, Stored)>) -> Result<(), Refusal> {
        let mut files = self.lock();
        check_count(&files, all.iter().map(|(name, _)| &**name))?;
        let put = |(name, stored)| files.insert(name, File::Whole(stored));
        let replaced: Vec<_> = all.into_iter().map(put).collect();
        drop(files);
        drop(replaced); // with no lock
        Ok(())
    }

    /// The file of that name.
    ///
    /// # Errors
    /// Status 404.
    pub fn find(&self, name: &str) -> Result<File, Refusal> {
        self.lock().get(name).cloned().ok_or_else(|| Refusal::unknown(name))
    }

    /// The whole file of that name.
    ///
    /// # Errors
    /// Status 404, or 409 if some of it is still to come.
    pub fn find_whole(&self, name: &str) -> Result<Stored, Refusal> {
        match self.find(name)? {
            File::Whole(stored) => Ok(stored),
            File::Partial(_) => Err(Refusal::new(
                StatusCode::CONFLICT,
                "the upload of this file is not complete; send the rest",
            )),
        }
    }

    /// The file of that name to go on with; a new one, if there is none and the client begins at 0.
    ///
    /// # Errors
    /// Status 404 if there is none, 409 if it is whole, 412 for the precondition, 507 if there are too many.
    pub fn find_partial(
        &self,
        name: &str,
        offset: u64,
        precondition: &Precondition,
    ) -> Result<Arc<tokio::sync::Mutex<Partial>>, Refusal> {
        let mut files = self.lock();
        match files.get(name) {
            Some(File::Partial(partial)) => {
                precondition.check(None)?;
                Ok(Arc::clone(partial))
            }
            Some(File::Whole(stored)) => {
                let text = "the file is complete; delete it, or put another in its place";
                Err(Refusal::new(StatusCode::CONFLICT, text).with(UPLOAD_OFFSET, stored.frozen().len()))
            }
            None if offset > 0 => Err(Refusal::unknown(name)),
            None => {
                precondition.check(None)?;
                check_count(&files, [name])?;
                let partial = Arc::new(tokio::sync::Mutex::new(Partial::new(&self.pool)));
                files.insert(name.to_owned(), File::Partial(Arc::clone(&partial)));
                Ok(partial)
            }
        }
    }

    /// Whether `partial` is still the file of that name, and not deleted or replaced.
    ///
    /// # Errors
    /// Status 409.
    pub fn check_current(
        &self,
        name: &str,
        partial: &Arc<tokio::sync::Mutex<Partial>>,
    ) -> Result<(), Refusal> {
        check_current(&self.lock(), name, partial)
    }

    /// Puts the whole file in the place of what came of it so far.
    ///
    /// # Errors
    /// As [`check_current`](Files::check_current).
    pub fn complete(
        &self,
        name: &str,
        partial: &Arc<tokio::sync::Mutex<Partial>>,
        stored: Stored,
    ) -> Result<(), Refusal> {
        let mut files = self.lock();
        check_current(&files, name, partial)?;
        files.insert(name.to_owned(), File::Whole(stored));
        Ok(()) // and the caller has the other still
    }

    /// Removes the files that are not whole, that no request goes on with, and to which nothing was added
    /// for [`Config::resume`].
    pub fn remove_stale(&self) {
        let is_stale = |file: &File| {
            let File::Partial(partial) = file else { return false };
            // Nobody takes another reference without the lock of the names.
            Arc::strong_count(partial) == 1
                && partial.try_lock().is_ok_and(|partial| partial.grown.elapsed() >= self.config.resume)
        };
        let stale: Vec<_> = {
            let mut files = self.lock();
            let names = files.iter().filter(|(_, file)| is_stale(file)).map(|(name, _)| name.clone());
            let names: Vec<_> = names.collect();
            names.iter().filter_map(|name| files.remove(name)).collect()
        };
        drop(stale); // with no lock
    }

    /// [Settles](Partial::settle) the files whose requests broke off.
    async fn settle_broken_off(&self) {
        let is_left = |partial: &Arc<tokio::sync::Mutex<Partial>>| {
            Arc::strong_count(partial) == 1 && partial.try_lock().is_ok_and(|partial| !partial.is_settled())
        };
        let left = |file: &File| match file {
            File::Partial(partial) if is_left(partial) => Some(Arc::clone(partial)),
            File::Partial(_) | File::Whole(_) => None,
        };
        let left: Vec<_> = self.lock().values().filter_map(left).collect();
        for partial in left {
            // What finds no room now is tried again, and the next request is told of it.
            if let Ok(mut partial) = partial.try_lock() {
                drop(partial.settle().await);
            }
        }
    }

    /// Removes them when their time has come, and settles those whose requests broke off, for ever.
    pub async fn keep_removing_stale(&self) -> Infallible {
        let [shortest, longest] = LOOKS;
        loop {
            sleep((self.config.resume / 4).clamp(shortest, longest)).await;
            self.remove_stale();
            self.settle_broken_off().await;
        }
    }

    /// Ready once no file is saved or waits for that, whether or not its client waits too.
    pub async fn all_saved(&self) {
        drop(self.asked.acquire_many(ASKED_MAX).await);
    }

    /// Removes the file of that name, and returns it.
    ///
    /// # Errors
    /// Status 404, or 412 for the precondition.
    pub fn remove(&self, name: &str, precondition: &Precondition) -> Result<File, Refusal> {
        let mut files = self.lock();
        if files.contains_key(name) {
            check(&files, name, precondition)?;
        }
        files.remove(name).ok_or_else(|| Refusal::unknown(name))
    }

    /// The names after `after`, in order, and the lengths of those that are whole: a thousand of them at
    /// most.
    #[must_use]
    pub fn list(&self, after: &str) -> Vec<Value> {
        let describe = |(name, file): (&String, &File)| match file {
            File::Whole(stored) => stored.describe(name),
            File::Partial(_) => json!({ "name": name }),
        };
        let names = (Bound::Excluded(after), Bound::Unbounded);
        self.lock().range::<str, _>(names).take(LISTED_MAX).map(describe).collect()
    }
}

fn check_current(
    files: &BTreeMap<String, File>,
    name: &str,
    partial: &Arc<tokio::sync::Mutex<Partial>>,
) -> Result<(), Refusal> {
    match files.get(name) {
        Some(File::Partial(current)) if Arc::ptr_eq(current, partial) => Ok(()),
        _ => Err(Refusal::new(StatusCode::CONFLICT, "the file was completed, deleted or replaced meanwhile")),
    }
}

fn check(files: &BTreeMap<String, File>, name: &str, precondition: &Precondition) -> Result<(), Refusal> {
    let tag = match files.get(name) {
        Some(File::Whole(stored)) => Some(stored.tag()),
        Some(File::Partial(_)) | None => None,
    };
    precondition.check(tag.as_deref())
}

/// Whether there may be files of these names, which differ, too.
fn check_count<'a>(
    files: &BTreeMap<String, File>,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), Refusal> {
    let new = names.into_iter().filter(|name| !files.contains_key(*name)).count();
    if new > 0 && files.len() + new > FILES_MAX {
        return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, "there are too many files; delete some"));
    }
    Ok(())
}
