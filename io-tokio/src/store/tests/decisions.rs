//! Decision records: for people only, so they come and go with their tasks and are never a reason to give up a file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::Time;
use bidmesh_core::decision::{Answer, Answered, AuctionRecord, Decision, Happening};
use bidmesh_core::id::{BidId, DeviceId, TaskId};
use bidmesh_core::input::{SendFailure, Written};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::outbox::{Outcome, Record};
use bidmesh_core::policy::{Choice, Policy, Ranked};
use bidmesh_core::wire::{Bid, Capacity, Reason};
use proptest::prelude::*;

use super::disk::{self, Disk};
use super::records::{self, outcome, task};
use super::{found, opened, records_of, run, then};
use crate::store::books::DECISION_BYTES_MAX;
use crate::store::stored::{Row, StoredDecision};
use crate::store::{DatedDecision, RedbStore, Store, StoreLimits, StoreOptions};

fn outcome_of(record: &Record) -> &Outcome {
    let Record::Outcome { outcome, .. } = record else { panic!("no outcome: {record:?}") };
    outcome
}

/// One that says that the task answered `output`.
pub(super) fn decision(name: &str, output: &str) -> DatedDecision {
    let device = DeviceId::new("Device_B").unwrap();
    let at = |millis| Time::from_start(Duration::from_millis(millis));
    let bid = Bid { cpu: Some(Load::IDLE), npu: true, ..Bid::default() };
    let ranked = Ranked {
        device: device.clone(),
        npu: true,
        cpu: Some(Load::IDLE),
        battery: None,
        score: None,
        tried: false,
    };
    let choice = Choice { winner: device.clone(), order: vec![ranked], sentence: "it has an NPU".into() };
    let auction = AuctionRecord {
        opened: at(0),
        closed: Some(at(20)),
        answers: vec![Answered { device: device.clone(), at: at(15), answer: Answer::Bid { bid } }],
        choice: Some(choice),
        nobody: None,
    };
    let decision = Decision {
        task: TaskId::new(name).unwrap(),
        submitted: Time::ZERO,
        prompt_bytes: 15,
        policy: Policy::NpuFirst,
        priority: 5,
        auctions: vec![auction],
        happened: vec![Happening { at: at(21), what: "Device_B began to run it".into() }],
        outcome: Some(outcome_of(&outcome(name, output)).clone()),
        ended: Some(at(2_500)),
        dropped_lines: 0,
    };
    DatedDecision { decision, submitted: then() - Duration::from_millis(2_500) }
}

fn stored(store: &RedbStore, name: &str) -> Option<DatedDecision> {
    run(store.decision(&TaskId::new(name).unwrap())).unwrap()
}

fn names(store: &RedbStore) -> Vec<String> {
    let decisions = run(store.decisions()).unwrap();
    decisions.into_iter().map(|stored| stored.decision.task.to_string()).collect()
}

/// A task that ended with "x", and its decision record.
fn end(store: &RedbStore, name: &str) {
    run(store.write_with(vec![task(name), outcome(name, "x")], vec![decision(name, "x")])).unwrap();
}

fn limited(ended: usize, ended_bytes: usize, decisions: usize) -> StoreOptions {
    let limits = StoreLimits { ended, ended_bytes, decisions, forgotten: 1 };
    StoreOptions { limits, ..StoreOptions::default() }
}

#[test]
fn they_are_there_after_a_restart_in_the_order_of_submission() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    run(store.write(vec![task("t2"), task("t1"), outcome("t1", "first")])).unwrap();
    run(store.write_with(Vec::new(), vec![decision("t1", "first")])).unwrap();
    let last = vec![outcome("t2", "second")];
    run(store.write_with(last, vec![decision("t2", "second")])).unwrap();
    for store in [store, opened(&disk, StoreOptions::default()).0] {
        assert_eq!(stored(&store, "t1"), Some(decision("t1", "first")));
        assert_eq!(run(store.decisions()).unwrap(), [decision("t2", "second"), decision("t1", "first")]);
        assert_eq!(stored(&store, "t3"), None);
    }
}

/// Of two for one task the later counts.
#[test]
fn a_later_one_takes_the_place_of_an_earlier_one_and_its_bytes() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, limited(9, 4_000, 9));
    end(&store, "t1");
    for prompt_bytes in 0..20 {
        let mut again = decision("t1", "x");
        again.decision.prompt_bytes = prompt_bytes;
        run(store.write_with(Vec::new(), vec![again.clone()])).unwrap();
        assert_eq!(stored(&store, "t1"), Some(again));
    }
}

#[test]
fn those_of_tasks_that_are_not_over_or_not_there_are_not_kept() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, limited(1, 1 << 20, 9));
    let decisions = ["open", "of_a_peer", "gone", "t1"].map(|name| decision(name, "x"));
    run(store.write(vec![task("gone"), outcome("gone", "x"), task("open")])).unwrap();
    run(store.write_with(vec![task("t1"), outcome("t1", "x")], Vec::new())).unwrap();
    run(store.write_with(Vec::new(), decisions.into())).unwrap();
    assert_eq!(names(&store), ["t1"]);
    // Nor do they come to light when the task ends.
    run(store.write(vec![outcome("open", "x")])).unwrap();
    assert_eq!(names(&store), [] as [&str; 0]);
}

#[test]
fn they_go_with_their_tasks() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, limited(2, 1 << 20, 9));
    for name in ["t1", "t2", "t3"] {
        end(&store, name);
    }
    assert_eq!(names(&store), ["t2", "t3"]);
    assert!(disk::rows(&disk, "decisions").iter().all(|task| task != "t1"), "the row is gone");
    drop(store);
    // And the room that it took.
    let (store, _notices) = opened(&disk, limited(1, 1_500, 9));
    for name in ["t4", "t5", "t6", "t7"] {
        end(&store, name);
        assert_eq!(names(&store), [name]);
    }
}

#[test]
fn they_take_what_room_the_outputs_leave_and_cost_no_task() {
    let disk = Disk::default();
    let outcomes = |store: &RedbStore| {
        let records = records_of(run(store.load()).unwrap());
        records.iter().filter(|record| matches!(record, Record::Outcome { .. })).count()
    };
    // Between 500 and 750 bytes each.
    let (store, _notices) = opened(&disk, limited(9, 1_500, 9));
    for name in ["t1", "t2", "t3"] {
        end(&store, name);
    }
    assert_eq!((names(&store), outcomes(&store)), (vec!["t2".into(), "t3".into()], 3));
    drop(store);
    // What they take is known after a restart as well.
    let (store, _notices) = opened(&disk, limited(9, 1_500, 9));
    end(&store, "t4");
    assert_eq!((names(&store), outcomes(&store)), (vec!["t3".into(), "t4".into()], 4));
    run(store.write(vec![task("long"), outcome("long", &"x".repeat(700))])).unwrap();
    assert_eq!((names(&store), outcomes(&store)), (vec!["t4".into()], 5));
    run(store.write(vec![task("longer"), outcome("longer", &"x".repeat(790))])).unwrap();
    assert_eq!((names(&store), outcomes(&store)), (Vec::new(), 6));
    run(store.write(vec![task("last"), outcome("last", "x".repeat(7).as_str())])).unwrap();
    assert_eq!(outcomes(&store), 6, "the first task, one byte long, made room");
}

#[test]
fn the_oldest_are_dropped_before_their_tasks_when_there_are_too_many() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, limited(9, 1 << 20, 2));
    for name in ["t1", "t2", "t3"] {
        end(&store, name);
    }
    assert_eq!(names(&store), ["t2", "t3"]);
    drop(store);
    let (store, _notices) = opened(&disk, limited(9, 1 << 20, 1));
    run(store.write(vec![task("t4")])).unwrap();
    assert_eq!(names(&store), ["t3"]);
    let outcomes = found(&disk).iter().filter(|record| matches!(record, Record::Outcome { .. })).count();
    assert_eq!(outcomes, 3);
}

#[test]
fn one_that_is_too_long_is_not_kept_and_nothing_else_is_lost() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    let mut long = decision("t1", "x");
    long.decision.happened[0].what = "x".repeat(DECISION_BYTES_MAX);
    let records = vec![task("t1"), outcome("t1", "x"), task("t2"), outcome("t2", "x")];
    run(store.write_with(records, vec![long, decision("t2", "x")])).unwrap();
    assert_eq!(names(&store), ["t2"]);
    assert_eq!(found(&disk).len(), 4);
}

#[test]
fn one_that_cannot_be_read_is_none_and_the_file_goes_on() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, limited(2, 1 << 20, 9));
    end(&store, "t1");
    end(&store, "t2");
    drop(store);
    disk::spoil_row(&disk, "decisions", "t1");
    let (store, mut notices) = opened(&disk, limited(2, 1 << 20, 9));
    assert_eq!(notices.already(), None);
    assert_eq!((stored(&store, "t1"), names(&store)), (None, vec!["t2".into()]));
    assert_eq!(records_of(run(store.load()).unwrap()).len(), 4);
    end(&store, "t3");
    assert_eq!(disk::rows(&disk, "decisions"), ["t2", "t3"], "it goes with its task");
}

#[test]
fn when_rows_of_others_cannot_be_read_they_go_on_in_the_new_file() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    end(&store, "t1");
    run(store.write(vec![task("t2")])).unwrap();
    drop(store);
    disk::spoil_row(&disk, "tasks", "t2");
    let (store, mut notices) = opened(&disk, StoreOptions::default());
    assert!(notices.already().unwrap().contains("is damaged"));
    assert_eq!(stored(&store, "t1"), Some(decision("t1", "x")));
}

#[test]
fn a_disk_that_cannot_be_written_serves_them_and_loses_new_ones_silently() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    end(&store, "t1");
    drop(store);
    disk.make_read_only(true);
    let (store, mut notices) = opened(&disk, StoreOptions::default());
    assert!(notices.already().unwrap().contains("cannot be written"));
    assert_eq!(stored(&store, "t1"), Some(decision("t1", "x")));
    assert_eq!(names(&store), ["t1"]);
    let lost = (vec![outcome("t2", "x")], vec![decision("t2", "x")]);
    run(store.write_with(lost.0, lost.1)).unwrap_err();
    assert_eq!(notices.already(), None, "it was said already");
    disk.make_read_only(false);
    end(&store, "t3");
    assert_eq!(names(&store), ["t1", "t3"]);
    let (empty, _notices) =
        RedbStore::over(Box::new(Disk::default()), Path::new("s"), StoreOptions::default(), Box::new(then))
            .unwrap();
    assert_eq!((stored(&empty, "t1"), names(&empty)), (None, Vec::new()));
}

/// As the file says it: in milliseconds since the submission.
fn as_kept(DatedDecision { decision, submitted }: DatedDecision) -> DatedDecision {
    let from = decision.submitted;
    let kept = |at: Time| {
        let millis = at.since(from).as_millis();
        Time::from_start(Duration::from_millis(u64::try_from(millis).unwrap()))
    };
    let auctions = decision.auctions.into_iter().map(|auction| AuctionRecord {
        opened: kept(auction.opened),
        closed: auction.closed.map(kept),
        answers: auction.answers.into_iter().map(|a| Answered { at: kept(a.at), ..a }).collect(),
        ..auction
    });
    let happened = decision.happened.into_iter().map(|line| Happening { at: kept(line.at), ..line });
    let decision = Decision {
        submitted: Time::ZERO,
        auctions: auctions.collect(),
        happened: happened.collect(),
        ended: decision.ended.map(kept),
        ..decision
    };
    DatedDecision { decision, submitted }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_decision_record_comes_back_as_it_was(decision in any_decision()) {
        let row = Row { number: 7, at_unix_ms: 8, record: StoredDecision::from(&decision) };
        let row = Row::<StoredDecision>::read(&row.to_bytes().unwrap()).unwrap();
        let outcome = decision.decision.outcome.clone().unwrap();
        let back = row.record.restore(Outcome { written: Written::Durable, ..outcome }).unwrap();
        prop_assert_eq!(back, as_kept(decision));
    }

    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let outcome = outcome_of(&outcome("t1", "x")).clone();
        let _ = Row::<StoredDecision>::read(&bytes).map(|row| row.record.restore(outcome));
    }
}

/// What core promises of its types holds for what is read, too.
#[test]
fn what_is_out_of_bounds_is_unreadable() {
    let row = Row { number: 1, at_unix_ms: 1, record: StoredDecision::from(&decision("t1", "x")) };
    let text = String::from_utf8(row.to_bytes().unwrap()).unwrap();
    let outcome = outcome_of(&outcome("t1", "x")).clone();
    let readable = |text: &str| {
        Row::<StoredDecision>::read(text.as_bytes())
            .is_ok_and(|row| row.record.restore(outcome.clone()).is_ok())
    };
    assert!(readable(&text));
    let mutilated = [
        (r#""task":"t1""#, r#""task":"t|1""#),
        (r#""device":"Device_B""#, r#""device":"""#),
        (r#""winner":"Device_B""#, r#""winner":"a b""#),
        (r#""cpu_ppm":0"#, r#""cpu_ppm":1000001"#),
        (r#""battery":null"#, r#""battery":101"#),
        (r#""priority":5"#, r#""priority":10"#),
        (r#""policy":"npu-first""#, r#""policy":"cheapest""#),
        (r#""written":"durable""#, r#""written":"perhaps""#),
    ];
    for (was, is) in mutilated {
        assert!(text.contains(was), "{was} in {text}");
        assert!(!readable(&text.replace(was, is)), "{is}");
    }
    // A later version may say more.
    assert!(readable(&text.replace(r#""priority":5"#, r#""priority":5,"colour":"green""#)));
}

fn any_decision() -> impl Strategy<Value = DatedDecision> {
    let counts = (any::<usize>(), 0_u8..=9, any::<usize>());
    let policy = prop_oneof![Just(Policy::NpuFirst), Just(Policy::Weighted)];
    let written = prop_oneof![
        Just(Written::Durable),
        Just(Written::Kept),
        Just(Written::NotKept),
        Just(Written::Failed)
    ];
    let auctions = proptest::collection::vec(any_auction(), 0..3);
    let happening = (moment(), any::<String>()).prop_map(|(at, what)| Happening { at, what });
    let happened = proptest::collection::vec(happening, 0..3);
    let times = (moment(), proptest::option::of(moment()), any::<u32>());
    (records::any_outcome(), written, counts, policy, times, auctions, happened).prop_map(
        |(record, written, (prompt_bytes, priority, dropped_lines), policy, times, auctions, happened)| {
            let (start, ended, at) = times;
            let Record::Outcome { task, outcome } = record else { panic!("no outcome: {record:?}") };
            let decision = Decision {
                task,
                submitted: start,
                prompt_bytes,
                policy,
                priority,
                auctions,
                happened,
                outcome: Some(Outcome { written, ..outcome }),
                ended,
                dropped_lines,
            };
            let submitted: SystemTime = UNIX_EPOCH + Duration::from_millis(at.into());
            DatedDecision { decision, submitted }
        },
    )
}

/// Finer than a millisecond.
fn moment() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(|nanos| Time::from_start(Duration::from_nanos(nanos)))
}

fn any_auction() -> impl Strategy<Value = AuctionRecord> {
    let answered = (records::device_id(), moment(), any_answer()).prop_map(|(device, at, answer)| Answered {
        device,
        at,
        answer,
    });
    let ranked =
        (records::device_id(), any::<bool>(), load(), percent(), any::<Option<u64>>(), any::<bool>())
            .prop_map(|(device, npu, cpu, battery, score, tried)| Ranked {
                device,
                npu,
                cpu,
                battery,
                score,
                tried,
            });
    let choice = (records::device_id(), proptest::collection::vec(ranked, 0..3), any::<String>())
        .prop_map(|(winner, order, sentence)| Choice { winner, order, sentence });
    let answers = proptest::collection::vec(answered, 0..4);
    let ended = (proptest::option::of(moment()), proptest::option::of(choice), any::<Option<String>>());
    (moment(), answers, ended).prop_map(|(opened, answers, (closed, choice, nobody))| AuctionRecord {
        opened,
        closed,
        answers,
        choice,
        nobody,
    })
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let failures = vec![
        SendFailure::Refused,
        SendFailure::Unreachable,
        SendFailure::Reset,
        SendFailure::Ambiguous,
        SendFailure::NotSpoken,
        SendFailure::TooLong,
        SendFailure::Overloaded,
    ];
    let reasons: Vec<Reason> = Reason::known().chain([Reason::Other("of a later version".into())]).collect();
    let refused = (proptest::sample::select(reasons), any::<Option<u64>>())
        .prop_map(|(reason, retry_after_ms)| Answer::Refused { reason, retry_after_ms });
    prop_oneof![
        any_bid().prop_map(|bid| Answer::Bid { bid }),
        refused,
        proptest::sample::select(failures).prop_map(|why| Answer::Unreachable { why }),
        Just(Answer::Silent),
        Just(Answer::KnownBusy),
    ]
}

fn any_bid() -> impl Strategy<Value = Bid> {
    let bid_id = "[a-z0-9]{1,8}\\.[0-9]{1,4}".prop_map(|name| BidId::new(&name).unwrap());
    let device = any::<Option<String>>().prop_map(|name| name.map(Into::into));
    let ids = (proptest::option::of(records::task_id()), proptest::option::of(bid_id), device);
    let capacity = any::<Option<(u16, u16, u16)>>()
        .prop_map(|all| all.map(|(slots, running, yours)| Capacity { slots, running, yours }));
    (ids, load(), load(), percent(), any::<Option<bool>>(), any::<bool>(), capacity).prop_map(
        |((task, bid, device), cpu, ram, battery, charging, npu, capacity)| Bid {
            task,
            bid,
            device,
            cpu,
            ram,
            battery,
            charging,
            npu,
            capacity,
        },
    )
}

fn load() -> impl Strategy<Value = Option<Load>> {
    proptest::option::of((0_u32..=1_000_000).prop_map(|ppm| Load::from_ppm(ppm).unwrap()))
}

fn percent() -> impl Strategy<Value = Option<Percent>> {
    proptest::option::of((0_u8..=100).prop_map(|value| Percent::new(value).unwrap()))
}
