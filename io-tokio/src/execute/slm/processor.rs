//! Whether this processor has what this build was made for. A build with `-C target-cpu=native` dies of an illegal
//! instruction on an older machine; this says before what is missing. The processor itself is asked:
//! `is_x86_feature_detected!` answers from the flags of the build for everything that they name.

use std::fmt;

/// This build needs a newer processor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessorTooOld {
    missing: Vec<&'static str>,
}

impl fmt::Display for ProcessorTooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.missing.join(", ");
        write!(
            f,
            "this bidmesh was built for newer processors: this one lacks {missing}; take the build for all x86-64 \
             processors, or build it on this machine"
        )
    }
}

impl std::error::Error for ProcessorTooOld {}

/// Whether this processor has everything that this build may use. To be asked first of all in `main`.
///
/// # Errors
///
/// If it lacks something.
pub fn processor() -> Result<(), ProcessorTooOld> {
    let missing = missing();
    if missing.is_empty() { Ok(()) } else { Err(ProcessorTooOld { missing }) }
}

#[cfg(not(target_arch = "x86_64"))]
fn missing() -> Vec<&'static str> {
    // No build for another kind of processor asks for more than its least one.
    Vec::new()
}

#[cfg(target_arch = "x86_64")]
fn missing() -> Vec<&'static str> {
    let registers = x86::Registers::read();
    let needed = x86::FEATURES.iter().filter(|feature| feature.needed);
    needed.filter(|feature| !registers.have(feature)).map(|feature| feature.name).collect()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    /// Where CPUID tells of it.
    #[derive(Clone, Copy)]
    pub(super) enum Register {
        /// Leaf 1, ECX.
        Basic,
        /// Leaf 7, EBX.
        Structured,
        /// Leaf 7, ECX.
        StructuredMore,
        /// Leaf 0x8000_0001, ECX.
        Extended,
    }

    pub(super) struct Feature {
        pub(super) name: &'static str,
        /// Whether this build may use it.
        pub(super) needed: bool,
        register: Register,
        bit: u32,
    }

    macro_rules! feature {
        ($name:tt, $register:ident, $bit:literal) => {
            Feature {
                name: $name,
                needed: cfg!(target_feature = $name),
                register: Register::$register,
                bit: $bit,
            }
        };
    }

    /// What compilers use on their own, and candle's kernels where the build allows it.
    pub(super) const FEATURES: [Feature; 21] = [
        feature!("sse3", Basic, 0),
        feature!("ssse3", Basic, 9),
        feature!("fma", Basic, 12),
        feature!("cmpxchg16b", Basic, 13),
        feature!("sse4.1", Basic, 19),
        feature!("sse4.2", Basic, 20),
        feature!("movbe", Basic, 22),
        feature!("popcnt", Basic, 23),
        feature!("avx", Basic, 28),
        feature!("f16c", Basic, 29),
        feature!("bmi1", Structured, 3),
        feature!("avx2", Structured, 5),
        feature!("bmi2", Structured, 8),
        feature!("avx512f", Structured, 16),
        feature!("avx512dq", Structured, 17),
        feature!("avx512cd", Structured, 28),
        feature!("avx512bw", Structured, 30),
        feature!("avx512vl", Structured, 31),
        feature!("avx512vbmi", StructuredMore, 1),
        feature!("avx512vnni", StructuredMore, 11),
        feature!("lzcnt", Extended, 5),
    ];

    /// What CPUID says.
    pub(super) struct Registers {
        basic: u32,
        structured: u32,
        structured_more: u32,
        extended: u32,
    }

    impl Registers {
        pub(super) fn read() -> Self {
            let leaf = |number: u32| {
                // Beyond the last leaf, processors repeat another one.
                let last = __cpuid(number & 0x8000_0000).eax;
                (number <= last).then(|| __cpuid_count(number, 0))
            };
            let basic = leaf(1).map_or(0, |leaf| leaf.ecx);
            let (structured, structured_more) = leaf(7).map_or((0, 0), |leaf| (leaf.ebx, leaf.ecx));
            let extended = leaf(0x8000_0001).map_or(0, |leaf| leaf.ecx);
            Self { basic, structured, structured_more, extended }
        }

        pub(super) const fn have(&self, feature: &Feature) -> bool {
            let register = match feature.register {
                Register::Basic => self.basic,
                Register::Structured => self.structured,
                Register::StructuredMore => self.structured_more,
                Register::Extended => self.extended,
            };
            register & (1 << feature.bit) != 0
        }

        #[cfg(test)]
        pub(super) const fn of_nothing() -> Self {
            Self { basic: 0, structured: 0, structured_more: 0, extended: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_this_test_can_run_this_test() {
        assert_eq!(processor(), Ok(()));
    }

    #[test]
    fn what_is_missing_is_told_on_one_line() {
        let error = ProcessorTooOld { missing: vec!["avx2", "fma"] };
        assert!(error.to_string().contains("this one lacks avx2, fma;"), "{error}");
        assert!(!error.to_string().contains('\n'));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_processor_says_the_same_as_the_kernel() {
        let none = x86::Registers::of_nothing();
        assert!(x86::FEATURES.iter().all(|feature| !none.have(feature)));
        let Ok(told) = std::fs::read_to_string("/proc/cpuinfo") else { return };
        let Some((_, flags)) =
            told.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'))
        else {
            return;
        };
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let registers = x86::Registers::read();
        for feature in &x86::FEATURES {
            let kernel = match feature.name {
                "sse3" => "pni".to_owned(),
                "cmpxchg16b" => "cx16".to_owned(),
                "lzcnt" => "abm".to_owned(),
                "avx512vnni" => "avx512_vnni".to_owned(),
                name => name.replace('.', "_"),
            };
            // The kernel turns some off that the processor has, never the other way round.
            assert!(registers.have(feature) || !flags.contains(&kernel.as_str()), "{}", feature.name);
        }
    }
}
