//! Ctrl-C and SIGTERM in a swarm: the first asks it to end and to tell what it has seen, the second ends the program.

use std::io::{self, Write as _};
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The exit code of whoever was interrupted: 128 + SIGINT.
pub(crate) const EXIT: u8 = 130;

/// Becomes true at the first signal after this. Fails if the system gives no handler: then a signal ends the program.
pub(crate) fn asked() -> io::Result<&'static AtomicBool> {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let signals = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(move || {
        let (mut interrupt, mut terminate) = signals;
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if ASKED.swap(true, Ordering::Relaxed) {
                    exit(EXIT.into());
                }
                let words =
                    "interrupted: worlds under way are played to their end; once more ends this at once";
                // Whoever reads no longer is told nothing; the next signal counts all the same.
                let _ = writeln!(io::stderr(), "\n{words}");
            }
        })
    });
    Ok(&ASKED)
}
