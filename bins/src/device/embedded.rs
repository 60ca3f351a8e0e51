//! The embedded model as what runs prompts: by default, if its file is here and nobody has said otherwise, and where
//! `slm` is said without a file.

use std::path::{Path, PathBuf};

use bidmesh_io_tokio::execute::ExecutorSpec;
use bidmesh_io_tokio::files::MeshDirectory;

use crate::exit::Failure;

/// How the embedded model is written as an executor.
const SLM: &str = "slm";

/// The embedded model of a file; `None`: this build has no embedded model.
pub fn spec_of_file(path: &Path) -> Option<ExecutorSpec> {
    if cfg!(feature = "slm") { format!("{SLM}:{}", path.display()).parse().ok() } else { None }
}

/// Whether this build has an embedded model.
pub fn is_built_in() -> bool {
    spec_of_file(Path::new("/")).is_some()
}

/// Whether this is the embedded model.
pub fn is_embedded(spec: &ExecutorSpec) -> bool {
    let written = spec.to_string();
    written == SLM || written.strip_prefix(SLM).is_some_and(|rest| rest.starts_with(':'))
}

/// What runs prompts: what was said, with the file that was fetched where none is named; if nothing was said, the
/// embedded model if it is here, else nothing.
pub fn settle_executor(
    said: Option<ExecutorSpec>,
    directory: &MeshDirectory,
) -> Result<ExecutorSpec, Failure> {
    let here = || fetched(directory).and_then(|path| spec_of_file(&path));
    match said {
        None => Ok(here().unwrap_or_default()),
        Some(spec) if spec.to_string() == SLM => here().ok_or_else(|| {
            Failure::failed(
                "the embedded model is not here: `bidmesh model pull` fetches it, slm:PATH names another",
            )
        }),
        Some(spec) => Ok(spec),
    }
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
