//! The mesh directory: where it is, what is in it, and the only way by which bidmesh reads and replaces its files.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bidmesh_core::id::DeviceId;
use rustix::fs::Access;

use super::lock::WriterLock;
use super::{DeviceConfig, DirectoryLock, Error, MyInfo, PeersFile, atomic};

/// Where the shell mesh lives on a phone.
const ANDROID: &str = "/data/local/tmp/mesh";

/// The directory of one device. Clones are the same directory. All calls block; none takes long.
#[derive(Clone, Debug)]
pub struct MeshDirectory {
    path: PathBuf,
    seen: Arc<Mutex<Seen>>,
}

/// What the watcher has told of each file, or what bidmesh itself wrote there last. Whoever holds it may replace
/// files: so the watcher never looks between a write and the note of it.
#[derive(Debug, Default)]
pub(super) struct Seen {
    contents: BTreeMap<Watched, Content>,
}

/// A content as it was last seen.
pub(super) type Content = Option<Vec<u8>>;

/// A file that people edit while a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watched {
    Peers,
    DeviceConfig,
    Settings,
}

impl Watched {
    pub(super) const ALL: [Self; 3] = [Self::Peers, Self::DeviceConfig, Self::Settings];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Peers => "peers.txt",
            Self::DeviceConfig => "device_config.json",
            Self::Settings => "config.toml",
        }
    }
}

impl MeshDirectory {
    /// Where it is unless a person says otherwise: the shell mesh's place on Android, else the XDG state directory.
    pub fn default_path() -> Result<PathBuf, Error> {
        default_path(Path::new(ANDROID), cfg!(target_os = "android"), |name| {
            std::env::var_os(name).map(Into::into)
        })
    }

    /// Opens the directory; makes it, for its owner only, if it is not there.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path).map_err(|error| Error::io(path, "opened", &error))?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&absolute);
        made.map_err(|error| Error::io(&absolute, "made", &error))?;
        Ok(Self { path: absolute, seen: Arc::default() })
    }

    /// Takes the directory for this process, or says which one has it.
    pub fn lock(&self) -> Result<DirectoryLock, Error> {
        DirectoryLock::take(&self.path.join("bidmesh.lock"))
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `peers.txt`.
    pub fn peers(&self) -> PathBuf {
        self.watched(Watched::Peers)
    }

    /// `device_config.json`.
    pub fn device_config(&self) -> PathBuf {
        self.watched(Watched::DeviceConfig)
    }

    /// `config.toml`.
    pub fn settings(&self) -> PathBuf {
        self.watched(Watched::Settings)
    }

    /// `my_info.txt`.
    pub fn my_info(&self) -> PathBuf {
        self.path.join("my_info.txt")
    }

    /// `mesh_ID.log`, the log that a shell device of this id keeps as well.
    pub fn log(&self, id: &DeviceId) -> PathBuf {
        // The alphabet of ids holds neither a slash nor a dot.
        self.path.join(format!("mesh_{id}.log"))
    }

    /// `outputs`, for the files with which commands are run.
    pub fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    /// `store.redb`, what survives the process.
    pub fn store(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    pub(super) fn watched(&self, file: Watched) -> PathBuf {
        self.path.join(file.name())
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each note is made by one statement: nothing can be half made.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads peers.txt; one that is not there has no peers.
    pub fn read_peers(&self) -> Result<PeersFile, Error> {
        let path = self.peers();
        PeersFile::parse(&atomic::read(&path)?.unwrap_or_default(), &path)
    }

    /// Changes peers.txt for a person. A watcher tells of it.
    pub fn edit_peers<T>(&self, edit: impl FnOnce(&mut PeersFile) -> T) -> Result<T, Error> {
        let _seen = self.seen();
        let _writer = WriterLock::take(&self.path)?;
        let old = self.read_peers()?;
        let mut new = old.clone();
        let result = edit(&mut new);
        if new != old {
            atomic::write(&self.peers(), new.to_text().as_bytes())?;
        }
        Ok(result)
    }

    /// Makes peers.txt say what the device's address book says. A watcher does not tell of it. What a person
    /// edited and no watcher has told yet is kept, and is told.
    pub fn write_peers(&self, book: &[(DeviceId, SocketAddr)]) -> Result<(), Error> {
        let mut seen = self.seen();
        let _writer = WriterLock::take(&self.path)?;
        let path = self.peers();
        let current = atomic::read(&path)?;
        let mut file = PeersFile::parse(current.as_deref().unwrap_or_default(), &path)?;
        let base = seen.contents.get(&Watched::Peers).cloned();
        let unseen = base.filter(|base| *base != current);
        match &unseen {
            // A content that could not be understood was told as an error: nobody has edited it into the book.
            Some(base) => match PeersFile::parse(base.as_deref().unwrap_or_default(), &path) {
                Ok(base) => file.update(&file.merge(&base, book)),
                Err(_) => file.update(&file.merge(&PeersFile::default(), book)),
            },
            None => file.update(book),
        }
        let text = file.to_text().into_bytes();
        if current.as_ref() != Some(&text) {
            atomic::write(&path, &text)?;
        }
        if unseen.is_none() {
            seen.note(Watched::Peers, Some(text));
        }
        Ok(())
    }

    /// Reads device_config.json; one that is not there says nothing.
    pub fn read_device_config(&self) -> Result<DeviceConfig, Error> {
        let path = self.device_config();
        DeviceConfig::parse(&atomic::read(&path)?.unwrap_or_default(), &path)
    }

    /// Changes device_config.json. A watcher tells of it.
    pub fn edit_device_config(&self, edit: impl FnOnce(&mut DeviceConfig)) -> Result<(), Error> {
        let _seen = self.seen();
        let _writer = WriterLock::take(&self.path)?;
        let mut config = self.read_device_config()?;
        edit(&mut config);
        atomic::write(&self.device_config(), config.to_text().as_bytes())
    }

    /// Reads my_info.txt; `None` if it is not there or empty.
    pub fn read_my_info(&self) -> Result<Option<MyInfo>, Error> {
        let path = self.my_info();
        MyInfo::parse(&atomic::read(&path)?.unwrap_or_default(), &path)
    }

    /// Writes my_info.txt.
    pub fn write_my_info(&self, info: &MyInfo) -> Result<(), Error> {
        let _writer = WriterLock::take(&self.path)?;
        atomic::write(&self.my_info(), info.to_text().as_bytes())
    }

    /// Reads the text of config.toml; `None` if it is not there.
    pub(super) fn read_settings(&self) -> Result<Content, Error> {
        atomic::read(&self.settings())
    }

    /// Changes the text of config.toml. A watcher tells of it.
    pub(super) fn edit_settings<T>(
        &self,
        edit: impl FnOnce(Content) -> Result<(String, T), Error>,
    ) -> Result<T, Error> {
        let _seen = self.seen();
        let _writer = WriterLock::take(&self.path)?;
        let (text, result) = edit(self.read_settings()?)?;
        atomic::write(&self.settings(), text.as_bytes())?;
        Ok(result)
    }
}

impl Seen {
    /// Remembers a content; whether it is another one than before.
    pub(super) fn note(&mut self, file: Watched, content: Content) -> bool {
        let before = self.contents.insert(file, content);
        before.as_ref() != self.contents.get(&file)
    }
}

fn default_path(
    android: &Path,
    on_android: bool,
    variable: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, Error> {
    // An application (Termux) may not write in the shell's place; it has a home of its own.
    let usable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    if usable(android) || on_android && android.parent().is_some_and(usable) {
        return Ok(android.into());
    }
    // The XDG rule: a relative path there is to be ignored.
    if let Some(state) = variable("XDG_STATE_HOME").filter(|state| state.is_absolute()) {
        return Ok(state.join("bidmesh"));
    }
    match variable("HOME").filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(".local/state/bidmesh")),
        None => {
            let what = "there is no home directory to put the mesh directory in";
            Err(Error::new(super::Place::Variable("HOME".into()), what, "name one with --dir"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn opened() -> (tempfile::TempDir, MeshDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = MeshDirectory::open(folder.path().join("a/mesh")).unwrap();
        (folder, directory)
    }

    fn book(entries: &[(&str, &str)]) -> Vec<(DeviceId, SocketAddr)> {
        entries.iter().map(|(id, address)| (DeviceId::new(id).unwrap(), address.parse().unwrap())).collect()
    }

    #[test]
    fn the_default_place() {
        let folder = tempfile::tempdir().unwrap();
        let phone = folder.path().join("tmp/mesh");
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/p"));
        let state = |name: &str| Some(PathBuf::from(if name == "HOME" { "/home/p" } else { "/state" }));
        let relative = |name: &str| Some(PathBuf::from(if name == "HOME" { "/home/p" } else { "state" }));
        let of = |on_android, variables: &dyn Fn(&str) -> Option<PathBuf>| {
            default_path(&phone, on_android, variables)
        };
        assert_eq!(of(false, &home).unwrap(), Path::new("/home/p/.local/state/bidmesh"));
        assert_eq!(of(false, &state).unwrap(), Path::new("/state/bidmesh"));
        assert_eq!(of(false, &relative).unwrap(), Path::new("/home/p/.local/state/bidmesh"));
        assert!(of(false, &|_| None).unwrap_err().to_string().contains("--dir"));
        assert_eq!(of(true, &home).unwrap(), Path::new("/home/p/.local/state/bidmesh"), "Termux");
        std::fs::create_dir_all(phone.parent().unwrap()).unwrap();
        assert_eq!(of(true, &home).unwrap(), phone, "the adb shell");
        std::fs::create_dir_all(&phone).unwrap();
        assert_eq!(of(false, &home).unwrap(), phone);
    }

    #[test]
    fn this_machine_has_a_default_place_or_says_what_is_missing() {
        match MeshDirectory::default_path() {
            Ok(path) => assert!(path.is_absolute(), "{path:?}"),
            Err(error) => assert!(error.to_string().contains("--dir"), "{error}"),
        }
    }

    #[test]
    fn files_have_the_names_that_scripts_look_for() {
        let (_folder, directory) = opened();
        let id = DeviceId::new("Device_A").unwrap();
        for (path, name) in [
            (directory.peers(), "peers.txt"),
            (directory.device_config(), "device_config.json"),
            (directory.settings(), "config.toml"),
            (directory.my_info(), "my_info.txt"),
            (directory.log(&id), "mesh_Device_A.log"),
            (directory.outputs(), "outputs"),
        ] {
            assert_eq!(path, directory.path().join(name));
        }
    }

    #[test]
    fn its_own_line_is_read_back() {
        let (_folder, directory) = opened();
        let info = MyInfo { id: DeviceId::new("A").unwrap(), ip: "10.0.0.1".parse().ok(), port: 9999 };
        directory.write_my_info(&info).unwrap();
        assert_eq!(std::fs::read_to_string(directory.my_info()).unwrap(), "A:10.0.0.1:9999\n");
        assert_eq!(directory.read_my_info(), Ok(Some(info)));
    }

    #[test]
    fn it_is_made_for_its_owner_only() {
        let (_folder, directory) = opened();
        let mode = std::fs::metadata(directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        MeshDirectory::open(directory.path()).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(MeshDirectory::open(&file).unwrap_err().to_string().contains("cannot be made"));
    }

    #[test]
    fn one_process_runs_in_it() {
        let (_folder, directory) = opened();
        let _lock = directory.lock().unwrap();
        assert!(MeshDirectory::open(directory.path()).unwrap().lock().is_err());
    }

    #[test]
    fn missing_files_say_nothing() {
        let (_folder, directory) = opened();
        assert_eq!(directory.read_peers(), Ok(PeersFile::default()));
        assert_eq!(directory.read_device_config(), Ok(DeviceConfig::default()));
        assert_eq!(directory.read_my_info(), Ok(None));
    }

    #[test]
    fn a_corrupt_file_is_never_overwritten() {
        let (_folder, directory) = opened();
        std::fs::write(directory.peers(), "A:1.2.3.4:5\nwhat is this\n").unwrap();
        std::fs::write(directory.device_config(), "{\"device_id\": ").unwrap();
        assert!(directory.write_peers(&book(&[("B", "1.1.1.1:1")])).is_err());
        assert!(directory.edit_peers(|file| file.remove(&DeviceId::new("A").unwrap())).is_err());
        assert!(directory.edit_device_config(|config| config.has_npu = Some(true)).is_err());
        assert_eq!(std::fs::read_to_string(directory.peers()).unwrap(), "A:1.2.3.4:5\nwhat is this\n");
        assert_eq!(std::fs::read_to_string(directory.device_config()).unwrap(), "{\"device_id\": ");
    }

    #[test]
    fn edits_and_books_meet_in_one_file() {
        let (_folder, directory) = opened();
        std::fs::write(directory.peers(), "# drawer\nA:10.0.0.1:1\n").unwrap();
        let id = DeviceId::new("B").unwrap();
        directory.edit_peers(|file| file.set(&id, "10.0.0.2:2".parse().unwrap())).unwrap();
        directory.write_peers(&book(&[("B", "10.0.0.2:2"), ("C", "10.0.0.3:3")])).unwrap();
        assert_eq!(
            std::fs::read_to_string(directory.peers()).unwrap(),
            "# drawer\nB:10.0.0.2:2\nC:10.0.0.3:3\n"
        );
    }

    #[test]
    fn writers_that_do_not_know_of_each_other_lose_nothing() {
        let (_folder, directory) = opened();
        let address = "10.0.0.1:1".parse().unwrap();
        std::thread::scope(|scope| {
            for writer in 0..3 {
                // As in another process: nothing is shared but the folder.
                let other = MeshDirectory::open(directory.path()).unwrap();
                scope.spawn(move || {
                    for number in 0..10 {
                        let id = DeviceId::new(&format!("D{writer}_{number}")).unwrap();
                        other.edit_peers(|file| file.set(&id, address)).unwrap();
                    }
                });
            }
        });
        assert_eq!(directory.read_peers().unwrap().peers().len(), 30);
    }

    #[test]
    fn an_edit_that_nobody_has_told_yet_survives_a_write() {
        let (_folder, directory) = opened();
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        let first = std::fs::read(directory.peers()).unwrap();
        directory.seen().note(Watched::Peers, Some(first));
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n# new\nD:10.0.0.4:4\n").unwrap();
        directory.write_peers(&book(&[("A", "10.0.0.1:1"), ("E", "10.0.0.5:5")])).unwrap();
        let text = std::fs::read_to_string(directory.peers()).unwrap();
        assert_eq!(text, "A:10.0.0.1:1\n# new\nD:10.0.0.4:4\nE:10.0.0.5:5\n");
        // The watcher has still to tell of it.
        assert!(directory.seen().note(Watched::Peers, Some(text.into_bytes())));
    }
}
