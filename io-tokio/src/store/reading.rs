//! What the file holds: read once, when it is opened.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bidmesh_core::outbox::Record;
use bidmesh_core::restore::Restored;
use redb::{Database, Error as RedbError, ReadTransaction, ReadableDatabase, ReadableTable};
use serde::de::DeserializeOwned;

use super::books::Ended;
use super::format::{AWARDS, DECISIONS, FORGOTTEN, KEPT, OUTCOMES, STARTED, TASKS, Table, WISHES};
use super::stored::{
    Restore, Row, StoredAward, StoredForgotten, StoredKept, StoredOutcome, StoredPause, StoredStart,
    StoredTask,
};

/// A file that is so much longer than what it holds is made shorter at the start.
const SLACK_BYTES: u64 = 8 << 20;

/// What the file holds, and how much was unreadable.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// In the order in which they were written, with the moment.
    pub(super) records: Vec<(Record, SystemTime)>,
    /// Rows that were passed over.
    pub(super) unreadable: usize,
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

/// What is found when a file is read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) rows: Vec<(u64, SystemTime, Record)>,
    pub(super) unreadable: usize,
    pub(super) next: u64,
    pub(super) bytes: usize,
    pub(super) ended: BTreeMap<u64, Ended>,
    pub(super) ended_bytes: usize,
    pub(super) decision_bytes: usize,
    pub(super) forgotten: BTreeMap<u64, (String, u64)>,
}

impl Reading {
    pub(super) fn of(database: &Database) -> Result<Self, RedbError> {
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
        this.table::<StoredStart>(&transaction, STARTED, |_, _| {})?;
        this.table::<StoredKept>(&transaction, KEPT, |_, _| {})?;
        this.table::<StoredForgotten>(&transaction, FORGOTTEN, |this, row| {
            this.forgotten.insert(row.number, (row.record.key(), row.at_unix_ms));
        })?;
        this.table::<StoredPause>(&transaction, WISHES, |_, _| {})?;
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
        let table = transaction.open_table(DECISIONS)?;
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

    pub(super) fn is_little_for(&self, file_bytes: u64) -> bool {
        file_bytes > (self.bytes as u64).saturating_mul(4).saturating_add(SLACK_BYTES)
    }
}
