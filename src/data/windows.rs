//! Windows: patches with the pixels around them that come before them in raster order of patches.
//!
//! Around a patch of side p, with context t, a window holds the t rows above it, from t columns left of the patch to t
//! columns right of it, and the t columns left of it. Its numbers are, in this order, the context (row, column, channel)
//! and the patch (row, column, channel). A picture of any size is covered by patches from its top left corner; what of a
//! window lies outside of the picture, in the context or in patches at the lower and right edges, is not observed.

use tch::{Device, Kind, Tensor};

use super::patches::PatchGrid;

/// What a window is made of: the order of its numbers is the context (row, column, channel), then the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    /// Side of the patch in pixels.
    pub patch: usize,
    /// Pixels around it.
    pub context: usize,
    /// Numbers a pixel.
    pub channels: usize,
}

impl WindowShape {
    /// Pixels of the context.
    #[must_use]
    pub fn context_pixels(&self) -> usize {
        self.context * (2 * self.context + self.patch) + self.context * self.patch
    }

    /// Numbers of the context.
    #[must_use]
    pub fn context_numbers(&self) -> usize {
        self.context_pixels() * self.channels
    }

    /// What a gate looks at: the numbers, three more for every channel, and which pixels are there.
    #[must_use]
    pub fn features(&self) -> usize {
        self.context_numbers() + 3 * self.channels + self.context_pixels()
    }

    /// Numbers of the window: those of its context, then those of its patch.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.context_numbers() + self.patch_numbers()
    }

    /// Numbers of the patch.
    #[must_use]
    pub fn patch_numbers(&self) -> usize {
        self.patch * self.patch * self.channels
    }

    /// Row and column of every pixel of the context, from the patch's first pixel.
    fn places(&self) -> Vec<(i64, i64)> {
        let (t, p) = (self.context as i64, self.patch as i64);
        let all = (-t..p).flat_map(|row| (-t..p + t).map(move |col| (row, col)));
        all.filter(|&(row, col)| row < 0 || col < 0).collect()
    }

    /// The same with those of the patch behind them.
    fn all_places(&self) -> impl Iterator<Item = (i64, i64)> {
        let p = self.patch as i64;
        self.places().into_iter().chain((0..p).flat_map(move |row| (0..p).map(move |col| (row, col))))
    }

    /// Numbers of the context's pixels that touch the patch: int64 `[n]`.
    pub fn near(&self) -> Tensor {
        let p = self.patch as i64;
        let touches = |&(row, col): &(i64, i64)| row >= -1 && col >= -1 && col <= p;
        let numbers = self.places().into_iter().zip(0i64..).filter(|(place, _)| touches(place)).map(|(_, i)| i);
        Tensor::from_slice(&numbers.collect::<Vec<_>>())
    }

    /// What of a context's numbers is there beside each kind of border: above, to the left, to the right, above and to the
    /// left; bool `[context numbers]` each.
    pub fn borders(&self) -> [Tensor; 4] {
        let p = self.patch as i64;
        let visible = |seen: &dyn Fn(i64, i64) -> bool| {
            let by_pixel: Vec<bool> = self.places().into_iter().map(|(row, col)| seen(row, col)).collect();
            let by_pixel = Tensor::from_slice(&by_pixel).unsqueeze(1);
            by_pixel.expand([-1, self.channels as i64], false).reshape([-1])
        };
        [
            visible(&|row, _| row >= 0),
            visible(&|_, col| col >= 0),
            visible(&|_, col| col < p),
            visible(&|row, col| row >= 0 && col >= 0),
        ]
    }
}

/// Pixels of context on each side of a patch, and the grid of the patches.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// t.
    pub context: usize,
    /// Patches that cover the picture.
    pub grid: PatchGrid,
    /// Height and width of the picture in pixels.
    pub size: [usize; 2],
}

impl Windows {
    /// What each of them is made of.
    #[must_use]
    pub fn shape(&self) -> WindowShape {
        WindowShape { patch: self.grid.patch, context: self.context, channels: self.grid.channels }
    }

    /// The windows of pictures `[B, H, W, C]`, zero where nothing is: `[B, L, numbers]`.
    pub fn cut(&self, pictures: &Tensor) -> Tensor {
        let [t, p, rows, cols] = [self.context, self.grid.patch, self.grid.rows, self.grid.cols].map(|n| n as i64);
        let [height, width] = self.size.map(|n| n as i64);
        let padded = pictures.constant_pad_nd([0, 0, t, t + cols * p - width, t, rows * p - height]);
        let windows = padded.unfold(1, t + p, p).unfold(2, p + 2 * t, p); // [B, rows, cols, C, t + p, p + 2t]
        let windows = windows.permute([0, 1, 2, 4, 5, 3]).reshape([
            pictures.size()[0],
            rows * cols,
            (t + p) * (p + 2 * t),
            self.grid.channels as i64,
        ]);
        windows.index_select(2, &self.pixels().to_device(pictures.device())).flatten(2, 3)
    }

    /// What of every window lies inside of the picture: bool `[L, numbers]`.
    pub fn observed(&self) -> Tensor {
        let [height, width] = self.size.map(|n| n as i64);
        let inside = Tensor::ones([1, height, width, self.grid.channels as i64], (Kind::Bool, Device::Cpu));
        self.cut(&inside).get(0)
    }

    /// Places of the windows that lie inside of the picture altogether: int64 `[n]`.
    pub fn whole(&self) -> Tensor {
        self.observed().all_dim(1, false).nonzero().squeeze_dim(1)
    }

    /// Places of a window's pixels in the rectangle of t + p rows and p + 2t columns around it: context first.
    fn pixels(&self) -> Tensor {
        let (t, p) = (self.context as i64, self.grid.patch as i64);
        let place = |(row, col): (i64, i64)| (row + t) * (p + 2 * t) + col + t;
        Tensor::from_slice(&self.shape().all_places().map(place).collect::<Vec<_>>())
    }

    /// Where the numbers of a patch's window lie in the picture `[H, W, C]`, none for what is outside of it.
    #[must_use]
    pub fn places(&self, patch: usize) -> Vec<Option<usize>> {
        let [height, width] = self.size;
        let (top, left) = (patch / self.grid.cols * self.grid.patch, patch % self.grid.cols * self.grid.patch);
        let inside =
            |start: usize, offset: i64, size| start.checked_add_signed(offset as isize).filter(|&at| at < size);
        let pixel = |(row, col)| Some(inside(top, row, height)? * width + inside(left, col, width)?);
        let channels = self.grid.channels;
        let numbers = |pixel: Option<usize>| (0..channels).map(move |c| pixel.map(|pixel| pixel * channels + c));
        self.shape().all_places().map(pixel).flat_map(numbers).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::patches::Region;
    use crate::data::pictures::PictureShape;

    /// 100 * row + column, from 1 on.
    fn numbered(height: i64, width: i64) -> Tensor {
        let axis = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu)) + 1;
        (axis(height).unsqueeze(1) * 100 + axis(width)).reshape([1, height, width, 1])
    }

    fn windows(height: usize, width: usize) -> Windows {
        let shape = PictureShape { height, width, channels: 1, levels: 256 };
        let grid = PatchGrid::covering(shape, 2, Region::Whole).unwrap();
        Windows { context: 1, grid, size: [height, width] }
    }

    #[test]
    fn a_window_is_what_was_seen_around_a_patch_and_the_patch() {
        let windows = windows(4, 6);
        assert_eq!((windows.shape().context_pixels(), windows.shape().numbers()), (6, 10));
        let cut = windows.cut(&numbered(4, 6));
        let fifth = Vec::<i64>::try_from(cut.get(0).get(4)).unwrap(); // rows 3 and 4, columns 3 and 4
        assert_eq!(fifth, [202, 203, 204, 205, 302, 402, 303, 304, 403, 404]);
        let first = Vec::<i64>::try_from(cut.get(0).get(0)).unwrap();
        assert_eq!(first, [0, 0, 0, 0, 0, 0, 101, 102, 201, 202]);
        assert_eq!(Vec::<i64>::try_from(windows.whole()).unwrap(), [4]);
    }

    #[test]
    fn pictures_of_any_size_are_covered_and_nothing_outside_is_observed() {
        for (height, width) in [(1, 1), (1, 5), (3, 2), (5, 7)] {
            let windows = windows(height, width);
            let patch = windows.observed().narrow(1, windows.shape().context_pixels() as i64, 4);
            let seen = windows.cut(&numbered(height as i64, width as i64)).get(0);
            assert_eq!(patch.sum(Kind::Int64).int64_value(&[]), (height * width) as i64, "every pixel is in one patch");
            assert_eq!(seen.ne(0), windows.observed());
        }
    }

    #[test]
    fn places_are_those_that_cutting_takes() {
        for (height, width) in [(1, 1), (1, 5), (5, 7)] {
            let windows = windows(height, width);
            let numbers = Tensor::arange((height * width) as i64, (Kind::Int64, Device::Cpu)) + 1;
            let cut = windows.cut(&numbers.view([1, height as i64, width as i64, 1])).view(-1);
            let places = (0..windows.grid.rows * windows.grid.cols).flat_map(|patch| windows.places(patch));
            let places: Vec<i64> = places.map(|place| place.map_or(0, |place| place as i64 + 1)).collect();
            assert_eq!(Vec::<i64>::try_from(cut).unwrap(), places);
        }
    }
}
