//! What is written for a shell device arrives there: what its cut, grep and echo leave is the text again, byte
//! for byte. The device is a model here; one test holds the model against real shells.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "support/shell.rs"]
mod shell;

use std::io::Write;
use std::process::{Command, Stdio};

use bidmesh_core::id::{AwardId, DeviceId};
use bidmesh_core::wire::{Body, Dialect, Message, Status, TaskOrder, TaskResult, WireLimits, decode, encode};
use proptest::prelude::*;
use serde_json::Value;
use shell::Echo;

const ECHOES: [Echo; 2] = [Echo::Mksh, Echo::Dash];

fn written(body: Body, dialect: Dialect) -> Vec<u8> {
    let message = Message { from: DeviceId::new("Device_A").unwrap(), marker: None, body };
    let bytes = encode(&message, dialect).unwrap();
    let lines = bytes.iter().filter(|b| **b == b'\n').count();
    assert!(lines == 1 && bytes.ends_with(b"\n"), "a message to a shell device is one line");
    bytes
}

fn task(prompt: &str) -> Body {
    Body::Task(TaskOrder {
        award: Some(AwardId::new("task_0123456789abc.1.k7q2m").unwrap()),
        prompt: prompt.into(),
        npu: Some(true),
        prompt_type: Some("npu_prompt".into()),
        task_type: None,
        bid: None,
    })
}

fn result(output: &str) -> TaskResult {
    TaskResult {
        award: Some(AwardId::new("task_7").unwrap()),
        device: Some("Device_A".into()),
        status: Status::Completed,
        output: output.into(),
        output_was_not_utf8: false,
        speed: None,
    }
}

/// `echo` ends what it prints with a newline of its own.
fn line(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\n"].concat()
}

/// Texts in which everything that is special to a shell, an echo or JSON is common.
fn text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        "\\",
        "\\\\",
        "\"",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
        "-",
        "-n",
        "-e",
        "\\n",
        "\\c",
        "\\0",
        "\\0042",
        "\\u0041",
        "\\x41",
        "|",
        "'",
        "$(id)",
        "`",
        "%s",
        "*",
        " ",
        "\u{1}",
        "\u{1b}[0m",
        "\u{7f}",
        "é",
        "你",
        "😀",
        "7",
        "\"prompt\": \"x\"",
        "}",
        "\"}",
    ]);
    let part = prop_oneof![3 => special.prop_map(String::from), 1 => "[^\0]{0,6}"];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_task_gives_the_model_its_prompt(prompt in text()) {
        let bytes = written(task(&prompt), Dialect::Shell);
        for echo in ECHOES {
            prop_assert_eq!(echo.kind(&bytes), Some(b"TASK".to_vec()), "{:?}", echo);
            prop_assert_eq!(echo.task_id(&bytes), Some(b"task_0123456789abc.1.k7q2m".to_vec()), "{:?}", echo);
            prop_assert_eq!(echo.task_prompt_file(&bytes), Some(line(&prompt)), "{:?}", echo);
        }
    }

    #[test]
    fn bare_text_is_printed_as_it_was(text in text()) {
        for body in [Body::Text, Body::SlmPrompt, Body::SlmResult] {
            let bytes = written(body(text.as_str().into()), Dialect::Shell);
            for echo in ECHOES {
                prop_assert_eq!(echo.printed_payload(&bytes), Some(line(&text)), "{:?}", echo);
            }
        }
    }

    #[test]
    fn a_result_becomes_a_file_of_json(output in text()) {
        for (dialect, echoes) in [(Dialect::Shell, &ECHOES[..]), (Dialect::ShellLiteral, &[Echo::Literal])] {
            let bytes = written(Body::Result(result(&output)), dialect);
            for echo in echoes {
                let file = echo.printed_payload(&bytes).expect("the message is one line");
                let json: Value = serde_json::from_slice(&file).expect("the file is JSON");
                prop_assert_eq!(&json["output"], &Value::from(output.as_str()), "{:?}", echo);
                prop_assert_eq!(&json["task_id"], "task_7");
            }
        }
    }

    #[test]
    fn a_nul_is_dropped_and_nothing_else(before in text(), after in text()) {
        let bytes = written(task(&format!("{before}\0{after}")), Dialect::Shell);
        prop_assert_eq!(Echo::Mksh.task_prompt_file(&bytes), Some(line(&(before + &after))));
    }

    #[test]
    fn an_echo_that_interprets_nothing_gets_substitutes_and_keeps_the_rest(prompt in text()) {
        let bytes = written(task(&prompt), Dialect::ShellLiteral);
        let file = Echo::Literal.task_prompt_file(&bytes).expect("the message is one line");
        let file = String::from_utf8(file).expect("UTF-8 stays UTF-8");
        let got = file.strip_suffix('\n').expect("echo adds a newline");
        let option = prompt.len() > 1 && prompt.starts_with('-') && prompt[1..].chars().all(|c| "neE".contains(c));
        let got = if option { got.strip_prefix(' ').expect("no option") } else { got };
        // Position by position: a quote became a typographic one, a control character a space.
        prop_assert_eq!(got.chars().count(), prompt.chars().count());
        for (got, meant) in got.chars().zip(prompt.chars()) {
            match meant {
                '"' => prop_assert!(got == '“' || got == '”'),
                control if control < ' ' => prop_assert_eq!(got, ' '),
                other => prop_assert_eq!(got, other),
            }
        }
    }

    /// The listener pastes an output between a fixed head and tail, whatever it is.
    #[test]
    fn the_raw_output_of_a_shell_device_is_read_as_it_was_printed(output in text()) {
        let output = output.trim_end_matches('\n');
        let sent = format!(
            "RESULT|Device_B|{{\"task_id\": \"task_7\", \"device_id\": \"Device_A\", \"status\": \"completed\", \"output\": \"{output}\"}}"
        );
        let decoded = decode(sent.as_bytes(), &WireLimits::default()).unwrap();
        prop_assert_eq!(decoded.message.body, Body::Result(result(output)));
        prop_assert!(!decoded.repairs.any());
    }
}

#[test]
fn quotes_open_after_a_space_and_close_after_a_word() {
    let bytes = written(task("\"Hi\" she (\"he\") said \"\"."), Dialect::ShellLiteral);
    let file = Echo::Literal.task_prompt_file(&bytes).unwrap();
    assert_eq!(String::from_utf8(file).unwrap(), "“Hi” she (“he”) said “”.\n");
}

#[test]
fn a_text_is_no_option_of_echo_whatever_is_dropped_before() {
    for text in ["-n", "\0-n", "-\0n", "\0\0-neE"] {
        let meant = text.replace('\0', "");
        let bytes = written(task(text), Dialect::Shell);
        for echo in ECHOES {
            assert_eq!(echo.task_prompt_file(&bytes), Some(line(&meant)), "{echo:?} {text:?}");
        }
        let bytes = written(task(text), Dialect::ShellLiteral);
        assert_eq!(Echo::Literal.task_prompt_file(&bytes), Some(line(&format!(" {meant}"))), "{text:?}");
    }
}

#[test]
fn only_what_echo_would_take_for_an_option_gets_a_space() {
    for text in ["-", "n", "an", "xnn", "--", "-a", "- n", "e"] {
        let bytes = written(task(text), Dialect::ShellLiteral);
        assert_eq!(Echo::Literal.task_prompt_file(&bytes), Some(line(text)), "{text:?}");
    }
}

/// The model itself, held against the real programs: `/bin/sh` of Debian is dash; mksh is tried where it is
/// installed.
#[test]
fn the_model_does_what_real_shells_do() {
    const TASK: &str = r#"msg=$(cat); payload=$(echo "$msg" | cut -d'|' -f3-); payload=$(echo "$payload")
        prompt=$(echo "$payload" | grep -o '"prompt": *"[^"]*"' | cut -d'"' -f4); echo "$prompt""#;
    const BARE: &str = r#"msg=$(cat); payload=$(echo "$msg" | cut -d'|' -f3-); payload=$(echo "$payload")
        echo "$payload""#;
    let texts = [
        "",
        "Hello",
        "-n",
        "-e",
        "--",
        "a \"quoted\" word",
        "C:\\new\\table\\0042",
        "two\nlines\n\n",
        "\ttab\r\n",
        "\\c stop",
        "\\\\",
        "\u{1}\u{1f}\u{7f}",
        "{\"prompt\": \"x\", \"b\": [1]}",
        "$(id) `id` %s *",
        "é 你 😀",
        "ends in \\",
        "a|b|c",
    ];
    for (program, echo) in [("dash", Echo::Dash), ("mksh", Echo::Mksh)] {
        for text in texts {
            let bytes = written(task(text), Dialect::Shell);
            let Some(file) = run(program, TASK, &bytes) else { break };
            assert_eq!(Some(&file), echo.task_prompt_file(&bytes).as_ref(), "{program}: {text:?}");
            assert_eq!(file, line(text), "{program}");
            let bytes = written(Body::SlmPrompt(text.into()), Dialect::Shell);
            let printed = run(program, BARE, &bytes);
            assert_eq!(printed, echo.printed_payload(&bytes), "{program}: {text:?}");
            let bytes = written(Body::Result(result(text)), Dialect::Shell);
            let printed = run(program, BARE, &bytes);
            assert_eq!(printed, echo.printed_payload(&bytes), "{program}: {text:?}");
        }
    }
}

/// What `script` prints for `input`; `None` where the shell is not installed.
fn run(shell: &str, script: &str, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(shell)
        .args(["-c", script])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(input).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}
