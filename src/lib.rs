//! Distil deep generative models into probabilistic circuits and measure them in bits per dimension.
//!
//! The modules, from the ground up; a file imports only modules above it in this list.

pub mod refusal; // ground: what the user got wrong, as opposed to what went wrong
pub mod random; // seeds by name
pub mod device; // device choice, CUDA library, threads
pub mod group; // processes that share out data, and the sum over them
pub mod adam; // descent along gradients with running means
pub mod color; // bijections of pictures, and the lossy transforms of published protocols
pub mod wavelet; // the 5/3 lifting over whole pictures, linear and reversible
pub mod data; // image sets: reading, splits, hashes, batches, patches as integer tensors
pub mod run; // the run folder: configuration, manifest, metrics, checkpoints, log
pub mod structure; // region graphs and their validity; no parameters
pub mod circuit; // circuits as tensors: upward and downward pass
pub mod em; // expected counts to new parameters: steps, schedules, priors
pub mod evaluate; // bits per dimension and standard error: the only nats -> bpd conversion
pub mod teacher; // features per patch, codes, own bound
pub mod latents; // k-means, codebook, assignments (knows no teacher)
pub mod patch; // p(patch given cluster) for all clusters at once
pub mod latent_tree; // p(z): tree over patch latents, soft evidence
pub mod mixture; // picture model = patch + latents: log p(x), posteriors, joint statistics
pub mod codec; // pictures to bytes and back, without loss
pub mod query; // questions to a trained picture model: masks, conditionals, explanations
pub mod distill; // in what order parts are trained
pub mod experiment; // YAML, checks, stages, reuse
pub mod report; // pages and tables from run folders alone
pub mod cli; // what the user types
