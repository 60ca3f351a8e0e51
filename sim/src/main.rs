//! `bidmesh-sim`: worlds of many devices, for people. See docs/testing.md.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use stateright::Model as _;

use bidmesh_sim::campaign::{self, Swarm};
use bidmesh_sim::invariants::Violation;
use bidmesh_sim::model::{Budgets, Mesh, MeshModel, explore};
use bidmesh_sim::scenario::{SCENARIOS, Scenario};
use bidmesh_sim::story::Story;
use bidmesh_sim::world::plan::{Plan, Size, Without};
use bidmesh_sim::world::{Defect, Summary, World, sampled};

use crate::screen::Progress;

mod interrupt;
mod screen;

/// Simulated meshes: each seed draws a world, breaks it, and checks that every prompt ends exactly once.
///
/// Exit code 0: no rule was broken; 1: something else failed, as the last line says; 2: wrong use; 127: a crash;
/// 128: a rule of liveness; 129: a rule of safety; 130: interrupted (`swarm` prints its table first); 141: nobody read
/// the output.
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
        /// Also write the run to this file, as one page for a browser.
        #[arg(long)]
        html: Option<PathBuf>,
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
        /// Worlds at once; by default as many as there are processors.
        #[arg(long)]
        threads: Option<usize>,
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
        /// Also write the run to this file, as one page for a browser.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Plant known defects one by one: each must be found.
    Canary {
        /// Within so many seeds.
        #[arg(long, default_value_t = 1_000)]
        seeds: u64,
    },
    /// Leave out of a failing seed what its failure does not need, and print what is left as a file for `replay`.
    Shrink {
        /// The seed.
        seed: u64,
        /// Plant this defect (names: `bidmesh-sim canary`).
        #[arg(long, value_parser = Defect::named)]
        defect: Option<Defect>,
        /// Write it to this file instead; in sim/stories it is played again with the tests.
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Play a file that `shrink` wrote. Succeeds if the file's rule is broken, or none if it names none.
    Replay {
        /// The file.
        file: PathBuf,
        /// Only the verdict.
        #[arg(long)]
        quiet: bool,
        /// Also write the run to this file, as one page for a browser.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Ten thousand devices: a hundred auctions of 200 bidders and one of all; what a bid and a device cost.
    Herd {
        /// bidmesh devices.
        #[arg(long, default_value_t = 10_000)]
        devices: usize,
    },
    /// Explore a small mesh to its end: every order of deliveries, and every fault within the budgets.
    Model(ModelArguments),
    /// How many events a second of processor time a world of this size does.
    Speed {
        /// bidmesh devices.
        #[arg(default_values_t = [8, 200, 10_000])]
        devices: Vec<usize>,
    },
}

/// A mesh and what may go wrong in it, each so often in its whole life.
#[derive(Args)]
struct ModelArguments {
    /// Devices that ask one prompt each.
    #[arg(long, default_value_t = 1)]
    orchestrators: u8,
    /// Devices that run prompts, one at a time.
    #[arg(long, default_value_t = 2)]
    bidders: u8,
    /// Shell devices besides.
    #[arg(long, default_value_t = 0)]
    shells: u8,
    /// Records are written later than others act.
    #[arg(long)]
    slow_store: bool,
    /// Devices give each other signs of life.
    #[arg(long)]
    heartbeats: bool,
    /// Messages that are copied.
    #[arg(long, default_value_t = 0)]
    copies: u8,
    /// Messages that are lost.
    #[arg(long, default_value_t = 0)]
    losses: u8,
    /// Messages that arrive although their sender cannot know.
    #[arg(long, default_value_t = 0)]
    doubts: u8,
    /// Messages whose sender hears late that they arrived.
    #[arg(long, default_value_t = 0)]
    lates: u8,
    /// Deadlines that pass before what is on its way arrives.
    #[arg(long, default_value_t = 0)]
    wakes: u8,
    /// Runs that fail.
    #[arg(long, default_value_t = 0)]
    errors: u8,
    /// Runs that never end.
    #[arg(long, default_value_t = 0)]
    hangs: u8,
    /// Bidders that lose power and come back.
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// Prompts that are given up.
    #[arg(long, default_value_t = 0)]
    cancels: u8,
    /// Runs that tell text before they end.
    #[arg(long, default_value_t = 0)]
    texts: u8,
    /// Stop after this time; what is left is not explored, and the exit code says so.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Serve stateright's explorer at this address instead (127.0.0.1:3000), for a browser.
    #[arg(long)]
    explore: Option<SocketAddr>,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { seed, devices, quiet, html } => {
            let size = devices.map_or(Size::Drawn, Size::Devices);
            let plan = Plan::draw(seed, size, &Without::default());
            say!("{plan}\n");
            let exit = play(World::new(plan, None), seed, quiet, html.as_deref());
            let devices = devices.map(|n| format!(" --devices {n}")).unwrap_or_default();
            say!("again: bidmesh-sim run {seed}{devices}");
            exit
        }
        Command::Swarm { worlds, from, minutes, threads, complete } => {
            let limit = minutes.map(|minutes| Duration::from_secs(60 * minutes));
            swarm(Swarm { from, worlds, limit, threads }, complete)
        }
        Command::Scenario { name, seed, quiet, html } => scenario(&name, seed, quiet, html.as_deref()),
        Command::Canary { seeds } => canary(seeds),
        Command::Shrink { seed, defect, to } => shrink(seed, defect, to.as_deref()),
        Command::Replay { file, quiet, html } => replay(&file, quiet, html.as_deref()),
        Command::Herd { devices } => herd(devices),
        Command::Model(arguments) => model(&arguments),
        Command::Speed { devices } => speed(&devices),
    }
}

/// Plays a world, says how it ended, and draws it if that is wanted.
fn play(world: World, seed: u64, quiet: bool, html: Option<&Path>) -> ExitCode {
    let mut world = if quiet { world } else { world.telling(screen::by_device()) };
    if html.is_some() {
        world = world.drawing();
    }
    let summary = campaign::guarded(seed, || world.play());
    let exit = verdict(&summary);
    match html {
        Some(file) if draw(&mut world, &summary, file).is_err() => ExitCode::FAILURE,
        _ => exit,
    }
}

fn draw(world: &mut World, summary: &Summary, file: &Path) -> Result<(), ()> {
    let verdict = summary.violation.as_ref();
    let verdict = verdict.map_or_else(|| "no rule was broken".into(), |broken| format!("BROKEN: {broken}"));
    let page = world.page(&verdict).unwrap_or_default();
    write(file, &page)?;
    say!("the page is {}", file.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), ()> {
    std::fs::write(file, text).map_err(|error| eprintln!("{} cannot be written: {error}", file.display()))
}

fn verdict(summary: &Summary) -> ExitCode {
    let outcomes: Vec<String> =
        summary.outcomes.iter().map(|(status, count)| format!("{count} {}", status.as_str())).collect();
    say!(
        "\n{} events in {} simulated seconds; prompts: {}; {} lost with their device",
        summary.events,
        summary.simulated.as_secs(),
        outcomes.join(", "),
        summary.lost
    );
    match &summary.violation {
        None => {
            say!("no rule was broken");
            ExitCode::SUCCESS
        }
        Some(violation) => {
            say!("BROKEN: {violation}");
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

fn swarm(swarm: Swarm, complete: bool) -> ExitCode {
    // A seed that panics is reported with the others; its message comes with the verdict.
    std::panic::set_hook(Box::new(|_| {}));
    let started = Instant::now();
    let stop = match interrupt::asked() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("signals cannot be handled: {error}");
            return ExitCode::FAILURE;
        }
    };
    eprintln!("worlds from seed {} on; Ctrl-C ends this with the table of those played", swarm.from);
    let progress = Progress::of(swarm);
    let report = campaign::swarm(swarm, stop, |played| progress.played(played));
    progress.over();
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    say!("{report}");
    say!("{minutes:.1} minutes, {:.1} of processor time", cpu_time().as_secs_f64() / 60.0);
    if let Some((seed, violation)) = &report.failure {
        say!("again: bidmesh-sim run {seed}");
        return code(violation);
    }
    if stop.load(Ordering::Relaxed) {
        say!("interrupted: the table is of the worlds until then");
        return ExitCode::from(interrupt::EXIT);
    }
    let missing = !report.missing_faults().is_empty() || !report.missing_marks().is_empty();
    if complete && missing {
        say!("incomplete: what never happened was not tested; play more worlds");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn scenario(name: &str, seed: u64, quiet: bool, html: Option<&Path>) -> ExitCode {
    let Some(scenario) = Scenario::find(name) else {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        eprintln!("there is no scenario {name:?}; there are {}", names.join(", "));
        return ExitCode::from(2);
    };
    let plan = scenario.plan(seed);
    say!("{}\n\n{plan}\n", scenario.story);
    let exit = play(World::new(plan, None), seed, quiet, html);
    say!("again: bidmesh-sim scenario {name} --seed {seed}");
    exit
}

fn canary(seeds: u64) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = false;
    for defect in Defect::ALL {
        let words = format!("{}: {}", defect.name(), defect.words());
        match campaign::find(*defect, seeds) {
            Some((seed, violation)) => say!("{words}: found at seed {seed} by {}", violation.rule),
            None => {
                missed = true;
                say!("{words}: NOT FOUND in {seeds} seeds");
            }
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn shrink(seed: u64, defect: Option<Defect>, to: Option<&Path>) -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let whole = campaign::play(seed, Size::Drawn, &Without::default(), defect);
    let Some(violation) = whole.violation else {
        say!("seed {seed} breaks no rule");
        return ExitCode::SUCCESS;
    };
    let story = Story::of(seed, defect, campaign::shrink(seed, violation.rule, defect));
    eprintln!("{violation}\n{} of {} events are left\n{}", story.lines.len(), whole.events, story.plan());
    match to {
        None => say!("{}", story.to_string().trim_end()),
        Some(file) => {
            if write(file, &story.to_string()).is_err() {
                return ExitCode::FAILURE;
            }
            say!("again: bidmesh-sim replay {}", file.display());
        }
    }
    code(&violation)
}

fn replay(file: &Path, quiet: bool, html: Option<&Path>) -> ExitCode {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
    let story: Story = match text.and_then(|text| text.parse()) {
        Ok(story) => story,
        Err(error) => {
            eprintln!("{} cannot be read: {error}", file.display());
            return ExitCode::from(2);
        }
    };
    say!("{}\n", story.plan());
    let played = story.play();
    if !quiet {
        played.lines.iter().for_each(|line| say!("{line}"));
    }
    verdict(&played.summary);
    if let Some(line) = played.differs {
        say!("the code has changed since the file was written: line {line} of the run is another");
    }
    if let Some(file) = html {
        let mut world = World::new(story.plan(), story.defect).drawing();
        let summary = campaign::guarded(story.seed, || world.play());
        if draw(&mut world, &summary, file).is_err() {
            return ExitCode::FAILURE;
        }
    }
    match (played.as_told, &played.summary.violation, &story.breaks) {
        (true, ..) => ExitCode::SUCCESS,
        (false, Some(violation), _) => code(violation),
        (false, None, _) => {
            say!("the file says that {} is broken", story.breaks.as_deref().unwrap_or("nothing"));
            ExitCode::FAILURE
        }
    }
}

fn herd(devices: usize) -> ExitCode {
    let before = resident();
    let mut world = World::new(bidmesh_sim::scenario::herd(devices), None).checking_every(1 << 16);
    let (built, made) = (resident(), cpu_time());
    let summary = campaign::guarded(0, || world.play());
    let took = cpu_time().saturating_sub(made);
    let exit = verdict(&summary);
    say!(
        "{} devices, {} auctions, {} bids: {:.2} s of processor time, {:.1} us a bid, {:.2} us an event",
        devices,
        summary.auctions,
        summary.bids,
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / summary.bids.max(1) as f64,
        took.as_secs_f64() * 1e6 / summary.events.max(1) as f64
    );
    match (before, built, resident()) {
        (Some(before), Some(built), Some(after)) => say!(
            "memory: {:.1} KiB a device at the start, {:.1} KiB at the end, with the world's own books",
            (built - before) as f64 / devices as f64,
            (after - before) as f64 / devices as f64
        ),
        _ => say!("memory: not known on this system"),
    }
    exit
}

fn model(arguments: &ModelArguments) -> ExitCode {
    let ModelArguments { orchestrators, bidders, shells, slow_store, heartbeats, .. } = *arguments;
    let ModelArguments { copies, losses, doubts, lates, wakes, .. } = *arguments;
    let ModelArguments { errors, hangs, crashes, cancels, texts, .. } = *arguments;
    let budgets = Budgets { copies, losses, doubts, lates, wakes, errors, hangs, crashes, cancels, texts };
    let mesh = Mesh { orchestrators, bidders, shells, slow_store, heartbeats, budgets };
    if let Some(address) = arguments.explore {
        say!("{mesh}: http://{address}/ until this is interrupted");
        MeshModel::new(mesh).checker().serve(address);
        return ExitCode::SUCCESS;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let explored = explore(mesh, threads, Duration::from_secs(60 * arguments.minutes));
    say!("{explored}");
    if !explored.broken.is_empty() {
        return ExitCode::from(129);
    }
    if explored.cut_off { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Resident memory in KiB, where the system tells it.
fn resident() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of this process: other programs on the machine do not count.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn speed(sizes: &[usize]) -> ExitCode {
    const LONG: Duration = Duration::from_secs(2);
    say!(
        "                typed messages, sampled checks    every message as bytes, all checks    every input twice, too"
    );
    for devices in sizes {
        let measure = |bytes: bool, twins: bool| {
            let started = cpu_time();
            let (mut events, mut worlds) = (0, 0_u64);
            while cpu_time().saturating_sub(started) < LONG {
                let plan = Plan { seed: worlds, bytes, twins, ..bidmesh_sim::scenario::steady(*devices) };
                let world = World::new(plan, None);
                events += if bytes { world } else { world.checking_every(sampled(*devices)) }.play().events;
                worlds += 1;
            }
            let micros = cpu_time().saturating_sub(started).as_micros().max(1);
            u128::from(events) * 1_000_000 / micros
        };
        let (typed, bytes, twice) = (measure(false, false), measure(true, false), measure(true, true));
        say!("{devices:>6} devices: {typed:>20} events/s {bytes:>26} events/s {twice:>17} events/s");
    }
    ExitCode::SUCCESS
}
