//! Workers that do not do what they should, and every time-out that meets them. The puppet P always makes the best
//! bid; C is the device that is left. Each bound is the sum of the time-outs that the case meets, and one second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends there, and says where"
)]

use std::time::Duration;

use bidmesh_core::Config;
use bidmesh_core::Event;
use bidmesh_core::id::{AwardId, BidId, DeviceId};
use bidmesh_core::load::Load;
use bidmesh_core::outbox::OutcomeStatus;
use bidmesh_core::wire::{
    Accept, Bid, Body, Capacity, Message, Progress, Reason, Reject, Status, TaskOrder, TaskResult,
};
use bidmesh_io_tokio::driver::Told;
use bidmesh_sim::{Act, Asked, Mesh, Plan, Puppet, Reply, What};

const SECOND: Duration = Duration::from_secs(1);

/// What the puppet says to an award and to questions about it.
type Manner = fn(&Body) -> Vec<Reply>;

fn puppet(manner: Manner) -> Puppet {
    let device = DeviceId::new("P").expect("valid");
    Puppet::new(device, move |message: &Message| match &message.body {
        Body::BidRequest(request) => vec![Reply::now(Body::BidResponse(Bid {
            task: request.task.clone(),
            bid: Some(BidId::new("puppet.1").expect("valid")),
            device: Some("P".into()),
            cpu: Load::from_ppm(0),
            npu: true,
            capacity: Some(Capacity { slots: 1, running: 0, yours: 0 }),
            ..Bid::default()
        }))],
        other => manner(other),
    })
}

fn award(body: &Body) -> Option<AwardId> {
    match body {
        Body::Task(TaskOrder { award, .. }) => award.clone(),
        Body::Query(query) => Some(query.award.clone()),
        _ => None,
    }
}

/// A reply to TASK alone.
fn to_task(body: &Body, reply: impl Fn(AwardId) -> Vec<Reply>) -> Vec<Reply> {
    award(body).filter(|_| matches!(body, Body::Task(_))).map(reply).unwrap_or_default()
}

fn accept(award: AwardId) -> Reply {
    Reply::now(Body::Accept(Accept { award }))
}

fn result(award: AwardId, status: Status, output: &str) -> Reply {
    let output = output.into();
    Reply::now(Body::Result(TaskResult {
        award: Some(award),
        device: None,
        status,
        output,
        output_was_not_utf8: false,
        speed: None,
    }))
}

/// A asks one prompt; it must end within `bound`.
fn ask(seed: u64, manner: Manner, bound: Duration, configure: impl FnOnce(&mut Config)) -> (Mesh, Asked) {
    let mut mesh = Mesh::builder(seed)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]).configure(configure))
        .plan(Plan::new("C"))
        .puppet(puppet(manner))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Are you well?");
    mesh.until_all_over(bound);
    let asked = mesh.asked(ask);
    // What the puppet still says changes nothing.
    mesh.pass(10 * SECOND);
    mesh.check();
    (mesh, asked)
}

/// C answers in the end, in this many accepted runs.
fn assert_answered_by_c(asked: &Asked, attempts: u32) {
    let outcome = asked.outcome().expect("ended");
    assert_eq!(outcome.status, OutcomeStatus::Completed, "{outcome:?}");
    assert_eq!((outcome.device.as_ref().map(DeviceId::as_str), outcome.attempts), (Some("C"), attempts));
}

fn received_by_puppet(mesh: &Mesh, wanted: &str) -> usize {
    let entries = mesh.entries();
    let got = entries.iter().filter(|entry| {
        entry.device.as_str() == "P" && matches!(&entry.what, What::Received { kind, .. } if kind == wanted)
    });
    got.count()
}

#[test]
fn it_never_accepts() {
    // The award is read at once; 1 s for ACCEPT; C's run takes 1 s.
    let (mesh, asked) = ask(31, |_| Vec::new(), 3 * SECOND, |_| ());
    assert_answered_by_c(&asked, 1);
    assert_eq!(received_by_puppet(&mesh, "TASK"), 1);
    assert_eq!(received_by_puppet(&mesh, "CANCEL"), 1, "it must not begin later");
}

#[test]
fn it_rejects() {
    let manner = |body: &Body| {
        to_task(body, |award| {
            let reject = Reject { award, reason: Reason::Full, retry_after: None, capacity: None };
            vec![Reply::now(Body::Reject(reject))]
        })
    };
    // One round trip, and C's run.
    let (_, asked) = ask(32, manner, 2 * SECOND, |_| ());
    assert_answered_by_c(&asked, 1);
}

#[test]
fn it_accepts_and_falls_silent() {
    // 15 s of silence, 3 s for an answer to QUERY, C's run.
    let (mesh, asked) = ask(33, |body| to_task(body, |award| vec![accept(award)]), 20 * SECOND, |_| ());
    assert_answered_by_c(&asked, 2);
    assert_eq!(received_by_puppet(&mesh, "QUERY"), 1);
}

#[test]
fn it_knows_nothing_of_the_award_when_asked() {
    let manner = |body: &Body| match body {
        Body::Task(_) => to_task(body, |award| vec![accept(award)]),
        Body::Query(query) => vec![Reply::now(Body::Reject(Reject {
            award: query.award.clone(),
            reason: Reason::Unknown,
            retry_after: None,
            capacity: None,
        }))],
        _ => Vec::new(),
    };
    let (_, asked) = ask(34, manner, 17 * SECOND, |_| ());
    assert_answered_by_c(&asked, 2);
}

#[test]
fn it_always_says_that_it_runs_and_gives_no_result() {
    let manner = |body: &Body| award(body).map(|award| vec![accept(award)]).unwrap_or_default();
    // Every question is answered, which is no progress: the limit for a result ends it.
    let (mesh, asked) = ask(35, manner, 42 * SECOND, |config| config.timing.result_timeout = 40 * SECOND);
    assert_answered_by_c(&asked, 2);
    assert!(received_by_puppet(&mesh, "QUERY") >= 2);
}

#[test]
fn it_shows_signs_of_life_for_ever() {
    let manner = |body: &Body| {
        to_task(body, |award| {
            let sign = |number: u32| Reply {
                after: number * 5 * SECOND,
                body: Body::Progress(Progress { award: award.clone(), offset: 0, text: "".into() }),
            };
            std::iter::once(accept(award.clone())).chain((1..100).map(sign)).collect()
        })
    };
    // Each sign extends the limit for a result; the limit for the whole run ends it.
    let (_, asked) = ask(36, manner, 62 * SECOND, |config| {
        config.timing.result_timeout = 20 * SECOND;
        config.timing.run_limit = 60 * SECOND;
    });
    assert_answered_by_c(&asked, 2);
}

#[test]
fn it_fails() {
    let manner = |body: &Body| {
        to_task(body, |award| vec![accept(award.clone()), result(award, Status::Error, "no model")])
    };
    let (_, asked) = ask(37, manner, 3 * SECOND, |_| ());
    assert_answered_by_c(&asked, 2);
}

#[test]
fn it_shows_text_and_fails() {
    let manner = |body: &Body| {
        to_task(body, |award| {
            let piece = Progress { award: award.clone(), offset: 0, text: "Well, ".into() };
            let failure = Reply { after: SECOND, ..result(award.clone(), Status::Error, "no memory") };
            vec![accept(award), Reply::now(Body::Progress(piece)), failure]
        })
    };
    let (_, asked) = ask(38, manner, 4 * SECOND, |_| ());
    assert_answered_by_c(&asked, 2);
    let broken = asked.told.iter().find_map(|told| match told {
        Told::BrokenOff { device, shown, .. } => Some((device.as_str(), *shown)),
        _ => None,
    });
    assert_eq!(broken, Some(("P", 6)), "nobody reads two answers spliced into one");
}

#[test]
fn it_sends_its_result_five_times() {
    let manner = |body: &Body| {
        to_task(body, |award| {
            let copy = |number: u32| Reply {
                after: number * SECOND,
                ..result(award.clone(), Status::Completed, "P says what there is to say about: Are you well?")
            };
            std::iter::once(accept(award.clone())).chain((0..5).map(copy)).collect()
        })
    };
    let (mesh, asked) = ask(39, manner, 2 * SECOND, |_| ());
    let outcome = asked.outcome().expect("ended");
    assert_eq!(outcome.device.as_ref().map(DeviceId::as_str), Some("P"));
    assert_eq!(received_by_puppet(&mesh, "ACK"), 5, "a lost ACK mends itself");
}

#[test]
fn its_result_comes_after_another_was_asked_and_still_counts() {
    let manner = |body: &Body| {
        to_task(body, |award| {
            let late =
                result(award.clone(), Status::Completed, "P says what there is to say about: Are you well?");
            vec![accept(award), Reply { after: 20 * SECOND, ..late }]
        })
    };
    let mut mesh = Mesh::builder(40)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .plan(Plan::new("C").acts([Act::answer(60)]))
        .puppet(puppet(manner))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Are you well?");
    mesh.until_all_over(22 * SECOND);
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert_eq!(outcome.device.as_ref().map(DeviceId::as_str), Some("P"), "the first good result wins");
    mesh.until_event(2 * SECOND, "C is stopped", |at, event| {
        at.as_str() == "C" && matches!(event, Event::RunEnded { .. })
    });
    mesh.pass(5 * SECOND);
    mesh.check();
}

#[test]
fn nobody_ever_accepts() {
    let mut mesh = Mesh::builder(41)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]))
        .puppet(puppet(|_| Vec::new()))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Are you well?");
    // Five auctions, each with its award and a second for ACCEPT; after the first the device is suspect.
    mesh.until_all_over(120 * SECOND);
    let outcome = mesh.asked(ask).outcome().cloned().expect("ended");
    assert!(matches!(outcome.status, OutcomeStatus::Failed | OutcomeStatus::Nobody), "{outcome:?}");
    assert_eq!(outcome.attempts, 0, "nothing was accepted");
    mesh.check();
}

#[test]
fn a_real_worker_whose_executor_hangs_meets_its_limit() {
    let limit = |config: &mut Config| config.timing.run_limit = 20 * SECOND;
    let mut mesh = Mesh::builder(42)
        .tick(Duration::from_millis(4))
        .plan(Plan::new("A").acts([]).configure(limit))
        .plan(Plan::new("B").npu().acts([Act::Silent]).configure(limit))
        .plan(Plan::new("C"))
        .build();
    mesh.pass(SECOND);
    let ask = mesh.ask("A", "Are you well?");
    // It shows signs of life all the while.
    mesh.until_all_over(23 * SECOND);
    assert_answered_by_c(&mesh.asked(ask), 2);
    mesh.check();
}
