//! From what a module gives to one vector, or one code, a patch of the circuit's grid.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::contract::{ModuleOutput, Pool};
use crate::{refusal, require};

/// The circuit's grid, and how an output becomes one.
#[derive(Clone, Debug)]
pub struct Arrangement {
    output: ModuleOutput,
    rows: i64,
    columns: i64,
}

impl Arrangement {
    /// For a grid of this many rows and columns of patches.
    #[must_use]
    pub fn new(output: &ModuleOutput, (rows, columns): (usize, usize)) -> Self {
        Self { output: output.clone(), rows: rows as i64, columns: columns as i64 }
    }

    /// One vector a patch, f32 `[B, L, D]`, or one code a patch, i64 `[B, L]`, of an output for B pictures.
    ///
    /// # Errors
    /// A refusal that says what the output lacks: kind, rank, batch, grid.
    pub fn arrange(&self, output: &Tensor, batch: i64) -> Result<Tensor> {
        require!(
            !output.is_sparse() && !output.is_mkldnn(),
            "gives a sparse or packed tensor, expected a dense one: end the method with .to_dense()"
        );
        self.require_kind(output)?;
        super::module::require_no_gradient(output)?;
        let size = output.size();
        let expected = if self.output.codes.is_some() { "[B, h, w]" } else { "[B, T, D] or [B, D, h, w]" };
        let ranks: &[usize] = if self.output.codes.is_some() { &[3] } else { &[3, 4] };
        require!(ranks.contains(&size.len()), "expected {expected}, found {size:?}: return one vector a patch");
        require!(
            size[0] == batch,
            "expected {expected} with B = {batch} for {batch} pictures, found {size:?}: the batch size was baked in by \
             tracing, or lost in a reshape"
        );
        match (self.output.codes, size.len()) {
            (Some(codes), _) => self.codes(output, codes),
            (None, 3) => self.tokens(output),
            (None, _) => self.pool(&output.permute([0, 2, 3, 1])),
        }
    }

    fn require_kind(&self, output: &Tensor) -> Result<()> {
        let kind = output.kind();
        match (self.output.codes, kind) {
            (Some(_), Kind::Int64) | (None, Kind::Float) => Ok(()),
            (Some(_), _) => Err(refusal!("codes are {kind:?}, expected Int64: end the method with .long()")),
            (None, Kind::Int64) => Err(refusal!(
                "features are Int64, expected Float: if they are codes, say how many there are by contract.output.codes"
            )),
            (None, _) => Err(refusal!("features are {kind:?}, expected Float: end the method with .float()")),
        }
    }

    fn codes(&self, output: &Tensor, codes: usize) -> Result<Tensor> {
        let (_, h, w) = output.size3()?;
        require!(
            (h, w) == (self.rows, self.columns),
            "expected codes of a grid of {} x {} patches, found {h} x {w}: codes cannot be pooled",
            self.rows,
            self.columns
        );
        let wrong = output.lt(0).logical_or(&output.ge(codes as i64));
        if bool::try_from(wrong.any())? {
            let place = Vec::<i64>::try_from(wrong.nonzero().get(0))?;
            require!(
                false,
                "picture {} of a batch, patch {}: expected a code in 0..{codes}, found {}: correct contract.output.codes",
                place[0],
                place[1] * w + place[2],
                output.int64_value(&place)
            );
        }
        Ok(output.flatten(1, 2))
    }

    /// Tokens `[B, T, D]` as a grid of the circuit's proportions.
    fn tokens(&self, output: &Tensor) -> Result<Tensor> {
        let skip = self.output.skip.unwrap_or(0);
        let (batch, tokens, width) = output.size3()?;
        let (cells, patches) = (tokens - skip, self.rows * self.columns);
        let times = (cells.max(0) as u64).checked_div(patches as u64).unwrap_or(0).isqrt() as i64;
        require!(
            times > 0 && cells == patches * times * times,
            "expected {patches} tokens for {} x {} patches, or 4, 9, 16 .. times as many, found {tokens}{}: state tokens in \
             front by contract.output.skip, or change contract.input.size or patch.size",
            self.rows,
            self.columns,
            if skip > 0 { format!(" with {skip} in front") } else { String::new() }
        );
        let grid = output.narrow(1, skip, cells).reshape([batch, self.rows * times, self.columns * times, width]);
        self.pool(&grid)
    }

    /// Cells `[B, h, w, D]` as patches `[B, L, D]`.
    fn pool(&self, cells: &Tensor) -> Result<Tensor> {
        let (batch, h, w, width) = cells.size4()?;
        let (rows, columns) = (self.rows, self.columns);
        require!(
            h >= rows && w >= columns && h % rows == 0 && w % columns == 0,
            "expected a grid of {rows} x {columns} patches or a multiple of it, found {h} x {w}: change \
             contract.input.size or patch.size"
        );
        let (down, across) = (h / rows, w / columns);
        let split = cells.reshape([batch, rows, down, columns, across, width]);
        let pooled = match self.output.pool {
            _ if down * across == 1 => split,
            None => {
                return Err(refusal!(
                    "gives a grid of {h} x {w} for {rows} x {columns} patches: state how its cells make a patch by \
                     contract.output.pool (mean, max or concat)"
                ));
            }
            Some(Pool::Mean) => split.mean_dim([2i64, 4].as_slice(), false, Kind::Float),
            Some(Pool::Max) => split.amax([2i64, 4], false),
            Some(Pool::Concat) => split.permute([0, 1, 3, 2, 4, 5]),
        };
        Ok(pooled.reshape([batch, rows * columns, -1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Cell (r, c) of a grid of `h x w` holds 10 r + c and its negative: `[1, 2, h, w]`.
    fn cells(h: i64, w: i64) -> Tensor {
        let axis = |n| Tensor::arange(n, (Kind::Float, Device::Cpu));
        let one = axis(h).reshape([1, 1, h, 1]) * 10.0 + axis(w).reshape([1, 1, 1, w]);
        Tensor::cat(&[&one, &-&one], 1)
    }

    fn arranged(pool: Option<Pool>, skip: Option<i64>, output: &Tensor) -> Result<Vec<f32>> {
        let arrangement = Arrangement::new(&ModuleOutput { skip, pool, ..ModuleOutput::default() }, (1, 2));
        let found = arrangement.arrange(output, 1)?;
        assert_eq!(found.size()[..2], [1, 2]);
        Ok(Vec::try_from(found.flatten(0, -1)).unwrap())
    }

    #[test]
    fn finer_grids_are_pooled_by_the_stated_rule() {
        let fine = cells(2, 4); // patches {0, 1, 10, 11} and {2, 3, 12, 13}
        assert_eq!(arranged(Some(Pool::Mean), None, &fine).unwrap(), [5.5, -5.5, 7.5, -7.5]);
        assert_eq!(arranged(Some(Pool::Max), None, &fine).unwrap(), [11.0, 0.0, 13.0, -2.0]);
        let concat = arranged(Some(Pool::Concat), None, &fine).unwrap();
        assert_eq!(concat[..8], [0.0, 0.0, 1.0, -1.0, 10.0, -10.0, 11.0, -11.0]);
        // The same as tokens in row-major order, one more in front.
        let tokens = fine.flatten(2, 3).transpose(1, 2);
        let tokens = Tensor::cat(&[&tokens.narrow(1, 0, 1), &tokens], 1);
        assert_eq!(arranged(Some(Pool::Concat), Some(1), &tokens).unwrap(), concat);
        assert_eq!(arranged(None, None, &cells(1, 2)).unwrap(), [0.0, 0.0, 1.0, -1.0]);
    }

    #[test]
    fn grids_that_do_not_fit_are_refused() {
        let refused = |output: &Tensor| arranged(None, None, output).unwrap_err().to_string();
        assert_eq!(
            refused(&cells(2, 4)),
            "gives a grid of 2 x 4 for 1 x 2 patches: state how its cells make a patch by contract.output.pool (mean, \
             max or concat)"
        );
        assert_eq!(
            refused(&cells(1, 3)),
            "expected a grid of 1 x 2 patches or a multiple of it, found 1 x 3: change contract.input.size or patch.size"
        );
        let tokens = Tensor::zeros([1, 3, 2], (Kind::Float, Device::Cpu));
        assert_eq!(
            refused(&tokens),
            "expected 2 tokens for 1 x 2 patches, or 4, 9, 16 .. times as many, found 3: state tokens in front by \
             contract.output.skip, or change contract.input.size or patch.size"
        );
    }
}
