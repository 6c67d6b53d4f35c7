//! From pixels to what a module wants: float32 `[B, C, H, W]` in its range, of its channels and size, as the contract
//! says and not otherwise.

use anyhow::Result;
use tch::{Kind, TchError, Tensor};

use super::contract::{Filter, ModuleInput};
use crate::data::pictures::PictureShape;
use crate::require;

/// Pixels of one shape, made ready for a module.
#[derive(Clone, Debug)]
pub struct Preparation {
    input: ModuleInput,
    shape: PictureShape,
}

impl Preparation {
    /// For pictures of this shape.
    ///
    /// # Errors
    /// A refusal where the contract does not say what becomes of such pictures.
    pub fn new(input: &ModuleInput, shape: PictureShape) -> Result<Self> {
        require!(
            input.range.is_some() || input.mean.is_some(),
            "input: its values are not stated: give contract.input.range, or mean and std, in the experiment or the \
             module's lvd.json"
        );
        let found = shape.channels as i64;
        let wanted = input.channels.unwrap_or(found);
        require!(
            wanted == found || (found == 1 && input.repeat_grey == Some(true)),
            "input: the module wants {wanted} channels and pictures have {found}: {}",
            if found == 1 { "set contract.input.repeat_grey: true" } else { "choose another module" }
        );
        for (name, values) in [("mean", &input.mean), ("std", &input.std)] {
            let count = values.as_ref().map_or(1, Vec::len) as i64;
            require!(
                count == 1 || count == wanted,
                "input: contract.input.{name} has {count} numbers and the module gets {wanted} channels: give 1 or {wanted}"
            );
        }
        let sides = [shape.height, shape.width].map(|n| n as i64);
        let size = input.size.unwrap_or(sides);
        require!(
            size == sides || input.resize.is_some(),
            "input: the module wants {} x {} pixels and pictures have {} x {}: set contract.input.resize (nearest, \
             bilinear or bicubic)",
            size[0],
            size[1],
            sides[0],
            sides[1]
        );
        Ok(Self { input: input.clone(), shape })
    }

    /// Pixels u8 `[B, H, W, C]` as the module wants them, f32.
    ///
    /// # Errors
    /// When libtorch cannot resize them.
    pub fn batch(&self, pixels: &Tensor) -> Result<Tensor> {
        let values = self.values(pixels);
        let channels = self.input.channels.unwrap_or(self.shape.channels as i64);
        let values = if channels == self.shape.channels as i64 { values } else { values.repeat([1, channels, 1, 1]) };
        let (_, _, height, width) = values.size4()?;
        match (self.input.size, self.input.resize) {
            (Some(size), Some(filter)) if size != [height, width] => Ok(resized(&values, filter, size)?),
            _ => Ok(values),
        }
    }

    /// Pixels in the module's range at their own size and channels, f32 `[B, C, H, W]`.
    pub fn values(&self, pixels: &Tensor) -> Tensor {
        let highest = (self.shape.levels - 1) as f64;
        let values = pixels.permute([0, 3, 1, 2]).to_kind(Kind::Float);
        if let Some([low, high]) = self.input.range {
            // Whole levels stay exactly what they are.
            return if (low, high) == (0.0, highest) { values } else { values * ((high - low) / highest) + low };
        }
        let numbers = |numbers: &Option<Vec<f64>>| {
            let numbers: Vec<f32> = numbers.iter().flatten().map(|&x| x as f32).collect();
            Tensor::from_slice(&numbers).reshape([1, -1, 1, 1]).to_device(pixels.device())
        };
        (values / highest - numbers(&self.input.mean)) / numbers(&self.input.std)
    }
}

fn resized(values: &Tensor, filter: Filter, size: [i64; 2]) -> Result<Tensor, TchError> {
    match filter {
        Filter::Nearest => values.f_internal_upsample_nearest_exact2d(size, None, None),
        Filter::Bilinear => values.f_internal_upsample_bilinear2d_aa(size, false, None, None),
        Filter::Bicubic => values.f_internal_upsample_bicubic2d_aa(size, false, None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels() -> (Tensor, PictureShape) {
        let shape = PictureShape { height: 1, width: 2, channels: 3, levels: 5 };
        (Tensor::from_slice(&[0u8, 1, 2, 2, 3, 4]).reshape([1, 1, 2, 3]), shape)
    }

    fn values(input: &ModuleInput) -> Vec<f32> {
        let (pixels, shape) = pixels();
        let batch = Preparation::new(input, shape).unwrap().batch(&pixels).unwrap();
        Vec::try_from(batch.flatten(0, -1)).unwrap()
    }

    fn refused(input: &ModuleInput, shape: PictureShape) -> String {
        Preparation::new(input, shape).unwrap_err().to_string()
    }

    #[test]
    fn values_are_stated_in_one_of_two_ways() {
        let range = ModuleInput { range: Some([-1.0, 1.0]), ..ModuleInput::default() };
        assert_eq!(values(&range), [-1.0, 0.0, -0.5, 0.5, 0.0, 1.0]);
        let mean = Some(vec![0.5, 0.25, 1.0]);
        let standard = ModuleInput { mean, std: Some(vec![0.5]), ..ModuleInput::default() };
        assert_eq!(values(&standard), [-1.0, 0.0, 0.0, 1.0, -1.0, 0.0]);
    }

    #[test]
    fn sizes_and_channels_change_by_declaration_only() {
        let range = Some([0.0, 4.0]);
        let wide = ModuleInput { range, size: Some([2, 4]), resize: Some(Filter::Nearest), ..ModuleInput::default() };
        assert_eq!(values(&wide)[..8], [0.0, 0.0, 2.0, 2.0, 0.0, 0.0, 2.0, 2.0]);
        let grey = PictureShape { channels: 1, ..pixels().1 };
        assert_eq!(
            refused(&ModuleInput { resize: None, ..wide }, grey),
            "input: the module wants 2 x 4 pixels and pictures have 1 x 2: set contract.input.resize (nearest, bilinear \
             or bicubic)"
        );
        let three = ModuleInput { range, channels: Some(3), ..ModuleInput::default() };
        assert_eq!(
            refused(&three, grey),
            "input: the module wants 3 channels and pictures have 1: set contract.input.repeat_grey: true"
        );
        let repeated = Preparation::new(&ModuleInput { repeat_grey: Some(true), ..three }, grey).unwrap();
        assert_eq!(repeated.batch(&Tensor::from_slice(&[0u8, 4]).reshape([1, 1, 2, 1])).unwrap().size(), [1, 3, 1, 2]);
        let one = ModuleInput { range, channels: Some(1), ..ModuleInput::default() };
        assert_eq!(
            refused(&one, pixels().1),
            "input: the module wants 1 channels and pictures have 3: choose another module"
        );
        let unstated = refused(&ModuleInput::default(), grey);
        assert!(unstated.starts_with("input: its values are not stated: give contract.input.range, or"), "{unstated}");
        let two = ModuleInput { mean: Some(vec![0.0; 3]), std: Some(vec![1.0; 3]), ..ModuleInput::default() };
        assert_eq!(
            refused(&two, grey),
            "input: contract.input.mean has 3 numbers and the module gets 1 channels: give 1 or 1"
        );
    }
}
