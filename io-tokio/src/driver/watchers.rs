//! Who waits for what: submissions that wait to be taken on, things said that wait to be delivered, and the answers
//! that tasks' watchers look at.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::Ticket;
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record, Unsaid};
use bidmesh_core::restore::Restored;
use bidmesh_core::{Device, Input, Report};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Answer, Broken, Following, Refused};

type Submitter = oneshot::Sender<Result<Following, Refused>>;
type Sayer = oneshot::Sender<Option<Unsaid>>;

/// How long whoever watched a task may take to come back after the device was started again.
const RETURN: Duration = Duration::from_secs(30);

/// Its size is bounded by core's open tasks and by the requests that wait for an answer.
#[derive(Default)]
pub(super) struct Watchers {
    tickets: Ticket,
    submitted: BTreeMap<Ticket, (bool, Submitter)>,
    said: BTreeMap<Ticket, Sayer>,
    open: BTreeMap<TaskId, Watched>,
    /// For each attached task, a wait for its last watcher to leave.
    deserted: FuturesUnordered<BoxFuture<'static, TaskId>>,
}

struct Watched {
    answer: Arc<watch::Sender<Answer>>,
    position: usize,
    attached: bool,
}

impl Watched {
    fn new(position: usize, attached: bool) -> Self {
        Self { answer: Arc::new(watch::Sender::new(Answer::default())), position, attached }
    }

    fn follow(&self, task: TaskId) -> Following {
        following(task, self.position, self.answer.subscribe())
    }
}

impl Watchers {
    /// Tasks of an earlier start are open and have no watcher. Who watched an attached one has [`RETURN`] to come
    /// back: a restart of the device is no reason to give up.
    pub(super) fn new(restored: &Restored) -> Self {
        let mut this = Self::default();
        for (record, _) in &restored.records {
            match record {
                Record::Task { task, attached, .. } => {
                    this.open.insert(task.clone(), Watched::new(0, *attached));
                }
                Record::Outcome { task, .. } => {
                    this.open.remove(task);
                }
                Record::Award { .. }
                | Record::Started { .. }
                | Record::Kept { .. }
                | Record::Forgotten { .. }
                | Record::Paused { .. }
                | Record::Resumed => {}
            }
        }
        let until = Instant::now() + RETURN;
        for (task, watched) in this.open.iter().filter(|(_, watched)| watched.attached) {
            let (task, answer) = (task.clone(), Arc::clone(&watched.answer));
            this.deserted.push(Box::pin(async move {
                tokio::time::sleep_until(until).await;
                last_left(task, answer).await
            }));
        }
        this
    }

    pub(super) fn submits(&mut self, attached: bool, submitter: Submitter) -> Ticket {
        let ticket = self.ticket();
        self.submitted.insert(ticket, (attached, submitter));
        ticket
    }

    pub(super) fn says(&mut self, sayer: Sayer) -> Ticket {
        let ticket = self.ticket();
        self.said.insert(ticket, sayer);
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.wrapping_add(1);
        self.tickets
    }

    /// Another watcher of a task, from the answer's beginning.
    pub(super) fn follow(&self, task: TaskId, device: &Device) -> Option<Following> {
        match (self.open.get(&task), device.outcome(&task)) {
            (Some(watched), _) => Some(watched.follow(task)),
            (None, Some(outcome)) => Some(closed(task, outcome)),
            (None, None) => None,
        }
    }

    /// Tells whoever is owed it.
    pub(super) fn report(&mut self, report: Report, device: &Device) {
        match report {
            Report::Admitted { ticket, task, position } => self.admitted(ticket, task, position, device),
            Report::Refused { ticket, why, retry_after_ms } => {
                if let Some((_, submitter)) = self.submitted.remove(&ticket) {
                    // A submitter that is gone needs no answer; the same below.
                    let _ = submitter.send(Err(Refused { why, retry_after_ms }));
                }
            }
            Report::Text { task, device, offset, text } => {
                self.change(&task, |answer| text_told(answer, device, offset, &text))
            }
            Report::BrokenOff { task, device, shown, why } => self.change(&task, |answer| {
                answer.breaks.push(Broken { device, shown, why: why.as_ref().into() });
                answer.device = None;
                answer.text.clear();
            }),
            Report::Outcome { task, outcome } => {
                self.change(&task, |answer| answer.outcome = Some(outcome));
                // Watchers keep what they look at; whoever comes later gets the outcome from the device.
                self.open.remove(&task);
            }
            Report::Said { ticket, to: _, failure } => {
                if let Some(sayer) = self.said.remove(&ticket) {
                    let _ = sayer.send(failure);
                }
            }
        }
    }

    fn admitted(&mut self, ticket: Ticket, task: TaskId, position: usize, device: &Device) {
        let Some((attached, submitter)) = self.submitted.remove(&ticket) else { return };
        // A submission with a known key joins a task, which may be over.
        if !self.open.contains_key(&task)
            && let Some(outcome) = device.outcome(&task)
        {
            let _ = submitter.send(Ok(Following { joined: true, ..closed(task, outcome) }));
            return;
        }
        let joined = self.open.contains_key(&task);
        let watched = match self.open.entry(task.clone()) {
            Entry::Vacant(entry) => {
                let watched = entry.insert(Watched::new(position, attached));
                if attached {
                    self.deserted.push(Box::pin(last_left(task.clone(), Arc::clone(&watched.answer))));
                }
                watched
            }
            Entry::Occupied(entry) => {
                let watched = entry.into_mut();
                // A task goes on without watchers if any of those who joined it wants that.
                watched.attached &= attached;
                watched
            }
        };
        let following = Following { joined, ..watched.follow(task) };
        // If the submitter is gone, this drops the task's first watcher, which cancels it if it is attached.
        let _ = submitter.send(Ok(following));
    }

    fn change(&mut self, task: &TaskId, change: impl FnOnce(&mut Answer)) {
        if let Some(watched) = self.open.get(task) {
            watched.answer.send_modify(change);
        }
    }

    /// The next attached task that nobody watches any more. May be cancelled.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            let Some(task) = self.deserted.next().await else { pending().await };
            let Some(watched) = self.open.get_mut(&task) else { continue };
            if watched.answer.receiver_count() > 0 {
                // Somebody came just then.
                self.deserted.push(Box::pin(last_left(task, Arc::clone(&watched.answer))));
            } else if watched.attached {
                watched.attached = false;
                return Input::Cancel { task };
            }
        }
    }
}

async fn last_left(task: TaskId, answer: Arc<watch::Sender<Answer>>) -> TaskId {
    answer.closed().await;
    task
}

fn text_told(answer: &mut Answer, device: DeviceId, offset: u64, text: &str) {
    debug_assert_eq!(offset, answer.text.len() as u64, "core reports text without gaps");
    if offset == answer.text.len() as u64 {
        answer.device = Some(device);
        answer.text.push_str(text);
    }
}

/// A watcher of a task that is over: it is told the whole answer, then the outcome.
fn closed(task: TaskId, outcome: &Outcome) -> Following {
    let answered = outcome.status == OutcomeStatus::Completed;
    let answer = Answer {
        breaks: Vec::new(),
        device: outcome.device.clone().filter(|_| answered),
        text: if answered { outcome.output.as_ref().into() } else { String::new() },
        outcome: Some(outcome.clone()),
    };
    following(task, 0, watch::Sender::new(answer).subscribe())
}

fn following(task: TaskId, position: usize, answer: watch::Receiver<Answer>) -> Following {
    Following { task, position, joined: false, answer, breaks: 0, shown: 0, done: false }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Told;
    use bidmesh_core::draw::Seed;
    use bidmesh_core::input::SendFailure;
    use bidmesh_core::outbox::Refusal;
    use bidmesh_core::{Config, Identity};

    struct Scene {
        watchers: Watchers,
        /// Knows of no task.
        device: Device,
    }

    impl Scene {
        fn new() -> Self {
            let identity = Identity { device: id("A"), address: None };
            let device = Device::new(identity, Seed::from(1), Config::default(), Restored::default());
            Self { watchers: Watchers::default(), device }
        }

        fn report(&mut self, report: Report) {
            self.watchers.report(report, &self.device);
        }

        fn submit(&mut self, attached: bool) -> Following {
            let (submitter, mut answer) = oneshot::channel();
            let ticket = self.watchers.submits(attached, submitter);
            self.report(Report::Admitted { ticket, task: task(), position: 3 });
            answer.try_recv().expect("answered").expect("admitted")
        }

        /// With a task of an earlier start.
        fn restored(attached: bool) -> Self {
            let open = Record::Task {
                task: task(),
                prompts: bidmesh_core::input::Prompts { base: "hi".into(), npu: None, cpu: None },
                priority: Default::default(),
                key: None,
                attached,
                eligible: None,
                deadline: None,
                policy: bidmesh_core::policy::Policy::NpuFirst,
                bid_deadline: None,
                result_timeout: Duration::from_secs(300),
                client: None,
            };
            let restored = Restored { records: vec![(open, Duration::ZERO)] };
            Self { watchers: Watchers::new(&restored), ..Self::new() }
        }

        fn text(&mut self, device: &str, offset: u64, text: &str) {
            self.report(Report::Text { task: task(), device: id(device), offset, text: text.into() });
        }

        fn end(&mut self) {
            self.report(Report::Outcome { task: task(), outcome: outcome() });
        }

        /// What the driver is told of deserted tasks, if it is told anything.
        async fn deserted(&mut self) -> Option<Input> {
            tokio::time::timeout(Duration::from_secs(1), self.watchers.next()).await.ok()
        }
    }

    fn id(text: &str) -> DeviceId {
        DeviceId::new(text).expect("valid")
    }

    fn task() -> TaskId {
        TaskId::new("task_1").expect("valid")
    }

    fn outcome() -> Outcome {
        Outcome {
            status: OutcomeStatus::Completed,
            device: Some(id("C")),
            output: "whole".into(),
            attempts: 2,
            why: "it answered".into(),
            written: bidmesh_core::input::Written::Durable,
            speed: None,
        }
    }

    fn told(device: &str, offset: u64, text: &str) -> Option<Told> {
        Some(Told::Text { device: id(device), offset, text: text.into() })
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_everything_and_a_break() {
        let mut scene = Scene::new();
        let mut quick = scene.submit(true);
        let mut slow = scene.watchers.follow(task(), &scene.device).expect("open");
        assert_eq!((quick.position(), slow.position()), (3, 3));
        scene.text("B", 0, "one ");
        assert_eq!(quick.next().await, told("B", 0, "one "));
        scene.text("B", 4, "two ");
        scene.text("B", 8, "three");
        assert_eq!(quick.next().await, told("B", 4, "two three"));
        scene.report(Report::BrokenOff { task: task(), device: id("B"), shown: 13, why: "silent".into() });
        scene.text("C", 0, "whole");
        scene.end();
        for watcher in [&mut quick, &mut slow] {
            let broken = Told::BrokenOff { device: id("B"), shown: 13, why: "silent".into() };
            assert_eq!(watcher.next().await, Some(broken));
            assert_eq!(watcher.next().await, told("C", 0, "whole"));
            assert_eq!(watcher.next().await, Some(Told::Outcome(outcome())));
            assert_eq!(watcher.next().await, None);
        }
        assert!(scene.watchers.open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_attached_task_is_cancelled_when_its_last_watcher_leaves() {
        let mut scene = Scene::new();
        let first = scene.submit(true);
        let second = scene.watchers.follow(task(), &scene.device).expect("open");
        drop(first);
        assert_eq!(scene.deserted().await, None);
        drop(second);
        assert_eq!(scene.deserted().await, Some(Input::Cancel { task: task() }));
        assert_eq!(scene.deserted().await, None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_comes_just_then_keeps_the_task() {
        let mut scene = Scene::new();
        drop(scene.submit(true));
        let late = scene.watchers.follow(task(), &scene.device).expect("open");
        assert_eq!(scene.deserted().await, None);
        drop(late);
        assert_eq!(scene.deserted().await, Some(Input::Cancel { task: task() }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_submitter_that_is_gone_has_left() {
        let mut scene = Scene::new();
        let (submitter, answer) = oneshot::channel();
        let ticket = scene.watchers.submits(true, submitter);
        drop(answer);
        scene.report(Report::Admitted { ticket, task: task(), position: 0 });
        assert_eq!(scene.deserted().await, Some(Input::Cancel { task: task() }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_detached_task_needs_no_watcher_nor_does_one_that_a_detached_submission_joined() {
        let mut scene = Scene::new();
        drop(scene.submit(false));
        drop(scene.submit(true));
        assert_eq!(scene.deserted().await, None);
        let mut scene = Scene::new();
        let attached = scene.submit(true);
        drop(scene.submit(false));
        drop(attached);
        assert_eq!(scene.deserted().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_join_a_task_and_leave_cost_nothing_that_stays() {
        let mut scene = Scene::new();
        let first = scene.submit(true);
        for _ in 0..100 {
            drop(scene.submit(true));
        }
        assert_eq!(scene.deserted().await, None);
        assert_eq!((scene.watchers.open.len(), scene.watchers.deserted.len()), (1, 1));
        assert!(scene.watchers.submitted.is_empty());
        drop(first);
        assert_eq!(scene.deserted().await, Some(Input::Cancel { task: task() }));
        assert_eq!(scene.watchers.deserted.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_task_waits_for_whoever_watched_it() {
        let mut scene = Scene::restored(true);
        assert_eq!(scene.deserted().await, None, "not yet");
        let mut following = scene.watchers.follow(task(), &scene.device).expect("open");
        tokio::time::sleep(RETURN).await;
        assert_eq!(scene.deserted().await, None, "somebody came back");
        scene.end();
        assert_eq!(following.next().await, Some(Told::Outcome(outcome())));
        let mut scene = Scene::restored(true);
        assert!(scene.submit(true).joined());
        tokio::time::sleep(RETURN).await;
        assert_eq!(scene.deserted().await, Some(Input::Cancel { task: task() }));
        assert_eq!(scene.deserted().await, None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restored_detached_task_needs_no_watcher() {
        let mut scene = Scene::restored(false);
        drop(scene.submit(true));
        let mut following = scene.watchers.follow(task(), &scene.device).expect("open");
        tokio::time::sleep(RETURN).await;
        assert_eq!(scene.deserted().await, None);
        scene.end();
        assert_eq!(following.next().await, Some(Told::Outcome(outcome())));
    }

    #[tokio::test]
    async fn a_refusal_and_what_was_said_reach_who_asked() {
        let mut scene = Scene::new();
        let (submitter, answer) = oneshot::channel();
        let ticket = scene.watchers.submits(true, submitter);
        scene.report(Report::Refused { ticket, why: Refusal::QueueFull, retry_after_ms: Some(5) });
        let refused = Refused { why: Refusal::QueueFull, retry_after_ms: Some(5) };
        assert_eq!(answer.await.expect("answered").expect_err("refused"), refused);
        let (sayer, answer) = oneshot::channel();
        let ticket = scene.watchers.says(sayer);
        let failure = Some(Unsaid::NotDelivered(SendFailure::Reset));
        scene.report(Report::Said { ticket, to: id("B"), failure });
        assert_eq!(answer.await, Ok(failure));
    }

    #[tokio::test]
    async fn a_watcher_of_a_closed_task_is_told_the_answer_and_the_outcome() {
        let mut following = closed(task(), &outcome());
        assert_eq!(following.next().await, told("C", 0, "whole"));
        assert_eq!(following.next().await, Some(Told::Outcome(outcome())));
        assert_eq!(following.next().await, None);
        let failed = Outcome { status: OutcomeStatus::Failed, output: "".into(), ..outcome() };
        assert_eq!(closed(task(), &failed).next().await, Some(Told::Outcome(failed)));
    }
}
