//! Whole auctions among real drivers, with nothing going wrong but a person who leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bidmesh_core::decision::Answer;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_core::wire::Reason;
use bidmesh_core::{Event, Input, Submission};
use bidmesh_sim::{Act, Mesh, Plan, What};

const SECOND: Duration = Duration::from_secs(1);

/// Time for everybody to say HELLO and to hear it.
fn greeted(builder: bidmesh_sim::Builder) -> Mesh {
    let mut mesh = builder.build();
    mesh.pass(SECOND);
    mesh
}

#[test]
fn three_devices_hold_one_auction() {
    let streamed = Act::Answer { during: 2 * SECOND, pieces: 8 };
    let mut mesh = greeted(
        Mesh::builder(1)
            .plan(Plan::new("A").acts([]))
            .plan(Plan::new("B").npu().cpu(90).acts([streamed]))
            .plan(Plan::new("C").cpu(1)),
    );
    let ask = mesh.ask("A", "Why is the sky blue?");
    mesh.until_all_over(10 * SECOND);

    let asked = mesh.asked(ask);
    let outcome = asked.outcome().expect("ended");
    assert_eq!(outcome.output.as_ref(), "B says what there is to say about: Why is the sky blue?");
    assert_eq!((outcome.status, outcome.attempts), (OutcomeStatus::Completed, 1));
    assert_eq!(asked.text(), outcome.output.as_ref(), "it was shown as it came");
    assert!(asked.told.len() > 4, "in pieces");

    let decision = asked.decision.expect("kept");
    let [auction] = decision.auctions.as_slice() else { panic!("one auction") };
    let said = |device: &str| {
        &auction.answers.iter().find(|answered| answered.device.as_str() == device).expect("answered").answer
    };
    assert!(matches!(said("A"), Answer::Refused { reason: Reason::NoExecutor, .. }));
    assert!(matches!(said("B"), Answer::Bid { bid } if bid.npu));
    assert!(matches!(said("C"), Answer::Bid { bid } if !bid.npu));
    let order = &auction.choice.as_ref().expect("somebody won").order;
    assert_eq!(order.iter().map(|bid| bid.device.as_str()).collect::<Vec<_>>(), ["B", "C"]);

    let awards = mesh
        .entries()
        .into_iter()
        .filter(|entry| matches!(&entry.what, What::Received { kind, .. } if kind == "TASK"));
    assert_eq!(
        awards.map(|entry| entry.device.to_string()).collect::<Vec<_>>(),
        ["B"],
        "the prompt is private"
    );
    mesh.check();
}

#[test]
fn a_device_alone_runs_its_own_prompts() {
    let mut mesh = Mesh::builder(2).plan(Plan::new("A")).build();
    // At once: what the executor can do is known before the first prompt is looked at.
    let ask = mesh.ask("A", "Hello?");
    mesh.until_all_over(10 * SECOND);
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!((outcome.status, outcome.device.expect("itself").as_str()), (OutcomeStatus::Completed, "A"));
    mesh.check();
}

#[test]
fn prompts_before_anybody_was_heard() {
    // A knows addresses, and not yet that they are bidmesh devices: one question serves both auctions at first.
    let mut mesh = Mesh::builder(8)
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("B").acts([Act::answer(5)]))
        .plan(Plan::new("C").acts([Act::answer(5)]))
        .build();
    let asks = [mesh.ask("A", "First"), mesh.ask("A", "Second")];
    mesh.until_all_over(9 * SECOND);
    let by: BTreeSet<_> = asks.map(|ask| mesh.asked(ask).outcome().expect("ended").device.clone()).into();
    assert_eq!(by.len(), 2, "each has a device of its own");
    mesh.check();
}

#[test]
fn a_prompt_that_nobody_waits_for_is_stopped_at_the_worker() {
    let mut mesh = greeted(
        Mesh::builder(3)
            .plan(Plan::new("A").acts([]))
            .plan(Plan::new("B").acts([Act::Silent, Act::answer(1)])),
    );
    let ask = mesh.ask("A", "Never mind");
    mesh.until_event(10 * SECOND, "it runs", |device, event| {
        device.as_str() == "B" && matches!(event, Event::RunStarted { .. })
    });
    mesh.leave(ask);
    mesh.until_event(2 * SECOND, "it is stopped", |device, event| {
        device.as_str() == "B" && matches!(event, Event::RunEnded { .. })
    });
    // The slot is free again.
    let next = mesh.ask("A", "Still there?");
    mesh.until_all_over(10 * SECOND);
    assert_eq!(mesh.asked(next).outcome().expect("ended").status, OutcomeStatus::Completed);
    mesh.check();
}

#[test]
fn a_retry_with_the_same_key_joins_its_task() {
    let mut mesh = greeted(Mesh::builder(4).plan(Plan::new("A").acts([])).plan(Plan::new("B")));
    let keyed = || Submission { key: Some("once".into()), ..Submission::new(0, "Only once") };
    let asks = [mesh.submit("A", keyed()), mesh.submit("A", keyed())];
    mesh.until_all_over(10 * SECOND);
    let late = mesh.submit("A", keyed());
    mesh.until_all_over(10 * SECOND);
    let [first, second, third] = [asks[0], asks[1], late].map(|ask| mesh.asked(ask));
    assert_eq!(first.task, second.task);
    assert_eq!(first.task, third.task);
    assert_eq!((first.text(), first.outcome()), (third.text(), third.outcome()), "it may be read again");
    assert_eq!(mesh.count_events(|_, event| matches!(event, Event::RunStarted { .. })), 1);
    mesh.check();
}

#[test]
fn a_device_that_leaves_hands_its_work_back_and_ends() {
    let mut mesh = greeted(
        Mesh::builder(5)
            .plan(Plan::new("A").acts([]))
            .plan(Plan::new("B").npu().acts([Act::Silent]))
            .plan(Plan::new("C")),
    );
    let ask = mesh.ask("A", "Who stays?");
    mesh.until_event(10 * SECOND, "it runs", |_, event| matches!(event, Event::RunStarted { .. }));
    mesh.tell("B", Input::Shutdown { within: 2 * SECOND });
    let ended = mesh.until_entry(8 * SECOND, "it ends", |entry| matches!(entry.what, What::Ended(_)));
    assert_eq!((ended.device.as_str(), ended.what), ("B", What::Ended("Drained".into())));
    mesh.until_all_over(10 * SECOND);
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!(outcome.output.as_ref(), "C says what there is to say about: Who stays?");
    assert_eq!(
        mesh.count_events(|_, event| matches!(event, Event::PeerLeft { peer } if peer.as_str() == "B")),
        2
    );
    mesh.check();
}

#[test]
fn an_executor_that_cannot_be_stopped_does_not_keep_its_device_from_ending() {
    let mut mesh = greeted(Mesh::builder(6).plan(Plan::new("A").acts([Act::Hang])));
    let ask = mesh.ask("A", "Wait");
    mesh.until_event(10 * SECOND, "it runs", |_, event| matches!(event, Event::RunStarted { .. }));
    mesh.tell("A", Input::Shutdown { within: SECOND });
    // The limit, five seconds to halt, three to end.
    mesh.until_entry(9 * SECOND + SECOND / 2, "it ends", |entry| matches!(entry.what, What::Ended(_)));
    mesh.pass(SECOND);
    assert!(mesh.asked(ask).over());
}

#[test]
fn thirty_devices_answer_sixty_prompts() {
    let plans = (0..30).map(|number| {
        let plan = Plan::new(&format!("D{number:02}"));
        if number == 0 { plan.acts([]) } else { plan.cpu(number) }
    });
    let mut mesh = greeted(Mesh::builder(7).tick(Duration::from_millis(5)).plans(plans));
    let asks: Vec<_> = (0..60).map(|number| mesh.ask("D00", &format!("Question {number}"))).collect();
    mesh.until_all_over(60 * SECOND);
    let winners: BTreeSet<_> = asks
        .iter()
        .map(|ask| mesh.asked(*ask).outcome().cloned().expect("ended"))
        .map(|outcome| {
            assert_eq!(outcome.status, OutcomeStatus::Completed);
            outcome.device.expect("somebody")
        })
        .collect();
    assert!(winners.len() >= 25, "the work is spread: {winners:?}");
    mesh.check();
}

/// A world with a bit of everything: loss, streams, failures, a death and a return.
fn eventful(seed: u64) -> String {
    let streamed = Act::Answer { during: 3 * SECOND, pieces: 20 };
    let failing = Act::Fail { after: SECOND, why: "out of memory".into() };
    let mut mesh = greeted(
        Mesh::builder(seed)
            .loss(bidmesh_sim::Loss { fail: 0.02, repair: 0.5 })
            .plan(Plan::new("A"))
            .plan(Plan::new("B").npu().acts([streamed.clone(), failing]))
            .plan(Plan::new("C").slots(2).acts([streamed]))
            .plan(Plan::new("D")),
    );
    for number in 0..4 {
        mesh.ask("A", &format!("Question {number}"));
        mesh.ask("D", &format!("Another {number}"));
    }
    mesh.pass(2 * SECOND);
    mesh.kill("C");
    mesh.pass(SECOND);
    mesh.start("C");
    mesh.until_all_over(300 * SECOND);
    mesh.check();
    mesh.trace()
}

#[test]
fn two_runs_of_one_seed_are_the_same() {
    for seed in [11, 12] {
        let (first, second) = (eventful(seed), eventful(seed));
        let differ = first.lines().zip(second.lines()).enumerate().find(|(_, (one, other))| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(eventful(11), eventful(12), "and other seeds are other worlds");
}

#[test]
fn two_processes_with_one_seed_are_the_same() {
    support::assert_same_in_two_processes("two_processes_with_one_seed_are_the_same", || eventful(13));
}
