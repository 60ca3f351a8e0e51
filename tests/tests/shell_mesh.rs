//! The stand-in for the shell mesh (`tests/shell-mesh/`) behaves as the shell mesh was measured to: what it does to
//! each way of writing a text, what it sends, which line of its files counts. If these fail, the interop tests
//! prove nothing. The names in brackets are the rows of `docs/protocol.md`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use bidmesh_tests::{Inbox, Netcat, Process, Shell, ShellDevice, deliver, require, wait_until};

const SOON: Duration = Duration::from_secs(30);
const MKSH: &[&str] = &["mksh", "toybox"];

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("legacy-samples").join(name)).unwrap()
}

/// A device under `shell` that knows `Device_A` as `inbox`, and has greeted it.
fn device(shell: Shell, inbox: &Inbox) -> ShellDevice {
    let device =
        ShellDevice::build("Device_B", shell, Netcat::Toybox).peer("Device_A", inbox.address()).start();
    inbox.message(0, SOON);
    device
}

/// Hands the device messages in which `prompt` stands as the text of a TASK, one after another, and returns what its
/// model script was given for each; `None` where the message was lost.
fn prompts_as_read(shell: Shell, written: &[&str]) -> Vec<Option<String>> {
    let inbox = Inbox::open();
    let device = device(shell, &inbox);
    written
        .iter()
        .enumerate()
        .map(|(number, text)| {
            let (lost, tasks) = (device.logged("Unknown message type"), device.prompts().len());
            let task = format!(
                "TASK|Device_A|{{\"task_id\": \"t{number}\", \"prompt\": \"{text}\", \"use_npu\": true}}\n"
            );
            deliver(device.address(), task.as_bytes(), SOON);
            wait_until(SOON, "the prompt to be run or lost", || {
                let prompts = device.prompts();
                if let Some(prompt) = prompts.get(tasks) {
                    // The copy is there before it is whole.
                    return prompt
                        .ends_with(b"\n")
                        .then(|| Some(String::from_utf8_lossy(prompt).into_owned()));
                }
                (device.logged("Unknown message type") > lost).then_some(None)
            })
        })
        .collect()
}

fn read(text: &str) -> Option<String> {
    Some(format!("{text}\n"))
}

#[test]
fn ordinary_json_is_mangled_by_mksh_as_measured() {
    if !require(MKSH) {
        return;
    }
    let rows = [
        ("plain", read("plain")),
        (r#"say \"hi\" now"#, read(r"say \")),
        (r"say \u0022hi\u0022", read("say ")),
        (r"one\ntwo", None),
        (r"one\u000atwo", None),
        ("one\ntwo", None),
        (r"C:\\temp", read("C:\temp")),
        (r"caf\u00e9", read("café")),
        (
            "a | b 'c' $HOME `id` 100% * ? ~ {x} grüß 你好 😀",
            read("a | b 'c' $HOME `id` 100% * ? ~ {x} grüß 你好 😀"),
        ),
    ];
    let seen = prompts_as_read(Shell::Mksh, &rows.each_ref().map(|(written, _)| *written));
    assert_eq!(seen, rows.map(|(_, expected)| expected));
}

#[test]
fn what_is_escaped_as_documented_arrives_byte_for_byte_under_mksh_and_dash() {
    let rows = [
        (r"one\\\\\\\\ntwo\\\\\\\\n\\\\\\\\nthree", read("one\ntwo\n\nthree")),
        (r"say \\\\\\\\0042hi\\\\\\\\0042", read("say \"hi\"")),
        (r"col\\\\\\\\tcol", read("col\tcol")),
        (r"esc\\\\\\\\0033[0m bell\\\\\\\\0007 cr\\\\\\\\0015", read("esc\x1b[0m bell\x07 cr\r")),
        (r"C:\\\\\\\\\\\\\\\\new\\\\\\\\\\\\\\\\", read(r"C:\new\")),
        (r"\\\\\\\\0055n", read("-n")),
    ];
    for shell in [Shell::Mksh, Shell::Dash] {
        if !require(&[shell.program(), "toybox"]) {
            continue;
        }
        let seen = prompts_as_read(shell, &rows.each_ref().map(|(written, _)| *written));
        assert_eq!(seen, rows.clone().map(|(_, expected)| expected), "{shell:?}");
    }
}

#[test]
fn bash_and_busybox_interpret_nothing() {
    let rows = [
        (r"one\ntwo C:\new", read(r"one\ntwo C:\new")),
        (r#"say \"hi\" now"#, read(r"say \")),
        ("“quotes” ’n spaces", read("“quotes” ’n spaces")),
        ("one\ntwo", None),
    ];
    for shell in [Shell::Bash, Shell::Busybox] {
        if !require(&[shell.program(), "toybox"]) {
            continue;
        }
        let seen = prompts_as_read(shell, &rows.each_ref().map(|(written, _)| *written));
        assert_eq!(seen, rows.clone().map(|(_, expected)| expected), "{shell:?}");
    }
}

#[test]
fn bare_text_meets_one_echo_less() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    for kind in ["TEXT", "SLM_RESULT"] {
        deliver(device.address(), format!("{kind}|Device_A|four\\\\\\\\nlines\n").as_bytes(), SOON);
        device.wait_for_log(SOON, "two lines", |log| {
            log.contains(&format!("[{kind}] Device_A: four\nlines\n")).then_some(())
        });
        deliver(device.address(), format!("{kind}|Device_A|eight\\\\\\\\\\\\\\\\nlines\n").as_bytes(), SOON);
        device.wait_for_log(SOON, "one line", |log| {
            log.contains(&format!("[{kind}] Device_A: eight\\nlines\n")).then_some(())
        });
    }
    deliver(device.address(), b"SLM_PROMPT|Device_A|say \"hi\"\\\\\\\\nC:\\\\\\\\\\\\\\\\new\n", SOON);
    assert_eq!(inbox.message(1, SOON), b"SLM_RESULT|Device_B|An answer.");
    assert_eq!(device.prompts(), [b"say \"hi\"\nC:\\new\n"]);
}

#[test]
fn a_result_is_kept_as_it_was_after_three_echoes() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    let json = r#"{"task_id": "t1", "output": "say \"hi\"\nC:\\new"}"#;
    deliver(device.address(), format!("RESULT|Device_A|{json}\n").as_bytes(), SOON);
    device.wait_for_log(SOON, "a lost message", |log| log.contains("Unknown message type").then_some(()));
    assert_eq!(device.result("t1"), None);
    deliver(
        device.address(),
        format!("RESULT|Device_A|{}\n", json.replace('\\', r"\\\\\\\\")).as_bytes(),
        SOON,
    );
    let kept = wait_until(SOON, "the result", || device.result("t1"));
    assert_eq!(String::from_utf8(kept).unwrap(), format!("{json}\n"));
}

#[test]
fn its_grep_and_cut_have_the_measured_faults() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    let tasks = [
        // [the order of fields and white space after colons do not matter]
        (r#"{"prompt":"Hello","x": [1],"task_id":   "task_0123456789abc.1.k7q2m"}"#, "Hello\n"),
        // ["prompt" must not occur twice: its grep takes both]
        (r#"{"prompt": "one", "task_id": "t2", "inner": {"prompt": "two"}}"#, "one\ntwo\n"),
        // [base_prompt is harmless]
        (r#"{"base_prompt": "no", "prompt": "yes", "task_id": "t3"}"#, "yes\n"),
    ];
    for (number, (task, prompt)) in tasks.iter().enumerate() {
        deliver(device.address(), format!("TASK|Device_A|{task}\n").as_bytes(), SOON);
        inbox.message(number + 1, SOON);
        assert_eq!(device.prompts().last().map(Vec::as_slice), Some(prompt.as_bytes()));
    }
    assert!(
        inbox
            .message(1, SOON)
            .starts_with(br#"RESULT|Device_B|{"task_id": "task_0123456789abc.1.k7q2m", "device_id""#)
    );
    // [nothing before TYPE] [anything else is harmless]
    for lost in ["\nTEXT|Device_A|hidden\n", "ACCEPT|Device_A|{}\n", "no bars at all\n"] {
        let before = device.logged("Unknown message type");
        deliver(device.address(), lost.as_bytes(), SOON);
        device.wait_for_log(SOON, "a warning", |log| {
            (log.matches("Unknown message type").count() > before).then_some(())
        });
    }
}

#[test]
fn the_first_line_of_peers_txt_counts() {
    if !require(MKSH) {
        return;
    }
    let (first, second) = (Inbox::open(), Inbox::open());
    let device = device(Shell::Mksh, &first);
    // [fields after the port are cut off] [a line that is there is not added again]
    for _ in 0..2 {
        let hello = format!("HELLO|Device_A|{}:bidmesh/1:0123abcd\n", second.address());
        deliver(device.address(), hello.as_bytes(), SOON);
    }
    deliver(device.address(), b"SLM_PROMPT|Device_A|Hi\n", SOON);
    assert_eq!(first.message(1, SOON), b"SLM_RESULT|Device_B|An answer.");
    assert_eq!(device.peers(), format!("Device_A:{}\nDevice_A:{}\n", first.address(), second.address()));
    assert!(second.messages().is_empty());
    // [a device that is not in peers.txt gets nothing]
    deliver(device.address(), b"SLM_PROMPT|Device_X|Hi\n", SOON);
    device.wait_for_log(SOON, "a warning", |log| log.contains("No address of Device_X").then_some(()));
}

#[test]
fn what_it_sends_is_what_the_shell_mesh_sent() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    let hello = format!("HELLO|Device_B|{}", device.address()).into_bytes();
    assert_eq!(inbox.message(0, SOON), hello);
    deliver(device.address(), format!("DISCOVER|Device_A|{}\n", inbox.address()).as_bytes(), SOON);
    assert_eq!(inbox.message(1, SOON), hello);
    deliver(device.address(), b"BID_REQUEST|Device_A|{\"task_id\": \"t1\"}\n", SOON);
    let numbers_out = |bid: &[u8]| {
        let bid = String::from_utf8(bid.to_vec()).unwrap();
        let mut parts: Vec<String> = bid.split(", ").map(str::to_owned).collect();
        for load in &mut parts[1..3] {
            let (name, number) = load.split_once(": ").unwrap();
            let number: f64 = number.parse().unwrap();
            assert!((0.0..=1.0).contains(&number), "{bid}");
            *load = name.to_owned();
        }
        parts.join(", ")
    };
    // A machine with a battery says so; the sample was taken from one without.
    let bid = numbers_out(&inbox.message(2, SOON));
    let expected = numbers_out(&sample("bid_response_mksh.msg"));
    let battery =
        |text: &str| text.split(", ").filter(|part| !part.contains("battery")).collect::<Vec<_>>().join(", ");
    assert_eq!(battery(&bid), battery(&expected));
    for (number, name) in [
        "plain",
        "quotes",
        "backslash_n",
        "looks_like_field",
        "quote_brace_end",
        "latin1",
        "only_newlines",
        "k64",
    ]
    .iter()
    .enumerate()
    {
        let expected = sample(&format!("result_{name}.msg"));
        let head = format!(
            "RESULT|Device_B|{{\"task_id\": \"r_{name}\", \"device_id\": \"Device_B\", \"status\": \"completed\", \"output\": \""
        );
        device.answer_with(&expected[head.len()..expected.len() - 2]);
        deliver(
            device.address(),
            format!("TASK|Device_A|{{\"task_id\": \"r_{name}\", \"prompt\": \"p\"}}\n").as_bytes(),
            SOON,
        );
        assert!(inbox.message(3 + number, SOON) == expected, "{name}");
    }
}

#[test]
fn a_device_without_awk_or_model_script_says_what_the_shell_mesh_said() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = ShellDevice::build("Device_B", Shell::Mksh, Netcat::Toybox)
        .peer("Device_A", inbox.address())
        .without_awk()
        .without_runner()
        .start();
    inbox.message(0, SOON);
    deliver(device.address(), b"TASK|Device_A|{\"task_id\": \"noexec\", \"prompt\": \"p\"}\n", SOON);
    assert_eq!(inbox.message(1, SOON), sample("result_error_no_runner.msg"));
    deliver(device.address(), b"BID_REQUEST|Device_A|{\"task_id\": \"t1\"}\n", SOON);
    let bid = inbox.message(2, SOON);
    let expected = sample("bid_response_no_awk.msg");
    let loads = br#""battery": "#;
    let end = expected.windows(loads.len()).position(|window| window == loads).unwrap();
    assert_eq!(bid[..end], expected[..end]);
}

#[test]
fn it_is_deaf_while_the_model_runs() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    device.answer_after(Duration::from_secs(2));
    deliver(device.address(), b"TASK|Device_A|{\"task_id\": \"t1\", \"prompt\": \"p\"}\n", SOON);
    wait_until(SOON, "the model to run", || (device.prompts().len() == 1).then_some(()));
    assert!(TcpStream::connect(device.address()).is_err());
    assert!(inbox.messages().len() == 1, "the answer came before the connection was tried");
    assert!(inbox.message(1, SOON).starts_with(b"RESULT|"));
}

#[test]
fn the_sender_sends_what_the_shell_meshs_sender_sent() {
    if !require(MKSH) {
        return;
    }
    let inbox = Inbox::open();
    let device = device(Shell::Mksh, &inbox);
    let commands: [(&str, &[&str]); 9] = [
        ("text", &["text", "Device_A", "Hello", "from", "B!"]),
        ("text_pipe", &["text", "all", "a | b | c"]),
        ("text_multiline", &["text", "Device_A", r"one\ntwo"]),
        ("text_utf8", &["text", "Device_A", "grüß dich 👋"]),
        ("slm_prompt", &["slm", "Device_A", "Describe a \"sunset\" | please"]),
        (
            "bid_request",
            &[
                "bid_request",
                "all",
                "task_123",
                r#"{"task_id": "task_123", "task_type": "slm_inference", "prompt": "hi", "deadline": 10}"#,
            ],
        ),
        ("bid_request_minimal", &["bid_request", "Device_A", "task_123", r#"{"type":"inference"}"#]),
        ("task_prompt_only", &["task", "Device_A", r#"{"prompt":"Hello"}"#]),
        ("raw_garbage", &["raw", "Device_A", "no bars at all"]),
    ];
    for (number, (name, arguments)) in commands.iter().enumerate() {
        let finished = Process::run(device.sender().args(*arguments), b"", SOON);
        assert!(finished.status.success(), "{name}");
        let (seen, expected) = (inbox.message(number + 1, SOON), sample(&format!("sender_{name}.msg")));
        assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(&expected), "{name}");
    }
    let finished = Process::run(device.sender().arg("discover"), b"", SOON);
    assert!(finished.status.success());
    assert!(inbox.message(commands.len() + 1, SOON).starts_with(b"DISCOVER|Device_B|"));
}
