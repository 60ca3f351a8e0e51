//! `bidmesh demo`: the main job on one machine with one command. Five devices on loopback addresses, each with
//! sensors of its own, are asked one prompt; then the decision is told in words. With `--story` the winner is killed
//! in the middle of its answer, and afterwards a device of the shell mesh wins.

mod devices;
mod shell_peer;
mod story;

use std::sync::Arc;

use bidmesh_io_tokio::execute::{Executor, ExecutorSettings, ExecutorSpec};
use clap::Args;

use crate::api::control_file::Control;
use crate::api::types::{DecisionView, Submit};
use crate::api::{self, Api, Serving, Token};
use crate::cli::Shared;
use crate::client::Client;
use crate::command::ask::once;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signals::Signals;
use crate::words;
use devices::{Mesh, Tempo};

const PROMPT: &str = "Describe a beautiful sunset in one sentence.";

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// What to ask
    pub prompt: Vec<String>,
    /// What runs the prompt: slm, slm:PATH, command:PATH or openai:URL [default: as configured, else the embedded
    /// model, else a stand-in]
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorSpec>,
    /// Also kill the winner in the middle of its answer, then let a device of the shell mesh win
    #[arg(long)]
    pub story: bool,
    /// Fetch the demonstration model without asking, if nothing else runs prompts
    #[arg(long, short)]
    pub yes: bool,
}

pub async fn run(shared: &Shared, demo: Demo) -> Result<Exit, Failure> {
    let output = shared.output();
    let mut signals = Signals::listen()?;
    let spec = spec(shared, &demo, &output, &mut signals).await?;
    let prompt = if demo.prompt.is_empty() { PROMPT.into() } else { demo.prompt.join(" ") };
    let tempo = if demo.story { Tempo::Short } else { Tempo::Usual };
    let starting = async {
        // Kept until the devices have theirs: it is the same model.
        let _loaded = load(&output, &spec).await?;
        Mesh::start(&spec, tempo).await
    };
    let mut mesh = signals.or_cancelled(starting).await?;
    introduce(&output, &mesh, &spec);
    let result = async {
        let asking = Asking::of(&mesh).await?;
        match demo.story {
            true => story::tell(&output, &mut mesh, &asking, prompt, &mut signals).await,
            false => asking.ask(&output, prompt, &mut signals).await,
        }
    };
    let result = result.await;
    mesh.end().await;
    result
}

/// What runs the prompts: as said, as configured, the embedded model, or a stand-in.
async fn spec(
    shared: &Shared,
    demo: &Demo,
    output: &Output,
    signals: &mut Signals,
) -> Result<ExecutorSpec, Failure> {
    let directory = device::directory(shared)?;
    let said = match &demo.executor {
        Some(spec) => Some(spec.clone()),
        None => device::configured_executor(&directory)?.filter(|spec| *spec != ExecutorSpec::None),
    };
    if said.is_none() && device::is_built_in() {
        match device::offer_a_model(&directory, output, demo.yes, signals).await {
            Ok(_) => {}
            Err(failure) if failure.exit == Exit::Cancelled => return Err(failure),
            // A demo without a model is still one: why there is none is told, and it goes on.
            Err(failure) => output.note(&format!("No model can be fetched: {failure}\n")),
        }
    }
    match device::settle_executor(said, &directory)? {
        ExecutorSpec::None => Ok(ExecutorSpec::StandIn),
        spec => Ok(spec),
    }
}

/// Loads the embedded model, once for all devices; other executors have nothing to load.
async fn load(output: &Output, spec: &ExecutorSpec) -> Result<Option<Arc<dyn Executor>>, Failure> {
    if !device::is_embedded(spec) {
        return Ok(None);
    }
    output.note("Loading the model …");
    let model = spec.build(ExecutorSettings::default());
    let model = model.map_err(|error| Failure::usage(error.to_string()))?;
    model.warm().await.map_err(Failure::failed)?;
    Ok(Some(model))
}

fn introduce(output: &Output, mesh: &Mesh, spec: &ExecutorSpec) {
    output.note("Five devices on this machine:");
    output.note(mesh.table().trim_end());
    output.note("Their loads, batteries and NPUs are simulated; messages, auction and answers are real.");
    if device::is_embedded(spec) {
        output.note(
            "All five share one loaded model. It is a demonstration model: fluent, but it knows few facts.",
        );
    } else if *spec == ExecutorSpec::StandIn {
        output.note(
            "No model is here, so a stand-in answers. `bidmesh model pull` fetches one; --executor openai:URL or \
             command:PATH uses another.",
        );
    } else {
        output.note(&format!("Prompts are run by {spec}."));
    }
}

/// The device that asks, through its control API, as every command does.
pub struct Asking {
    client: Client,
    _serving: Serving,
}

impl Asking {
    async fn of(mesh: &Mesh) -> Result<Self, Failure> {
        let no_api = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("the control API cannot be served: {error}"))
        };
        let token = Token::new().map_err(|error| no_api(&error))?;
        let asking = mesh.asking()?;
        let api = Api::new(asking.handle.clone(), None, asking.listen);
        let serving = api::serve(api, token.clone(), 0).await.map_err(|error| no_api(&error))?;
        let client = Client::of(&Control {
            device_id: devices::ASKING.into(),
            pid: std::process::id(),
            port: serving.address().port(),
            token: token.as_str().into(),
        })?;
        Ok(Self { client, _serving: serving })
    }

    /// One prompt, its answer, and the decision in words.
    async fn ask(&self, output: &Output, prompt: String, signals: &mut Signals) -> Result<Exit, Failure> {
        output.note(&format!("\n{} asks: {prompt}\n", devices::ASKING));
        let submit = Submit { prompt, attached: true, ..Submit::default() };
        let exit = once(&self.client, output, &submit, signals).await?;
        if !output.json {
            let decisions: Vec<DecisionView> = self.client.get("/v1/decisions").await?;
            if let Some(decision) = decisions.last() {
                output.foreign(&format!("\n{}", words::why(decision)))?;
            }
        }
        Ok(exit)
    }
}
