//! What survives the process. [`NoStore`] keeps nothing: a device that lives loses nothing it accepted.
//! [`RedbStore`] keeps everything in one file, `store.redb` of the mesh directory.
//!
//! | module | is |
//! | --- | --- |
//! | `stored` | records as they are written: the encoding that a later version must read |
//! | `format` | which tables the file has, and how that of an earlier version is brought to this one's |
//! | `books` | what a record changes in the tables, and what is dropped |
//! | `reading` | what the file holds when it is opened |
//! | `redb` | the store: opens the file, sets a damaged one aside, goes on while the disk is full |
//! | `medium` | the file below the database |

mod books;
mod format;
mod medium;
mod reading;
mod redb;
mod stored;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use async_trait::async_trait;
use bidmesh_core::decision::Decision;
use bidmesh_core::id::TaskId;
use bidmesh_core::input::Written;
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;

pub use self::redb::{Notices, RedbStore, StoreLimits, StoreOptions};

/// The decision record of a task that has ended, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatedDecision {
    /// Its moments are of the start of the device in which they were: only the time between two of them says anything
    /// later.
    pub decision: Decision,
    /// When the task was submitted, by the wall clock.
    pub submitted: SystemTime,
}

/// Keeps records, and for people decision records.
#[async_trait]
pub trait Store: Send + Sync {
    /// What earlier starts left, oldest first.
    async fn load(&self) -> std::io::Result<Restored>;

    /// Writes records, in order, all of them or none; kept as [`Store::keeps`] says when it returns.
    async fn write(&self, records: Vec<Record>) -> std::io::Result<()>;

    /// As [`Store::write`], and with the records decision records of ended tasks, whose outcomes were written before.
    /// Nobody depends on these: a store may leave them out, as this one does, and those of tasks that it does not know.
    async fn write_with(&self, records: Vec<Record>, _decisions: Vec<DatedDecision>) -> std::io::Result<()> {
        if records.is_empty() { Ok(()) } else { self.write(records).await }
    }

    /// The decision record of a task, if it is kept.
    async fn decision(&self, _task: &TaskId) -> std::io::Result<Option<DatedDecision>> {
        Ok(None)
    }

    /// All decision records that are kept, in the order in which their tasks were submitted.
    async fn decisions(&self) -> std::io::Result<Vec<DatedDecision>> {
        Ok(Vec::new())
    }

    /// How well it keeps what was written without an error.
    fn keeps(&self) -> Written {
        Written::Durable
    }
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStore;

#[async_trait]
impl Store for NoStore {
    async fn load(&self) -> std::io::Result<Restored> {
        Ok(Restored::default())
    }

    async fn write(&self, _records: Vec<Record>) -> std::io::Result<()> {
        Ok(())
    }

    fn keeps(&self) -> Written {
        Written::NotKept
    }
}
