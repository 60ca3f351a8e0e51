//! The real driver among shell devices: five netcats, one connection at a time, deaf while they work, and what a shell's
//! `echo` makes of a prompt.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bidmesh_core::Event;
use bidmesh_core::id::DeviceId;
use bidmesh_core::outbox::{Ignored, OutcomeStatus};
use bidmesh_core::wire::{Advertised, Body};
use bidmesh_sim::{
    Act, Ask, Call, Choices, Entry, Hung, Mesh, Netcat, Plan, Roughness, Shell, ShellPeer, What, answer,
    seeds,
};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// What a shell's `echo`, `cut` and `grep` would change, were it not written for them.
const TEXTS: [&str; 3] = [
    "She said \"good night\" | twice\nin C:\\new\\table, 100 % 'sure' for $5",
    "-n",
    "grüß 你好 😀\t\\\\ \\n {\"prompt\": \"x\"}\n\nthe end\\",
];

/// A has no executor and knows these shell devices.
fn asking(seed: u64, shells: impl IntoIterator<Item = ShellPeer>) -> Mesh {
    let tick = Duration::from_millis(5);
    let mut mesh = Mesh::builder(seed).tick(tick).plan(Plan::new("A").acts([])).shells(shells).build();
    mesh.pass(SECOND);
    mesh
}

fn shells(number: usize, netcat: Netcat) -> impl Iterator<Item = ShellPeer> {
    (1..=number).map(move |n| ShellPeer::new(&format!("S{n}"), netcat))
}

fn runs(mesh: &Mesh) -> Vec<(String, String)> {
    let run = |entry: Entry| match entry.what {
        What::RunBegan(prompt) => Some((entry.device.to_string(), prompt)),
        _ => None,
    };
    mesh.entries().into_iter().filter_map(run).collect()
}

fn assert_completed(mesh: &Mesh, ask: Ask) -> String {
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!(outcome.status, OutcomeStatus::Completed, "{outcome:?}");
    outcome.device.expect("somebody").to_string()
}

fn accepted_by(device: &str) -> impl Fn(&DeviceId, &Event) -> bool {
    move |_, event| matches!(event, Event::Accepted { by, .. } if by.as_str() == device)
}

#[test]
fn a_prompt_is_answered_once_with_the_text_that_was_asked() {
    for netcat in Netcat::ALL {
        for number in 1..=3 {
            let mut mesh = asking(101, shells(number, netcat));
            let asks = TEXTS.map(|text| mesh.ask("A", text));
            mesh.until_all_over(60 * SECOND);
            mesh.pass(10 * SECOND);
            mesh.check();
            for ask in asks {
                assert_completed(&mesh, ask);
            }
            let mut prompts: Vec<_> = runs(&mesh).into_iter().map(|(_, prompt)| prompt).collect();
            prompts.sort();
            let mut asked = TEXTS.map(str::to_owned);
            asked.sort();
            assert_eq!(prompts, asked, "{number} with {netcat:?}: each ran once, as it was asked");
        }
    }
}

#[test]
fn other_shells_get_the_text_in_their_own_way() {
    let asks = |shell: Shell, text: &str| {
        let peer = ShellPeer::new("S1", Netcat::Busybox).shell(shell).detached();
        let literal = shell == Shell::Literal;
        let plan = Plan::new("A").acts([]).configure(|config| {
            config.literal_echo.extend(peer_ids(literal));
        });
        let mut mesh = Mesh::builder(102).plan(plan).shell(peer).build();
        mesh.pass(SECOND);
        let ask = mesh.ask("A", text);
        mesh.until_all_over(10 * SECOND);
        assert_completed(&mesh, ask);
        runs(&mesh).pop().expect("it ran").1
    };
    for text in TEXTS {
        assert_eq!(asks(Shell::Dash, text), text);
    }
    // Where echo interprets nothing, a quote and a line end cannot be carried.
    assert_eq!(asks(Shell::Literal, "\"C:\\new\"\nend"), "“C:\\new” end");
}

fn peer_ids(literal: bool) -> Option<DeviceId> {
    literal.then(|| DeviceId::new("S1").unwrap())
}

/// A busy device, to which the shell devices are preferred.
fn busy(id: &str) -> Plan {
    Plan::new(id).cpu(80)
}

#[test]
fn bidmesh_and_shell_devices_share_the_work() {
    let mut mesh = Mesh::builder(103)
        .tick(Duration::from_millis(5))
        .plan(Plan::new("A").acts([]))
        .plan(busy("B"))
        .shell(ShellPeer::new("S1", Netcat::Toybox).runs(3 * SECOND))
        .shell(ShellPeer::new("S2", Netcat::Traditional).runs(3 * SECOND))
        .build();
    mesh.pass(SECOND);
    let asks: Vec<_> = (0..8)
        .map(|number| mesh.ask(if number % 2 == 0 { "A" } else { "B" }, &format!("Question {number}")))
        .collect();
    mesh.until_all_over(120 * SECOND);
    mesh.pass(10 * SECOND);
    mesh.check();
    let mut by = BTreeMap::<_, usize>::new();
    for ask in asks {
        *by.entry(assert_completed(&mesh, ask)).or_default() += 1;
    }
    assert_eq!(by.keys().map(String::as_str).collect::<Vec<_>>(), ["B", "S1", "S2"], "{by:?}");
}

#[test]
fn a_shell_device_is_deaf_while_it_runs_and_that_says_nothing_about_its_health() {
    for netcat in [Netcat::Toybox, Netcat::Busybox] {
        let mut mesh = Mesh::builder(104)
            .plan(Plan::new("A").acts([]))
            .plan(busy("B"))
            .shell(ShellPeer::new("S1", netcat).runs(20 * SECOND))
            .build();
        mesh.pass(SECOND);
        let slow = mesh.ask("A", "Take your time");
        mesh.until_event(10 * SECOND, "S1 runs it", accepted_by("S1"));
        let quick = mesh.ask("A", "And this?");
        mesh.until(10 * SECOND, "the other answers", |mesh| mesh.asked(quick).over());
        assert_eq!(assert_completed(&mesh, quick), "B");
        mesh.until_all_over(20 * SECOND);
        assert_eq!(assert_completed(&mesh, slow), "S1", "it was not given up");
        mesh.pass(SECOND);
        let again = mesh.ask("A", "Are you free again?");
        mesh.until_all_over(30 * SECOND);
        assert_eq!(assert_completed(&mesh, again), "S1");
        mesh.check();
    }
}

#[test]
fn a_second_client_is_refused_or_never_read() {
    for netcat in Netcat::ALL {
        // The first stays until its message has come in pieces; the others meet a netcat that listens to it.
        let slow = Call::whole("S1", SECOND, "TEXT|X|slowly").dribbled(1, 50 * MILLI);
        let others = (0..9).map(|_| Call::whole("S1", SECOND + 200 * MILLI, "TEXT|X|at once"));
        let mut mesh = Mesh::builder(105)
            .shell(ShellPeer::new("S1", netcat))
            .caller("X", std::iter::once(slow).chain(others))
            .build();
        mesh.pass(10 * SECOND);
        let mut ends = BTreeMap::<_, Vec<_>>::new();
        let mut read = 0;
        for entry in mesh.entries() {
            match entry.what {
                What::Call(number, how) => ends.entry(format!("{how:?}")).or_default().push(number),
                What::Received { .. } => read += 1,
                _ => {}
            }
        }
        let turned = if netcat.swallows() { Hung::Reset } else { Hung::Refused };
        assert_eq!(ends.remove("Closed"), Some(vec![0]), "{netcat:?}: {ends:?}");
        assert_eq!(ends.remove(&format!("{turned:?}")).map(|of| of.len()), Some(9), "{netcat:?}: {ends:?}");
        assert_eq!(read, 1, "{netcat:?}");
    }
}

#[test]
fn what_several_spellings_deliver_counts_once() {
    let sent = |mesh: &Mesh, kind: &str| {
        let delivered = |entry: &&Entry| {
            entry.device.as_str() == "S1"
                && matches!(&entry.what, What::Sent { kind: of, failure: None, .. } if of == kind)
        };
        mesh.entries().iter().filter(delivered).count()
    };
    for (netcat, spellings) in [(Netcat::OpenBsd, 5), (Netcat::Toybox, 4), (Netcat::Busybox, 3)] {
        let mut mesh = asking(106, [ShellPeer::new("S1", netcat).copies(5)]);
        let asks = TEXTS.map(|text| mesh.ask("A", text));
        mesh.until_all_over(60 * SECOND);
        mesh.pass(10 * SECOND);
        mesh.check();
        for ask in asks {
            assert_completed(&mesh, ask);
        }
        assert_eq!(runs(&mesh).len(), asks.len(), "{netcat:?}");
        assert_eq!(sent(&mesh, "RESULT"), asks.len() * spellings, "{netcat:?}");
        let ignored = |wanted| {
            mesh.count_events(|_, event| matches!(event, Event::Ignored { why, .. } if *why == wanted))
        };
        let copies = asks.len() * (spellings - 1);
        assert_eq!(ignored(Ignored::UnknownTask), copies, "{netcat:?}: copies of RESULT");
        assert_eq!(ignored(Ignored::NotAsked), copies, "{netcat:?}: copies of bids");
    }
}

#[test]
fn a_shell_device_that_loses_power_while_it_runs_is_given_up_and_wins_again_when_it_is_back() {
    let mut mesh = Mesh::builder(107)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(busy("B"))
        .shell(ShellPeer::new("S1", Netcat::Toybox).runs(10 * SECOND))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Will it end?");
    mesh.until_event(10 * SECOND, "S1 runs it", accepted_by("S1"));
    mesh.pass(SECOND);
    mesh.power_off("S1");
    mesh.pass(2 * SECOND);
    // It greets whom it knows, and has forgotten what it ran.
    mesh.start("S1");
    mesh.until_all_over(30 * SECOND);
    assert_eq!(assert_completed(&mesh, ask), "B");
    let again = mesh.ask("A", "Are you back?");
    mesh.until_all_over(30 * SECOND);
    assert_eq!(assert_completed(&mesh, again), "S1");
    mesh.check();
}

#[test]
fn a_shell_device_that_stays_away_is_given_up() {
    let mut mesh = asking(108, shells(2, Netcat::Traditional).map(|shell| shell.runs(10 * SECOND)));
    let ask = mesh.ask("A", "Who is there?");
    mesh.until_event(10 * SECOND, "one runs it", |_, event| matches!(event, Event::Accepted { .. }));
    let (winner, _) = runs(&mesh).pop().expect("it runs");
    mesh.power_off(&winner);
    // Longer than its run would take: nobody there can say that it is over.
    mesh.until_all_over(330 * SECOND);
    assert_ne!(assert_completed(&mesh, ask), winner);
    mesh.check();
}

#[test]
fn a_shell_device_answers_at_the_first_address_that_it_noted() {
    // A moved from another port; the shell device never forgets that.
    let mut mesh = Mesh::builder(109)
        .plan(Plan::new("A").acts([]))
        .plan(busy("B"))
        .shell(ShellPeer::new("S1", Netcat::Toybox).noted("A", 9998))
        .build();
    mesh.pass(30 * SECOND);
    let ask = mesh.ask("A", "Do you hear me?");
    mesh.until_all_over(20 * SECOND);
    assert_eq!(assert_completed(&mesh, ask), "B");
    let heard = |entry: &Entry| {
        entry.device.as_str() == "A"
            && matches!(&entry.what, What::Received { from: Some(from), .. } if from.as_str() == "S1")
    };
    assert!(!mesh.entries().iter().any(heard), "it answers elsewhere");
    mesh.check();
}

#[test]
fn a_shell_device_answers_prompts_and_greetings_outside_any_auction() {
    let mut mesh = asking(110, shells(1, Netcat::Ncat));
    let discover = Body::Discover(Advertised { ip: Some([192, 168, 0, 1].into()), port: 9999 });
    mesh.say("A", "S1", discover);
    mesh.until_entry(5 * SECOND, "S1 greets A", |entry| {
        let What::Received { kind, .. } = &entry.what else { return false };
        entry.device.as_str() == "A" && kind == "HELLO"
    });
    let text = "one \"two\"\nC:\\three";
    mesh.say("A", "S1", Body::SlmPrompt(text.into()));
    mesh.until_event(10 * SECOND, "S1 answers", |_, event| {
        let Event::SlmResultReceived { output, .. } = event else { return false };
        **output == *answer(&DeviceId::new("S1").unwrap(), text)
    });
}

/// Two devices that ask, one of which works; one to three shell devices; links go silent for a while, connections are
/// split, delayed and in half of the worlds cut, and in some a shell device loses power.
fn drawn(seed: u64) -> (Mesh, Vec<Ask>) {
    let mut choices = Choices::split(seed, "shells");
    // Every netcat prints what came before a connection broke, and its script runs half a TASK: on an empty prompt and without an
    // id, so that its answer is nobody's.
    let roughness = Roughness { cuts: choices.pick([0, 0, 5, 30]), pause: choices.millis(0, 15) };
    let latency = choices.millis(5, 100);
    let number = choices.between(1, 3);
    let shells: Vec<_> = (1..=number).map(|number| shell(&mut choices, number).rough(roughness)).collect();
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(5))
        .latency(MILLI, latency)
        .plan(Plan::new("A").acts([]).rough(roughness))
        .plan(busy("B").acts([Act::answer(2)]).rough(roughness))
        .shells(shells)
        .build();
    mesh.pass(SECOND);
    let mut asks = Vec::new();
    for number in 0..4 {
        // A brace after a quote may end a shell's RESULT: where its netcat leaves the connection open, only time tells.
        let text = choices.pick(TEXTS).replace('}', ")");
        asks.push(mesh.ask(choices.pick(["A", "B"]), &format!("Question {number}: {text}")));
        mesh.pass(choices.millis(0, 1_000));
    }
    for _ in 0..3 {
        let (a, b) = choices.pick([("A", "S1"), ("B", "S1"), ("A", "B")]);
        mesh.hold(a, b);
        mesh.pass(choices.millis(50, 4_000));
        mesh.release(a, b);
        mesh.pass(choices.millis(0, 2_000));
    }
    if choices.percent(30) {
        mesh.power_off("S1");
        mesh.pass(choices.millis(100, 8_000));
        mesh.start("S1");
    }
    mesh.until_all_over(400 * SECOND);
    mesh.pass(15 * SECOND);
    mesh.check();
    (mesh, asks)
}

fn shell(choices: &mut Choices, number: u64) -> ShellPeer {
    let shell = ShellPeer::new(&format!("S{number}"), choices.pick(Netcat::ALL))
        .shell(choices.pick([Shell::Mksh, Shell::Dash]))
        .runs(choices.millis(200, 8_000))
        .cpu(choices.pick([5, 30, 90]))
        .copies(choices.pick([1, 1, 2, 5]));
    if choices.percent(30) { shell.detached() } else { shell }
}

#[test]
fn worlds_with_shell_devices_end_every_prompt_once() {
    let (mut completed, mut all, mut by_shells) = (0, 0, 0);
    for seed in seeds("shells", 0..24) {
        let (mesh, asks) = drawn(seed);
        all += asks.len();
        for outcome in asks.into_iter().map(|ask| mesh.asked(ask).outcome().cloned().expect("ended")) {
            completed += usize::from(outcome.status == OutcomeStatus::Completed);
            by_shells += usize::from(outcome.device.is_some_and(|by| by.as_str().starts_with('S')));
        }
    }
    println!("{completed} of {all} completed, {by_shells} by shell devices");
    assert!(completed * 10 >= all * 9, "most have an answer: {completed} of {all}");
    assert!(by_shells * 4 >= all, "shell devices do their share: {by_shells} of {all}");
}

#[test]
fn two_processes_with_one_seed_are_the_same() {
    support::assert_same_in_two_processes("two_processes_with_one_seed_are_the_same", || drawn(8).0.trace());
}
