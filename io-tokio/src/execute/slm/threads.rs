//! How many threads compute. candle's threads wait for each other by spinning: with as many as there are processors
//! and one of those busy elsewhere, a model runs ten times slower than on one thread. So there is one thread where
//! something else is sure to run, and one processor is left free elsewhere.

use std::ffi::OsStr;
use std::io;
use std::thread::available_parallelism;

/// More threads than this only wait for the memory.
const THREADS_MAX: usize = 4;
/// What candle and its thread pool read, once, when they first compute.
const VARIABLES: [&str; 2] = ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"];

/// The number of threads where nobody says anything: one on phones, on boards and in CI, else one less than there
/// are processors, four at most.
pub fn default_threads() -> usize {
    // The binary for phones is an aarch64 Linux one.
    let phone = cfg!(any(target_os = "android", all(target_os = "linux", target_arch = "aarch64")));
    let continuous_integration = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false");
    if phone || continuous_integration {
        return 1;
    }
    available_parallelism().map_or(1, |processors| (processors.get() - 1).clamp(1, THREADS_MAX))
}

/// Makes the model compute on `wanted` threads, or on [`default_threads`] unless the environment says how many.
///
/// The number can only be told through the environment, and no running program can change its own safely: where
/// the environment says something else, this program is started again in its own place, with the same arguments and
/// the same process id. So this is the first thing that `main` does; it returns if there is nothing to change.
///
/// # Errors
///
/// If the program cannot be started again. It can go on as it is: only the speed is another.
#[cfg(unix)]
pub fn settle_threads(wanted: Option<usize>) -> io::Result<()> {
    use std::os::unix::process::CommandExt;

    let said = VARIABLES.map(std::env::var_os);
    let Some(threads) = to_set(wanted, said.each_ref().map(Option::as_deref)) else { return Ok(()) };
    let mut arguments = std::env::args_os();
    let mut program = std::process::Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    Err(program.args(arguments).envs(VARIABLES.map(|variable| (variable, threads.to_string()))).exec())
}

/// The number to set; `None`: it is right as it is.
fn to_set(wanted: Option<usize>, said: [Option<&OsStr>; 2]) -> Option<usize> {
    match wanted {
        Some(threads) => {
            let threads = threads.max(1);
            let right = |said: Option<&OsStr>| said.is_some_and(|said| said == threads.to_string().as_str());
            if said.into_iter().all(right) { None } else { Some(threads) }
        }
        None if said.iter().any(Option::is_some) => None,
        None => Some(default_threads()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_changed_only_where_it_must_be() {
        let said = |said: [&'static str; 2]| {
            said.map(|said| Some(said).filter(|said| !said.is_empty()).map(OsStr::new))
        };
        assert_eq!(to_set(None, said(["", ""])), Some(default_threads()));
        assert_eq!(to_set(None, said(["3", ""])), None);
        assert_eq!(to_set(None, said(["", "3"])), None);
        assert_eq!(to_set(Some(2), said(["3", "3"])), Some(2));
        assert_eq!(to_set(Some(2), said(["2", ""])), Some(2));
        // What was set is right the next time, so that no program starts itself for ever.
        assert_eq!(to_set(Some(2), said(["2", "2"])), None);
        assert_eq!(to_set(Some(0), said(["1", "1"])), None);
        assert!((1..=THREADS_MAX).contains(&default_threads()));
    }
}
