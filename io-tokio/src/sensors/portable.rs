//! Systems without /proc (macOS, the BSDs, Windows), through the sysinfo crate. On Linux and Android it reads the
//! files that the other modules read, but says 0 where one is denied: there it is never asked.

use bidmesh_core::load::{DeciCelsius, Load};
use sysinfo::{Components, System};

use super::cpu::ppm;
use super::heat::sane;
use super::root::Root;

const NEEDED: bool = !cfg!(any(target_os = "linux", target_os = "android"));

/// What is kept between two samples; made at the first one.
#[derive(Debug, Default)]
pub(super) struct Portable {
    system: Option<System>,
}

impl Portable {
    /// The load since the last call; `None` where this source is not to be asked, `Some(None)` at the first call.
    pub(super) fn cpu(&mut self, root: &Root) -> Option<Option<Load>> {
        if NEEDED && root.is_system() { self.cpu_anywhere() } else { None }
    }

    fn cpu_anywhere(&mut self) -> Option<Option<Load>> {
        let first = self.system.is_none();
        if first {
            self.system = Some(System::new().ok()?);
        }
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        if system.cpus().is_empty() {
            return None;
        }
        Some((!first).then(|| load(system.global_cpu_usage())).flatten())
    }
}

/// The share of memory in use.
pub(super) fn memory(root: &Root) -> Option<Load> {
    if !(NEEDED && root.is_system()) {
        return None;
    }
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let total = system.total_memory();
    ppm(total.checked_sub(system.available_memory())?, total)
}

/// The hottest component whose label names the processor.
pub(super) fn processor_temperature(root: &Root) -> Option<DeciCelsius> {
    if !(NEEDED && root.is_system()) {
        return None;
    }
    let components = Components::new_with_refreshed_list().ok()?;
    let processors = components.iter().filter(|part| part.label().to_ascii_lowercase().contains("cpu"));
    processors.filter_map(|part| part.temperature()).filter_map(degrees).max()
}

/// A percentage as a load; `None` for NaN and what is out of range.
fn load(percent: f32) -> Option<Load> {
    if !(0.0..=100.5).contains(&percent) {
        return None;
    }
    // 0 to 1,005,000 fits, and the rounding error of a float that small is below one part per million.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let ppm = (percent * 10_000.0) as u32;
    Load::from_ppm(ppm.min(Load::FULL.ppm()))
}

fn degrees(celsius: f32) -> Option<DeciCelsius> {
    if !(-100.0..=1000.0).contains(&celsius) {
        return None;
    }
    // Within the range of the line above.
    #[allow(clippy::cast_possible_truncation)]
    let tenths = (celsius * 10.0) as i16;
    sane(i64::from(tenths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_are_no_share_are_unknown() {
        assert_eq!(load(f32::NAN), None);
        assert_eq!(load(-1.0), None);
        assert_eq!(load(250.0), None);
        assert_eq!(load(50.0), Load::from_ppm(500_000));
        assert_eq!(load(100.4), Some(Load::FULL));
        assert_eq!(degrees(f32::NAN), None);
        assert_eq!(degrees(41.5), Some(DeciCelsius(415)));
    }

    #[test]
    fn the_second_sample_knows_the_load() {
        let mut portable = Portable::default();
        assert_eq!(portable.cpu_anywhere(), Some(None));
        assert!(matches!(portable.cpu_anywhere(), Some(Some(_))));
    }

    #[test]
    fn linux_is_read_by_our_own_eyes() {
        let elsewhere = !cfg!(any(target_os = "linux", target_os = "android"));
        assert_eq!(Portable::default().cpu(&Root::new("/")).is_some(), elsewhere);
        assert_eq!(memory(&Root::new("/")).is_some(), elsewhere);
        assert_eq!(memory(&Root::new("/nowhere")), None);
    }
}
