//! How the device is: load, memory, battery, heat, NPU. Sampled in the background, never while a bid waits; every
//! value may be unknown, and what is unknown ranks last.

use async_trait::async_trait;
use bidmesh_core::input::Sensors as Reading;

/// Reads what can be measured.
#[async_trait]
pub trait Sensors: Send + Sync {
    /// One reading. May take a while (some batteries answer late), never panics.
    async fn read(&self) -> Reading;
}
