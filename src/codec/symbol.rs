//! Probabilities as whole frequencies, and the search for the symbol that a point falls on.
//!
//! ```text
//! F(v) = 2 v + floor(C(v) (2^24 - 2 n))        C(v) = P(symbol < v), C(0) = 0, C(n) = 1
//! ```
//!
//! The slope of 2 leaves every symbol a frequency of at least 1 even where rounding makes C fall by a last digit.

use super::walk::{Boundary, Walk};

/// Bits of the frequencies: those of all symbols add up to 2^24.
pub const BITS: usize = 24;
/// The sum of all frequencies.
pub const TOTAL: u32 = 1 << BITS;

/// F(v) of `symbols` symbols from C(v), as long as 2 `symbols` are less than 2^24.
#[must_use]
pub fn frequency_below(v: usize, symbols: usize, cumulative: f64) -> u32 {
    let spread = TOTAL - 2 * symbols as u32;
    2 * v as u32 + (cumulative.clamp(0.0, 1.0) * f64::from(spread)) as u32
}

/// What a symbol of this frequency asks for.
#[must_use]
pub fn bits(frequency: u32) -> f64 {
    BITS as f64 - libm::log2(f64::from(frequency))
}

/// What every one of so many symbols asks for at least: all others have a frequency of 2 or so.
#[must_use]
pub fn least_bits(symbols: usize) -> f64 {
    bits(TOTAL - (symbols as u32).saturating_sub(1))
}

/// The ends of a symbol: what lies below it, and what lies below the next one.
#[derive(Debug, Default)]
pub struct Ends {
    /// Of the symbol.
    pub low: Boundary,
    /// Of the symbol after it.
    pub high: Boundary,
    spare: Boundary,
}

impl Ends {
    /// The frequencies below a symbol and below the next one.
    pub fn of(&mut self, walk: &dyn Walk, symbol: usize) -> [u32; 2] {
        [at(walk, symbol, &mut self.low), at(walk, symbol + 1, &mut self.high)]
    }

    /// The symbol with F(symbol) <= `point` < F(symbol + 1), and both. It starts at the walk's guess and doubles its
    /// steps until the symbol lies between two boundaries, then halves what is between them.
    pub fn find(&mut self, walk: &dyn Walk, point: u32) -> (usize, [u32; 2]) {
        let symbols = walk.symbols();
        let share = (f64::from(point) + 0.5) / f64::from(TOTAL);
        let mut low = walk.guess(share).min(symbols - 1);
        let mut f_low = at(walk, low, &mut self.low);
        let mut step = 1;
        let (mut high, mut f_high);
        if f_low <= point {
            high = low + 1;
            f_high = at(walk, high, &mut self.high);
            while f_high <= point {
                (low, f_low) = (high, f_high);
                std::mem::swap(&mut self.low, &mut self.high);
                step *= 2;
                high = (low + step).min(symbols);
                f_high = at(walk, high, &mut self.high);
            }
        } else {
            (high, f_high) = (low, f_low);
            while f_low > point {
                (high, f_high) = (low, f_low);
                std::mem::swap(&mut self.low, &mut self.high);
                low = high.saturating_sub(step);
                step *= 2;
                f_low = at(walk, low, &mut self.low);
            }
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            let f_middle = at(walk, middle, &mut self.spare);
            if f_middle <= point {
                (low, f_low) = (middle, f_middle);
                std::mem::swap(&mut self.low, &mut self.spare);
            } else {
                (high, f_high) = (middle, f_middle);
                std::mem::swap(&mut self.high, &mut self.spare);
            }
        }
        (low, [f_low, f_high])
    }
}

fn at(walk: &dyn Walk, v: usize, boundary: &mut Boundary) -> u32 {
    walk.boundary(v, boundary);
    frequency_below(v, walk.symbols(), boundary.cumulative)
}
