//! L10: the clients of one device take turns.
//!
//! What the oracle cannot see is how many turns each client had before it began to look. So it takes that as unknown:
//! while prompts of two clients wait side by side, each first auction says something of how far ahead its client can
//! have been at the start, if it was really its turn. When no number fits what was seen, turns were not taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::wire::Text;
use bidmesh_core::{Submission, Time};

type Client = Option<Text>;

/// Priority and eligible devices: only prompts that have both in common are compared.
type Class = (u8, Option<BTreeSet<DeviceId>>);

/// A prompt whose first auction has not opened.
#[derive(Clone, Debug)]
struct Waiting {
    class: Class,
    client: Client,
    submitted: Time,
    admitted: Time,
    expires: Option<Time>,
}

/// Two clients whose prompts of one class have waited side by side since it was made. Times in nanoseconds; a turn
/// counts as much as `ageing`.
#[derive(Clone, Copy, Debug, Default)]
struct Rivalry {
    /// Turns of the first client, less those of the second.
    lead: i128,
    /// How far ahead the first was at the start: at least, since the second had a turn before it.
    least: Option<i128>,
    /// At most, since the first had one.
    most: Option<i128>,
}

/// The turns of one device's clients, in one start of it.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Its clock, which never goes back.
    now: Time,
    /// When each submission came that was not admitted yet.
    submitted: BTreeMap<u64, Time>,
    waiting: BTreeMap<TaskId, Waiting>,
    lanes: BTreeMap<(Class, Client), BTreeSet<(Time, TaskId)>>,
    /// Their first auction was seen.
    opened: BTreeSet<TaskId>,
    /// The lesser client first.
    rivalries: BTreeMap<(Class, Client, Client), Rivalry>,
}

/// What an auction says of the turns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Both of two clients have had turns while both waited.
    pub(super) competed: bool,
    /// Who was passed over, in words.
    pub(super) unfair: Option<String>,
}

impl Turns {
    pub(super) fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(super) fn submitted(&mut self, ticket: u64) {
        self.submitted.insert(ticket, self.now);
    }

    pub(super) fn admitted(&mut self, task: &TaskId, submission: &Submission) {
        let Some(submitted) = self.submitted.remove(&submission.ticket) else { return };
        let class = (submission.priority.value(), submission.eligible.clone());
        let (client, admitted) = (submission.client.clone(), self.now);
        let expires = submission.deadline.map(|deadline| submitted + deadline);
        self.lanes.entry((class.clone(), client.clone())).or_default().insert((submitted, task.clone()));
        self.waiting.insert(task.clone(), Waiting { class, client, submitted, admitted, expires });
    }

    /// It does not wait any more, or perhaps not.
    pub(super) fn left(&mut self, task: &TaskId) -> bool {
        let Some(Waiting { class, client, submitted, .. }) = self.waiting.remove(task) else { return false };
        let key = (class, client);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.remove(&(submitted, task.clone()));
            if lane.is_empty() {
                self.lanes.remove(&key);
                let (class, client) = key;
                self.rivalries.retain(|(of, a, b), _| *of != class || (*a != client && *b != client));
            }
        }
        true
    }

    /// Who had how many turns is in doubt from here on.
    pub(super) fn doubt(&mut self) {
        self.rivalries.clear();
    }

    /// Nothing is known of what waits either.
    pub(super) fn forget(&mut self) {
        *self = Self { now: self.now, ..Self::default() };
    }

    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// An auction opened.
    pub(super) fn opened(&mut self, task: &TaskId, ageing: Duration) -> Verdict {
        let mut verdict = Verdict::default();
        if !self.opened.insert(task.clone()) {
            // One that comes back costs no turn.
            return verdict;
        }
        let now = self.now;
        let over =
            self.waiting.iter().filter(|(id, it)| *id != task && it.expires.is_some_and(|at| at <= now));
        for task in over.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.left(&task);
        }
        let Some(of) = self.waiting.get(task).cloned() else {
            // It goes on from an earlier start, or a peer asked: nobody knows whose turn it was.
            self.doubt();
            return verdict;
        };
        let turn = i128::try_from(ageing.as_nanos()).unwrap_or(i128::MAX / 1_000_000);
        // Without ageing turns count for nothing.
        if turn > 0 {
            self.compare(task, &of, turn, &mut verdict);
        }
        for ((_, a, b), rivalry) in &mut self.rivalries {
            rivalry.lead += i128::from(*a == of.client) - i128::from(*b == of.client);
        }
        self.left(task);
        verdict
    }

    fn compare(&mut self, task: &TaskId, of: &Waiting, turn: i128, verdict: &mut Verdict) {
        for ((class, client), lane) in &self.lanes {
            if *class != of.class || *client == of.client {
                continue;
            }
            // What was admitted by the same input may have come into the queue behind what it opened.
            let waits = |id: &TaskId| self.waiting.get(id).is_some_and(|it| it.admitted < self.now);
            let Some((since, other)) = lane.iter().find(|(_, id)| waits(id)) else { continue };
            let first = of.client < *client;
            let (a, b) = if first { (&of.client, client) } else { (client, &of.client) };
            let rivalry = self.rivalries.entry((class.clone(), a.clone(), b.clone())).or_default();
            let younger = nanos(*since) - nanos(of.submitted);
            if first {
                let most = younger - turn * rivalry.lead;
                rivalry.most = Some(rivalry.most.map_or(most, |before| before.min(most)));
            } else {
                let least = -younger - turn * rivalry.lead;
                rivalry.least = Some(rivalry.least.map_or(least, |before| before.max(least)));
            }
            let (Some(least), Some(most)) = (rivalry.least, rivalry.most) else { continue };
            verdict.competed = true;
            // One turn is left to doubt.
            if least > most + turn {
                verdict.unfair =
                    Some(format!("{task} opens while {other} of another client waits, whose turn it is"));
            }
        }
    }
}

fn nanos(time: Time) -> i128 {
    i128::try_from(time.since_start().as_nanos()).unwrap_or(i128::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGEING: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Time {
        Time::from_start(Duration::from_secs(seconds))
    }

    fn task(number: usize) -> TaskId {
        TaskId::new(&format!("task_{number}")).unwrap()
    }

    /// Prompts of clients, each with the second when it came; then those numbers open. How many were judged unfair?
    fn unfair(prompts: &[(&str, u64)], order: &[usize]) -> (bool, usize) {
        let mut turns = Turns::default();
        for (number, (client, second)) in prompts.iter().enumerate() {
            turns.tick(at(*second));
            turns.submitted(number as u64);
            let client = Some((*client).into());
            turns.admitted(&task(number), &Submission { client, ..Submission::new(number as u64, "p") });
        }
        turns.tick(at(1_000));
        let verdicts: Vec<_> = order.iter().map(|number| turns.opened(&task(*number), AGEING)).collect();
        let unfair = verdicts.iter().filter(|verdict| verdict.unfair.is_some()).count();
        (verdicts.iter().any(|verdict| verdict.competed), unfair)
    }

    const TWO: [(&str, u64); 8] =
        [("a", 0), ("a", 0), ("a", 0), ("a", 0), ("b", 0), ("b", 0), ("b", 0), ("b", 0)];

    #[test]
    fn turns_are_fair_and_one_after_the_other_is_not() {
        assert_eq!(unfair(&TWO, &[0, 4, 1, 5, 2, 6, 3, 7]), (true, 0));
        assert_eq!(unfair(&TWO, &[0, 1, 2, 4, 3, 5]), (true, 0), "the first may have been two behind");
        let one_after_the_other = unfair(&TWO, &[0, 1, 2, 4, 5, 6, 7]);
        assert_eq!(one_after_the_other, (true, 1), "two behind, it is its turn again before the fourth");
    }

    #[test]
    fn age_outweighs_turns() {
        let prompts = [("a", 0), ("a", 0), ("a", 0), ("b", 100), ("b", 100), ("a", 100)];
        assert_eq!(unfair(&prompts, &[0, 1, 2, 3, 5]), (true, 0), "a hundred seconds are three turns");
    }

    #[test]
    fn what_is_not_known_makes_nobody_unfair() {
        let (competed, unfair) = unfair(&TWO, &[0, 1, 2, 99, 4, 5, 6, 7]);
        assert_eq!((competed, unfair), (false, 0), "99 was never submitted here");
    }
}
