//! The arithmetic of a llama-like model, by candle: from tokens to what may come next.

use std::sync::Arc;

use candle_core::quantized::{QMatMul, QTensor};
use candle_core::{Device, Module, Result, Tensor};
use candle_nn::kv_cache::KvCache;
use candle_nn::ops::{rms_norm, silu, softmax_last_dim};
use candle_nn::rotary_emb::rope_i;

use super::error::SlmError;
use super::gguf::{ModelFile, Shape};

/// The weights of a model. Nothing in it changes.
pub(super) struct Transformer {
    shape: Shape,
    embedding: Arc<QTensor>,
    layers: Vec<Layer>,
    norm: Tensor,
    output: QMatMul,
    /// For each position and each pair of a head's numbers: the rotation.
    cos: Tensor,
    sin: Tensor,
}

struct Layer {
    attention_norm: Tensor,
    /// The query, key and value of every head, below each other: one product instead of three.
    query_key_value: QMatMul,
    attention_output: QMatMul,
    feed_forward_norm: Tensor,
    gate_up: QMatMul,
    down: QMatMul,
}

/// The keys and values of all tokens so far.
pub(super) struct Memory {
    layers: Vec<KvCache>,
    tokens: usize,
}

impl Transformer {
    /// Reads all weights of a file, for at most `context` positions.
    pub(super) fn load(file: &mut ModelFile, context: usize) -> std::result::Result<Self, SlmError> {
        let shape = file.shape();
        let embedding = Arc::new(file.table("token_embd.weight")?);
        let output = if file.has("output.weight") {
            file.matrix(&["output.weight"])?
        } else {
            QMatMul::from_arc(Arc::clone(&embedding))?
        };
        let layers = (0..shape.layers).map(|number| Layer::load(file, number));
        let layers = layers.collect::<std::result::Result<Vec<_>, _>>()?;
        let norm = file.vector("output_norm.weight")?;
        let (cos, sin) = rotations(&shape, context)?;
        Ok(Self { shape, embedding, layers, norm, output, cos, sin })
    }

    /// An empty memory with room for `tokens` tokens.
    pub(super) fn memory(&self, tokens: usize) -> Memory {
        Memory { layers: vec![KvCache::new(1, tokens); self.shape.layers], tokens: 0 }
    }

    /// Takes the next tokens in. There must be room for them, in the memory and in the context.
    pub(super) fn read(&self, tokens: &[u32], memory: &mut Memory) -> Result<Tensor> {
        let count = tokens.len();
        let ids = Tensor::new(tokens, &Device::Cpu)?;
        let cos = self.cos.narrow(0, memory.tokens, count)?;
        let sin = self.sin.narrow(0, memory.tokens, count)?;
        let mask = mask(count, memory.tokens)?;
        let mut x = self.embedding.embedding(&ids)?;
        for (layer, cache) in self.layers.iter().zip(&mut memory.layers) {
            let normed = rms_norm(&x, &layer.attention_norm, self.shape.epsilon)?;
            let attended = self.attend(layer, &normed, cache, (&cos, &sin), mask.as_ref())?;
            x = (x + layer.attention_output.forward(&attended)?)?;
            let normed = rms_norm(&x, &layer.feed_forward_norm, self.shape.epsilon)?;
            x = (x + self.feed_forward(layer, &normed)?)?;
        }
        memory.tokens += count;
        Ok(x)
    }

    /// How well each token of the vocabulary would follow the last one of what [`Self::read`] returned.
    pub(super) fn next(&self, read: &Tensor) -> Result<Vec<f32>> {
        let last = read.narrow(0, read.dim(0)? - 1, 1)?.contiguous()?;
        let normed = rms_norm(&last, &self.norm, self.shape.epsilon)?;
        self.output.forward(&normed)?.flatten_all()?.to_vec1()
    }

    fn attend(
        &self,
        layer: &Layer,
        x: &Tensor,
        cache: &mut KvCache,
        (cos, sin): (&Tensor, &Tensor),
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Shape { heads, key_heads, head, .. } = self.shape;
        let count = x.dim(0)?;
        let all = layer.query_key_value.forward(x)?;
        // (tokens, heads * head) to (heads, tokens, head).
        let split = |first: usize, heads: usize| -> Result<Tensor> {
            let part = all.narrow(1, first * head, heads * head)?;
            part.reshape((count, heads, head))?.transpose(0, 1)?.contiguous()
        };
        let rotate = |x: Tensor| rope_i(&x.unsqueeze(0)?, cos, sin)?.squeeze(0);
        let query = rotate(split(0, heads)?)?;
        let key = rotate(split(heads, key_heads)?)?;
        let value = split(heads + key_heads, key_heads)?;
        let (keys, values) = cache.append(&key, &value)?;
        // The heads that share a key stand below each other, so that one product serves them.
        let rows = heads / key_heads * count;
        #[allow(clippy::cast_precision_loss)] // A head is at most 65,536 numbers wide.
        let scale = 1.0 / (head as f64).sqrt();
        let query = (query.reshape((key_heads, rows, head))? * scale)?;
        let mut scores = query.matmul(&keys.t()?)?;
        if let Some(mask) = mask {
            let (_, _, total) = scores.dims3()?;
            scores = scores.reshape((heads, count, total))?.broadcast_add(mask)?;
            scores = scores.reshape((key_heads, rows, total))?;
        }
        let attended = softmax_last_dim(&scores)?.matmul(&values.contiguous()?)?;
        attended.reshape((heads, count, head))?.transpose(0, 1)?.reshape((count, heads * head))
    }

    fn feed_forward(&self, layer: &Layer, x: &Tensor) -> Result<Tensor> {
        let both = layer.gate_up.forward(x)?;
        let gate = both.narrow(1, 0, self.shape.inner)?.contiguous()?;
        let up = both.narrow(1, self.shape.inner, self.shape.inner)?;
        layer.down.forward(&(silu(&gate)? * up)?)
    }
}

impl Layer {
    fn load(file: &mut ModelFile, number: usize) -> std::result::Result<Self, SlmError> {
        let name = |part: &str| format!("blk.{number}.{part}.weight");
        Ok(Self {
            attention_norm: file.vector(&name("attn_norm"))?,
            query_key_value: file.matrix(&[&name("attn_q"), &name("attn_k"), &name("attn_v")])?,
            attention_output: file.matrix(&[&name("attn_output")])?,
            feed_forward_norm: file.vector(&name("ffn_norm"))?,
            gate_up: file.matrix(&[&name("ffn_gate"), &name("ffn_up")])?,
            down: file.matrix(&[&name("ffn_down")])?,
        })
    }
}

/// The rotations of every position, for pairs of neighbouring numbers.
fn rotations(shape: &Shape, context: usize) -> Result<(Tensor, Tensor)> {
    let pairs = shape.head / 2;
    #[allow(clippy::cast_precision_loss)] // Positions and widths are small.
    let angle = |position: usize, pair: usize| {
        position as f32 / shape.rope_base.powf((2 * pair) as f32 / shape.head as f32)
    };
    let angles = (0..context).flat_map(|position| (0..pairs).map(move |pair| angle(position, pair)));
    let angles = Tensor::from_iter(angles, &Device::Cpu)?.reshape((context, pairs))?;
    Ok((angles.cos()?, angles.sin()?))
}

/// What hides later tokens from earlier ones; one token alone sees all that were before it.
fn mask(count: usize, before: usize) -> Result<Option<Tensor>> {
    if count == 1 {
        return Ok(None);
    }
    let seen = |row: usize, column: usize| if column <= before + row { 0.0 } else { f32::NEG_INFINITY };
    let cells = (0..count).flat_map(|row| (0..before + count).map(move |column| seen(row, column)));
    Ok(Some(Tensor::from_iter(cells, &Device::Cpu)?.reshape((count, before + count))?))
}
