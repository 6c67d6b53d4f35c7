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
    /// What is added to the logarithms of every expert's scales before they are normalised, `[S, N]`.
    pub scales: Tensor,
}

impl Tilt {
    /// What it says of some windows, by number.
    #[must_use]
    pub fn rows(&self, rows: &Tensor) -> Self {
        Self { experts: self.experts.index_select(0, rows), scales: self.scales.index_select(1, rows) }
    }

    /// ln `h_ks(c)` of one expert, `[S, N]`.
    pub fn of_scales(&self, expert: &Expert) -> Tensor {
        let own = expert.log_weights.unsqueeze(1).to_kind(self.scales.kind());
        (own + &self.scales).log_softmax(0, self.scales.kind())
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

    /// u `[count, S]` of windows from number `start` on, where there is a gate.
    #[must_use]
    pub fn scales_of(&self, start: i64, count: i64) -> Option<Tensor> {
        self.tilt.as_ref().map(|tilt| tilt.scales.narrow(1, start, count).tr())
    }

    /// ln `h_ks(c)` of one expert, `[S, 1]` or `[S, N]`.
    pub fn of_scales(&self, expert: &Expert) -> Tensor {
        self.tilt.as_ref().map_or_else(|| expert.log_weights.unsqueeze(1), |tilt| tilt.of_scales(expert))
    }

    /// `[N, K]` with ln `g_k(c)` added.
    pub fn with_experts(&self, log_likelihood: Tensor) -> Tensor {
        match &self.tilt {
            Some(tilt) => log_likelihood + &tilt.experts,
            None => log_likelihood,
        }
    }
}
