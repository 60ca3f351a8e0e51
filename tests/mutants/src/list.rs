//! The mutants, as cargo-mutants lists them.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::Failed;

/// A change of core. Its number is its place in the list, from one.
#[derive(Clone, Debug, Deserialize)]
pub struct Mutant {
    /// Unique, and the same in the next list as long as the code stands where it stood.
    pub name: String,
    pub file: String,
    pub genre: Genre,
    pub replacement: String,
    pub span: Span,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum Genre {
    FnValue,
    BinaryOperator,
    UnaryOperator,
    MatchArm,
    MatchArmGuard,
    StructField,
}

/// What is replaced.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Span {
    pub start: Place,
    pub end: Place,
}

/// Both from one; columns count characters.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// Its byte in `text`.
    pub fn offset(self, text: &str) -> usize {
        let line: usize = text.split_inclusive('\n').take(self.line - 1).map(str::len).sum();
        let column: usize = text[line..].chars().take(self.column - 1).map(char::len_utf8).sum();
        line + column
    }
}

/// All mutants of core in `tree`.
pub fn of_core(tree: &Path) -> Result<Vec<Mutant>, Failed> {
    let output = Command::new("cargo")
        .args(["mutants", "--list", "--json", "--package", "bidmesh-core"])
        .current_dir(tree)
        .output()
        .map_err(|error| format!("cargo mutants: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo mutants --list: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the list of cargo mutants: {error}"))
}
