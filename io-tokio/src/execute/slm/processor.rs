//! Whether this processor has what this build was made for. A build with `-C target-cpu=native` dies of an illegal
//! instruction on an older machine; this says before what is missing. The processor itself is asked:
//! `is_x86_feature_detected!` answers from the flags of the build for everything that they name.
//!
//! This code is of that build too, so it is written such that a compiler has no use for a newer instruction: masks that
//! are constants, no shift by a variable, no value wider than a register, no loop that it could make a vector of, no
//! formatting. `.ci/emulation` runs it on old processors.

use std::fmt;
use std::io::Write;

/// This build needs a newer processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessorTooOld {
    /// A bit for each line of the table, the first one lowest.
    missing: u32,
}

const BEFORE: &str = "this bidmesh was built for newer processors: this one lacks ";
const AFTER: &str = "; take the build for all x86-64 processors, or build it on this machine";

impl ProcessorTooOld {
    /// Says it on stderr, as one line that begins with `bidmesh: `, on the very processor that is too old.
    pub fn tell(self) {
        say("bidmesh: ");
        say(BEFORE);
        self.each(say);
        say(AFTER);
        say("\n");
    }

    /// The names of what is missing, and what stands between them.
    fn each(self, mut piece: impl FnMut(&'static str)) {
        let (mut rest, mut bit) = (self.missing, 1_u32);
        for name in names() {
            if rest & bit != 0 {
                piece(name);
                rest = rest.wrapping_sub(bit);
                if rest != 0 {
                    piece(", ");
                }
            }
            bit = bit.wrapping_add(bit);
        }
    }
}

/// Nobody is left to be told that stderr is closed.
#[inline(never)]
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

impl fmt::Display for ProcessorTooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut missing = String::new();
        self.each(|piece| missing.push_str(piece));
        write!(f, "{BEFORE}{missing}{AFTER}")
    }
}

impl std::error::Error for ProcessorTooOld {}

/// Whether this processor has everything that this build may use. To be asked first of all in `main`, which does the
/// rest in a function of its own.
///
/// # Errors
///
/// If it lacks something.
#[inline(never)]
pub fn processor() -> Result<(), ProcessorTooOld> {
    match missing() {
        0 => Ok(()),
        missing => Err(ProcessorTooOld { missing }),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn missing() -> u32 {
    // No build for another kind of processor asks for more than its least one.
    0
}

#[cfg(not(target_arch = "x86_64"))]
fn names() -> impl Iterator<Item = &'static str> {
    std::iter::empty()
}

#[cfg(target_arch = "x86_64")]
fn missing() -> u32 {
    let registers = x86::Registers::read();
    let (mut missing, mut bit) = (0, 1_u32);
    for feature in &x86::FEATURES {
        // What is hidden from the compiler cannot be made a vector of.
        if std::hint::black_box(feature.needed) && !registers.have(feature) {
            missing |= bit;
        }
        bit = bit.wrapping_add(bit);
    }
    missing
}

#[cfg(target_arch = "x86_64")]
fn names() -> impl Iterator<Item = &'static str> {
    x86::FEATURES.iter().map(|feature| feature.name)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::hint::black_box;

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
        mask: u32,
    }

    macro_rules! feature {
        ($name:tt, $register:ident, $bit:literal) => {
            Feature {
                name: $name,
                needed: cfg!(target_feature = $name),
                register: Register::$register,
                mask: 1 << $bit,
            }
        };
    }

    /// What compilers use on their own, and candle's kernels where the build allows it.
    pub(super) static FEATURES: [Feature; 21] = [
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
            // Beyond the last leaf, processors repeat another one.
            let has = |number: u32| number <= __cpuid(number & 0x8000_0000).eax;
            Self {
                basic: if has(1) { black_box(__cpuid(1).ecx) } else { 0 },
                structured: if has(7) { black_box(__cpuid_count(7, 0).ebx) } else { 0 },
                structured_more: if has(7) { black_box(__cpuid_count(7, 0).ecx) } else { 0 },
                extended: if has(0x8000_0001) { black_box(__cpuid(0x8000_0001).ecx) } else { 0 },
            }
        }

        pub(super) fn have(&self, feature: &Feature) -> bool {
            let register = match feature.register {
                Register::Basic => self.basic,
                Register::Structured => self.structured,
                Register::StructuredMore => self.structured_more,
                Register::Extended => self.extended,
            };
            black_box(register) & feature.mask != 0
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

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_missing_is_told_on_one_line() {
        let bit = |name| 1 << x86::FEATURES.iter().position(|feature| feature.name == name).unwrap();
        let error = ProcessorTooOld { missing: bit("avx2") | bit("fma") };
        assert!(error.to_string().contains("this one lacks fma, avx2;"), "{error}");
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
