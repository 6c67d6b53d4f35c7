//! The independent decoder: the parameters of a patch's pixels from that patch's two codes and nothing else, so that
//! patches are independent given their codes, as in the circuit.

use super::layers::Linear;
use super::weights::Weights;
use anyhow::Result;
use tch::Tensor;

pub(super) struct Decoder {
    layers: Vec<Linear>,
}

impl Decoder {
    /// From `inputs` numbers through the hidden `widths` to `outputs` numbers a patch.
    pub fn new(weights: &mut Weights, inputs: i64, widths: &[usize], outputs: i64) -> Result<Self> {
        let sizes: Vec<i64> =
            std::iter::once(inputs).chain(widths.iter().map(|&n| n as i64)).chain(std::iter::once(outputs)).collect();
        let pairs = sizes.windows(2).enumerate();
        let layer = |(i, pair): (usize, &[i64])| Linear::new(weights, &format!("decoder.{i}"), [pair[0], pair[1]]);
        Ok(Self { layers: pairs.map(layer).collect::<Result<_>>()? })
    }

    /// Codes' embeddings `[.., inputs]`, pixel parameters `[.., outputs]`.
    pub fn forward(&self, embeddings: &Tensor) -> Tensor {
        let first = self.layers[0].forward(embeddings);
        self.layers[1..].iter().fold(first, |x, layer| layer.forward(&x.relu()))
    }
}
