//! Speed of questions on the CPU, as multiples of one likelihood of a whole picture in the same run.
//!
//! The lower half of pictures is missing, or every other pixel: log p of the rest, a completion drawn alone and one of eight, mean
//! and deviation of what is missing. A first call, whose time does not count, sets up what depends on the mask alone. Medians;
//! nothing here is a test. Notes and history: `benches/NOTES.md`.

mod timing;

use std::hint::black_box;

use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::device;
use lvd::latent_tree::{self, LatentTreeConfig};
use lvd::mixture::mask::Mask;
use lvd::mixture::{Mixture, Prior};
use lvd::patch::config::{GaussianConfig, HcltConfig, Start};
use lvd::patch::{PatchModel, gaussian, hclt};
use lvd::query::conditional;
use lvd::random::{Draws, rng};
use rand::RngExt;
use tch::{Device, Kind, Tensor};
use timing::median;

const PICTURES: usize = 64;
const REPEATS: usize = 5;

fn main() {
    device::keep_freed_memory();
    let _guard = tch::no_grad_guard();
    println!("{} threads; {PICTURES} pictures in one go; multiples of log p(x)", tch::get_num_threads());
    println!(
        "{:>34} {:>11} {:>14} {:>8} {:>8} {:>8} {:>8}",
        "", "missing", "log p(x), ms", "log p(A)", "1 of 1", "1 of 8", "moments"
    );
    let grey = PictureShape { height: 28, width: 28, channels: 1, levels: 256 };
    let view = View::new(grey, ColorSpace::Grey, Region::Whole, 4).expect("28 is a multiple of 4");
    let config = HcltConfig { states: 16, ..HcltConfig::default() };
    let members = members(64, &view, false);
    let trees = hclt::start::from_members(
        &config,
        &members,
        &view.ranges(),
        Start::Quantile,
        Device::Cpu,
        &mut rng(1, "bench", 0),
    );
    measure("64 HCLTs, 16 states, 4 x 4, tree", &with_tree(view, Box::new(trees.expect("enough patches")), 64));

    let colour = PictureShape { height: 32, width: 32, channels: 3, levels: 256 };
    let view = View::new(colour, ColorSpace::Rgb, Region::Whole, 8).expect("32 is a multiple of 8");
    let members = self::members(128, &view, true);
    let gaussians = gaussian::start::from_members(&GaussianConfig::default(), &members, &view.ranges(), Device::Cpu);
    measure("128 Gaussians, 8 x 8 x 3, tree", &with_tree(view, Box::new(gaussians.expect("enough patches")), 128));
}

fn with_tree(view: View, patches: Box<dyn PatchModel>, clusters: usize) -> Mixture {
    let parents = (0..view.patches()).map(|i| i.checked_sub(1)).collect();
    let config = LatentTreeConfig::default();
    let mut tree = latent_tree::uniform(&config, &parents, view.grid.cols, clusters, Device::Cpu).expect("a chain");
    tree.update(|parameters, plan| parameters.perturb(plan, 0.5, &mut rng(1, "bench", 1)));
    Mixture::new(view, patches, Prior::Tree(Box::new(tree)))
}

/// Smooth numbers of different brightness and contrast, `count` lists of `d`.
fn smooth(count: usize, d: usize, seed: u64) -> Vec<u8> {
    let mut rng = rng(seed, "bench", 2);
    let mut out = Vec::with_capacity(count * d);
    for _ in 0..count {
        let (base, contrast) = (rng.random_range(30.0..220f32), rng.random_range(0.0..3f32).exp());
        let mut value = base;
        for _ in 0..d {
            value = 0.9 * value + 0.1 * base + contrast * rng.random_range(-1.0..1f32);
            out.push(value.clamp(0.0, 255.0) as u8);
        }
    }
    out
}

fn members(clusters: u64, view: &View, density: bool) -> Vec<Tensor> {
    let d = view.variables();
    let of = |k| {
        let integers = Tensor::from_slice(&smooth(400, d, k)).view([400, d as i64]).to_kind(Kind::Int64);
        if density {
            integers.to_kind(Kind::Float) + Tensor::rand([400, d as i64], (Kind::Float, Device::Cpu))
        } else {
            integers
        }
    };
    (0..clusters).map(of).collect()
}

fn measure(name: &str, model: &Mixture) {
    let view = model.view();
    let PictureShape { height, width, channels, .. } = view.shape();
    let bytes = smooth(PICTURES, view.shape().dimensions(), 1 << 20);
    let pixels = Tensor::from_slice(&bytes).view([PICTURES as i64, height as i64, width as i64, channels as i64]);
    let numbers: Vec<usize> = (0..PICTURES).collect();
    let draws = Draws { seed: 1, purpose: "bench", pass: 0, pictures: &numbers };
    let whole = || model.evidence(&pixels, model.readings()[0], &draws).expect("pictures of the view");
    let all = whole();
    let likelihood = median(Device::Cpu, REPEATS, || {
        drop(black_box(conditional::log_likelihood(model, &all).expect("whole pictures")));
    });
    let size = [height as i64, width as i64];
    for (missing, mask) in
        [("lower half", Mask::top(size[0], size[1])), ("chessboard", Mask::chessboard(size[0], size[1]))]
    {
        let part = model.observe(whole(), &mask).expect("a mask of the pictures' size");
        let random = &mut rng(1, "bench", 3);
        let marginal = median(Device::Cpu, REPEATS, || {
            drop(black_box(conditional::log_likelihood(model, &part).expect("exact marginals")));
        });
        let one = median(Device::Cpu, REPEATS, || {
            drop(black_box(conditional::samples(model, &part, 1, random).expect("conditionals")));
        });
        let eight = median(Device::Cpu, REPEATS, || {
            drop(black_box(conditional::samples(model, &part, 8, random).expect("conditionals")));
        }) / 8.0;
        let moments =
            median(Device::Cpu, REPEATS, || drop(black_box(conditional::moments(model, &part).expect("conditionals"))));
        let times = |seconds: f64| seconds / likelihood;
        println!(
            "{name:>34} {missing:>11} {:>14.3} {:>8.2} {:>8.2} {:>8.2} {:>8.2}",
            likelihood * 1e3 / PICTURES as f64,
            times(marginal),
            times(one),
            times(eight),
            times(moments)
        );
    }
}
