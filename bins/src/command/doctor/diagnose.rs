//! Causes out of facts, each with what to do about it. Pure. One cause hides what follows from it: of a phone that is
//! not attached nothing else is said.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use bidmesh_core::id::DeviceId;
use bidmesh_core::wire::Reason;
use serde::Serialize;

use super::facts::{Facts, Phone, Reach};
use crate::adb::AdbError;
use crate::phones::probe::{Probe, Running};
use crate::phones::{MESH, PROGRAM};

/// Clocks that differ by less than this disturb nobody who compares logs.
const CLOCK_SECONDS: u64 = 60;

/// A cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `None`: the laptop, or the mesh as a whole.
    pub device_id: Option<String>,
    /// One word for programs.
    pub code: &'static str,
    pub what: String,
    #[serde(rename = "do")]
    pub remedy: String,
}

fn finding(
    device: Option<&DeviceId>,
    code: &'static str,
    what: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { device_id: device.map(ToString::to_string), code, what: what.into(), remedy: remedy.into() }
}

/// For a person.
pub fn words(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let whose = finding.device_id.as_deref().unwrap_or("The mesh");
        format!("{whose}: {}\n  do: {}\n", finding.what, finding.remedy)
    };
    findings.iter().map(line).collect()
}

/// What is wrong, the first cause first.
pub fn diagnose(facts: &Facts) -> Vec<Finding> {
    if let Some(error) = &facts.adb {
        let (code, what) = match error {
            AdbError::NotInstalled(_) => ("no_adb", "this machine has no adb"),
            _ => ("adb_broken", "adb does not work here"),
        };
        return vec![finding(None, code, what, error.to_string())];
    }
    let mut found = Vec::new();
    if facts.phones.is_empty() {
        let remedy = "attach the phones, then `bidmesh setup`";
        found.push(finding(None, "no_phones", "the device map has no phones", remedy));
    } else if !facts.unmapped.is_empty() {
        let what = format!("adb sees phones that are not in the device map: {}", facts.unmapped.join(", "));
        found.push(finding(None, "unmapped", what, "`bidmesh setup` takes them in"));
    }
    for phone in &facts.phones {
        match phone.seen() {
            None => found.push(unseen(phone)),
            Some(probe) => {
                found.extend(process(phone, probe));
                found.extend(address(phone, probe));
                found.extend(books(phone, probe, &facts.phones));
                found.extend(clock(phone, probe, facts.clock));
                found.extend(work(phone, probe));
            }
        }
    }
    found.extend(twins(&facts.phones));
    found.extend(versions(facts));
    found.extend(network(facts));
    found
}

/// A phone that could not be asked.
fn unseen(phone: &Phone) -> Finding {
    let id = Some(phone.id());
    match (&phone.state, &phone.probe) {
        (None, _) => finding(
            id,
            "not_attached",
            format!("adb does not see its phone {}", phone.mapped.serial),
            "plug it in, or `adb connect ADDRESS` for one over the network",
        ),
        (Some(state), None) => {
            let code = match state {
                crate::adb::State::Unauthorized => "unauthorized",
                crate::adb::State::Offline => "offline",
                _ => "not_ready",
            };
            let remedy = state.obstacle().unwrap_or_default();
            finding(id, code, format!("its phone is {state}"), remedy)
        }
        (Some(_), Some(result)) => {
            let why = result.as_ref().err().cloned().unwrap_or_default();
            finding(id, "silent", "its phone does not do what adb asks", why)
        }
    }
}

fn process(phone: &Phone, probe: &Probe) -> Option<Finding> {
    let id = Some(phone.id());
    match (&probe.running, &probe.program_sum) {
        (Running::Nothing, None) if probe.file("device_config.json").is_some() => {
            let what = "it is prepared as a shell device, and its listener does not run";
            let remedy = "start the listener there (`sh mesh_listener.sh` in /data/local/tmp/mesh), or let `bidmesh \
                          setup` put bidmesh there";
            Some(finding(id, "not_running", what, remedy))
        }
        (Running::Nothing, None) => {
            Some(finding(id, "not_set_up", "bidmesh is not on it", "`bidmesh setup` puts it there"))
        }
        (Running::Nothing | Running::Bidmesh(_), Some(_)) if probe.program_version.is_none() => {
            Some(finding(
                id,
                "program_broken",
                "its program is there and does not run",
                "`bidmesh setup` replaces it; is what it brings built for this phone?",
            ))
        }
        (Running::Nothing, Some(_)) => {
            let remedy = format!("`bidmesh start {}`", phone.id());
            Some(finding(id, "not_running", "its device does not run", remedy))
        }
        _ => None,
    }
}

/// Where others believe that it is.
fn address(phone: &Phone, probe: &Probe) -> Option<Finding> {
    let id = Some(phone.id());
    let listens = probe.running == Running::Listener;
    // A listener's file may say where it was.
    let Some(now) = probe.address().filter(|_| !listens || !probe.is_elsewhere()) else {
        let what =
            if probe.is_elsewhere() { "it has only a mobile or VPN address" } else { "it has no address" };
        return Some(finding(id, "no_network", what, "connect it to the Wi-Fi of the others"));
    };
    let mapped = phone.mapped.ip.filter(|ip| *ip != now.ip());
    let told = probe.info().and_then(|info| info.ip).filter(|ip| *ip != now.ip());
    let (who, old) = match (mapped, told) {
        // What a listener says is changed by nothing else.
        (_, Some(old)) if listens => ("its my_info.txt", old),
        (Some(old), _) => ("the device map", old),
        (None, Some(old)) => ("its my_info.txt", old),
        (None, None) => return None,
    };
    let remedy = if listens && told.is_some() {
        format!("`bidmesh setup --shell-only {}` writes the new one there", phone.id())
    } else {
        "`bidmesh setup` tells everybody the new one".into()
    };
    Some(finding(
        id,
        "wrong_address",
        format!("its address is {} now, and {who} says {old}", now.ip()),
        remedy,
    ))
}

/// Its address book against where the others are.
fn books(phone: &Phone, probe: &Probe, phones: &[Phone]) -> Vec<Finding> {
    let id = Some(phone.id());
    let Some(book) = probe.peers() else {
        let what = "its peers.txt cannot be understood";
        return vec![finding(
            id,
            "bad_peers",
            what,
            "look at it (`adb shell cat /data/local/tmp/mesh/peers.txt`) and mend the line",
        )];
    };
    let known: BTreeMap<DeviceId, SocketAddr> = book.peers().into_iter().collect();
    let mut found = Vec::new();
    for other in phones.iter().filter(|other| other.id() != phone.id()) {
        let Some(now) = other.address() else { continue };
        match known.get(other.id()) {
            Some(at) if *at == now => {}
            Some(at) if probe.running == Running::Listener => found.push(finding(
                id,
                "shell_answers_old_address",
                format!("its shell listener answers {} at its old address {at}; it is at {now}", other.id()),
                format!("`bidmesh setup --shell-only {}` puts the new address first", phone.id()),
            )),
            Some(at) => found.push(finding(
                id,
                "stale_peer",
                format!("it believes {} at {at}; it is at {now}", other.id()),
                "`bidmesh setup` tells it",
            )),
            None => found.push(finding(
                id,
                "not_mutual",
                format!("it does not know {}, which is in the device map", other.id()),
                if probe.running == Running::Listener {
                    format!("`bidmesh setup --shell-only {}` tells it", phone.id())
                } else {
                    "`bidmesh setup` tells it".into()
                },
            )),
        }
    }
    found
}

fn clock(phone: &Phone, probe: &Probe, here: u64) -> Option<Finding> {
    let off = probe.clock?.abs_diff(here);
    (off > CLOCK_SECONDS).then(|| {
        finding(
            Some(phone.id()),
            "clock_skew",
            format!("its clock differs from this machine's by {}", crate::duration::words(off.saturating_mul(1000))),
            "let it take its time from the network (Settings, Date and time); its log is hard to compare until then",
        )
    })
}

/// Whether it would run a prompt.
fn work(phone: &Phone, probe: &Probe) -> Option<Finding> {
    let id = Some(phone.id());
    match phone.status.as_ref()? {
        Err(why) => {
            let remedy = format!("`bidmesh log {0}`, then `bidmesh restart {0}`", phone.id());
            Some(finding(id, "device_silent", format!("its device does not answer: {why}"), remedy))
        }
        Ok(_) if probe.only_asks_others() => None,
        Ok(status) if !status.executor.available => {
            let what = format!("it cannot run prompts: {}", status.executor.why);
            let remedy = "put a model runner on it (run_slm.sh in /data/local/tmp/mesh), or fetch a model here with \
                          `bidmesh model pull`; then `bidmesh setup`";
            Some(finding(id, "no_backend", what, remedy))
        }
        Ok(status) => {
            let reason = Reason::read(status.refuses.as_ref()?);
            let what = format!("it refuses work: {}", reason.words());
            Some(finding(id, "refuses", what, until_it_works(phone, &reason)))
        }
    }
}

/// What ends a refusal.
fn until_it_works(phone: &Phone, reason: &Reason) -> String {
    match reason {
        Reason::Battery => "charge it".into(),
        Reason::Heat => "let it cool".into(),
        Reason::Paused => {
            let program = format!("{PROGRAM} --dir {MESH}");
            format!("`adb -s {} shell {program} resume`", phone.mapped.serial)
        }
        Reason::Hours => format!("wait, or `bidmesh config set {} work.hours always`", phone.id()),
        _ => format!("`bidmesh log {}` says more", phone.id()),
    }
}

fn twins(phones: &[Phone]) -> Vec<Finding> {
    let mut claimed: BTreeMap<DeviceId, Vec<&Phone>> = BTreeMap::new();
    for phone in phones {
        if let Some(id) = phone.seen().and_then(Probe::id) {
            claimed.entry(id).or_default().push(phone);
        }
    }
    let twins = claimed.into_iter().filter(|(_, phones)| phones.len() > 1);
    let mut found: Vec<Finding> = twins
        .map(|(id, phones)| {
            let serials: Vec<&str> = phones.iter().map(|phone| phone.mapped.serial.as_str()).collect();
            let what = format!("two phones call themselves {id}: {}", serials.join(", "));
            finding(
                Some(&id),
                "two_devices_with_one_id",
                what,
                "`bidmesh setup` gives each the name that the device map has for it",
            )
        })
        .collect();
    for phone in phones {
        let own = phone.seen().and_then(Probe::id).filter(|own| own != phone.id());
        let Some(own) = own.filter(|own| !found.iter().any(|f| f.device_id.as_deref() == Some(own.as_str())))
        else {
            continue;
        };
        let what = format!("its phone calls itself {own}");
        found.push(finding(
            Some(phone.id()),
            "other_name",
            what,
            "`bidmesh setup` renames it, or change the device map",
        ));
    }
    found
}

fn versions(facts: &Facts) -> Vec<Finding> {
    let version = |phone: &Phone| {
        let running = phone.status.as_ref().and_then(|status| Some(status.as_ref().ok()?.version.clone()));
        running.or_else(|| phone.seen()?.program_version.clone())
    };
    let others = facts.phones.iter().filter_map(|phone| Some((phone, version(phone)?)));
    others
        .filter(|(_, version)| *version != facts.version)
        .map(|(phone, version)| {
            let what = format!("it has bidmesh {version}, this machine {}", facts.version);
            finding(Some(phone.id()), "version_skew", what, "`bidmesh setup` brings it up to date")
        })
        .collect()
}

/// Whether two phones should reach each other without anything between them.
fn are_neighbours(one: Option<&Phone>, other: Option<&Phone>) -> bool {
    let network = |phone: Option<&Phone>| match phone?.address()?.ip() {
        IpAddr::V4(ip) if !phone?.seen()?.is_elsewhere() => {
            Some([ip.octets()[0], ip.octets()[1], ip.octets()[2]])
        }
        _ => None,
    };
    network(one).is_some() && network(one) == network(other)
}

/// Which phone reaches which.
fn network(facts: &Facts) -> Vec<Finding> {
    let tried: Vec<_> = facts.reach.iter().filter(|(_, reach)| **reach != Reach::Unknown).collect();
    let nobody = tried.iter().all(|((from, to), reach)| {
        **reach == Reach::Unreachable && are_neighbours(facts.phone(from), facts.phone(to))
    });
    // One pair may have a cause of its own.
    if nobody && tried.len() > 1 {
        return vec![finding(
            None,
            "wifi_isolation",
            "no phone reaches any other, although their devices run: the Wi-Fi keeps its clients apart",
            "switch client (AP) isolation off in the access point, leave its guest network, or let one phone be the hotspot",
        )];
    }
    let mut found = Vec::new();
    for phone in &facts.phones {
        let to_it = || tried.iter().filter(|((_, to), _)| to == phone.id());
        let from = |wanted: &Reach| -> Vec<String> {
            to_it().filter(|(_, reach)| *reach == wanted).map(|((from, _), _)| from.to_string()).collect()
        };
        let Some(at) = phone.address() else { continue };
        let refused = from(&Reach::Refused);
        let listens = phone.seen().is_some_and(|probe| probe.running == Running::Listener);
        if !refused.is_empty() && listens {
            let what =
                format!("its shell listener takes nothing from {}: it is busy or deaf", refused.join(", "));
            let remedy = "it is deaf while it runs a prompt: ask the doctor again in some minutes, then start the \
                          listener anew there";
            found.push(finding(Some(phone.id()), "shell_deaf", what, remedy));
        } else if !refused.is_empty() {
            let what = format!("its device runs, but nothing listens at {at} for {}", refused.join(", "));
            let remedy = format!(
                "look at its setting `listen` and its log (`bidmesh log {0}`), then `bidmesh restart {0}`",
                phone.id()
            );
            found.push(finding(Some(phone.id()), "port_closed", what, remedy));
        }
        let lost = from(&Reach::Unreachable);
        if !lost.is_empty() {
            let what = format!("{} cannot reach it at {at}", lost.join(", "));
            let remedy = "put it into the Wi-Fi of the others; look for a VPN or firewall on it";
            found.push(finding(Some(phone.id()), "unreachable", what, remedy));
        }
    }
    found
}

#[cfg(test)]
mod tests;
