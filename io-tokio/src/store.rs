//! What survives the process. The default keeps nothing: a device that lives loses nothing it accepted.

use async_trait::async_trait;
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;

/// Keeps records.
#[async_trait]
pub trait Store: Send + Sync {
    /// What earlier starts left, oldest first.
    async fn load(&self) -> std::io::Result<Restored>;

    /// Writes records, in order, all of them or none; durable when it returns.
    async fn write(&self, records: Vec<Record>) -> std::io::Result<()>;

    /// Whether what was written is there after a loss of power.
    fn is_durable(&self) -> bool {
        true
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

    fn is_durable(&self) -> bool {
        false
    }
}
