//! The weights of experts and scales for some windows: constants, or what a gate says of their contexts.

use tch::Tensor;

use super::expert::Expert;

/// `g_k(c)` and `h_ks(c)` of N windows.
pub struct Weights {
    /// What a gate says; none for constant weights of the scales, and weights of the experts that are not the family's.
    tilt: Option<Tilt>,
}

/// What a gate says of N windows.
pub struct Tilt {
    /// ln `g_k(c)`, `[N, K]`.
    pub experts: Tensor,
    /// u: what is added to the logarithms of the scales' weights. `[N, S, 1]` of a network, the same for all experts, whose
    /// weights are normalised then; `[N, S, K]` of a ring, after which they add up to 1.
    pub scales: Tensor,
}

impl Tilt {
    /// What it says of some windows, by number.
    #[must_use]
    pub fn rows(&self, rows: &Tensor) -> Self {
        Self { experts: self.experts.index_select(0, rows), scales: self.scales.index_select(0, rows) }
    }

    /// ln `h_ks(c)` of expert k in some windows, `[S, n]`.
    pub fn of_scales(&self, k: usize, expert: &Expert, rows: &Tensor) -> Tensor {
        let scales = self.scales.select(2, (k as i64).min(self.scales.size()[2] - 1)).index_select(0, rows);
        let own = expert.log_weights.to_kind(scales.kind());
        (own + scales).log_softmax(1, self.scales.kind()).tr()
    }

    /// That of rows `[n]` of N from each of several tilts: all N rows, each from one of them.
    #[must_use]
    pub fn joined(parts: &[(Tensor, Self)]) -> Self {
        let order = Tensor::cat(&parts.iter().map(|(rows, _)| rows).collect::<Vec<_>>(), 0).argsort(0, false);
        let all = |of: &dyn Fn(&Self) -> &Tensor| {
            Tensor::cat(&parts.iter().map(|(_, tilt)| of(tilt)).collect::<Vec<_>>(), 0).index_select(0, &order)
        };
        Self { experts: all(&|tilt| &tilt.experts), scales: all(&|tilt| &tilt.scales) }
    }
}

impl Weights {
    /// Constants, or a gate's.
    #[must_use]
    pub fn new(tilt: Option<Tilt>) -> Self {
        Self { tilt }
    }

    /// Those of some windows, by number.
    #[must_use]
    pub fn rows(&self, rows: &Tensor) -> Self {
        Self::new(self.tilt.as_ref().map(|tilt| tilt.rows(rows)))
    }

    /// u of windows from number `start` on, where there is a gate.
    #[must_use]
    pub fn scales_of(&self, start: i64, count: i64) -> Option<Tensor> {
        self.tilt.as_ref().map(|tilt| tilt.scales.narrow(0, start, count))
    }

    /// ln `h_ks(c)` of expert k in some windows, by number: `[S, 1]` or `[S, n]`.
    pub fn of_scales(&self, k: usize, expert: &Expert, rows: &Tensor) -> Tensor {
        self.tilt.as_ref().map_or_else(|| expert.log_weights.unsqueeze(1), |tilt| tilt.of_scales(k, expert, rows))
    }

    /// ln `g_k(c)` `[N, K]`, where there is a gate.
    #[must_use]
    pub fn experts(&self) -> Option<&Tensor> {
        self.tilt.as_ref().map(|tilt| &tilt.experts)
    }

    /// `[N, K]` with ln `g_k(c)` added.
    pub fn with_experts(&self, log_likelihood: Tensor) -> Tensor {
        match &self.tilt {
            Some(tilt) => log_likelihood + &tilt.experts,
            None => log_likelihood,
        }
    }
}
