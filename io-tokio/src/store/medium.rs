//! The file below the database. A device has its directory to itself (`files::DirectoryLock`), so this file needs no
//! lock of its own, which some file systems of phones do not have.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{DatabaseError, StorageBackend};

/// Where the bytes of a database are.
pub(super) trait Medium: Debug + Send + Sync {
    /// Opens it for reading and writing; makes an empty one if there is none.
    fn open(&self) -> io::Result<Bytes>;

    /// All of it, if it is there but cannot be written; `None`: nothing is there.
    fn copy(&self) -> io::Result<Option<Bytes>>;

    /// Moves it out of the way, and says where to.
    fn set_aside(&self) -> io::Result<PathBuf>;

    /// Moves what was set aside back, in the place of what was made since.
    fn put_back(&self, aside: &Path) -> io::Result<()>;
}

/// A file.
#[derive(Debug)]
pub(super) struct OnDisk {
    pub(super) path: PathBuf,
    /// Whether a commit waits until the disk has it.
    pub(super) sync: bool,
}

/// Bytes of some kind.
#[derive(Debug)]
pub(super) struct Bytes {
    backend: Box<dyn StorageBackend>,
    /// Whether a commit waits for the disk. If not, what was written survives the process, since the kernel has it, but
    /// not a loss of power.
    sync: bool,
}

impl Bytes {
    pub(super) fn of(backend: impl StorageBackend, sync: bool) -> Self {
        Self { backend: Box::new(backend), sync }
    }
}

impl StorageBackend for Bytes {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.sync { self.backend.sync_data() } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }
}

impl Medium for OnDisk {
    fn open(&self) -> io::Result<Bytes> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        if self.sync && file.metadata()?.len() == 0 {
            // A new name is durable once its folder is.
            self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        }
        let file = FileBackend::new(file).map_err(|error: DatabaseError| io::Error::other(error))?;
        Ok(Bytes::of(file, self.sync))
    }

    fn copy(&self) -> io::Result<Option<Bytes>> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        in_memory(&bytes).map(Some)
    }

    fn set_aside(&self) -> io::Result<PathBuf> {
        let free = (1..10_000).map(|number| numbered(&self.path, number)).find(|path| !path.exists());
        let to = free.ok_or(io::ErrorKind::AlreadyExists)?;
        std::fs::rename(&self.path, &to)?;
        Ok(to)
    }

    fn put_back(&self, aside: &Path) -> io::Result<()> {
        std::fs::rename(aside, &self.path)
    }
}

/// Where the `number`th damaged file goes.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{number}"));
    name.into()
}

/// A database that is read and never written back.
pub(super) fn in_memory(bytes: &[u8]) -> io::Result<Bytes> {
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64)?;
    memory.write(0, bytes)?;
    Ok(Bytes::of(memory, true))
}
