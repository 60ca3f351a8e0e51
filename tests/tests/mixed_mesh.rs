//! A mixed mesh: two bidmesh devices and three shell devices, under three shells and with three netcats, answer
//! fifty prompts that are asked at once. None is lost, none is run twice, each answer belongs to its prompt.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which the lint does not know as such"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bidmesh_tests::{BidmeshProcess, Netcat, Runner, Shell, ShellDevice, require};
use serde_json::Value;

const PROMPTS: usize = 50;
const IN_ALL: Duration = Duration::from_secs(240);

fn prompt(number: usize) -> String {
    // What shells that interpret no escapes can carry too.
    format!("Prompt {number:02}: what's {number} + 1 | $HOME, 100% of `it` & 'all', grüß 你好")
}

#[test]
fn fifty_prompts_on_five_devices_are_each_run_once_and_answered() {
    if !require(&["mksh", "dash", "busybox", "toybox", "nc.openbsd"]) {
        return;
    }
    let shells = [
        ShellDevice::build("Shell_mksh", Shell::Mksh, Netcat::Toybox).start(),
        ShellDevice::build("Shell_dash", Shell::Dash, Netcat::OpenBsd).start(),
        ShellDevice::build("Shell_busybox", Shell::Busybox, Netcat::Busybox).start(),
    ];
    shells.iter().for_each(ShellDevice::answer_with_the_prompt);
    // As slow as a small model, so that the shell devices have their share.
    let runners = [Runner::new(), Runner::new()];
    runners.iter().for_each(|runner| runner.answer_after(Duration::from_secs(1)));
    let worker = BidmeshProcess::build("Worker").runner(&runners[1]).start();
    let mut asking = BidmeshProcess::build("Asking")
        .runner(&runners[0])
        .setting("literal_echo", "Shell_busybox")
        .peer(worker.id(), worker.address());
    for shell in &shells {
        asking = asking.peer(shell.id(), shell.address());
    }
    let asking = asking.start();
    asking.wait_until_heard(&["Worker"]);

    let asked: Vec<_> =
        (0..PROMPTS).map(|number| asking.spawn(&["--json", "ask", "--", &prompt(number)])).collect();
    let mut answered_by = BTreeMap::<String, usize>::new();
    for (number, asked) in asked.into_iter().enumerate() {
        let finished = asked.finish(IN_ALL);
        let answer: Value = serde_json::from_str(&finished.stdout()).unwrap_or_else(|error| {
            panic!("{number}: {error}: {}{}\n{}", finished.stdout(), finished.stderr(), asking.stderr())
        });
        assert_eq!((finished.code(), &answer["status"]), (Some(0), &Value::from("completed")), "{answer:#}");
        assert_eq!(answer["output"].as_str().map(str::trim_end), Some(prompt(number).as_str()), "{answer:#}");
        assert_eq!(answer["attempts"], 1, "{answer:#}");
        *answered_by.entry(answer["device_id"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }

    // What the devices themselves counted: each prompt once, in all, and as often as they answered.
    let mut runs = BTreeMap::new();
    for (id, runner) in [("Asking", &runners[0]), ("Worker", &runners[1])] {
        runs.insert(id.to_owned(), runner.prompts());
    }
    for shell in &shells {
        let prompts = shell.prompts().into_iter();
        let prompts = prompts.map(|prompt| String::from_utf8_lossy(&prompt).trim_end().to_owned());
        runs.insert(shell.id().to_owned(), prompts.collect::<Vec<_>>());
    }
    let all: Vec<&String> = runs.values().flatten().collect();
    let different: BTreeSet<&String> = all.iter().copied().collect();
    assert_eq!(different, (0..PROMPTS).map(prompt).collect::<Vec<_>>().iter().collect(), "{runs:#?}");
    assert_eq!(all.len(), PROMPTS, "some ran twice: {runs:#?}");
    let counted: BTreeMap<String, usize> =
        runs.iter().map(|(id, prompts)| (id.clone(), prompts.len())).collect();
    assert_eq!(counted, answered_by, "whoever ran a prompt answered it");
    assert!(counted.values().all(|count| *count > 0), "all five have their share: {counted:?}");
}
