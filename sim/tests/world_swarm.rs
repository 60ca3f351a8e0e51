//! The world tier as plain tests: a few hundred seeds, the same bytes twice, planted defects, a herd, known seeds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use bidmesh_sim::campaign::{self, Swarm};
use bidmesh_sim::invariants::RULES;
use bidmesh_sim::known_seeds;
use bidmesh_sim::report::EXPECTED;
use bidmesh_sim::scenario::{SCENARIOS, Scenario};
use bidmesh_sim::world::fault::Fault;
use bidmesh_sim::world::plan::{Size, Without};
use bidmesh_sim::world::{Defect, World};

const fn few(worlds: u64) -> Swarm {
    Swarm { from: 0, worlds, limit: None, threads: None }
}

#[test]
fn a_few_hundred_worlds_break_no_rule() {
    let report = campaign::swarm(few(200), &AtomicBool::new(false), |_| {});
    assert!(report.failure.is_none(), "{report}");
    assert_eq!(report.worlds, 200);
}

#[test]
fn known_seeds_stay_mended() {
    for known in known_seeds("world") {
        let summary = campaign::play(known.seed, Size::Drawn, &Without::default(), None);
        assert_eq!(summary.violation, None, "seed {}: {}", known.seed, known.found);
    }
}

#[test]
fn a_seed_is_the_same_in_two_processes() {
    let run = |seed: u64| {
        let ran = Command::new(env!("CARGO_BIN_EXE_bidmesh-sim"))
            .args(["run", &seed.to_string()])
            .output()
            .unwrap();
        ran.stdout
    };
    for seed in 0..10 {
        let first = run(seed);
        assert!(first.len() > 1_000, "seed {seed} prints what happens");
        assert!(first == run(seed), "seed {seed} is not the same twice");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_bidmesh-sim"))
        .args(["run", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(run.stdout.take());
    let ended = run.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(141));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_swarm_that_is_interrupted_tells_what_it_played() {
    let mut swarm = Command::new(env!("CARGO_BIN_EXE_bidmesh-sim"))
        .args(["swarm", "100000000", "--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begun = String::new();
    BufReader::new(swarm.stderr.take().unwrap()).read_line(&mut begun).unwrap();
    assert!(begun.starts_with("worlds from seed 0"), "{begun}");
    let process = rustix::process::Pid::from_child(&swarm);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let ended = swarm.wait_with_output().unwrap();
    let table = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{table}");
    assert!(table.contains("never happened: "), "{table}");
    assert!(table.trim_end().ends_with("interrupted: the table is of the worlds until then"), "{table}");
}

#[test]
fn colours_are_for_terminals() {
    let coloured = |variable: (&str, &str)| {
        let run = Command::new(env!("CARGO_BIN_EXE_bidmesh-sim"))
            .args(["run", "0"])
            .env_remove("NO_COLOR")
            .env(variable.0, variable.1)
            .output()
            .unwrap();
        run.stdout.contains(&0x1b)
    };
    assert!(!coloured(("TERM", "xterm")), "a file gets no colours");
    assert!(coloured(("CLICOLOR_FORCE", "1")), "each device has its own, where they are wanted");
}

#[test]
fn planted_defects_are_found() {
    for defect in Defect::ALL {
        let (seed, violation) = campaign::find(*defect, 1_000).unwrap();
        assert!(defect.rules().contains(&violation.rule), "{defect:?} at seed {seed}: {violation}");
    }
}

#[test]
fn every_rule_has_a_planted_defect_that_it_finds() {
    for (rule, words) in RULES {
        let planted = Defect::ALL.iter().any(|defect| defect.rules().contains(&rule));
        assert!(planted, "{rule} may never fail: {words}");
    }
}

#[test]
fn nothing_is_said_of_a_run_or_a_letter_after_its_end() {
    let unknown = ["ignored: unknown run", "ignored: unknown send"];
    assert!(!unknown.iter().any(|mark| EXPECTED.contains(mark)), "only a defect could cause them");
    for seed in 0..100 {
        let summary = campaign::play(seed, Size::Drawn, &Without::default(), None);
        assert_eq!(unknown.map(|mark| summary.marks.get(mark)), [None, None], "seed {seed}");
    }
}

#[test]
fn every_story_has_a_good_end() {
    for scenario in SCENARIOS.into_iter().filter(|scenario| scenario.name != "herd") {
        let summary = World::new(scenario.plan(1), None).play();
        assert_eq!(summary.violation, None, "{}", scenario.name);
    }
}

#[test]
fn a_herd_of_a_thousand_answers_every_prompt() {
    let summary = World::new(Scenario::find("herd").unwrap().plan(1), None).play();
    assert_eq!(summary.violation, None);
    assert!(summary.outcomes.values().sum::<u64>() >= 8, "{:?}", summary.outcomes);
}

#[test]
fn the_table_says_what_happened_and_what_never_did() {
    let report = campaign::swarm(few(20), &AtomicBool::new(false), |_| {});
    let table = report.to_string();
    for fault in Fault::ALL {
        let row = format!("{:<5} {}", fault.number(), fault.words());
        assert_eq!(table.matches(&row).count(), 1, "{table}");
    }
    let missing = report.missing_faults();
    assert!(!missing.is_empty(), "twenty worlds cannot meet everything");
    assert!(table.contains(&format!("never happened: {}", missing.join(", "))), "{table}");
    assert!(table.ends_with("no rule was broken"), "{table}");
}
