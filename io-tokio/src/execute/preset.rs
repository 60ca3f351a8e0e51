//! Takes the answer out of what well-known programs print around it. What is handed out is certain: what may still
//! turn out to be noise is held back, so that the pieces of an answer always add up to the answer.

use std::fmt;
use std::str::FromStr;

/// Which program's output is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preset {
    /// All that it prints is the answer.
    #[default]
    Plain,
    /// Qualcomm's `genie-t2t-run`: the answer stands between `[BEGIN]:` and `[END]`.
    Genie,
    /// llama.cpp's `llama-cli`: before it the prompt, a banner or lines of a log, after it marks and timings.
    LlamaCli,
    /// `ollama run`: a spinner, a model's thoughts, statistics.
    Ollama,
}

impl Preset {
    const ALL: [Self; 4] = [Self::Plain, Self::Genie, Self::LlamaCli, Self::Ollama];

    /// Its name in settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Genie => "genie",
            Self::LlamaCli => "llama-cli",
            Self::Ollama => "ollama",
        }
    }

    /// What ends an answer.
    const fn ends(self) -> &'static [&'static str] {
        match self {
            Self::Plain => &[],
            Self::Genie => &["[END]"],
            Self::LlamaCli => &[
                "[end of text]",
                "\n> EOF by user",
                "\nllama_perf_",
                "\nllama_print_timings:",
                "\n[ Prompt: ",
            ],
            Self::Ollama => &["\ntotal duration:"],
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.as_str() == text).ok_or(UnknownPreset)
    }
}

/// This is the name of no preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPreset;

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the presets are plain, genie, llama-cli and ollama")
    }
}

impl std::error::Error for UnknownPreset {}

/// How genie's answer begins.
const GENIE_BEGIN: &str = "[BEGIN]:";
/// How lines of llama.cpp's log begin, and those of its banner.
const LLAMA_NOISE: [&str; 14] = [
    "llama_",
    "ggml_",
    "gguf_",
    "load_",
    "load:",
    "print_info:",
    "build:",
    "main:",
    "common_",
    "system_info:",
    "sampler ",
    "generate:",
    "Loading model",
    "== Running in interactive mode",
];
/// After this line of its banner the prompt stands behind a `> `.
const LLAMA_BANNER: &str = "Loading model";
const OLLAMA_NOISE: [&str; 5] =
    ["pulling ", "verifying sha256", "writing manifest", "removing any unused", "success\n"];
/// Around what a reasoning model thinks.
const THINKING: &str = "Thinking...\n";
const THOUGHT: &str = "...done thinking.\n";
/// A line before the answer that is longer than this is no line of a log, in bytes.
const LINE_MAX: usize = 4096;

/// Reads one output.
#[derive(Debug)]
pub(super) struct Filter {
    preset: Preset,
    prompt: Vec<u8>,
    phase: Phase,
    /// What is not decided yet.
    held: Vec<u8>,
    /// An escape sequence that has not come to its end.
    escape: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    /// Within llama-cli's banner, up to the prompt.
    Banner,
    Thinking,
    Answer,
    After,
}

/// What the beginning of the held bytes is.
enum Next {
    /// Noise of this length.
    Noise(usize, Phase),
    /// The answer.
    Answer,
    /// It depends on what follows.
    Open,
}

impl Filter {
    /// `prompt` is what the program was given: some of them print it again.
    pub(super) fn new(preset: Preset, prompt: &str) -> Self {
        let phase = if preset == Preset::Plain { Phase::Answer } else { Phase::Before };
        Self { preset, prompt: prompt.trim().into(), phase, held: Vec::new(), escape: Vec::new() }
    }

    /// Takes what was printed next, and gives what of the answer is certain by now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.preset {
            Preset::Plain => return bytes.to_vec(),
            Preset::Ollama => self.without_escapes(bytes),
            Preset::Genie | Preset::LlamaCli => self.held.extend_from_slice(bytes),
        }
        self.skip_noise();
        match self.phase {
            Phase::Answer => self.answer(),
            Phase::After => {
                self.held.clear();
                Vec::new()
            }
            Phase::Before | Phase::Banner | Phase::Thinking => Vec::new(),
        }
    }

    /// The rest of the answer, at the end of the output.
    ///
    /// # Errors
    ///
    /// If there was none to be found; completes "the program …".
    pub(super) fn finish(&mut self) -> Result<Vec<u8>, String> {
        let held = std::mem::take(&mut self.held);
        match (self.preset, self.phase) {
            (Preset::Genie, Phase::Before) => {
                Err(format!("printed no `{GENIE_BEGIN}`, so there is no answer of genie in it"))
            }
            // What could have become a mark or a line of noise, and did not.
            (_, Phase::Answer) => Ok(held.trim_ascii_end().to_vec()),
            (_, Phase::Before) => Ok(held.trim_ascii().to_vec()),
            (_, Phase::Banner | Phase::Thinking) => Err("ended before it came to its answer".to_owned()),
            (_, Phase::After) => Ok(Vec::new()),
        }
    }

    fn skip_noise(&mut self) {
        while !matches!(self.phase, Phase::Answer | Phase::After) {
            match self.next() {
                Next::Noise(length, phase) => {
                    self.held.drain(..length.min(self.held.len()));
                    self.phase = phase;
                }
                Next::Answer => self.phase = Phase::Answer,
                Next::Open => return,
            }
        }
    }

    fn next(&self) -> Next {
        match (self.preset, self.phase) {
            (Preset::Genie, _) => match find(&self.held, GENIE_BEGIN.as_bytes()) {
                Some(at) => self.after_a_space(at + GENIE_BEGIN.len()),
                None => open_but(self.held.len().saturating_sub(GENIE_BEGIN.len()), self.phase),
            },
            (_, Phase::Thinking) => match find(&self.held, THOUGHT.as_bytes()) {
                Some(at) => Next::Noise(at + THOUGHT.len(), Phase::Before),
                None => open_but(self.held.len().saturating_sub(THOUGHT.len()), self.phase),
            },
            (_, Phase::Banner) => self.in_banner(),
            _ => self.at_line_start(),
        }
    }

    /// The answer begins after `length` bytes and one space, if there is one.
    fn after_a_space(&self, length: usize) -> Next {
        match self.held.get(length) {
            None => Next::Open,
            Some(b' ') => Next::Noise(length + 1, Phase::Answer),
            Some(_) => Next::Noise(length, Phase::Answer),
        }
    }

    /// A line of the banner, or the one with the prompt.
    fn in_banner(&self) -> Next {
        let Some(end) = self.held.iter().position(|byte| *byte == b'\n') else {
            return open_but(self.held.len().saturating_sub(LINE_MAX), Phase::Banner);
        };
        if !self.held.starts_with(b"> ") {
            return Next::Noise(end + 1, Phase::Banner);
        }
        // A prompt may have several lines; one that is not shown in full has one.
        let echo = [b"> ", self.prompt.as_slice(), b"\n"].concat();
        match self.held.len() < echo.len() && echo.starts_with(&self.held) {
            true => Next::Open,
            false if self.held.starts_with(&echo) => Next::Noise(echo.len(), Phase::Before),
            false => Next::Noise(end + 1, Phase::Before),
        }
    }

    /// White space, the prompt, a line of noise, or the answer.
    fn at_line_start(&self) -> Next {
        let blank = self.held.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if blank > 0 || self.held.is_empty() {
            return if blank > 0 { Next::Noise(blank, Phase::Before) } else { Next::Open };
        }
        let llama = self.preset == Preset::LlamaCli;
        if llama && !self.prompt.is_empty() {
            match compare(&self.held, &self.prompt) {
                Likeness::Is => return Next::Noise(self.prompt.len(), Phase::Before),
                Likeness::MayBe => return Next::Open,
                Likeness::IsNot => {}
            }
        }
        if !llama {
            match compare(&self.held, THINKING.as_bytes()) {
                Likeness::Is => return Next::Noise(THINKING.len(), Phase::Thinking),
                Likeness::MayBe => return Next::Open,
                Likeness::IsNot => {}
            }
        }
        let noise: &[&str] = if llama { &LLAMA_NOISE } else { &OLLAMA_NOISE };
        let mut open = false;
        for beginning in noise {
            match compare(&self.held, beginning.as_bytes()) {
                Likeness::Is => {
                    let phase = if *beginning == LLAMA_BANNER { Phase::Banner } else { Phase::Before };
                    let end = self.held.iter().position(|byte| *byte == b'\n');
                    return match end {
                        Some(end) => Next::Noise(end + 1, phase),
                        None if self.held.len() > LINE_MAX => Next::Answer,
                        None => Next::Open,
                    };
                }
                Likeness::MayBe => open = true,
                Likeness::IsNot => {}
            }
        }
        if open { Next::Open } else { Next::Answer }
    }

    /// What of the held bytes belongs to the answer for certain.
    fn answer(&mut self) -> Vec<u8> {
        let ends = self.preset.ends();
        let end = ends.iter().filter_map(|mark| find(&self.held, mark.as_bytes())).min();
        if let Some(end) = end {
            self.phase = Phase::After;
            let answer = self.held[..end].trim_ascii_end().to_vec();
            self.held.clear();
            return answer;
        }
        let starts = |at: usize| ends.iter().any(|mark| mark.as_bytes().starts_with(&self.held[at..]));
        let longest = ends.iter().map(|mark| mark.len()).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest);
        let certain = (from..self.held.len()).find(|at| starts(*at)).unwrap_or(self.held.len());
        // White space before a mark is no part of the answer either.
        let certain = self.held[..certain].trim_ascii_end().len();
        self.held.drain(..certain).collect()
    }

    /// Takes bytes without what moves a cursor, and without the spinner.
    fn without_escapes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.escape.is_empty() {
                match byte {
                    // An escape sequence, or the first byte of a braille pattern (U+2800 to U+28FF).
                    0x1b | 0xe2 => self.escape.push(*byte),
                    b'\r' => {}
                    _ => self.held.push(*byte),
                }
                continue;
            }
            self.escape.push(*byte);
            match self.escape.as_slice() {
                [0x1b, b'['] | [0xe2, 0xa0..=0xa3] => {}
                [0x1b, b'[', .., 0x40..=0x7e] | [0xe2, 0xa0..=0xa3, _] => self.escape.clear(),
                [0x1b, b'[', ..] if self.escape.len() < 32 => {}
                // Something else that begins alike; an escape without its bracket is dropped.
                [0x1b, ..] => self.escape.clear(),
                _ => self.held.append(&mut self.escape),
            }
        }
    }
}

/// Noise of this length, or nothing that is decided.
fn open_but(noise: usize, phase: Phase) -> Next {
    if noise > 0 { Next::Noise(noise, phase) } else { Next::Open }
}

enum Likeness {
    Is,
    MayBe,
    IsNot,
}

/// Whether `held` begins with `what`, as far as can be said.
fn compare(held: &[u8], what: &[u8]) -> Likeness {
    if held.starts_with(what) {
        Likeness::Is
    } else if what.starts_with(held) {
        Likeness::MayBe
    } else {
        Likeness::IsNot
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the program prints, what it was asked, what the answer in it is. `recordings/README.md` says where each
    /// comes from.
    const RECORDINGS: [(Preset, &[u8], &str, &str); 7] = [
        (Preset::Genie, include_bytes!("recordings/genie.txt"), "Hello", "Hello! How can I help?"),
        (
            Preset::LlamaCli,
            include_bytes!("recordings/llama_cli_completion.txt"),
            "Name three fruits.",
            "1. Bananas\n2. Apples\n3. Oranges",
        ),
        (
            Preset::LlamaCli,
            include_bytes!("recordings/llama_cli_merged.txt"),
            "Name three fruits.",
            "1. Bananas\n2. Apples\n3. Oranges",
        ),
        (
            Preset::LlamaCli,
            include_bytes!("recordings/llama_cli_chat.txt"),
            "Name three fruits.",
            "1. Bananas\n2. Apples\n3. Oranges",
        ),
        (
            Preset::Ollama,
            include_bytes!("recordings/ollama_piped.txt"),
            "Why is the sky blue?",
            "The sky is blue because of a phenomenon called Rayleigh scattering.",
        ),
        (
            Preset::Ollama,
            include_bytes!("recordings/ollama_merged.txt"),
            "Why is the sky blue?",
            "The sky is blue because of a phenomenon called Rayleigh scattering.\n\nBlue light “scatters” more.",
        ),
        (Preset::Ollama, include_bytes!("recordings/ollama_thinking.txt"), "What is 2+2?", "2 + 2 = 4"),
    ];

    fn read(preset: Preset, prompt: &str, chunks: &[&[u8]]) -> Result<String, String> {
        let mut filter = Filter::new(preset, prompt);
        let mut answer: Vec<u8> = chunks.iter().flat_map(|chunk| filter.push(chunk)).collect();
        answer.extend(filter.finish()?);
        Ok(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn the_answer_is_taken_out_of_what_was_recorded() {
        for (preset, printed, prompt, answer) in RECORDINGS {
            assert_eq!(read(preset, prompt, &[printed]).as_deref(), Ok(answer), "{preset}");
        }
    }

    #[test]
    fn text_comes_before_the_end() {
        let mut filter = Filter::new(Preset::Genie, "hi");
        assert_eq!(filter.push(b"Using libGenie.so\n[PROMPT]: hi\n[BEGIN]: One two"), b"One two");
        assert_eq!(filter.push(b" three [E"), b" three");
        assert_eq!(filter.push(b"lse] four"), b" [Else] four");
        assert_eq!(filter.push(b"[END]\n\n--- Execution Time: 7s ---"), b"");
        assert_eq!(filter.finish(), Ok(vec![]));
    }

    #[test]
    fn an_output_without_an_answer_is_an_error_or_empty() {
        assert!(read(Preset::Genie, "x", &[b"Failed to create the dialog.\n"]).is_err());
        assert!(read(Preset::LlamaCli, "x", &[b"Loading model...\nerror: unable to load model\n"]).is_err());
        assert!(read(Preset::Ollama, "x", &[b"Thinking...\nwell\n"]).is_err());
        assert_eq!(read(Preset::LlamaCli, "x", &[b"\n\n"]), Ok(String::new()));
        assert_eq!(read(Preset::Ollama, "x", &[b""]), Ok(String::new()));
    }

    #[test]
    fn an_answer_that_looks_like_noise_is_kept_where_it_ends() {
        assert_eq!(read(Preset::LlamaCli, "x", &[b"llama"]).as_deref(), Ok("llama"));
        assert_eq!(read(Preset::LlamaCli, "x", &[b"A llama_ [end of"]).as_deref(), Ok("A llama_ [end of"));
        assert_eq!(read(Preset::Ollama, "x", &["… \u{2190}".as_bytes()]).as_deref(), Ok("… ←"));
    }

    #[test]
    fn a_prompt_behind_the_banner_is_skipped_shown_in_full_or_not() {
        let prompt = "Name\nthree fruits.";
        let shown = "Loading model...\n\nmodel: x\n> Name\nthree fruits.\n\nBananas";
        for split in 0..=shown.len() {
            let chunks = [&shown.as_bytes()[..split], &shown.as_bytes()[split..]];
            assert_eq!(read(Preset::LlamaCli, prompt, &chunks).as_deref(), Ok("Bananas"), "split at {split}");
        }
        // One that is not shown in full has one line, whatever follows it.
        for answer in ["Bananas", "three kinds of bananas, all of them yellow"] {
            let cut = format!("Loading model...\n> Name …\n{answer}");
            assert_eq!(read(Preset::LlamaCli, prompt, &[cut.as_bytes()]).as_deref(), Ok(answer));
        }
        let nothing = b"Loading model...\n> Name\nthree fruits.\n";
        assert_eq!(
            read(Preset::LlamaCli, prompt, &[nothing]),
            Ok(String::new()),
            "it was asked, and said nothing"
        );
        assert!(read(Preset::LlamaCli, prompt, &[&nothing[..30]]).is_err(), "it did not come so far");
    }

    #[test]
    fn only_llama_cli_shows_the_prompt_again() {
        assert_eq!(read(Preset::LlamaCli, "Why?", &[b"Why? Because."]).as_deref(), Ok("Because."));
        assert_eq!(read(Preset::Ollama, "Why?", &[b"Why? Because."]).as_deref(), Ok("Why? Because."));
    }

    #[test]
    fn a_line_that_is_too_long_for_a_log_is_the_answer() {
        let line = [b"llama_".as_slice(), &[b'x'; LINE_MAX]].concat();
        let mut filter = Filter::new(Preset::LlamaCli, "hi");
        assert_eq!(filter.push(&line[..LINE_MAX]), b"");
        assert_eq!(filter.push(&line[LINE_MAX..=LINE_MAX]), &line[..=LINE_MAX]);
    }

    #[test]
    fn what_moves_the_cursor_is_no_answer() {
        for (printed, answer) in [
            ("one\rtwo\r\n", "onetwo"),
            ("\x1b7one\x1b8", "one"),
            ("\x1b[?25lone\x1b[2K", "one"),
            // Longer than any escape sequence: what follows is text again.
            ("\x1b[000000000011111111112222222222one", "one"),
        ] {
            assert_eq!(
                read(Preset::Ollama, "x", &[printed.as_bytes()]).as_deref(),
                Ok(answer),
                "{printed:?}"
            );
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
        }
        assert_eq!("llama".parse::<Preset>(), Err(UnknownPreset));
        for preset in Preset::ALL {
            assert!(UnknownPreset.to_string().contains(preset.as_str()), "{preset} is not named");
        }
    }

    #[test]
    fn noise_without_an_end_takes_no_memory() {
        for (preset, noise) in [(Preset::Genie, b"a".repeat(1000)), (Preset::Ollama, b" \x1b[1G".repeat(200))]
        {
            let mut filter = Filter::new(preset, "x");
            for _ in 0..1000 {
                filter.push(&noise);
            }
            assert!(filter.held.capacity() < 16 * 1024, "{preset}: {}", filter.held.capacity());
        }
    }

    proptest! {
        #[test]
        fn how_it_is_split_changes_nothing(
            which in 0..RECORDINGS.len(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let (preset, printed, prompt, answer) = RECORDINGS[which];
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(printed.len() + 1)).collect();
            cuts.extend([0, printed.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &printed[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(preset, prompt, &chunks), Ok(answer.to_owned()));
        }

        #[test]
        fn plain_is_what_it_is(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9), 0..9)) {
            let mut filter = Filter::new(Preset::Plain, "x");
            let mut all: Vec<u8> = chunks.iter().flat_map(|chunk| filter.push(chunk)).collect();
            all.extend(filter.finish().unwrap());
            prop_assert_eq!(all, chunks.concat());
        }

        #[test]
        fn no_bytes_break_it(preset in 0..4_usize, chunks in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..20),
                Just(b"[BEGIN]: ".to_vec()),
                Just(b"\n> ".to_vec()),
                Just(b"Loading model".to_vec()),
                Just(b"\x1b[".to_vec()),
            ], 0..12)) {
            let mut filter = Filter::new(Preset::ALL[preset], "p");
            for chunk in &chunks {
                filter.push(chunk);
            }
            let _ = filter.finish();
        }
    }
}
