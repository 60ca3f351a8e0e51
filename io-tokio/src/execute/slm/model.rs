//! A model as the rest of the program has it: a file, a thread that loads it when it is first needed, and what is
//! known about both.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use super::engine::{self, Order};
use super::error::SlmError;
use super::gguf::check_magic;

/// How many prompts may wait for the model: more than the devices of one process together run at once.
const WAITING_MAX: usize = 64;
/// The default of [`ModelSettings::context`].
pub const CONTEXT: u32 = 2048;

/// Which model, and what it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSettings {
    /// A GGUF file.
    pub file: PathBuf,
    /// The most tokens of a prompt and its answer together; the model's own limit, if that is less.
    pub context: u32,
    /// After how long without a prompt on a device that runs on its battery its memory is given back; `None`: never.
    pub unload_after: Option<Duration>,
}

impl ModelSettings {
    /// This file, with the defaults.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), context: CONTEXT, unload_after: None }
    }

    pub(super) fn described(&self) -> String {
        format!("the embedded model {}", self.file.display())
    }

    /// By what a person's change to the file is seen.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.file).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    }
}

pub(super) type Stamp = (u64, SystemTime);

/// What became of the file.
#[derive(Debug)]
pub(super) enum State {
    Unloaded,
    /// It is in memory; the model's own name.
    Loaded(String),
    /// It could not be loaded when the file was like that.
    Unusable {
        why: String,
        stamp: Option<Stamp>,
    },
}

/// One model, shared by all executors that use it. It is loaded at the first prompt or by [`Model::warm`], once, and
/// answers one prompt after the other. Dropping it gives its memory back.
#[derive(Debug)]
pub struct Model {
    settings: ModelSettings,
    state: Arc<Mutex<State>>,
    on_battery: Arc<AtomicBool>,
    /// To the thread, once there is one.
    orders: Mutex<Option<SyncSender<Order>>>,
}

/// Every model in use.
static MODELS: Mutex<Vec<Weak<Model>>> = Mutex::new(Vec::new());

impl Model {
    /// The model of these settings: the one that is in use, if it is. Reads nothing yet.
    pub fn shared(settings: ModelSettings) -> Arc<Self> {
        let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.strong_count() > 0);
        let mut in_use = models.iter().filter_map(Weak::upgrade);
        if let Some(model) = in_use.find(|model| model.settings == settings) {
            return model;
        }
        let state = Arc::new(Mutex::new(State::Unloaded));
        let model = Arc::new(Self { settings, state, on_battery: Arc::default(), orders: Mutex::default() });
        models.push(Arc::downgrade(&model));
        model
    }

    /// Loads the model if it is not loaded; the name that it gives itself.
    ///
    /// # Errors
    ///
    /// If it cannot be loaded.
    pub async fn warm(&self) -> Result<String, SlmError> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Warm(reply))?;
        answer.await.unwrap_or_else(|_| Err(SlmError::new("the model's thread has ended".to_owned())))
    }

    /// Says whether the device runs on its battery; until it is said, it does not.
    pub fn on_battery(&self, on_battery: bool) {
        self.on_battery.store(on_battery, Ordering::Relaxed);
    }

    /// A sentence about the model, or why it cannot be used. Quick: the file is not read.
    pub(super) fn described(&self) -> Result<String, String> {
        let described = self.settings.described();
        let mut file = File::open(&self.settings.file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{described} is not there: fetch the default one with `bidmesh model pull`, or name another with \
                 --executor slm:PATH"
            ),
            _ => format!("{described} cannot be read: {error}"),
        })?;
        match &*self.state() {
            State::Loaded(name) => return Ok(format!("{described} ({name})")),
            State::Unusable { why, stamp } if *stamp == self.settings.stamp() => return Err(why.clone()),
            State::Unloaded | State::Unusable { .. } => {}
        }
        check_magic(&mut file).map_err(|error| error.about(&described).to_string())?;
        Ok(format!("{described}, loaded at the first prompt"))
    }

    pub(super) const fn settings(&self) -> &ModelSettings {
        &self.settings
    }

    /// Whether its weights are in memory.
    pub fn is_loaded(&self) -> bool {
        matches!(*self.state(), State::Loaded(_))
    }

    /// Hands an order to the thread, which is started if there is none.
    pub(super) fn order(&self, order: Order) -> Result<(), SlmError> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = match &mut *orders {
            Some(sender) => sender,
            empty => empty.insert(self.start()?),
        };
        match sender.try_send(order) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(SlmError::new(format!(
                "{WAITING_MAX} prompts wait for the embedded model already: try again later"
            ))),
            Err(TrySendError::Disconnected(_)) => {
                *orders = None;
                Err(SlmError::new("the embedded model's thread has ended: try again".to_owned()))
            }
        }
    }

    fn start(&self) -> Result<SyncSender<Order>, SlmError> {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let (settings, state) = (self.settings.clone(), Arc::clone(&self.state));
        let on_battery = Arc::clone(&self.on_battery);
        let work = move || engine::work(&settings, &receiver, &state, &on_battery);
        match thread::Builder::new().name("slm".to_owned()).spawn(work) {
            Ok(_) => Ok(sender),
            Err(error) => {
                Err(SlmError::new(format!("the embedded model's thread cannot be started: {error}")))
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
