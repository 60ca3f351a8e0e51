//! Records on their way to the store: one write at a time, and whatever waits meanwhile goes into the next one. Decision
//! records of ended tasks go along; nothing waits for them, and what could not be written of them is lost.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_core::input::Written;
use bidmesh_core::outbox::{Record, Sequence};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::shield::shield;
use crate::store::{DatedDecision, Store};

/// How long a record that nobody waits for may wait for company: each write wakes a disk.
const WRITE_BEHIND: Duration = Duration::from_secs(2);

/// From so many records that wait on, nothing new is taken in from people and peers.
const WAITING: usize = 1024;

/// Decision records that wait. They are made one for each outcome, so there are more only while a write takes long; those
/// are left out.
const DECISIONS_WAITING: usize = 256;

pub(super) struct Writes {
    store: Arc<dyn Store>,
    waiting: Vec<(Sequence, Record)>,
    decisions: Vec<DatedDecision>,
    /// When the next write begins, once something waits.
    due: Option<Instant>,
    /// What is being written, and how that ends.
    under_way: Option<(Vec<Sequence>, BoxFuture<'static, Written>)>,
    /// Written, but not yet told; in order.
    told: VecDeque<Input>,
}

impl Writes {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            waiting: Vec::new(),
            decisions: Vec::new(),
            due: None,
            under_way: None,
            told: VecDeque::new(),
        }
    }

    pub(super) fn persist(&mut self, sequence: Sequence, record: Record, barrier: bool) {
        self.within(if barrier { Duration::ZERO } else { WRITE_BEHIND });
        self.waiting.push((sequence, record));
    }

    /// Whether a decision record that is handed in now would be kept.
    pub(super) fn takes_decisions(&self) -> bool {
        self.store.keeps() != Written::NotKept && self.decisions.len() < DECISIONS_WAITING
    }

    /// The decision record of a task whose outcome is written.
    pub(super) fn persist_decision(&mut self, decision: DatedDecision) {
        if self.takes_decisions() {
            self.within(WRITE_BEHIND);
            self.decisions.push(decision);
        }
    }

    fn within(&mut self, time: Duration) {
        let due = Instant::now() + time;
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Nothing else is taken on for the moment: the store is slow.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.decisions.is_empty()
            && self.under_way.is_none()
            && self.told.is_empty()
    }

    /// The device ends: what waits is written now.
    pub(super) fn hurry(&mut self) {
        self.due = self.due.map(|_| Instant::now());
    }

    /// The next record that is durable, or could not be made so. May be cancelled.
    pub(super) async fn next(&mut self) -> Input {
        loop {
            if let Some(input) = self.told.pop_front() {
                return input;
            }
            if let Some((sequences, write)) = &mut self.under_way {
                let written = write.await;
                self.told.extend(sequences.drain(..).map(|sequence| Input::Persisted { sequence, written }));
                self.under_way = None;
                continue;
            }
            match self.due {
                None => pending().await,
                // tokio's timers have steps of a millisecond, and a prompt passes four barriers.
                Some(due) if due <= Instant::now() => {}
                Some(due) => tokio::time::sleep_until(due).await,
            }
            self.begin();
        }
    }

    fn begin(&mut self) {
        self.due = None;
        let (sequences, records) = std::mem::take(&mut self.waiting).into_iter().unzip();
        let decisions = std::mem::take(&mut self.decisions);
        let store = Arc::clone(&self.store);
        // Why it failed is the store's to log; core says to whoever asked that it is not durable.
        let write = async move {
            match shield(store.write_with(records, decisions)).await {
                Ok(Ok(())) => store.keeps(),
                Ok(Err(_)) | Err(_) => Written::Failed,
            }
        };
        self.under_way = Some((sequences, Box::pin(write)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use bidmesh_core::Time;
    use bidmesh_core::decision::Decision;
    use bidmesh_core::id::TaskId;
    use bidmesh_core::outbox::{Outcome, OutcomeStatus};
    use bidmesh_core::policy::Policy;
    use bidmesh_core::restore::Restored;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    /// Takes a second for each write, and fails the third.
    #[derive(Default)]
    struct Slow(Mutex<Vec<usize>>);

    #[async_trait]
    impl Store for Slow {
        async fn load(&self) -> std::io::Result<Restored> {
            Ok(Restored::default())
        }

        async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut written = self.0.lock().unwrap();
            written.push(records.len());
            if written.len() == 3 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    fn record() -> Record {
        let outcome = Outcome {
            status: OutcomeStatus::Completed,
            device: None,
            output: "an answer".into(),
            attempts: 1,
            why: "it was asked".into(),
            written: bidmesh_core::input::Written::Durable,
            speed: None,
        };
        Record::Outcome { task: TaskId::new("task_1").expect("valid"), outcome }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_meanwhile_is_written_in_one_go_and_told_in_order() {
        let store = Arc::new(Slow::default());
        let mut writes = Writes::new(store.clone());
        writes.persist(Sequence(1), record(), true);
        assert!(tokio::time::timeout(Duration::from_millis(500), writes.next()).await.is_err(), "cancelled");
        for number in 2..=4 {
            writes.persist(Sequence(number), record(), true);
        }
        for number in 1..=4 {
            assert_eq!(
                writes.next().await,
                Input::Persisted { sequence: Sequence(number), written: Written::Durable }
            );
        }
        assert_eq!(*store.0.lock().unwrap(), [1, 3]);
        writes.persist(Sequence(5), record(), true);
        assert_eq!(writes.next().await, Input::Persisted { sequence: Sequence(5), written: Written::Failed });
        assert!(writes.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_nobody_waits_for_waits_for_company() {
        let store = Arc::new(Slow::default());
        let mut writes = Writes::new(store.clone());
        let begun = Instant::now();
        writes.persist(Sequence(1), record(), false);
        writes.next().await;
        assert!(begun.elapsed() >= WRITE_BEHIND);
        writes.persist(Sequence(2), record(), false);
        writes.persist(Sequence(3), record(), true);
        let begun = Instant::now();
        writes.next().await;
        assert!(begun.elapsed() < WRITE_BEHIND, "a barrier takes it along");
        assert_eq!(*store.0.lock().unwrap(), [1, 2]);
    }

    /// Keeps count of the decision records of each write; fails while it is told to.
    #[derive(Default)]
    struct Counting {
        writes: Mutex<Vec<(usize, usize)>>,
        fails: AtomicBool,
        without: bool,
    }

    #[async_trait]
    impl Store for Counting {
        async fn load(&self) -> std::io::Result<Restored> {
            Ok(Restored::default())
        }

        async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
            self.write_with(records, Vec::new()).await
        }

        async fn write_with(
            &self,
            records: Vec<Record>,
            decisions: Vec<DatedDecision>,
        ) -> std::io::Result<()> {
            self.writes.lock().unwrap().push((records.len(), decisions.len()));
            if self.fails.load(Ordering::Relaxed) {
                Err(std::io::ErrorKind::StorageFull.into())
            } else {
                Ok(())
            }
        }

        fn keeps(&self) -> Written {
            if self.without { Written::NotKept } else { Written::Durable }
        }
    }

    fn decision() -> DatedDecision {
        let decision = Decision {
            task: TaskId::new("task_1").expect("valid"),
            submitted: Time::ZERO,
            prompt_bytes: 1,
            policy: Policy::NpuFirst,
            priority: 5,
            auctions: Vec::new(),
            happened: Vec::new(),
            outcome: None,
            ended: None,
            dropped_lines: 0,
        };
        DatedDecision { decision, submitted: SystemTime::UNIX_EPOCH }
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_record_waits_for_company_and_is_lost_when_it_cannot_be_written() {
        let store = Arc::new(Counting::default());
        let mut writes = Writes::new(store.clone());
        let begun = Instant::now();
        writes.persist_decision(decision());
        assert!(!writes.is_empty(), "a device that ends waits for it");
        assert!(
            tokio::time::timeout(WRITE_BEHIND * 2, writes.next()).await.is_err(),
            "there is nothing to tell"
        );
        assert!(begun.elapsed() >= WRITE_BEHIND && writes.is_empty());
        for _ in 0..DECISIONS_WAITING + 1 {
            writes.persist_decision(decision());
        }
        writes.persist(Sequence(1), record(), true);
        let begun = Instant::now();
        writes.next().await;
        assert!(begun.elapsed() < WRITE_BEHIND, "a barrier takes it along");
        assert_eq!(*store.writes.lock().unwrap(), [(0, 1), (1, DECISIONS_WAITING)]);

        store.fails.store(true, Ordering::Relaxed);
        writes.persist_decision(decision());
        writes.hurry();
        assert!(tokio::time::timeout(WRITE_BEHIND, writes.next()).await.is_err(), "nobody is told");
        assert!(writes.is_empty(), "nor is it tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_store_no_decision_record_waits() {
        let mut writes = Writes::new(Arc::new(Counting { without: true, ..Counting::default() }));
        writes.persist_decision(decision());
        assert!(writes.is_empty());
    }

    #[tokio::test]
    async fn without_a_store_nothing_is_said_to_be_kept() {
        let mut writes = Writes::new(Arc::new(crate::store::NoStore));
        writes.persist(Sequence(1), record(), true);
        assert_eq!(
            writes.next().await,
            Input::Persisted { sequence: Sequence(1), written: Written::NotKept }
        );
    }

    #[test]
    fn a_slow_store_holds_up_what_comes_in() {
        let mut writes = Writes::new(Arc::new(Slow::default()));
        for number in 0..WAITING as u64 {
            assert!(!writes.is_full());
            writes.persist(Sequence(number), record(), false);
        }
        assert!(writes.is_full());
    }
}
