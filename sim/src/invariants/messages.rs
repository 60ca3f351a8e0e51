//! S11: how many messages one input may cause.

use std::collections::BTreeMap;

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::Body;
use bidmesh_core::{Action, Outbox};

use super::Oracle;
use super::books::{self, View};

/// New letters of one input. After sleep many old ones are tried again by one wake: those do not count.
#[derive(Debug, Default)]
struct Letters<'a> {
    by_task: BTreeMap<&'a str, usize>,
    /// HELLO, DISCOVER and BYE, by receiver.
    greetings: BTreeMap<&'a DeviceId, usize>,
    progress: usize,
    /// SLM_RESULT.
    answers: usize,
    /// TEXT and SLM_PROMPT.
    words: usize,
    /// To whoever's message it was, and is not known.
    to_stranger: usize,
}

impl<'a> Letters<'a> {
    fn of(view: &View, out: &'a Outbox) -> Self {
        let mut letters = Self::default();
        for action in &out.actions {
            let Action::Send { id, device, message, .. } = action else { continue };
            if view.failed_sends.contains(id) {
                continue;
            }
            letters.to_stranger += usize::from(view.stranger.as_ref() == Some(device));
            match &message.body {
                Body::Hello(_) | Body::Discover(_) | Body::Bye => {
                    *letters.greetings.entry(device).or_default() += 1;
                }
                Body::Progress(_) => letters.progress += 1,
                Body::SlmResult(_) => letters.answers += 1,
                Body::Text(_) | Body::SlmPrompt(_) => letters.words += 1,
                body => {
                    if let Some(task) = books::task_of(body) {
                        *letters.by_task.entry(task).or_default() += 1;
                    }
                }
            }
        }
        letters
    }

    /// What is too much, in words.
    fn excess(&self, view: &View) -> Option<String> {
        let peers = view.most_peers;
        if let Some((task, count)) = self.by_task.iter().find(|(_, count)| **count > peers + 2) {
            Some(format!("{count} messages of {task}, with {peers} peers"))
        } else if let Some((peer, count)) = self.greetings.iter().find(|(_, count)| **count > peers + 2) {
            Some(format!("{count} greetings to {peer}"))
        } else if self.progress > view.runs.len() + 1 {
            Some(format!("{} PROGRESS, with {} runs", self.progress, view.runs.len()))
        } else if self.answers > view.runs.len() + 1 {
            Some(format!("{} SLM_RESULT, with {} runs", self.answers, view.runs.len()))
        } else if self.words > usize::from(view.says) {
            Some("words of a person, who said nothing".into())
        } else if self.to_stranger > 1 {
            Some(format!("{} messages to a stranger", self.to_stranger))
        } else {
            None
        }
    }
}

impl Oracle {
    /// Counts the messages of an input, and those of each task.
    pub(super) fn counted(&mut self, node: usize, out: &Outbox) {
        if out.actions.is_empty() {
            return;
        }
        let view = &self.views[node];
        let excess = Letters::of(view, out).excess(view);
        for action in &out.actions {
            if let Action::Send { message, .. } = action
                && let Some(task) = books::task_of(&message.body)
            {
                match self.messages.get_mut(task) {
                    Some(count) => *count += 1,
                    None => {
                        self.messages.insert(task.into(), 1);
                    }
                }
            }
        }
        if let Some(excess) = excess {
            let id = self.views[node].id.clone();
            self.violate("S11", || format!("one input of {id} caused {excess}"));
        }
    }
}
