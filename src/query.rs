//! Questions to a trained picture model, all of them exact unless they say otherwise:
//!
//! ```text
//! log p(x_A),  log p(x_A | x_B) = log p(x_A, x_B) - log p(x_B)         conditional::log_likelihood, twice
//! x_M ~ p(x_M | x_O),   E[x_M | x_O],   Var[x_M | x_O]                  conditional::{samples, moments}
//! p(x_i | all other patches)                                           conditional::patch_surprise
//! p(z_i | x_O),   argmax_z p(z | x_O),   argmax_{z, s, x_M} p(x, s, z)  explain
//! ```
//!
//! with x the pixels of a picture (O observed, M missing), z the clusters of its patches and s the latents inside of them.
//! ```
//! use lvd::color::ColorSpace;
//! use lvd::data::{patches::Region, pictures::PictureShape, view::View};
//! use lvd::mixture::{Mixture, even_weights, mask::Mask};
//! use lvd::patch::{Reading, config::GaussianConfig, gaussian::start};
//! use lvd::query::conditional;
//! use lvd::random::{Draws, rng};
//! use tch::{Device, Kind, Tensor};
//!
//! // A model of 4 x 4 pictures: two Gaussians of patches of 2 x 2, of any patches here.
//! let shape = PictureShape { height: 4, width: 4, channels: 1, levels: 256 };
//! let view = View::new(shape, ColorSpace::Grey, Region::Whole, 2)?;
//! let members = [60.0, 160.0].map(|level| Tensor::rand([50, 4], (Kind::Double, Device::Cpu)) * 40.0 + level);
//! let patches = start::from_members(&GaussianConfig::default(), &members, &view.ranges(), Device::Cpu)?;
//! let model = Mixture::independent(view, Box::new(patches), even_weights(2, Device::Cpu));
//!
//! // A picture of which the upper half is observed.
//! let picture = Tensor::full([1, 4, 4, 1], 70, (Kind::Uint8, Device::Cpu));
//! let noise = Draws { seed: 1, purpose: "example", pass: 0, pictures: &[0] };
//! let whole = || model.evidence(&picture, Reading::Density, &noise);
//! let top = model.observe(whole()?, &Mask::top(4, 4))?;
//!
//! let [all, top_alone] = [&whole()?, &top].map(|seen| conditional::log_likelihood(&model, seen).unwrap());
//! let bottom_given_top = (all - top_alone).double_value(&[0]); // nats
//! let rest = conditional::samples(&model, &top, 3, &mut rng(1, "example", 0))?; // [1, 3, 4 patches, 4 numbers]
//! let mean = conditional::moments(&model, &top)?.mean; // [1, 4, 4]
//! assert!(bottom_given_top.is_finite());
//! assert_eq!((rest.size(), mean.size()), (vec![1, 3, 4, 4], vec![1, 4, 4]));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! [`support`] says which of them a model can answer, and why not the others.

pub mod mask;
pub mod conditional;
pub mod explain;
pub mod pixels;
pub mod support;
