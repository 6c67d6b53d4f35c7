//! A teacher's own code lengths of many pictures, streamed.

use anyhow::Result;
use tch::{Device, Kind};

use super::Teacher;
use super::features::BATCH;
use crate::data::pictures::Pictures;
use crate::run::interrupt;

/// A teacher's bounds on `-log p(x)` of some pictures, in nats.
#[derive(Debug, Default)]
pub struct Bounds {
    /// By picture.
    pub total: Vec<f64>,
    /// Of all codes together.
    pub codes: f64,
    /// Of all pictures given their codes.
    pub decoder: f64,
}

/// The bounds of all these pictures; none for a teacher without any.
///
/// # Errors
/// When the teacher refuses pictures or they cannot be read; an interruption.
pub fn bounds(teacher: &dyn Teacher, pictures: &Pictures, device: Device) -> Result<Option<Bounds>> {
    let _guard = tch::no_grad_guard();
    let mut all = Bounds::default();
    for batch in pictures.batches(0..pictures.len(), BATCH) {
        let Some(bound) = teacher.bound(&batch?.pixels.to_device(device))? else { return Ok(None) };
        all.total.extend(Vec::<f64>::try_from(bound.total())?);
        all.codes += bound.codes.sum(Kind::Double).double_value(&[]);
        all.decoder += bound.decoder.sum(Kind::Double).double_value(&[]);
        interrupt::check()?;
    }
    Ok(Some(all))
}
