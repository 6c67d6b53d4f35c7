//! Patches that see the pixels around them, for the coder: regressions for every kind of border, and the gates.
//!
//! ```text
//! y_d = sum_j M_dj (x_j + 1/2 - centre_j) + bias_d,   z_ks(b) = (y_d without x_d's part + M_dd (b - centre_d)) / s_g
//! ```
//!
//! `M_d` is the last row of the inverse lower Cholesky factor of the moments of what comes before number d of the patch, and of
//! it: the present part of the context, then the patch's numbers so far. A picture has few kinds of borders; the rows of
//! each are made when it is first met.

pub mod gate;
mod rows;
mod ring;
mod experts;
mod walk;

pub use experts::{Experts, Window};
pub use walk::ContextWalk;
