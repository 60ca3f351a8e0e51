//! The settings of a world's devices: the defaults, some at their extremes, and in a share of the worlds any of them drawn
//! anew within the bounds that a person may choose from (`io-tokio/src/files/settings/table.rs`).

use std::collections::BTreeSet;
use std::time::Duration;

use bidmesh_core::Config;
use bidmesh_core::config::{Admit, AtLimit, Detection, Limits, Timing, Work};
use bidmesh_core::load::{DeciCelsius, Percent};
use bidmesh_core::policy::Policy;
use bidmesh_core::wire::TASK_TYPE_INFERENCE;

use super::choices::Choices;

/// The settings of all devices of a seed. `odd`: at their extremes.
pub(super) fn draw(seed: u64, odd: bool, devices: usize) -> Config {
    let mut config = of_all(&mut Choices::split(seed, "settings"), odd);
    resting(&mut Choices::split(seed, "politeness"), &mut config);
    config.timing.hedge = Duration::from_secs(Choices::split(seed, "hedging").pick([0, 0, 0, 1, 4]));
    config.detection = detecting(&mut Choices::split(seed, "detection"), odd, devices);
    config
}

/// The settings of all devices: the defaults, or extremes of them.
fn of_all(choices: &mut Choices, odd: bool) -> Config {
    let mut config = Config::default();
    config.work.slots = choices.pick([1, 1, 2, 4]);
    config.limits.decisions = 8;
    config.prompt_in_bid_request = choices.percent(10);
    if choices.percent(20) {
        config.policy = Policy::Weighted;
    }
    if !odd {
        return config;
    }
    let s = Duration::from_secs;
    config.admit = choices.pick([Admit::Hello, Admit::Hello, Admit::Listed, Admit::Any]);
    config.timing.bid_deadline = choices.pick([s(3), s(10), s(60)]);
    config.timing.patience = choices.pick([Duration::ZERO, s(1), s(5)]);
    config.timing.busy_pause = choices.pick([Duration::ZERO, s(2), s(20)]);
    config.timing.result_timeout = choices.pick([s(5), s(60), s(300)]);
    config.timing.run_limit = choices.pick([s(60), s(600), s(1800)]);
    config.timing.belief = choices.pick([Duration::ZERO, s(5), s(30)]);
    config.timing.progress_interval = choices.pick([Duration::ZERO, Duration::from_millis(100), s(5)]);
    config.timing.ageing = choices.pick([Duration::ZERO, s(30), s(3600)]);
    config.limits.attempts = choices.pick([1, 2, 3, 10]);
    config.limits.auctions = choices.pick([1, 5, 20]);
    config.limits.tasks = choices.pick([2, 20, 10_000]);
    config.limits.tasks_per_client = choices.pick([1, 5, 8_000]);
    config.limits.closed_tasks = choices.pick([1, 4, 1024]);
    config.limits.tombstones = choices.pick([1, 16, 4096]);
    config.limits.kept_results = choices.pick([1, 3, 64]);
    config.limits.outgoing = choices.pick([8, 64, 4096]);
    config.limits.pieces = choices.pick([1, 64]);
    config.limits.output_bytes = choices.pick([64, 4096, 1 << 20]);
    config.limits.decision_lines = choices.pick([1, 1024]);
    config
}

/// When devices rest besides what everybody does: in a fifth of the worlds outside hours of their own.
fn resting(choices: &mut Choices, config: &mut Config) {
    if choices.percent(20) {
        let hours = choices.pick(["22:00-06:00", "08:00-12:00, 13:00-18:00"]);
        config.work.hours = hours.parse().unwrap_or_default();
    }
    if choices.percent(50) {
        config.work.at_limit = AtLimit::HandBack;
    }
}

/// Devices that give each other signs of life: among more those would be most of what happens.
pub(crate) const HEARTBEATS_AMONG: usize = 24;

/// How deaths are noticed: in a quarter of the worlds by heartbeats, too.
fn detecting(choices: &mut Choices, odd: bool, devices: usize) -> Detection {
    let s = Duration::from_secs;
    let mut detection = Detection::default();
    let heartbeat = choices.pick([0, 0, 0, 0, 0, 0, 10, 30]);
    detection.heartbeat = if devices <= HEARTBEATS_AMONG { s(heartbeat) } else { Duration::ZERO };
    if odd {
        (detection.suspect, detection.gone) = choices.pick([(1, 1), (1, 12), (5, 10), (12, 12)]);
        detection.unreachable = choices.pick([Duration::ZERO, s(1), s(120)]);
        detection.damping = choices.pick([Duration::ZERO, s(1), s(120), s(3600)]);
    }
    detection
}

/// Draws about a quarter of the settings anew.
pub(super) fn anew(choices: &mut Choices, config: &mut Config) {
    if choices.percent(25) {
        config.admit = choices.pick([Admit::Hello, Admit::Listed, Admit::Any]);
    }
    if choices.percent(25) {
        config.prompt_in_bid_request ^= true;
    }
    rhythm(choices, &mut config.detection);
    work(choices, &mut config.work);
    waiting(choices, &mut config.timing);
    repeating(choices, &mut config.timing);
    limits(choices, &mut config.limits);
    // Pairs of which the first must not be more than the second.
    let (timing, limits) = (&mut config.timing, &mut config.limits);
    timing.retry_high = timing.retry_high.max(timing.retry_low);
    timing.busy_pause_max = timing.busy_pause_max.max(timing.busy_pause);
    timing.result_offer_max = timing.result_offer_max.max(timing.result_offer);
    timing.progress_deadline = timing.progress_deadline.max(timing.heartbeat);
    timing.run_limit = timing.run_limit.max(timing.result_timeout);
    limits.tasks = limits.tasks.max(limits.tasks_per_client);
}

/// One of these milliseconds, if this setting is drawn anew at all.
fn time<const N: usize>(choices: &mut Choices, setting: &mut Duration, of: [u64; N]) {
    let (drawn, time) = (choices.percent(25), choices.pick(of));
    if drawn {
        *setting = Duration::from_millis(time);
    }
}

fn size<const N: usize>(choices: &mut Choices, setting: &mut usize, of: [usize; N]) {
    let (drawn, size) = (choices.percent(25), choices.pick(of));
    if drawn {
        *setting = size;
    }
}

/// Whether there are signs of life at all is for all devices alike.
fn rhythm(choices: &mut Choices, detection: &mut Detection) {
    let without = detection.heartbeat.is_zero();
    time(choices, &mut detection.heartbeat, [5_000, 60_000, 3_600_000]);
    if without {
        detection.heartbeat = Duration::ZERO;
    }
    time(choices, &mut detection.unreachable, [0, 1_000, 7_200_000]);
    time(choices, &mut detection.damping, [0, 1_000, 3_600_000]);
    if choices.percent(25) {
        (detection.suspect, detection.gone) = choices.pick([(1, 1), (1, 12), (12, 12)]);
    }
}

fn work(choices: &mut Choices, work: &mut Work) {
    if choices.percent(25) {
        work.slots = choices.pick([1, 3, 256]);
    }
    if choices.percent(25) {
        work.battery_min = Percent::new(choices.pick([0, 50, 100])).unwrap_or(work.battery_min);
    }
    if choices.percent(25) {
        work.heat_max = DeciCelsius(choices.pick([0, 420, 1_000]));
    }
    if choices.percent(10) {
        let types = choices.pick([&[][..], &["translation"], &["translation", TASK_TYPE_INFERENCE]]);
        work.task_types = types.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    }
}

/// How long is waited for what. Days and weeks of it would be longer than a world.
fn waiting(choices: &mut Choices, timing: &mut Timing) {
    time(choices, &mut timing.bid_deadline, [100, 3_000, 600_000]);
    time(choices, &mut timing.patience, [10, 5_000, 600_000]);
    time(choices, &mut timing.patience_shell, [10, 500, 600_000]);
    time(choices, &mut timing.patience_refused, [10, 10_000, 600_000]);
    time(choices, &mut timing.award_send, [500, 2_000, 600_000]);
    time(choices, &mut timing.accept, [200, 2_000, 600_000]);
    time(choices, &mut timing.query, [10, 500, 600_000]);
    time(choices, &mut timing.result_timeout, [1_000, 20_000, 1_800_000]);
    time(choices, &mut timing.run_limit, [1_000, 20_000, 3_600_000]);
    time(choices, &mut timing.shell_probe_patience, [100, 1_000, 600_000]);
    time(choices, &mut timing.shell_busy, [1_000, 60_000, 7_200_000]);
    time(choices, &mut timing.belief, [100, 5_000, 3_600_000]);
    time(choices, &mut timing.bid_validity, [100, 2_000, 3_600_000]);
    time(choices, &mut timing.duplicate_window, [0, 1_000, 600_000]);
    time(choices, &mut timing.ageing, [100, 1_000, 7_200_000]);
    time(choices, &mut timing.lateness, [100, 10_000, 600_000]);
    time(choices, &mut timing.result_kept, [1_000, 60_000, 7_200_000]);
    time(choices, &mut timing.hedge, [0, 100, 600_000]);
}

/// How often something is said again. What costs an event each time has a floor: a tenth of a second of signs of life in an
/// hour's run is a world of nothing else.
fn repeating(choices: &mut Choices, timing: &mut Timing) {
    time(choices, &mut timing.heartbeat, [1_000, 2_000, 600_000]);
    time(choices, &mut timing.progress_deadline, [1_000, 60_000, 3_600_000]);
    time(choices, &mut timing.progress_interval, [10, 1_000, 60_000]);
    time(choices, &mut timing.shell_probe, [100, 1_000, 600_000]);
    time(choices, &mut timing.busy_pause, [10, 1_000, 600_000]);
    time(choices, &mut timing.busy_pause_max, [1_000, 60_000, 3_600_000]);
    time(choices, &mut timing.retry_low, [20, 200, 60_000]);
    time(choices, &mut timing.retry_high, [100, 1_000, 60_000]);
    time(choices, &mut timing.try_limit, [500, 5_000, 600_000]);
    time(choices, &mut timing.notice_send, [10, 1_000, 600_000]);
    time(choices, &mut timing.retry_after, [10, 500, 600_000]);
    time(choices, &mut timing.result_offer, [100, 5_000, 600_000]);
    time(choices, &mut timing.result_offer_max, [5_000, 30_000, 3_600_000]);
    time(choices, &mut timing.hello_interval, [100, 1_000, 3_600_000]);
}

fn limits(choices: &mut Choices, limits: &mut Limits) {
    size(choices, &mut limits.removed_peers, [0, 1, 100_000]);
    size(choices, &mut limits.tasks, [1, 10, 1_000_000]);
    size(choices, &mut limits.tasks_per_client, [1, 2, 10_000]);
    size(choices, &mut limits.closed_tasks, [0, 2, 1_000_000]);
    size(choices, &mut limits.closed_bytes, [0, 500, 1 << 30]);
    size(choices, &mut limits.prompt_bytes, [1, 100, 1 << 26]);
    size(choices, &mut limits.shell_prompt_bytes, [1, 100, 1 << 17]);
    size(choices, &mut limits.output_bytes, [1, 400, 1 << 28]);
    size(choices, &mut limits.pieces, [1, 3, 65_536]);
    size(choices, &mut limits.outgoing, [16, 64, 1_000_000]);
    size(choices, &mut limits.kept_results, [1, 2, 65_536]);
    size(choices, &mut limits.tombstones, [1, 8, 1_000_000]);
    size(choices, &mut limits.decisions, [1, 2, 64]);
    size(choices, &mut limits.decision_lines, [1, 8, 65_536]);
    if choices.percent(25) {
        limits.attempts = choices.pick([1, 2, 100]);
    }
    if choices.percent(25) {
        limits.auctions = choices.pick([1, 2, 100]);
    }
}
