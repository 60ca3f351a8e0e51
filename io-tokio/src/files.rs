//! The files of the mesh directory: the shell mesh's own, which shell devices read and write too, and bidmesh's
//! settings.
//!
//! Read tolerantly: what shell scripts and people leave there (empty lines, comments, CR LF, addresses that nobody
//! knows) is no error. What cannot be understood is one that names file and line, and such a file is never
//! overwritten. Written atomically. [`Watcher`] tells of edits made by hand.

mod atomic;
mod device_config;
mod device_map;
mod directory;
mod entry;
mod error;
mod lock;
mod my_info;
mod peers;
pub mod settings;
mod watch;

pub use device_config::DeviceConfig;
pub use device_map::{DeviceMap, MappedDevice};
pub use directory::MeshDirectory;
pub use error::{Error, Place};
pub use lock::DirectoryLock;
pub use my_info::MyInfo;
pub use peers::PeersFile;
pub use settings::{Overrides, Settings};
pub use watch::{FileChanged, Watcher};
