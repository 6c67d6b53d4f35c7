//! Some patches of every cluster, collected batch by batch.

use tch::Tensor;

/// The first patches of every cluster, up to so many each.
pub struct Members {
    /// Patches that a cluster takes.
    most: usize,
    /// How many each has.
    counts: Vec<usize>,
    /// What each batch gave to each.
    patches: Vec<Vec<Tensor>>,
}

impl Members {
    /// Of so many clusters, `most` patches each.
    #[must_use]
    pub fn new(clusters: usize, most: usize) -> Self {
        Self { most, counts: vec![0; clusters], patches: (0..clusters).map(|_| Vec::new()).collect() }
    }

    /// Give patches `[n, D]` to their clusters, int64 `[n]`, as far as these still take any.
    pub fn add(&mut self, patches: &Tensor, clusters: &Tensor) {
        for (k, (count, members)) in self.counts.iter_mut().zip(&mut self.patches).enumerate() {
            let left = self.most - *count;
            if left > 0 {
                let rows = clusters.eq(k as i64).nonzero().squeeze_dim(1);
                let rows = rows.narrow(0, 0, rows.size()[0].min(left as i64));
                *count += rows.size()[0] as usize;
                members.push(patches.index_select(0, &rows));
            }
        }
    }

    /// Whether no cluster takes any more.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.counts.iter().all(|&count| count == self.most)
    }

    /// A cluster without patches, if there is one.
    #[must_use]
    pub fn empty_cluster(&self) -> Option<usize> {
        self.counts.iter().position(|&count| count == 0)
    }

    /// The patches of every cluster, `[n_k, D]`.
    #[must_use]
    pub fn joined(&self) -> Vec<Tensor> {
        self.patches.iter().map(|some| Tensor::cat(some, 0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_take_the_first_of_their_patches() {
        let mut members = Members::new(3, 2);
        let batch = |first: i64| Tensor::from_slice(&[first, first + 1, first + 2]).reshape([3, 1]);
        members.add(&batch(0), &Tensor::from_slice(&[1i64, 0, 1]));
        assert_eq!((members.are_full(), members.empty_cluster()), (false, Some(2)));
        members.add(&batch(10), &Tensor::from_slice(&[1i64, 0, 2]));
        members.add(&batch(20), &Tensor::from_slice(&[2i64, 2, 0]));
        assert_eq!((members.are_full(), members.empty_cluster()), (true, None));
        let joined = members.joined().into_iter().map(|some| Vec::<i64>::try_from(some.reshape([-1])).unwrap());
        assert_eq!(joined.collect::<Vec<_>>(), [[1, 11], [0, 2], [12, 20]]);
    }
}
