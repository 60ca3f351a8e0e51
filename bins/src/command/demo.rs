//! `bidmesh demo`: the main job on one machine with one command. Five devices on loopback addresses, each with
//! sensors of its own, are asked one prompt; then the decision is told in words.

mod devices;
mod shell_peer;

use bidmesh_io_tokio::execute::ExecutorSpec;
use clap::Args;

use crate::api::control_file::Control;
use crate::api::types::{DecisionView, Submit};
use crate::api::{self, Api, Token};
use crate::cli::Shared;
use crate::client::Client;
use crate::command::ask::once;
use crate::device;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signals::Signals;
use crate::words;

const PROMPT: &str = "Describe a beautiful sunset in one sentence.";

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// What to ask
    pub prompt: Vec<String>,
    /// What runs the prompt: command:PATH or openai:URL [default: as configured, else a stand-in]
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorSpec>,
}

pub async fn run(shared: &Shared, demo: Demo) -> Result<Exit, Failure> {
    let output = shared.output();
    let mut signals = Signals::listen()?;
    let spec = match demo.executor {
        Some(spec) => spec,
        None => device::configured_executor(shared)?.unwrap_or(ExecutorSpec::StandIn),
    };
    let prompt = if demo.prompt.is_empty() { PROMPT.into() } else { demo.prompt.join(" ") };
    let mesh = tokio::select! {
        mesh = devices::Mesh::start(&spec) => mesh?,
        () = signals.next() => return Err(Failure::silent(Exit::Cancelled)),
    };
    introduce(&output, &mesh, &spec, &prompt);
    let result = ask(&output, &mesh, prompt, &mut signals).await;
    mesh.end().await;
    result
}

fn introduce(output: &Output, mesh: &devices::Mesh, spec: &ExecutorSpec, prompt: &str) {
    output.note("Five devices on this machine:");
    output.note(mesh.table().trim_end());
    if *spec == ExecutorSpec::StandIn {
        output.note("No model is configured, so a stand-in answers. With --executor openai:URL or command:PATH a model does.");
    } else {
        output.note(&format!("Prompts are run by {spec}."));
    }
    output.note(&format!("\n{} asks: {prompt}\n", devices::ASKING));
}

async fn ask(
    output: &Output,
    mesh: &devices::Mesh,
    prompt: String,
    signals: &mut Signals,
) -> Result<Exit, Failure> {
    let no_api =
        |error: &dyn std::fmt::Display| Failure::failed(format!("the control API cannot be served: {error}"));
    let token = Token::new().map_err(|error| no_api(&error))?;
    let asking = mesh.asking();
    let api = Api::new(asking.handle.clone(), None, asking.listen);
    let serving = api::serve(api, token.clone(), 0).await.map_err(|error| no_api(&error))?;
    let client = Client::of(&Control {
        device_id: devices::ASKING.into(),
        pid: std::process::id(),
        port: serving.address().port(),
        token: token.as_str().into(),
    })?;
    let submit = Submit { prompt, attached: true, ..Submit::default() };
    let exit = once(&client, output, &submit, signals).await?;
    if !output.json {
        let decisions: Vec<DecisionView> = client.get("/v1/decisions").await?;
        if let Some(decision) = decisions.last() {
            output.foreign(&format!("\n{}", words::why(decision)))?;
        }
    }
    Ok(exit)
}
