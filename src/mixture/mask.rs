//! Which pixels of pictures were observed.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::Mixture;
use crate::data::view::View;
use crate::patch::PatchEvidence;
use crate::require;
use crate::wavelet::Transform;

/// True where a pixel was observed: bool `[H, W]`, the same for all pictures, or `[B, H, W]`, one for each; of the part of a
/// picture that is modelled.
#[derive(Debug)]
pub struct Mask(Tensor);

impl Mask {
    /// A mask by hand.
    ///
    /// # Errors
    /// When the tensor is not bool, or has not two or three dimensions.
    pub fn new(observed: &Tensor) -> Result<Self> {
        let (kind, size) = (observed.kind(), observed.size());
        require!(kind == Kind::Bool, "a mask is true where a pixel is observed: expected bool, found {kind:?}");
        require!((2..=3).contains(&size.len()), "a mask is [H, W] or [B, H, W], found {size:?}");
        Ok(Self(observed.shallow_clone()))
    }

    /// The upper half is observed, with the row in the middle.
    #[must_use]
    pub fn top(height: i64, width: i64) -> Self {
        Self::of(height, width, |row, _| row.lt((height + 1) / 2))
    }

    /// The left half is observed, with the column in the middle.
    #[must_use]
    pub fn left(height: i64, width: i64) -> Self {
        Self::of(height, width, |_, column| column.lt((width + 1) / 2))
    }

    /// Every other pixel is observed, as on a chessboard, the first one among them.
    #[must_use]
    pub fn chessboard(height: i64, width: i64) -> Self {
        Self::of(height, width, |row, column| (row + column).remainder(2).eq(0))
    }

    /// True where a pixel is observed: bool `[H, W]` or `[B, H, W]`.
    pub fn observed(&self) -> &Tensor {
        &self.0
    }

    fn of(height: i64, width: i64, observed: impl Fn(&Tensor, &Tensor) -> Tensor) -> Self {
        let axis = |length| Tensor::arange(length, (Kind::Int64, Device::Cpu));
        let found = observed(&axis(height).unsqueeze(1), &axis(width).unsqueeze(0));
        Self(found.expand([height, width], false))
    }

    /// How many pixels are observed, of one picture or of all B.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.0.sum(Kind::Int64).int64_value(&[]) as usize
    }
}

impl Mixture {
    /// Patches that see others are known in raster order: a mask `[B, L, numbers]` observes all of the patches up to one, and
    /// nothing after it.
    fn check_prefix(&self, observed: &Tensor) -> Result<()> {
        let own = self.view.variables() as i64;
        let patch = |t: &Tensor| t.narrow(-1, self.view.numbers() as i64 - own, own).to_kind(Kind::Int64);
        let inside = self.view.observed().map_or_else(|| observed.ones_like(), |inside| inside.expand_as(observed));
        let count = |t: &Tensor| patch(t).sum_dim_intlist(-1, false, Kind::Int64);
        let (seen, all) = (count(observed), count(&inside));
        let later = seen.gt(0).narrow(1, 1, seen.size()[1] - 1);
        let earlier_cut = seen.lt_tensor(&all).narrow(1, 0, seen.size()[1] - 1);
        let broken = later.logical_and(&earlier_cut.cumsum(1, Kind::Int64).gt(0)).any();
        require!(
            broken.int64_value(&[]) == 0,
            "patches with context have marginals of the first patches in raster order only: a patch is known given the pixels above it and to its left, and what is not observed there has no closed sum"
        );
        Ok(())
    }

    /// The patches `[B, L, D]` of which only the pixels of a mask were observed.
    ///
    /// # Errors
    /// A refusal where the mask has another size than the pictures, or a transform mixes pixels, so that marginals of pixels are
    /// none of coefficients.
    pub fn observe(&self, patches: PatchEvidence, mask: &Mask) -> Result<PatchEvidence> {
        self.observe_in(&self.view, patches, mask)
    }

    /// The same for pictures of another size, by a view of their own.
    ///
    /// # Errors
    /// As [`Mixture::observe`].
    pub fn observe_in(&self, view: &View, patches: PatchEvidence, mask: &Mask) -> Result<PatchEvidence> {
        require!(
            view.transform == Transform::None,
            "marginals of pixels are not exact here: the model is one of wavelet coefficients, each of which mixes many pixels\n  train with transform: none"
        );
        let [height, width] = view.size().map(|n| n as i64);
        let (size, count) = (mask.0.size(), patches.values().size()[0]);
        require!(
            size[size.len() - 2..] == [height, width],
            "the mask has {} x {} pixels, the model's pictures have {height} x {width}",
            size[size.len() - 2],
            size[size.len() - 1]
        );
        require!(size.len() == 2 || size[0] == count, "there are {} masks for {count} pictures", size[0]);
        let by_number = mask.0.reshape([-1, height, width, 1]).expand([-1, -1, -1, view.grid.channels as i64], false);
        let observed = view.cut(&by_number);
        if view.context > 0 {
            self.check_prefix(&observed)?;
        }
        Ok(patches.with_observed(&observed))
    }
}
