//! Drawing patches given their contexts.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::experts::{Centred, ContextPatches};
use super::factor::Factor;
use crate::circuit::sample::draw;
use crate::patch::evidence::{PatchEvidence, Reading};
use crate::patch::gaussian::start::normal;
use crate::{refusal, require};

/// Windows `[N, W]`, float64, whose patches are drawn from p(x | c, cluster), the clusters int64 `[N]`; of the context, what
/// is observed counts.
///
/// # Errors
/// Where a part of a patch is observed: it is drawn as a whole.
pub(super) fn patches(
    model: &ContextPatches,
    patches: &PatchEvidence,
    clusters: &Tensor,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor> {
    require!(
        patches.reading() == Reading::Density,
        "patches are drawn from the density\n  ask for the density reading"
    );
    let common = model.common();
    let own = common.numbers() - common.given;
    let windows = model.centred(&with_any_patch(model, patches)?, 0.0)?;
    let weights = model.weights(&windows);
    let mut drawn = windows.windows.to_kind(Kind::Double);
    let masks = model.by_mask(&windows);
    for (k, expert) in model.experts().iter().enumerate() {
        for (rows, bank) in &masks {
            let mine = clusters.to_device(rows.device()).index_select(0, rows).eq(k as i64).nonzero().squeeze_dim(1);
            let rows = rows.index_select(0, &mine);
            if rows.numel() > 0 {
                let log_weights = weights.of_scales(k, expert, &rows);
                let new = draw_few(model, &windows, &rows, &bank.factors[k], &log_weights, rng);
                drawn = drawn.index_copy(0, &rows, &new);
            }
        }
    }
    let values = drawn.index_select(1, &model.order.argsort(0, false)) + &model.centre;
    let given = patches.values().narrow(1, 0, common.given).to_kind(Kind::Double).to_device(values.device());
    Ok(Tensor::cat(&[given, values.narrow(1, common.given, own)], 1))
}

/// The same windows with the centre for their patches, as if these were observed: they are drawn with all of their numbers,
/// also where a picture's border cuts them.
fn with_any_patch(model: &ContextPatches, patches: &PatchEvidence) -> Result<PatchEvidence> {
    let (given, own) = (model.common().given, model.common().numbers() - model.common().given);
    let observed = patches.observed().filter(|observed| observed.narrow(1, given, own).any().int64_value(&[]) == 0);
    let Some(observed) = observed else {
        return Err(refusal!("patches with context are drawn as a whole, found some that are observed in part"));
    };
    let context = observed.narrow(1, 0, given);
    let seen = patches.values().narrow(1, 0, given).where_self(&context, &Tensor::from(0.0)).to_kind(Kind::Double);
    let centre = model.centre.narrow(0, given, own).expand([seen.size()[0], own], false);
    let patch = observed.narrow(1, given, own).ones_like();
    let values = Tensor::cat(&[seen, centre], 1);
    Ok(PatchEvidence::new(&values, Reading::Density).with_observed(&Tensor::cat(&[context, patch], 1)))
}

/// Whole windows `[n, W]` about the centre, group by group.
fn draw_few(
    model: &ContextPatches,
    windows: &Centred,
    rows: &Tensor,
    factor: &Factor,
    log_weights: &Tensor,
    rng: &mut ChaCha8Rng,
) -> Tensor {
    let common = model.common();
    let n = rows.size()[0];
    let chosen = draw(&log_weights.exp().tr().expand([n, -1], false), rng);
    let scales = common.scales.index_select(0, &chosen); // [n, G]
    let drawn = windows.windows.index_select(0, rows);
    let patch = common.numbers() - common.given;
    let _ = drawn.narrow(1, common.given, patch).zero_();
    for (g, (start, width)) in common.spans().enumerate() {
        let (y, triangle) = factor.innovation(&drawn, g, (start, width));
        let noise = normal((n * width) as usize, rng).view([n, width]).to_device(drawn.device());
        let target = noise * scales.narrow(1, g as i64, 1) - y.to_kind(Kind::Double);
        let triangle = triangle.to_kind(Kind::Double);
        let x = triangle.linalg_solve_triangular(&target.tr(), false, true, false).tr();
        drawn.narrow(1, start, width).copy_(&x);
    }
    drawn.to_kind(Kind::Double)
}
