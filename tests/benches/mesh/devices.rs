//! Bidmesh devices in this process: real drivers on real sockets, with an executor that answers at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidmesh_core::id::DeviceId;
use bidmesh_core::input::{Executor as Ability, RunOutcome, Sensors as Reading};
use bidmesh_core::load::Load;
use bidmesh_core::outbox::{Outcome, OutcomeStatus};
use bidmesh_core::{Config, Identity, Input, Submission};
use bidmesh_io_tokio::clock::BootClock;
use bidmesh_io_tokio::driver::{Driver, Following, Handle, Parts, Sampling, Told};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, NoExecutor, Stop};
use bidmesh_io_tokio::network::{TcpLimits, TcpNetwork};
use bidmesh_io_tokio::sensors::FixedSensors;
use bidmesh_io_tokio::sockets::TokioSockets;
use bidmesh_io_tokio::store::{NoStore, Store};
use tokio::sync::watch;
use tokio::time::sleep;

use super::script::{Recorder, Script};

/// What is asked, and what is answered: as long as usual.
const PROMPT: &str = "Summarise in two sentences why a mesh of phones should auction its prompts.";
const ANSWER: &str = "Each phone knows best how warm, how busy and how charged it is. An auction asks them all and \
                      believes the one that can answer soonest.";

/// The first device asks and runs nothing itself; the others work.
pub(crate) struct Mesh {
    asking: Handle,
    networks: Vec<TcpNetwork<TokioSockets>>,
    recorder: Recorder,
}

impl Mesh {
    pub(crate) async fn start(devices: usize) -> Self {
        Self::start_with(devices, Duration::ZERO).await
    }

    /// Workers say their answer at once, and end `after` that.
    pub(crate) async fn start_with(devices: usize, after: Duration) -> Self {
        Self::start_on(devices, after, &|_| Arc::new(NoStore)).await
    }

    /// Each device keeps what it must not lose in the store that `store` gives it.
    pub(crate) async fn start_on(
        devices: usize,
        after: Duration,
        store: &dyn Fn(usize) -> Arc<dyn Store>,
    ) -> Self {
        let recorder = Recorder::default();
        let mut networks = Vec::new();
        for _ in 0..devices {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            networks.push(
                TcpNetwork::bind(TokioSockets, address, TcpLimits::default()).await.expect("a free port"),
            );
        }
        let book: Vec<_> = networks
            .iter()
            .enumerate()
            .map(|(number, network)| (id(number), network.local_address()))
            .collect();
        let mut handles = Vec::new();
        for (number, network) in networks.iter().enumerate() {
            let handle =
                device(number, after, recorder.wrap(network.clone(), network.local_address()), store(number));
            let others = book.iter().enumerate().filter(|(other, _)| *other != number);
            let others = others.map(|(_, line)| line.clone()).collect();
            handle.tell(Input::PeersEdited(others)).await.expect("a device that runs");
            handles.push(handle);
        }
        let mesh = Self { asking: handles.swap_remove(0), networks, recorder };
        mesh.settle().await;
        mesh
    }

    /// Where the device that asks listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.networks[0].local_address()
    }

    /// The device that asks knows this one and no other from now on.
    pub(crate) async fn know_only(&self, device: &str, address: SocketAddr) {
        let book = vec![(DeviceId::new(device).expect("a valid id"), address)];
        self.asking.tell(Input::PeersEdited(book)).await.expect("a device that runs");
    }

    /// One prompt, to its end; with `dry_run` the auction alone.
    pub(crate) async fn prompt(&self, dry_run: bool) -> Outcome {
        let following = self.submit(dry_run).await;
        outcome(following, dry_run).await
    }

    /// Hands in one prompt and waits for the beginning of its answer, then for its end: the time until the beginning.
    pub(crate) async fn first_token(&self) -> Duration {
        let start = std::time::Instant::now();
        let mut following = self.submit(false).await;
        let took = loop {
            match following.next().await.expect("every task has an outcome") {
                Told::Text { .. } => break start.elapsed(),
                Told::Outcome(outcome) => panic!("an outcome before any text: {outcome:?}"),
                _ => {}
            }
        };
        outcome(following, false).await;
        took
    }

    /// So many prompts, all handed in at once, to the end of the last.
    pub(crate) async fn prompts(&self, count: usize) {
        let mut following = Vec::new();
        for _ in 0..count {
            following.push(self.submit(false).await);
        }
        for following in following {
            outcome(following, false).await;
        }
    }

    /// What the devices say to each other during `work`, to the last acknowledgement.
    pub(crate) async fn record<T>(&self, work: impl Future<Output = T>) -> Script {
        self.settle().await;
        self.recorder.start();
        work.await;
        self.recorder.done();
        self.settle().await;
        self.recorder.stop()
    }

    /// Returns when no device has anything to say any more.
    pub(crate) async fn settle(&self) {
        let mut quiet = 0;
        let mut last = 0;
        while quiet < 5 {
            sleep(Duration::from_millis(1)).await;
            let counts = || self.networks.iter().map(TcpNetwork::counts);
            let received = counts().map(|counts| counts.received).sum();
            quiet = if received == last && counts().all(|counts| counts.open == 0) { quiet + 1 } else { 0 };
            last = received;
        }
    }

    async fn submit(&self, dry_run: bool) -> Following {
        let submission = Submission { dry_run, ..Submission::new(0, PROMPT) };
        self.asking.submit(submission).await.expect("a device that runs").expect("a prompt that is taken on")
    }
}

async fn outcome(mut following: Following, dry_run: bool) -> Outcome {
    loop {
        if let Told::Outcome(outcome) = following.next().await.expect("every task has an outcome") {
            let expected = if dry_run { OutcomeStatus::Decided } else { OutcomeStatus::Completed };
            assert_eq!(outcome.status, expected, "{}", outcome.why);
            return outcome;
        }
    }
}

fn id(number: usize) -> DeviceId {
    DeviceId::new(&format!("Device_{number}")).expect("a valid id")
}

fn device(
    number: usize,
    after: Duration,
    network: impl bidmesh_io_tokio::network::Network,
    store: Arc<dyn Store>,
) -> Handle {
    let executor: Arc<dyn Executor> = if number == 0 {
        Arc::new(NoExecutor::new("this one only asks"))
    } else {
        Arc::new(Prompt { after })
    };
    let reading =
        Reading { cpu: Load::from_ppm(100_000), ram: Load::from_ppm(400_000), ..Reading::default() };
    let (driver, handle) = Driver::new(Parts {
        identity: Identity { device: id(number), address: None },
        config: Config::default(),
        seed: number as u128,
        network,
        clock: BootClock::new(),
        executor,
        sensors: Arc::new(FixedSensors::new(reading)),
        store,
        sampling: Sampling::default(),
        peers: watch::channel(Vec::new()).0,
    });
    tokio::spawn(driver.run());
    handle
}

/// Answers at once, in one piece, and ends some time after.
struct Prompt {
    after: Duration,
}

#[async_trait]
impl Executor for Prompt {
    async fn ability(&self) -> Ability {
        Ability { available: true, npu: false, slots: None, why: "answers at once".into() }
    }

    async fn run(&self, _job: Job, text: Generated, _stop: Stop) -> RunOutcome {
        text.push(ANSWER).await;
        if !self.after.is_zero() {
            sleep(self.after).await;
        }
        RunOutcome::Completed(ANSWER.into())
    }
}
