//! How a device is put together: from flags, environment and files to one that runs, is logged and can be talked
//! to. The only place that knows what `io-tokio` has for each part.

mod assemble;
mod embedded;
mod flags;
mod settled;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bidmesh_core::Input;
use bidmesh_core::id::DeviceId;
use bidmesh_io_tokio::driver::{End, Handle};
use bidmesh_io_tokio::files::{self, DirectoryLock, FileChanged, MeshDirectory, MyInfo, Watcher};
use bidmesh_io_tokio::sensors::HeatSource;
use bidmesh_io_tokio::store::Notices;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::address;
use crate::api::control_file::{Control, Published};
use crate::api::{self, Api, Serving, Token};
use crate::cli::Shared;
use crate::client::Client;
use crate::exit::Failure;
use crate::log::{Audience, Keeper, Line};
use crate::output::Output;

pub use assemble::{Assembled, Blueprint, Book};
pub use embedded::{is_built_in, is_embedded, offer_a_model, settle_executor};
pub use flags::DeviceFlags;
pub use settled::{Keeping, Settled, configured_executor};

/// Where devices of the mesh listen unless they say otherwise.
pub const DEFAULT_PORT: u16 = 9999;

/// How long a device that was started for one command may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a device that has just been started may take to say where it is controlled.
const PUBLISHING: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The mesh directory that a command is about; made if it is not there.
pub fn directory(shared: &Shared) -> Result<MeshDirectory, Failure> {
    let path = match &shared.dir {
        Some(path) => path.clone(),
        None => MeshDirectory::default_path().map_err(of_files)?,
    };
    MeshDirectory::open(path).map_err(of_files)
}

/// The device that runs in a directory, or ran there last.
pub fn id(directory: &MeshDirectory) -> Result<DeviceId, Failure> {
    if let Some(info) = directory.read_my_info().map_err(of_files)? {
        return Ok(info.id);
    }
    let saved = directory.read_device_config().map_err(of_files)?.device_id;
    saved.ok_or_else(|| {
        let path = directory.path().display();
        Failure::failed(format!("no device has run in {path} yet; start one with `bidmesh up`, or use --dir"))
    })
}

/// A file, variable or flag that cannot be used; its words are complete. What the system refuses is no usage error.
pub fn of_files(error: files::Error) -> Failure {
    if error.kind().is_some() {
        Failure::failed(error.to_string())
    } else {
        Failure::usage(error.to_string())
    }
}

/// A device that runs in a mesh directory. Dropping it ends it at once, like a crash.
pub struct Device {
    // In the order in which they must go: nobody is let in any more before the directory is free for the next.
    published: Option<Published>,
    serving: Serving,
    running: Assembled,
    files: Watcher,
    writer: JoinHandle<()>,
    /// What its store has to say, until that is gone.
    notices: Option<Notices>,
    id: DeviceId,
    token: Token,
    directory: MeshDirectory,
    heat: HeatSource,
    _lock: DirectoryLock,
}

impl Device {
    /// Sets a device going.
    pub async fn start(settled: Settled) -> Result<Self, Failure> {
        let Settled { id, directory, lock, files, heat, control_port, blueprint, notices, .. } = settled;
        let running = blueprint.assemble().await?;
        let info =
            MyInfo { id: id.clone(), ip: running.address.map(|a| a.ip()), port: running.listen.port() };
        directory.write_my_info(&info).map_err(of_files)?;
        let no_api = |error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "the control API cannot be served at port {control_port} of 127.0.0.1: {error}"
            ))
        };
        let token = Token::new().map_err(|error| no_api(&error))?;
        let api = Api::new(running.handle.clone(), Some(directory.clone()), running.listen);
        let serving = api::serve(api, token.clone(), control_port).await.map_err(|error| no_api(&error))?;
        let writer = tokio::spawn(write_book(directory.clone(), running.book.clone()));
        Ok(Self {
            published: None,
            serving,
            running,
            files,
            writer,
            notices,
            id,
            token,
            directory,
            heat,
            _lock: lock,
        })
    }

    /// Tells this machine's owner where it is controlled.
    pub fn publish(&mut self) -> Result<(), Failure> {
        let published = Published::publish(self.directory.path(), &self.control());
        self.published = Some(published.map_err(|error| {
            Failure::failed(format!(
                "control.json cannot be written: {error}; free some space or use another --dir"
            ))
        })?);
        Ok(())
    }

    fn control(&self) -> Control {
        Control {
            device_id: self.id.to_string(),
            pid: std::process::id(),
            port: self.serving.address().port(),
            token: self.token.as_str().into(),
        }
    }

    /// Keeps its log, from now on.
    pub fn log(&self, output: Output, audience: Audience) -> Keeper {
        Keeper::new(&self.running.handle, self.directory.log(&self.id), output, audience)
    }

    pub fn handle(&self) -> &Handle {
        &self.running.handle
    }

    pub fn id(&self) -> &DeviceId {
        &self.id
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.running.listen
    }

    /// Where it tells others that it is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.running.address
    }

    /// Where it is controlled.
    pub fn control_address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// Looks whether its own address is another one now, and if so tells it, and the new address.
    pub async fn look_at_address(&mut self) -> Option<Option<SocketAddr>> {
        let known: Vec<SocketAddr> = self.running.book.borrow().iter().map(|(_, address)| *address).collect();
        let address = address::outward(self.running.listen, &known);
        if address == self.running.address {
            return None;
        }
        self.running.address = address;
        // A device that cannot be told has ended.
        let _ = self.running.handle.tell(Input::AddressChanged(address)).await;
        let info =
            MyInfo { id: self.id.clone(), ip: address.map(|a| a.ip()), port: self.running.listen.port() };
        // For shell scripts to read; nothing here depends on it.
        let _ = self.directory.write_my_info(&info);
        Some(address)
    }

    /// Waits until something about the device changes: it ends, or a person edits one of its files. May be
    /// cancelled, but not called again after the end.
    pub async fn changed(&mut self) -> Change {
        let told = tokio::select! {
            end = self.running.ended() => return Change::Ended(end),
            told = self.files.next() => told,
            notice = next(&mut self.notices) => return Change::Told(Line::new("WARN", 0, notice)),
        };
        let (input, text) = match told {
            Ok(FileChanged::Peers(peers)) => {
                (Input::PeersEdited(peers), "peers.txt was edited: the address book is as it says")
            }
            Ok(FileChanged::Settings(settings)) => (
                Input::Reconfigured(Box::new(settings.core(self.heat))),
                "the settings were edited; those of listening and of what runs prompts count from the next start",
            ),
            // What matters of it comes as settings.
            Ok(FileChanged::DeviceConfig(_)) => return Change::Edited(None),
            Err(error) => {
                let text = format!("{error}; until then the device goes on as before");
                return Change::Edited(Some(Line::new("WARN", 0, text)));
            }
        };
        // A device that cannot be told has ended; that comes next.
        let _ = self.running.handle.tell(input).await;
        Change::Edited(Some(Line::new("INFO", 0, text)))
    }

    /// Ends it in order, within a moment.
    pub async fn shut_down(mut self) {
        if self.running.handle.tell(Input::Shutdown { within: GOODBYE }).await.is_ok() {
            self.running.ended().await;
        }
    }
}

/// What changed about a device.
#[derive(Debug)]
pub enum Change {
    /// It ended; `None`: it panicked.
    Ended(Option<End>),
    /// A file was edited and the device told; a line of the log where there is something to say.
    Edited(Option<Line>),
    /// Its store has something to say.
    Told(Line),
}

/// What the store says next; never, if there is none.
async fn next(notices: &mut Option<Notices>) -> String {
    loop {
        match notices {
            Some(some) => match some.next().await {
                Some(notice) => return notice,
                None => *notices = None,
            },
            None => std::future::pending().await,
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Writes the address book whenever it changes. If peers.txt is damaged it stays as it is: the watcher has told.
async fn write_book(directory: MeshDirectory, mut book: watch::Receiver<Book>) {
    while book.changed().await.is_ok() {
        let peers = book.borrow_and_update().clone();
        let directory = directory.clone();
        let _ = tokio::task::spawn_blocking(move || directory.write_peers(&peers)).await;
    }
}

/// A device to talk to: the one that runs in the directory, or else one for the length of the command.
pub struct Session {
    client: Client,
    directory: MeshDirectory,
    started: Option<(Device, JoinHandle<()>)>,
}

impl Session {
    /// `keeping`: of a device that is started for the command.
    pub async fn open(shared: &Shared, keeping: Keeping) -> Result<Self, Failure> {
        let directory = directory(shared)?;
        match directory.lock() {
            Ok(lock) => Self::start(shared, keeping, directory, lock).await,
            // Without an error of the system: somebody has it.
            Err(held) if held.kind().is_none() => Self::join(directory, &held).await,
            Err(error) => Err(of_files(error)),
        }
    }

    async fn start(
        shared: &Shared,
        keeping: Keeping,
        directory: MeshDirectory,
        lock: DirectoryLock,
    ) -> Result<Self, Failure> {
        let output = shared.output();
        let settled = Settled::of(directory.clone(), lock, &DeviceFlags::default(), keeping, &output).await?;
        let mut device = Device::start(settled).await?;
        while let Some(notice) = device.notices.as_mut().and_then(Notices::already) {
            output.note(&notice);
        }
        let audience = output.verbose.checked_sub(1).map_or(Audience::Elsewhere, Audience::Watching);
        // With `--json` stdout belongs to the command's own result.
        let audience = if output.json { Audience::Elsewhere } else { audience };
        let mut keeper = device.log(output, audience);
        let logging = tokio::spawn(async move { while keeper.next().await.is_ok() {} });
        let client = Client::of(&device.control())?;
        Ok(Self { client, directory, started: Some((device, logging)) })
    }

    /// The device that holds the directory may not have said yet where it is controlled.
    async fn join(directory: MeshDirectory, held: &files::Error) -> Result<Self, Failure> {
        let until = tokio::time::Instant::now() + PUBLISHING;
        loop {
            match Client::of_directory(directory.path()) {
                Ok(client) => return Ok(Self { client, directory, started: None }),
                Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK_AGAIN).await,
                // It is there for one command only, and takes no others.
                Err(_) => {
                    return Err(Failure::failed(format!(
                        "{held}; `bidmesh up` runs one that all commands share"
                    )));
                }
            }
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends what was started for this session, in order.
    pub async fn close(self) {
        if let Some((device, logging)) = self.started {
            device.shut_down().await;
            logging.abort();
        }
    }
}
