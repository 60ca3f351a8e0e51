//! Writes a model of a few kilobytes with the keys and tensors of a real one: random weights from a fixed seed, and
//! a vocabulary of single bytes.

use std::collections::BTreeMap;

pub(super) const START: u32 = 1;
pub(super) const END: u32 = 2;

const WIDTH: usize = 64;
const INNER: usize = 96;
const LAYERS: u32 = 2;
const HEADS: u32 = 4;
const KEY_HEADS: u32 = 2;
const TEMPLATE: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ \
    '<|im_start|>system\nBe brief.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{{ '<|im_start|>assistant\n' }}";

/// A value of the header.
pub(super) enum Value {
    U32(u32),
    F32(f32),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<i32>),
}

/// GGML's number of a quantisation.
#[derive(Clone, Copy)]
pub(super) struct Kind(pub(super) u32);

impl Kind {
    const F32: Self = Self(0);
    const Q4_1: Self = Self(3);
}

pub(super) struct TinyTensor {
    name: String,
    pub(super) dimensions: Vec<usize>,
    pub(super) kind: Kind,
    pub(super) offset_error: u64,
    /// Whether its numbers are none.
    pub(super) poisoned: bool,
    numbers: usize,
}

/// A model to be written, or broken first.
pub(super) struct Tiny {
    pub(super) header: BTreeMap<String, Value>,
    tensors: Vec<TinyTensor>,
    /// How many bytes are left out at the end.
    pub(super) cut: usize,
}

impl Tiny {
    pub(super) fn new() -> Self {
        let mut tokens: Vec<String> =
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).into();
        let mut types = vec![3; tokens.len()];
        tokens.extend(["Ġ".to_owned(), "Ċ".to_owned()]);
        tokens.extend(('!'..='~').map(String::from));
        types.resize(tokens.len(), 1);
        let vocabulary = tokens.len();
        let text = |words: &str| Value::Text(words.to_owned());
        let header = [
            ("general.architecture", text("llama")),
            ("general.name", text("tiny")),
            ("llama.block_count", Value::U32(LAYERS)),
            ("llama.context_length", Value::U32(256)),
            ("llama.embedding_length", Value::U32(u32::try_from(WIDTH).unwrap())),
            ("llama.feed_forward_length", Value::U32(u32::try_from(INNER).unwrap())),
            ("llama.attention.head_count", Value::U32(HEADS)),
            ("llama.attention.head_count_kv", Value::U32(KEY_HEADS)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.freq_base", Value::F32(10_000.0)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("smollm")),
            ("tokenizer.ggml.tokens", Value::Texts(tokens)),
            ("tokenizer.ggml.token_type", Value::Numbers(types)),
            ("tokenizer.ggml.merges", Value::Texts(Vec::new())),
            ("tokenizer.ggml.eos_token_id", Value::U32(END)),
            ("tokenizer.chat_template", text(TEMPLATE)),
        ];
        let header = header.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut tiny = Self { header, tensors: Vec::new(), cut: 0 };
        tiny.add("token_embd.weight", &[vocabulary, WIDTH]);
        tiny.add("output_norm.weight", &[WIDTH]);
        let key_width = WIDTH / HEADS as usize * KEY_HEADS as usize;
        for layer in 0..LAYERS {
            let mut part =
                |name: &str, shape: &[usize]| tiny.add(&format!("blk.{layer}.{name}.weight"), shape);
            part("attn_norm", &[WIDTH]);
            part("attn_q", &[WIDTH, WIDTH]);
            part("attn_k", &[key_width, WIDTH]);
            part("attn_v", &[key_width, WIDTH]);
            part("attn_output", &[WIDTH, WIDTH]);
            part("ffn_norm", &[WIDTH]);
            part("ffn_gate", &[INNER, WIDTH]);
            part("ffn_up", &[INNER, WIDTH]);
            part("ffn_down", &[WIDTH, INNER]);
        }
        tiny
    }

    /// Adds a tensor: a vector as it is, a matrix quantized.
    pub(super) fn add(&mut self, name: &str, dimensions: &[usize]) {
        self.tensors.push(TinyTensor {
            name: name.to_owned(),
            dimensions: dimensions.to_vec(),
            kind: if dimensions.len() == 1 { Kind::F32 } else { Kind::Q4_1 },
            offset_error: 0,
            poisoned: false,
            numbers: dimensions.iter().product(),
        });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.tensors.retain(|tensor| tensor.name != name);
    }

    pub(super) fn tensor(&mut self, name: &str) -> &mut TinyTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.header.len() as u64).to_le_bytes());
        for (key, value) in &self.header {
            write_text(&mut file, key);
            write_value(&mut file, value);
        }
        let mut random = 0x5eed_u64;
        let mut data = Vec::new();
        for tensor in &self.tensors {
            write_text(&mut file, &tensor.name);
            file.extend(u32::try_from(tensor.dimensions.len()).unwrap().to_le_bytes());
            for dimension in tensor.dimensions.iter().rev() {
                file.extend((*dimension as u64).to_le_bytes());
            }
            file.extend(tensor.kind.0.to_le_bytes());
            file.extend((data.len() as u64 + tensor.offset_error).to_le_bytes());
            tensor.write(&mut data, &mut random);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(data);
        file.truncate(file.len() - self.cut);
        file
    }
}

impl TinyTensor {
    /// Random weights, all norms 1.
    fn write(&self, data: &mut Vec<u8>, random: &mut u64) {
        if self.dimensions.len() == 1 {
            let norm = if self.poisoned { f32::NAN } else { 1.0 };
            (0..self.numbers).for_each(|_| data.extend(norm.to_le_bytes()));
            return;
        }
        for _ in 0..self.numbers / 32 {
            // Q4_1: a step and the least number in 16 bits each, then 32 numbers of four bits: from -0.5 to 0.4375.
            let step = if self.poisoned { 0x7e00_u16 } else { 0x2c00 };
            data.extend(step.to_le_bytes());
            data.extend(0xb800_u16.to_le_bytes());
            for _ in 0..2 {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                data.extend(random.to_le_bytes());
            }
        }
    }
}

fn write_text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn write_value(file: &mut Vec<u8>, value: &Value) {
    let kind = |file: &mut Vec<u8>, kind: u32| file.extend(kind.to_le_bytes());
    match value {
        Value::U32(number) => {
            kind(file, 4);
            file.extend(number.to_le_bytes());
        }
        Value::F32(number) => {
            kind(file, 6);
            file.extend(number.to_le_bytes());
        }
        Value::Text(text) => {
            kind(file, 8);
            write_text(file, text);
        }
        Value::Texts(texts) => {
            kind(file, 9);
            kind(file, 8);
            file.extend((texts.len() as u64).to_le_bytes());
            texts.iter().for_each(|text| write_text(file, text));
        }
        Value::Numbers(numbers) => {
            kind(file, 9);
            kind(file, 5);
            file.extend((numbers.len() as u64).to_le_bytes());
            numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
        }
    }
}
