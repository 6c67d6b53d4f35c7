//! A patch that sees the pixels around it, number by number: the ordered reading of its experts.

use std::sync::Arc;

use super::experts::{Border, Experts, Weights};
use super::gate::normalise_logarithms;
use crate::codec::normals::{Normals, Span};
use crate::codec::tables::inner;
use crate::codec::walk::{Boundary, Walk};

/// A walk through the numbers of one patch after the other.
#[derive(Debug)]
pub struct ContextWalk<'a> {
    model: &'a Experts,
    normals: Normals,
    border: Arc<Border>,
    /// Middles about the centre of what is there, in the order of the rows: the context, then the patch so far.
    seen: Vec<f64>,
    log_weights: Vec<f64>,
}

impl<'a> ContextWalk<'a> {
    /// Walks beside this kind of border until [`begin`](Self::begin) says another.
    #[must_use]
    pub fn new(model: &'a Experts, border: Arc<Border>) -> Self {
        Self { model, normals: Normals::default(), border, seen: Vec::new(), log_weights: Vec::new() }
    }

    /// Begin a patch beside a kind of border; `value` gives the numbers of its context, by the order of windows.
    pub fn begin(&mut self, border: &Arc<Border>, value: impl Fn(usize) -> i64) {
        let (model, rows) = (self.model, &border.rows);
        self.border = Arc::clone(border);
        self.seen.clear();
        let middle = |&place: &usize| value(model.order()[place]) as f64 + 0.5 - model.centre[place];
        self.seen.extend(rows.places[..rows.context].iter().map(middle));
        self.log_weights.clear();
        match &model.prior {
            Weights::Constant(experts) => {
                let all = experts.iter().zip(model.log_weights.chunks_exact(model.scales));
                self.log_weights.extend(all.flat_map(|(k, own)| own.iter().map(move |s| k + s)));
            }
            Weights::Gate(gate) => {
                // The context's places are those of windows: only the patch is reordered.
                let mut context = vec![None; model.context_numbers()];
                for (&place, &middle) in rows.places.iter().zip(&self.seen) {
                    context[place] = Some(middle);
                }
                let (experts, tilt) = gate.tilt(&context);
                for (k, own) in experts.iter().zip(model.log_weights.chunks_exact(model.scales)) {
                    let mut scales: Vec<f64> = own.iter().zip(&tilt).map(|(a, u)| a + u).collect();
                    normalise_logarithms(&mut scales);
                    self.log_weights.extend(scales.into_iter().map(|s| k + s));
                }
            }
            Weights::Ring(_) => {
                let ring = border.ring.as_ref().expect("every border of such a model has rows of the ring");
                self.log_weights = ring.log_weights(&self.seen, model.scales);
            }
        }
        self.normals.begin(&self.log_weights, model.scales);
        self.prepare();
    }

    /// How many numbers of the patch are known.
    fn known(&self) -> usize {
        self.seen.len() - self.border.rows.context
    }

    /// What the next number is like under every entry.
    fn prepare(&mut self) {
        let d = self.known();
        if d == self.border.rows.own() {
            return;
        }
        let (model, rows, seen) = (self.model, &self.border.rows, &self.seen);
        let group = rows.group[d];
        let (mut last, mut sum, mut diagonal) = (usize::MAX, 0.0, 0.0);
        self.normals.prepare(|entry| {
            if entry.component != last {
                last = entry.component;
                let (row, own, bias) = rows.row(last, d);
                (sum, diagonal) = (inner(row, seen) + bias, own);
            }
            let place = entry.scale * model.groups + group;
            let inverse = model.inverse_scales[place];
            (entry.offset, entry.rate, entry.twin) = (sum * inverse, diagonal * inverse, model.twins[place]);
        });
    }

    fn place(&self) -> usize {
        self.border.rows.places[self.seen.len()]
    }

    fn span(&self) -> Span {
        let (low, symbols) = self.model.ranges[self.place()];
        Span { low, symbols, centre: self.model.centre[self.place()] }
    }
}

impl Walk for ContextWalk<'_> {
    fn variable(&self) -> usize {
        self.model.order()[self.place()] - self.model.context_numbers()
    }

    fn symbols(&self) -> usize {
        self.span().symbols
    }

    fn boundary(&self, v: usize, out: &mut Boundary) {
        self.normals.boundary(v, &self.span(), out);
    }

    fn guess(&self, share: f64) -> usize {
        self.normals.guess(share, &self.span())
    }

    fn observe(&mut self, v: usize, low: &Boundary, high: &Boundary) -> f64 {
        let span = self.span();
        let probability = self.normals.observe(v, &span, low, high);
        self.seen.push(span.middle(v));
        self.prepare();
        probability
    }
}
