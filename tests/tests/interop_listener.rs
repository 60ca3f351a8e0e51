//! The interop matrix, listeners: under each shell, with each netcat, a shell device gets every message type that
//! it knows from our network code, with the bytes that were meant; each takes effect once, and so do its answers.
//! Needs what `.ci/setup` installs.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::time::Duration;

use bidmesh_core::id::{AwardId, TaskId};
use bidmesh_core::load::{Load, Percent};
use bidmesh_core::wire::{
    Advertised, Bid, BidRequest, Body, Dialect, Message, Status, TaskOrder, TaskResult, Text,
};
use bidmesh_tests::{MeshPeer, Netcat, Shell, ShellDevice, all_at_once, require, wait_until};

const SOON: Duration = Duration::from_secs(60);
const AWARD: &str = "task_0123456789abc.1.k7q2m";
/// Every kind of character that needs care.
const TEXT: &str = "Say \"hi\"\n\nto\tC:\\new | 100% $HOME `id` 'é' 你好";
/// The same as a shell whose echo interprets nothing can get it bare, and out of JSON by grep.
const TEXT_LITERAL: &str = "Say \"hi\"  to C:\\new | 100% $HOME `id` 'é' 你好";
const PROMPT_LITERAL: &str = "Say “hi”  to C:\\new | 100% $HOME `id` 'é' 你好";
const ANSWER: &str = "One \"line\",\nC:\\another\\n, \u{1b}[0m\t{\"a\": 1}";

/// One shell device, one peer, and what both said.
struct Pair {
    peer: MeshPeer,
    device: ShellDevice,
    dialect: Dialect,
    /// [`TEXT`] as the device must get it bare.
    text: &'static str,
    /// The same as the prompt of a TASK.
    prompt: &'static str,
}

impl Pair {
    fn start(shell: Shell, netcat: Netcat) -> Self {
        let device = ShellDevice::build("Device_S", shell, netcat).has_npu(true).start();
        device.answer_with(format!("{ANSWER}\n\n").as_bytes());
        let (dialect, text, prompt) = if shell.echo_interprets() {
            (Dialect::Shell, TEXT, TEXT)
        } else {
            (Dialect::ShellLiteral, TEXT_LITERAL, PROMPT_LITERAL)
        };
        Self { peer: MeshPeer::listen("Device_A"), device, dialect, text, prompt }
    }

    fn send(&self, body: Body) {
        self.peer.send(self.device.address(), body, self.dialect);
    }

    fn wait_for_log(&self, text: &str) {
        self.device.wait_for_log(SOON, text, |log| log.contains(text).then_some(()));
    }

    /// The body of the answer with this number; FROM must be the device.
    fn answer(&self, number: usize) -> Body {
        let Message { from, body, .. } = self.peer.message(number);
        assert_eq!(from.as_str(), self.device.id());
        body
    }

    /// HELLO puts us into its peers.txt once; DISCOVER is answered with its own HELLO.
    fn introduce(&self) {
        let advertised = Advertised::from(self.peer.address());
        self.send(Body::Hello(advertised));
        self.send(Body::Discover(advertised));
        assert_eq!(self.answer(0), Body::Hello(Advertised::from(self.device.address())));
        assert_eq!(self.device.peers(), format!("Device_A:{}\n", self.peer.address()));
    }

    /// TEXT and SLM_RESULT land in its log, SLM_PROMPT at its model.
    fn exchange_text(&self) {
        self.send(Body::Text(TEXT.into()));
        self.send(Body::SlmResult(TEXT.into()));
        self.send(Body::SlmPrompt(TEXT.into()));
        assert_eq!(self.answer(1), Body::SlmResult(ANSWER.into()));
        self.wait_for_log(&format!("[TEXT] Device_A: {}\n", self.text));
        self.wait_for_log(&format!("[SLM_RESULT] Device_A: {}\n", self.text));
    }

    /// BID_REQUEST is answered with what it measured; BID_RESPONSE lands in its log.
    fn exchange_bids(&self) {
        let task = TaskId::new("task_0123456789abc").expect("a task id");
        self.send(Body::BidRequest(BidRequest {
            task: Some(task.clone()),
            prompt: Some(Text::default()),
            prompt_bytes: Some(5),
            deadline: Some(Duration::from_secs(10)),
            ..BidRequest::default()
        }));
        let Body::BidResponse(bid) = self.answer(2) else { panic!("no bid: {:?}", self.peer.messages()) };
        assert!(bid.cpu.is_some() && bid.ram.is_some(), "{bid:?}");
        assert!(bid.npu, "its device_config.json says so");
        assert_eq!((bid.task, bid.bid, bid.capacity), (None, None, None));
        self.send(Body::BidResponse(Bid {
            task: Some(task),
            cpu: Load::from_ppm(250_000),
            ram: None,
            battery: Percent::new(85),
            npu: true,
            ..Bid::default()
        }));
        self.wait_for_log(
            r#"[BID_RESPONSE] Device_A: {"device_id": "Device_A", "cpu_load": 0.25, "battery": 85, "has_npu": true}"#,
        );
    }

    /// TASK lands at its model and is answered; RESULT lands in a file of valid JSON.
    fn exchange_work(&self) {
        let award = AwardId::new(AWARD).expect("an award id");
        self.send(Body::Task(TaskOrder {
            award: Some(award.clone()),
            prompt: TEXT.into(),
            npu: Some(true),
            prompt_type: Some("npu_prompt".into()),
            task_type: None,
            bid: None,
        }));
        let Body::Result(result) = self.answer(3) else { panic!("no result: {:?}", self.peer.messages()) };
        assert_eq!((result.award, result.status), (Some(award), Status::Completed));
        assert_eq!(&*result.output, ANSWER);
        self.send(Body::Result(TaskResult {
            award: AwardId::new("task_7").ok(),
            device: None,
            status: Status::Completed,
            output: TEXT.into(),
            output_was_not_utf8: false,
            speed: None,
        }));
        let file = wait_until(SOON, "result_task_7.json", || self.device.result("task_7"));
        let json: serde_json::Value = serde_json::from_slice(&file).expect("valid JSON");
        assert_eq!(json["output"], TEXT, "in JSON every text can be written, whatever echo does");
    }

    /// A type that it does not know costs a warning; then nothing is under way any more.
    fn finish(&self) {
        self.send(Body::Unknown { kind: "NOVELTY".to_owned(), payload: "the last one".into() });
        self.wait_for_log("Unknown message type: NOVELTY");
        self.peer.settle();
    }

    fn check_that_each_took_effect_once(&self) {
        assert_eq!(
            self.peer.messages().len(),
            4,
            "HELLO, SLM_RESULT, BID_RESPONSE, RESULT: {:?}",
            self.peer.messages()
        );
        let prompts = [self.text, self.prompt].map(|text| format!("{text}\n").into_bytes());
        assert_eq!(self.device.prompts(), prompts, "of SLM_PROMPT and of TASK");
        let log = self.device.log();
        for tag in [
            "[PEER]",
            "[TEXT]",
            "[SLM_RESULT]",
            "[BID_RESPONSE]",
            "[TASK]",
            "[RESULT]",
            "Unknown message type",
        ] {
            assert_eq!(log.matches(tag).count(), 1, "{tag} in {log}");
        }
        assert_eq!(log.matches("[SENT]").count(), 3, "{log}");
    }
}

fn every_message_type(shell: Shell, netcat: Netcat) {
    if !require(&[shell.program(), netcat.program()]) {
        return;
    }
    let pair = Pair::start(shell, netcat);
    pair.introduce();
    pair.exchange_text();
    pair.exchange_bids();
    pair.exchange_work();
    pair.finish();
    pair.check_that_each_took_effect_once();
}

/// A test for each shell with each netcat.
macro_rules! matrix {
    ($($module:ident: $shell:ident;)*) => {
        $(mod $module {
            use super::*;

            #[test]
            fn toybox() {
                every_message_type(Shell::$shell, Netcat::Toybox);
            }

            #[test]
            fn busybox() {
                every_message_type(Shell::$shell, Netcat::Busybox);
            }

            #[test]
            fn openbsd() {
                every_message_type(Shell::$shell, Netcat::OpenBsd);
            }

            #[test]
            fn traditional() {
                every_message_type(Shell::$shell, Netcat::Traditional);
            }

            #[test]
            fn ncat() {
                every_message_type(Shell::$shell, Netcat::Ncat);
            }
        })*
    };
}

matrix! {
    under_mksh: Mksh;
    under_dash: Dash;
    under_busybox: Busybox;
    under_bash: Bash;
}

/// A listener that was started in the background has its standard input at /dev/null; its netcat ends its sending
/// side at once, which must not be taken for having read the message.
#[test]
fn what_a_detached_listener_is_said_to_have_read_it_has_read() {
    const MESSAGES: usize = 8;
    all_at_once(Netcat::ALL, |netcat| {
        if !require(&["mksh", netcat.program()]) {
            return;
        }
        let peer = MeshPeer::listen("Device_A");
        let device = ShellDevice::build("Device_S", Shell::Mksh, netcat).detached().start();
        for number in 0..MESSAGES {
            peer.send(device.address(), Body::Text(format!("number {number}").into()), Dialect::Shell);
        }
        let last = format!("number {}\n", MESSAGES - 1);
        device.wait_for_log(SOON, "the last message", |log| log.ends_with(&last).then_some(()));
        assert_eq!(device.logged("[TEXT]"), MESSAGES, "{netcat:?}: {}", device.log());
    });
}
