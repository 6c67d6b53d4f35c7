//! Expected values of a circuit's discrete inputs given evidence, by the downward pass:
//!
//! ```text
//! E[x_v | evidence] = sum_k F_v(k) sum_c c p(x_v = c | state k)
//! ```
//!
//! with the flow `F_v` of the region that reads v: the posterior of its state.

use tch::{Kind, Tensor};

use super::Circuit;
use super::forward::Messages;
use super::plan::{Block, BlockInput};

impl Circuit {
    /// First and second moments of every discrete input, float64 `[B, V]` each, added up over the heads with `weights`
    /// `[B, T * heads]`: with posteriors of the heads for weights those of their mixture given the evidence. What was
    /// observed is certain.
    pub fn moments(&self, messages: &Messages, weights: &Tensor) -> [Tensor; 2] {
        let size = [self.graph().variables() as i64, messages.log_likelihood.size()[0]];
        let moments = [1, 2].map(|_| Tensor::zeros(size, (Kind::Double, self.device())));
        let _ = self.downward(messages, weights, |block, message, _, flow| {
            let (Some(BlockInput::Discrete { pool, offsets, .. }), Some(rows)) = (&block.input, &message.rows) else {
                return;
            };
            let starts = Vec::<i64>::try_from(offsets.reshape([-1])).expect("offsets are numbers of rows");
            for (row, start) in starts.into_iter().enumerate() {
                let variable = self.read_by(block, row);
                let table = self.parameters().inputs[*pool].narrow(0, start, self.categories(variable));
                let (flow, seen) = (flow.get(row as i64).to_kind(Kind::Double), rows.get(row as i64) - start);
                for (power, moment) in moments.iter().enumerate() {
                    let _ = moment.get(variable).g_add_(&expected(&table, &flow, &seen, power as i64 + 1));
                }
            }
        });
        moments.map(|moment| moment.transpose(0, 1).contiguous())
    }

    /// The variable that a region of a block reads.
    fn read_by(&self, block: &Block, row: usize) -> i64 {
        self.graph().regions()[block.regions[row]].input.expect("the block reads discrete inputs").variable as i64
    }

    /// Values of a variable.
    fn categories(&self, variable: i64) -> i64 {
        self.plan().categories.int64_value(&[variable, 0])
    }
}

/// The expected power of a value `[B]` from its table `[values, states]` and the flows of the states `[B, states]`; the power
/// of `seen` `[B]` itself, with the weight of the flow, where that is a value.
fn expected(table: &Tensor, flow: &Tensor, seen: &Tensor, power: i64) -> Tensor {
    let count = table.size()[0];
    let values = Tensor::arange(count, (Kind::Double, table.device())).pow_tensor_scalar(power);
    let unseen = flow.mv(&table.to_kind(Kind::Double).tr().mv(&values));
    let certain = values.index_select(0, &seen.clamp_max(count - 1)) * flow.sum_dim_intlist(1, false, Kind::Double);
    certain.where_self(&seen.lt(count), &unseen)
}
