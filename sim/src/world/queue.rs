//! What is still to happen, in order: by time, then in the order in which it was decided.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::Happens;

/// The heap holds small keys; what happens lies in slots that are used again.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    slots: Vec<Option<Happens>>,
    free: Vec<usize>,
    order: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Duration, what: Happens) {
        self.order += 1;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = Some(what);
                slot
            }
            None => {
                self.slots.push(Some(what));
                self.slots.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.order, slot)));
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, Happens)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let what = self.slots[slot].take()?;
        Some((at, what))
    }
}
