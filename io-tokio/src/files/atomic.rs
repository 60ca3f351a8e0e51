//! Reading whole files with a limit, and replacing them so that a reader, and a device that loses power, finds the
//! old content or the new one and never a part.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::Error;

/// The largest file that is read. A thousand peers take 40 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The content of a file; `None` if it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match read_bounded(path) {
        Ok(bytes) => bytes.map(Some).ok_or_else(|| {
            let what = format!("it is larger than {FILE_BYTES_MAX} bytes");
            Error::file(path, what, "this is no file of a mesh: move it away")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "read", &error)),
    }
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // A pipe in the place of a file would never answer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((u64::try_from(bytes.len()).unwrap_or(u64::MAX) <= FILE_BYTES_MAX).then_some(bytes))
}

/// Replaces the content of a file, or makes it, readable for its owner only. A file that is there keeps its mode,
/// a symbolic link goes on pointing where it points.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    replace(path, bytes).map_err(|error| Error::io(path, "written", &error))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => PathBuf::from(path),
        Err(error) => return Err(error),
    };
    let folder = target.parent().unwrap_or(Path::new("/"));
    let mode = fs::metadata(&target).ok().map(|found| found.permissions());
    let mut temporary = tempfile::Builder::new().prefix(".bidmesh-").suffix(".tmp").tempfile_in(folder)?;
    temporary.write_all(bytes)?;
    if let Some(mode) = mode {
        temporary.as_file().set_permissions(Permissions::clone(&mode))?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    // The new name is durable when its folder is; some file systems cannot say so, and the content is whole anyway.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_reader_finds_the_old_content_or_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let contents: Vec<Vec<u8>> = (b'a'..=b'd').map(|letter| vec![letter; 50_000]).collect();
        write(&path, &contents[0]).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..40 {
                    write(&path, &contents[round % contents.len()]).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let seen = read(&path).unwrap().unwrap();
                assert!(contents.contains(&seen), "{} bytes of a mixture", seen.len());
            }
        });
        let left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left, ["x"], "temporary files are left over");
    }

    #[test]
    fn the_mode_and_a_symbolic_link_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        write(&real, b"old").unwrap();
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&real, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, b"new").unwrap();
        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(write(&path, b"new").is_err());
        assert!(path.join("inside").is_dir());
        // What a link points at must be known before it is replaced.
        std::os::unix::fs::symlink("loop", folder.path().join("loop")).unwrap();
        assert!(write(&folder.path().join("loop"), b"new").is_err());
        assert!(fs::symlink_metadata(folder.path().join("loop")).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_file_or_too_large_is_an_error_and_missing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(&folder.path().join("missing")), Ok(None));
        assert!(read(folder.path()).unwrap_err().to_string().contains("no regular file"));
        let large = folder.path().join("large");
        File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(read(&large).unwrap_err().to_string().contains("larger than"));
        File::create(&large).unwrap().set_len(FILE_BYTES_MAX).unwrap();
        assert!(read(&large).unwrap().is_some());
    }
}
