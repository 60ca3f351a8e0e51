//! What the doctor looks at: adb's list, how each phone is, what its device says, and which phone reaches which.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::files::MappedDevice;
use futures_util::future::join_all;

use crate::adb::{Adb, AdbError, Attached, State};
use crate::api::types::Status;
use crate::exit::Failure;
use crate::phones::names::is_one_phone;
use crate::phones::probe::{Probe, Running};
use crate::phones::{MapFlag, Phones};

/// How long a phone tries to reach another, in seconds; twice, since a shell listener is deaf after each message.
const REACH_SECONDS: u64 = 3;
const REACH_LIMIT: Duration = Duration::from_secs(30);

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// Why adb could not be asked.
    pub adb: Option<AdbError>,
    pub phones: Vec<Phone>,
    /// Phones that adb sees and the map does not have.
    pub unmapped: Vec<String>,
    /// From one phone to another.
    pub reach: BTreeMap<(DeviceId, DeviceId), Reach>,
    /// Seconds since 1970, here.
    pub clock: u64,
    /// Of this program.
    pub version: String,
}

/// A phone of the map.
#[derive(Debug)]
pub struct Phone {
    pub mapped: MappedDevice,
    /// `None`: adb does not see it.
    pub state: Option<State>,
    /// Or why it could not be asked; `None`: there was nobody to ask.
    pub probe: Option<Result<Probe, String>>,
    /// Of a running device of ours, or why it does not answer.
    pub status: Option<Result<Status, String>>,
}

/// Whether one phone reaches another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Open,
    /// The phone is there, nothing listens at that address.
    Refused,
    /// No way there.
    Unreachable,
    /// It could not be tried: no netcat is there, or adb did not get through.
    Unknown,
}

impl Phone {
    pub fn id(&self) -> &DeviceId {
        &self.mapped.id
    }

    pub fn seen(&self) -> Option<&Probe> {
        self.probe.as_ref()?.as_ref().ok()
    }

    /// Where peers reach it now.
    pub fn address(&self) -> Option<SocketAddr> {
        self.seen()?.address()
    }

    pub fn runs(&self) -> bool {
        self.seen().is_some_and(|probe| probe.running != Running::Nothing)
    }
}

impl Facts {
    /// The phone of a device.
    pub fn phone(&self, id: &DeviceId) -> Option<&Phone> {
        self.phones.iter().find(|phone| phone.id() == id)
    }
}

pub async fn gather(map: &MapFlag) -> Result<Facts, Failure> {
    let phones = Phones::open(map)?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut facts = Facts { clock, version: env!("CARGO_PKG_VERSION").into(), ..Facts::default() };
    let attached = match phones.adb.devices().await {
        Ok(attached) => attached,
        Err(error) => {
            facts.adb = Some(error);
            return Ok(facts);
        }
    };
    // A map without phones is a finding like others.
    let devices = phones.all().unwrap_or_default();
    let strangers: Vec<Attached> = attached
        .iter()
        .filter(|phone| devices.iter().all(|device| device.serial != phone.serial))
        .cloned()
        .collect();
    let states: BTreeMap<String, State> =
        attached.into_iter().map(|phone| (phone.serial, phone.state)).collect();
    let looked = devices.iter().map(|device| look(&phones, device, states.get(&device.serial).cloned()));
    facts.phones = join_all(looked).await;
    facts.unmapped = unmapped(&phones.adb, &strangers, &facts.phones).await;
    facts.reach = reach(&phones.adb, &facts.phones).await;
    Ok(facts)
}

/// Those of adb's names that are of no phone of the map. A phone may have two: by cable and by network.
async fn unmapped(adb: &Adb, strangers: &[Attached], known: &[Phone]) -> Vec<String> {
    let found = strangers.iter().map(|stranger| async {
        let probe = match stranger.state {
            State::Ready => Probe::of(adb, &stranger.serial).await.ok(),
            _ => None,
        };
        let named = (stranger.serial.as_str(), probe.as_ref());
        let is_known = known.iter().any(|phone| is_one_phone(named, (&phone.mapped.serial, phone.seen())));
        (!is_known).then(|| stranger.serial.clone())
    });
    join_all(found).await.into_iter().flatten().collect()
}

async fn look(phones: &Phones, device: &MappedDevice, state: Option<State>) -> Phone {
    let mut phone = Phone { mapped: device.clone(), state, probe: None, status: None };
    if phone.state != Some(State::Ready) {
        return phone;
    }
    let probe = Probe::of(&phones.adb, &device.serial).await;
    phone.probe = Some(probe.map_err(|error| error.to_string()));
    if phone.seen().is_some_and(|probe| matches!(probe.running, Running::Bidmesh(_))) {
        let status =
            async { phones.remote(device).connect().await?.client.get::<Status>("/v1/status").await };
        phone.status = Some(status.await.map_err(|failure: Failure| failure.message));
    }
    phone
}

/// Each phone tries each other one at which something should listen.
async fn reach(adb: &Adb, phones: &[Phone]) -> BTreeMap<(DeviceId, DeviceId), Reach> {
    let from = phones.iter().filter(|phone| phone.seen().is_some());
    let tries = from.map(|from| async move {
        let mut reached = Vec::new();
        for to in phones.iter().filter(|to| to.id() != from.id() && to.runs()) {
            if let Some(address) = to.address() {
                let pair = (from.id().clone(), to.id().clone());
                reached.push((pair, connect(adb, &from.mapped.serial, address).await));
            }
        }
        reached
    });
    join_all(tries).await.into_iter().flatten().collect()
}

async fn connect(adb: &Adb, serial: &str, to: SocketAddr) -> Reach {
    // An empty message is none, to shell listeners as to us. Android's netcat says why it failed; others do if asked.
    let script = format!(
        "command -v nc >/dev/null || {{ echo missing; exit; }}\n\
         n() {{ nc \"$@\" -w {REACH_SECONDS} {ip} {port} </dev/null 2>&1; }}\n\
         for i in 1 2 3; do o=$(n) && {{ echo open; exit; }}; [ -n \"$o\" ] || o=$(n -v)\n\
         case $o in *refused*) r=refused; sleep 1 ;; *) r=unreachable; break ;; esac; done\necho $r",
        ip = to.ip(),
        port = to.port()
    );
    match adb.shell(serial, &script, REACH_LIMIT).await {
        Ok(said) => match said.stdout.trim() {
            "open" => Reach::Open,
            "refused" => Reach::Refused,
            "missing" => Reach::Unknown,
            _ => Reach::Unreachable,
        },
        Err(_) => Reach::Unknown,
    }
}
