//! What a shell device makes of the bytes that were written for it, by the model of `cut`, `grep` and `echo` that the
//! codec's own tests and the fuzz targets use.

use bidmesh_core::wire::{Body, Message, Text};

use super::World;
use super::choices::Choices;
use crate::echo::Echo;

/// What a shell device is made of, and what the others' settings say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    pub(super) echo: Echo,
    /// `literal_echo` has its name.
    pub(super) called_literal: bool,
}

impl Drawn {
    /// Of one shell device, from a stream of its own. Now and then the settings are wrong.
    pub(super) fn of(seed: u64, number: usize) -> Self {
        let mut choices = Choices::split(seed ^ (number as u64) << 32, "echo");
        let echo = choices.pick([Echo::Mksh, Echo::Mksh, Echo::Dash, Echo::Literal, Echo::Literal]);
        let wrong = choices.percent(10);
        Self { echo, called_literal: (echo == Echo::Literal) != wrong }
    }
}

/// A text that one reads as it was meant.
pub(super) fn text_of(body: &Body) -> Option<&Text> {
    match body {
        Body::Task(order) => Some(&order.prompt),
        Body::Text(text) | Body::SlmPrompt(text) | Body::SlmResult(text) => Some(text),
        Body::Result(result) => Some(&result.output),
        _ => None,
    }
}

impl World {
    /// S2, S9: a shell device sees of which type a message is, and gets its text as it was meant. Where the settings
    /// are wrong about its echo, nobody can write for it.
    pub(super) fn heard_by_shell(&mut self, shell: usize, message: &Message, line: &[u8]) {
        let device = &self.shells[shell];
        let (id, echo) = (device.id.clone(), device.echo);
        let literal = self.plan.config.literal_echo.contains(&id);
        if literal != (echo == Echo::Literal) {
            return self.oracle.mark("a shell's echo is another than the settings say");
        }
        let kind = message.body.kind();
        if echo.kind(line).as_deref() != Some(kind.as_bytes()) {
            return self.oracle.violate("S9", || format!("the shell device {id} does not see a {kind}"));
        }
        let Some(meant) = text_of(&message.body) else { return };
        let arrives = match message.body {
            Body::Result(_) => echo.printed_payload(line).is_some_and(|file| is_output(meant, &file)),
            Body::Task(_) => {
                echo.task_prompt_file(line).is_some_and(|file| is_text(echo, meant, true, &file))
            }
            _ => echo.printed_payload(line).is_some_and(|file| is_text(echo, meant, false, &file)),
        };
        if !arrives {
            let line = String::from_utf8_lossy(line).into_owned();
            self.oracle.violate("S2", || format!("the shell device {id} does not get {meant:?} of {line:?}"));
        }
        if literal {
            self.oracle.mark("a text for an echo that interprets nothing");
        } else if meant.contains(|c: char| c < ' ' || matches!(c, '\\' | '"')) {
            self.oracle.mark("a text for an echo that needs escapes");
        }
    }
}

/// Whether a file holds the text, as docs/protocol.md promises it: all but NUL; where the echo interprets nothing,
/// with a likeness for each character that it cannot carry.
fn is_text(echo: Echo, meant: &str, quoted: bool, file: &[u8]) -> bool {
    // The last echo ends what it prints with a newline of its own.
    let Some(got) = str::from_utf8(file).ok().and_then(|got| got.strip_suffix('\n')) else { return false };
    let meant = meant.replace('\0', "");
    if echo != Echo::Literal {
        return got == meant;
    }
    let options = meant.strip_prefix('-').unwrap_or_default();
    let is_option = !options.is_empty() && options.chars().all(|c| matches!(c, 'n' | 'e' | 'E'));
    let got = if is_option { got.strip_prefix(' ').unwrap_or_default() } else { got };
    let likeness = |(got, meant)| match meant {
        '"' if quoted => matches!(got, '“' | '”'),
        control if control < ' ' => got == ' ',
        other => got == other,
    };
    got.chars().count() == meant.chars().count() && got.chars().zip(meant.chars()).all(likeness)
}

/// Whether a file is a RESULT's JSON with that output.
fn is_output(meant: &str, file: &[u8]) -> bool {
    let json: Result<serde_json::Value, _> = serde_json::from_slice(file);
    json.is_ok_and(|json| json["output"] == *meant)
}

/// What a person may put before and behind a prompt: all that is special to a shell, an echo, JSON or the protocol.
const AROUND: [(&str, &str); 12] = [
    ("-", ""),
    ("-n ", " -e"),
    ("\\", "\\"),
    ("\n\n", "\n\n"),
    ("%s %d%% ", " 100 %"),
    ("|", "|a||b|"),
    ("\\u0041 \\x41 \\0101 ", "\\c and on"),
    ("\"prompt\": \"x\" ", "\"}"),
    ("\u{e9}\u{4f60} ", " \u{1f600}e\u{301}"),
    ("\t\u{1}\u{1b}[1m", "\r\n"),
    ("'$(id)' `id` * ", "; exit & \\\\n"),
    ("a NUL \0 in ", "\0"),
];

/// A prompt that a shell device might garble: in words of its own now and then, so that all of it is special.
pub(super) fn special(choices: &mut Choices, prompt: &str) -> String {
    if choices.percent(10) {
        return choices.pick(["-n", "-neE", "\\", "\\c", "\"\"", "|", "\u{1f600}"]).into();
    }
    let (before, behind) = choices.pick(AROUND);
    format!("{before}{prompt}{behind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_itself_or_its_likeness() {
        assert!(is_text(Echo::Mksh, "a \"b\"\n\0", true, b"a \"b\"\n\n"));
        assert!(!is_text(Echo::Mksh, "a \"b\"", true, "a “b”\n".as_bytes()));
        assert!(is_text(Echo::Literal, "a \"b\"\n", true, "a “b” \n".as_bytes()));
        assert!(is_text(Echo::Literal, "a \"b\"", false, b"a \"b\"\n"));
        assert!(!is_text(Echo::Literal, "a \"b\"", true, b"a \"b\"\n"));
        assert!(is_text(Echo::Literal, "-n", true, b" -n\n") && !is_text(Echo::Literal, "-n", true, b""));
        assert!(!is_text(Echo::Literal, "\\n", true, b" \n"));
    }

    #[test]
    fn an_output_is_the_one_in_the_file() {
        assert!(is_output("a\n", b"{\"task_id\": \"task_1\", \"output\": \"a\\n\"}\n"));
        assert!(!is_output("a", b"{\"output\": \"a\\n\"}") && !is_output("a", b"a"));
    }

    #[test]
    fn settings_are_seldom_wrong_about_an_echo() {
        let drawn = (0..1_000).map(|seed| Drawn::of(seed, 1));
        let wrong = drawn.filter(|it| it.called_literal != (it.echo == Echo::Literal)).count();
        assert!((50..150).contains(&wrong), "{wrong}");
    }
}
