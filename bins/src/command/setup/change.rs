//! What `setup` changed on a phone, for the report and for what follows from it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use bidmesh_core::id::DeviceId;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Program(PathBuf),
    Model(String),
    Name(DeviceId),
    Npu(bool),
    Runner(String),
    Peer(DeviceId, SocketAddr),
    /// A file of the mesh directory that was written as a whole.
    File(&'static str),
    Started,
    StartedAnew,
}

impl Change {
    /// Whether a running device learns of it only when it starts. Its address book and the like it reads by itself.
    pub const fn counts_at_start(&self) -> bool {
        match self {
            Self::Program(_) | Self::Model(_) | Self::Name(_) | Self::Npu(_) | Self::Runner(_) => true,
            Self::Peer(..) | Self::File(_) | Self::Started | Self::StartedAnew => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(path) => write!(f, "program {}", path.display()),
            Self::Model(name) => write!(f, "model {name}"),
            Self::Name(id) => write!(f, "name {id}"),
            Self::Npu(npu) => write!(f, "has_npu {npu}"),
            Self::Runner(spec) => write!(f, "prompts run by {spec}"),
            Self::Peer(id, address) => write!(f, "peer {id} at {address}"),
            Self::File(name) => f.write_str(name),
            Self::Started => f.write_str("started"),
            Self::StartedAnew => f.write_str("started anew"),
        }
    }
}
