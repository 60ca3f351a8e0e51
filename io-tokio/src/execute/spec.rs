//! Which executor a person asks for: `command:PATH`, `openai:URL`, `none` or `stand-in`.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::command::CommandExecutor;
use super::openai::{OpenaiExecutor, OpenaiSettings};
use super::{Executor, NoExecutor, StandInExecutor};
use crate::http::{self, BaseUrl, UrlError};

/// An executor as it is written in a setting or a flag.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ExecutorSpec {
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
    /// The model that a server is asked for; `None`: the first one that it lists.
    pub model: Option<String>,
    /// The key that a server wants.
    pub key: Option<String>,
    /// The most tokens of a server's answer; `None`: as the server likes.
    pub tokens_max: Option<u32>,
    /// What passes before each word of a stand-in.
    pub word_delay: Duration,
}

impl fmt::Debug for ExecutorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecutorSettings")
            .field("npu", &self.npu)
            .field("prompts", &self.prompts)
            .field("model", &self.model)
            .field("key", &self.key.as_ref().map(|_| "(not shown)"))
            .field("tokens_max", &self.tokens_max)
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
            Self::Command(program) => Arc::new(CommandExecutor::new(program, settings.prompts, settings.npu)),
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

impl FromStr for ExecutorSpec {
    type Err = SpecError;

    /// A relative path of a command is taken from the current directory.
    fn from_str(written: &str) -> Result<Self, SpecError> {
        match written.split_once(':') {
            Some(("command", "")) => Err(SpecError::NoPath),
            Some(("command", path)) => {
                std::path::absolute(Path::new(path)).map(Self::Command).map_err(|_| SpecError::NoPath)
            }
            Some(("openai", url)) => url.parse().map(Self::Openai).map_err(SpecError::Url),
            _ if written == "none" => Ok(Self::None),
            _ if written == "stand-in" => Ok(Self::StandIn),
            _ => Err(SpecError::Unknown { written: written.to_owned() }),
        }
    }
}

impl fmt::Display for ExecutorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
                    path if path.contains('/') && !path.contains(':') => write!(f, "write command:{path}"),
                    _ => f.write_str("write command:PATH, openai:URL, none or stand-in"),
                }
            }
            Self::NoPath => f.write_str("`command:` needs the path of a program: write command:PATH"),
            Self::Url(error) => write!(f, "`openai:` needs the URL of a server: {error}"),
        }
    }
}

impl Error for SpecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            Self::Unknown { .. } | Self::NoPath => None,
        }
    }
}

/// Why an executor cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The key has characters that no HTTP header can carry.
    Key,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the executor's key has line ends or control characters in it: copy it again")
    }
}

impl Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_is_shown_again() {
        for spec in [
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
    }

    #[test]
    fn what_is_no_executor_says_what_to_write() {
        let errors: Vec<String> = [
            "",
            "command",
            "command:",
            "openai:",
            "openai:https://api.example.com",
            "./run.sh",
            "http://box:8080",
            "None",
        ]
        .iter()
        .map(|spec| spec.parse::<ExecutorSpec>().unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(errors.join("\n"), @r"
        `` is no executor: write command:PATH, openai:URL, none or stand-in
        `command` is no executor: write command:PATH, openai:URL, none or stand-in
        `command:` needs the path of a program: write command:PATH
        `openai:` needs the URL of a server: `` is no URL: write http://HOST:PORT
        `openai:` needs the URL of a server: `https://api.example.com`: https is not supported: use the server's http:// address, or put a local proxy that speaks https before it
        `./run.sh` is no executor: write command:./run.sh
        `http://box:8080` is no executor: write openai:http://box:8080
        `None` is no executor: write command:PATH, openai:URL, none or stand-in
        ");
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
