//! A vector quantiser trained by gradient (van den Oord et al. 2017), with a prior over its codes and a record of
//! their use.
//!
//! Loss `|sg(z) - e|^2 + 0.25 |z - sg(e)|^2`, mean over numbers; the gradient of the quantised vectors goes straight
//! through to z. Codes that nothing chose for a while are moved onto vectors of the present batch.

use super::weights::Weights;
use crate::random;
use anyhow::Result;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// Weight of the pull of the vectors towards their codes.
const COMMITMENT: f64 = 0.25;
/// Lloyd steps that set the first codebook.
const FIRST_STEPS: usize = 10;
/// Added to every code's count when the empirical prior is estimated.
const PSEUDOCOUNT: f64 = 1.0;

pub(super) struct Quantiser {
    /// Embeddings, f32 `[K, E]`.
    codebook: Tensor,
    /// Log-probability of each code in nats, f64 `[K]`.
    log_prior: Tensor,
}

/// Vectors after quantisation; h x w of them a picture.
pub(super) struct Quantised {
    /// Vectors before quantisation, `[B, E, h, w]`.
    pub continuous: Tensor,
    /// The chosen embeddings, `[B, E, h, w]`; the gradient flows to `continuous`.
    pub embedded: Tensor,
    /// The choice, i64 `[B, h, w]`.
    pub codes: Tensor,
}

impl Quantiser {
    /// `name` is the level, `prior` the name of its code prior; both go into tensor names.
    pub fn new(weights: &mut Weights, name: &str, prior: &str, [codes, embedding]: [i64; 2]) -> Result<Self> {
        Ok(Self {
            codebook: weights.uniform(&format!("{name}.codebook"), &[codes, embedding], embedding)?,
            log_prior: weights.constant(&format!("{name}.prior.{prior}"), codes, -(codes as f64).ln())?,
        })
    }

    pub fn codes(&self) -> i64 {
        self.codebook.size()[0]
    }

    /// The nearest code of each vector `[n, E]`, i64 `[n]`: least `|e|^2 - 2 z.e`.
    fn nearest(&self, vectors: &Tensor) -> Tensor {
        let _guard = tch::no_grad_guard();
        let norms = self.codebook.square().sum_dim_intlist(1, false, Kind::Float);
        (norms - vectors.matmul(&self.codebook.tr()) * 2.0).argmin(1, false)
    }

    /// Quantise vectors `[B, E, h, w]`.
    pub fn quantise(&self, continuous: &Tensor) -> Quantised {
        let (_, _, rows, columns) = continuous.size4().expect("four dimensions");
        // The batch is left open, for traces of it.
        let codes = self.nearest(&rows_of(continuous)).reshape([-1, rows, columns]);
        let embedded = straight_through(continuous, &self.embed(&codes));
        Quantised { continuous: continuous.shallow_clone(), embedded, codes }
    }

    /// Embeddings `[B, E, h, w]` of codes `[B, h, w]`.
    fn embed(&self, codes: &Tensor) -> Tensor {
        Tensor::embedding(&self.codebook, codes, -1, false, false).permute([0, 3, 1, 2])
    }

    /// Codebook and commitment loss, a scalar.
    pub fn loss(&self, quantised: &Quantised) -> Tensor {
        let embedded = self.embed(&quantised.codes);
        let mean = tch::Reduction::Mean;
        let codebook = embedded.mse_loss(&quantised.continuous.detach(), mean);
        codebook + quantised.continuous.mse_loss(&embedded.detach(), mean) * COMMITMENT
    }

    /// `-log p(codes)` of each picture in nats, f64 `[B]`.
    pub fn code_nats(&self, codes: &Tensor) -> Tensor {
        -self.log_prior.take(codes).flatten(1, -1).sum_dim_intlist(1, false, Kind::Double)
    }

    /// Set the prior to the frequencies of these counts `[K]`, one more seen of each code.
    pub fn set_prior(&mut self, counts: &Tensor) {
        let _guard = tch::no_grad_guard();
        let counts = counts + PSEUDOCOUNT;
        self.log_prior.copy_(&(&counts / counts.sum(Kind::Double)).log());
    }

    /// Set the codebook by a few Lloyd steps on vectors `[B, E, h, w]`. With fewer vectors than codes some codes start
    /// out equal; the unused twins are restarted later.
    pub fn initialise(&mut self, continuous: &Tensor, rng: &mut ChaCha8Rng) {
        let _guard = tch::no_grad_guard();
        let vectors = rows_of(continuous);
        let chosen: Vec<i64> =
            shuffled(vectors.size()[0], rng).into_iter().cycle().take(self.codes() as usize).collect();
        self.codebook.copy_(&vectors.index_select(0, &Tensor::from_slice(&chosen).to_device(vectors.device())));
        for _ in 0..FIRST_STEPS {
            let members = self.nearest(&vectors).one_hot(self.codes()).to_kind(Kind::Float); // [n, K]
            let counts = members.sum_dim_intlist(0, false, Kind::Float).unsqueeze(1);
            let means = members.tr().matmul(&vectors) / counts.clamp_min(1.0);
            let kept = means.where_self(&counts.gt(0.0), &self.codebook);
            self.codebook.copy_(&kept);
        }
    }

    /// Move the codes in `dead` (i64 `[n]`) onto distinct vectors of the batch, as far as there are; the moved ones.
    pub fn restart(&mut self, dead: &Tensor, continuous: &Tensor, rng: &mut ChaCha8Rng) -> Tensor {
        let _guard = tch::no_grad_guard();
        let vectors = rows_of(continuous);
        let chosen = Tensor::from_slice(&shuffled(vectors.size()[0], rng)).to_device(vectors.device());
        let count = dead.size()[0].min(chosen.size()[0]);
        let moved = dead.narrow(0, 0, count);
        let _ = self.codebook.index_copy_(0, &moved, &vectors.index_select(0, &chosen.narrow(0, 0, count)));
        moved
    }
}

/// The embeddings in value (to the last bit), the continuous vectors in gradient.
fn straight_through(continuous: &Tensor, embedded: &Tensor) -> Tensor {
    embedded.detach() + (continuous - continuous.detach())
}

/// Vectors `[B, E, h, w]` as rows `[B * h * w, E]`.
fn rows_of(vectors: &Tensor) -> Tensor {
    vectors.permute([0, 2, 3, 1]).flatten(0, 2)
}

fn shuffled(count: i64, rng: &mut ChaCha8Rng) -> Vec<i64> {
    let mut all: Vec<i64> = (0..count).collect();
    all.shuffle(rng);
    all
}

/// How a level's codes were used.
pub(super) struct Usage {
    /// Steps since each code was last chosen, i64 `[K]`.
    pub idle: Tensor,
    /// How often each code was chosen since the epoch began, f64 `[K]`.
    pub counts: Tensor,
}

impl Usage {
    pub fn new(codes: i64, device: Device) -> Self {
        Self { idle: Tensor::zeros(codes, (Kind::Int64, device)), counts: Tensor::zeros(codes, (Kind::Double, device)) }
    }

    /// Note the codes of a batch.
    pub fn note(&mut self, codes: &Tensor) {
        let counts = codes.flatten(0, -1).bincount(None::<Tensor>, self.idle.size()[0]);
        self.idle = (&self.idle + 1) * counts.eq(0);
        self.counts += counts;
    }

    /// Codes that were not chosen for `patience` steps, i64 `[n]`; their clocks start again.
    pub fn dead(&mut self, patience: usize) -> Tensor {
        let dead = self.idle.ge(patience as i64).nonzero().squeeze_dim(1);
        let _ = self.idle.index_fill_(0, &dead, 0);
        dead
    }

    /// e to the entropy of the codes' frequencies: how many codes are used in effect.
    pub fn perplexity(&self) -> f64 {
        let frequencies = &self.counts / self.counts.sum(Kind::Double).clamp_min(1.0);
        f64::try_from((-frequencies.xlogy(&frequencies).sum(Kind::Double)).exp()).expect("a number")
    }
}

/// The random stream of a level's first codebook or of its restarts at a step.
pub(super) fn stream(seed: u64, purpose: &str, level: &str, step: u64) -> ChaCha8Rng {
    random::rng(seed, &format!("teacher {purpose} {level}"), step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners() -> Quantiser {
        Quantiser {
            codebook: Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0]).reshape([2, 2]).set_requires_grad(true),
            log_prior: Tensor::from_slice(&[0.25f64.ln(), 0.75f64.ln()]),
        }
    }

    /// One picture of two vectors: (0.2, 0.0) and (0.9, 0.7).
    fn two_vectors() -> Tensor {
        Tensor::from_slice(&[0.2f32, 0.9, 0.0, 0.7]).reshape([1, 2, 1, 2])
    }

    #[test]
    fn gradients_go_straight_through_and_losses_pull_both_ways() {
        let (quantiser, z) = (corners(), two_vectors().set_requires_grad(true));
        let quantised = quantiser.quantise(&z);
        assert_eq!(Vec::<i64>::try_from(quantised.codes.flatten(0, -1)).unwrap(), [0, 1]);
        assert_eq!(quantised.embedded, Tensor::from_slice(&[0f32, 1.0, 0.0, 1.0]).reshape([1, 2, 1, 2]));

        let weights = Tensor::from_slice(&[1f32, 2.0, 3.0, 4.0]).reshape([1, 2, 1, 2]);
        let through = Tensor::run_backward(&[(&quantised.embedded * &weights).sum(None)], &[&z], true, false);
        assert_eq!(through[0], weights);

        // Four numbers: d/dz = 0.25 * 2 (z - e) / 4, d/de = 2 (e - z) / 4.
        let loss = quantiser.loss(&quantised);
        let pulls = Tensor::run_backward(&[loss], &[&z, &quantiser.codebook], false, false);
        let expected = [0.2f32, -0.1, 0.0, -0.3].map(|difference| 0.125 * difference);
        assert!(pulls[0].allclose(&Tensor::from_slice(&expected).reshape([1, 2, 1, 2]), 1e-6, 1e-7, false));
        let expected = [-0.2f32, 0.0, 0.1, 0.3].map(|difference| 0.5 * difference);
        assert!(pulls[1].allclose(&Tensor::from_slice(&expected).reshape([2, 2]), 1e-6, 1e-7, false));
    }

    #[test]
    fn codes_cost_their_prior() {
        let mut quantiser = corners();
        let codes = quantiser.quantise(&two_vectors()).codes;
        let nats = f64::try_from(quantiser.code_nats(&codes)).unwrap();
        assert!((nats + (0.25f64 * 0.75).ln()).abs() < 1e-12);
        quantiser.set_prior(&Tensor::from_slice(&[8f64, 0.0]));
        let nats = f64::try_from(quantiser.code_nats(&codes)).unwrap();
        assert!((nats + (0.9f64 * 0.1).ln()).abs() < 1e-12);
    }

    #[test]
    fn idle_codes_are_moved_onto_vectors_of_the_batch() {
        let mut usage = Usage::new(4, Device::Cpu);
        for codes in [[0i64, 1], [0, 2], [0, 0]] {
            usage.note(&Tensor::from_slice(&codes));
        }
        assert_eq!(Vec::<i64>::try_from(&usage.idle).unwrap(), [0, 2, 1, 3]);
        assert_eq!(Vec::<i64>::try_from(usage.dead(2)).unwrap(), [1, 3]);
        assert_eq!(Vec::<i64>::try_from(&usage.idle).unwrap(), [0, 0, 1, 0]);
        // Frequencies 4/6, 1/6, 1/6.
        let entropy = -(2.0 / 3.0 * (2.0f64 / 3.0).ln() + 2.0 / 6.0 * (1.0f64 / 6.0).ln());
        assert!((usage.perplexity() - entropy.exp()).abs() < 1e-12);

        let (mut quantiser, batch) = (corners(), two_vectors() + 5.0);
        let moved = quantiser.restart(&Tensor::from_slice(&[1i64]), &batch, &mut random::rng(1, "test", 0));
        assert_eq!(Vec::<i64>::try_from(&moved).unwrap(), [1]);
        let row: Vec<f32> = Vec::try_from(quantiser.codebook.get(1)).unwrap();
        assert!(row == [5.2, 5.0] || row == [5.9, 5.7], "{row:?}");
        assert_eq!(Vec::<f32>::try_from(quantiser.codebook.get(0)).unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn the_first_codebook_is_the_means_of_the_vectors() {
        let batch = Tensor::from_slice(&[0f32, 0.2, 4.0, 4.4]).reshape([1, 1, 2, 2]);
        let mut quantiser = Quantiser {
            codebook: Tensor::zeros([2, 1], (Kind::Float, Device::Cpu)),
            log_prior: Tensor::zeros(2, (Kind::Double, Device::Cpu)),
        };
        quantiser.initialise(&batch, &mut random::rng(3, "test", 0));
        let mut centres: Vec<f32> = Vec::try_from(quantiser.codebook.flatten(0, -1)).unwrap();
        centres.sort_by(f32::total_cmp);
        assert!((centres[0] - 0.1).abs() < 1e-6 && (centres[1] - 4.2).abs() < 1e-6, "{centres:?}");
    }
}
