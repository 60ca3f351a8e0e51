//! The tables of the file: what a record changes there, and what is dropped.
//!
//! The file holds what still matters and no history: an outcome takes the place of its task's awards and prompts, a
//! forgotten result that of the kept one. So it is compact at all times, and what is left is bounded: open tasks, runs
//! and kept results by core's own limits, the rest by [`Bounds`].

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::outbox::Record;
use redb::{
    Builder, Database, Error as RedbError, ReadableDatabase, ReadableTable, StorageBackend, WriteTransaction,
};
use serde::Serialize;

use super::DatedDecision;
use super::format::{
    AWARDS, DECISIONS, FORGOTTEN, KEPT, Migration, OUTCOMES, PAUSE_ROW, STARTED, TASKS, Trouble, WISHES,
    settle_format,
};
use super::medium::Bytes;
use super::reading::{Contents, Reading};
use super::stored::{Row, Stored, StoredDecision, StoredOutcome, StoredTask, Unreadable};

/// Pages of the file that are kept in memory: little, since nothing is read after the start.
const CACHE_BYTES: usize = 4 << 20;

/// Awards of one open task that are kept; core asks for the last and remembers no more than these.
const AWARDS_MAX: u32 = 16;

/// A longer decision record is not kept. That of an auction of a thousand bids is half as long.
pub(super) const DECISION_BYTES_MAX: usize = 1 << 20;

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
}

/// An ended task.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) task: String,
    at_unix_ms: u64,
    pub(super) output_bytes: usize,
    /// Zero: it has no decision record.
    pub(super) decision_bytes: usize,
}

impl Ended {
    pub(super) fn new(outcome: &Row<StoredOutcome>) -> Self {
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
        let Reading { rows, unreadable, next, ended, ended_bytes, decision_bytes, forgotten, .. } = read;
        let records = rows.into_iter().map(|(_, at, record)| (record, at)).collect();
        let this = Self { database, bounds, next, ended, ended_bytes, decision_bytes, forgotten };
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
            let decisions = transaction.open_table(DECISIONS)?;
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
            let decisions = transaction.open_table(DECISIONS)?;
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
            Stored::Start(start) => {
                let key = start.key();
                let row = bytes(Row { number, at_unix_ms, record: start })?;
                transaction.open_table(STARTED)?.insert(key.as_str(), row.as_slice())?;
            }
            Stored::Kept(kept) => {
                let key = kept.key();
                let row = bytes(Row { number, at_unix_ms, record: kept })?;
                transaction.open_table(STARTED)?.remove(key.as_str())?;
                transaction.open_table(KEPT)?.insert(key.as_str(), row.as_slice())?;
            }
            Stored::Forgotten(forgotten) => {
                let key = forgotten.key();
                let row = bytes(Row { number, at_unix_ms, record: forgotten })?;
                transaction.open_table(STARTED)?.remove(key.as_str())?;
                transaction.open_table(KEPT)?.remove(key.as_str())?;
                transaction.open_table(FORGOTTEN)?.insert(key.as_str(), row.as_slice())?;
                self.forgotten.insert(number, (key, at_unix_ms));
            }
            Stored::Paused(pause) => {
                let row = bytes(Row { number, at_unix_ms, record: pause })?;
                transaction.open_table(WISHES)?.insert(PAUSE_ROW, row.as_slice())?;
            }
            Stored::Resumed => drop(transaction.open_table(WISHES)?.remove(PAUSE_ROW)?),
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

/// A decision record of its row and that of the task's outcome, with the place of its task.
fn dated(decision: &[u8], outcome: &[u8]) -> Result<(u64, DatedDecision), Unreadable> {
    let Row { number, record, .. } = Row::<StoredDecision>::read(decision)?;
    let outcome = Row::<StoredOutcome>::read(outcome)?.record.outcome()?;
    Ok((number, record.restore(outcome)?))
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
