//! Small meshes explored to the end: every order of deliveries, every loss, copy, crash and lateness within a budget.
//!
//! The devices are the real ones of `bidmesh_core`; the network is a set of typed messages, and a store writes at
//! once or, in a mesh with a slow one, as a step of its own. Time is each device's own: it passes for one device alone when that is woken early (a budget), and for all
//! of them alike when nothing else can happen. A state holds [`Canonical`](bidmesh_core::canonical) devices, so
//! that paths which did the same things in another order meet again.
//!
//! What is not in the model: a bid never grows too old on its bidder's clock (a canonical device's clock stands
//! still), text while it is generated beyond one piece, orchestrators that crash, and more than one shell device's
//! worth of netcat (`shell`).

use std::sync::Arc;

use stateright::{Model, Property};

mod explore;
mod rules;
mod settings;
mod shell;
mod world;

pub use explore::{Explored, explore};
pub use rules::{Mark, Marks, Rule};
pub use settings::{Budgets, Mesh};
pub use world::{Step, World};

/// A mesh as stateright explores it.
#[derive(Clone, Debug)]
pub struct MeshModel {
    mesh: Mesh,
    marks: Arc<Marks>,
}

impl MeshModel {
    /// The model of `mesh`.
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, marks: Arc::default() }
    }

    /// What happened at least once so far.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }
}

impl Model for MeshModel {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World::begin(&self.mesh, &self.marks)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken().is_none() {
            world.steps(steps);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(world.after(&self.mesh, &self.marks, &step))
    }

    fn format_step(&self, world: &World, step: Step) -> Option<String> {
        Some(world.tell(&step))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // One for each rule, so that the name says which was broken; all of them hold in every state or the run fails.
        macro_rules! rules {
            ($($rule:ident),* $(,)?) => {
                vec![$(Property::<Self>::always(
                    Rule::$rule.words(),
                    |_, world: &World| world.broken() != Some(Rule::$rule),
                )),*]
            };
        }
        rules![
            Invariants,
            OneOutcome,
            TrueAnswer,
            OwnAward,
            RunsOnce,
            OneAttempt,
            EndsAtAll,
            NothingRuns,
            NothingOwed
        ]
    }
}
