//! Causes out of facts, each with what to do about it. Pure. One cause hides what follows from it: of a phone that is
//! not attached nothing else is said.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bidmesh_core::id::DeviceId;
use serde::Serialize;

use super::facts::{Facts, Phone, Reach};
use crate::adb::AdbError;
use crate::phones::probe::{Probe, Running};

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
            let why = status.refuses_words.as_ref()?;
            Some(finding(
                id,
                "refuses",
                format!("it refuses work: {why}"),
                "charge it, let it cool, or resume it",
            ))
        }
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

/// Which phone reaches which.
fn network(facts: &Facts) -> Vec<Finding> {
    let tried: Vec<_> = facts.reach.iter().filter(|(_, reach)| **reach != Reach::Unknown).collect();
    let unreachable = tried.iter().filter(|(_, reach)| **reach == Reach::Unreachable).count();
    if unreachable > 0 && unreachable == tried.len() {
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
        if !refused.is_empty() {
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
mod tests {
    use super::*;
    use crate::adb::State;
    use bidmesh_io_tokio::files::MappedDevice;

    fn id(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    /// A phone at 10.0.0.`last` that runs and knows the others.
    fn phone(name: &str, last: u8, peers: &str) -> Phone {
        let printed = format!(
            "\n@@ addresses\n31: wlan0    inet 10.0.0.{last}/24 scope global wlan0\n@@ peers.txt\n{peers}\n\
             @@ my_info.txt\n{name}:10.0.0.{last}:9999\n@@ running\n7\n@@ sum\nabc\n@@ version\nbidmesh 0.1.0\n@@ clock\n1000\n"
        );
        let ip = Some(format!("10.0.0.{last}").parse().unwrap());
        Phone {
            mapped: MappedDevice { id: id(name), serial: format!("serial{last}"), ip },
            state: Some(State::Ready),
            probe: Some(Ok(Probe::read_for_tests(&printed, "@@"))),
            status: None,
        }
    }

    fn facts() -> Facts {
        Facts {
            phones: vec![phone("A", 1, "B:10.0.0.2:9999"), phone("B", 2, "A:10.0.0.1:9999")],
            reach: [((id("A"), id("B")), Reach::Open), ((id("B"), id("A")), Reach::Open)].into(),
            clock: 1000,
            version: "0.1.0".into(),
            ..Facts::default()
        }
    }

    fn codes(facts: &Facts) -> Vec<(Option<String>, &'static str)> {
        diagnose(facts).into_iter().map(|finding| (finding.device_id, finding.code)).collect()
    }

    #[test]
    fn a_mesh_in_order_has_no_findings() {
        assert_eq!(codes(&facts()), []);
    }

    #[test]
    fn without_adb_nothing_else_is_said() {
        let mut facts = facts();
        facts.adb = Some(AdbError::NotInstalled("adb".into()));
        assert_eq!(codes(&facts), [(None, "no_adb")]);
    }

    #[test]
    fn isolation_is_when_nobody_reaches_anybody_and_one_pair_is_not() {
        let mut facts = facts();
        facts.reach.insert((id("A"), id("B")), Reach::Unreachable);
        assert_eq!(codes(&facts), [(Some("B".into()), "unreachable")]);
        facts.reach.insert((id("B"), id("A")), Reach::Unreachable);
        assert_eq!(codes(&facts), [(None, "wifi_isolation")]);
    }

    #[test]
    fn what_follows_from_a_missing_phone_is_not_said_too() {
        let mut facts = facts();
        facts.phones[0].probe = None;
        facts.phones[0].state = None;
        facts.reach.clear();
        assert_eq!(codes(&facts), [(Some("A".into()), "not_attached")]);
    }

    /// A code is a word of lower case that stands alone in quotes, behind a device or nothing.
    #[test]
    fn every_code_is_in_the_documentation() {
        let source = include_str!("diagnose.rs");
        let program = source.split("mod tests").next().unwrap();
        let is_code = |text: &&str| {
            text.len() > 5 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_') && text.contains('_')
                || ["unauthorized", "offline", "silent", "unmapped", "unreachable", "refuses"].contains(text)
        };
        let codes: std::collections::BTreeSet<&str> =
            program.split('"').skip(1).step_by(2).filter(is_code).collect();
        assert!(codes.len() > 20, "{codes:?}");
        for code in codes {
            assert!(include_str!("../../../../docs/adb.md").contains(&format!("`{code}`")), "{code}");
        }
    }

    #[test]
    fn findings_read_well() {
        let mut facts = facts();
        facts.clock = 5000;
        facts.version = "0.2.0".into();
        facts.phones[1].mapped.ip = "10.0.0.77".parse().ok();
        facts.phones.push(phone("C", 3, ""));
        facts.reach.insert((id("A"), id("C")), Reach::Refused);
        insta::assert_snapshot!(words(&diagnose(&facts)));
    }
}
