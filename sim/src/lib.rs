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
//! - a peer is a driver, or a shell device with one of five netcats ([`ShellPeer`]); a [`Caller`] writes whatever bytes a
//!   test likes, a [`Puppet`] whatever messages;
//! - a connection exists only once it is accepted: a shell device's backlog accepts, and never reads.

pub mod campaign;
pub mod invariants;
pub mod report;
pub mod scenario;
pub mod story;
pub mod world;

mod caller;
mod disk;
// One model of a shell's tools for the codec's tests, the fuzz targets, the worlds and the socket tier; core does not offer it.
#[path = "../../core/tests/support/shell.rs"]
mod echo;
mod host;
mod mesh;
pub mod model;
mod netcat;
mod page;
mod probe;
mod puppet;
mod record;
mod script;
mod seeds;
mod shell_peer;
mod sockets;
mod turn;

pub use caller::{Call, Caller, Hung};
pub use host::Plan;
pub use mesh::{Builder, Loss, Mesh};
pub use netcat::Netcat;
pub use probe::{Ask, Asked};
pub use puppet::{Puppet, Reply};
pub use record::{Entry, What};
pub use script::{Act, answer};
pub use seeds::{Known, known_seeds, seeds};
pub use shell_peer::{Shell, ShellPeer};
pub use sockets::{Piecemeal, Roughness, TurmoilSockets};
pub use world::choices::Choices;
