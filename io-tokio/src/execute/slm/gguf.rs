//! Reads a model's GGUF file: its header, its shape, its weights. Everything that the file claims is checked before
//! it is used, and no more memory is taken than the file has bytes for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::quantized::gguf_file::{Content, TensorInfo, Value, VersionedMagic};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device, Tensor};

use super::error::SlmError;

/// The longest header, in bytes: 2 MB at SmolLM2, 8 MB at the largest vocabularies. Its values take up to 32 times as
/// much memory while the model is loaded.
const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The most layers, rows and columns that are believed: several times what runs on a phone.
const LAYERS_MAX: usize = 256;
const WIDTH_MAX: usize = 1 << 16;
const VOCABULARY_MAX: usize = 1 << 20;
/// Weights are kept in blocks of so many numbers of a row.
const BLOCK: usize = 32;

/// A model's file whose header has been read.
pub(super) struct ModelFile {
    content: Content,
    file: BufReader<File>,
    shape: Shape,
}

/// What a model of the llama family consists of. All numbers are positive and fit each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    pub(super) layers: usize,
    /// Of a token's vector.
    pub(super) width: usize,
    /// Of the inner layer of the feed-forward part.
    pub(super) inner: usize,
    /// Heads that ask.
    pub(super) heads: usize,
    /// Heads that are asked; each serves `heads / key_heads` of the others.
    pub(super) key_heads: usize,
    /// The width of one head.
    pub(super) head: usize,
    pub(super) vocabulary: usize,
    /// The most tokens that it was trained for.
    pub(super) context: usize,
    pub(super) rope_base: f32,
    pub(super) epsilon: f32,
}

impl ModelFile {
    /// Reads and checks the header.
    pub(super) fn open(path: &Path) -> Result<Self, SlmError> {
        let unreadable = |error: io::Error| SlmError::new(format!("it cannot be read: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        check_magic(&mut file)?;
        file.rewind().map_err(unreadable)?;
        let mut header = Header { file: BufReader::new(file), left: HEADER_BYTES_MAX };
        let content = Content::read(&mut header)
            .map_err(|error| SlmError::from(error).about("its header is broken"))?;
        let shape = Shape::read(&content)?;
        let model = Self { content, file: header.file, shape };
        model.check_tensors(length)?;
        Ok(model)
    }

    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// The model's own name, for people.
    pub(super) fn name(&self) -> Option<&str> {
        self.text("general.name").ok()
    }

    /// A text of the header.
    pub(super) fn text(&self, key: &str) -> Result<&str, SlmError> {
        text(&self.content, key)
    }

    /// A list of texts of the header.
    pub(super) fn texts(&self, key: &str) -> Result<impl ExactSizeIterator<Item = Option<&str>>, SlmError> {
        Ok(list(&self.content, key)?.iter().map(|value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        }))
    }

    /// A list of numbers of the header.
    pub(super) fn numbers(&self, key: &str) -> Result<impl ExactSizeIterator<Item = Option<u64>>, SlmError> {
        Ok(list(&self.content, key)?.iter().map(whole))
    }

    /// A number of the header, which may be missing.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.content.metadata.get(key).and_then(whole)
    }

    /// How many bytes of memory the weights take when they are loaded.
    pub(super) fn weight_bytes(&self) -> u64 {
        let numbers = self.content.tensor_infos.values().map(|info| u64::try_from(info.shape.elem_count()));
        let numbers = numbers.fold(0_u64, |sum, number| sum.saturating_add(number.unwrap_or(u64::MAX)));
        let (block, bytes) = (GgmlDType::Q8_0.block_size(), GgmlDType::Q8_0.type_size());
        numbers.saturating_mul(bytes as u64) / block as u64
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The weights of a norm.
    pub(super) fn vector(&mut self, name: &str) -> Result<Tensor, SlmError> {
        self.numbers_of(name)
    }

    /// Matrices over the same input, one below the other, requantized to Q8_0: the one form of four to eight bits
    /// that candle has fast products for at every width that is a multiple of 32.
    pub(super) fn matrix(&mut self, names: &[&str]) -> Result<QMatMul, SlmError> {
        let parts = names.iter().map(|name| self.numbers_of(name)).collect::<Result<Vec<_>, _>>()?;
        let whole = Tensor::cat(&parts, 0)?;
        drop(parts);
        Ok(QMatMul::from_qtensor(QTensor::quantize(&whole, GgmlDType::Q8_0)?)?)
    }

    /// A table of rows, in Q8_0.
    pub(super) fn table(&mut self, name: &str) -> Result<QTensor, SlmError> {
        let table = self.content.tensor(&mut self.file, name, &Device::Cpu)?;
        if table.dtype() == GgmlDType::Q8_0 {
            return Ok(table);
        }
        Ok(QTensor::quantize(&numbers_in(name, &table)?, GgmlDType::Q8_0)?)
    }

    fn numbers_of(&mut self, name: &str) -> Result<Tensor, SlmError> {
        numbers_in(name, &self.content.tensor(&mut self.file, name, &Device::Cpu)?)
    }

    /// Every tensor is one that is known, has the right shape and lies in the file; together they are no larger than
    /// the file.
    fn check_tensors(&self, length: u64) -> Result<(), SlmError> {
        let Shape { layers, width, inner, heads, key_heads, head, vocabulary, .. } = self.shape;
        let mut known = BTreeSet::new();
        let mut bytes = 0_u64;
        let mut expect = |name: String, dimensions: &[usize]| -> Result<(), SlmError> {
            let info = self.content.tensor_infos.get(&name);
            let info = info.ok_or_else(|| SlmError::new(format!("the tensor {name} is missing")))?;
            let end = check_tensor(&name, info, dimensions, self.content.tensor_data_offset)?;
            bytes = bytes.saturating_add(end.bytes);
            if end.at > length || bytes > length {
                return Err(SlmError::new(format!("it ends before the tensor {name} does: fetch it again")));
            }
            known.insert(name);
            Ok(())
        };
        expect("token_embd.weight".to_owned(), &[vocabulary, width])?;
        expect("output_norm.weight".to_owned(), &[width])?;
        if self.has("output.weight") {
            expect("output.weight".to_owned(), &[vocabulary, width])?;
        }
        for layer in 0..layers {
            let mut part = |name: &str, shape: &[usize]| expect(format!("blk.{layer}.{name}.weight"), shape);
            part("attn_norm", &[width])?;
            part("attn_q", &[heads * head, width])?;
            part("attn_k", &[key_heads * head, width])?;
            part("attn_v", &[key_heads * head, width])?;
            part("attn_output", &[width, heads * head])?;
            part("ffn_norm", &[width])?;
            part("ffn_gate", &[inner, width])?;
            part("ffn_up", &[inner, width])?;
            part("ffn_down", &[width, inner])?;
        }
        // A part that is left out, a bias say, changes every answer without an error.
        match self.content.tensor_infos.keys().find(|name| !known.contains(*name)) {
            Some(name) => {
                Err(SlmError::new(format!("it has a part that is not supported: the tensor {name}")))
            }
            None => Ok(()),
        }
    }
}

impl Shape {
    fn read(content: &Content) -> Result<Self, SlmError> {
        if !matches!(content.magic, VersionedMagic::GgufV3 | VersionedMagic::GgufV2) {
            return Err(SlmError::new("it is a GGUF file of version 1, which is not supported".to_owned()));
        }
        let architecture = text(content, "general.architecture")?;
        if architecture != "llama" {
            return Err(SlmError::new(format!(
                "its architecture is {architecture}, and only llama is supported, as of SmolLM2"
            )));
        }
        let layers = count(content, "llama.block_count", LAYERS_MAX)?;
        let width = count(content, "llama.embedding_length", WIDTH_MAX)?;
        let inner = count(content, "llama.feed_forward_length", WIDTH_MAX)?;
        let heads = count(content, "llama.attention.head_count", WIDTH_MAX)?;
        let key_heads = match content.metadata.get("llama.attention.head_count_kv") {
            Some(_) => count(content, "llama.attention.head_count_kv", WIDTH_MAX)?,
            None => heads,
        };
        let context = count(content, "llama.context_length", usize::MAX)?;
        let vocabulary = list(content, "tokenizer.ggml.tokens")?.len();
        let fits = width.is_multiple_of(BLOCK) && inner.is_multiple_of(BLOCK) && width.is_multiple_of(heads);
        let head = width / heads;
        if !fits || !heads.is_multiple_of(key_heads) || !head.is_multiple_of(2) {
            return Err(SlmError::new(format!(
                "its shape is not supported: width {width}, inner width {inner}, {heads} heads on {key_heads}"
            )));
        }
        if vocabulary == 0 || vocabulary > VOCABULARY_MAX {
            return Err(SlmError::new(format!("its vocabulary has {vocabulary} tokens")));
        }
        for key in
            ["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"]
        {
            if content.metadata.get(key).is_some_and(|value| whole(value) != u64::try_from(head).ok()) {
                return Err(SlmError::new(format!("{key} is not supported unless it is {head}")));
            }
        }
        let scaling = content.metadata.get("llama.rope.scaling.type");
        if scaling.is_some_and(|kind| !matches!(kind, Value::String(kind) if kind == "none")) {
            return Err(SlmError::new("its scaled rotary positions are not supported".to_owned()));
        }
        let rope_base = real(content, "llama.rope.freq_base", Some(10_000.0))?;
        let epsilon = real(content, "llama.attention.layer_norm_rms_epsilon", None)?;
        Ok(Self { layers, width, inner, heads, key_heads, head, vocabulary, context, rope_base, epsilon })
    }
}

fn numbers_in(name: &str, tensor: &QTensor) -> Result<Tensor, SlmError> {
    let tensor = tensor.dequantize(&Device::Cpu)?;
    // Quantizing would hide it, and every answer would be garbage without an error.
    if tensor.sum_all()?.to_scalar::<f32>()?.is_finite() {
        return Ok(tensor);
    }
    Err(SlmError::new(format!("the tensor {name} has something in it that is no number: fetch it again")))
}

/// Where a tensor ends in the file, and its size.
struct Extent {
    at: u64,
    bytes: u64,
}

fn check_tensor(name: &str, info: &TensorInfo, expected: &[usize], data: u64) -> Result<Extent, SlmError> {
    let dimensions = info.shape.dims();
    if dimensions != expected {
        return Err(SlmError::new(format!("the tensor {name} is {dimensions:?}, not {expected:?}")));
    }
    let kind = info.ggml_dtype;
    if matches!(kind, GgmlDType::Q8_1 | GgmlDType::Q8K) {
        return Err(SlmError::new(format!(
            "the quantisation {kind:?} of the tensor {name} is not supported"
        )));
    }
    // `expected` is bounded on every side, so that the products stay far below the largest number.
    let row = expected.last().copied().unwrap_or(1);
    if !row.is_multiple_of(kind.block_size()) {
        return Err(SlmError::new(format!("the quantisation {kind:?} does not fit the tensor {name}")));
    }
    let bytes = (info.shape.elem_count() / kind.block_size()).saturating_mul(kind.type_size()) as u64;
    Ok(Extent { at: data.saturating_add(info.offset).saturating_add(bytes), bytes })
}

/// Says for the two mistakes that people make what is wrong: another file, or half of one.
pub(super) fn check_magic(file: &mut impl Read) -> Result<(), SlmError> {
    let mut begins = Vec::new();
    // A file that cannot be read is as good as an empty one here: what follows meets the same error.
    let _ = file.take(4).read_to_end(&mut begins);
    match begins.as_slice() {
        b"GGUF" => Ok(()),
        b"" => Err(SlmError::new("it is empty: fetch it again".to_owned())),
        _ => Err(SlmError::new("it is no GGUF file".to_owned())),
    }
}

fn missing(key: &str, what: &str) -> SlmError {
    SlmError::new(format!("its header has no {key} that is {what}"))
}

fn text<'a>(content: &'a Content, key: &str) -> Result<&'a str, SlmError> {
    match content.metadata.get(key) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(missing(key, "a text")),
    }
}

fn list<'a>(content: &'a Content, key: &str) -> Result<&'a [Value], SlmError> {
    match content.metadata.get(key) {
        Some(Value::Array(values)) => Ok(values),
        _ => Err(missing(key, "a list")),
    }
}

fn count(content: &Content, key: &str, limit: usize) -> Result<usize, SlmError> {
    let number = content.metadata.get(key).and_then(whole).and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| (1..=limit).contains(number));
    number.ok_or_else(|| missing(key, &format!("a number from 1 to {limit}")))
}

fn real(content: &Content, key: &str, otherwise: Option<f32>) -> Result<f32, SlmError> {
    match (content.metadata.get(key), otherwise) {
        (Some(Value::F32(number)), _) if number.is_finite() && *number > 0.0 => Ok(*number),
        (None, Some(number)) => Ok(number),
        _ => Err(missing(key, "a positive number")),
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::U64(number) => Some(*number),
        Value::U8(_) | Value::U16(_) | Value::U32(_) => value.to_u64().ok(),
        _ => None,
    }
}

/// The file, as far as a header may reach.
struct Header {
    file: BufReader<File>,
    left: u64,
}

impl Read for Header {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it is longer than {HEADER_BYTES_MAX} bytes")))?;
        Ok(read)
    }
}

impl Seek for Header {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }

    // The default goes through `seek`, which empties the buffer before each value.
    fn stream_position(&mut self) -> io::Result<u64> {
        self.file.stream_position()
    }
}
