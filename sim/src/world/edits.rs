//! People edit peers.txt while the mesh works.

use bidmesh_core::Input;

use super::choices::Choices;
use super::{Happens, World};

impl World {
    /// In some worlds people take devices out of their peers.txt, and write them in again later.
    pub(super) fn plan_edits(&mut self, storm: u64) {
        let mut choices = Choices::split(self.plan.seed, "edits");
        let many = self.nodes.len();
        let edits = if self.plan.edited { 1 + choices.index(4) } else { 0 };
        for _ in 0..edits {
            let (node, other) = (choices.index(many), choices.index(many));
            let (out, again) = (choices.millis(1_000, storm / 2), choices.millis(1_000, storm / 2));
            if node != other {
                self.later(out, Happens::Edits(node, Some(other)));
                self.later(out + again, Happens::Edits(node, None));
            }
        }
    }

    pub(super) fn edits(&mut self, node: usize, without: Option<usize>) {
        if !self.stormy() || !self.is_on(node) {
            return;
        }
        let mut lines = self.lines_for(node);
        if let Some(out) = without {
            let out = &self.nodes[out].id;
            lines.retain(|(device, _)| device != out);
        }
        self.feed(node, Input::PeersEdited(lines));
    }
}
