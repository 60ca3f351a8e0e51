//! The store in a file: opens it, sets a damaged one aside, and goes on while the disk is full or cannot be written.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bidmesh_core::config::Limits;
use bidmesh_core::id::TaskId;
use bidmesh_core::input::Written;
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use tokio::sync::mpsc;

use super::books::{Books, Bounds};
use super::format::{FORMAT, MIGRATIONS, Trouble};
use super::medium::{Medium, OnDisk};
use super::reading::Contents;
use super::{DatedDecision, Store};
use crate::clock::{BootClock, Clock};
use crate::files::Error;
use crate::panics;

/// Messages for the log that nobody has read; further ones are dropped.
const NOTICES: usize = 16;

/// Outcomes that could not be written and are written later. Beyond, the oldest is given up.
const OWED_MAX: usize = 1024;

/// What a store keeps, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Whether a commit waits until the disk has it. If not, what was written survives the process, but a loss of
    /// power may cost the newest records, or damage the file.
    pub sync: bool,
    /// How long ended tasks and acknowledged results are remembered.
    pub age: Duration,
    /// How many of them: core's limits of the same things.
    pub limits: StoreLimits,
}

/// How much is kept of what is over. Beyond, the oldest is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// Ended tasks.
    pub ended: usize,
    /// Bytes of their outputs, in all; what these leave is for decision records.
    pub ended_bytes: usize,
    /// Decision records of ended tasks.
    pub decisions: usize,
    /// Acknowledged results that are known again.
    pub forgotten: usize,
}

impl From<&Limits> for StoreLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            ended: limits.closed_tasks,
            ended_bytes: limits.closed_bytes,
            decisions: limits.decisions,
            forgotten: limits.tombstones,
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            sync: true,
            age: Duration::from_secs(7 * 24 * 3600),
            limits: StoreLimits::from(&Limits::default()),
        }
    }
}

/// What the owner of a store should know, as lines of a log: a damaged file was set aside, the disk is full, it is not
/// full any more.
#[derive(Debug)]
pub struct Notices(mpsc::Receiver<String>);

impl Notices {
    /// The next one; `None` once the store is gone. May be cancelled.
    pub async fn next(&mut self) -> Option<String> {
        self.0.recv().await
    }

    /// The next one, if there is one already.
    pub fn already(&mut self) -> Option<String> {
        self.0.try_recv().ok()
    }
}

/// Keeps records in one file. Clones write to the same file.
#[derive(Clone)]
pub struct RedbStore {
    inner: Arc<Mutex<Inner>>,
    keeps: Written,
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("keeps", &self.keeps).finish_non_exhaustive()
    }
}

struct Inner {
    medium: Box<dyn Medium>,
    bounds: Bounds,
    /// `None`: it could not be opened, or a write failed; the next write opens it again.
    books: Option<Books>,
    /// What the file held when it was opened, until it is changed.
    found: Option<Contents>,
    /// Outcomes of which people were told although they could not be written: they are written when that is possible
    /// again, so that a later start does not tell of them anew.
    owed: Vec<(Record, SystemTime)>,
    failing: bool,
    notices: mpsc::Sender<String>,
    wall: Wall,
}

/// What time of day it is.
pub(super) type Wall = Box<dyn Fn() -> SystemTime + Send>;

impl RedbStore {
    /// Opens the file at `path`, or makes it. Blocks while it is read.
    ///
    /// A damaged file is renamed, and what can be read of it goes into a new one. A file that cannot be written is
    /// read all the same; writes fail until it can be. Both are told by [`Notices`].
    ///
    /// # Errors
    /// If a later version of bidmesh wrote the file, or if it can neither be read nor moved away.
    pub fn open(path: impl AsRef<Path>, options: StoreOptions) -> Result<(Self, Notices), Error> {
        let path = path.as_ref();
        let medium = Box::new(OnDisk { path: path.into(), sync: options.sync });
        // Looked at once: setting the clock while the device runs makes nothing older.
        let (opened, clock) = (SystemTime::now(), BootClock::new());
        let wall = move || opened.checked_add(clock.now().since_start()).unwrap_or(opened);
        Self::over(medium, path, options, Box::new(wall))
    }

    pub(super) fn over(
        medium: Box<dyn Medium>,
        path: &Path,
        options: StoreOptions,
        wall: Wall,
    ) -> Result<(Self, Notices), Error> {
        let StoreLimits { ended, ended_bytes, decisions, forgotten } = options.limits;
        let bounds = Bounds { ended, ended_bytes, decisions, forgotten, age: options.age };
        let (notices, receiver) = mpsc::channel(NOTICES);
        let mut inner = Inner {
            medium,
            bounds,
            books: None,
            found: None,
            owed: Vec::new(),
            failing: false,
            notices,
            wall,
        };
        inner.begin(path)?;
        let keeps = if options.sync { Written::Durable } else { Written::Kept };
        Ok((Self { inner: Arc::new(Mutex::new(inner)), keeps }, Notices(receiver)))
    }

    /// Does something that blocks, elsewhere.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Inner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let inner = Arc::clone(&self.inner);
        let work = move || {
            // A panic of the database closes it: `books` is put back only after a success.
            let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut inner)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn load(&self) -> io::Result<Restored> {
        self.blocking(|inner| {
            let now = (inner.wall)();
            let found = match inner.found.take() {
                Some(found) => found,
                None => inner.reopen().or_else(|error| inner.copy(error).map(|(_, found)| found))?,
            };
            Ok(found.restored(now))
        })
        .await
    }

    async fn write(&self, records: Vec<Record>) -> io::Result<()> {
        self.write_with(records, Vec::new()).await
    }

    async fn write_with(&self, records: Vec<Record>, decisions: Vec<DatedDecision>) -> io::Result<()> {
        self.blocking(move |inner| inner.write(records, &decisions)).await
    }

    async fn decision(&self, task: &TaskId) -> io::Result<Option<DatedDecision>> {
        let task = task.clone();
        self.blocking(move |inner| inner.read(|books| books.decision(task.as_str()))).await
    }

    async fn decisions(&self) -> io::Result<Vec<DatedDecision>> {
        self.blocking(|inner| inner.read(Books::decisions)).await
    }

    fn keeps(&self) -> Written {
        self.keeps
    }
}

impl Inner {
    /// The first opening: decides what becomes of a file that is not as it should be.
    fn begin(&mut self, path: &Path) -> Result<(), Error> {
        match self.open() {
            Ok((books, found)) if found.unreadable == 0 => {
                (self.books, self.found) = (Some(books), Some(found));
                Ok(())
            }
            Ok((books, found)) => {
                // They are for people only: without them it goes on as well.
                let decisions = shielded(|| books.decisions()).unwrap_or_default();
                drop(books);
                let why = format!("{} of its records cannot be read", found.unreadable);
                self.begin_anew(path, &why, found, &decisions)
            }
            Err(Trouble::Damaged(why)) => self.begin_anew(path, &why, Contents::default(), &[]),
            Err(Trouble::Newer(format)) => Err(Error::file(
                path,
                format!(
                    "a later version of bidmesh wrote it (format {format}; this one reads up to {FORMAT})"
                ),
                "use that version, or move the file away to begin without what it holds",
            )),
            Err(Trouble::Io(error)) => {
                self.fail(&error);
                self.begin_without_writing(path, error)
            }
        }
    }

    /// A damaged file goes out of the way; what could be read of it goes into a new one. As long as there is no room for
    /// that, it stays where it is: a later start must find what this one found.
    fn begin_anew(
        &mut self,
        path: &Path,
        why: &str,
        readable: Contents,
        decisions: &[DatedDecision],
    ) -> Result<(), Error> {
        let damaged = format!("{} is damaged ({why})", path.display());
        let moved = |error: io::Error| Error::io(path, "moved away", &error);
        let aside = self.medium.set_aside().map_err(moved)?;
        let renamed = format!("{damaged}: it was renamed to {}", aside.display());
        let saved = readable.records.len();
        let opened = self.open().and_then(|(mut books, _)| {
            let now = (self.wall)();
            let records = readable.records.iter().map(|(record, at)| (record, *at));
            books.write(records, decisions, now).map(|()| books)
        });
        match opened {
            Ok(books) => {
                self.tell(format!("{renamed}, and {saved} of its records go on in a new one"));
                self.books = Some(books);
            }
            Err(Trouble::Io(error)) => {
                if saved == 0 {
                    self.tell(renamed);
                } else {
                    self.medium.put_back(&aside).map_err(moved)?;
                    self.tell(format!(
                        "{damaged}: {saved} of its records go on in it until the next start, which makes a new one if there is room"
                    ));
                }
                self.fail(&error);
            }
            Err(trouble) => return Err(Error::io(path, "written anew", &trouble.into())),
        }
        self.found = Some(Contents { unreadable: 0, ..readable });
        Ok(())
    }

    /// The disk is full or read-only: what is there is served, what is new is refused.
    fn begin_without_writing(&mut self, path: &Path, error: io::Error) -> Result<(), Error> {
        let copied = self.copy(error).map_err(|error| Error::io(path, "opened", &error))?;
        self.found = Some(copied.1);
        Ok(())
    }

    /// Reads a file that cannot be opened for writing; the same error if it cannot be read either.
    fn copy(&self, error: io::Error) -> io::Result<(Option<Books>, Contents)> {
        match self.medium.copy() {
            Ok(None) => Ok((None, Contents::default())),
            Ok(Some(bytes)) => {
                let opened = shielded(|| Books::open(bytes, self.bounds, MIGRATIONS));
                opened.map(|(books, found)| (Some(books), found)).map_err(|_| error)
            }
            Err(_) => Err(error),
        }
    }

    /// Looks something up; in a copy if the file cannot be written.
    fn read<T: Default>(&mut self, look: impl Fn(&Books) -> Result<T, Trouble>) -> io::Result<T> {
        if self.books.is_none()
            && let Err(error) = self.reopen()
        {
            return match self.copy(error)?.0 {
                Some(books) => Ok(shielded(|| look(&books))?),
                None => Ok(T::default()),
            };
        }
        // As in `try_write`.
        let Some(books) = self.books.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let (books, looked_up) = shielded(move || look(&books).map(|looked_up| (books, looked_up)))?;
        self.books = Some(books);
        Ok(looked_up)
    }

    fn open(&self) -> Result<(Books, Contents), Trouble> {
        let bytes = self.medium.open().map_err(Trouble::Io)?;
        shielded(|| Books::open(bytes, self.bounds, MIGRATIONS))
    }

    /// Opens what was closed by an error. The file may be found damaged then; it is left as it is until the next start.
    fn reopen(&mut self) -> io::Result<Contents> {
        self.books = None;
        let (books, found) = self.open()?;
        self.books = Some(books);
        Ok(found)
    }

    fn write(&mut self, records: Vec<Record>, decisions: &[DatedDecision]) -> io::Result<()> {
        let now = (self.wall)();
        let result = self.try_write(&records, decisions, now);
        match &result {
            Ok(()) => {
                (self.owed, self.found) = (Vec::new(), None);
                if std::mem::take(&mut self.failing) {
                    self.tell("the store can be written again".into());
                }
            }
            Err(error) => {
                self.fail(error);
                let outcomes = records.into_iter().filter(|record| matches!(record, Record::Outcome { .. }));
                self.owed.extend(outcomes.map(|record| (record, now)));
                let beyond = self.owed.len().saturating_sub(OWED_MAX);
                self.owed.drain(..beyond);
            }
        }
        result
    }

    fn try_write(
        &mut self,
        records: &[Record],
        decisions: &[DatedDecision],
        now: SystemTime,
    ) -> io::Result<()> {
        if self.books.is_none() {
            self.reopen()?;
        }
        // Taken out: after an error, or a panic, the file is opened again.
        let Some(mut books) = self.books.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let owed = self.owed.iter().map(|(record, at)| (record, *at));
        let all = owed.chain(records.iter().map(|record| (record, now)));
        let books = shielded(move || books.write(all, decisions, now).map(|()| books))?;
        self.books = Some(books);
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            self.tell(format!(
                "the store cannot be written: {error}; new prompts are refused until it can be, what runs goes on"
            ));
        }
    }

    fn tell(&self, notice: String) {
        // Sixteen that nobody reads say enough.
        let _ = self.notices.try_send(notice);
    }
}

/// Redb finds some kinds of damage by a panic.
fn shielded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panics::said(panic.as_ref()).unwrap_or("no message");
        Err(Trouble::Damaged(said.lines().next().unwrap_or_default().to_owned()))
    })
}

impl From<Trouble> for io::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Io(error) => error,
            Trouble::Damaged(why) => Self::new(io::ErrorKind::InvalidData, why),
            Trouble::Newer(format) => Self::new(
                io::ErrorKind::InvalidData,
                format!("a later version of bidmesh wrote it (format {format})"),
            ),
        }
    }
}
