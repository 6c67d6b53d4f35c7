//! Small models of every family, and pictures for them.

use std::collections::BTreeMap;

use lvd::codec::Codec;
use lvd::color::ColorSpace;
use lvd::data::patches::Region;
use lvd::data::pictures::PictureShape;
use lvd::data::view::View;
use lvd::latent_tree::{self, LatentTreeConfig};
use lvd::mixture::{Mixture, Prior, even_weights};
use lvd::patch::config::{
    Covariance, FamilyConfig, GateConfig, GaussianConfig, HcltConfig, NetworkConfig, PatchConfig, RingConfig,
    ScaleGroups, Start,
};
use lvd::patch::{self, PatchModel};
use lvd::random::rng;
use lvd::run::checkpoint::{Named, prefixed};
use lvd::structure::config::TreeConfig;
use lvd::wavelet::Transform;
use tch::{Device, Kind, Tensor};

/// Clusters of every model; twice as many where trees have two heads.
const CLUSTERS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kinds {
    Gaussian(ScaleGroups, Covariance),
    /// Patches that see the pixels around them, with a gate.
    Context(ScaleGroups, GateConfig),
    Hclt,
    /// Two heads a tree.
    Heads,
    /// One tree over the whole picture.
    Pixels,
    /// Quad trees over patches of this side; one over the whole picture.
    Squares(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Latents {
    Independent,
    Tree,
    Hidden,
}

#[derive(Clone, Copy, Debug)]
pub struct Case(pub Kinds, pub Latents, pub ColorSpace, pub Transform);

const ONE: Kinds = Kinds::Gaussian(ScaleGroups::One, Covariance::Full);
const LUMA: Kinds = Kinds::Gaussian(ScaleGroups::LumaChroma, Covariance::Full);
const LEVELS: Kinds = Kinds::Gaussian(ScaleGroups::LumaChromaLevels, Covariance::Full);
const LOW: Kinds = Kinds::Gaussian(ScaleGroups::LumaChroma, Covariance::LowRank { rank: 2 });

/// Gates that look at the context.
pub const NETWORK: GateConfig = GateConfig::Network(NetworkConfig { units: 6, rate: 2e-3, experts_every: 4 });
pub const RING: GateConfig = GateConfig::Ring(RingConfig { width: 1 });

pub const CASES: [Case; 20] = [
    Case(ONE, Latents::Independent, ColorSpace::Rgb, Transform::None),
    Case(LUMA, Latents::Independent, ColorSpace::YcocgR, Transform::None),
    Case(LUMA, Latents::Tree, ColorSpace::YcocgRMod, Transform::None),
    Case(LOW, Latents::Hidden, ColorSpace::YcocgR, Transform::Cdf53Integer),
    Case(LEVELS, Latents::Independent, ColorSpace::YcocgR, Transform::Cdf53Integer),
    Case(ONE, Latents::Tree, ColorSpace::Grey, Transform::Cdf53Integer),
    Case(Kinds::Context(ScaleGroups::One, GateConfig::None), Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(
        Kinds::Context(ScaleGroups::LumaChroma, GateConfig::None),
        Latents::Independent,
        ColorSpace::YcocgR,
        Transform::None,
    ),
    Case(Kinds::Context(ScaleGroups::LumaChroma, NETWORK), Latents::Independent, ColorSpace::YcocgR, Transform::None),
    Case(Kinds::Context(ScaleGroups::LumaChroma, RING), Latents::Independent, ColorSpace::YcocgR, Transform::None),
    Case(Kinds::Context(ScaleGroups::One, RING), Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(Kinds::Hclt, Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(Kinds::Hclt, Latents::Tree, ColorSpace::YcocgR, Transform::None),
    Case(Kinds::Hclt, Latents::Hidden, ColorSpace::Rgb, Transform::None),
    Case(Kinds::Heads, Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(Kinds::Heads, Latents::Tree, ColorSpace::Grey, Transform::Cdf53Integer),
    Case(Kinds::Pixels, Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(Kinds::Pixels, Latents::Independent, ColorSpace::YcocgRMod, Transform::None),
    Case(Kinds::Squares(8), Latents::Independent, ColorSpace::Grey, Transform::None),
    Case(Kinds::Squares(4), Latents::Tree, ColorSpace::YcocgR, Transform::None),
];

/// Pictures u8 `[N, 8, 8, C]` with slopes, edges and noise.
pub fn pictures(count: usize, channels: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as i64
    };
    let mut all = Vec::new();
    for _ in 0..count {
        let (base, dx, dy, edge) = (next() % 200, next() % 11 - 5, next() % 11 - 5, next() % 8);
        for place in 0..64 {
            let (y, x) = (place / 8, place % 8);
            let step = if x > edge { 30 } else { 0 };
            // Colours whose differences stay clear of 0, where those of ycocg_r_mod wrap.
            for tint in [0, 25, 18].into_iter().take(channels) {
                all.push((base + dx * x + dy * y + step + tint + next() % 7).clamp(0, 255) as u8);
            }
        }
    }
    all
}

pub fn tensor(pixels: &[u8], channels: usize) -> Tensor {
    Tensor::from_slice(pixels).view([-1, 8, 8, channels as i64])
}

impl Case {
    pub fn channels(self) -> usize {
        if self.2 == ColorSpace::Grey { 1 } else { 3 }
    }

    pub fn view(self) -> View {
        let shape = PictureShape { height: 8, width: 8, channels: self.channels(), levels: 256 };
        if let Kinds::Context(..) = self.0 {
            return View::windowed(shape, self.2, Region::Whole, 2, 2).unwrap();
        }
        let patch = match self.0 {
            Kinds::Pixels => 8,
            Kinds::Squares(side) => side,
            _ => 4,
        };
        View::new(shape, self.2, Region::Whole, patch).unwrap().transformed(self.3).unwrap()
    }

    fn config(self) -> PatchConfig {
        let family = match self.0 {
            Kinds::Context(scale_groups, _) => FamilyConfig::Gaussian(GaussianConfig {
                scale_groups,
                scales: 3,
                double: true,
                ordered_window: 1e9,
                ..GaussianConfig::default()
            }),
            Kinds::Gaussian(scale_groups, covariance) => FamilyConfig::Gaussian(GaussianConfig {
                covariance,
                scale_groups,
                scales: 3,
                double: true,
                ordered_window: 1e9,
                ..GaussianConfig::default()
            }),
            Kinds::Squares(_) => {
                FamilyConfig::Hclt(HcltConfig { states: 3, tree: TreeConfig::QuadTree {}, ..HcltConfig::default() })
            }
            _ => FamilyConfig::Hclt(HcltConfig { states: 3, ..HcltConfig::default() }),
        };
        let gate = if let Kinds::Context(_, gate) = self.0 { gate } else { GateConfig::None };
        PatchConfig { size: self.view().grid.patch, context: self.view().context, gate, family }
    }

    fn patches(self) -> Box<dyn PatchModel> {
        let (view, config) = (self.view(), self.config());
        let clusters = if view.patches() == 1 { 1 } else { CLUSTERS };
        let members: Vec<Tensor> = (0..clusters as u64)
            .map(|k| {
                let seen = tensor(&pictures(25, self.channels(), k + 1), self.channels());
                let patches = view.integers(&seen).unwrap().to_kind(Kind::Int64);
                let whole =
                    view.whole().map_or_else(|| patches.shallow_clone(), |whole| patches.index_select(1, &whole));
                let patches = whole.reshape([-1, view.numbers() as i64]);
                let gaussian = matches!(self.0, Kinds::Gaussian(..) | Kinds::Context(..));
                if gaussian { patches.to_kind(Kind::Float) + 0.5 } else { patches }
            })
            .collect();
        let ranges = view.ranges();
        let made =
            patch::start(&config, &members, &ranges, Start::Quantile, Device::Cpu, &mut rng(1, "test", 0)).unwrap();
        let mut tensors: BTreeMap<String, Tensor> = made.tensors().into_iter().collect();
        if let Some(last) = tensors.get("gate.w3") {
            // A gate that does look at its context.
            let numbers = Tensor::arange(last.numel() as i64, (Kind::Float, Device::Cpu)).view_as(last);
            tensors.insert("gate.w3".to_owned(), (numbers * 1.7).sin() * 0.6);
            return patch::from_tensors(&config, &ranges, &Named::new(&tensors)).unwrap();
        }
        if self.0 != Kinds::Heads {
            return made;
        }
        // A second head whose root has the states the other way round.
        let roots = &tensors["roots"];
        let both = Tensor::cat(&[roots, &roots.flip([2i64].as_slice())], 1);
        tensors.insert("roots".to_owned(), both);
        patch::from_tensors(&config, &ranges, &Named::new(&tensors)).unwrap()
    }

    /// The library's model.
    pub fn model(self) -> Mixture {
        let (view, patches) = (self.view(), self.patches());
        let clusters = patches.clusters();
        if patches.own_weights() {
            return Mixture::gated(view, patches);
        }
        let prior = match self.1 {
            Latents::Independent => {
                let weights = even_weights(clusters, Device::Cpu)
                    + Tensor::arange(clusters as i64, (Kind::Double, Device::Cpu)) * 0.3;
                Prior::Independent(weights.log_softmax(0, Kind::Double))
            }
            latents => {
                let hidden = (latents == Latents::Hidden).then_some(2);
                let config = LatentTreeConfig { hidden, ..LatentTreeConfig::default() };
                let parents = vec![Some(1), Some(3), Some(1), None];
                let mut tree = latent_tree::uniform(&config, &parents, 2, clusters, Device::Cpu).unwrap();
                tree.update(|parameters, plan| parameters.perturb(plan, 0.9, &mut rng(2, "test", 0)));
                Prior::Tree(Box::new(tree))
            }
        };
        Mixture::new(view, patches, prior)
    }

    pub fn codec(self, model: &Mixture) -> Codec {
        let tensors: BTreeMap<String, Tensor> = model.tensors().into_iter().collect();
        Codec::new(self.view(), &Named::new(&tensors)).unwrap()
    }
}

/// A Gaussian model of grey 4 x 4 patches whose numbers are written out here: two clusters, two scales.
pub fn written_gaussian() -> BTreeMap<String, Tensor> {
    let (k, d) = (2usize, 16usize);
    let mean: Vec<f64> = (0..k * d).map(|i| (i % 7) as f64 * 4.0 - 12.0 + (i / d) as f64 * 20.0).collect();
    let mut shape = vec![0.0; k * d * d];
    for c in 0..k {
        for i in 0..d {
            for j in 0..d {
                let near = 1.0 / (1.0 + i.abs_diff(j) as f64);
                let own = if i == j { 8.0 + 4.0 * c as f64 } else { 0.0 };
                shape[(c * d + i) * d + j] = own + 60.0 * near;
            }
        }
    }
    let numbers = |values: &[f64], size: &[i64]| Tensor::from_slice(values).view(size);
    let (rows, columns) = (k as i64, d as i64);
    let named = vec![
        ("mean".to_owned(), numbers(&mean, &[rows, columns])),
        ("shape".to_owned(), numbers(&shape, &[rows, columns, columns])),
        ("log_weights".to_owned(), numbers(&[-0.5, -1.0, -0.75, -0.625], &[2, 2])),
        ("scales".to_owned(), numbers(&[0.5, 2.0], &[2, 1])),
        ("centre".to_owned(), numbers(&[127.5; 16], &[columns])),
        ("order".to_owned(), Tensor::from_slice(&(0..columns).collect::<Vec<i64>>())),
        ("group".to_owned(), Tensor::from_slice(&[0i64; 16])),
    ];
    let mut all = prefixed("patch", named);
    all.push(("prior.log_weights".to_owned(), numbers(&[-0.5, -1.0], &[2])));
    all.into_iter().collect()
}

/// Hidden Chow-Liu trees of grey 4 x 4 patches whose numbers are written out here: two clusters under a latent tree.
pub fn written_hclt() -> BTreeMap<String, Tensor> {
    let (t, d, h, v) = (2usize, 16usize, 2usize, 256usize);
    let trees: Vec<i64> =
        (0..t * d).map(|i| if i % d == 0 { -1 } else { ((i % d) as i64 - 1) / (1 + (i / d) as i64) }).collect();
    let edges: Vec<f32> = (0..t * d * 2).flat_map(|i| [[0.75, 0.25], [0.375, 0.625]][i % 2]).collect();
    // 256 numbers of 1/512 and 3/512 in turn, the other way round for the other state.
    let inputs: Vec<f32> = (0..t * d * v * h).map(|i| [1.0, 3.0][(i / h / 8 + i) % 2] / 512.0).collect();
    let numbers = |values: &[f32], size: &[usize]| {
        Tensor::from_slice(values).view(&size.iter().map(|&n| n as i64).collect::<Vec<_>>()[..])
    };
    let named = vec![
        ("trees".to_owned(), Tensor::from_slice(&trees).view([t as i64, d as i64])),
        ("roots".to_owned(), numbers(&[0.5, 0.5, 0.25, 0.75], &[t, 1, h])),
        ("edges".to_owned(), numbers(&edges, &[t, d, h, h])),
        ("inputs".to_owned(), numbers(&inputs, &[t, d, v, h])),
    ];
    let mut all = prefixed("patch", named);
    let edges = [[0.75f32, 0.25], [0.375, 0.625]].concat().repeat(4);
    all.extend(prefixed(
        "prior",
        vec![
            ("parents".to_owned(), Tensor::from_slice(&[-1i64, 0, 1, 1])),
            ("roots".to_owned(), numbers(&[0.25, 0.75], &[1, 1, 2])),
            ("edges".to_owned(), numbers(&edges, &[1, 4, 2, 2])),
        ],
    ));
    all.into_iter().collect()
}
