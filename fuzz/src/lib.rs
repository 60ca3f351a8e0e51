//! What the fuzz targets check. `core/tests/fuzz_corpus.rs` compiles the same file, so that plain `cargo test`
//! replays the seeds and every input that ever failed.

pub mod checks;
#[path = "../../core/tests/support/shell.rs"]
mod shell;
pub mod world;
