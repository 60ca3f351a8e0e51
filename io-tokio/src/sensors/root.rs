//! Small files of /proc and /sys, below a root that tests may move. All reads are bounded and none of them is an
//! error to anybody above: a file that cannot be read is a reason, in words.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// More than any file that is read here has; the largest is /proc/stat of a server with a thousand processors.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// More entries than a directory of vendor libraries has.
const ENTRIES_MAX: usize = 16_384;

/// Where `proc`, `sys`, `dev` and the system's libraries are found.
#[derive(Clone, Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Whether this is the running system, whose system calls tell the same story as its files.
    pub(super) fn is_system(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// `relative` on this root.
    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    /// The text of a file; bytes that are not UTF-8 are replaced, since no value that is read has any.
    pub(super) fn read(&self, relative: &str) -> io::Result<String> {
        let path = self.path(relative);
        // A pipe in the place of a file would never answer.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of a file without the white space around it; `None` if it cannot be read.
    pub(super) fn word(&self, relative: &str) -> Option<String> {
        self.read(relative).ok().map(|text| text.trim().to_owned())
    }

    /// A whole number that stands alone in a file.
    pub(super) fn number(&self, relative: &str) -> Option<i64> {
        self.word(relative)?.parse().ok()
    }

    /// The names in a directory, sorted; none if it cannot be read.
    pub(super) fn names(&self, relative: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(relative)) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(ENTRIES_MAX)
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// Whether something is there, whatever it is.
    pub(super) fn exists(&self, relative: &str) -> bool {
        self.path(relative).exists()
    }

    /// Why `relative` could not be read: `/proc/stat: permission denied`.
    pub(super) fn refusal(relative: &str, error: &io::Error) -> String {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "not there".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("/{relative}: {why}")
    }
}

#[cfg(test)]
pub(super) mod fixture {
    //! A tree of files that stands for a system.

    use super::Root;
    use std::fs;

    pub(in crate::sensors) struct Tree(tempfile::TempDir);

    impl Tree {
        pub(in crate::sensors) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(in crate::sensors) fn root(&self) -> Root {
            Root::new(self.0.path())
        }

        pub(in crate::sensors) fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
            let path = self.0.path().join(relative);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// A program that `sh` runs. Another process writes it: a file that this process has open for writing, if
        /// only in a child that a test beside us forked at that moment, cannot be executed.
        pub(in crate::sensors) fn program(&self, relative: &str, script: &str) {
            let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#;
            let mut shell = std::process::Command::new("sh");
            let status = shell.arg("-c").arg(write).arg(self.0.path().join(relative)).arg(script).status();
            assert!(status.unwrap().success());
        }

        /// A file that is there and cannot be read, also by root: a directory stands in its place.
        pub(in crate::sensors) fn deny(&self, relative: &str) {
            fs::create_dir_all(self.0.path().join(relative)).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::Tree;
    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_refused_instead_of_waited_for() {
        let tree = Tree::new();
        tree.write("proc/x", "");
        let pipe = tree.root().path("proc/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(tree.root().read("proc/pipe").is_err());
    }

    #[test]
    fn why_a_file_cannot_be_read_is_said_in_a_few_words() {
        use rustix::io::Errno;
        for (error, why) in [
            (Errno::NOENT, "not there"),
            (Errno::ACCESS, "permission denied"),
            (Errno::NODEV, "No such device (os error 19)"),
        ] {
            assert_eq!(Root::refusal("proc/stat", &error.into()), format!("/proc/stat: {why}"));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_read_without_an_error() {
        let tree = Tree::new();
        tree.write("proc/x", b"\xff\xfe 7");
        assert!(tree.root().read("proc/x").is_ok());
        assert_eq!(tree.root().number("proc/x"), None);
    }
}
