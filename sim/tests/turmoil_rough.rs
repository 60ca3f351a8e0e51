//! Bytes as no well-behaved peer sends them, and connections that break anywhere: the real driver and framing hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_sim::{Act, Call, Entry, Hung, Mesh, Plan, Roughness, What, seeds};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// A TASK that B would run, from a device that introduced itself from the caller's address.
const TASK: &str = r#"TASK|X|{"bidmesh": 1, "boot": "aaaaaaaa", "task_id": "task_0000000000001.1.abcde", "bid_id": "", "prompt": "Who's there? ünï", "prompt_type": "prompt", "use_npu": false}"#;

fn hello() -> Call {
    Call::whole("B", MILLI, "HELLO|X|:9999")
}

fn ends(mesh: &Mesh) -> Vec<(usize, Hung, Duration)> {
    let end = |entry: Entry| match entry.what {
        What::Call(number, how) => Some((number, how, entry.at)),
        _ => None,
    };
    mesh.entries().into_iter().filter_map(end).collect()
}

fn runs(mesh: &Mesh) -> usize {
    mesh.count_events(|_, event| matches!(event, Event::RunStarted { .. }))
}

/// An honest prompt at A, which B answers: whatever strangers do meanwhile.
fn assert_served(mesh: &mut Mesh) {
    let ask = mesh.ask("A", "Is the door open?");
    mesh.until_all_over(10 * SECOND);
    assert_eq!(mesh.asked(ask).outcome().expect("ended").status, OutcomeStatus::Completed);
}

fn devices() -> [Plan; 2] {
    [Plan::new("A").acts([]), Plan::new("B").slots(4)]
}

#[test]
fn a_task_that_is_cut_at_any_byte_does_not_run() {
    let bytes = TASK.as_bytes();
    let cut = (0..bytes.len()).map(|length| {
        let at = SECOND + 10 * MILLI * u32::try_from(length).unwrap();
        Call::whole("B", at, &bytes[..length])
    });
    let calls = std::iter::once(hello()).chain(cut);
    let mut mesh = Mesh::builder(81).plans(devices()).caller("X", calls).build();
    mesh.pass(5 * SECOND);
    assert_eq!(runs(&mesh), 0, "part of a TASK is no TASK");
    let unreadable =
        mesh.entries().into_iter().filter(|entry| matches!(entry.what, What::Received { from: None, .. }));
    assert!(unreadable.count() > bytes.len() / 2, "B saw them");
    assert_served(&mut mesh);
    assert_eq!(ends(&mesh).len(), bytes.len() + 1, "no connection is kept");
}

#[test]
fn a_task_that_is_split_anywhere_runs_once() {
    let bytes = TASK.as_bytes();
    let whole = Call::whole("B", SECOND, bytes);
    for size in [1, 2, 3, 7, 50] {
        let call = whole.clone().dribbled(size, 3 * MILLI);
        let mut mesh = Mesh::builder(82).plans(devices()).caller("X", [hello(), call]).build();
        mesh.until_event(5 * SECOND, "it runs", |at, event| {
            at.as_str() == "B" && matches!(event, Event::RunStarted { .. })
        });
        mesh.pass(5 * SECOND);
        assert_eq!(runs(&mesh), 1, "in pieces of {size}");
    }
}

#[test]
fn a_slow_loris_is_hung_up_on_and_delays_nobody() {
    let call = Call::whole("B", SECOND, TASK).dribbled(1, SECOND);
    let silent = Call::whole("B", SECOND, "").and_stays();
    let stops = Call::whole("B", SECOND, &TASK.as_bytes()[..60]).and_stays();
    let calls = [hello(), call, silent, stops];
    let mut mesh = Mesh::builder(83).plans(devices()).caller("X", calls).build();
    mesh.pass(2 * SECOND);
    assert_served(&mut mesh);
    mesh.until(40 * SECOND, "all are hung up on", |mesh| ends(mesh).len() == 4);
    for (number, how, at) in ends(&mesh).into_iter().skip(1) {
        assert!(at < 35 * SECOND, "call {number} was kept until {at:?}: {how:?}");
    }
    assert_eq!(runs(&mesh), 1, "only the honest prompt");
}

#[test]
fn a_flood_leaves_the_door_open() {
    // More than B takes from one address, none of which says anything; and as many that come and go at once.
    let silent = (0..200).map(|n| Call::whole("B", SECOND + MILLI * n, "").and_stays());
    let empty = (0..200).map(|n| Call::whole("B", SECOND + MILLI * n, ""));
    let mut mesh = Mesh::builder(84).plans(devices()).caller("X", silent.chain(empty)).build();
    mesh.pass(SECOND + 100 * MILLI);
    assert_served(&mut mesh);
    mesh.until(20 * SECOND, "all are hung up on", |mesh| ends(mesh).len() == 400);
    // turmoil has no reset: what is turned away sees the end of the stream, long before its deadline.
    let at_once = ends(&mesh).into_iter().filter(|(number, _, at)| *number < 200 && *at < 2 * SECOND).count();
    assert!(at_once >= 100, "what is too much is turned away at once: {at_once}");
}

#[test]
fn a_message_without_end_is_cut_off_by_its_receiver() {
    let mut endless = TASK.as_bytes()[..TASK.len() - 40].to_vec();
    endless.extend(std::iter::repeat_n(b'x', 20 << 20));
    let call = Call::whole("B", SECOND, endless).dribbled(1 << 20, 5 * MILLI);
    let mut mesh = Mesh::builder(85).plans(devices()).caller("X", [hello(), call]).build();
    mesh.until(10 * SECOND, "it is hung up on", |mesh| ends(mesh).len() == 2);
    assert_served(&mut mesh);
    assert_eq!(runs(&mesh), 1, "only the honest prompt");
}

/// Four devices whose connections are split, delayed and cut off.
fn rough(seed: u64) -> Vec<OutcomeStatus> {
    let roughness = Roughness { cuts: 5 * (seed % 6), pause: MILLI * 20 * u32::try_from(seed % 5).unwrap() };
    let answer = |pieces| Act::Answer { during: 2 * SECOND, pieces };
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(5))
        .plan(Plan::new("A").acts([]).rough(roughness))
        .plan(Plan::new("B").npu().acts([answer(10), answer(1)]).rough(roughness))
        .plan(Plan::new("C").acts([answer(1)]).rough(roughness))
        .plan(Plan::new("D").slots(2).acts([answer(4)]).rough(roughness))
        .build();
    mesh.pass(SECOND);
    let asks: Vec<_> = [("A", 1), ("A", 2), ("D", 1)]
        .into_iter()
        .map(|(device, number)| mesh.ask(device, &format!("Question {number} of {device}")))
        .collect();
    mesh.until_all_over(240 * SECOND);
    mesh.pass(10 * SECOND);
    mesh.check();
    asks.into_iter().map(|ask| mesh.asked(ask).outcome().expect("ended").status).collect()
}

#[test]
fn connections_that_break_anywhere_end_no_prompt_twice() {
    let mut completed = 0;
    let mut all = 0;
    for seed in seeds("rough", 0..24) {
        let statuses = rough(seed);
        all += statuses.len();
        completed += statuses.iter().filter(|status| **status == OutcomeStatus::Completed).count();
    }
    assert!(completed * 10 >= all * 9, "most have an answer: {completed} of {all}");
}

#[test]
fn thirty_devices_answer_a_burst_of_prompts() {
    let device = |n: u32| {
        let plan = Plan::new(&format!("D{n}")).cpu(n);
        if n.is_multiple_of(5) { plan.acts([]) } else { plan }
    };
    let mut mesh = Mesh::builder(86).tick(Duration::from_millis(10)).plans((0..30).map(device)).build();
    mesh.pass(2 * SECOND);
    let asks: Vec<_> =
        (0..30).map(|n| mesh.ask(&format!("D{}", n % 6 * 5), &format!("Question {n}"))).collect();
    mesh.until_all_over(120 * SECOND);
    mesh.check();
    for ask in asks {
        assert_eq!(mesh.asked(ask).outcome().expect("ended").status, OutcomeStatus::Completed);
    }
}
