//! `bidmesh send`: what the shell mesh's sender says, to one device or to all.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::api::types::{Say, SayMessage, Sent};
use crate::cli::Shared;
use crate::device::{Keeping, Session};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Flags of `send`.
#[derive(Debug, Args)]
pub struct Send {
    #[command(subcommand)]
    what: What,
}

/// What is said. TARGET is a device of the address book, or `all`.
#[derive(Debug, Subcommand)]
enum What {
    /// Text for a person; it lands in the other device's log
    Text {
        /// A device, or `all`
        target: String,
        /// The text
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// A prompt outside any auction; the answer comes back as SLM_RESULT into this device's log
    Slm {
        /// A device, or `all`
        target: String,
        /// The prompt
        #[arg(required = true)]
        prompt: Vec<String>,
    },
    /// A request for a bid; the answer comes back into this device's log
    #[command(alias = "bid_request")]
    BidRequest {
        /// A device, or `all`
        target: String,
        /// The task that it is for
        task_id: String,
        /// The payload; made of the task id if absent
        #[arg(value_name = "JSON")]
        payload: Option<String>,
    },
    /// An order to run a prompt, without an auction
    Task {
        /// A device, or `all`
        target: String,
        /// The payload, such as '{"task_id": "task_7", "prompt": "Hello"}'
        #[arg(value_name = "JSON")]
        payload: String,
    },
    /// These very bytes, for trying out what a device makes of them
    Raw {
        /// A device, or `all`
        target: String,
        /// The message, such as 'TEXT|Device_B|Hello'
        message: String,
    },
    /// Who is there? Devices answer with HELLO
    Discover {
        /// A device, or `all`
        #[arg(default_value = "all")]
        target: String,
    },
}

impl What {
    fn into_say(self) -> Say {
        let say = |to, message| Say { to, message };
        match self {
            Self::Text { target, text } => say(target, SayMessage::Text { text: text.join(" ") }),
            Self::Slm { target, prompt } => say(target, SayMessage::SlmPrompt { text: prompt.join(" ") }),
            Self::BidRequest { target, task_id, payload } => {
                let payload = payload.unwrap_or_else(|| {
                    json!({ "task_id": task_id, "task_type": "slm_inference", "prompt": "", "deadline": 10 }).to_string()
                });
                say(target, SayMessage::BidRequest { payload })
            }
            Self::Task { target, payload } => say(target, SayMessage::Task { payload }),
            Self::Raw { target, message } => say(target, SayMessage::Raw { text: message }),
            Self::Discover { target } => say(target, SayMessage::Discover),
        }
    }
}

pub async fn run(shared: &Shared, send: Send) -> Result<Exit, Failure> {
    let session = Session::open(shared, Keeping::IfThere).await?;
    let sent: Result<Sent, Failure> = session.client().post("/v1/messages", &send.what.into_say()).await;
    session.close().await;
    report(&shared.output(), &sent?)
}

fn report(output: &Output, sent: &Sent) -> Result<Exit, Failure> {
    if output.json {
        output.json(sent)?;
    } else {
        for one in &sent.sent {
            match &one.why {
                None => output.result(&format!("{}: delivered\n", one.device_id))?,
                Some(why) => output.result(&format!("{}: not delivered: {why}\n", one.device_id))?,
            }
        }
    }
    if sent.sent.is_empty() {
        let message =
            "no peers known, so nothing was sent; add one with `bidmesh peers add DEVICE ADDR:PORT`";
        return Err(Failure::new(Exit::Nobody, "nobody", message));
    }
    let missed: Vec<_> = sent.sent.iter().filter(|one| !one.delivered).collect();
    let message = match missed.as_slice() {
        [] => return Ok(Exit::Ok),
        [one] => format!("{} did not get it; `bidmesh peers list` says how it is", one.device_id),
        several => format!(
            "{} of {} devices did not get it; `bidmesh peers list` says how they are",
            several.len(),
            sent.sent.len()
        ),
    };
    Err(Failure::new(Exit::Failed, "not_delivered", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn said(line: &[&str]) -> Say {
        let line = ["bidmesh", "send"].iter().chain(line);
        let Command::Send(send) = Cli::try_parse_from(line).unwrap().command else { panic!("not send") };
        send.what.into_say()
    }

    #[test]
    fn the_shell_senders_command_lines_mean_the_same_here() {
        let text = |text: &str| SayMessage::Text { text: text.into() };
        assert_eq!(said(&["text", "all", "a | b | c"]), Say { to: "all".into(), message: text("a | b | c") });
        assert_eq!(said(&["text", "A", "Hello", "from", "B!"]).message, text("Hello from B!"));
        let minimal = r#"{"type":"inference"}"#;
        let payload = SayMessage::BidRequest { payload: minimal.into() };
        assert_eq!(said(&["bid_request", "A", "task_123", minimal]).message, payload);
        assert_eq!(
            said(&["raw", "A", "no bars at all"]).message,
            SayMessage::Raw { text: "no bars at all".into() }
        );
        assert_eq!(said(&["discover"]), Say { to: "all".into(), message: SayMessage::Discover });
    }

    #[test]
    fn a_bid_request_without_a_payload_names_its_task() {
        let SayMessage::BidRequest { payload } = said(&["bid-request", "all", "task_7"]).message else {
            panic!("not a bid request")
        };
        let payload: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(payload["task_id"], "task_7");
    }
}
