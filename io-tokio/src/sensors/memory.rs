//! The share of memory in use. `/proc/meminfo` stays readable for applications on Android.

use bidmesh_core::load::Load;

use super::Source;
use super::cpu::ppm;
use super::portable;
use super::root::Root;

const MEMINFO: &str = "proc/meminfo";

/// The share in use, and where it comes from.
pub(super) fn sample(root: &Root) -> (Option<Load>, Source) {
    let why = match root.read(MEMINFO) {
        Ok(text) => match meminfo(&text) {
            Some((load, true)) => return (Some(load), Source::measured("/proc/meminfo")),
            Some((load, false)) => {
                let from = "free memory and caches of /proc/meminfo".into();
                return (
                    Some(load),
                    Source::Estimated { from, why: "the kernel gives no MemAvailable".into() },
                );
            }
            None => format!("/{MEMINFO}: no MemTotal and MemAvailable that can be read"),
        },
        Err(error) => Root::refusal(MEMINFO, &error),
    };
    match portable::memory(root) {
        Some(load) => (Some(load), Source::measured("the sysinfo library")),
        None => (None, Source::unknown(why)),
    }
}

/// The share in use, and whether the kernel itself said what is available.
fn meminfo(text: &str) -> Option<(Load, bool)> {
    let kib = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        rest.trim().trim_end_matches("kB").trim_end().parse().ok()
    };
    let total = kib("MemTotal").filter(|total| *total > 0)?;
    let (available, told) = match kib("MemAvailable") {
        Some(available) => (available, true),
        // Kernels before 3.14.
        None => {
            let caches = kib("Buffers").unwrap_or(0).saturating_add(kib("Cached").unwrap_or(0));
            (kib("MemFree")?.saturating_add(caches), false)
        }
    };
    Some((ppm(total.checked_sub(available)?, total)?, told))
}

#[cfg(test)]
mod tests {
    use super::super::root::fixture::Tree;
    use super::*;

    fn read(text: &str) -> (Option<u32>, Source) {
        let tree = Tree::new();
        tree.write(MEMINFO, text);
        let (load, source) = sample(&tree.root());
        (load.map(Load::ppm), source)
    }

    #[test]
    fn what_is_not_available_is_in_use() {
        let text = "MemTotal:        8000 kB\nMemFree: 100 kB\nMemAvailable:    6000 kB\n";
        assert_eq!(read(text), (Some(250_000), Source::measured("/proc/meminfo")));
    }

    #[test]
    fn old_kernels_are_estimated() {
        let text = "MemTotal: 8000 kB\nMemFree: 1000 kB\nBuffers: 500 kB\nCached: 2500 kB\n";
        let (load, source) = read(text);
        assert_eq!(load, Some(500_000));
        assert!(matches!(source, Source::Estimated { .. }));
    }

    #[test]
    fn garbage_is_unknown() {
        for text in [
            "",
            "MemTotal: 0 kB\nMemAvailable: 0 kB\n",
            "MemTotal: 10 kB\nMemAvailable: 20 kB\n",
            "MemTotal: -8 kB\nMemAvailable: 2 kB\n",
            "MemTotal: 8 kB\n",
            "MemTotal 8\n",
        ] {
            assert_eq!(read(text).0, None, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_is_denied_or_missing_says_so() {
        let tree = Tree::new();
        insta::assert_snapshot!(sample(&tree.root()).1, @"unknown: /proc/meminfo: not there");
        tree.deny(MEMINFO);
        insta::assert_snapshot!(sample(&tree.root()).1, @"unknown: /proc/meminfo: it is no regular file");
    }
}
