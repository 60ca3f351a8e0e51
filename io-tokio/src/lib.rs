//! What a device touches: TCP, processes, model servers, sensors, files; and the [`driver`] that runs
//! [`bidmesh_core`] on them. What core decides is core's; nothing here decides anything about the mesh.

pub mod clock;
pub mod driver;
pub mod execute;
pub mod files;
pub mod http;
pub mod network;
mod panics;
pub mod sensors;
pub mod sockets;
pub mod store;
