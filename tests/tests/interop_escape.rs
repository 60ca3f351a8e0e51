//! Texts that a shell's `cut`, `grep` and `echo` would mangle arrive byte for byte where that is possible, and as the
//! documented substitutes where it is not; and what a model prints comes back byte for byte. Needs what `.ci/setup`
//! installs.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::time::Duration;

use bidmesh_core::id::AwardId;
use bidmesh_core::wire::{Body, Dialect, Status, TaskOrder, TaskResult};
use bidmesh_tests::{MeshPeer, Netcat, Shell, ShellDevice, all_at_once, require, wait_until};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const SOON: Duration = Duration::from_secs(60);

/// What somebody may well ask, and what nobody should.
const NASTY: [&str; 26] = [
    "plain",
    "say \"hi\"",
    "\"",
    "\"\"\"",
    "one\ntwo",
    "\n\n\nafter blank lines",
    "two at the end\n\n",
    "C:\\new\\table\\0101",
    "\\",
    "\\\\\\\\\\\\\\\\n",
    "ends in a backslash\\",
    "\\c stops an echo",
    "\\x41 \\u0041 \\0101 \\e[0m",
    "tab\there\tand there",
    "{\"prompt\": \"inner\", \"task_id\": \"x\"}",
    "{\n  \"a\": [\"b\\n\", null]\n}\n",
    "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{e}\u{f}\u{10}\u{11}\u{12}\u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}\u{1a}\u{1b}\u{1c}\u{1d}\u{1e}\u{1f} \u{7f}9",
    "\u{7}7 digits after an octal escape \u{1}0",
    "carriage\r\nreturns\r",
    "-n",
    "-e \\n",
    "--help",
    "caf\u{e9} 你好 😀 \u{a0}\u{2028}\u{feff}",
    "100% %s %d $HOME ${HOME} $(id) `id` ; & > < * ? ~ # ! [a] 'b'",
    "TASK|Device_X|{\"task_id\": \"y\"} | RESULT|",
    " white space around \t ",
];

/// Texts made of the characters that matter, close together; the same in each run.
fn made_up(count: usize) -> Vec<String> {
    let piece = proptest::sample::select(vec![
        "\\", "\\", "\"", "\n", "\t", "\r", "n", "0", "1", "7", "c", "u00", "x4", "-", " ", "|", "{", "}",
        ": \"", "é", "😀", "$", "`", "'", "%", "\u{1b}", "\u{7f}", "prompt", "task_id",
    ]);
    let text = proptest::collection::vec(piece, 1..60).prop_map(|pieces| pieces.concat());
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| text.new_tree(&mut runner).expect("nothing is filtered").current()).collect()
}

fn texts() -> Vec<String> {
    NASTY.iter().map(|text| (*text).to_owned()).chain(made_up(20)).collect()
}

fn task(number: usize, prompt: &str) -> Body {
    Body::Task(TaskOrder {
        award: AwardId::new(&format!("t{number}")).ok(),
        prompt: prompt.into(),
        npu: Some(false),
        prompt_type: Some("prompt".into()),
        task_type: None,
        bid: None,
    })
}

fn result(number: usize, output: &str) -> Body {
    Body::Result(TaskResult {
        award: AwardId::new(&format!("t{number}")).ok(),
        device: None,
        status: Status::Completed,
        output: output.into(),
        output_was_not_utf8: false,
        speed: None,
    })
}

fn dialect_of(shell: Shell) -> Dialect {
    if shell.echo_interprets() { Dialect::Shell } else { Dialect::ShellLiteral }
}

/// A shell device that knows `peer`.
fn device(shell: Shell, netcat: Netcat, peer: &MeshPeer) -> ShellDevice {
    let device = ShellDevice::build("Device_S", shell, netcat).peer("Device_A", peer.address()).start();
    peer.message(0);
    device
}

/// Sends each text and returns the prompt files that the model script got.
fn prompts_after(shell: Shell, netcat: Netcat, bodies: impl Iterator<Item = Body>) -> Vec<String> {
    let peer = MeshPeer::listen("Device_A");
    let device = device(shell, netcat, &peer);
    for (number, body) in bodies.enumerate() {
        peer.send(device.address(), body, dialect_of(shell));
        // HELLO was the first message.
        wait_until(SOON, &format!("an answer to prompt {number}: {}", device.log()), || {
            peer.messages().get(number + 1).cloned()
        });
    }
    device
        .prompts()
        .into_iter()
        .map(|prompt| String::from_utf8(prompt).expect("UTF-8 as it was sent"))
        .collect()
}

fn assert_all_arrived(shell: Shell, texts: &[String], prompts: &[String]) {
    assert_eq!(prompts.len(), texts.len());
    for (text, prompt) in texts.iter().zip(prompts) {
        // The last echo ends the file with a newline of its own.
        assert_eq!(*prompt, format!("{text}\n"), "{shell:?}");
    }
}

fn prompts_arrive_byte_for_byte(shell: Shell, netcat: Netcat) {
    if !require(&[shell.program(), netcat.program()]) {
        return;
    }
    let texts = texts();
    let tasks = texts.iter().enumerate().map(|(number, text)| task(number, text));
    assert_all_arrived(shell, &texts, &prompts_after(shell, netcat, tasks));
}

#[test]
fn prompts_of_tasks_arrive_byte_for_byte_under_mksh() {
    prompts_arrive_byte_for_byte(Shell::Mksh, Netcat::Toybox);
}

#[test]
fn prompts_of_tasks_arrive_byte_for_byte_under_dash() {
    prompts_arrive_byte_for_byte(Shell::Dash, Netcat::Busybox);
}

#[test]
fn bare_prompts_arrive_byte_for_byte_under_mksh_and_dash() {
    all_at_once([(Shell::Mksh, Netcat::Toybox), (Shell::Dash, Netcat::Busybox)], |(shell, netcat)| {
        if !require(&[shell.program(), netcat.program()]) {
            return;
        }
        let texts = texts();
        let prompts = texts.iter().map(|text| Body::SlmPrompt(text.as_str().into()));
        assert_all_arrived(shell, &texts, &prompts_after(shell, netcat, prompts));
    });
}

#[test]
fn where_echo_interprets_nothing_prompts_arrive_with_substitutes() {
    const PAIRS: [(&str, &str); 9] = [
        ("plain | 100% $HOME `id` 'é' 你好 😀", "plain | 100% $HOME `id` 'é' 你好 😀"),
        ("say \"hi\" \"now\"", "say “hi” “now”"),
        ("\"quoted\"", "“quoted”"),
        ("one\ntwo\n\nthree", "one two  three"),
        ("C:\\new\\table\\0101 \\u0041", "C:\\new\\table\\0101 \\u0041"),
        ("tab\there \u{1b}[0m\r", "tab here  [0m "),
        ("{\"prompt\": \"x\"}", "{“prompt”: “x”}"),
        ("-n", " -n"),
        ("--help", "--help"),
    ];
    all_at_once([(Shell::Bash, Netcat::Ncat), (Shell::Busybox, Netcat::Busybox)], |(shell, netcat)| {
        if !require(&[shell.program(), netcat.program()]) {
            return;
        }
        let tasks = PAIRS.iter().enumerate().map(|(number, (text, _))| task(number, text));
        let expected: Vec<_> = PAIRS.iter().map(|(_, expected)| (*expected).to_owned()).collect();
        assert_all_arrived(shell, &expected, &prompts_after(shell, netcat, tasks));
    });
}

/// Whatever echo does to it, the file that a RESULT leaves at a shell device is JSON and holds the whole output.
#[test]
fn results_land_as_valid_json_under_every_shell() {
    all_at_once(Shell::ALL, |shell| {
        if !require(&[shell.program(), "toybox"]) {
            return;
        }
        let texts = texts();
        let peer = MeshPeer::listen("Device_A");
        let device = device(shell, Netcat::Toybox, &peer);
        for (number, text) in texts.iter().enumerate() {
            peer.send(device.address(), result(number, text), dialect_of(shell));
        }
        for (number, text) in texts.iter().enumerate() {
            let json = wait_until(SOON, &format!("result_t{number}.json"), || {
                // The file is there before it is whole.
                device.result(&format!("t{number}")).filter(|file| file.ends_with(b"\n"))
            });
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_else(|error| {
                panic!("{shell:?} {text:?}: {error}: {}", String::from_utf8_lossy(&json))
            });
            assert_eq!(json["output"], *text, "{shell:?}");
            assert_eq!(json["task_id"], format!("t{number}"), "{shell:?}");
        }
    });
}

/// What the model prints is pasted raw into JSON; it is recovered without loss, except newlines at its end.
#[test]
fn outputs_come_back_byte_for_byte_from_every_shell() {
    all_at_once(Shell::ALL, |shell| {
        if !require(&[shell.program(), "toybox"]) {
            return;
        }
        let peer = MeshPeer::listen("Device_A");
        let device = device(shell, Netcat::Toybox, &peer);
        for (number, text) in texts().iter().enumerate() {
            device.answer_with(text.as_bytes());
            peer.send(device.address(), task(number, "p"), dialect_of(shell));
            let Body::Result(result) = peer.message(number + 1).body else {
                panic!("no result for {text:?}")
            };
            assert_eq!(*result.output, *text.trim_end_matches('\n'), "{shell:?}");
            assert_eq!(result.award, AwardId::new(&format!("t{number}")).ok());
        }
    });
}
