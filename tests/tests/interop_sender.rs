//! The interop matrix, senders: our listener takes what each netcat sends with its usual options, once, and the
//! netcat ends at once and with status 0 (a shell device would send again otherwise). Bare text from the two that do
//! not close their side ends by silence alone, which takes two seconds. Needs what `.ci/setup` installs.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bidmesh_core::wire::{Decoded, WireLimits, decode};
use bidmesh_tests::{LineEnd, MeshPeer, Netcat, Process, Shell, ShellDevice, all_at_once, require};

/// Far below the half minute after which a netcat gives up, far above what a loaded machine needs.
const IN_TIME: Duration = Duration::from_secs(12);
/// Below the two seconds of silence that end what has no end of its own.
const AT_ONCE: Duration = Duration::from_millis(1500);
/// A loaded machine can delay any run, but hardly ten in a row.
const ATTEMPTS: usize = 10;
/// Netcats that run at the same time; an address may have 32 connections.
const AT_A_TIME: usize = 24;
const SOON: Duration = Duration::from_secs(30);

/// Every type as a shell device or a person writes it, without FROM. The first have an end that can be seen.
const MESSAGES: [(&str, &str); 11] = [
    ("HELLO", "127.0.0.1:15001"),
    ("DISCOVER", ":9999"),
    ("BID_REQUEST", r#"{"task_id": "task_1", "task_type": "slm_inference", "prompt": "hi", "deadline": 10}"#),
    (
        "BID_RESPONSE",
        r#"{"device_id": "D", "cpu_load": 1, "ram_load": 0.0675015, "battery": -1, "has_npu": false}"#,
    ),
    ("TASK", r#"{"task_id": "task_7", "prompt": "Hello", "use_npu": true, "prompt_type": "npu_prompt"}"#),
    (
        "RESULT",
        "{\"task_id\": \"t\", \"device_id\": \"D\", \"status\": \"completed\", \"output\": \"a \"b\"\n{\"c\": \"}\"}",
    ),
    ("TEXT", "one | two \"three\"\nfour"),
    ("SLM_PROMPT", "Describe a \"sunset\" | please"),
    ("SLM_RESULT", "An answer\nwith \"quotes\" | and a bar"),
    // Without awk: no JSON, so its end cannot be seen.
    ("BID_RESPONSE", r#"{"device_id": "D", "cpu_load": , "ram_load": , "battery": -1, "has_npu": false}"#),
    ("NOVELTY", "whatever"),
];

/// How many of them have: addresses, strict JSON, and raw output.
const WITH_END: usize = 6;

/// One run of a netcat and what it should have brought.
struct Case {
    from: String,
    options: &'static [&'static str],
    input: Vec<u8>,
    expected: Decoded,
}

fn cases(netcat: Netcat) -> Vec<Case> {
    let mut cases = Vec::new();
    for options in netcat.sending_options() {
        for line_end in LineEnd::ALL {
            for (kind, payload) in MESSAGES {
                let from = format!("Device_{}", cases.len());
                let message = format!("{kind}|{from}|{payload}");
                let expected = decode(message.as_bytes(), &WireLimits::default())
                    .expect("a message that can be decoded");
                cases.push(Case { from, options, input: line_end.end(&message), expected });
            }
        }
    }
    cases
}

/// Runs a netcat to its end; returns how long it took.
fn run(netcat: Netcat, options: &[&str], input: &[u8], peer: &MeshPeer) -> Duration {
    let mut command = netcat.sender(options, peer.address());
    let finished = Process::run(&mut command, input, SOON);
    let what = format!("{command:?} with {:?}", String::from_utf8_lossy(input));
    assert!(finished.status.success(), "{what}: {finished:?}");
    assert!(finished.took < IN_TIME, "{what}: {finished:?}");
    finished.took
}

fn every_usual_invocation(netcat: Netcat) {
    if !require(&[netcat.program()]) {
        return;
    }
    let peer = MeshPeer::listen("Device_A");
    let cases = cases(netcat);
    for some in cases.chunks(AT_A_TIME) {
        all_at_once(some, |case| {
            run(netcat, case.options, &case.input, &peer);
        });
    }
    peer.settle();
    let heard = peer.heard();
    for case in &cases {
        let got: Vec<_> = heard
            .iter()
            .filter_map(|incoming| incoming.message.as_ref().ok())
            .filter(|decoded| decoded.message.from.as_str() == case.from)
            .collect();
        assert_eq!(got, [&case.expected], "{netcat:?} {:?}", case.options);
    }
    assert_eq!(heard.len(), cases.len());
}

#[test]
fn toybox() {
    every_usual_invocation(Netcat::Toybox);
}

#[test]
fn busybox() {
    every_usual_invocation(Netcat::Busybox);
}

#[test]
fn openbsd() {
    every_usual_invocation(Netcat::OpenBsd);
}

#[test]
fn traditional() {
    every_usual_invocation(Netcat::Traditional);
}

#[test]
fn ncat() {
    every_usual_invocation(Netcat::Ncat);
}

/// What has an end that can be seen is not waited for, whether or not the netcat closes its side.
#[test]
fn what_has_an_end_ends_at_once() {
    all_at_once(Netcat::ALL, |netcat| {
        if !require(&[netcat.program()]) {
            return;
        }
        let peer = MeshPeer::listen("Device_A");
        for options in netcat.sending_options() {
            for (kind, payload) in &MESSAGES[..WITH_END] {
                let message = format!("{kind}|Device_B|{payload}");
                let fast = (0..ATTEMPTS).any(|_| run(netcat, options, message.as_bytes(), &peer) < AT_ONCE);
                assert!(fast, "{netcat:?} {options:?} {kind}");
            }
        }
    });
}

/// 64 KiB of raw output, more than one segment and one read: the form in which the end is hardest to see.
#[test]
fn a_long_raw_result_comes_whole_from_each() {
    let result = Path::new(env!("CARGO_MANIFEST_DIR")).join("legacy-samples/result_k64.msg");
    let result = fs::read(result).expect("the sample is in the tree");
    let expected = decode(&result, &WireLimits::default()).expect("the sample can be decoded");
    for netcat in Netcat::ALL {
        if !require(&[netcat.program()]) {
            continue;
        }
        let peer = MeshPeer::listen("Device_A");
        for options in netcat.sending_options() {
            run(netcat, options, &result, &peer);
        }
        peer.settle();
        let messages = peer.messages();
        assert_eq!(messages.len(), netcat.sending_options().len(), "{netcat:?}");
        assert!(messages.iter().all(|message| *message == expected.message), "{netcat:?}");
    }
}

/// The shell mesh's own sender tries five spellings of its netcat until one succeeds: one message, one arrival.
#[test]
fn the_shell_meshs_sender_succeeds_at_its_first_attempt() {
    all_at_once(Shell::ALL, |shell| {
        for netcat in Netcat::ALL {
            if !require(&[shell.program(), netcat.program()]) {
                continue;
            }
            let peer = MeshPeer::listen("Device_A");
            let device = ShellDevice::build("Device_S", shell, netcat).start();
            fs::write(device.dir().join("peers.txt"), format!("Device_A:{}\n", peer.address()))
                .expect("a writable folder");
            let commands = [["task", "Device_A", r#"{"prompt":"Hello"}"#], ["text", "all", "Hello from S!"]];
            for arguments in commands {
                let finished = Process::run(device.sender().args(arguments), b"", SOON);
                assert!(finished.status.success(), "{shell:?} {netcat:?} {arguments:?}: {finished:?}");
            }
            peer.settle();
            assert_eq!(peer.messages().len(), commands.len(), "{shell:?} {netcat:?}: {:?}", peer.messages());
        }
    });
}
