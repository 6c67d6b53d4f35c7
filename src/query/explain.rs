//! The most probable explanation of what was observed, by max-product.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::circuit::evidence::Evidence;
use crate::mixture::{Mixture, Prior};
use crate::patch::PatchEvidence;
use crate::refusal;

/// What explains some pictures best.
#[derive(Debug)]
pub struct Explanation {
    /// ln of the largest joint probability (or density) in nats, float64 `[B]`.
    pub log_probability: Tensor,
    /// The clusters of the patches, int64 `[B, L]`.
    pub codes: Tensor,
    /// The patches `[B, L, D]`: observed values as they are, the most probable ones elsewhere; integers, or float64 where the
    /// model is a density.
    pub patches: Tensor,
}

/// The clusters `argmax_z p(z | observed)`, jointly for all patches of a picture, int64 `[B, L]`, and `max_z ln p(z, observed)`
/// in nats, float64 `[B]`. (States of a latent tree with hidden states are maximised with them.)
///
/// # Errors
/// Where the patches do not fit, or the reading has no such marginal.
pub fn codes(model: &Mixture, evidence: &PatchEvidence) -> Result<(Tensor, Tensor)> {
    let _guard = tch::no_grad_guard();
    best_codes(model, &model.patch_log_likelihood(evidence)?)
}

/// The clusters that are best for given values of the patches `[B, L, K]`, in nats, and the value of all.
fn best_codes(model: &Mixture, values: &Tensor) -> Result<(Tensor, Tensor)> {
    let independent = |values: &Tensor| {
        let (best, codes) = values.to_kind(Kind::Double).max_dim(-1, false);
        (codes, best.sum_dim_intlist(-1, false, Kind::Double))
    };
    Ok(match model.prior() {
        Prior::Tree(tree) => {
            let maximum = tree.maximise(&Evidence::soft(values, tree.plan())?)?;
            (tree.maximiser(0, &maximum), maximum.log_probability.squeeze_dim(-1))
        }
        Prior::Independent(log_weights) => independent(&(values + log_weights)),
        Prior::Given => independent(values),
    })
}

/// The most probable explanation: clusters, the latents inside of patches and what is missing of pictures `[B, L, D]`, jointly
/// and exactly. (With the latents summed out, the most probable pixels cannot be found in polynomial time; these are an
/// approximation of them.)
///
/// # Errors
/// Where the patches do not fit, or the model has no such maximum.
pub fn explain(model: &Mixture, evidence: &PatchEvidence) -> Result<Explanation> {
    let _guard = tch::no_grad_guard();
    if model.view().context > 0 {
        return Err(refusal!(
            "patches with context have no most probable picture in closed form: each patch changes what the next ones see"
        ));
    }
    let size = evidence.values().size();
    let flat = evidence.flat();
    let values = model.patches().maximum(&flat)?.view([size[0], size[1], -1]);
    let (codes, log_probability) = best_codes(model, &values)?;
    let patches = model.patches().maximiser(&flat, &codes.reshape([-1]))?.view(size.as_slice());
    Ok(Explanation { log_probability, codes, patches })
}
