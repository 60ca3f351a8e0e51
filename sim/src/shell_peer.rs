//! A device of the shell mesh in the socket tier, as it was measured (`tests/shell-mesh` is the script): one connection
//! at a time, deaf while it measures, runs or speaks, answers to the first address that it noted for a name, a RESULT with
//! the output pasted in raw, several spellings of its netcat, of which each may deliver.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use tokio::time::sleep;

use crate::echo::Echo;
use crate::host::{PORT, any};
use crate::mesh::device;
use crate::netcat::Netcat;
use crate::record::{Record, What};
use crate::script::answer;
use crate::sockets::{Roughness, TurmoilSockets};
use crate::world::choices::Choices;

/// How long its port is closed after each message, in milliseconds.
const CLOSED: (u64, u64) = (105, 132);
/// How long it measures before a bid, in milliseconds: half a second for its processor's load, the rest for its programs.
const MEASURES: (u64, u64) = (600, 1_100);
/// How often it greets each peer when it starts, a second apart.
const GREETINGS: u32 = 20;

/// The `sh` of a shell device, by what its `echo` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// Android's.
    Mksh,
    /// Debian's.
    Dash,
    /// bash or busybox: their `echo` interprets nothing.
    Literal,
}

impl Shell {
    fn echo(self) -> Echo {
        match self {
            Self::Mksh => Echo::Mksh,
            Self::Dash => Echo::Dash,
            Self::Literal => Echo::Literal,
        }
    }
}

/// A shell device as it is planned.
#[derive(Clone, Debug)]
pub struct ShellPeer {
    device: DeviceId,
    netcat: Netcat,
    shell: Shell,
    runs: Duration,
    cpu: u32,
    copies: usize,
    detached: bool,
    noted: Vec<(DeviceId, u16)>,
    rough: Option<Roughness>,
}

impl ShellPeer {
    /// A device under mksh with that netcat, nearly idle, which answers each prompt within a second and knows nobody.
    ///
    /// # Panics
    /// If `id` is no device id.
    pub fn new(id: &str, netcat: Netcat) -> Self {
        Self {
            device: device(id),
            netcat,
            shell: Shell::Mksh,
            runs: Duration::from_millis(500),
            cpu: 6,
            copies: 1,
            detached: false,
            noted: Vec::new(),
            rough: None,
        }
    }

    /// Its `sh`.
    #[must_use]
    pub fn shell(self, shell: Shell) -> Self {
        Self { shell, ..self }
    }

    /// Its model script takes so long, and it is deaf for that long.
    #[must_use]
    pub fn runs(self, runs: Duration) -> Self {
        Self { runs, ..self }
    }

    /// Its load in percent, 0 to 99.
    #[must_use]
    pub fn cpu(self, cpu: u32) -> Self {
        Self { cpu, ..self }
    }

    /// Each message of its own goes out so many times, if its netcat knows so many spellings: the first ones deliver, and
    /// end with another status than 0 all the same.
    #[must_use]
    pub fn copies(self, copies: usize) -> Self {
        Self { copies, ..self }
    }

    /// It was started with its standard input at `/dev/null`: most netcats that listen then end their sending side as soon
    /// as somebody connects, and read all the same.
    #[must_use]
    pub fn detached(self) -> Self {
        Self { detached: true, ..self }
    }

    /// The first line of its peers.txt with that name says this port.
    ///
    /// # Panics
    /// If `id` is no device id.
    #[must_use]
    pub fn noted(mut self, id: &str, port: u16) -> Self {
        self.noted.push((device(id), port));
        self
    }

    /// Its connections are split and delayed.
    #[must_use]
    pub fn rough(self, roughness: Roughness) -> Self {
        Self { rough: Some(roughness), ..self }
    }

    pub(crate) fn device(&self) -> &DeviceId {
        &self.device
    }
}

/// The host of a shell device, over all its starts.
pub(crate) struct ShellHost {
    plan: ShellPeer,
    seed: u64,
    record: Record,
    starts: AtomicU32,
    /// peers.txt: lines are only ever added.
    peers: Mutex<Vec<(String, SocketAddr)>>,
}

impl ShellHost {
    pub(crate) fn new(
        plan: ShellPeer,
        addresses: &[(DeviceId, SocketAddr)],
        seed: u64,
        record: Record,
    ) -> Self {
        let line = |(id, port): &(DeviceId, u16)| {
            let (_, address) = addresses.iter().find(|(device, _)| device == id)?;
            Some((id.to_string(), SocketAddr::new(address.ip(), *port)))
        };
        let peers = Mutex::new(plan.noted.iter().filter_map(line).collect());
        Self { plan, seed, record, starts: AtomicU32::new(0), peers }
    }

    /// One start of it, until its host ends.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        self.record.note(&self.plan.device, What::Started(start));
        let mut choices = Choices::split(self.seed, &format!("shell {} {start}", self.plan.device));
        let sockets = self
            .plan
            .rough
            .map_or_else(TurmoilSockets::default, |rough| TurmoilSockets::rough(rough, choices.draw()));
        let address = SocketAddr::new(turmoil::lookup(self.plan.device.as_str()), PORT);
        Running { host: &self, sockets, choices, address }.listen().await
    }

    fn peers(&self) -> Vec<(String, SocketAddr)> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// HELLO or DISCOVER: a line is added unless that very line is there.
    fn note(&self, id: &str, address: SocketAddr) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let line = (id.to_owned(), address);
        if !peers.contains(&line) {
            peers.push(line);
        }
    }

    /// Where a device is answered: the first line with its name.
    fn address_of(&self, id: &str) -> Option<SocketAddr> {
        self.peers().into_iter().find(|(name, _)| name == id).map(|(_, address)| address)
    }
}

/// What its netcat printed, taken apart by `cut` and `grep`.
struct Heard {
    kind: String,
    from: String,
    /// As a third `echo` prints it: what `grep` sees, and what becomes a prompt file.
    payload: String,
    /// The prompt file of a TASK.
    task_prompt: String,
}

impl Heard {
    /// `None`: the script logs `Unknown message type`.
    fn read(echo: Echo, message: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(message).into_owned();
        let mut fields = text.split('|').map(str::to_owned);
        let printed = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Some(Self {
            kind: fields.next()?,
            from: fields.next()?,
            payload: printed(echo.printed_payload(message)?),
            task_prompt: printed(echo.task_prompt_file(message)?),
        })
    }

    /// `grep -o '"task_id": *"[^"]*"' | cut -d'"' -f4`.
    fn task_id(&self) -> &str {
        let after = self.payload.split_once("\"task_id\":").map_or("", |(_, after)| after.trim_start());
        after.strip_prefix('"').and_then(|value| value.split_once('"')).map_or("", |(value, _)| value)
    }

    /// The address of HELLO and DISCOVER; what stands after the port is cut off.
    fn address(&self) -> Option<SocketAddr> {
        let mut fields = self.payload.trim_end().split(':');
        Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    }
}

/// A shell device that runs.
struct Running<'a> {
    host: &'a ShellHost,
    sockets: TurmoilSockets,
    choices: Choices,
    address: SocketAddr,
}

impl Running<'_> {
    /// Greets whom it knows; then takes one message after the other, and listens to nobody while it works on it.
    async fn listen(mut self) -> turmoil::Result {
        let plan = &self.host.plan;
        self.greet().await;
        loop {
            let message = plan.netcat.receive(&self.sockets, any(), plan.detached).await?;
            match Heard::read(plan.shell.echo(), &message) {
                Some(heard) => self.handle(&heard).await,
                None if message.is_empty() => {}
                None => {
                    let kind = "Unknown message type".into();
                    self.host.record.note(&plan.device, What::Received { from: None, kind });
                }
            }
            let (least, most) = CLOSED;
            sleep(self.choices.millis(least, most)).await;
        }
    }

    async fn greet(&self) {
        let hello = self.hello();
        let mut greeted: Vec<String> = Vec::new();
        for (id, _) in self.host.peers() {
            let Some(to) = self.host.address_of(&id).filter(|_| !greeted.contains(&id)) else { continue };
            for _ in 0..GREETINGS {
                if self.send(&id, to, &hello).await {
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
            greeted.push(id);
        }
    }

    fn hello(&self) -> String {
        format!("HELLO|{}|{}", self.host.plan.device, self.address)
    }

    async fn handle(&mut self, heard: &Heard) {
        let ShellPeer { device: me, .. } = &self.host.plan;
        let from = DeviceId::new(&heard.from);
        self.host.record.note(me, What::Received { from: from.ok(), kind: heard.kind.clone() });
        match heard.kind.as_str() {
            "HELLO" | "DISCOVER" => {
                let Some(address) = heard.address() else { return };
                self.host.note(&heard.from, address);
                if heard.kind == "DISCOVER" {
                    self.send(&heard.from, address, &self.hello()).await;
                }
            }
            "BID_REQUEST" => {
                let (least, most) = MEASURES;
                sleep(self.choices.millis(least, most)).await;
                self.answer(heard, format!("BID_RESPONSE|{me}|{}", self.bid())).await;
            }
            "TASK" => {
                let task = heard.task_id();
                self.host.record.note(me, What::Took(task.into()));
                let output = self.run(&heard.task_prompt).await;
                let result = format!(
                    r#"RESULT|{me}|{{"task_id": "{task}", "device_id": "{me}", "status": "completed", "output": "{output}"}}"#
                );
                self.answer(heard, result).await;
            }
            "SLM_PROMPT" => {
                let output = self.run(&heard.payload).await;
                self.answer(heard, format!("SLM_RESULT|{me}|{output}")).await;
            }
            // Logged, whatever it is.
            _ => {}
        }
    }

    fn bid(&self) -> String {
        let ShellPeer { device: me, cpu, .. } = &self.host.plan;
        format!(
            r#"{{"device_id": "{me}", "cpu_load": 0.{cpu:02}, "ram_load": 0.0675015, "battery": -1, "has_npu": false}}"#
        )
    }

    /// `$(run_slm.sh FILE)`, which drops the line ends after the output.
    async fn run(&self, prompt_file: &str) -> String {
        let ShellPeer { device: me, runs, .. } = &self.host.plan;
        let prompt = prompt_file.trim_end_matches('\n');
        self.host.record.note(me, What::RunBegan(prompt.into()));
        sleep(*runs).await;
        answer(me, prompt)
    }

    /// To the first address that it noted for whoever asked, and never on the connection that the question came on.
    async fn answer(&self, heard: &Heard, message: String) {
        if let Some(to) = self.host.address_of(&heard.from) {
            self.send(&heard.from, to, &message).await;
        }
    }

    /// One spelling after the other until one ends with 0; whether one did.
    async fn send(&self, name: &str, to: SocketAddr, message: &str) -> bool {
        let ShellPeer { device: me, netcat, copies, .. } = &self.host.plan;
        let Ok(name) = DeviceId::new(name) else { return false };
        let kind = message.split('|').next().unwrap_or_default();
        for (number, spelling) in netcat.spellings().enumerate() {
            self.host.record.note(me, What::Sending { to: name.clone(), kind: kind.into() });
            let ended = netcat.send(spelling, &self.sockets, to, message.as_bytes()).await;
            let sent = What::Sent { to: name.clone(), kind: kind.into(), failure: ended.err() };
            self.host.record.note(me, sent);
            if ended.is_ok() && number + 1 >= *copies {
                return true;
            }
        }
        false
    }
}
