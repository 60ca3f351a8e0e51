//! Edits by hand, told while the device runs.
//!
//! The directory is watched, not the files: editors replace them. A change is told when the directory has been
//! quiet for a moment, and only if a content is new: what bidmesh wrote itself is known by its bytes. Where the
//! system has no notifications the files are read every two seconds.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bidmesh_core::id::DeviceId;
use futures_util::Stream;
use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::directory::Watched;
use super::{DeviceConfig, Error, MeshDirectory, Overrides, PeersFile, Settings, atomic};

/// How long the directory must be quiet before the files are read.
const QUIET: Duration = Duration::from_millis(100);
/// The longest that it may be unquiet.
const UNQUIET: Duration = Duration::from_secs(1);
/// How often the files are read where the system does not tell.
const POLL: Duration = Duration::from_secs(2);

/// A file has another content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileChanged {
    /// peers.txt: its devices in order.
    Peers(Vec<(DeviceId, SocketAddr)>),
    /// device_config.json. [`FileChanged::Settings`] follows if a setting is another one now.
    DeviceConfig(DeviceConfig),
    /// config.toml or device_config.json, with environment and flags applied again.
    Settings(Box<Settings>),
}

/// Tells of edits. Start it before the files are read, so that none is missed in between.
#[derive(Debug)]
pub struct Watcher {
    directory: MeshDirectory,
    overrides: Overrides,
    signal: Arc<Signal>,
    /// `None`: the system has no notifications.
    notifications: Option<RecommendedWatcher>,
    due: Option<Due>,
    reading: Option<JoinHandle<Vec<Told>>>,
    told: std::vec::IntoIter<Told>,
    settings: Option<Settings>,
}

type Told = Result<FileChanged, Error>;

#[derive(Debug, Default)]
struct Signal {
    changed: Notify,
    /// The notifications ended: the directory was moved away, or the system gave up.
    lost: AtomicBool,
}

impl Watcher {
    /// Watches from now on. `overrides` are applied to settings that are read again.
    pub fn start(directory: &MeshDirectory, overrides: Overrides) -> Self {
        Self::with(directory, overrides, true)
    }

    fn with(directory: &MeshDirectory, overrides: Overrides, notifications: bool) -> Self {
        let signal = Arc::new(Signal::default());
        let notifications = if notifications { notify_of(directory.path(), &signal).ok() } else { None };
        let mut seen = directory.seen();
        for file in Watched::ALL {
            seen.note(file, atomic::read(&directory.watched(file)).ok().flatten());
        }
        drop(seen);
        let settings = Settings::load(directory, &overrides).ok();
        let told = Vec::new().into_iter();
        let directory = directory.clone();
        Self { directory, overrides, signal, notifications, due: None, reading: None, told, settings }
    }

    /// Whether the system tells of changes; otherwise the files are read every two seconds.
    pub fn is_notified(&self) -> bool {
        self.notifications.is_some() && !self.signal.lost.load(Ordering::Relaxed)
    }

    /// The next change, or what is wrong with the new content of a file; the device goes on with what it has.
    /// May be cancelled and called again without missing anything.
    pub async fn next(&mut self) -> Result<FileChanged, Error> {
        loop {
            match self.told.next() {
                // Settings that follow from two files are the same twice.
                Some(Ok(FileChanged::Settings(new))) if self.settings.as_ref() == Some(&*new) => {}
                Some(Ok(FileChanged::Settings(new))) => {
                    self.settings = Some((*new).clone());
                    return Ok(FileChanged::Settings(new));
                }
                Some(told) => return told,
                None => self.look().await,
            }
        }
    }

    /// The same as a stream that does not end.
    pub fn into_stream(self) -> impl Stream<Item = Result<FileChanged, Error>> + Send {
        futures_util::stream::unfold(self, |mut watcher| async move {
            let next = watcher.next().await;
            Some((next, watcher))
        })
    }

    /// Waits for a reason to look, then reads the files.
    async fn look(&mut self) {
        if self.reading.is_none() {
            self.changed().await;
            let (directory, overrides) = (self.directory.clone(), self.overrides.clone());
            self.reading = Some(tokio::task::spawn_blocking(move || read(&directory, &overrides)));
        }
        if let Some(reading) = &mut self.reading {
            // It fails only while the runtime shuts down.
            self.told = reading.await.unwrap_or_default().into_iter();
            self.reading = None;
        }
    }

    /// Returns when the files are to be read. When that is stands in `due`, so that a wait that is cancelled and
    /// begun again comes to its end.
    async fn changed(&mut self) {
        if !self.is_notified() {
            let due = self.due.get_or_insert_with(|| Due::at(Instant::now() + POLL));
            sleep_until(due.quiet).await;
            self.due = None;
            return;
        }
        loop {
            let notified = self.signal.changed.notified();
            match self.due {
                None => {
                    notified.await;
                    let now = Instant::now();
                    self.due = Some(Due { quiet: now + QUIET, latest: now + UNQUIET });
                }
                Some(due) if timeout_at(due.quiet, notified).await.is_ok() => {
                    self.due = Some(Due { quiet: (Instant::now() + QUIET).min(due.latest), ..due });
                }
                Some(_) => {
                    self.due = None;
                    return;
                }
            }
        }
    }
}

/// When the files are to be read, if nothing more happens, and at the latest.
#[derive(Clone, Copy, Debug)]
struct Due {
    quiet: Instant,
    latest: Instant,
}

impl Due {
    fn at(moment: Instant) -> Self {
        Self { quiet: moment, latest: moment }
    }
}

/// Asks the system to tell of changes in `folder`.
fn notify_of(folder: &Path, signal: &Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let (signal, place) = (signal.clone(), folder.to_path_buf());
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // Without the folder in its place nothing more would be told of.
        let lost = event.as_ref().map_or(true, |event| is_lost(event, &place));
        if lost {
            signal.lost.store(true, Ordering::Relaxed);
        }
        if lost || event.is_ok_and(|event| concerns(&event)) {
            signal.changed.notify_one();
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether the watched folder itself was removed or moved away.
fn is_lost(event: &Event, folder: &Path) -> bool {
    matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
        && event.paths.iter().any(|path| path == folder)
}

/// Whether an event may have changed the content of a watched file. Our own reading is an event, too, and so is
/// each line of a log.
fn concerns(event: &Event) -> bool {
    let changes = matches!(event.kind, EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_))
        || matches!(event.kind, EventKind::Any | EventKind::Other);
    let named = event.paths.iter().filter_map(|path| path.file_name());
    event.need_rescan()
        || changes && named.into_iter().any(|name| Watched::ALL.iter().any(|file| *name == *file.name()))
}

/// What is new in the files.
fn read(directory: &MeshDirectory, overrides: &Overrides) -> Vec<Told> {
    let mut told = Vec::new();
    let mut settings = false;
    let mut seen = directory.seen();
    for file in Watched::ALL {
        let path = directory.watched(file);
        let content = match atomic::read(&path) {
            Ok(content) => content,
            Err(error) => {
                // What cannot be read is told once, as if it were the content.
                let marker = format!("\0{error}").into_bytes();
                if seen.note(file, Some(marker)) {
                    told.push(Err(error));
                }
                continue;
            }
        };
        // A file that was removed says nothing: what it said before holds until the device ends. An editor may be
        // about to put it back, and forgetting all peers would be a harsh answer.
        if content.is_none() && file != Watched::Settings || !seen.note(file, content.clone()) {
            continue;
        }
        let content = content.unwrap_or_default();
        match file {
            Watched::Peers => {
                told.push(PeersFile::parse(&content, &path).map(|file| FileChanged::Peers(file.peers())));
            }
            Watched::DeviceConfig => {
                let config = DeviceConfig::parse(&content, &path);
                settings |= config.is_ok();
                told.push(config.map(FileChanged::DeviceConfig));
            }
            Watched::Settings => settings = true,
        }
    }
    drop(seen);
    if settings {
        told.push(Settings::load(directory, overrides).map(|new| FileChanged::Settings(Box::new(new))));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::time::timeout;

    const DEADLINE: Duration = Duration::from_secs(20);

    fn directory() -> (tempfile::TempDir, MeshDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = MeshDirectory::open(folder.path()).unwrap();
        (folder, directory)
    }

    async fn next(watcher: &mut Watcher) -> Told {
        timeout(DEADLINE, watcher.next()).await.expect("nothing was told")
    }

    fn peer(name: &str, address: &str) -> (DeviceId, SocketAddr) {
        (DeviceId::new(name).unwrap(), address.parse().unwrap())
    }

    #[tokio::test]
    async fn an_edit_is_told_once_and_an_own_write_never() {
        let (_folder, directory) = directory();
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        assert!(watcher.is_notified());
        directory.write_peers(&[peer("A", "10.0.0.1:1"), peer("B", "10.0.0.2:2")]).unwrap();
        // Told in the order of the files: had the own write been told, it would come first.
        std::fs::write(directory.settings(), "work.slots = 3\n").unwrap();
        match next(&mut watcher).await {
            Ok(FileChanged::Settings(settings)) => assert_eq!(settings.values().core.work.slots, 3),
            other => panic!("{other:?}"),
        }
        std::fs::write(directory.peers(), "C:10.0.0.3:3\n").unwrap();
        assert_eq!(next(&mut watcher).await, Ok(FileChanged::Peers(vec![peer("C", "10.0.0.3:3")])));
        assert!(watcher.is_notified(), "an edit is no loss");
    }

    #[tokio::test]
    async fn files_are_read_when_there_is_a_reason_and_not_before() {
        let (_folder, directory) = directory();
        for notifications in [true, false] {
            let mut watcher = Watcher::with(&directory, Overrides::default(), notifications);
            assert!(watcher.next().now_or_never().is_none());
            assert!(watcher.reading.is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_read_when_it_has_been_quiet_and_at_the_latest_after_a_second() {
        let (_folder, directory) = directory();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        for (changes, waits) in [(1, QUIET), (2, QUIET * 3 / 2), (4, QUIET * 5 / 2), (1000, UNQUIET)] {
            let signal = watcher.signal.clone();
            let changing = async move {
                for _ in 0..changes {
                    signal.changed.notify_one();
                    tokio::time::sleep(QUIET / 2).await;
                }
                std::future::pending::<()>().await;
            };
            let begun = Instant::now();
            tokio::select! {
                biased;
                () = watcher.changed() => {}
                () = changing => {}
            }
            let took = begun.elapsed();
            assert!(took >= waits && took <= waits + QUIET / 10, "{changes} changes: {took:?}");
        }
    }

    #[tokio::test]
    async fn what_an_editor_does_with_temporary_files_is_one_edit() {
        let (_folder, directory) = directory();
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        std::fs::rename(directory.peers(), directory.path().join("peers.txt~")).unwrap();
        std::fs::write(directory.peers(), "").unwrap();
        std::fs::write(directory.peers(), "B:10.0.0.2:2\n").unwrap();
        assert_eq!(next(&mut watcher).await, Ok(FileChanged::Peers(vec![peer("B", "10.0.0.2:2")])));
    }

    #[tokio::test]
    async fn an_error_is_told_once_and_the_repair_as_well() {
        let (_folder, directory) = directory();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        std::fs::write(directory.device_config(), "{\"has_npu\": maybe}").unwrap();
        let error = next(&mut watcher).await.unwrap_err().to_string();
        assert!(error.contains("device_config.json:1"), "{error}");
        std::fs::write(directory.device_config(), "{\"has_npu\": true}").unwrap();
        match next(&mut watcher).await {
            Ok(FileChanged::DeviceConfig(config)) => assert_eq!(config.has_npu, Some(true)),
            other => panic!("{other:?}"),
        }
        assert!(matches!(next(&mut watcher).await, Ok(FileChanged::Settings(_))));
        // Another field there changes no setting.
        std::fs::write(directory.device_config(), "{\"has_npu\": true, \"note\": 1}").unwrap();
        assert!(matches!(next(&mut watcher).await, Ok(FileChanged::DeviceConfig(_))));
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        assert!(matches!(next(&mut watcher).await, Ok(FileChanged::Peers(_))));
    }

    #[tokio::test]
    async fn a_removed_peers_file_forgets_nobody_and_removed_settings_are_defaults() {
        let (_folder, directory) = directory();
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        std::fs::write(directory.settings(), "work.slots = 3\n").unwrap();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        std::fs::remove_file(directory.peers()).unwrap();
        std::fs::remove_file(directory.settings()).unwrap();
        match next(&mut watcher).await {
            Ok(FileChanged::Settings(settings)) => assert_eq!(settings.values().core.work.slots, 1),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn without_notifications_the_files_are_polled() {
        let (_folder, directory) = directory();
        let mut watcher = Watcher::with(&directory, Overrides::default(), false);
        assert!(!watcher.is_notified());
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        assert_eq!(next(&mut watcher).await, Ok(FileChanged::Peers(vec![peer("A", "10.0.0.1:1")])));
    }

    #[tokio::test]
    async fn a_directory_that_was_replaced_is_still_looked_at() {
        for remove in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let directory = MeshDirectory::open(folder.path().join("mesh")).unwrap();
            let mut watcher = Watcher::start(&directory, Overrides::default());
            if remove {
                std::fs::remove_dir_all(directory.path()).unwrap();
            } else {
                std::fs::rename(directory.path(), folder.path().join("old")).unwrap();
            }
            std::fs::create_dir(directory.path()).unwrap();
            // Written only after the loss was noticed: no event of the old folder can tell of it.
            let noticed = timeout(DEADLINE, async {
                while watcher.is_notified() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
            noticed.await.unwrap();
            std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
            assert_eq!(next(&mut watcher).await, Ok(FileChanged::Peers(vec![peer("A", "10.0.0.1:1")])));
        }
    }

    #[tokio::test]
    async fn a_cancelled_wait_misses_nothing() {
        let (_folder, directory) = directory();
        let mut watcher = Watcher::start(&directory, Overrides::default());
        std::fs::write(directory.peers(), "A:10.0.0.1:1\n").unwrap();
        let told = timeout(DEADLINE, async {
            loop {
                // Cancelled again and again, at whatever point it has come to.
                if let Ok(told) = timeout(Duration::from_millis(7), watcher.next()).await {
                    return told;
                }
            }
        });
        assert_eq!(told.await.unwrap(), Ok(FileChanged::Peers(vec![peer("A", "10.0.0.1:1")])));
    }

    #[test]
    fn reading_and_logging_wake_nobody() {
        use notify::event::{AccessKind, AccessMode};
        let event = |kind, name: &str| Event::new(kind).add_path(Path::new("/m").join(name));
        assert!(!concerns(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "peers.txt")));
        assert!(!concerns(&event(EventKind::Modify(ModifyKind::Any), "mesh_A.log")));
        assert!(!concerns(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "peers.txt")));
        assert!(concerns(&event(EventKind::Modify(ModifyKind::Any), "peers.txt")));
    }
}
