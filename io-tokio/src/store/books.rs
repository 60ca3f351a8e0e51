//! The tables of the file: what a record changes there, what is dropped, and which version of the format it is.
//!
//! The file holds what still matters and no history: an outcome takes the place of its task's awards and prompts, a
//! forgotten result that of the kept one. So it is compact at all times, and what is left is bounded: open tasks and
//! kept results by core's own limits, the rest by [`Bounds`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use redb::{
    Builder, Database, DatabaseError, Error as RedbError, ReadOnlyTable, ReadTransaction, ReadableDatabase,
    ReadableTable, StorageBackend, TableDefinition, TableError, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::DatedDecision;
use super::medium::Bytes;
use super::stored::{
    Restore, Row, Stored, StoredAward, StoredDecision, StoredForgotten, StoredKept, StoredOutcome,
    StoredTask, Unreadable,
};

/// The version of the format that this program writes. Raise it with a step in [`MIGRATIONS`].
pub(super) const FORMAT: u64 = 1;

/// The step at index `n` brings format `n + 1` to `n + 2`.
pub(super) const MIGRATIONS: &[Migration] = &[];
const _: () =
    assert!(FORMAT == MIGRATIONS.len() as u64 + 1, "each format but the first has a step that leads to it");

/// Changes the tables of one format into those of the next, in one transaction.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), RedbError>;

/// One type for all: each further one would be a further copy of the database's code.
type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const META: Table = TableDefinition::new("meta");
const TASKS: Table = TableDefinition::new("tasks");
/// Under `TASK/ATTEMPT`, the attempt with ten digits.
const AWARDS: Table = TableDefinition::new("awards");
const OUTCOMES: Table = TableDefinition::new("outcomes");
/// Under `ORCHESTRATOR/AWARD/DIGEST`, and so are the forgotten ones.
const KEPT: Table = TableDefinition::new("kept");
const FORGOTTEN: Table = TableDefinition::new("forgotten");

/// Under the task, which has an outcome. For people only: a row that cannot be read, or whose task is gone, is passed
/// over. Versions that do not know this table leave such rows behind, and files that they made have no such table:
/// neither is a reason for a format of its own.
const DECISIONS: Table = TableDefinition::new("decisions");

/// The row of [`META`] that says which format this is, in decimal digits.
const FORMAT_ROW: &str = "format";

/// Pages of the file that are kept in memory: little, since nothing is read after the start.
const CACHE_BYTES: usize = 4 << 20;

/// Awards of one open task that are kept; core asks for the last and remembers no more than these.
const AWARDS_MAX: u32 = 16;

/// A longer decision record is not kept. That of an auction of a thousand bids is half as long.
pub(super) const DECISION_BYTES_MAX: usize = 1 << 20;

/// A file that is so much longer than what it holds is made shorter at the start.
const SLACK_BYTES: u64 = 8 << 20;

/// How much is kept of what is over. Beyond, the oldest is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Ended tasks.
    pub(super) ended: usize,
    /// Bytes of their outputs, in all; what these leave is for decision records.
    pub(super) ended_bytes: usize,
    /// Decision records of ended tasks.
    pub(super) decisions: usize,
    /// Acknowledged results that are known again.
    pub(super) forgotten: usize,
    /// How long any of these is kept.
    pub(super) age: Duration,
}

/// Why the tables cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// A later version wrote them, in this format.
    Newer(u64),
    /// They are damaged; in words.
    Damaged(String),
    /// The system does not let us.
    Io(std::io::Error),
}

/// What the file holds, and how much was unreadable.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// In the order in which they were written, with the moment.
    pub(super) records: Vec<(Record, SystemTime)>,
    /// Rows that were passed over.
    pub(super) unreadable: usize,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Books {
    database: Database,
    bounds: Bounds,
    /// The number of the next row.
    next: u64,
    ended: BTreeMap<u64, Ended>,
    ended_bytes: usize,
    decision_bytes: usize,
    forgotten: BTreeMap<u64, (String, u64)>,
    /// Tasks that are gone and whose decision records are there: an earlier version dropped them.
    strays: Vec<String>,
}

#[derive(Debug)]
struct Ended {
    task: String,
    at_unix_ms: u64,
    output_bytes: usize,
    /// Zero: it has no decision record.
    decision_bytes: usize,
}

impl Ended {
    fn new(outcome: &Row<StoredOutcome>) -> Self {
        let Row { at_unix_ms, record: StoredOutcome { task, output, .. }, .. } = outcome;
        Self { task: task.clone(), at_unix_ms: *at_unix_ms, output_bytes: output.len(), decision_bytes: 0 }
    }
}

impl Books {
    /// Opens the tables, or makes them, and reads them.
    pub(super) fn open(
        bytes: Bytes,
        bounds: Bounds,
        migrations: &[Migration],
    ) -> Result<(Self, Contents), Trouble> {
        let file_bytes = bytes.len().map_err(Trouble::Io)?;
        let mut database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(bytes)
            .map_err(Trouble::from)?;
        settle_format(&database, migrations)?;
        let read = Reading::of(&database).map_err(Trouble::from)?;
        if read.is_little_for(file_bytes) {
            // A file that stays longer than it need be is no reason not to go on.
            let _ = database.compact();
        }
        let Reading { rows, unreadable, next, ended, ended_bytes, decision_bytes, forgotten, strays, .. } =
            read;
        let records = rows.into_iter().map(|(_, at, record)| (record, at)).collect();
        let this = Self { database, bounds, next, ended, ended_bytes, decision_bytes, forgotten, strays };
        Ok((this, Contents { records, unreadable }))
    }

    /// Writes records and then decision records, all of them or none, and drops what is beyond the bounds. After an
    /// error these books are of no use any more: the file must be opened again.
    pub(super) fn write<'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a Record, SystemTime)>,
        decisions: &[DatedDecision],
        now: SystemTime,
    ) -> Result<(), Trouble> {
        self.try_write(records, decisions, now).map_err(Trouble::from)
    }

    /// The decision record of a task.
    pub(super) fn decision(&self, task: &str) -> Result<Option<DatedDecision>, Trouble> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let Some(decisions) = decisions_table(&transaction)? else { return Ok(None) };
            let Some(decision) = decisions.get(task)? else { return Ok(None) };
            let outcome = transaction.open_table(OUTCOMES)?.get(task)?;
            Ok(outcome.and_then(|outcome| dated(decision.value(), outcome.value()).ok()))
        };
        Ok(read().map_err(|error: RedbError| Trouble::from(error))?.map(|(_, decision)| decision))
    }

    /// All decision records, in the order in which their tasks were submitted.
    pub(super) fn decisions(&self) -> Result<Vec<DatedDecision>, Trouble> {
        let read = || {
            let transaction = self.database.begin_read()?;
            let Some(decisions) = decisions_table(&transaction)? else { return Ok(Vec::new()) };
            let outcomes = transaction.open_table(OUTCOMES)?;
            let mut found = Vec::new();
            for entry in decisions.iter()? {
                let (task, decision) = entry?;
                let Some(outcome) = outcomes.get(task.value())? else { continue };
                found.extend(dated(decision.value(), outcome.value()));
            }
            Ok(found)
        };
        let mut found = read().map_err(|error: RedbError| Trouble::from(error))?;
        found.sort_by_key(|(number, _)| *number);
        Ok(found.into_iter().map(|(_, decision)| decision).collect())
    }

    fn try_write<'a>(
        &mut self,
        records: impl IntoIterator<Item = (&'a Record, SystemTime)>,
        decisions: &[DatedDecision],
        now: SystemTime,
    ) -> Result<(), RedbError> {
        let transaction = self.database.begin_write()?;
        for (record, at) in records {
            let number = self.next;
            self.next += 1;
            self.enter(&transaction, Stored::from(record), number, unix_ms(at))?;
        }
        for decision in decisions {
            self.enter_decision(&transaction, StoredDecision::from(decision), unix_ms(now))?;
        }
        self.drop_what_is_over(&transaction, unix_ms(now))?;
        transaction.commit()?;
        Ok(())
    }

    fn enter(
        &mut self,
        transaction: &WriteTransaction,
        stored: Stored,
        number: u64,
        at_unix_ms: u64,
    ) -> Result<(), RedbError> {
        match stored {
            Stored::Task(task) => {
                let key = task.task.clone();
                let row = bytes(Row { number, at_unix_ms, record: task })?;
                transaction.open_table(TASKS)?.insert(key.as_str(), row.as_slice())?;
            }
            Stored::Award(award) => {
                let (task, attempt) = (award.task.clone(), award.attempt);
                // Work for a peer that asked by SLM_PROMPT is no task of this file.
                if transaction.open_table(TASKS)?.get(task.as_str())?.is_none() {
                    return Ok(());
                }
                let row = bytes(Row { number, at_unix_ms, record: award })?;
                let mut awards = transaction.open_table(AWARDS)?;
                awards.insert(award_key(&task, attempt).as_str(), row.as_slice())?;
                if let Some(old) = attempt.checked_sub(AWARDS_MAX) {
                    awards.remove(award_key(&task, old).as_str())?;
                }
            }
            Stored::Outcome(outcome) => self.enter_outcome(transaction, outcome, number, at_unix_ms)?,
            Stored::Kept(kept) => {
                let key = kept.key();
                let row = bytes(Row { number, at_unix_ms, record: kept })?;
                transaction.open_table(KEPT)?.insert(key.as_str(), row.as_slice())?;
            }
            Stored::Forgotten(forgotten) => {
                let key = forgotten.key();
                let row = bytes(Row { number, at_unix_ms, record: forgotten })?;
                transaction.open_table(KEPT)?.remove(key.as_str())?;
                transaction.open_table(FORGOTTEN)?.insert(key.as_str(), row.as_slice())?;
                self.forgotten.insert(number, (key, at_unix_ms));
            }
        }
        Ok(())
    }

    fn enter_outcome(
        &mut self,
        transaction: &WriteTransaction,
        outcome: StoredOutcome,
        number: u64,
        at_unix_ms: u64,
    ) -> Result<(), RedbError> {
        let task = outcome.task.clone();
        let mut tasks = transaction.open_table(TASKS)?;
        let Some(row) = tasks.get(task.as_str())?.map(|row| row.value().to_vec()) else { return Ok(()) };
        if let Ok(row) = Row::<StoredTask>::read(&row) {
            let row = bytes(Row { record: row.record.without_prompts(), ..row })?;
            tasks.insert(task.as_str(), row.as_slice())?;
        }
        let mut awards = transaction.open_table(AWARDS)?;
        let (first, last) = (award_key(&task, 0), award_key(&task, u32::MAX));
        let keys = awards.range(first.as_str()..=last.as_str())?;
        let keys: Vec<String> =
            keys.map(|entry| Ok(entry?.0.value().to_owned())).collect::<Result<_, RedbError>>()?;
        for key in keys {
            awards.remove(key.as_str())?;
        }
        let row = Row { number, at_unix_ms, record: outcome };
        let ended = Ended::new(&row);
        self.ended_bytes += ended.output_bytes;
        self.ended.insert(number, ended);
        transaction.open_table(OUTCOMES)?.insert(task.as_str(), bytes(row)?.as_slice())?;
        Ok(())
    }

    /// That of a task that has not ended, or is not there any more, is not kept.
    fn enter_decision(
        &mut self,
        transaction: &WriteTransaction,
        decision: StoredDecision,
        at_unix_ms: u64,
    ) -> Result<(), RedbError> {
        let task = decision.task.clone();
        // It is one of the last that ended.
        let Some(ended) = self.ended.values_mut().rev().find(|ended| ended.task == task) else {
            return Ok(());
        };
        let place = transaction.open_table(TASKS)?.get(task.as_str())?.map(|row| row.value().to_vec());
        let place = place.and_then(|row| Row::<StoredTask>::read(&row).ok());
        let Some(Row { number, .. }) = place else { return Ok(()) };
        let row = bytes(Row { number, at_unix_ms, record: decision })?;
        if row.len() > DECISION_BYTES_MAX {
            return Ok(());
        }
        self.decision_bytes -= std::mem::replace(&mut ended.decision_bytes, row.len());
        self.decision_bytes += row.len();
        transaction.open_table(DECISIONS)?.insert(task.as_str(), row.as_slice())?;
        Ok(())
    }

    fn drop_what_is_over(
        &mut self,
        transaction: &WriteTransaction,
        now_unix_ms: u64,
    ) -> Result<(), RedbError> {
        let bounds = self.bounds;
        let age = u64::try_from(bounds.age.as_millis()).unwrap_or(u64::MAX);
        let old = |at: u64| now_unix_ms.saturating_sub(at) > age;
        while let Some(entry) = self.ended.first_entry() {
            let over = self.ended_bytes > bounds.ended_bytes || old(entry.get().at_unix_ms);
            let ended = if over { entry.remove() } else { break };
            self.drop_ended(transaction, &ended)?;
        }
        while self.ended.len() > bounds.ended {
            let Some((_, ended)) = self.ended.pop_first() else { break };
            self.drop_ended(transaction, &ended)?;
        }
        self.drop_decisions(transaction)?;
        let mut forgotten = transaction.open_table(FORGOTTEN)?;
        loop {
            let many = self.forgotten.len() > bounds.forgotten;
            let Some(entry) = self.forgotten.first_entry() else { break };
            if !many && !old(entry.get().1) {
                break;
            }
            let (key, _) = entry.remove();
            forgotten.remove(key.as_str())?;
        }
        Ok(())
    }

    fn drop_ended(&mut self, transaction: &WriteTransaction, ended: &Ended) -> Result<(), RedbError> {
        self.ended_bytes -= ended.output_bytes;
        self.decision_bytes -= ended.decision_bytes;
        transaction.open_table(OUTCOMES)?.remove(ended.task.as_str())?;
        transaction.open_table(TASKS)?.remove(ended.task.as_str())?;
        transaction.open_table(DECISIONS)?.remove(ended.task.as_str())?;
        Ok(())
    }

    /// No outcome goes for the sake of a decision record.
    fn drop_decisions(&mut self, transaction: &WriteTransaction) -> Result<(), RedbError> {
        let mut table = transaction.open_table(DECISIONS)?;
        for task in self.strays.drain(..) {
            table.remove(task.as_str())?;
        }
        let with_one = |ended: &Ended| ended.decision_bytes > 0;
        let count = self.ended.values().filter(|ended| with_one(ended)).count();
        let mut beyond = count.saturating_sub(self.bounds.decisions);
        for ended in self.ended.values_mut().filter(|ended| with_one(ended)) {
            if beyond == 0 && self.ended_bytes + self.decision_bytes <= self.bounds.ended_bytes {
                break;
            }
            beyond = beyond.saturating_sub(1);
            self.decision_bytes -= std::mem::take(&mut ended.decision_bytes);
            table.remove(ended.task.as_str())?;
        }
        Ok(())
    }
}

/// `None`: the version that made the file did not know of it.
fn decisions_table(
    transaction: &ReadTransaction,
) -> Result<Option<ReadOnlyTable<&'static str, &'static [u8]>>, RedbError> {
    match transaction.open_table(DECISIONS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A decision record of its row and that of the task's outcome, with the place of its task.
fn dated(decision: &[u8], outcome: &[u8]) -> Result<(u64, DatedDecision), Unreadable> {
    let Row { number, record, .. } = Row::<StoredDecision>::read(decision)?;
    let outcome = Row::<StoredOutcome>::read(outcome)?.record.outcome()?;
    Ok((number, record.restore(outcome)?))
}

/// Sees to it that the tables are of the present format; an empty file gets it.
fn settle_format(database: &Database, migrations: &[Migration]) -> Result<(), Trouble> {
    let present = migrations.len() as u64 + 1;
    let transaction = database.begin_write().map_err(RedbError::from)?;
    let new = transaction.list_tables().map_err(RedbError::from)?.next().is_none();
    let format = {
        let mut meta = transaction.open_table(META).map_err(RedbError::from)?;
        let row = meta.get(FORMAT_ROW).map_err(RedbError::from)?.map(|row| row.value().to_vec());
        meta.insert(FORMAT_ROW, present.to_string().as_bytes()).map_err(RedbError::from)?;
        row.map(|digits| String::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()))
    };
    match format {
        None if new => create_tables(&transaction)?,
        None | Some(None | Some(0)) => {
            return Err(Trouble::Damaged("it does not say which format it has".into()));
        }
        Some(Some(format)) if format > present => return Err(Trouble::Newer(format)),
        Some(Some(format)) if format == present => {
            // Nothing to write.
            return transaction.abort().map_err(|error| RedbError::from(error).into());
        }
        Some(Some(format)) => {
            let done = usize::try_from(format).unwrap_or(usize::MAX) - 1;
            for step in migrations.iter().skip(done) {
                step(&transaction)?;
            }
        }
    }
    transaction.commit().map_err(|error| RedbError::from(error).into())
}

fn create_tables(transaction: &WriteTransaction) -> Result<(), RedbError> {
    for table in [TASKS, AWARDS, OUTCOMES, KEPT, FORGOTTEN, DECISIONS] {
        transaction.open_table(table)?;
    }
    Ok(())
}

/// What is found when a file is read.
#[derive(Default)]
struct Reading {
    rows: Vec<(u64, SystemTime, Record)>,
    unreadable: usize,
    next: u64,
    bytes: usize,
    ended: BTreeMap<u64, Ended>,
    ended_bytes: usize,
    decision_bytes: usize,
    forgotten: BTreeMap<u64, (String, u64)>,
    strays: Vec<String>,
}

impl Reading {
    fn of(database: &Database) -> Result<Self, RedbError> {
        let mut this = Self::default();
        let transaction = database.begin_read()?;
        this.table::<StoredTask>(&transaction, TASKS, |_, _| {})?;
        this.table::<StoredAward>(&transaction, AWARDS, |_, _| {})?;
        this.table::<StoredOutcome>(&transaction, OUTCOMES, |this, row| {
            let ended = Ended::new(row);
            this.ended_bytes += ended.output_bytes;
            this.ended.insert(row.number, ended);
        })?;
        this.decisions(&transaction)?;
        this.table::<StoredKept>(&transaction, KEPT, |_, _| {})?;
        this.table::<StoredForgotten>(&transaction, FORGOTTEN, |this, row| {
            this.forgotten.insert(row.number, (row.record.key(), row.at_unix_ms));
        })?;
        this.rows.sort_by_key(|(number, ..)| *number);
        Ok(this)
    }

    fn table<T: DeserializeOwned + Restore>(
        &mut self,
        transaction: &ReadTransaction,
        table: Table,
        note: impl Fn(&mut Self, &Row<T>),
    ) -> Result<(), RedbError> {
        for entry in transaction.open_table(table)?.iter()? {
            self.row(entry?.1.value(), &note);
        }
        Ok(())
    }

    /// How long they are; what is in them is nobody's business before somebody asks.
    fn decisions(&mut self, transaction: &ReadTransaction) -> Result<(), RedbError> {
        let Some(table) = decisions_table(transaction)? else { return Ok(()) };
        let mut lengths = BTreeMap::new();
        for entry in table.iter()? {
            let (task, row) = entry?;
            lengths.insert(task.value().to_owned(), row.value().len());
        }
        for ended in self.ended.values_mut() {
            ended.decision_bytes = lengths.remove(&ended.task).unwrap_or(0);
            self.bytes += ended.decision_bytes;
            self.decision_bytes += ended.decision_bytes;
        }
        self.strays = lengths.into_keys().collect();
        Ok(())
    }

    fn row<T: DeserializeOwned + Restore>(&mut self, bytes: &[u8], note: &impl Fn(&mut Self, &Row<T>)) {
        self.bytes += bytes.len();
        let Ok(row) = Row::<T>::read(bytes) else {
            self.unreadable += 1;
            return;
        };
        note(self, &row);
        let Row { number, at_unix_ms, record } = row;
        self.next = self.next.max(number.saturating_add(1));
        match record.restore() {
            Ok(record) => self.rows.push((number, UNIX_EPOCH + Duration::from_millis(at_unix_ms), record)),
            Err(_) => self.unreadable += 1,
        }
    }

    fn is_little_for(&self, file_bytes: u64) -> bool {
        file_bytes > (self.bytes as u64).saturating_mul(4).saturating_add(SLACK_BYTES)
    }
}

impl Contents {
    /// What core takes up, each with its age now. A clock that was set back makes nothing younger than it can be.
    pub(super) fn restored(&self, now: SystemTime) -> Restored {
        let aged = |(record, at): &(Record, SystemTime)| {
            (record.clone(), now.duration_since(*at).unwrap_or(Duration::ZERO))
        };
        Restored { records: self.records.iter().map(aged).collect() }
    }
}

fn award_key(task: &str, attempt: u32) -> String {
    format!("{task}/{attempt:010}")
}

fn bytes<T: Serialize>(row: Row<T>) -> Result<Vec<u8>, RedbError> {
    row.to_bytes().map_err(RedbError::Io)
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl From<DatabaseError> for Trouble {
    fn from(error: DatabaseError) -> Self {
        RedbError::from(error).into()
    }
}

impl From<RedbError> for Trouble {
    fn from(error: RedbError) -> Self {
        use std::io::ErrorKind::{InvalidData, UnexpectedEof};
        match error {
            RedbError::Io(error) if matches!(error.kind(), InvalidData | UnexpectedEof) => {
                Self::Damaged(error.to_string())
            }
            RedbError::Io(error) => Self::Io(error),
            RedbError::Corrupted(what) => Self::Damaged(what),
            RedbError::TableTypeMismatch { .. }
            | RedbError::TableDoesNotExist(_)
            | RedbError::TableIsMultimap(_)
            | RedbError::TypeDefinitionChanged { .. }
            | RedbError::RepairAborted => Self::Damaged(error.to_string()),
            other => Self::Io(std::io::Error::other(other)),
        }
    }
}
