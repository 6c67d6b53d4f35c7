//! How a circuit sees pictures: colour space, transform, region, patches; as integers or dequantised.

use anyhow::Result;
use rand::RngExt;
use tch::{Kind, Tensor};

use super::patches::{PatchGrid, Region};
use super::pictures::PictureShape;
use super::windows::Windows;
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
    /// Pixels around a patch that belong to what a model sees of it; 0 for patches alone.
    pub context: usize,
    shape: PictureShape,
}

impl View {
    /// A view of the pixels of pictures of this shape.
    ///
    /// # Errors
    /// When the colour space does not fit the channels or the patch does not divide the picture.
    pub fn new(shape: PictureShape, color: ColorSpace, region: Region, patch: usize) -> Result<Self> {
        Self::over(shape, color, PatchGrid::new(shape, patch, region)?, 0)
    }

    /// A view of windows: patches with the `context` pixels around them that come before them ([`Windows`]), over pictures of
    /// any size.
    ///
    /// # Errors
    /// When the colour space does not fit the channels, or the context is 0.
    pub fn windowed(
        shape: PictureShape,
        color: ColorSpace,
        region: Region,
        patch: usize,
        context: usize,
    ) -> Result<Self> {
        require!(context > 0, "the context must be at least 1 pixel, found 0");
        Self::over(shape, color, PatchGrid::covering(shape, patch, region)?, context)
    }

    fn over(shape: PictureShape, color: ColorSpace, grid: PatchGrid, context: usize) -> Result<Self> {
        if let Some(problem) = color.channels_problem(shape.channels, shape.levels) {
            return Err(crate::refusal!("color: {problem}"));
        }
        Ok(Self { color, grid, transform: Transform::None, context, shape })
    }

    /// What a model sees of patches, where it sees the pixels around them.
    fn windows(&self) -> Option<Windows> {
        let size = [self.shape.height, self.shape.width];
        (self.context > 0).then_some(Windows { context: self.context, grid: self.grid, size })
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
            require!(self.context == 0, "transform: expected none for patches with context, found {transform:?}");
            require!(self.grid.region == Region::Whole, "transform: expected whole pictures, found a quadrant of them");
        }
        Ok(Self { transform, ..self })
    }

    /// The same view of pictures of another height and width in pixels, multiples of the patch (any with context); of a
    /// region of them where the view is of a region.
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        let [rows, cols] = [height, width].map(|side| (side / self.grid.region.parts()).div_ceil(self.grid.patch));
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

    /// Numbers that a model sees of a patch: D, or those of its window, of which the last D are the patch.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.windows().map_or(self.variables(), |windows| windows.shape().numbers())
    }

    /// What lies inside of the picture, where windows stick out of it: bool `[L, numbers]`.
    #[must_use]
    pub fn observed(&self) -> Option<Tensor> {
        self.windows().map(|windows| windows.observed())
    }

    /// Places of the patches of which everything lies inside of the picture, where windows stick out of it: int64 `[n]`.
    #[must_use]
    pub fn whole(&self) -> Option<Tensor> {
        self.windows().map(|windows| windows.whole())
    }

    /// Height and width in pixels of the part of a picture that is modelled.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        if self.context > 0 {
            [self.shape.height, self.shape.width]
        } else {
            [self.grid.rows, self.grid.cols].map(|n| n * self.grid.patch)
        }
    }

    /// Numbers of the part of a picture that is modelled: the denominator of bits per dimension.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.size().iter().product::<usize>() * self.grid.channels
    }

    /// Smallest and largest value of every number that a model sees of a patch.
    #[must_use]
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        let channels = self.color.ranges(self.shape.channels, self.shape.levels);
        let channels: Vec<(i64, i64)> = channels.iter().map(|&(low, high)| (i64::from(low), i64::from(high))).collect();
        if self.transform == Transform::None {
            return channels.into_iter().cycle().take(self.numbers()).collect();
        }
        let by_channel: Vec<_> =
            channels.iter().map(|&(low, high)| wavelet::ranges(low, high, self.levels())).collect();
        let pixels = self.grid.patch * self.grid.patch;
        (0..pixels).flat_map(|pixel| by_channel.iter().map(move |ranges| ranges[pixel])).collect()
    }

    /// Patches `[.., D]` as integers, int64, that are moved to the nearest end of their range where they lie beyond it.
    pub fn bounded(&self, patches: &Tensor) -> Tensor {
        let (ranges, values) = (self.ranges(), patches.to_kind(Kind::Int64));
        let own = ranges[ranges.len() - self.variables()..].iter().zip(0i64..);
        let columns: Vec<Tensor> = own.map(|((low, high), v)| values.select(-1, v).clamp(*low, *high)).collect();
        Tensor::stack(&columns, -1)
    }

    /// Whether patches of integers belong to this view.
    #[must_use]
    pub fn has_integers(&self) -> bool {
        self.transform != Transform::Cdf53
    }

    /// Pixels u8 `[B, H, W, C]` to patches of integers, int16 `[B, L, numbers]`.
    ///
    /// # Errors
    /// A refusal where the transform gives no integers.
    pub fn integers(&self, pixels: &Tensor) -> Result<Tensor> {
        require!(
            self.has_integers(),
            "transform cdf53 gives no integers: it serves the density reading
  train with transform: cdf53_integer for others"
        );
        Ok(self.cut(&self.whole_integers(pixels)))
    }

    /// Pixels u8 `[B, H, W, C]` with noise, drawn evenly from `[0, 1)` for every picture by itself, to patches of floats,
    /// float32 `[B, L, numbers]`.
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
        self.cut(&match self.transform {
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
        let whole = self.assemble(patches);
        let values = match self.transform {
            Transform::Cdf53Integer => wavelet::inverse_integers(&whole.to_kind(Kind::Int64), self.levels()),
            Transform::None | Transform::Cdf53 => whole,
        };
        self.color.inverse(&values.to_kind(Kind::Int16))
    }

    /// Pixels u8 `[B, h, w, C]` to look at, of patches of integers `[B, L, D]` such as samples; h and w are of the part of a
    /// picture that is modelled.
    pub fn display(&self, patches: &Tensor) -> Tensor {
        let whole = self.assemble(patches);
        let values = match self.transform {
            Transform::None => whole,
            Transform::Cdf53 => wavelet::inverse(&(whole.to_kind(Kind::Float) + 0.5), self.levels()).floor(),
            Transform::Cdf53Integer => wavelet::inverse_integers(&whole.to_kind(Kind::Int64), self.levels()),
        };
        self.color.display(&values)
    }

    /// Numbers of whole pictures `[B, H, W, C]` as a model sees them: `[B, L, numbers]`.
    pub fn cut(&self, whole: &Tensor) -> Tensor {
        self.windows().map_or_else(|| self.grid.cut(whole), |windows| windows.cut(whole))
    }

    /// Where the numbers of a patch's window lie in the picture `[H, W, C]`, none for what is outside of it; only for patches
    /// with context.
    #[must_use]
    pub fn places(&self, patch: usize) -> Vec<Option<usize>> {
        self.windows().map_or_else(Vec::new, |windows| windows.places(patch))
    }

    /// Undoes [`cut`](Self::cut), for patches with or without their context.
    fn assemble(&self, patches: &Tensor) -> Tensor {
        let [numbers, own] = [self.numbers() as i64, self.variables() as i64];
        let with_context = patches.size().last() == Some(&numbers);
        let patches = if with_context { patches.narrow(-1, numbers - own, own) } else { patches.shallow_clone() };
        let [height, width] = self.size().map(|n| n as i64);
        self.grid.assemble(&patches).narrow(1, 0, height).narrow(2, 0, width)
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
