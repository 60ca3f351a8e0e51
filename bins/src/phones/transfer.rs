//! A large file onto a phone: piece by piece, so that what broke off goes on where it was, and under its own name only
//! when it is whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::probe::version;
use super::program::LocalFile;
use crate::adb::{Adb, AdbError, QUICK, quoted};
use crate::hexadecimal::sha256_of;

/// One call of adb. Some seconds over USB 2, ten over a slow Wi-Fi.
pub const PIECE_BYTES: u64 = 8 << 20;
const PIECE_LIMIT: Duration = Duration::from_secs(180);
/// Checksums of a hundred megabytes on an old phone.
const SUM_LIMIT: Duration = Duration::from_secs(120);

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bidmesh that runs there: one that does not never takes the place of one that does.
    Program,
    Data,
}

/// Brings `file` to `to` on a phone. `told` hears how much is there: (done, of).
pub async fn send(
    adb: &Adb,
    serial: &str,
    file: &LocalFile,
    to: &str,
    kind: Kind,
    told: &(dyn Fn(u64, u64) + Sync),
) -> Result<(), AdbError> {
    let part = format!("{to}.part");
    let piece = format!("{to}.piece");
    let mut there = begun(adb, serial, file, &part).await?;
    while there < file.bytes {
        told(there, file.bytes);
        // Here and not where it is written: it must go when this is cancelled meanwhile.
        let local = NamedTempFile::new().map_err(|error| unwritable(&error))?;
        let mut writing = local.reopen().map_err(|error| unwritable(&error))?;
        off_the_runtime(&file.path, move |path| cut(path, there, &mut writing)).await?;
        adb.push(serial, local.path(), &piece, PIECE_LIMIT).await?;
        let append = format!(
            "cat {piece} >> {part} && rm -f {piece} && wc -c < {part}",
            piece = quoted(&piece),
            part = quoted(&part)
        );
        let said = adb.run(serial, "put a file together", &append).await?;
        let now = said.trim().parse().unwrap_or(0);
        if now <= there || now > file.bytes {
            return Err(AdbError::refused(
                "copy a file",
                "what arrived has another length than what was sent",
            ));
        }
        there = now;
    }
    told(there, file.bytes);
    if sum(adb, serial, &part).await?
        != file.sha256().await.map_err(|error| unreadable(&file.path, &error))?
    {
        adb.run(serial, "remove a damaged copy", &format!("rm -f {}", quoted(&part))).await?;
        return Err(AdbError::refused("copy a file", "it arrived damaged; do the same again"));
    }
    let (part, to, piece) = (quoted(&part), quoted(to), quoted(&piece));
    let mode = if kind == Kind::Program { "755" } else { "644" };
    let ready = format!("rm -f {piece}; chmod {mode} {part}");
    adb.run(serial, "prepare a file", &ready).await?;
    if kind == Kind::Program {
        runs(adb, serial, &part).await?;
    }
    adb.run(serial, "put a file into its place", &format!("mv -f {part} {to}")).await.map(drop)
}

/// Whether a program runs there at all.
async fn runs(adb: &Adb, serial: &str, program: &str) -> Result<(), AdbError> {
    let said = adb.shell(serial, &format!("{program} --version"), QUICK).await?;
    if said.status == 0 && version(&said.stdout).is_some() {
        return Ok(());
    }
    let why = format!("{} (is it built for this phone?)", said.last_words());
    Err(AdbError::refused("run the program on this phone", &why))
}

/// How much of the file is there from an earlier try, if that is its beginning.
async fn begun(adb: &Adb, serial: &str, file: &LocalFile, part: &str) -> Result<u64, AdbError> {
    let folder = part.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let look = format!(
        "mkdir -p {} && {{ [ -f {part} ] && wc -c < {part} || echo 0; }}",
        quoted(folder),
        part = quoted(part)
    );
    let there: u64 = adb.run(serial, "make the mesh directory", &look).await?.trim().parse().unwrap_or(0);
    if there == 0 {
        return Ok(0);
    }
    if there <= file.bytes {
        let begun = move |path: &Path| sha256_of(&mut File::open(path)?.take(there));
        if off_the_runtime(&file.path, begun).await? == sum(adb, serial, part).await? {
            return Ok(there);
        }
    }
    adb.run(serial, "remove an older copy", &format!("rm -f {}", quoted(part))).await?;
    Ok(0)
}

async fn sum(adb: &Adb, serial: &str, path: &str) -> Result<String, AdbError> {
    let said = adb.shell(serial, &format!("sha256sum {}", quoted(path)), SUM_LIMIT).await?;
    match said.stdout.split_whitespace().next() {
        Some(sum) if said.status == 0 => Ok(sum.to_owned()),
        _ => Err(AdbError::refused("check a copy", said.last_words())),
    }
}

/// Writes the piece of the file from `at` on.
fn cut(path: &Path, at: u64, piece: &mut File) -> io::Result<()> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    io::copy(&mut file.take(PIECE_BYTES), piece).map(drop)
}

/// Reads a file of this machine while the other phones go on.
async fn off_the_runtime<T: Send + 'static>(
    path: &Path,
    read: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, AdbError> {
    let own = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&own)).await;
    read.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> AdbError {
    AdbError::refused(&format!("read {}", path.display()), &error.to_string())
}

fn unwritable(error: &io::Error) -> AdbError {
    AdbError::refused("write a temporary file", &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::scripted;

    /// A phone that is this machine; it counts what is pushed to it.
    const PHONE: &str = "shift 2; case $1 in shell) exec sh -c \"$2\" ;; esac
        echo pushed >> \"${0%/*}/pushes\"; cp \"$2\" \"$3\"";

    /// Two and a half pieces, no two of which are alike.
    fn file(folder: &Path) -> LocalFile {
        let piece = usize::try_from(PIECE_BYTES).unwrap();
        let mut bytes = vec![1; piece];
        bytes.resize(2 * piece, 2);
        bytes.resize(5 * piece / 2, 3);
        let path = folder.join("file");
        std::fs::write(&path, bytes).unwrap();
        LocalFile::of(&path).unwrap()
    }

    /// Sends it to a phone that has its first `begun` bytes, the last of which are replaced by `damage`. How many
    /// pieces were pushed, what was said, and whether the whole file is there under its name.
    async fn sent(phone: &str, begun: u64, damage: &[u8]) -> (usize, Result<(), AdbError>, bool) {
        let (folder, adb) = scripted(phone);
        let file = file(folder.path());
        let bytes = std::fs::read(&file.path).unwrap();
        let to = folder.path().join("there/program");
        if begun > 0 {
            let right = &bytes[..usize::try_from(begun).unwrap() - damage.len()];
            std::fs::create_dir(folder.path().join("there")).unwrap();
            std::fs::write(to.with_extension("part"), [right, damage].concat()).unwrap();
        }
        let said = send(&adb, "S", &file, to.to_str().unwrap(), Kind::Data, &|_, _| {}).await;
        let pushes = std::fs::read_to_string(folder.path().join("pushes")).unwrap_or_default();
        (pushes.lines().count(), said, std::fs::read(&to).is_ok_and(|there| there == bytes))
    }

    #[tokio::test]
    async fn a_copy_goes_on_where_it_broke_off_unless_what_is_there_is_something_else() {
        assert_eq!(sent(PHONE, 0, &[]).await, (3, Ok(()), true));
        assert_eq!(sent(PHONE, PIECE_BYTES, &[]).await, (2, Ok(()), true));
        assert_eq!(sent(PHONE, PIECE_BYTES + 5, &[]).await, (2, Ok(()), true));
        assert_eq!(sent(PHONE, PIECE_BYTES, b"other").await, (3, Ok(()), true));
    }

    #[tokio::test]
    async fn what_arrives_damaged_never_gets_its_name() {
        let damaging = format!("{PHONE}; printf X | dd of=\"$3\" conv=notrunc 2>/dev/null");
        let (_, said, whole) = sent(&damaging, 0, &[]).await;
        assert!(said.unwrap_err().to_string().contains("it arrived damaged"));
        assert!(!whole);
    }
}
