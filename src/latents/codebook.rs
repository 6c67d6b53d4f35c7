//! The centres of the clusters and what is nearest to them.

use super::{Assignments, FeatureChunks, check, each_checked, rows};
use crate::circuit::cpu::memory::numbers;
use crate::{device, refusal, require};
use anyhow::Result;
use tch::{Device, Kind, Tensor};

/// Numbers of the distance table that are in memory at once: on the CPU few enough for its caches, on a GPU enough to keep it
/// busy.
fn table(device: Device) -> i64 {
    if device == Device::Cpu { 1 << 18 } else { 1 << 23 }
}

/// Centres of clusters in feature space.
#[derive(Debug)]
pub struct Codebook {
    /// f32 `[K, F]`.
    pub centres: Tensor,
    /// Sum of squared distances of the sample to the nearest centre, before the first Lloyd step and after each.
    pub inertia: Vec<f64>,
}

impl Codebook {
    /// Number of clusters, K.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.centres.size()[0] as usize
    }

    /// The nearest centre of each of the features f32 `[n, F]`, i64 `[n]` on the centres' device.
    ///
    /// # Errors
    /// When the features are of another width or not finite.
    pub fn assign(&self, features: &Tensor) -> Result<Tensor> {
        check(features, 0, 1)?;
        self.check_width(features)?;
        Ok(nearest(&features.f_to_device(self.centres.device())?, &self.centres))
    }

    /// The clusters of all patches of a source, streamed.
    ///
    /// # Errors
    /// When features are of another width or not finite, or cannot be made.
    pub fn assign_all(&self, source: &dyn FeatureChunks) -> Result<Assignments> {
        let mut ids = Vec::with_capacity(source.count());
        each_checked(source, &mut |_, chunk| {
            self.check_width(&chunk)?;
            let found = nearest(&chunk.f_to_device(self.centres.device())?, &self.centres);
            ids.extend(Vec::<i64>::try_from(found)?.into_iter().map(|id| id as u16));
            Ok(())
        })?;
        Assignments::new(ids, source.patches())
    }

    /// The codebook as tensors by name, contiguous on the CPU: `centres` f32 `[K, F]`, `inertia` f64 `[steps]`.
    #[must_use]
    pub fn to_tensors(&self) -> Vec<(String, Tensor)> {
        let centres = self.centres.to_device(Device::Cpu).contiguous();
        vec![("centres".into(), centres), ("inertia".into(), Tensor::from_slice(&self.inertia))]
    }

    /// The codebook that [`Self::to_tensors`] gave.
    ///
    /// # Errors
    /// When a tensor is missing, of another form or not finite.
    pub fn from_tensors(tensors: &[(String, Tensor)], device: Device) -> Result<Self> {
        let find = |name: &str, kind: Kind, dimensions: usize| {
            let found = tensors.iter().find(|(found, _)| found == name);
            let (_, tensor) =
                found.ok_or_else(|| refusal!("codebook: tensor `{name}` is missing: assign the latents again"))?;
            require!(
                tensor.kind() == kind && tensor.dim() == dimensions && tensor.numel() > 0,
                "codebook: tensor `{name}`: expected {kind:?} of {dimensions} dimensions, found {:?} {:?}: assign the \
                 latents again",
                tensor.kind(),
                tensor.size()
            );
            let finite = bool::try_from(tensor.isfinite().all())?;
            require!(finite, "codebook: tensor `{name}` holds NaN or infinity: assign the latents again");
            Ok(tensor.shallow_clone())
        };
        let centres = find("centres", Kind::Float, 2)?.f_to_device(device)?;
        Ok(Self { centres, inertia: Vec::try_from(find("inertia", Kind::Double, 1)?)? })
    }

    fn check_width(&self, features: &Tensor) -> Result<()> {
        let (expected, found) = (self.centres.size()[1], features.size()[1]);
        require!(
            expected == found,
            "codebook: expected {expected} features a patch, found {found}: the codebook was made with another teacher \
             or another feature choice, assign the latents again"
        );
        Ok(())
    }
}

/// Points in pieces whose distances to `centres` centres are in memory at once.
pub(super) fn pieces(points: i64, centres: i64, device: Device) -> impl Iterator<Item = (i64, i64)> {
    let size = (table(device) / centres).max(1);
    (0..points).step_by(size as usize).map(move |start| (start, size.min(points - start)))
}

/// The nearest of the centres `[K, F]` for each of the points `[n, F]`, i64 `[n]`, by `|c|^2 - 2 x.c`. Both are first
/// moved by the mean of the centres, so that features far from the origin lose no digits.
pub(super) fn nearest(points: &Tensor, centres: &Tensor) -> Tensor {
    let _guard = tch::no_grad_guard();
    let device = points.device();
    let origin = centres.mean_dim(0, true, Kind::Float);
    let centres = centres - &origin;
    let norms = centres.square().sum_dim_intlist(1, false, Kind::Float);
    let twice = (centres * -2.0).tr();
    let (n, k) = (points.size()[0], norms.size()[0]);
    let shared = || (origin.shallow_clone(), norms.shallow_clone(), twice.shallow_clone());
    let items = pieces(n, k, device).map(|(start, length)| (points.narrow(0, start, length), shared())).collect();
    let found = device::spread(device, items, |(points, (origin, norms, twice)): (Tensor, _)| {
        let distances = norms.addmm(&(points - origin), &twice);
        if device == Device::Cpu {
            Tensor::from_slice(&rows::least(numbers(&distances), k as usize))
        } else {
            distances.argmin(1, false)
        }
    });
    if found.is_empty() { Tensor::zeros(0, (Kind::Int64, device)) } else { Tensor::cat(&found, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corners() -> Codebook {
        let centres = Tensor::from_slice(&[0f32, 0.0, 4.0, 0.0, 0.0, 4.0]).reshape([3, 2]);
        Codebook { centres, inertia: vec![2.5, 1.0] }
    }

    #[test]
    fn points_go_to_the_nearest_centre_also_far_from_the_origin() {
        let points = Tensor::from_slice(&[1f32, 1.5, 2.5, 1.0, 1.0, 3.5]).reshape([3, 2]);
        for shift in [0.0, 10_000.0] {
            let codebook = Codebook { centres: corners().centres + shift, inertia: vec![] };
            let found: Vec<i64> = Vec::try_from(codebook.assign(&(&points + shift)).unwrap()).unwrap();
            assert_eq!(found, [0, 1, 2]);
        }
    }

    #[test]
    fn pieces_cover_all_points_once() {
        let all: Vec<_> = pieces(10, table(Device::Cpu) / 4, Device::Cpu).collect();
        assert_eq!(all, [(0, 4), (4, 4), (8, 2)]);
    }

    #[test]
    fn tensors_round_trip_and_wrong_ones_are_named() {
        let again = Codebook::from_tensors(&corners().to_tensors(), Device::Cpu).unwrap();
        assert_eq!((again.centres, again.inertia), (corners().centres, vec![2.5, 1.0]));
        let error = Codebook::from_tensors(&[], Device::Cpu).unwrap_err().to_string();
        assert_eq!(error, "codebook: tensor `centres` is missing: assign the latents again");
        let error = corners().assign(&Tensor::zeros([1, 3], (Kind::Float, Device::Cpu))).unwrap_err().to_string();
        assert!(error.starts_with("codebook: expected 2 features a patch, found 3: "), "{error}");
    }
}
