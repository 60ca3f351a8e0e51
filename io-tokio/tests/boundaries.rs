//! A device dies at each write of its store, before it is on disk and after, and is started again: every prompt that
//! somebody was told of ends once, and an outcome that somebody was told stays what it was.

#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::id::{DeviceId, TaskId};
use bidmesh_core::input::{Executor as Ability, RunOutcome, Sensors as Reading, Written};
use bidmesh_core::load::Load;
use bidmesh_core::outbox::{Outcome, OutcomeStatus, Record};
use bidmesh_core::restore::Restored;
use bidmesh_core::{Config, Identity, Input, Submission};
use bidmesh_io_tokio::clock::BootClock;
use bidmesh_io_tokio::driver::{Driver, End, Handle, Parts, Sampling, Told};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, NoExecutor, Stop};
use bidmesh_io_tokio::network::{TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sensors::FixedSensors;
use bidmesh_io_tokio::sockets::TokioSockets;
use bidmesh_io_tokio::store::{RedbStore, Store, StoreOptions};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);
const PROMPTS: usize = 3;
/// More writes than the prompts can lead to.
const WRITES_MAX: usize = 40;

/// When a device dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Death {
    /// At which write, from 1.
    at: usize,
    /// Whether that one is on disk.
    written: bool,
}

/// Whose death it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// Of the device that was asked and lets another one work.
    Asking,
    /// Of the device that works for it.
    Worker,
    /// Of a device that runs itself what it was asked.
    Alone,
}

/// A store whose device dies in the middle of a write: nothing is told of it any more.
struct Mortal {
    store: RedbStore,
    writes: AtomicUsize,
    death: Option<Death>,
    dead: Arc<Notify>,
}

#[async_trait]
impl Store for Mortal {
    async fn load(&self) -> std::io::Result<Restored> {
        self.store.load().await
    }

    async fn write(&self, records: Vec<Record>) -> std::io::Result<()> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        match self.death.filter(|death| death.at <= number) {
            None => self.store.write(records).await,
            Some(death) => {
                if death.written && death.at == number {
                    self.store.write(records).await?;
                }
                self.dead.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// Answers at once, and keeps count.
struct Counting(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Executor for Counting {
    async fn ability(&self) -> Ability {
        Ability { available: true, npu: false, slots: Some(1), why: "answers at once".into() }
    }

    async fn run(&self, job: Job, _text: Generated, _stop: Stop) -> RunOutcome {
        self.0.lock().unwrap().push(job.prompt.to_string());
        RunOutcome::Completed(format!("answer to {}", job.prompt).as_str().into())
    }
}

fn id(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// A device that can be killed.
struct Machine {
    name: &'static str,
    address: SocketAddr,
    book: Vec<(DeviceId, SocketAddr)>,
    executor: Arc<dyn Executor>,
    folder: tempfile::TempDir,
    starts: usize,
    dead: Arc<Notify>,
    running: Option<(Handle, JoinHandle<End>)>,
}

impl Machine {
    fn new(name: &'static str, address: SocketAddr, executor: Arc<dyn Executor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (book, dead) = (Vec::new(), Arc::default());
        Self { name, address, book, executor, folder, starts: 0, dead, running: None }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(format!("{}.redb", self.starts))
    }

    async fn start(&mut self, death: Option<Death>) {
        let (store, _notices) = RedbStore::open(self.file(), StoreOptions::default()).unwrap();
        let store = Mortal { store, writes: AtomicUsize::new(0), death, dead: Arc::clone(&self.dead) };
        let network = bind(self.address).await;
        let mut config = Config::default();
        config.timing.progress_deadline = Duration::from_millis(1500);
        config.timing.heartbeat = Duration::from_millis(300);
        let reading = Reading { cpu: Load::from_ppm(100_000), ..Reading::default() };
        let (driver, handle) = Driver::new(Parts {
            identity: Identity { device: id(self.name), address: Some(self.address) },
            config,
            seed: u128::from(self.address.port()) << 32 | self.starts as u128,
            network,
            clock: BootClock::new(),
            executor: Arc::clone(&self.executor),
            sensors: Arc::new(FixedSensors::new(reading)),
            store: Arc::new(store),
            sampling: Sampling::default(),
            peers: watch::channel(Vec::new()).0,
        });
        handle.tell(Input::PeersEdited(self.book.clone())).await.unwrap();
        self.running = Some((handle, tokio::spawn(driver.run())));
    }

    fn handle(&self) -> &Handle {
        &self.running.as_ref().expect("it runs").0
    }

    /// Kills it and starts it again with what its disk has at this moment: the database is not closed.
    async fn die_and_start_again(&mut self) {
        let before = self.file();
        self.starts += 1;
        std::fs::copy(before, self.file()).unwrap();
        let (handle, end) = self.running.take().expect("it runs");
        drop(handle);
        end.abort();
        let _ = end.await;
        self.start(None).await;
    }
}

/// Listens there as soon as the device that died has let go.
async fn bind(address: SocketAddr) -> TcpNetwork<TokioSockets> {
    let listen = async {
        loop {
            match TcpNetwork::bind(TokioSockets, address, TcpLimits::default()).await {
                Ok(network) => return network,
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    };
    timeout(DEADLINE, listen).await.expect("the address becomes free")
}

/// An address that nobody has.
async fn free() -> SocketAddr {
    bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.local_address()
}

/// What people were told before the device died.
#[derive(Default)]
struct Heard {
    admitted: Vec<TaskId>,
    outcomes: BTreeMap<TaskId, Outcome>,
}

async fn outcome(handle: &Handle, task: &TaskId) -> Option<Outcome> {
    let mut following = handle.follow(task.clone()).await.ok()??;
    loop {
        if let Told::Outcome(outcome) = following.next().await? {
            return Some(outcome);
        }
    }
}

/// Asks one prompt after the other, as long as the device lives.
async fn ask(handle: &Handle, told: &Mutex<Heard>) {
    for number in 0..PROMPTS {
        let submission = Submission { attached: false, ..Submission::new(0, format!("prompt {number}")) };
        let Ok(Ok(mut following)) = handle.submit(submission).await else { return };
        let task = following.task().clone();
        told.lock().unwrap().admitted.push(task.clone());
        while let Some(news) = following.next().await {
            if let Told::Outcome(outcome) = news {
                told.lock().unwrap().outcomes.insert(task.clone(), outcome);
            }
        }
    }
}

/// One scenario; `None`: nobody died, all writes had come before.
async fn dies(who: Who, death: Death) -> Option<usize> {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let executor: Arc<dyn Executor> = match who {
        Who::Alone => Arc::new(Counting(Arc::clone(&runs))),
        Who::Asking | Who::Worker => Arc::new(NoExecutor::new("it only asks")),
    };
    let mut asking = Machine::new("Asking", free().await, executor);
    let mut worker = Machine::new("Worker", free().await, Arc::new(Counting(Arc::clone(&runs))));
    if who != Who::Alone {
        asking.book = vec![(id("Worker"), worker.address)];
        worker.book = vec![(id("Asking"), asking.address)];
        worker.start((who == Who::Worker).then_some(death)).await;
    }
    asking.start((who != Who::Worker).then_some(death)).await;

    let told = Mutex::new(Heard::default());
    let dead = Arc::clone(if who == Who::Worker { &worker.dead } else { &asking.dead });
    let died = {
        let handle = asking.handle().clone();
        let asked = ask(&handle, &told);
        tokio::pin!(asked);
        tokio::select! {
            () = dead.notified() => {
                if who != Who::Worker {
                    asking.die_and_start_again().await;
                } else {
                    worker.die_and_start_again().await;
                    // Nobody but the worker has noticed anything.
                    timeout(DEADLINE, asked).await.expect("all prompts end");
                }
                true
            }
            () = &mut asked => false,
            () = tokio::time::sleep(DEADLINE) => panic!("{death:?}: nothing happens any more"),
        }
    };

    let told = told.into_inner().unwrap();
    let handle = asking.handle().clone();
    for task in &told.admitted {
        let outcome = timeout(DEADLINE, outcome(&handle, task)).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("{death:?}: {task} does not end"));
        let outcome = outcome.unwrap_or_else(|| panic!("{death:?}: {task} was admitted and is lost"));
        assert_eq!(outcome.status, OutcomeStatus::Completed, "{death:?}: {}", outcome.why);
        assert_eq!(outcome.written, Written::Durable);
        if let Some(before) = told.outcomes.get(task) {
            assert_eq!(*before, outcome, "{death:?}: {task} was told otherwise before");
        }
    }
    // One whose submitter was not told any more may be there too, and ends as well.
    let more = handle.snapshot().await.unwrap().tasks;
    for open in &more {
        timeout(DEADLINE, outcome(&handle, &open.task)).await.expect("it ends").expect("it is known");
    }
    let ended = handle.outcomes().await.unwrap();
    assert!(ended.len() <= told.admitted.len() + 1, "{death:?}: {ended:#?}");
    for (task, outcome) in &ended {
        assert_eq!(
            ended.iter().filter(|(other, _)| other == task).count(),
            1,
            "{death:?}: {task} ended twice"
        );
        assert_eq!(outcome.status, OutcomeStatus::Completed, "{death:?}: {}", outcome.why);
    }
    let runs = runs.lock().unwrap().len();
    assert!(runs >= ended.len() && runs <= ended.len() + 1, "{death:?}: one run at most is repeated: {runs}");
    died.then_some(runs - ended.len())
}

/// Every write of one device, in turn.
async fn every_boundary(who: Who) {
    for written in [false, true] {
        let (mut boundaries, mut repeated) = (0, 0);
        for at in 1..=WRITES_MAX {
            let Some(again) = dies(who, Death { at, written }).await else { break };
            boundaries += 1;
            repeated += again;
        }
        let when = if written { "after" } else { "before" };
        eprintln!("{who:?} died {when} each of {boundaries} writes; {repeated} prompts ran twice for it");
        let least = match who {
            // A task, an award and an outcome of each prompt.
            Who::Asking | Who::Alone => 3 * PROMPTS,
            // A kept result of each.
            Who::Worker => PROMPTS,
        };
        assert!((least..WRITES_MAX).contains(&boundaries), "{boundaries} boundaries");
    }
}

#[tokio::test]
async fn the_asking_device_dies_at_every_write() {
    every_boundary(Who::Asking).await;
}

#[tokio::test]
async fn a_device_that_runs_its_own_prompts_dies_at_every_write() {
    every_boundary(Who::Alone).await;
}

#[tokio::test]
async fn the_worker_dies_at_every_write() {
    every_boundary(Who::Worker).await;
}

/// That the copy is what a killed process leaves: a database that was not closed.
#[tokio::test]
async fn what_a_killed_process_leaves_is_opened_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let open = |path: &Path| RedbStore::open(path, StoreOptions::default()).unwrap();
    let (store, _notices) = open(&path("one"));
    let task = TaskId::new("task_1").unwrap();
    let kept = |number: u128| Record::Forgotten {
        orchestrator: id("A"),
        award: bidmesh_core::id::AwardId::new(task.as_str()).unwrap(),
        digest: number,
    };
    store.write(vec![kept(1), kept(2)]).await.unwrap();
    std::fs::copy(path("one"), path("two")).unwrap();
    let (store, mut notices) = open(&path("two"));
    assert_eq!((store.load().await.unwrap().records.len(), notices.already()), (2, None));
}
