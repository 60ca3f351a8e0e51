//! The program for a phone: which processors there are, where its file is, and how it is built where there is none.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::data;
use crate::exit::Failure;
use crate::hexadecimal::sha256_of;

/// A processor that bidmesh is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Processor {
    Aarch64,
    Armv7,
    X86_64,
}

impl Processor {
    /// Of Android's name, or of what `uname -m` says.
    pub fn of_abi(abi: &str) -> Option<Self> {
        match abi {
            "arm64-v8a" | "aarch64" => Some(Self::Aarch64),
            // A 64-bit kernel under a 32-bit system says armv8l.
            "armeabi-v7a" | "armv7l" | "armv8l" => Some(Self::Armv7),
            "x86_64" => Some(Self::X86_64),
            _ => None,
        }
    }

    /// What the program is built for, the best first: with Android's own C library, else static.
    pub const fn targets(self) -> [&'static str; 2] {
        match self {
            Self::Aarch64 => ["aarch64-linux-android", "aarch64-unknown-linux-musl"],
            Self::Armv7 => ["armv7-linux-androideabi", "armv7-unknown-linux-musleabihf"],
            Self::X86_64 => ["x86_64-linux-android", "x86_64-unknown-linux-musl"],
        }
    }

    /// `e_machine` of its ELF files.
    const fn machine(self) -> u16 {
        match self {
            Self::Aarch64 => 183,
            Self::Armv7 => 40,
            Self::X86_64 => 62,
        }
    }
}

impl std::fmt::Display for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aarch64 => "aarch64",
            Self::Armv7 => "armv7",
            Self::X86_64 => "x86_64",
        })
    }
}

/// A file of this machine that goes onto a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    pub path: PathBuf,
    pub bytes: u64,
    sum: Arc<OnceCell<String>>,
}

impl LocalFile {
    /// A file that can be read. Blocks.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| {
            Failure::usage(format!("{} cannot be read: {error}; name another file", path.display()))
        };
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        Ok(Self { path: path.to_owned(), bytes, sum: Arc::default() })
    }

    /// Its checksum, in hexadecimal. A model is read for it once for all phones, and only if one of them needs it.
    pub async fn sha256(&self) -> io::Result<&str> {
        let path = self.path.clone();
        let read = || async {
            let sum = tokio::task::spawn_blocking(move || sha256_of(&mut File::open(path)?)).await;
            sum.unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        self.sum.get_or_try_init(read).await.map(String::as_str)
    }

    /// The checksum, if somebody has asked for it.
    pub fn known_sha256(&self) -> Option<&str> {
        self.sum.get().map(String::as_str)
    }

    /// A file that is nowhere.
    #[cfg(test)]
    pub fn for_tests(path: &str, bytes: u64, sha256: &str) -> Self {
        Self { path: path.into(), bytes, sum: Arc::new(OnceCell::new_with(Some(sha256.into()))) }
    }
}

/// The program for `processor`: the file that was named, else one beside this executable, else one of the data
/// directory.
pub fn find(named: Option<&Path>, processor: Processor) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return check(named, processor).map(|()| named.to_owned());
    }
    let places = places();
    for place in &places {
        for target in processor.targets() {
            let path = place.join(format!("bidmesh-{target}"));
            if path.is_file() {
                return check(&path, processor).map(|()| path);
            }
        }
    }
    let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(Failure::failed(format!(
        "there is no program for {processor} phones in {}: make one with `scripts/cross-build --install {}` in the source \
         directory, or name one with --binary FILE",
        places.join(" or "),
        processor.targets()[1]
    )))
}

fn places() -> Vec<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    beside.into_iter().chain(data::folder(data::of_environment)).collect()
}

/// Ways to build the program, for a person.
pub fn how_to_build(processor: Processor) -> String {
    let [android, musl] = processor.targets();
    format!(
        "To build the program for {processor} phones, in the source directory, one of:\n\
         \x20 scripts/cross-build --install {musl}     (Debian and Ubuntu; the script says what it needs)\n\
         \x20 rustup target add {android} && cargo install cargo-ndk &&     (with an Android NDK)\n\
         \x20   cargo ndk --target {android} build --profile dist -p bidmesh, then setup with --binary FILE"
    )
}

/// Whether a file is a program for `processor`.
fn check(path: &Path, processor: Processor) -> Result<(), Failure> {
    let mut head = [0; 20];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let wrong = |why: &str| Failure::usage(format!("{} {why}; name another with --binary", path.display()));
    read.map_err(|error| wrong(&format!("cannot be read as a program: {error}")))?;
    let little = head[..4] == *b"\x7fELF" && head[5] == 1;
    if !little {
        return Err(wrong("is no program for Android or Linux"));
    }
    match u16::from_le_bytes([head[18], head[19]]) {
        machine if machine == processor.machine() => Ok(()),
        machine => Err(wrong(&format!(
            "is a program for another processor than {processor} (ELF machine {machine})"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, machine: u16) -> PathBuf {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(18, 0);
        bytes.extend(machine.to_le_bytes());
        std::fs::write(folder.join(name), bytes).unwrap();
        folder.join(name)
    }

    #[test]
    fn a_program_of_another_processor_is_not_pushed() {
        let folder = tempfile::tempdir().unwrap();
        let aarch64 = program(folder.path(), "a", 183);
        assert_eq!(find(Some(&aarch64), Processor::Aarch64), Ok(aarch64.clone()));
        let failure = find(Some(&aarch64), Processor::Armv7).unwrap_err();
        assert!(failure.message.contains("another processor than armv7"), "{failure}");
        std::fs::write(&aarch64, "#!/bin/sh\n# twenty bytes and more\n").unwrap();
        assert!(find(Some(&aarch64), Processor::Aarch64).unwrap_err().message.contains("no program"));
    }

    #[test]
    fn the_commands_that_build_it_are_for_its_processor() {
        let said = how_to_build(Processor::Armv7);
        for part in
            ["cross-build --install armv7-unknown-linux-musleabihf", "target add armv7-linux-androideabi"]
        {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn android_and_kernels_name_processors() {
        assert_eq!(Processor::of_abi("arm64-v8a"), Processor::of_abi("aarch64"));
        assert_eq!(Processor::of_abi("armv8l"), Some(Processor::Armv7));
        assert_eq!(Processor::of_abi("mips"), None);
    }

    #[tokio::test]
    async fn a_file_is_known_by_its_checksum_which_is_taken_once_and_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let file = LocalFile::of(&path).unwrap();
        assert_eq!((file.bytes, file.known_sha256()), (3, None));
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let copy = file.clone();
        assert_eq!(file.sha256().await.unwrap(), sum);
        std::fs::remove_file(path).unwrap();
        assert_eq!((copy.sha256().await.unwrap(), copy.known_sha256()), (sum, Some(sum)));
    }
}
