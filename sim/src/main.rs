//! `bidmesh-sim`: worlds of many devices, for people. See docs/testing.md.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use bidmesh_sim::campaign;
use bidmesh_sim::invariants::Violation;
use bidmesh_sim::scenario::{SCENARIOS, Scenario};
use bidmesh_sim::world::plan::{Plan, Size, Without};
use bidmesh_sim::world::{Defect, Summary, World};

/// Simulated meshes: each seed draws a world, breaks it, and checks that every prompt ends exactly once.
///
/// Exit code 0: no rule was broken; 2: wrong use; 127: a crash; 128: a rule of liveness; 129: a rule of safety.
#[derive(Parser)]
#[command(name = "bidmesh-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play one seed and print the world, every event, and the verdict.
    Run {
        /// The seed.
        seed: u64,
        /// So many bidmesh devices instead of those that the seed draws.
        #[arg(long)]
        devices: Option<usize>,
        /// Only the world and the verdict.
        #[arg(long)]
        quiet: bool,
    },
    /// Play many seeds on all processors, then print what they did.
    Swarm {
        /// How many.
        worlds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Stop after this time.
        #[arg(long)]
        minutes: Option<u64>,
        /// Fail as well if a fault never happened or something expected was never seen.
        #[arg(long)]
        complete: bool,
    },
    /// Play a story: lossy, partition, doze, herd, shell-mix, battery, two-orchestrators.
    Scenario {
        /// Its name.
        name: String,
        /// Its seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Only the story and the verdict.
        #[arg(long)]
        quiet: bool,
    },
    /// Plant known defects one by one: each must be found.
    Canary {
        /// Within so many seeds.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
    },
    /// Leave out of a failing seed what its failure does not need.
    Shrink {
        /// The seed.
        seed: u64,
    },
    /// How many events a second a world of this size does, by this machine's clock.
    Speed {
        /// bidmesh devices.
        #[arg(default_values_t = [8, 200, 10_000])]
        devices: Vec<usize>,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seed, devices, quiet } => {
            let size = devices.map_or(Size::Drawn, Size::Devices);
            let plan = Plan::draw(seed, size, &Without::default());
            println!("{plan}\n");
            let exit = verdict(&play(plan, quiet));
            let devices = devices.map(|n| format!(" --devices {n}")).unwrap_or_default();
            println!("again: bidmesh-sim run {seed}{devices}");
            exit
        }
        Command::Swarm { worlds, from, minutes, complete } => swarm(from, worlds, minutes, complete),
        Command::Scenario { name, seed, quiet } => scenario(&name, seed, quiet),
        Command::Canary { seeds } => canary(seeds),
        Command::Shrink { seed } => shrink(seed),
        Command::Speed { devices } => speed(&devices),
    }
}

fn play(plan: Plan, quiet: bool) -> Summary {
    campaign::guarded(plan.seed, || {
        let world = World::new(plan, None);
        if quiet { world } else { world.printing() }.play()
    })
}

fn verdict(summary: &Summary) -> ExitCode {
    let outcomes: Vec<String> =
        summary.outcomes.iter().map(|(status, count)| format!("{count} {}", status.as_str())).collect();
    println!(
        "\n{} events in {} simulated seconds; prompts: {}; {} lost with their device",
        summary.events,
        summary.simulated.as_secs(),
        outcomes.join(", "),
        summary.lost
    );
    match &summary.violation {
        None => {
            println!("no rule was broken");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            println!("BROKEN: {violation}");
            code(violation)
        }
    }
}

fn code(violation: &Violation) -> ExitCode {
    match violation {
        v if v.rule == "S9" => ExitCode::from(127),
        v if v.is_liveness() => ExitCode::from(128),
        _ => ExitCode::from(129),
    }
}

fn swarm(from: u64, worlds: u64, minutes: Option<u64>, complete: bool) -> ExitCode {
    // A seed that panics is reported with the others; its message comes with the verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let report = campaign::swarm(from, worlds, limit, |done| {
        if done.is_multiple_of(100) {
            eprint!("\r{done} of {worlds} worlds");
        }
    });
    eprintln!();
    println!("{report}");
    if let Some((seed, violation)) = &report.failure {
        println!("again: bidmesh-sim run {seed}");
        return code(violation);
    }
    let missing = !report.missing_faults().is_empty() || !report.missing_marks().is_empty();
    if complete && missing {
        println!("incomplete: what never happened was not tested; play more worlds");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn scenario(name: &str, seed: u64, quiet: bool) -> ExitCode {
    let Some(scenario) = Scenario::find(name) else {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("there is no scenario {name:?}; there are {}", names.join(", "));
        return ExitCode::from(2);
    };
    let plan = scenario.plan(seed);
    println!("{}\n\n{plan}\n", scenario.story);
    let exit = verdict(&play(plan, quiet));
    println!("again: bidmesh-sim scenario {name} --seed {seed}");
    exit
}

fn canary(seeds: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = false;
    for defect in Defect::ALL {
        match campaign::find(defect, seeds) {
            Some((seed, violation)) => {
                println!("{}: found at seed {seed} by {}", defect.words(), violation.rule)
            }
            None => {
                missed = true;
                println!("{}: NOT FOUND in {seeds} seeds", defect.words());
            }
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn shrink(seed: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let whole = campaign::play(seed, Size::Drawn, &Without::default(), None);
    let Some(violation) = whole.violation else {
        println!("seed {seed} breaks no rule");
        return ExitCode::SUCCESS;
    };
    let without = campaign::shrink(seed, violation.rule, None);
    let plan = Plan::draw(seed, Size::Drawn, &without);
    println!("{plan}\n");
    let smaller = play(plan, false);
    verdict(&smaller)
}

fn speed(sizes: &[usize]) -> ExitCode {
    for devices in sizes {
        let plan = || {
            let scenario = Scenario::find("herd").map(|herd| herd.plan(1));
            let drawn = Plan::draw(1, Size::Devices(*devices), &Without::default());
            Plan { devices: *devices, ..scenario.unwrap_or(drawn) }
        };
        let started = std::time::Instant::now();
        let (mut events, mut worlds) = (0, 0_u64);
        while started.elapsed() < Duration::from_secs(2) {
            let summary = World::new(Plan { seed: worlds, ..plan() }, None).checking_every(256).play();
            events += summary.events;
            worlds += 1;
        }
        let micros = started.elapsed().as_micros().max(1);
        let rate = u128::from(events) * 1_000_000 / micros;
        println!("{devices:>6} devices: {rate:>8} events a second ({events} events in {worlds} worlds)");
    }
    ExitCode::SUCCESS
}
