//! Which executor a person asks for: `slm`, `slm:PATH`, `command:PATH`, `openai:URL`, `none` or `stand-in`.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::command::CommandExecutor;
use super::openai::{OpenaiExecutor, OpenaiSettings};
use super::{Executor, NoExecutor, Preset, StandInExecutor};
use crate::http::{self, BaseUrl, UrlError};

/// An executor as it is written in a setting or a flag.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ExecutorSpec {
    /// The embedded model; `None`: the default file. Whether this build has it shows when it is built.
    Slm(Option<PathBuf>),
    /// A program, by its absolute path.
    Command(PathBuf),
    /// An OpenAI-compatible server, with or without `/v1`.
    Openai(BaseUrl),
    /// This device runs no prompts.
    #[default]
    None,
    /// A stand-in for demonstrations, which says that it is one.
    StandIn,
}

/// What an executor needs beside its spec. Those that are not for the executor at hand do nothing.
#[derive(Clone, Default)]
pub struct ExecutorSettings {
    /// Whether the executor runs prompts on an NPU.
    pub npu: bool,
    /// The directory for the prompt files of a command.
    pub prompts: PathBuf,
    /// What a command prints around its answers.
    pub preset: Preset,
    /// The model that a server is asked for; `None`: the first one that it lists.
    pub model: Option<String>,
    /// The key that a server wants.
    pub key: Option<String>,
    /// The most tokens of an answer of a server or of the embedded model; `None`: as they like.
    pub tokens_max: Option<u32>,
    /// After how long without a prompt the embedded model's memory is given back on a battery; `None`: never.
    pub unload_after: Option<Duration>,
    /// What passes before each word of a stand-in.
    pub word_delay: Duration,
}

impl fmt::Debug for ExecutorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorSettings")
            .field("npu", &self.npu)
            .field("prompts", &self.prompts)
            .field("preset", &self.preset)
            .field("model", &self.model)
            .field("key", &self.key.as_ref().map(|_| "(not shown)"))
            .field("tokens_max", &self.tokens_max)
            .field("unload_after", &self.unload_after)
            .field("word_delay", &self.word_delay)
            .finish()
    }
}

impl ExecutorSpec {
    /// Makes the executor. Whether it can run anything is for its `ability` to say.
    ///
    /// # Errors
    ///
    /// If a setting cannot be used.
    pub fn build(&self, settings: ExecutorSettings) -> Result<Arc<dyn Executor>, BuildError> {
        Ok(match self {
            Self::Slm(file) => return embedded(file.as_deref(), &settings),
            Self::Command(program) => Arc::new(
                CommandExecutor::new(program, settings.prompts, settings.npu).with_preset(settings.preset),
            ),
            Self::Openai(server) => {
                let authorization = match settings.key.as_deref().map(str::trim).filter(|key| !key.is_empty())
                {
                    Some(key) => Some(http::bearer(key).ok_or(BuildError::Key)?),
                    None => None,
                };
                Arc::new(OpenaiExecutor::new(OpenaiSettings {
                    server: server.clone(),
                    model: settings.model,
                    authorization,
                    tokens_max: settings.tokens_max,
                    npu: settings.npu,
                }))
            }
            Self::None => Arc::new(NoExecutor::default()),
            Self::StandIn => Arc::new(StandInExecutor::new(settings.word_delay, settings.npu)),
        })
    }
}

/// All executors of one file share its one loaded model.
#[cfg(feature = "slm")]
fn embedded(file: Option<&Path>, settings: &ExecutorSettings) -> Result<Arc<dyn Executor>, BuildError> {
    use super::slm::{Model, ModelSettings, SlmExecutor, SlmOptions};

    let file = file.ok_or(BuildError::NoModelFile)?;
    let model =
        Model::shared(ModelSettings { unload_after: settings.unload_after, ..ModelSettings::new(file) });
    let mut options = SlmOptions { npu: settings.npu, ..SlmOptions::default() };
    options.tokens_max = settings.tokens_max.unwrap_or(options.tokens_max);
    Ok(Arc::new(SlmExecutor::new(model, options)))
}

#[cfg(not(feature = "slm"))]
fn embedded(_file: Option<&Path>, _settings: &ExecutorSettings) -> Result<Arc<dyn Executor>, BuildError> {
    Err(BuildError::NoEmbeddedModel)
}

impl FromStr for ExecutorSpec {
    type Err = SpecError;

    /// A relative path of a command or a model is taken from the current directory.
    fn from_str(written: &str) -> Result<Self, SpecError> {
        match written.split_once(':') {
            Some(("slm", "")) => Err(SpecError::NoModelPath),
            Some(("slm", path)) => std::path::absolute(Path::new(path))
                .map(|path| Self::Slm(Some(path)))
                .map_err(|_| SpecError::NoModelPath),
            Some(("command", "")) => Err(SpecError::NoPath),
            Some(("command", path)) => {
                std::path::absolute(Path::new(path)).map(Self::Command).map_err(|_| SpecError::NoPath)
            }
            Some(("openai", url)) => url.parse().map(Self::Openai).map_err(SpecError::Url),
            _ if written == "slm" => Ok(Self::Slm(None)),
            _ if written == "none" => Ok(Self::None),
            _ if written == "stand-in" => Ok(Self::StandIn),
            _ => Err(SpecError::Unknown { written: written.to_owned() }),
        }
    }
}

impl fmt::Display for ExecutorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slm(None) => f.write_str("slm"),
            Self::Slm(Some(path)) => write!(f, "slm:{}", path.display()),
            Self::Command(path) => write!(f, "command:{}", path.display()),
            Self::Openai(url) => write!(f, "openai:{url}"),
            Self::None => f.write_str("none"),
            Self::StandIn => f.write_str("stand-in"),
        }
    }
}

/// Why this is no executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// It begins like none of them.
    Unknown {
        /// What was written.
        written: String,
    },
    /// `command:` without a path.
    NoPath,
    /// `slm:` without a path.
    NoModelPath,
    /// `openai:` without a usable URL.
    Url(UrlError),
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { written } => {
                write!(f, "`{written}` is no executor: ")?;
                match written.as_str() {
                    url if url.starts_with("http://") => write!(f, "write openai:{url}"),
                    path if path.ends_with(".gguf") && !path.contains(':') => write!(f, "write slm:{path}"),
                    path if path.contains('/') && !path.contains(':') => write!(f, "write command:{path}"),
                    _ => f.write_str("write slm, slm:PATH, command:PATH, openai:URL, none or stand-in"),
                }
            }
            Self::NoPath => f.write_str("`command:` needs the path of a program: write command:PATH"),
            Self::NoModelPath => f.write_str("`slm:` needs the path of a GGUF file: write slm or slm:PATH"),
            Self::Url(error) => write!(f, "`openai:` needs the URL of a server: {error}"),
        }
    }
}

impl Error for SpecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            Self::Unknown { .. } | Self::NoPath | Self::NoModelPath => None,
        }
    }
}

/// Why an executor cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The key has characters that no HTTP header can carry.
    Key,
    /// No file of a model is named: who builds an executor knows where the default one is.
    NoModelFile,
    /// This build was made without the embedded model.
    NoEmbeddedModel,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "the executor's key has line ends or control characters in it: copy it again",
            Self::NoModelFile => "no model file is known: write slm:PATH with the path of a GGUF file",
            Self::NoEmbeddedModel => {
                "this build has no embedded model: use command:PATH or openai:URL, or a build with the feature `slm`"
            }
        })
    }
}

impl Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_again() {
        for spec in [
            "slm",
            "slm:/models/a model.gguf",
            "command:/data/run_slm.sh",
            "command:/a:b c",
            "openai:http://127.0.0.1:8080/v1",
            "none",
            "stand-in",
        ] {
            assert_eq!(spec.parse::<ExecutorSpec>().unwrap().to_string(), spec);
        }
    }

    #[test]
    fn a_relative_path_becomes_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!("command:run.sh".parse(), Ok(ExecutorSpec::Command(here.join("run.sh"))));
        assert_eq!("slm:m.gguf".parse(), Ok(ExecutorSpec::Slm(Some(here.join("m.gguf")))));
    }

    #[test]
    fn what_is_no_executor_says_what_to_write() {
        let errors: Vec<String> = [
            "",
            "command",
            "command:",
            "openai:",
            "openai:https://api.example.com",
            "slm:",
            "./run.sh",
            "./model.gguf",
            "http://box:8080",
            "None",
        ]
        .iter()
        .map(|spec| spec.parse::<ExecutorSpec>().unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` is no executor: write slm, slm:PATH, command:PATH, openai:URL, none or stand-in
        `command` is no executor: write slm, slm:PATH, command:PATH, openai:URL, none or stand-in
        `command:` needs the path of a program: write command:PATH
        `openai:` needs the URL of a server: `` is no URL: write http://HOST:PORT
        `openai:` needs the URL of a server: `https://api.example.com`: https is not supported: use the server's http:// address, or put a local proxy that speaks https before it
        `slm:` needs the path of a GGUF file: write slm or slm:PATH
        `./run.sh` is no executor: write command:./run.sh
        `./model.gguf` is no executor: write slm:./model.gguf
        `http://box:8080` is no executor: write openai:http://box:8080
        `None` is no executor: write slm, slm:PATH, command:PATH, openai:URL, none or stand-in
        ");
    }

    #[test]
    fn the_embedded_model_needs_a_file_and_a_build_that_has_it() {
        let built = |file: Option<&str>| {
            ExecutorSpec::Slm(file.map(PathBuf::from)).build(ExecutorSettings::default()).err()
        };
        let missing =
            if cfg!(feature = "slm") { BuildError::NoModelFile } else { BuildError::NoEmbeddedModel };
        assert_eq!(built(None), Some(missing));
        assert_eq!(built(Some("m.gguf")).is_none(), cfg!(feature = "slm"));
    }

    #[test]
    fn a_key_is_neither_shown_nor_cut_into_a_header() {
        let settings =
            |key: &str| ExecutorSettings { key: Some(key.to_owned()), ..ExecutorSettings::default() };
        assert!(!format!("{:?}", settings("secret")).contains("secret"));
        let spec: ExecutorSpec = "openai:127.0.0.1:1".parse().unwrap();
        assert_eq!(spec.build(settings("a\r\nX-Evil: 1")).err(), Some(BuildError::Key));
        assert!(spec.build(settings(" secret\n")).is_ok());
    }
}
