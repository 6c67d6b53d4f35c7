//! How a circuit sees pictures: colour space, transform, region, patches; as integers or dequantised.

use anyhow::Result;
use rand::RngExt;
use tch::{Kind, Tensor};

use super::patches::{PatchGrid, Region};
use super::pictures::PictureShape;
use crate::color::ColorSpace;
use crate::random::Draws;
use crate::require;
use crate::wavelet::{self, Transform};

/// From pixels to patches of integers.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Colour space of the integers.
    pub color: ColorSpace,
    /// How pictures are cut.
    pub grid: PatchGrid,
    /// What is done to whole pictures before they are cut.
    pub transform: Transform,
    shape: PictureShape,
}

impl View {
    /// A view of the pixels of pictures of this shape.
    ///
    /// # Errors
    /// When the colour space does not fit the channels or the patch does not divide the picture.
    pub fn new(shape: PictureShape, color: ColorSpace, region: Region, patch: usize) -> Result<Self> {
        if let Some(problem) = color.channels_problem(shape.channels, shape.levels) {
            return Err(crate::refusal!("color: {problem}"));
        }
        let grid = PatchGrid::new(shape, patch, region)?;
        Ok(Self { color, grid, transform: Transform::None, shape })
    }

    /// The same with a transform of whole pictures.
    ///
    /// # Errors
    /// When patches have no power of two as their side, or only part of a picture is looked at.
    pub fn transformed(self, transform: Transform) -> Result<Self> {
        if transform != Transform::None {
            let patch = self.grid.patch;
            require!(
                patch.is_power_of_two() && patch > 1,
                "transform: expected a patch size that is a power of two, found {patch}"
            );
            require!(self.grid.region == Region::Whole, "transform: expected whole pictures, found a quadrant of them");
        }
        Ok(Self { transform, ..self })
    }

    /// The same view of pictures of another height and width in pixels, multiples of the patch; of a region of them where
    /// the view is of a region.
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        let [rows, cols] = [height, width].map(|side| side / self.grid.region.parts() / self.grid.patch);
        let grid = PatchGrid { rows, cols, ..self.grid };
        Self { grid, shape: PictureShape { height, width, ..self.shape }, ..self }
    }

    /// Shape of the pictures.
    #[must_use]
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// Patches of a picture: L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.grid.rows * self.grid.cols
    }

    /// Numbers of a patch: D.
    #[must_use]
    pub fn variables(&self) -> usize {
        self.grid.patch * self.grid.patch * self.grid.channels
    }

    /// Numbers of the part of a picture that is modelled: the denominator of bits per dimension.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.patches() * self.variables()
    }

    /// Smallest and largest value of every variable of a patch.
    #[must_use]
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        let channels = self.color.ranges(self.shape.channels, self.shape.levels);
        let channels: Vec<(i64, i64)> = channels.iter().map(|&(low, high)| (i64::from(low), i64::from(high))).collect();
        if self.transform == Transform::None {
            return channels.into_iter().cycle().take(self.variables()).collect();
        }
        let by_channel: Vec<_> =
            channels.iter().map(|&(low, high)| wavelet::ranges(low, high, self.levels())).collect();
        let pixels = self.grid.patch * self.grid.patch;
        (0..pixels).flat_map(|pixel| by_channel.iter().map(move |ranges| ranges[pixel])).collect()
    }

    /// Whether patches of integers belong to this view.
    #[must_use]
    pub fn has_integers(&self) -> bool {
        self.transform != Transform::Cdf53
    }

    /// Pixels u8 `[B, H, W, C]` to patches of integers, int16 `[B, L, D]`.
    ///
    /// # Errors
    /// A refusal where the transform gives no integers.
    pub fn integers(&self, pixels: &Tensor) -> Result<Tensor> {
        require!(
            self.has_integers(),
            "transform cdf53 gives no integers: it serves the density reading
  train with transform: cdf53_integer for others"
        );
        Ok(self.grid.cut(&self.whole_integers(pixels)))
    }

    /// Pixels u8 `[B, H, W, C]` with noise, drawn evenly from `[0, 1)` for every picture by itself, to patches of floats,
    /// float32 `[B, L, D]`.
    pub fn dequantised(&self, pixels: &Tensor, draws: &Draws) -> Tensor {
        let integers = self.whole_integers(pixels).to_kind(Kind::Float);
        let each = integers.numel() / draws.pictures.len().max(1);
        let mut noise = Vec::with_capacity(integers.numel());
        for i in 0..draws.pictures.len() {
            let mut rng = draws.of(i);
            noise.extend((0..each).map(|_| rng.random::<f32>()));
        }
        let noise = Tensor::from_slice(&noise).view_as(&integers).to_device(integers.device());
        let dequantised = integers + noise;
        self.grid.cut(&match self.transform {
            Transform::Cdf53 => wavelet::forward(&dequantised, self.levels()),
            Transform::None | Transform::Cdf53Integer => dequantised,
        })
    }

    /// Pixels u8 `[B, h, w, C]` of patches of integers `[B, L, D]`: undoes [`integers`](Self::integers) exactly; h and w are
    /// of the part of a picture that is modelled.
    ///
    /// # Errors
    /// A refusal where colours were merged or the transform gives no integers, and for patches that belong to no picture.
    pub fn pixels(&self, patches: &Tensor) -> Result<Tensor> {
        require!(self.has_integers(), "transform cdf53 gives no integers: pictures cannot be had back exactly");
        let whole = self.grid.assemble(patches);
        let values = match self.transform {
            Transform::Cdf53Integer => wavelet::inverse_integers(&whole.to_kind(Kind::Int64), self.levels()),
            Transform::None | Transform::Cdf53 => whole,
        };
        self.color.inverse(&values.to_kind(Kind::Int16))
    }

    /// Pixels u8 `[B, h, w, C]` to look at, of patches of integers `[B, L, D]` such as samples; h and w are of the part of a
    /// picture that is modelled.
    pub fn display(&self, patches: &Tensor) -> Tensor {
        let whole = self.grid.assemble(patches);
        let values = match self.transform {
            Transform::None => whole,
            Transform::Cdf53 => wavelet::inverse(&(whole.to_kind(Kind::Float) + 0.5), self.levels()).floor(),
            Transform::Cdf53Integer => wavelet::inverse_integers(&whole.to_kind(Kind::Int64), self.levels()),
        };
        self.color.display(&values)
    }

    fn whole_integers(&self, pixels: &Tensor) -> Tensor {
        let integers = self.color.forward(pixels);
        match self.transform {
            Transform::Cdf53Integer => wavelet::forward_integers(&integers, self.levels()).to_kind(Kind::Int16),
            Transform::None | Transform::Cdf53 => integers,
        }
    }

    /// Levels of the transform.
    fn levels(&self) -> u32 {
        self.grid.patch.ilog2()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn view(color: ColorSpace, transform: Transform) -> View {
        let channels = if color == ColorSpace::Grey { 1 } else { 3 };
        let shape = PictureShape { height: 8, width: 12, channels, levels: 256 };
        View::new(shape, color, Region::Whole, 4).unwrap().transformed(transform).unwrap()
    }

    #[test]
    fn pixels_come_back_exactly_wherever_no_colour_is_merged() {
        for color in [ColorSpace::Grey, ColorSpace::Rgb, ColorSpace::YcocgR, ColorSpace::YcocgRMod] {
            for transform in [Transform::None, Transform::Cdf53Integer] {
                let view = view(color, transform);
                let size = [5, 8, 12, view.shape().channels as i64];
                let pixels = Tensor::randint(256, size, (Kind::Uint8, Device::Cpu));
                let back = view.pixels(&view.integers(&pixels).unwrap()).unwrap();
                assert!(back == pixels, "{color:?} {transform:?}");
            }
        }
    }

    #[test]
    fn what_belongs_to_no_picture_is_refused() {
        let refused = |view: View, value: i64| {
            let patches = Tensor::full([1, 6, view.variables() as i64], value, (Kind::Int16, Device::Cpu));
            view.pixels(&patches).unwrap_err().to_string()
        };
        let outside = "grey: these values belong to no picture (a channel falls outside 0..=255)";
        assert_eq!(refused(view(ColorSpace::Grey, Transform::None), 256), outside);
        assert!(refused(view(ColorSpace::YcbcrBt709, Transform::None), 3).contains("cannot be undone"));
        assert!(refused(view(ColorSpace::Rgb, Transform::Cdf53), 3).contains("cannot be had back exactly"));
    }
}
