//! What survives the process. [`NoStore`] keeps nothing: a device that lives loses nothing it accepted.
//! [`RedbStore`] keeps everything in one file, `store.redb` of the mesh directory.
//!
//! | module | is |
//! | --- | --- |
//! | `stored` | records as they are written: the encoding that a later version must read |
//! | `books` | the tables of the file: what a record changes there, what is dropped, the format's version |
//! | `redb` | the store: opens the file, sets a damaged one aside, goes on while the disk is full |
//! | `medium` | the file below the database |

mod books;
mod medium;
mod redb;
mod stored;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use bidmesh_core::input::Written;
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;

pub use self::redb::{Notices, RedbStore, StoreLimits, StoreOptions};

/// Keeps records.
#[async_trait]
pub trait Store: Send + Sync {
    /// What earlier starts left, oldest first.
    async fn load(&self) -> std::io::Result<Restored>;

    /// Writes records, in order, all of them or none; kept as [`Store::keeps`] says when it returns.
    async fn write(&self, records: Vec<Record>) -> std::io::Result<()>;

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
