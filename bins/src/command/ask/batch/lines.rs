//! The prompts of a file: all are read, and found to be good, before the first is asked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use bidmesh_core::draw::Seed;
use serde::Deserialize;

use crate::exit::Failure;

/// The longest file. A batch that is longer is better split: its answers are remembered only as long as there is room.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The person's own name for it, or the number of its line.
    pub id: String,
    pub prompt: String,
    pub npu_prompt: Option<String>,
    pub cpu_prompt: Option<String>,
    /// 0 to 9.
    pub priority: Option<u8>,
}

/// A line of a file of JSON lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    prompt: String,
    id: Option<Id>,
    npu_prompt: Option<String>,
    cpu_prompt: Option<String>,
    priority: Option<u8>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Line {
    /// What the prompt is known by when its file is asked again. `salt` makes another prompt of it.
    pub fn key(&self, file: &Path, salt: &str) -> String {
        // By its real name, wherever it is asked from.
        let name = std::fs::canonicalize(file).unwrap_or_else(|_| file.into());
        let variant =
            |text: &Option<String>| text.as_ref().map_or_else(String::new, |text| format!("={text}"));
        let (npu, cpu) = (variant(&self.npu_prompt), variant(&self.cpu_prompt));
        let parts = [name.as_os_str().as_encoded_bytes(), salt.as_bytes(), self.id.as_bytes()];
        let texts = [self.prompt.as_bytes(), npu.as_bytes(), cpu.as_bytes()];
        let parts: Vec<&[u8]> = parts.into_iter().chain(texts).collect();
        let half = |purpose: &'static str| Seed::from(0).draw(purpose, &parts);
        format!("batch.{:016x}{:016x}", half("batch key, high"), half("batch key, low"))
    }
}

/// Reads a file, or stdin for `-`.
pub fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let stdin = file == Path::new("-");
    let name = if stdin { "stdin".to_owned() } else { file.display().to_string() };
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("{name} cannot be read: {error}; see whether it is there"))
    };
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if stdin {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(file).map_err(unreadable)?)
    };
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{name} is longer than 64 MiB; split it")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{name} is not UTF-8")))?;
    parse(&text, &name)
}

/// JSON lines if the first line that is not empty begins with a brace, else one prompt a line.
fn parse(text: &str, name: &str) -> Result<Vec<Line>, Failure> {
    let lines = || (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let json = lines().next().is_some_and(|(_, line)| line.trim_start().starts_with('{'));
    let mut read = Vec::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    for (number, line) in lines() {
        let wrong = |what: &str| Failure::usage(format!("{name}:{number}: {what}"));
        let line =
            if json { json_line(line, number).map_err(|what| wrong(&what))? } else { plain(line, number) };
        if let Some(before) = numbers.insert(line.id.clone(), number) {
            return Err(wrong(&format!("its id `{}` is that of line {before}; each needs its own", line.id)));
        }
        read.push(line);
    }
    if read.is_empty() {
        return Err(Failure::usage(format!("{name} holds no prompt; write one a line")));
    }
    Ok(read)
}

fn plain(line: &str, number: usize) -> Line {
    let (npu_prompt, cpu_prompt, priority) = (None, None, None);
    Line { id: number.to_string(), prompt: line.trim().into(), npu_prompt, cpu_prompt, priority }
}

fn json_line(line: &str, number: usize) -> Result<Line, String> {
    let line: JsonLine = serde_json::from_str(line)
        .map_err(|error| format!("{error}; write {{\"prompt\": \"…\", \"id\": \"…\", \"priority\": 5}}"))?;
    let JsonLine { prompt, id, npu_prompt, cpu_prompt, priority } = line;
    if prompt.trim().is_empty() {
        return Err("its prompt is empty; write one".into());
    }
    if priority.is_some_and(|priority| priority > 9) {
        return Err("its priority is above 9; it goes from 0 (last) to 9 (first)".into());
    }
    let id = match id {
        Some(Id::Text(text)) => text,
        Some(Id::Number(number)) => number.to_string(),
        None => number.to_string(),
    };
    Ok(Line { id, prompt, npu_prompt, cpu_prompt, priority })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> String {
        parse(text, "f").unwrap_err().message
    }

    #[test]
    fn one_prompt_a_line() {
        let lines = parse("first\n\n  second {\r\n", "f").unwrap();
        let seen: Vec<(&str, &str)> =
            lines.iter().map(|line| (line.id.as_str(), line.prompt.as_str())).collect();
        assert_eq!(seen, [("1", "first"), ("3", "second {")]);
    }

    #[test]
    fn json_lines_carry_more() {
        let text = "{\"prompt\": \"a\", \"id\": \"x\", \"priority\": 9, \"npu_prompt\": \"n\"}\n{\"prompt\": \"b\"}\n";
        let lines = parse(text, "f").unwrap();
        assert_eq!(
            (lines[0].id.as_str(), lines[0].priority, lines[0].npu_prompt.as_deref()),
            ("x", Some(9), Some("n"))
        );
        assert_eq!((lines[1].id.as_str(), lines[1].prompt.as_str(), lines[1].priority), ("2", "b", None));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_before_anything_is_asked() {
        assert!(told("").contains("holds no prompt"));
        assert!(told("{\"prompt\": \"a\"}\n{\"promt\": \"b\"}").starts_with("f:2: unknown field `promt`"));
        assert!(told("{\"prompt\": \" \"}").starts_with("f:1: its prompt is empty"));
        assert!(told("{\"prompt\": \"a\", \"priority\": 10}").contains("above 9"));
        let twice = "{\"prompt\": \"a\", \"id\": 2}\n{\"prompt\": \"b\"}";
        assert!(told(twice).starts_with("f:2: its id `2` is that of line 1"), "{}", told(twice));
    }

    /// Keys are on disk: another version must make the same of the same prompt.
    #[test]
    fn a_key_is_that_of_the_file_the_id_and_the_text() {
        let line = |text: &str| plain(text, 1);
        let file = Path::new("/no/such/file");
        let key = line("a").key(file, "");
        assert_eq!(key, "batch.dbcf7ef85d5300467bdc04177b1fb065");
        assert!(key.len() <= 60, "with a round it stays below 64 bytes");
        assert_ne!(key, line("b").key(file, ""));
        assert_ne!(key, line("a").key(Path::new("/no/such/other"), ""));
        assert_ne!(key, line("a").key(file, "fresh"));
        assert_ne!(key, plain("a", 2).key(file, ""));
        let npu = Line { npu_prompt: Some(String::new()), ..line("a") };
        assert_ne!(key, npu.key(file, ""), "an empty variant is one");
    }
}
