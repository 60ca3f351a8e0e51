//! A shell device, as little of it as the model needs: it answers a BID_REQUEST with a bid that names no task, runs
//! one TASK at a time and is deaf meanwhile, never recognises a copy, and knows no other type.

use bidmesh_core::wire::{Bid, Body, Status, TaskOrder, TaskResult};

/// What a shell device does at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Shell {
    /// Whose task it runs, and which.
    pub(super) runs: Option<(u8, TaskOrder)>,
}

impl Shell {
    /// Reads a message; returns what it answers at once.
    pub(super) fn reads(&mut self, from: u8, body: &Body) -> Option<Body> {
        match body {
            Body::BidRequest(_) => Some(Body::BidResponse(Bid::default())),
            Body::Task(order) => {
                self.runs = Some((from, order.clone()));
                None
            }
            _ => None,
        }
    }

    /// RESULT with this output; an error without one.
    pub(super) fn result(order: &TaskOrder, output: Option<String>) -> Body {
        let status = if output.is_some() { Status::Completed } else { Status::Error };
        let output = output.unwrap_or_else(|| "SLM not available".into()).into();
        Body::Result(TaskResult {
            award: order.award.clone(),
            device: None,
            status,
            output,
            output_was_not_utf8: false,
            speed: None,
        })
    }
}
