//! `bidmesh setup`: makes the attached phones devices of one mesh that answers. Looks at all of them, shows a plan,
//! does it phone by phone (all at once; what fails on one stops only that one), and asks each a prompt.

mod apply;
mod change;
mod look;
mod try_out;

use std::path::PathBuf;
use std::time::Duration;

use bidmesh_io_tokio::files::DeviceMap;
use clap::Args;
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::json;

use crate::adb::Adb;
use crate::cli::Shared;
use crate::device::of_files;
use crate::duration;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::phones::plan::{self, Backend, Npu, Plan, What};
use crate::phones::remote::Remote;
use crate::phones::{MapFlag, failed};
use crate::question::yes_or_no;

/// Flags of `setup`.
#[derive(Debug, Args)]
pub struct Setup {
    #[command(flatten)]
    pub map: MapFlag,
    /// Only these phones, by serial number or by the name that the device map has for them
    #[arg(value_name = "PHONE")]
    pub phones: Vec<String>,
    /// Show what would be done, do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    pub yes: bool,
    /// The program for the phones [default: bidmesh-TARGET beside this executable, else in the data directory]
    #[arg(long, value_name = "FILE")]
    pub binary: Option<PathBuf>,
    /// The model for phones that have nothing to run prompts [default: the one that `bidmesh model pull` fetched]
    #[arg(long, value_name = "GGUF")]
    pub model: Option<PathBuf>,
    /// Prepare the files of shell devices, so that they know the others by their addresses of today; push no program
    #[arg(long, conflicts_with_all = ["binary", "model"])]
    pub shell_only: bool,
    /// Do not start the devices
    #[arg(long)]
    pub no_start: bool,
    /// What each phone is asked at the end
    #[arg(long, value_name = "PROMPT", default_value = "Say hello in one short sentence.")]
    pub prompt: String,
    /// How long a phone may take for its answer
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration::parse)]
    pub answer_within: Duration,
}

/// What became of a phone.
#[derive(Debug, Default, Serialize)]
struct Report {
    device_id: String,
    serial: String,
    address: Option<String>,
    /// What was planned, in words.
    plan: Vec<String>,
    /// What was changed, in words; empty if everything was as it should be.
    done: Vec<String>,
    /// `ready`, `shell`, `prepared`, `planned` or `failed`.
    state: &'static str,
    /// Why it failed, or why there is no answer.
    why: Option<String>,
    /// What it answered.
    answer: Option<String>,
}

impl Report {
    fn of(plan: &Plan) -> Self {
        Self {
            device_id: plan.id.to_string(),
            serial: plan.serial.clone(),
            address: plan.address.map(|address| address.to_string()),
            plan: plan.lines(),
            state: "planned",
            ..Self::default()
        }
    }

    fn failed(mut self, why: impl Into<String>) -> Self {
        self.state = "failed";
        self.why = Some(why.into());
        self
    }
}

pub async fn run(shared: &Shared, flags: Setup) -> Result<Exit, Failure> {
    let output = shared.output();
    let map_path = flags.map.path()?;
    let mut map = DeviceMap::load(&map_path).map_err(of_files)?;
    let adb = Adb::new();
    let seen = look::phones(&adb, &flags, &map).await?;
    let offered = look::offered(shared, &adb, &flags, &seen, &output).await?;
    let mut plans = plan::plan(&seen, &map, &offered);
    if flags.dry_run {
        show_plan(&output, &plans)?;
        return Ok(Exit::Ok);
    }
    if !output.json {
        output.note(plan::words(&plans).trim_end());
    }
    if !flags.yes {
        if !output.person_is_there() {
            return Err(Failure::usage(
                "nobody is there to be asked; --yes does it without asking, --dry-run only shows it",
            ));
        }
        settle_npus(&mut plans).await?;
        if yes_or_no("Do this? (y/n): ").await? != Some(true) {
            output.note("Nothing was done.");
            return Ok(Exit::Cancelled);
        }
    }
    // First of all, so that a phone that fails now is known by its name the next time.
    let chosen = || plans.iter().filter(|plan| plan.is_chosen());
    for plan in plans.iter().filter(|plan| plan.is_known()) {
        map.set(plan.mapped());
    }
    map.save(&map_path).map_err(of_files)?;
    let reports = join_all(chosen().map(|plan| one(&adb, &output, &flags, plan, &plans))).await;
    show(&output, &flags, &reports, &map_path)
}

fn show_plan(output: &Output, plans: &[Plan]) -> Result<(), Failure> {
    if output.json {
        let devices: Vec<Report> = plans.iter().filter(|plan| plan.is_chosen()).map(Report::of).collect();
        return output.json(&json!({ "dry_run": true, "devices": devices }));
    }
    output.foreign(&plan::words(plans))
}

/// Asks the person about the phones of which nothing certain can be said.
async fn settle_npus(plans: &mut [Plan]) -> Result<(), Failure> {
    for plan in plans {
        let npu = match &mut plan.what {
            What::Bidmesh(bidmesh) => &mut bidmesh.npu,
            What::ShellFiles(npu) => npu,
            _ => continue,
        };
        if *npu == Npu::Unsure
            && let Some(has_npu) =
                yes_or_no(&format!("{}: does this device have NPU? (y/n): ", plan.id)).await?
        {
            *npu = Npu::Said(has_npu);
        }
    }
    Ok(())
}

/// One phone, from its plan to its answer.
async fn one(adb: &Adb, output: &Output, flags: &Setup, plan: &Plan, all: &[Plan]) -> Report {
    let mut report = Report::of(plan);
    let remote = Remote::new(adb.clone(), plan.id.clone(), plan.serial.clone());
    let say = |text: &str| output.note(&format!("{}: {text}", plan.id));
    let applied = match &plan.what {
        What::Unread(why) | What::Blocked(why) => return report.failed(why.clone()),
        What::Elsewhere => return report,
        What::LeaveShell => {
            report.state = "shell";
            return report;
        }
        What::ShellFiles(npu) => {
            apply::shell_files(&remote, plan, npu, all, &say).await.map_err(|error| failed(&plan.id, &error))
        }
        What::Bidmesh(bidmesh) => apply::bidmesh(&remote, plan, bidmesh, all, &say).await,
    };
    let done = match applied {
        Ok(done) => done,
        Err(failure) => return report.failed(bare(&plan.id, &failure)),
    };
    report.done = done.iter().map(ToString::to_string).collect();
    let What::Bidmesh(bidmesh) = &plan.what else {
        report.state = "prepared";
        return report;
    };
    if flags.no_start {
        report.state = "prepared";
        return report;
    }
    let connected = match apply::start(&remote, bidmesh, &done, &say).await {
        Ok((started, connected)) => {
            report.done.extend(started.map(|change| change.to_string()));
            connected
        }
        Err(failure) => return report.failed(bare(&plan.id, &failure)),
    };
    if bidmesh.only_asks_others() {
        report.state = "ready";
        report.why = Some("it runs no prompts itself, as configured".into());
        return report;
    }
    say("is asked a prompt");
    match try_out::ask(&connected.client, &plan.id, &flags.prompt, flags.answer_within).await {
        Ok(answer) => {
            report.state = "ready";
            report.answer = Some(answer);
            report
        }
        Err(failure) => {
            let why = match &bidmesh.backend {
                Backend::None(why) => why,
                _ => &failure.message,
            };
            report.failed(format!("it runs but does not answer: {why}"))
        }
    }
}

/// A failure that names the device anyway, without its name.
fn bare(id: &bidmesh_core::id::DeviceId, failure: &Failure) -> String {
    failure.message.strip_prefix(&format!("{id}: ")).unwrap_or(&failure.message).to_owned()
}

fn show(output: &Output, flags: &Setup, reports: &[Report], map: &std::path::Path) -> Result<Exit, Failure> {
    let failed = reports.iter().filter(|report| report.state == "failed").count();
    if output.json {
        output.json(&json!({ "dry_run": false, "map": map, "devices": reports }))?;
    } else {
        output.foreign(&words(reports))?;
    }
    if failed == 0 {
        if let Some(next) = next_step(reports, flags.shell_only) {
            output.note(next);
        }
        return Ok(Exit::Ok);
    }
    let message = format!(
        "{failed} of {} phones are not ready; mend what is said of them and run `bidmesh setup` again",
        reports.len()
    );
    Err(Failure::new(Exit::Failed, "not_all_ready", message))
}

/// What can be done with phones of which none failed.
fn next_step(reports: &[Report], shell_only: bool) -> Option<&'static str> {
    let any = |state| reports.iter().any(|report| report.state == state);
    if any("ready") {
        Some("The mesh is ready: `bidmesh launch DEVICE` or `bidmesh ask --on DEVICE \"…\"`.")
    } else if any("prepared") && shell_only {
        Some("The shell devices are prepared: start their listeners there (`sh mesh_listener.sh`).")
    } else if any("prepared") {
        Some("The devices are prepared: `bidmesh start` starts them.")
    } else {
        None
    }
}

fn words(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let name = &report.device_id;
        let line = match (report.state, &report.answer, &report.why) {
            ("failed", _, Some(why)) => format!("{name}: failed: {why}"),
            (_, Some(answer), _) => format!("{name}: ready; it says: {}", first_line(answer)),
            ("shell", ..) => format!("{name}: runs the shell listener; left alone"),
            (state, None, Some(why)) => format!("{name}: {state}; {why}"),
            (state, None, None) => format!("{name}: {state}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Enough of an answer to see that it is one.
fn first_line(answer: &str) -> String {
    const SHOWN: usize = 100;
    let line = answer.trim().lines().next().unwrap_or("(nothing)");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_fits_what_was_done() {
        let next = |state, shell_only| next_step(&[Report { state, ..Report::default() }], shell_only);
        assert!(next("ready", false).is_some_and(|next| next.contains("bidmesh launch")));
        assert!(next("prepared", false).is_some_and(|next| next.contains("`bidmesh start`")));
        assert!(next("prepared", true).is_some_and(|next| !next.contains("bidmesh start")));
        assert_eq!(next("shell", false), None);
    }

    #[test]
    fn reports_read_well() {
        let report = |id: &str, state, why: Option<&str>, answer: Option<&str>| Report {
            device_id: id.into(),
            state,
            why: why.map(Into::into),
            answer: answer.map(Into::into),
            ..Report::default()
        };
        let long = "word ".repeat(60);
        insta::assert_snapshot!(words(&[
            report("Device_A", "ready", None, Some("Hello there.\nMore.")),
            report("Device_B", "shell", None, None),
            report("Device_C", "failed", Some("the phone went away"), None),
            report("Device_D", "prepared", None, None),
            report("Device_E", "ready", None, Some(&long)),
            report("Device_F", "ready", Some("it runs no prompts itself, as configured"), None),
        ]));
    }
}
