//! The processor's load: the share in use between two samples, by the best source that this system lets us read.
//!
//! The ladder: `/proc/stat`; the time that each core spent at each frequency; the load average; unknown. Android
//! denies the first to applications since version 8, some containers fill it with zeros. A rung that has failed is
//! tried again each time: a file costs microseconds, and a person may start the same binary as another user.

use bidmesh_core::load::Load;

use super::Source;
use super::portable::Portable;
use super::root::Root;

/// With fewer ticks (1/100 s each, of all cores together) between two samples the share would be noise.
const TICKS_MIN: u64 = 10;
/// No machine that runs this has more processors; what a file says beyond is garbage.
const PROCESSORS_MAX: usize = 4096;

const STAT: &str = "proc/stat";
const CPUS: &str = "sys/devices/system/cpu";
const LOAD_AVERAGE: &str = "proc/loadavg";

/// Remembers the last sample of each rung.
#[derive(Debug, Default)]
pub(super) struct CpuProbe {
    stat: Window,
    frequency: Window,
    portable: Portable,
}

impl CpuProbe {
    /// The load since the last sample, and where it comes from. The first sample of a rung that counts yields none.
    pub(super) fn sample(&mut self, root: &Root) -> (Option<Load>, Source) {
        let denied = match stat(root) {
            Ok(counters) => return (self.stat.share(counters), Source::measured("/proc/stat")),
            Err(why) => why,
        };
        if let Some(counters) = frequency(root) {
            let from = "cpufreq/stats/time_in_state of each core".into();
            return (self.frequency.share(counters), Source::Estimated { from, why: denied });
        }
        if let Some(load) = self.portable.cpu(root) {
            return (load, Source::measured("the sysinfo library"));
        }
        match load_average(root) {
            Ok((load, from)) => (Some(load), Source::Estimated { from, why: denied }),
            Err(why) => (None, Source::unknown(format!("{denied}; no cpufreq statistics; {why}"))),
        }
    }
}

/// How much there was and how much of it was in use, since some fixed moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counters {
    busy: u64,
    total: u64,
}

/// Turns counters into shares.
#[derive(Debug, Default)]
struct Window {
    base: Option<Counters>,
    last: Option<Load>,
}

impl Window {
    fn share(&mut self, now: Counters) -> Option<Load> {
        let Some(base) = self.base else {
            self.base = Some(now);
            return None;
        };
        match now.total.checked_sub(base.total) {
            // Too soon: the last share still holds, the window grows.
            Some(total) if total < TICKS_MIN => return self.last,
            Some(total) => {
                // Single counters may step back a little (iowait does); the share is 0 then, which is close.
                let busy = now.busy.saturating_sub(base.busy).min(total);
                self.last = ppm(busy, total);
            }
            // A core was taken away, or the counters began anew.
            None => self.last = None,
        }
        self.base = Some(now);
        self.last
    }
}

/// `part` of `whole` as a load.
pub(super) fn ppm(part: u64, whole: u64) -> Option<Load> {
    let ppm = u128::from(part).checked_mul(1_000_000)?.checked_div(u128::from(whole))?;
    Load::from_ppm(u32::try_from(ppm).ok()?)
}

/// The first line of `/proc/stat`, or why it is of no use.
fn stat(root: &Root) -> Result<Counters, String> {
    let text = root.read(STAT).map_err(|error| Root::refusal(STAT, &error))?;
    let garbage = || format!("/{STAT}: no cpu line that can be read");
    let line = text.lines().find_map(|line| line.strip_prefix("cpu ")).ok_or_else(garbage)?;
    // user nice system idle iowait irq softirq steal; guest times that follow are part of user already.
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| garbage())?;
    let idle = fields.get(3).ok_or_else(garbage)?.saturating_add(fields.get(4).copied().unwrap_or(0));
    let total = fields.iter().fold(0_u64, |sum, field| sum.saturating_add(*field));
    if total == 0 {
        return Err(format!("/{STAT}: all counters are zero"));
    }
    Ok(Counters { busy: total.saturating_sub(idle), total })
}

/// Per core: the time at each frequency since boot, in ticks. Time at the lowest frequency counts as idle, at the
/// highest as busy, between them in proportion: governors follow the load.
fn frequency(root: &Root) -> Option<Counters> {
    let mut sum = Counters { busy: 0, total: 0 };
    for name in root.names(CPUS).iter().filter(|name| is_core(name)).take(PROCESSORS_MAX) {
        let Some(table) = root.word(&format!("{CPUS}/{name}/cpufreq/stats/time_in_state")) else { continue };
        let Some(core) = time_in_state(&table) else { continue };
        sum.busy = sum.busy.saturating_add(core.busy);
        sum.total = sum.total.saturating_add(core.total);
    }
    (sum.total > 0).then_some(sum)
}

fn is_core(name: &str) -> bool {
    name.strip_prefix("cpu").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// One core's table, `FREQUENCY TICKS` a line; `None` if it is garbage or knows one frequency only.
fn time_in_state(table: &str) -> Option<Counters> {
    let rows: Vec<(u64, u64)> = table
        .lines()
        .map(|line| {
            let (frequency, ticks) = line.trim().split_once(' ')?;
            Some((frequency.parse().ok()?, ticks.trim().parse().ok()?))
        })
        .collect::<Option<_>>()?;
    let low = rows.iter().map(|(frequency, _)| *frequency).min()?;
    let high = rows.iter().map(|(frequency, _)| *frequency).max()?;
    let range = u128::from(high.checked_sub(low).filter(|range| *range > 0)?);
    let (mut busy, mut total) = (0_u128, 0_u64);
    for (frequency, ticks) in rows {
        busy = busy.checked_add(u128::from(ticks).checked_mul(u128::from(frequency - low))?)?;
        total = total.checked_add(ticks)?;
    }
    Some(Counters { busy: u64::try_from(busy / range).ok()?, total })
}

/// The load average of the last minute by processor, and where it comes from. It also counts what waits for
/// disks, so it errs on the busy side.
fn load_average(root: &Root) -> Result<(Load, String), String> {
    let processors = processors(root).ok_or("the number of processors is unknown")?;
    let (millionths, from) = match root.read(LOAD_AVERAGE) {
        Ok(text) => {
            let first = text.split_ascii_whitespace().next().unwrap_or("");
            let load = bidmesh_core::load::decimal(first, 6);
            (load.ok_or_else(|| format!("/{LOAD_AVERAGE}: no number"))?, "/proc/loadavg")
        }
        Err(error) => {
            let denied = Root::refusal(LOAD_AVERAGE, &error);
            (load_by_system_call(root).ok_or(denied)?, "sysinfo(2)")
        }
    };
    let whole = u64::try_from(processors).unwrap_or(u64::MAX).saturating_mul(1_000_000);
    let load = ppm(millionths.min(whole), whole).ok_or("the load average is out of range")?;
    Ok((load, format!("the load average of {from} over {processors} processors")))
}

/// The load of the last minute in millionths, by a system call that Android leaves to applications.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn load_by_system_call(root: &Root) -> Option<u64> {
    // The field is 32 bits wide on 32-bit boards.
    #[allow(clippy::useless_conversion)]
    let load = u64::from(*root.is_system().then(rustix::system::sysinfo)?.loads.first()?);
    // The kernel counts in 65,536ths.
    load.checked_mul(1_000_000).map(|scaled| scaled >> 16)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn load_by_system_call(_root: &Root) -> Option<u64> {
    None
}

/// How many processors are there. Never 0: a phone that says so does not let us know.
fn processors(root: &Root) -> Option<usize> {
    for list in ["online", "present", "possible"] {
        if let Some(count) = root.word(&format!("{CPUS}/{list}")).and_then(|text| count(&text)) {
            return Some(count);
        }
    }
    let cores = root.names(CPUS).iter().filter(|name| is_core(name)).count();
    match cores {
        0 if root.is_system() => std::thread::available_parallelism().ok().map(usize::from),
        0 => None,
        cores => Some(cores.min(PROCESSORS_MAX)),
    }
}

/// How many numbers a kernel list like `0-3,6` holds.
fn count(list: &str) -> Option<usize> {
    let mut sum = 0_usize;
    for part in list.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        sum = sum.checked_add(to.checked_sub(from)?.checked_add(1)?)?;
    }
    (1..=PROCESSORS_MAX).contains(&sum).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;

    fn share(probe: &mut CpuProbe, tree: &Tree) -> (Option<u32>, Source) {
        let (load, source) = probe.sample(&tree.root());
        (load.map(Load::ppm), source)
    }

    #[test]
    fn proc_stat_gives_the_share_between_two_samples() {
        let tree = Tree::new();
        let mut probe = CpuProbe::default();
        tree.write(STAT, "cpu  100 0 100 700 100 0 0 0 55 0\ncpu0 1 2 3 4\n");
        assert_eq!(share(&mut probe, &tree), (None, Source::measured("/proc/stat")));
        tree.write(STAT, "cpu  130 0 100 760 110 0 0 0 99 0\n");
        assert_eq!(share(&mut probe, &tree).0, Some(300_000));
        // Three ticks later the share of the last window still holds …
        tree.write(STAT, "cpu  133 0 100 760 110 0 0 0 99 0\n");
        assert_eq!(share(&mut probe, &tree).0, Some(300_000));
        // … and the window goes on from where it began.
        tree.write(STAT, "cpu  150 0 100 760 110 0 0 0 99 0\n");
        assert_eq!(share(&mut probe, &tree).0, Some(1_000_000));
        // Ten ticks are enough.
        tree.write(STAT, "cpu  150 0 100 770 110 0 0 0 99 0\n");
        assert_eq!(share(&mut probe, &tree).0, Some(0));
    }

    #[test]
    fn counters_that_begin_anew_are_unknown_once() {
        let tree = Tree::new();
        let mut probe = CpuProbe::default();
        for (text, expected) in [
            ("cpu 500 0 0 500 0 0 0 0", None),
            ("cpu 10 0 0 10 0 0 0 0", None),
            ("cpu 20 0 0 40 0 0 0 0", Some(250_000)),
        ] {
            tree.write(STAT, text);
            assert_eq!(share(&mut probe, &tree).0, expected, "{text}");
        }
    }

    #[test]
    fn zeros_in_proc_stat_are_not_taken_for_an_idle_processor() {
        for useless in ["cpu  0 0 0 0 0 0 0 0 0 0\n", "", "cpu  a b c d\n", "cpu  1 2\n", "intr 5\n"] {
            let tree = Tree::new();
            tree.write(STAT, useless);
            tree.write(LOAD_AVERAGE, "1.00 0.50 0.20 1/100 4242\n");
            tree.write("sys/devices/system/cpu/online", "0-3\n");
            let (load, source) = share(&mut CpuProbe::default(), &tree);
            assert_eq!(load, Some(250_000), "{useless:?}");
            assert!(matches!(source, Source::Estimated { .. }), "{useless:?}: {source}");
        }
    }

    #[test]
    fn where_proc_stat_is_denied_the_time_in_each_frequency_counts() {
        let tree = Tree::new();
        tree.deny(STAT);
        let table = "sys/devices/system/cpu/cpu0/cpufreq/stats/time_in_state";
        tree.write("sys/devices/system/cpu/cpufreq/policy0/affected_cpus", "0");
        tree.write(table, "300000 1000\n1000000 500\n1700000 20\n");
        let mut probe = CpuProbe::default();
        assert_eq!(share(&mut probe, &tree).0, None);
        // 50 ticks at the lowest, 100 in the middle, 50 at the highest frequency.
        tree.write(table, "300000 1050\n1000000 600\n1700000 70\n");
        let (load, source) = share(&mut probe, &tree);
        assert_eq!(load, Some(500_000));
        insta::assert_snapshot!(source, @"estimated from cpufreq/stats/time_in_state of each core (/proc/stat: it is no regular file)");
    }

    #[test]
    fn a_core_with_one_frequency_or_a_garbled_table_tells_nothing() {
        for table in ["1000000 500\n", "", "300000\n", "a b\n300000 1\n", "300000 1\n300000 2\n"] {
            assert_eq!(time_in_state(table), None, "{table:?}");
        }
        let huge = format!("1 {}\n{} {}\n", u64::MAX, u64::MAX, u64::MAX);
        assert_eq!(time_in_state(&huge), None);
    }

    #[test]
    fn with_nothing_to_read_the_load_is_unknown_and_says_why() {
        let tree = Tree::new();
        let (load, source) = share(&mut CpuProbe::default(), &tree);
        assert_eq!(load, None);
        insta::assert_snapshot!(source, @"unknown: /proc/stat: not there; no cpufreq statistics; the number of processors is unknown");
        // Zero processors and a load of 0.0, which is what a library makes of a denied /proc/stat, is no idle device.
        tree.write(LOAD_AVERAGE, "0.00 0.00 0.00 1/1 1\n");
        assert_eq!(share(&mut CpuProbe::default(), &tree).0, None);
    }

    #[test]
    fn a_load_average_above_the_number_of_processors_is_full() {
        let tree = Tree::new();
        tree.write("sys/devices/system/cpu/present", "0-1,4");
        for (text, expected) in
            [("1.5", Some(500_000)), ("97.2", Some(1_000_000)), ("nan", None), ("-1", None), ("", None)]
        {
            tree.write(LOAD_AVERAGE, text);
            assert_eq!(share(&mut CpuProbe::default(), &tree).0, expected, "{text:?}");
        }
    }

    #[test]
    fn where_no_list_names_the_processors_their_folders_are_counted() {
        let tree = Tree::new();
        for name in ["cpu0", "cpu1", "cpufreq", "cpuidle", "cpu", "power"] {
            tree.write(&format!("{CPUS}/{name}/x"), "");
        }
        tree.write(LOAD_AVERAGE, "1.00");
        assert_eq!(share(&mut CpuProbe::default(), &tree).0, Some(500_000));
    }

    #[test]
    fn kernel_lists_are_counted() {
        for (list, expected) in [
            ("0", Some(1)),
            ("0-7", Some(8)),
            ("0-3,6", Some(5)),
            ("", None),
            ("3-0", None),
            ("0-", None),
            ("0-99999999999", None),
        ] {
            assert_eq!(count(list), expected, "{list:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_running_system_answers_the_system_call() {
        let load = load_by_system_call(&Root::new("/")).unwrap();
        assert!(load < 100_000 * 1_000_000, "{load} millionths: no machine has so many processes");
        assert_eq!(load_by_system_call(&Root::new("/nowhere")), None);
    }
}
