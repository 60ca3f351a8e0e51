//! Which tables the file has, in which version of the format, and how an earlier version is brought to this one.

use redb::{Database, DatabaseError, Error as RedbError, ReadableTable, TableDefinition, WriteTransaction};

/// The version of the format that this program writes. Raise it with a step in [`MIGRATIONS`].
pub(super) const FORMAT: u64 = 2;

/// The step at index `n` brings format `n + 1` to `n + 2`.
pub(super) const MIGRATIONS: &[Migration] = &[second_format];
const _: () =
    assert!(FORMAT == MIGRATIONS.len() as u64 + 1, "each format but the first has a step that leads to it");

/// Changes the tables of one format into those of the next, in one transaction.
pub(super) type Migration = fn(&WriteTransaction) -> Result<(), RedbError>;

/// One type for all: each further one would be a further copy of the database's code.
pub(super) type Table = TableDefinition<'static, &'static str, &'static [u8]>;

const META: Table = TableDefinition::new("meta");
pub(super) const TASKS: Table = TableDefinition::new("tasks");
/// Under `TASK/ATTEMPT`, the attempt with ten digits.
pub(super) const AWARDS: Table = TableDefinition::new("awards");
pub(super) const OUTCOMES: Table = TableDefinition::new("outcomes");
/// Runs that have not ended, under `ORCHESTRATOR/AWARD/DIGEST` as all of a worker's rows are. Since the second format.
pub(super) const STARTED: Table = TableDefinition::new("started");
pub(super) const KEPT: Table = TableDefinition::new("kept");
pub(super) const FORGOTTEN: Table = TableDefinition::new("forgotten");
/// What the owner wants of the device, a row each. Since the second format.
pub(super) const WISHES: Table = TableDefinition::new("wishes");

/// The row of [`WISHES`] that is there during a pause.
pub(super) const PAUSE_ROW: &str = "pause";

/// Under the task, which has an outcome. For people only: a row that cannot be read is passed over. Since the second
/// format.
pub(super) const DECISIONS: Table = TableDefinition::new("decisions");

/// The row of [`META`] that says which format this is, in decimal digits.
const FORMAT_ROW: &str = "format";

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

/// Sees to it that the tables are of the present format; an empty file gets it.
pub(super) fn settle_format(database: &Database, migrations: &[Migration]) -> Result<(), Trouble> {
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
    for table in [TASKS, AWARDS, OUTCOMES, DECISIONS, STARTED, KEPT, FORGOTTEN, WISHES] {
        transaction.open_table(table)?;
    }
    Ok(())
}

/// Runs are written down when they begin; decision records and the owner's pause outlive a restart.
fn second_format(transaction: &WriteTransaction) -> Result<(), RedbError> {
    for table in [DECISIONS, STARTED, WISHES] {
        transaction.open_table(table)?;
    }
    Ok(())
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
