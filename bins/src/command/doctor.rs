//! `bidmesh doctor`: why the phones are no mesh that answers, and what to do. Gathers facts from adb, the phones and
//! their devices; `diagnose` makes causes of them.

mod diagnose;
mod facts;

use clap::Args;
use serde_json::json;

use crate::cli::Shared;
use crate::exit::{Exit, Failure};
use crate::phones::MapFlag;

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub map: MapFlag,
}

pub async fn run(shared: &Shared, doctor: Doctor) -> Result<Exit, Failure> {
    let output = shared.output();
    output.note("Looking at adb, the phones, and from each phone at the others; this takes some seconds.");
    let facts = facts::gather(&doctor.map).await?;
    let findings = diagnose::diagnose(&facts);
    if output.json {
        output.json(&json!({ "phones": facts.phones.len(), "findings": findings }))?;
    } else if findings.is_empty() {
        output.result(&format!("{} phones, nothing found\n", facts.phones.len()))?;
    } else {
        output.foreign(&diagnose::words(&findings))?;
    }
    // What was found is said; the status is for scripts.
    if findings.is_empty() { Ok(Exit::Ok) } else { Err(Failure::silent(Exit::Failed)) }
}
