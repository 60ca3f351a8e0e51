//! Text to tokens and back, and the frame of a conversation around a prompt. The marks of the frame are put between
//! by their ids and are never read out of text, so that a prompt cannot close its own turn.

use std::collections::BTreeMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;

use super::error::SlmError;
use super::gguf::ModelFile;

const START: &str = "<|im_start|>";
const END: &str = "<|im_end|>";
/// GGUF's type of tokens that are no text, such as the marks above.
const CONTROL: u64 = 3;
/// How many words' tokens are remembered.
const CACHED: usize = 1000;

/// The tokenizer of a model.
pub(super) struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The bytes that each character of a token stands for.
    bytes: BTreeMap<char, u8>,
    /// Whether each token is none of a text.
    control: Vec<bool>,
    /// What ends an answer beside all control tokens.
    end: u32,
    /// The longest token, in bytes.
    longest: usize,
    frame: Frame,
}

/// What stands around a prompt.
struct Frame {
    start: u32,
    end: u32,
    /// Who the model is told to be.
    system: Option<String>,
}

impl Tokenizer {
    /// Reads the tokenizer and the template of conversations that the file holds.
    pub(super) fn read(file: &ModelFile) -> Result<Self, SlmError> {
        let kind = file.text("tokenizer.ggml.model")?;
        if kind != "gpt2" {
            return Err(SlmError::new(format!("its tokenizer {kind} is not supported, only gpt2")));
        }
        let mut vocabulary = BTreeMap::new();
        let mut longest = 0;
        for (token, id) in file.texts("tokenizer.ggml.tokens")?.zip(0_u32..) {
            let token = token.ok_or_else(|| broken(&format!("the token {id} is no text")))?;
            longest = longest.max(token.chars().count());
            if vocabulary.insert(token.to_owned(), id).is_some() {
                return Err(broken(&format!("the token {id} is there twice")));
            }
        }
        let bytes = byte_characters();
        // Without these, letters of a prompt would be lost without an error.
        let needed = bytes.iter().filter(|(_, byte)| matches!(byte, b'\n' | b' '..=b'~'));
        for (character, byte) in needed {
            if !vocabulary.contains_key(character.encode_utf8(&mut [0; 4]) as &str) {
                return Err(broken(&format!("it has no token for the byte {byte}")));
            }
        }
        let control: Vec<bool> =
            file.numbers("tokenizer.ggml.token_type")?.map(|kind| kind == Some(CONTROL)).collect();
        if control.len() != vocabulary.len() {
            return Err(broken("there are not as many types as tokens"));
        }
        let mark = |mark: &str| {
            let id = vocabulary.get(mark).copied();
            id.filter(|id| usize::try_from(*id).is_ok_and(|id| control.get(id) == Some(&true)))
        };
        let system = system_of(file.text("tokenizer.chat_template")?);
        let (Some(start), Some(end), Some(system)) = (mark(START), mark(END), system) else {
            return Err(SlmError::new(
                "its template of conversations is not supported, only ChatML (<|im_start|>) as of SmolLM2"
                    .to_owned(),
            ));
        };
        let inner = byte_pairs(file, &vocabulary)?;
        let stop = file.number("tokenizer.ggml.eos_token_id").and_then(|id| u32::try_from(id).ok());
        let frame = Frame { start, end, system };
        Ok(Self { inner, bytes, control, end: stop.unwrap_or(end), longest, frame })
    }

    /// The least number of tokens that a text of so many bytes can have.
    pub(super) const fn tokens_min(&self, bytes: usize) -> usize {
        bytes / self.longest
    }

    /// The tokens of a prompt in its frame, up to where the answer begins.
    pub(super) fn prompt(&self, prompt: &str) -> Result<Vec<u32>, SlmError> {
        let Frame { start, end, system } = &self.frame;
        let mut ids = Vec::new();
        let mut turn = |who: &str, says: &str| -> Result<(), SlmError> {
            ids.push(*start);
            ids.extend(self.encode(&format!("{who}\n{says}"))?);
            ids.push(*end);
            ids.extend(self.encode("\n")?);
            Ok(())
        };
        if let Some(system) = system {
            turn("system", system)?;
        }
        turn("user", prompt)?;
        ids.push(*start);
        ids.extend(self.encode("assistant\n")?);
        Ok(ids)
    }

    /// The tokens of a text as it is.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u32>, SlmError> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(SlmError::new(format!("the prompt cannot be cut into tokens: {error}"))),
        }
    }

    /// Whether the answer ends here.
    pub(super) fn ends(&self, id: u32) -> bool {
        let control = usize::try_from(id).ok().and_then(|id| self.control.get(id));
        id == self.end || *control.unwrap_or(&true)
    }

    /// The bytes of a token: a part of a character, maybe.
    pub(super) fn decode(&self, id: u32) -> Vec<u8> {
        let token = self.inner.id_to_token(id).unwrap_or_default();
        token.chars().filter_map(|character| self.bytes.get(&character).copied()).collect()
    }
}

fn broken(why: &str) -> SlmError {
    SlmError::new(format!("its tokenizer is broken: {why}"))
}

/// The pairs that are joined, and how a text is cut into words before that.
fn byte_pairs(
    file: &ModelFile,
    vocabulary: &BTreeMap<String, u32>,
) -> Result<tokenizers::Tokenizer, SlmError> {
    // No space is put before a text, and apostrophes and spaces are cut as GPT-2 does it.
    let words = ByteLevel::new(false, true, true);
    let words = match file.text("tokenizer.ggml.pre")? {
        // candle's own reader of tokenizers does not know it and takes one that puts a space before each text.
        "smollm" => vec![Digits::new(true).into(), words.into()],
        "gpt-2" => vec![words.into()],
        other => return Err(SlmError::new(format!("its way to cut words, {other}, is not supported"))),
    };
    let merges = file.texts("tokenizer.ggml.merges")?.map(|pair| {
        let (left, right) = pair?.split_once(' ')?;
        Some((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Option<Vec<_>>>().ok_or_else(|| broken("a merge is no pair"))?;
    let vocabulary: Vocab = vocabulary.iter().map(|(token, id)| (token.clone(), *id)).collect();
    let pairs = BPE::builder()
        .vocab_and_merges(vocabulary, merges)
        .cache_capacity(CACHED)
        .build()
        .map_err(|error| broken(&error.to_string()))?;
    let mut tokenizer = tokenizers::Tokenizer::new(pairs);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(words)));
    Ok(tokenizer)
}

/// The characters that byte-level tokens are written with: the printable ones of Latin-1 stand for themselves, the
/// other bytes follow from U+0100 on.
fn byte_characters() -> BTreeMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|byte| !printable(byte));
    let moved = others.zip('\u{100}'..).map(|(byte, character)| (character, byte));
    (0..=u8::MAX).filter(printable).map(|byte| (char::from(byte), byte)).chain(moved).collect()
}

/// What a template of the ChatML kind says to the model before everything else, if anything; `None`: it is of
/// another kind. No template is run: it would be a program out of a file.
fn system_of(template: &str) -> Option<Option<String>> {
    let template = template.replace("\\n", "\n");
    let squeezed: String = template.chars().filter(|c| !matches!(c, ' ' | '\t')).collect();
    let squeezed = squeezed
        .replace('"', "'")
        .replace("message.role", "message['role']")
        .replace("message.content", "message['content']")
        .replace("'<|im_end|>'+'\n'", "'<|im_end|>\n'");
    let turn = "'<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>\n'";
    if !squeezed.contains(turn) || !squeezed.contains("'<|im_start|>assistant\n'") {
        return None;
    }
    let Some((_, said)) = template.split_once("<|im_start|>system\n") else { return Some(None) };
    let (said, _) = said.split_once("<|im_end|>\n")?;
    // Only words, nothing that a template would compute.
    if said.contains(['{', '}', '\'', '"', '\\']) { None } else { Some(Some(said.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ \
        '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' \
        }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor \
        %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn chatml_is_known_by_its_turns_and_says_who_the_model_is() {
        let smollm = "You are a helpful AI assistant named SmolLM, trained by Hugging Face".to_owned();
        assert_eq!(system_of(SMOLLM), Some(Some(smollm.clone())));
        let escaped = SMOLLM.replace('\n', "\\n").replace("message['role']", "message.role");
        assert_eq!(system_of(&escaped), Some(Some(smollm)));
        let bare = "{% for message in messages %}{{\"<|im_start|>\" + message.role + \"\\n\" + message.content + \
            \"<|im_end|>\\n\"}}{% endfor %}{{ \"<|im_start|>assistant\\n\" }}";
        assert_eq!(system_of(bare), Some(None));
    }

    #[test]
    fn other_templates_are_not_guessed() {
        let llama =
            "{% for message in messages %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endfor %}";
        let computed = SMOLLM.replace("SmolLM, trained", "' + name + '");
        let trimmed = SMOLLM.replace("message['content']", "message['content'] | trim");
        for template in ["", llama, &computed, &trimmed] {
            assert_eq!(system_of(template), None, "{template}");
        }
    }

    #[test]
    fn every_byte_has_its_own_character() {
        let characters = byte_characters();
        assert_eq!(characters.len(), 256);
        assert_eq!(
            (characters.get(&'A'), characters.get(&'Ġ'), characters.get(&'Ċ')),
            (Some(&b'A'), Some(&b' '), Some(&b'\n'))
        );
    }
}
