//! Causes out of facts that are made up.

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
fn a_program_that_does_not_run_is_told_whatever_it_prints() {
    let mut facts = facts();
    let printed = "\n@@ addresses\n31: wlan0    inet 10.0.0.2/24\n@@ peers.txt\nA:10.0.0.1:9999\n\
                   @@ sum\nabc\n@@ version\nbidmesh: not found\n@@ clock\n1000\n";
    facts.phones[1].probe = Some(Ok(Probe::read_for_tests(printed, "@@")));
    assert_eq!(codes(&facts), [(Some("B".into()), "program_broken")]);
}

#[test]
fn isolation_is_when_neighbours_reach_nobody_and_one_pair_is_not() {
    let mut facts = facts();
    facts.reach.insert((id("A"), id("B")), Reach::Unreachable);
    assert_eq!(codes(&facts), [(Some("B".into()), "unreachable")]);
    facts.reach.insert((id("B"), id("A")), Reach::Unreachable);
    assert_eq!(codes(&facts), [(None, "wifi_isolation")]);
    // The only pair that was tried has a cause of its own: a mobile network, a firewall.
    facts.reach.remove(&(id("A"), id("B")));
    assert_eq!(codes(&facts), [(Some("A".into()), "unreachable")]);
    // So have phones in two networks.
    facts.reach.insert((id("A"), id("B")), Reach::Unreachable);
    let moved = "31: wlan0    inet 10.0.9.2/24\n";
    facts.phones[1].probe.as_mut().unwrap().as_mut().unwrap().addresses = read_addresses(moved);
    let unreachable = codes(&facts).into_iter().filter(|(_, code)| *code == "unreachable").count();
    assert_eq!(unreachable, 2);
}

fn read_addresses(printed: &str) -> Vec<(String, std::net::Ipv4Addr)> {
    Probe::read_for_tests(&format!("\n@@ addresses\n{printed}"), "@@").addresses
}

#[test]
fn a_phone_with_its_provider_only_has_no_network() {
    let mut facts = facts();
    let mobile = "21: rmnet_data0    inet 10.100.3.7/30\n";
    facts.phones[1].probe.as_mut().unwrap().as_mut().unwrap().addresses = read_addresses(mobile);
    facts.reach.clear();
    assert_eq!(codes(&facts), [(Some("B".into()), "no_network")]);
    assert!(diagnose(&facts)[0].what.contains("only a mobile or VPN address"));
}

#[test]
fn what_is_said_of_a_shell_device_is_what_helps_it() {
    let mut facts = facts();
    let listener = |listens: &str, info: &str| {
        let printed = format!(
            "\n@@ addresses\n31: wlan0    inet 10.0.0.2/24\n@@ peers.txt\nA:10.0.0.1:9999\n\
             @@ my_info.txt\nB:{info}:9999\n@@ device_config.json\n{{}}\n{listens}@@ clock\n1000\n"
        );
        Some(Ok(Probe::read_for_tests(&printed, "@@")))
    };
    facts.phones[1].probe = listener("@@ listener\n/proc/7/cmdline\n", "10.0.0.77");
    assert_eq!(codes(&facts), [(Some("B".into()), "wrong_address")]);
    assert!(diagnose(&facts)[0].remedy.contains("setup --shell-only B"));
    facts.phones[1].probe = listener("@@ listener\n/proc/7/cmdline\n", "10.0.0.2");
    facts.reach.insert((id("A"), id("B")), Reach::Refused);
    assert_eq!(codes(&facts), [(Some("B".into()), "shell_deaf")]);
    facts.phones[1].probe = listener("", "10.0.0.2");
    facts.reach.remove(&(id("A"), id("B")));
    assert_eq!(codes(&facts), [(Some("B".into()), "not_running")]);
    assert!(diagnose(&facts)[0].what.contains("its listener does not run"));
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
    let source = include_str!("../diagnose.rs");
    let program = source.split("mod tests").next().unwrap();
    let is_code = |text: &&str| {
        text.len() > 5 && text.chars().all(|c| c.is_ascii_lowercase() || c == '_') && text.contains('_')
            || ["unauthorized", "offline", "silent", "unmapped", "unreachable", "refuses"].contains(text)
    };
    let codes: std::collections::BTreeSet<&str> =
        program.split('"').skip(1).step_by(2).filter(is_code).collect();
    assert!(codes.len() > 20, "{codes:?}");
    for code in codes {
        assert!(include_str!("../../../../../docs/adb.md").contains(&format!("`{code}`")), "{code}");
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

#[test]
fn what_ends_a_refusal_fits_its_reason() {
    let phone = phone("A", 1, "");
    for (reason, part) in [
        (Reason::Battery, "charge"),
        (Reason::Heat, "cool"),
        (Reason::Paused, "-s serial1 shell /data/local/tmp/mesh/bidmesh --dir /data/local/tmp/mesh resume"),
        (Reason::Hours, "config set A work.hours always"),
        (Reason::Leaving, "bidmesh log A"),
    ] {
        assert!(until_it_works(&phone, &reason).contains(part), "{reason:?}");
    }
}
