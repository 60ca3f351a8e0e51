//! A disk that outlives its device. A write that is under way when the device dies never happened.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use bidmesh_io_tokio::store::Store;

use crate::probe::locked;

/// How long a write takes until it is durable.
const WRITE: Duration = Duration::from_millis(3);

/// Records, each with the moment at which it was durable.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<Vec<(Record, Duration)>>>);

#[async_trait]
impl Store for Disk {
    async fn load(&self) -> std::io::Result<Restored> {
        let now = now();
        let aged = |(record, at): &(Record, Duration)| (record.clone(), now.saturating_sub(*at));
        Ok(Restored { records: locked(&self.0).iter().map(aged).collect() })
    }

    async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
        tokio::time::sleep(WRITE).await;
        locked(&self.0).extend(records.into_iter().map(|record| (record, now())));
        Ok(())
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}
