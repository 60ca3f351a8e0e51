//! A plan in words.

use bidmesh_core::id::DeviceId;

use super::{Backend, Bidmesh, Npu, Plan, Program, What};
use crate::duration;
use crate::phones::probe::RUNS_NONE;

impl Plan {
    /// What will be done, a line each.
    pub fn lines(&self) -> Vec<String> {
        match &self.what {
            What::Elsewhere => Vec::new(),
            What::Unread(why) | What::Blocked(why) => vec![format!("nothing: {why}")],
            What::LeaveShell => vec!["nothing: it runs the shell listener and is left alone".into()],
            What::ShellFiles(_) => {
                vec!["my_info.txt, peers.txt and device_config.json of a shell device, no program".into()]
            }
            What::Bidmesh(bidmesh) => bidmesh.lines(&self.id),
        }
    }
}

impl Bidmesh {
    fn lines(&self, id: &DeviceId) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(old) = &self.renamed_from {
            lines.push(format!("name: {id} instead of {old}"));
        }
        lines.push(match &self.program {
            Program::Keep => "program: is there, unchanged".into(),
            Program::Push { file, replaces } => format!(
                "program: {} {} ({})",
                if *replaces { "replace by" } else { "push" },
                file.path.display(),
                duration::bytes(file.bytes)
            ),
        });
        lines.push(match &self.backend {
            Backend::Kept(spec) if spec == RUNS_NONE => "prompts: none run there, as configured".into(),
            Backend::Kept(spec) => format!("prompts: run by {spec}, as configured"),
            Backend::Found(spec) => {
                format!("prompts: run by {}, which is there", spec.trim_start_matches("command:"))
            }
            Backend::Script(program) | Backend::Genie { program, .. } => {
                format!("prompts: run by {program}, which is there")
            }
            Backend::ModelThere(name) => format!("prompts: run by the embedded model {name}, which is there"),
            Backend::PushModel { file, name, .. } => {
                format!("prompts: push the model {name} ({})", duration::bytes(file.bytes))
            }
            Backend::None(why) => format!("prompts: none run there: {why}"),
        });
        lines.push(match &self.npu {
            Npu::Said(yes) => format!("NPU: {}, as said before", if *yes { "yes" } else { "no" }),
            Npu::Found(what) => format!("NPU: {what}"),
            Npu::NotFound => "NPU: none found".into(),
            Npu::Unsure => "NPU: there may be one; unless somebody says so, it is not used".into(),
        });
        lines.push(match (self.runs, self.counts_at_start()) {
            (true, false) => "device: runs already".into(),
            (true, true) => "device: restart".into(),
            (false, _) => "device: start".into(),
        });
        lines
    }
}

/// The whole plan, for a person.
pub fn words(plans: &[Plan]) -> String {
    let mut text = String::new();
    for plan in plans.iter().filter(|plan| plan.is_chosen()) {
        let address = plan.address.map_or_else(|| "no address known".into(), |address| address.to_string());
        let model = plan.model.as_ref().map_or_else(String::new, |model| format!(", {model}"));
        text.push_str(&format!("{} ({}{model}) at {address}\n", plan.id, plan.serial));
        for line in plan.lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}
