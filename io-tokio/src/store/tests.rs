//! The store over a disk that forgets what was not synced, fills up, and is damaged.

mod decisions;
mod disk;
mod files;
mod records;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use proptest::prelude::*;

use super::redb::{Notices, RedbStore, StoreLimits, StoreOptions};
use super::{Store, stored::*};
use disk::Disk;
use records::{award, forgotten, kept, outcome, started, task};

/// A moment at which tests begin.
const BEGINNING: u64 = 1_800_000_000;

fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(BEGINNING)
}

fn opened(disk: &Disk, options: StoreOptions) -> (RedbStore, Notices) {
    RedbStore::over(Box::new(disk.clone()), Path::new("store.redb"), options, Box::new(then)).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// What a device would find that starts now.
fn found(disk: &Disk) -> Vec<Record> {
    let (store, _notices) = opened(disk, StoreOptions::default());
    records_of(run(store.load()).unwrap())
}

fn records_of(restored: Restored) -> Vec<Record> {
    restored.records.into_iter().map(|(record, _)| record).collect()
}

/// What is kept of these records, by the rules that `books` names; unbounded.
fn kept_of(records: &[Record]) -> Vec<Record> {
    let over = |name: &bidmesh_core::id::TaskId| {
        records.iter().any(|record| matches!(record, Record::Outcome { task, .. } if task == name))
    };
    let taken = |wanted: (&bidmesh_core::id::DeviceId, &bidmesh_core::id::AwardId, &u128)| {
        records.iter().any(|record| {
            matches!(record, Record::Forgotten { orchestrator, award, digest }
                if (orchestrator, award, digest) == wanted)
        })
    };
    let ended = |wanted: (&bidmesh_core::id::DeviceId, &bidmesh_core::id::AwardId, &u128)| {
        records.iter().any(|record| {
            matches!(record, Record::Kept { orchestrator, award, digest, .. }
                if (orchestrator, award, digest) == wanted)
        })
    };
    let keep = |record: &Record| match record {
        Record::Task { task, .. } if over(task) => Some(records::without_prompts(record.clone())),
        Record::Award { task, .. } if over(task) => None,
        Record::Kept { orchestrator, award, digest, .. } if taken((orchestrator, award, digest)) => None,
        Record::Started { orchestrator, award, digest, .. }
            if ended((orchestrator, award, digest)) || taken((orchestrator, award, digest)) =>
        {
            None
        }
        record => Some(record.clone()),
    };
    records.iter().filter_map(keep).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_record_comes_back_as_it_was(record in records::any_record()) {
        let bytes: Vec<u8> = match Stored::from(&record) {
            Stored::Task(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            Stored::Award(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            Stored::Outcome(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            Stored::Paused(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            // It takes a row away.
            Stored::Resumed => return Ok(()),
            Stored::Start(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            Stored::Kept(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
            Stored::Forgotten(record) => Row { number: 7, at_unix_ms: 8, record }.to_bytes(),
        }
        .unwrap();
        let back = match &record {
            Record::Task { .. } => Row::<StoredTask>::read(&bytes).unwrap().record.restore(),
            Record::Award { .. } => Row::<StoredAward>::read(&bytes).unwrap().record.restore(),
            Record::Outcome { .. } => Row::<StoredOutcome>::read(&bytes).unwrap().record.restore(),
            Record::Paused { .. } => Row::<StoredPause>::read(&bytes).unwrap().record.restore(),
            Record::Resumed => Ok(Record::Resumed),
            Record::Started { .. } => Row::<StoredStart>::read(&bytes).unwrap().record.restore(),
            Record::Kept { .. } => Row::<StoredKept>::read(&bytes).unwrap().record.restore(),
            Record::Forgotten { .. } => Row::<StoredForgotten>::read(&bytes).unwrap().record.restore(),
        };
        prop_assert_eq!(back, Ok(record));
    }

    /// Bytes that are none of ours are a row that cannot be read, never a panic.
    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Row::<StoredTask>::read(&bytes).map(|row| row.record.restore());
        let _ = Row::<StoredOutcome>::read(&bytes).map(|row| row.record.restore());
    }

    /// Power goes at any moment, and of what was not synced any part may have reached the disk: what was acknowledged is
    /// there, and what was not is there as a whole or not at all.
    #[test]
    fn a_loss_of_power_costs_nothing_that_was_acknowledged(
        batches in proptest::collection::vec(1_usize..6, 1..8),
        dies_after in 0_usize..120,
        survives in proptest::collection::vec(any::<u8>(), 256),
    ) {
        let disk = Disk::default();
        let (store, _notices) = opened(&disk, StoreOptions::default());
        disk.die_after(dies_after);
        let script = records::script(batches.iter().sum());
        let (mut acknowledged, mut given) = (0, 0);
        for size in batches {
            given += size;
            if run(store.write(script[acknowledged..given].to_vec())).is_err() {
                break;
            }
            acknowledged = given;
        }
        disk.lose_power(&survives);
        drop(store);
        let found = found(&disk);
        let possible = [kept_of(&script[..acknowledged]), kept_of(&script[..given])];
        prop_assert!(possible.contains(&found), "{acknowledged} of {given}: {found:#?}");
    }

    /// A file of which a part cannot be read, and a disk that takes no changes from any moment on: what can be read goes on,
    /// in this start and in the next, whether there is room again before that or not.
    #[test]
    fn damage_costs_nothing_else_when_the_disk_is_full_as_well(
        full_after in 0_usize..60,
        room_again in any::<bool>(),
    ) {
        let disk = Disk::default();
        let (store, _notices) = opened(&disk, StoreOptions::default());
        let others = vec![task("t2"), kept("a.1"), started("a.2")];
        run(store.write([vec![task("t1")], others.clone()].concat())).unwrap();
        drop(store);
        disk::spoil_row(&disk, "tasks", "t1");
        disk.die_after(full_after);
        let (store, mut notices) = opened(&disk, StoreOptions::default());
        prop_assert_eq!(records_of(run(store.load()).unwrap()), others.clone());
        if std::iter::from_fn(|| notices.already()).any(|said| said.contains("go on in a new one")) {
            prop_assert_eq!(disk::rows(&disk, "tasks"), ["t2"], "not said before it is so");
        }
        let mut expected = others;
        if room_again {
            disk.revive();
            run(store.write(vec![outcome("t2", "an answer")])).unwrap();
            expected[0] = records::without_prompts(task("t2"));
            expected.push(outcome("t2", "an answer"));
        }
        drop(store);
        disk.revive();
        prop_assert_eq!(found(&disk), expected);
    }
}

#[test]
fn what_is_over_takes_no_room() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    let records = vec![
        task("t1"),
        task("t2"),
        award("t1", 1),
        award("t1", 2),
        award("t2", 1),
        started("a.1"),
        started("a.2"),
        started("a.3"),
        kept("a.1"),
        kept("a.2"),
        outcome("t1", "an answer"),
        forgotten("a.1"),
    ];
    run(store.write(records.clone())).unwrap();
    drop(store);
    let expected = vec![
        records::without_prompts(task("t1")),
        task("t2"),
        award("t2", 1),
        started("a.3"),
        kept("a.2"),
        outcome("t1", "an answer"),
        forgotten("a.1"),
    ];
    assert_eq!(found(&disk), expected);
    assert_eq!(kept_of(&records), expected, "the model of the other tests says the same");
}

#[test]
fn an_award_or_outcome_of_no_task_is_not_kept() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    run(store.write(vec![award("t1", 1), outcome("t1", "for a peer")])).unwrap();
    drop(store);
    assert_eq!(found(&disk), []);
}

#[test]
fn the_latest_word_on_a_pause_counts() {
    let disk = Disk::default();
    let pause = |seconds| Record::Paused { during: Some(Duration::from_secs(seconds)) };
    for (said, expected) in [
        (vec![pause(60), pause(90)], vec![pause(90)]),
        (vec![Record::Resumed], vec![]),
        (vec![Record::Resumed, pause(30)], vec![pause(30)]),
    ] {
        let (store, _notices) = opened(&disk, StoreOptions::default());
        run(store.write(said)).unwrap();
        drop(store);
        assert_eq!(found(&disk), expected);
    }
}

#[test]
fn the_oldest_goes_when_there_is_too_much() {
    let disk = Disk::default();
    let limits = StoreLimits { ended: 3, ended_bytes: 100, decisions: 2, forgotten: 2 };
    let (store, _notices) = opened(&disk, StoreOptions { limits, ..StoreOptions::default() });
    for number in 0..5 {
        let name = format!("t{number}");
        let records = vec![task(&name), outcome(&name, "short"), forgotten(&format!("a.{number}"))];
        run(store.write(records)).unwrap();
    }
    let left = |name: &str| {
        records_of(run(store.load()).unwrap())
            .iter()
            .any(|record| matches!(record, Record::Outcome { task, .. } if task.as_str() == name))
    };
    assert_eq!(["t0", "t1", "t2", "t3", "t4"].map(left), [false, false, true, true, true]);
    let records = records_of(run(store.load()).unwrap());
    assert_eq!(records.iter().filter(|record| matches!(record, Record::Forgotten { .. })).count(), 2);
    // One long answer is worth three short ones.
    run(store.write(vec![task("long"), outcome("long", &"x".repeat(95))])).unwrap();
    assert_eq!(["t3", "t4", "long"].map(left), [false, true, true]);
}

#[test]
fn a_file_that_is_much_longer_than_what_it_holds_is_made_shorter() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    for number in 0..12 {
        let name = format!("t{number}");
        run(store.write(vec![task(&name), outcome(&name, &"x".repeat(1 << 20))])).unwrap();
    }
    drop(store);
    let long = disk.bytes().len();
    let limits = StoreLimits { ended: 1, ended_bytes: 1 << 20, decisions: 1, forgotten: 1 };
    let options = StoreOptions { limits, ..StoreOptions::default() };
    let (store, _notices) = opened(&disk, options);
    run(store.write(vec![task("last")])).unwrap();
    drop(store);
    assert_eq!(found(&disk).len(), 3, "a task and its outcome, and the last one");
    let short = disk.bytes().len();
    assert!(short < long / 2, "{long} bytes, then {short}");
}

#[test]
fn what_is_old_goes_and_a_clock_that_was_set_back_makes_nothing_old() {
    static NOW: AtomicU64 = AtomicU64::new(BEGINNING);
    fn wall() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }
    let disk = Disk::default();
    let medium = || Box::new(disk.clone());
    let options = StoreOptions::default();
    let (store, _notices) =
        RedbStore::over(medium(), Path::new("store.redb"), options, Box::new(wall)).unwrap();
    run(store.write(vec![task("t1"), outcome("t1", "x"), task("t2")])).unwrap();
    let age = |store: &RedbStore| run(store.load()).unwrap().records.last().unwrap().1;
    NOW.store(BEGINNING + 60, Ordering::Relaxed);
    assert_eq!(age(&store), Duration::from_secs(60));
    NOW.store(BEGINNING - 3600, Ordering::Relaxed);
    assert_eq!(age(&store), Duration::ZERO);
    run(store.write(vec![task("t3")])).unwrap();
    assert_eq!(run(store.load()).unwrap().records.len(), 4);
    NOW.store(BEGINNING + options.age.as_secs() + 1, Ordering::Relaxed);
    run(store.write(vec![task("t4")])).unwrap();
    let left = records_of(run(store.load()).unwrap());
    assert_eq!(left, [task("t2"), task("t3"), task("t4")], "open tasks are never dropped");
}

#[test]
fn a_full_disk_refuses_what_is_new_keeps_what_it_has_and_recovers() {
    let disk = Disk::default();
    let (store, mut notices) = opened(&disk, StoreOptions::default());
    run(store.write(vec![task("t1"), task("t2")])).unwrap();
    disk.fill(true);
    for _ in 0..3 {
        let error = run(store.write(vec![outcome("t1", "told, not written")])).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    }
    run(store.write(vec![task("t3")])).unwrap_err();
    let said = notices.already().unwrap();
    assert!(said.starts_with("the store cannot be written: no storage space"), "{said}");
    assert_eq!(notices.already(), None, "once");
    assert!(run(store.load()).is_ok_and(|found| records_of(found) == [task("t1"), task("t2")]));
    disk.fill(false);
    run(store.write(vec![task("t4")])).unwrap();
    assert_eq!(notices.already().as_deref(), Some("the store can be written again"));
    drop(store);
    // An outcome that somebody was told of is made up for; a task that was refused never was.
    let expected = vec![
        records::without_prompts(task("t1")),
        task("t2"),
        outcome("t1", "told, not written"),
        task("t4"),
    ];
    assert_eq!(found(&disk), expected);
}

#[test]
fn a_disk_that_is_full_from_the_beginning_serves_what_is_there() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    run(store.write(vec![task("t1")])).unwrap();
    drop(store);
    disk.make_read_only(true);
    let (store, mut notices) = opened(&disk, StoreOptions::default());
    assert!(notices.already().unwrap().contains("cannot be written"));
    assert_eq!(records_of(run(store.load()).unwrap()), [task("t1")]);
    run(store.write(vec![task("t2")])).unwrap_err();
    disk.make_read_only(false);
    run(store.write(vec![task("t3")])).unwrap();
    drop(store);
    assert_eq!(found(&disk), [task("t1"), task("t3")]);
}

#[test]
fn rows_that_cannot_be_read_set_the_file_aside_and_the_others_go_on() {
    let disk = Disk::default();
    let (store, _notices) = opened(&disk, StoreOptions::default());
    run(store.write(vec![task("t1"), task("t2")])).unwrap();
    drop(store);
    disk::spoil_row(&disk, "tasks", "t1");
    let before = disk.bytes();
    let (store, mut notices) = opened(&disk, StoreOptions::default());
    let said = notices.already().unwrap();
    assert!(
        said.contains("1 of its records cannot be read") && said.contains("store.redb.damaged-1"),
        "{said}"
    );
    assert!(disk.aside().len() >= before.len(), "the whole file, and nothing was deleted");
    assert_eq!(records_of(run(store.load()).unwrap()), [task("t2")]);
    run(store.write(vec![task("t3")])).unwrap();
    drop(store);
    assert_eq!(found(&disk), [task("t2"), task("t3")]);
}
