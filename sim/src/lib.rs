//! Worlds of many devices, in three tiers. [`model`] explores small meshes to the end. [`world`] is a queue of events
//! over `bidmesh-core` alone: any number of devices, every kind of fault, hundreds of worlds a second (`bidmesh-sim`).
//! The rest is the socket tier: the real driver, codec and TCP code of [`bidmesh_io_tokio`], each device on a host of
//! its own in turmoil's simulated network. One seed is one world: two runs of it are the same, byte for byte.
//!
//! A test builds a [`Mesh`], asks it prompts, does harm between two moments of simulated time, and waits for what
//! must happen. Every world is checked at its end ([`Mesh::check`]).
//!
//! What turmoil cannot express, or expresses wrongly, and what stands for it here:
//! - `partition` looks like a refusal, at once; a link that goes silent is [`Mesh::hold`];
//! - a crash says goodbye to the peers; a flat battery does not: [`Mesh::power_off`];
//! - a read returns what one write wrote; [`TurmoilSockets`] hands it out in pieces, and on a rough host
//!   ([`Plan::rough`]) writes are split, delayed and cut off too;
//! - a peer is a driver; a [`Caller`] writes whatever bytes a test likes, a [`Puppet`] whatever messages.

pub mod campaign;
pub mod invariants;
pub mod report;
pub mod scenario;
pub mod story;
pub mod world;

mod caller;
mod disk;
// One model of a shell's tools for the codec's tests, the fuzz targets and the worlds; core does not offer it.
#[path = "../../core/tests/support/shell.rs"]
mod echo;
mod mesh;
pub mod model;
mod page;
mod probe;
mod puppet;
mod record;
mod script;
mod seeds;
mod sockets;
mod turn;

pub use caller::{Call, Caller, Hung};
pub use mesh::{Builder, Loss, Mesh, Plan};
pub use probe::{Ask, Asked};
pub use puppet::{Puppet, Reply};
pub use record::{Entry, What};
pub use script::{Act, answer};
pub use seeds::{Known, known_seeds, seeds};
pub use sockets::{Piecemeal, Roughness, TurmoilSockets};
