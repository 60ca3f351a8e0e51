//! Where this user's programs keep their data.

use std::path::PathBuf;

/// The variable that names the place.
pub const VARIABLE: &str = "XDG_DATA_HOME";

/// The folder for the data of bidmesh, by the XDG rules; `None`: this user has no home.
pub fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // A relative path there is to be ignored.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    let data = absolute(VARIABLE).or_else(|| Some(absolute("HOME")?.join(".local/share")))?;
    Some(data.join("bidmesh"))
}

/// A variable of the environment, as [`folder`] asks for it.
pub fn of_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}
