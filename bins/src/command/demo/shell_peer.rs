//! A device as the shell mesh has them, played by a task: it takes one message a connection, its port is closed
//! while it works on one, it answers at the address that its own notes give for the sender, and it knows the nine
//! old message types alone. `docs/protocol.md` says how real ones behave; the numbers here are theirs.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use bidmesh_core::input::RunOutcome;
use bidmesh_core::wire::{Advertised, Body, Message, TaskOrder, WireLimits, decode};
use bidmesh_io_tokio::execute::{Executor, Generated, Job, Stop};
use bidmesh_io_tokio::sockets::{Sockets, TokioSockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::exit::Failure;

/// How long it measures its processor for a bid.
const MEASURING: Duration = Duration::from_millis(500);
/// How long its port is closed after each message.
const CLOSED: Duration = Duration::from_millis(110);
/// How often it offers an answer, and how long it waits in between.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// A sender that is silent for longer is left.
const SILENCE: Duration = Duration::from_secs(2);
/// More than a message of a demo has.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// How long a prompt may run, and how long its answer may be.
const RUN_LIMIT: Duration = Duration::from_secs(300);
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Devices that it takes a note of.
const NOTES_MAX: usize = 64;

/// A shell device. Dropping it ends it.
#[derive(Debug)]
pub struct ShellPeer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ShellPeer {
    /// Listens at `listen`; with port 0 the kernel chooses.
    /// `executor` runs its prompts; without one a stand-in answers.
    pub async fn start(
        id: DeviceId,
        listen: SocketAddr,
        executor: Option<Arc<dyn Executor>>,
    ) -> Result<Self, Failure> {
        let no_port = |error: io::Error| {
            Failure::failed(format!("{id} of the demo cannot listen at {listen}: {error}"))
        };
        let listener = TokioSockets.bind(listen).await.map_err(no_port)?;
        let address = TokioSockets.local_address(&listener).map_err(no_port)?;
        let device = ShellDevice { id: id.clone(), address, notes: BTreeMap::new(), executor };
        Ok(Self { address, task: tokio::spawn(device.run(listener)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ShellPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The script's state: its peers.txt.
struct ShellDevice {
    id: DeviceId,
    address: SocketAddr,
    notes: BTreeMap<DeviceId, SocketAddr>,
    executor: Option<Arc<dyn Executor>>,
}

impl ShellDevice {
    async fn run(mut self, first: tokio::net::TcpListener) {
        let mut listener = Some(first);
        loop {
            let open = match listener.take() {
                Some(open) => Ok(open),
                None => TokioSockets.bind(self.address).await,
            };
            let bytes = match open {
                Ok(open) => one_message(&open).await,
                Err(_) => None,
            };
            // The listener is gone here: from now until the next turn the port is closed.
            if let Some(bytes) = bytes {
                self.handle(&bytes).await;
            }
            sleep(CLOSED).await;
        }
    }

    async fn handle(&mut self, bytes: &[u8]) {
        // Like the script, it says nothing about what it cannot read.
        let Ok(decoded) = decode(bytes, &WireLimits::default()) else { return };
        let Message { from, body, .. } = decoded.message;
        match body {
            Body::Hello(advertised) => self.note(&from, advertised),
            Body::Discover(advertised) => {
                self.note(&from, advertised);
                self.answer(&from, format!("HELLO|{}|{}", self.id, self.address)).await;
            }
            Body::BidRequest(_) => {
                sleep(MEASURING).await;
                self.answer(&from, self.bid()).await;
            }
            Body::SlmPrompt(prompt) => {
                let (_, output) = self.run_prompt(&prompt).await;
                self.answer(&from, format!("SLM_RESULT|{}|{output}", self.id)).await;
            }
            Body::Task(order) => {
                let result = self.result(&order).await;
                self.answer(&from, result).await;
            }
            // Logged or not known: nothing happens.
            _ => {}
        }
    }

    /// The first address counts: the script never looks further.
    fn note(&mut self, from: &DeviceId, advertised: Advertised) {
        if let Some(ip) = advertised.ip
            && self.notes.len() < NOTES_MAX
        {
            self.notes.entry(from.clone()).or_insert(SocketAddr::new(ip, advertised.port));
        }
    }

    /// No task id, numbers as awk prints them.
    fn bid(&self) -> String {
        format!(
            "BID_RESPONSE|{id}|{{\"device_id\": \"{id}\", \"cpu_load\": 0.45, \"ram_load\": 0.612, \"battery\": 71, \
             \"has_npu\": false}}",
            id = self.id
        )
    }

    /// The output is pasted in raw.
    async fn result(&self, order: &TaskOrder) -> String {
        let (status, output) = self.run_prompt(&order.prompt).await;
        format!(
            "RESULT|{id}|{{\"task_id\": \"{task}\", \"device_id\": \"{id}\", \"status\": \"{status}\", \"output\": \
             \"{output}\"}}",
            id = self.id,
            task = order.award.as_ref().map_or("", |award| award.as_str()),
        )
    }

    /// What `run_slm.sh` is to a real one: status and output.
    async fn run_prompt(&self, prompt: &str) -> (&'static str, String) {
        let Some(executor) = &self.executor else { return ("completed", output(prompt)) };
        let job = Job {
            label: format!("{}-prompt", self.id),
            prompt: prompt.into(),
            npu: false,
            limit: RUN_LIMIT,
            output_bytes: OUTPUT_BYTES_MAX,
        };
        // Its script says nothing before the end: nobody reads the pieces.
        let (pieces, _) = Generated::channel(1);
        let (_stopper, stop) = Stop::channel();
        match executor.run(job, pieces, stop).await {
            RunOutcome::Completed(done) => ("completed", done.text.to_string()),
            RunOutcome::Failed(why) => ("error", why.to_string()),
            RunOutcome::Stopped => ("error", "it was stopped".into()),
        }
    }

    /// A device without a note gets nothing.
    async fn answer(&self, to: &DeviceId, message: String) {
        let Some(address) = self.notes.get(to).copied() else { return };
        for _ in 0..ATTEMPTS {
            match timeout(SILENCE, self.send(address, message.as_bytes())).await {
                Ok(Ok(())) => return,
                Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let mut stream = TokioSockets.connect(Some(self.address.ip()), to).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    }
}

/// One connection, to the end of what the sender says; `None` if there was none to be had.
async fn one_message(listener: &tokio::net::TcpListener) -> Option<Vec<u8>> {
    let (stream, _): (TcpStream, SocketAddr) = TokioSockets.accept(listener).await.ok()?;
    let mut bytes = Vec::new();
    let mut bounded = stream.take(MESSAGE_BYTES_MAX);
    // A sender that never closes its side is left with what it said.
    let _ = timeout(SILENCE, bounded.read_to_end(&mut bytes)).await;
    Some(bytes)
}

/// What stands in for its model says so.
fn output(prompt: &str) -> String {
    format!(
        "This is a stand-in on a shell device, not a language model. The prompt has {} bytes.",
        prompt.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn say(to: SocketAddr, message: &str) {
        // Its port is closed for a while after each message.
        let mut stream = loop {
            match TcpStream::connect(to).await {
                Ok(stream) => break stream,
                Err(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        stream.write_all(message.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    }

    async fn hear(listener: &TcpListener) -> String {
        let (mut stream, _) = timeout(Duration::from_secs(20), listener.accept()).await.unwrap().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn it_bids_and_works_for_whom_it_knows_in_the_old_words() {
        let peer = ShellPeer::start(DeviceId::new("Old").unwrap(), "127.0.0.1:0".parse().unwrap(), None)
            .await
            .unwrap();
        let me = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = me.local_addr().unwrap();
        say(peer.address(), &format!("HELLO|Me|{address}:bidmesh/1:k7q2m000")).await;
        say(peer.address(), r#"BID_REQUEST|Me|{"bidmesh": 1, "task_id": "task_1", "prompt": ""}"#).await;
        let bid = hear(&me).await;
        assert!(bid.starts_with(r#"BID_RESPONSE|Old|{"device_id": "Old", "cpu_load": 0.45"#), "{bid}");
        assert!(!bid.contains("task_id"));
        say(peer.address(), r#"TASK|Me|{"task_id": "task_1.1.k7q2m", "prompt": "hello"}"#).await;
        let result = decode(hear(&me).await.as_bytes(), &WireLimits::default()).unwrap();
        let Body::Result(result) = result.message.body else { panic!("no result") };
        assert_eq!(result.award.unwrap().as_str(), "task_1.1.k7q2m");
        assert!(result.output.contains("stand-in"));
    }
}
