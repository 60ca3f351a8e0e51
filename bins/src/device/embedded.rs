//! The embedded model as what runs prompts: by default, if its file is here and nobody has said otherwise, and where
//! `slm` is said without a file.

use std::path::PathBuf;

use bidmesh_io_tokio::execute::ExecutorSpec;
use bidmesh_io_tokio::files::MeshDirectory;

use crate::exit::Failure;
use crate::output::Output;
use crate::signals::Signals;

/// Whether this build has an embedded model.
pub const fn is_built_in() -> bool {
    cfg!(feature = "slm")
}

/// Whether this is the embedded model.
pub const fn is_embedded(spec: &ExecutorSpec) -> bool {
    matches!(spec, ExecutorSpec::Slm(_))
}

/// What runs prompts: what was said, with the file that was fetched where none is named; if nothing was said, the
/// embedded model if it is here, else nothing.
pub fn settle_executor(
    said: Option<ExecutorSpec>,
    directory: &MeshDirectory,
) -> Result<ExecutorSpec, Failure> {
    let here = || fetched(directory).map(|path| ExecutorSpec::Slm(Some(path)));
    match said {
        None => Ok(here().unwrap_or_default()),
        Some(ExecutorSpec::Slm(None)) => here().ok_or_else(|| {
            Failure::failed(
                "the embedded model is not here: `bidmesh model pull` fetches it, slm:PATH names another",
            )
        }),
        Some(spec) => Ok(spec),
    }
}

/// Fetches the demonstration model if it is not here: after asking a person, or without if `yes`. Whether it is still
/// not here, since nobody wanted it or nobody was there to be asked.
#[cfg(feature = "slm")]
pub async fn offer_a_model(
    directory: &MeshDirectory,
    output: &Output,
    yes: bool,
    signals: &mut Signals,
) -> Result<bool, Failure> {
    use crate::command::model::{Offer, Shelf, offer};
    Ok(offer(&Shelf::of(directory)?, output, yes, signals).await? == Offer::Declined)
}

/// Never called: see [`is_built_in`].
#[cfg(not(feature = "slm"))]
pub async fn offer_a_model(_: &MeshDirectory, _: &Output, _: bool, _: &mut Signals) -> Result<bool, Failure> {
    Ok(false)
}

/// The demonstration model's file, if it was fetched.
#[cfg(feature = "slm")]
fn fetched(directory: &MeshDirectory) -> Option<PathBuf> {
    crate::command::model::Shelf::of(directory).ok()?.default_model()
}

#[cfg(not(feature = "slm"))]
fn fetched(_: &MeshDirectory) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_counts_and_nothing_said_is_nothing_without_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let directory = MeshDirectory::open(folder.path()).unwrap();
        assert_eq!(settle_executor(Some(ExecutorSpec::StandIn), &directory), Ok(ExecutorSpec::StandIn));
        assert!(!is_embedded(&ExecutorSpec::StandIn) && !is_embedded(&ExecutorSpec::None));
        assert!(!is_embedded(&"command:/slm:x".parse().unwrap()));
    }
}
