//! The cluster of every patch of every picture.

use crate::require;
use anyhow::Result;
use tch::{Kind, Tensor};

/// Cluster ids of N pictures of L patches each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignments {
    ids: Vec<u16>,
    patches: usize,
}

impl Assignments {
    /// From ids in the order picture, patch.
    ///
    /// # Errors
    /// When the ids are no whole number of pictures.
    pub fn new(ids: Vec<u16>, patches: usize) -> Result<Self> {
        require!(
            patches > 0 && ids.len().is_multiple_of(patches),
            "assignments: {} ids are no whole number of pictures of {patches} patches",
            ids.len()
        );
        Ok(Self { ids, patches })
    }

    /// From a tensor of integers `[N, L]` such as [`Self::to_tensor`] gives.
    ///
    /// # Errors
    /// When it is of another form or an id is outside `0..clusters`.
    pub fn from_tensor(tensor: &Tensor, clusters: usize) -> Result<Self> {
        let (kind, size) = (tensor.kind(), tensor.size());
        require!(
            matches!(kind, Kind::Int | Kind::Int64) && size.len() == 2 && size[1] > 0,
            "assignments: expected Int [N, L], found {kind:?} {size:?}"
        );
        let ids = Vec::<i64>::try_from(tensor.to_kind(Kind::Int64).flatten(0, -1))?;
        if let Some(wrong) = ids.iter().position(|&id| id < 0 || id >= clusters as i64) {
            let patches = size[1] as usize;
            require!(
                false,
                "assignments: picture {}, patch {}: expected a cluster in 0..{clusters}, found {}: assign the latents \
                 again",
                wrong / patches,
                wrong % patches,
                ids[wrong]
            );
        }
        Self::new(ids.into_iter().map(|id| id as u16).collect(), size[1] as usize)
    }

    /// All ids, i32 `[N, L]` on the CPU.
    pub fn to_tensor(&self) -> Tensor {
        let ids: Vec<i32> = self.ids.iter().copied().map(i32::from).collect();
        Tensor::from_slice(&ids).reshape([self.pictures() as i64, self.patches as i64])
    }

    /// N.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.ids.len() / self.patches
    }

    /// L.
    #[must_use]
    pub fn patches(&self) -> usize {
        self.patches
    }

    /// The ids of one picture's patches.
    #[must_use]
    pub fn picture(&self, index: usize) -> &[u16] {
        &self.ids[index * self.patches..][..self.patches]
    }

    /// The ids of the pictures at `indices`, i64 `[B, L]` on the CPU.
    pub fn batch(&self, indices: &[usize]) -> Tensor {
        let ids: Vec<i64> = indices.iter().flat_map(|&i| self.picture(i)).copied().map(i64::from).collect();
        Tensor::from_slice(&ids).reshape([indices.len() as i64, self.patches as i64])
    }

    /// How many patches each cluster has.
    #[must_use]
    pub fn counts(&self, clusters: usize) -> Vec<u64> {
        let mut counts = vec![0; clusters];
        for &id in &self.ids {
            counts[id as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_by_picture() {
        let assignments = Assignments::new(vec![0, 1, 2, 2, 65_535, 0], 2).unwrap();
        assert_eq!((assignments.pictures(), assignments.patches()), (3, 2));
        assert_eq!(assignments.picture(1), [2, 2]);
        assert_eq!(assignments.batch(&[2, 0]), Tensor::from_slice(&[65_535i64, 0, 0, 1]).reshape([2, 2]));
        assert_eq!(Assignments::from_tensor(&assignments.to_tensor(), 65_536).unwrap(), assignments);
        assert_eq!(Assignments::new(vec![0, 2, 2, 0], 4).unwrap().counts(4), [2, 0, 2, 0]);
    }

    #[test]
    fn wrong_ids_are_refused() {
        let error = Assignments::new(vec![0; 5], 2).unwrap_err().to_string();
        assert_eq!(error, "assignments: 5 ids are no whole number of pictures of 2 patches");
        let error = Assignments::from_tensor(&Tensor::from_slice(&[0i32, 1, 7, 1]).reshape([2, 2]), 7).unwrap_err();
        assert_eq!(
            error.to_string(),
            "assignments: picture 1, patch 0: expected a cluster in 0..7, found 7: assign the latents again"
        );
    }
}
