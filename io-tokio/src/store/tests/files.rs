//! The store in real files: versions, damage, and what the system refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bidmesh_core::input::Written;
use bidmesh_core::outbox::Record;
use redb::{Database, TableDefinition, WriteTransaction};

use super::decisions::decision;
use super::records::{award, forgotten, kept, outcome, started, task, without_prompts};
use super::{records_of, run};
use crate::store::books::{Books, Bounds};
use crate::store::format::{FORMAT, MIGRATIONS, Migration, Trouble};
use crate::store::medium::{Medium, OnDisk};
use crate::store::{RedbStore, Store, StoreOptions};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Files that the versions wrote which introduced each format. They are never written again: later versions must read
/// them.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/store");

fn of_format(format: u64) -> PathBuf {
    Path::new(FILES).join(format!("format-{format}.redb"))
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("store.redb")
    }

    fn with(records: Vec<Record>) -> Self {
        let folder = Self::new();
        let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        run(store.write(records)).unwrap();
        folder
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn records_of_a_file() -> Vec<Record> {
    vec![
        task("task_open"),
        award("task_open", 1),
        task("task_over"),
        award("task_over", 1),
        kept("task_theirs.1.abcde"),
        kept("task_taken.1.abcde"),
        outcome("task_over", "an answer\nof two lines"),
        forgotten("task_taken.1.abcde"),
        started("task_runs.1.abcde"),
        PAUSED,
    ]
}

const PAUSED: Record = Record::Paused { during: None };

/// Writes the file of the upgrade test: once for each format, by the version that introduces it.
#[test]
#[ignore = "writes a file of the source tree"]
fn write_the_file_of_this_format() {
    let path = of_format(FORMAT);
    assert!(!path.exists(), "it is there, and stays as it is");
    let (store, _notices) = RedbStore::open(path, StoreOptions::default()).unwrap();
    run(store.write(records_of_a_file())).unwrap();
    run(store.write_with(Vec::new(), vec![decision("task_over", "an answer\nof two lines")])).unwrap();
}

#[test]
fn a_file_of_each_format_can_be_read_and_written() {
    for format in 1..=FORMAT {
        let folder = Folder::new();
        fs::copy(of_format(format), folder.file()).unwrap();
        let (store, mut notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        assert_eq!(notices.already(), None);
        let mut expected = vec![
            task("task_open"),
            award("task_open", 1),
            without_prompts(task("task_over")),
            kept("task_theirs.1.abcde"),
            outcome("task_over", "an answer\nof two lines"),
            forgotten("task_taken.1.abcde"),
        ];
        if format >= 2 {
            expected.extend([started("task_runs.1.abcde"), PAUSED]);
        }
        assert_eq!(records_of(run(store.load()).unwrap()), expected, "format {format}");
        run(store.write(vec![outcome("task_open", "late"), started("new"), kept("task_runs.1.abcde")]))
            .unwrap();
        // The first format had no decision records.
        let task_over = decision("task_over", "an answer\nof two lines");
        let there = if format >= 2 { vec![task_over.clone()] } else { Vec::new() };
        assert_eq!(run(store.decisions()).unwrap(), there);
        run(store.write_with(Vec::new(), vec![task_over.clone()])).unwrap();
        drop(store);
        let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        assert_eq!(run(store.decisions()).unwrap(), [task_over]);
        let records = records_of(run(store.load()).unwrap());
        assert!(records.contains(&outcome("task_open", "late")) && records.contains(&started("new")));
        assert!(
            !records.contains(&award("task_open", 1)) && !records.contains(&started("task_runs.1.abcde"))
        );
    }
}

fn set_format(path: &Path, format: u64) {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", format.to_string().as_bytes()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_a_later_version_is_refused_and_left_alone() {
    let folder = Folder::with(vec![task("t1")]);
    set_format(&folder.file(), FORMAT + 1);
    let error = RedbStore::open(folder.file(), StoreOptions::default()).unwrap_err().to_string();
    let expected =
        format!("a later version of bidmesh wrote it (format {}; this one reads up to {FORMAT})", FORMAT + 1);
    assert!(error.contains(&expected), "{error}");
    assert!(error.contains("move the file away"), "{error}");
    set_format(&folder.file(), FORMAT);
    let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
    assert_eq!(records_of(run(store.load()).unwrap()), [task("t1")]);
    assert_eq!(folder.names(), ["store.redb"]);
}

#[test]
fn an_earlier_format_is_brought_up_step_by_step_or_not_at_all() {
    fn mark(transaction: &WriteTransaction, name: &str) -> Result<(), redb::Error> {
        transaction.open_table(META)?.insert(name, b"1".as_slice())?;
        Ok(())
    }
    let good: &[Migration] =
        &[|transaction| mark(transaction, "first"), |transaction| mark(transaction, "second")];
    let bad: &[Migration] = &[
        |transaction| mark(transaction, "first"),
        |_| Err(redb::Error::Io(std::io::ErrorKind::StorageFull.into())),
    ];
    let folder = Folder::with(vec![task("t1")]);
    let bounds = Bounds {
        ended: 9,
        ended_bytes: 99,
        decisions: 9,
        forgotten: 9,
        age: std::time::Duration::from_secs(9),
    };
    let open = |further: &[Migration]| {
        let medium = OnDisk { path: folder.file(), sync: true };
        let migrations = [MIGRATIONS, further].concat();
        Books::open(medium.open().unwrap(), bounds, &migrations).map(|(_, found)| found)
    };
    assert!(matches!(open(bad), Err(Trouble::Io(_))));
    assert_eq!(open(&[]).unwrap().records.len(), 1, "still of the present format");
    assert_eq!(open(good).unwrap().records.len(), 1);
    assert!(matches!(open(&[]), Err(Trouble::Newer(format)) if format == FORMAT + 2));
    let database = Database::create(folder.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    let meta = transaction.open_table(META).unwrap();
    use redb::ReadableTable as _;
    let row = |name| meta.get(name).unwrap().map(|row| row.value().to_vec());
    let format = (FORMAT + 2).to_string().into_bytes();
    assert_eq!(
        [row("format"), row("first"), row("second")].map(Option::unwrap),
        [format, b"1".into(), b"1".into()]
    );
}

#[test]
fn a_damaged_file_is_set_aside_each_time_and_never_deleted() {
    let folder = Folder::new();
    for number in 1..=3 {
        let junk = format!("this is no database, {number}").repeat(100);
        fs::write(folder.file(), &junk).unwrap();
        let (store, mut notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        let said = notices.already().unwrap();
        let aside = folder.0.path().join(format!("store.redb.damaged-{number}"));
        assert!(said.contains("is damaged") && said.contains(&*aside.to_string_lossy()), "{said}");
        assert_eq!(fs::read_to_string(&aside).unwrap(), junk);
        run(store.write(vec![task("t1")])).unwrap();
        assert_eq!(records_of(run(store.load()).unwrap()), [task("t1")]);
    }
}

#[test]
fn a_damaged_file_that_is_put_back_takes_the_place_of_the_new_one() {
    let folder = Folder::new();
    let medium = OnDisk { path: folder.file(), sync: true };
    fs::write(folder.file(), "damaged").unwrap();
    let aside = medium.set_aside().unwrap();
    fs::write(folder.file(), "begun anew").unwrap();
    medium.put_back(&aside).unwrap();
    assert_eq!(folder.names(), ["store.redb"]);
    assert_eq!(fs::read_to_string(folder.file()).unwrap(), "damaged");
}

/// One changed byte, anywhere: it is found, or it is in a place that holds nothing. Nothing is ever read as something
/// else than what was written.
#[test]
fn a_changed_byte_is_never_taken_for_a_record() {
    let records = vec![task("t1"), award("t1", 1), kept("a.1"), task("t2"), outcome("t2", "an answer")];
    let folder = Folder::with(records);
    let whole = fs::read(folder.file()).unwrap();
    let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
    let expected = records_of(run(store.load()).unwrap());
    drop(store);
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut found_out = 0;
    for at in used.iter().step_by(used.len() / 150 + 1) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 0x10;
        let folder = Folder::new();
        fs::write(folder.file(), &bytes).unwrap();
        match RedbStore::open(folder.file(), StoreOptions::default()) {
            Ok((store, mut notices)) => {
                let records = records_of(run(store.load()).unwrap());
                if notices.already().is_some() {
                    found_out += 1;
                    assert_eq!(
                        fs::read(folder.0.path().join("store.redb.damaged-1")).unwrap().len(),
                        bytes.len()
                    );
                    assert!(records.iter().all(|record| expected.contains(record)), "{records:#?}");
                } else {
                    assert_eq!(records, expected, "byte {at}");
                }
            }
            // Its version is another one now.
            Err(error) => assert!(error.to_string().contains("later version"), "{error}"),
        }
    }
    assert!(found_out > 0);
}

#[test]
fn a_file_that_was_cut_short_is_set_aside() {
    let folder = Folder::with(vec![task("t1")]);
    let bytes = fs::read(folder.file()).unwrap();
    for length in [1, 511, 4096, bytes.len() / 2, bytes.len() - 1] {
        let folder = Folder::new();
        fs::write(folder.file(), &bytes[..length]).unwrap();
        let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        let records = records_of(run(store.load()).unwrap());
        assert!(records.is_empty() || records == [task("t1")], "{length}: {records:?}");
    }
}

#[test]
fn only_its_owner_may_read_it() {
    let folder = Folder::with(vec![task("t1")]);
    assert_eq!(fs::metadata(folder.file()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn without_sync_it_survives_the_process_and_says_no_more() {
    let folder = Folder::new();
    let options = StoreOptions { sync: false, ..StoreOptions::default() };
    let (store, _notices) = RedbStore::open(folder.file(), options).unwrap();
    assert_eq!(store.keeps(), Written::Kept);
    run(store.write(vec![task("t1")])).unwrap();
    // As it would be if the process had been killed now.
    let killed = Folder::new();
    fs::copy(folder.file(), killed.file()).unwrap();
    let (store, mut notices) = RedbStore::open(killed.file(), StoreOptions::default()).unwrap();
    assert_eq!((records_of(run(store.load()).unwrap()), notices.already()), (vec![task("t1")], None));
    assert_eq!(store.keeps(), Written::Durable);
}

/// A file system of one mebibyte, where the test may mount one.
#[test]
fn a_real_disk_that_is_full_refuses_and_recovers() {
    let folder = Folder::new();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "bidmesh-test"])
        .arg(folder.0.path())
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user may not mount a file system; the same is tested over a disk in memory");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        let (store, _notices) = RedbStore::open(folder.file(), StoreOptions::default()).unwrap();
        let filler = folder.0.path().join("filler");
        let mut written = 0;
        while run(store.write(vec![task(&format!("t{written}")), kept(&format!("a.{written}"))])).is_ok() {
            written += 1;
            let more = fs::read(&filler).unwrap_or_default().len() + (64 << 10);
            let _ = fs::write(&filler, vec![1; more]);
            assert!(written < 10_000, "it fills up");
        }
        fs::remove_file(&filler).unwrap();
        run(store.write(vec![task("after")])).unwrap();
        let records = records_of(run(store.load()).unwrap());
        assert_eq!(records.len(), 2 * written + 1, "what was acknowledged, and nothing of what was refused");
    });
    let unmounted = std::process::Command::new("umount").arg("-l").arg(folder.0.path()).status().unwrap();
    assert!(unmounted.success());
    result.unwrap();
}
