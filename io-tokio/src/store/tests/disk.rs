//! A disk in memory that can lose power, fill up and be damaged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Builder, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::store::medium::{Bytes, Medium, in_memory};

/// What a device writes to. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As a reader sees it.
    now: Vec<u8>,
    /// As it was at the last sync.
    synced: Vec<u8>,
    /// What changed since.
    unsynced: Vec<Change>,
    full: bool,
    read_only: bool,
    /// How many more changes it takes before it dies.
    left: Option<usize>,
    aside: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Length(usize),
    Bytes(usize, Vec<u8>),
}

impl Change {
    /// `share` of 256 parts of it: what of a write reaches the disk is any beginning of it.
    fn apply(&self, bytes: &mut Vec<u8>, share: usize) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Bytes(offset, data) => {
                let part = &data[..data.len() * share / 256];
                if bytes.len() < offset + part.len() {
                    bytes.resize(offset + part.len(), 0);
                }
                bytes[*offset..offset + part.len()].copy_from_slice(part);
            }
        }
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After so many more changes nothing works any more.
    pub(super) fn die_after(&self, changes: usize) {
        self.state().left = Some(changes);
    }

    /// It works again.
    pub(super) fn revive(&self) {
        self.state().left = None;
    }

    /// Of what was not synced, these shares reach the disk (0: nothing, 255: all).
    pub(super) fn lose_power(&self, shares: &[u8]) {
        let mut state = self.state();
        let mut bytes = state.synced.clone();
        for (change, share) in state.unsynced.iter().zip(shares.iter().cycle()) {
            match share {
                0..100 => {}
                100..200 => change.apply(&mut bytes, 256),
                torn => change.apply(&mut bytes, usize::from(*torn)),
            }
        }
        state.now.clone_from(&bytes);
        state.synced = bytes;
        state.unsynced.clear();
        state.left = None;
    }

    pub(super) fn fill(&self, full: bool) {
        self.state().full = full;
    }

    pub(super) fn make_read_only(&self, read_only: bool) {
        self.state().read_only = read_only;
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.state().now.clone()
    }

    pub(super) fn aside(&self) -> Vec<u8> {
        self.state().aside.clone()
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        match &mut state.left {
            Some(0) => return Err(io::Error::other("the disk is dead")),
            Some(left) => *left -= 1,
            None => {}
        }
        change.apply(&mut state.now, 256);
        state.unsynced.push(change);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let state = self.state();
        let bytes = state.now.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.left == Some(0) {
            return Err(io::Error::other("the disk is dead"));
        }
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Bytes(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

impl Medium for Disk {
    fn open(&self) -> io::Result<Bytes> {
        if self.state().read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(Bytes::of(self.clone(), true))
    }

    fn copy(&self) -> io::Result<Option<Bytes>> {
        in_memory(&self.state().now).map(Some)
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let mut state = self.state();
        state.aside = std::mem::take(&mut state.now);
        state.synced.clear();
        state.unsynced.clear();
        Ok("store.redb.damaged-1".into())
    }

    fn put_back(&self, _aside: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.now = std::mem::take(&mut state.aside);
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }
}

type Table<'a> = TableDefinition<'a, &'static str, &'static [u8]>;

fn change(disk: &Disk, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Builder::new().create_with_backend(disk.clone()).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

/// Puts something into a row that no version of this program wrote.
pub(super) fn spoil_row(disk: &Disk, table: &str, task: &str) {
    change(disk, |transaction| {
        let mut table = transaction.open_table(Table::new(table)).unwrap();
        table.insert(task, b"{\"number\": 1, \"rec".as_slice()).unwrap();
    });
}

/// The names of a table's rows, as the disk has them now.
pub(super) fn rows(disk: &Disk, table: &str) -> Vec<String> {
    let copy = in_memory(&disk.bytes()).unwrap();
    let database = Builder::new().create_with_backend(copy).unwrap();
    let transaction = database.begin_read().unwrap();
    let table = transaction.open_table(Table::new(table)).unwrap();
    table.iter().unwrap().map(|row| row.unwrap().0.value().to_owned()).collect()
}
