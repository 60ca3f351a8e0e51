//! Short names for ids that are drawn: `t1` for a task, `t1.2` for its second award, `a1` for the device's boot.

use std::collections::BTreeMap;

/// The digits of the base 32 that ids are written in.
fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_lowercase()
}

#[derive(Default)]
pub(super) struct Names {
    tasks: Vec<String>,
    /// By short name.
    awards: BTreeMap<String, String>,
    boots: Vec<(String, String)>,
}

impl Names {
    pub(super) fn boot(&mut self, real: &str, short: &str) {
        self.boots.push((real.into(), short.into()));
    }

    /// `text` with short names, which are given in the order in which ids are met.
    pub(super) fn hide(&mut self, text: &str) -> String {
        let mut hidden = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("task_") {
            let (before, from) = rest.split_at(at);
            hidden.push_str(before);
            let digits = from.bytes().skip(5).take_while(|b| is_digit(*b)).count();
            if digits != 13 {
                hidden.push_str("task_");
                rest = &from[5..];
                continue;
            }
            let (task, after) = from.split_at(18);
            let index = self.tasks.iter().position(|known| known == task).unwrap_or_else(|| {
                self.tasks.push(task.into());
                self.tasks.len() - 1
            });
            let short = format!("t{}", index + 1);
            hidden.push_str(&short);
            rest = after;
            let mut parts = after.strip_prefix('.').unwrap_or("").splitn(2, '.');
            if let (Some(number), Some(secret)) = (parts.next(), parts.next())
                && number.parse::<u32>().is_ok()
                && secret.bytes().take_while(|b| is_digit(*b)).count() >= 5
            {
                let length = 1 + number.len() + 1 + 5;
                self.awards.insert(format!("{short}.{number}"), format!("{task}{}", &after[..length]));
                hidden.push_str(&after[..=number.len()]);
                rest = &after[length..];
            }
        }
        hidden.push_str(rest);
        for (real, short) in &self.boots {
            hidden = hidden.replace(real, short);
        }
        hidden
    }

    /// The id that a short name stands for; anything else stands for itself.
    pub(super) fn real(&self, name: &str) -> String {
        if let Some(award) = self.awards.get(name) {
            return award.clone();
        }
        let task = name
            .strip_prefix('t')
            .and_then(|n| n.parse::<usize>().ok())
            .and_then(|n| self.tasks.get(n.checked_sub(1)?));
        if let Some(task) = task {
            return task.clone();
        }
        let mut real = name.to_string();
        for (long, short) in &self.boots {
            if let Some(rest) = real.strip_prefix(&format!("{short}.")) {
                real = format!("{long}.{rest}");
            }
        }
        real
    }
}
