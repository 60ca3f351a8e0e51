//! The one thread that a model lives in. It takes prompts one after the other, reads each in pieces and writes its
//! answer token by token; between any two steps it looks whether the answer is still wanted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};

use bidmesh_core::input::Tokens;
use bidmesh_core::wire::Text;
use sysinfo::System;
use tokio::sync::{mpsc, oneshot};

use super::error::SlmError;
use super::gguf::{ModelFile, Shape};
use super::model::{ModelSettings, State};
use super::sample::{Sampler, Sampling};
use super::tokenizer::Tokenizer;
use super::transformer::Transformer;
use crate::panics;

/// How many tokens of a prompt are read between two looks at whether it is still wanted.
const CHUNK: usize = 32;

/// What the thread is to do.
pub(super) enum Order {
    /// Load the model, if it is not loaded, and say its name.
    Warm(oneshot::Sender<Result<String, SlmError>>),
    Answer(Request),
}

/// A prompt to be answered.
pub(super) struct Request {
    pub(super) label: String,
    pub(super) prompt: Text,
    pub(super) tokens_max: u32,
    pub(super) sampling: Sampling,
    /// With room for `tokens_max` pieces and the end, so that a slow reader holds nobody else up. Once its receiver
    /// is gone, the answer is not wanted any more.
    pub(super) said: mpsc::Sender<Said>,
}

/// What comes of a request.
pub(super) enum Said {
    /// The bytes of the next token: a part of a character, maybe.
    Piece(Vec<u8>),
    /// The last thing said.
    End(Result<Tokens, SlmError>),
}

/// Works until nobody can send orders any more.
pub(super) fn work(
    settings: &ModelSettings,
    orders: &Receiver<Order>,
    state: &Mutex<State>,
    on_battery: &AtomicBool,
) {
    let mut engine = Engine { settings, state, on_battery, loaded: None };
    while let Some(order) = engine.wait(orders) {
        match order {
            // Whoever asked may have gone.
            Order::Warm(reply) => drop(reply.send(engine.warm())),
            Order::Answer(request) => {
                if !request.said.is_closed() {
                    let end = engine.answer(&request);
                    let _ = request.said.try_send(Said::End(end));
                }
            }
        }
    }
}

struct Engine<'a> {
    settings: &'a ModelSettings,
    state: &'a Mutex<State>,
    on_battery: &'a AtomicBool,
    loaded: Option<Loaded>,
}

struct Loaded {
    name: String,
    tokenizer: Tokenizer,
    transformer: Transformer,
    /// In tokens.
    context: usize,
}

impl Engine<'_> {
    /// The next order. A model that waits for it in vain is unloaded on a battery.
    fn wait(&mut self, orders: &Receiver<Order>) -> Option<Order> {
        while let (true, Some(idle)) = (self.loaded.is_some(), self.settings.unload_after) {
            match orders.recv_timeout(idle) {
                Ok(order) => return Some(order),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if self.on_battery.load(Ordering::Relaxed) {
                        self.loaded = None;
                        self.set(State::Unloaded);
                    }
                }
            }
        }
        orders.recv().ok()
    }

    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn warm(&mut self) -> Result<String, SlmError> {
        self.loaded().map(|loaded| loaded.name.clone())
    }

    fn loaded(&mut self) -> Result<&Loaded, SlmError> {
        if self.loaded.is_none() {
            let stamp = self.settings.stamp();
            match unharmed(|| Loaded::load(self.settings)) {
                Ok(loaded) => {
                    self.set(State::Loaded(loaded.name.clone()));
                    self.loaded = Some(loaded);
                }
                Err(error) => {
                    let error = error.about(&self.settings.described());
                    self.set(State::Unusable { why: error.to_string(), stamp });
                    return Err(error);
                }
            }
        }
        // It was put there if it was not.
        self.loaded.as_ref().ok_or_else(|| SlmError::new("the model is not loaded".to_owned()))
    }

    fn answer(&mut self, request: &Request) -> Result<Tokens, SlmError> {
        let described = self.settings.described();
        let loaded = self.loaded()?;
        unharmed(|| loaded.answer(request)).map_err(|error| error.about(&described))
    }
}

impl Loaded {
    fn load(settings: &ModelSettings) -> Result<Self, SlmError> {
        let mut file = ModelFile::open(&settings.file)?;
        let context = file.shape().context.min(usize::try_from(settings.context).unwrap_or(usize::MAX));
        check_memory(file.weight_bytes().saturating_add(memory_bytes(&file.shape(), context)))?;
        let name = file.name().unwrap_or("a model without a name").to_owned();
        let tokenizer = Tokenizer::read(&file)?;
        let transformer = Transformer::load(&mut file, context)?;
        Ok(Self { name, tokenizer, transformer, context })
    }

    /// Answers; what was said until the answer was unwanted counts as the whole of it.
    fn answer(&self, request: &Request) -> Result<Tokens, SlmError> {
        let prompt = self.prompt(&request.prompt)?;
        let room = self.context - prompt.len();
        let tokens_max = room.min(usize::try_from(request.tokens_max).unwrap_or(usize::MAX));
        let mut memory = self.transformer.memory(prompt.len() + tokens_max);
        let mut sampler = Sampler::new(request.sampling, &request.label);
        let mut tokens = Tokens { prompt: u32::try_from(prompt.len()).unwrap_or(u32::MAX), generated: 0 };
        let mut read = None;
        for chunk in prompt.chunks(CHUNK) {
            if request.said.is_closed() {
                return Ok(tokens);
            }
            read = Some(self.transformer.read(chunk, &mut memory)?);
        }
        while let Some(last) = read.take() {
            let next = sampler.next(self.transformer.next(&last)?)?;
            if self.tokenizer.ends(next) {
                break;
            }
            let piece = Said::Piece(self.tokenizer.decode(next));
            tokens.generated += 1;
            if request.said.try_send(piece).is_err() || tokens.generated as usize >= tokens_max {
                break;
            }
            read = Some(self.transformer.read(&[next], &mut memory)?);
        }
        Ok(tokens)
    }

    /// The tokens of a prompt, if they leave room for an answer.
    fn prompt(&self, prompt: &str) -> Result<Vec<u32>, SlmError> {
        let context = self.context;
        let too_long = |tokens: usize| {
            SlmError::new(format!(
                "the prompt has {tokens} tokens or more and only {context} fit: shorten it"
            ))
        };
        let least = self.tokenizer.tokens_min(prompt.len());
        if least > context {
            return Err(too_long(least));
        }
        let tokens = self.tokenizer.prompt(prompt)?;
        if tokens.len() < context { Ok(tokens) } else { Err(too_long(tokens.len())) }
    }
}

/// What the keys and values of one answer take at most.
fn memory_bytes(shape: &Shape, context: usize) -> u64 {
    let factors = [2, shape.layers, shape.key_heads, shape.head, size_of::<f32>(), context];
    factors.into_iter().fold(1, |bytes, factor| bytes.saturating_mul(factor as u64))
}

/// An allocation that fails ends the process, so it is asked before whether there is enough.
fn check_memory(needed: u64) -> Result<(), SlmError> {
    // A system that does not say how much is free is not asked twice.
    let Ok(mut system) = System::new() else { return Ok(()) };
    system.refresh_memory();
    // A container may have less than its machine.
    let free = system.cgroup_limits().map_or(u64::MAX, |limits| limits.free_memory);
    let available = system.available_memory().min(free);
    // 0: the system does not say.
    if available == 0 || needed <= available {
        return Ok(());
    }
    let megabytes = |bytes: u64| bytes / 1_000_000;
    Err(SlmError::new(format!(
        "it needs {} MB of memory, and only {} MB are free: end other programs, or take a smaller model",
        megabytes(needed),
        megabytes(available)
    )))
}

/// A panic in the arithmetic is a failed answer, never the end of the thread.
fn unharmed<T>(work: impl FnOnce() -> Result<T, SlmError>) -> Result<T, SlmError> {
    // Weights do not change, and what an answer was changing is dropped.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(SlmError::new(format!(
            "the arithmetic of it failed: {}",
            panics::said(&*panic).unwrap_or("without a word")
        )))
    })
}
