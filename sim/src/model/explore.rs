//! Exploring a mesh to its end, and saying what was found.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stateright::{Checker, Model};

use super::{Marks, Mesh, MeshModel, Step, World};

/// An exploration that came to its end.
#[derive(Debug)]
pub struct Explored {
    /// What was explored.
    pub mesh: Mesh,
    /// Different states.
    pub states: usize,
    /// Transitions.
    pub transitions: usize,
    /// The longest way from the beginning.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// What happened on the way.
    pub marks: Arc<Marks>,
    /// The way to each rule that was broken, in words.
    pub broken: Vec<String>,
    /// Whether the time was up before all was seen.
    pub cut_off: bool,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.cut_off { "NOT EXHAUSTED" } else { "exhausted" };
        writeln!(
            f,
            "{}: {} states, {} transitions, depth {}, {:.1} s, {end}",
            self.mesh,
            self.states,
            self.transitions,
            self.depth,
            self.took.as_secs_f64()
        )?;
        write!(f, "    {}", self.marks)?;
        self.broken.iter().try_for_each(|broken| write!(f, "\n{broken}"))
    }
}

/// Explores every state of `mesh`, on `threads` threads, for `limit` at most.
pub fn explore(mesh: Mesh, threads: usize, limit: Duration) -> Explored {
    let model = MeshModel::new(mesh);
    let marks = Arc::clone(model.marks());
    let began = Instant::now();
    let checker = model.checker().threads(threads).timeout(limit).spawn_bfs().join();
    let took = began.elapsed();
    let mut broken = Vec::new();
    for (rule, path) in checker.discoveries() {
        let words =
            |(world, step): (World, Option<Step>)| step.map(|step| format!("    {}", world.tell(&step)));
        let steps: Vec<String> = path.into_vec().into_iter().filter_map(words).collect();
        broken.push(format!("BROKEN: {rule}, after\n{}", steps.join("\n")));
    }
    broken.sort();
    Explored {
        mesh,
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        depth: checker.max_depth(),
        took,
        marks,
        broken,
        // `is_done` is true after a time-out, too.
        cut_off: took >= limit,
    }
}
