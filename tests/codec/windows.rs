//! Patches that see the pixels around them code pictures of any size.

use lvd::color::ColorSpace;
use lvd::patch::config::{GateConfig, ScaleGroups};
use lvd::wavelet::Transform;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tch::Tensor;

use crate::models::{Case, Kinds, Latents, NETWORK, RING};

#[test]
fn pictures_of_any_size_come_back_bit_for_bit() {
    for gate in [GateConfig::None, NETWORK, RING] {
        let kind = Kinds::Context(ScaleGroups::LumaChroma, gate);
        let case = Case(kind, Latents::Independent, ColorSpace::YcocgR, Transform::None);
        let codec = case.codec(&case.model());
        assert!(codec.takes_any_size());
        let sizes = prop_oneof![
            Just([1usize, 1]),
            Just([1, 300]),
            Just([257, 1]),
            Just([2, 3]),
            (1usize..14, 1usize..14).prop_map(|(height, width)| [height, width]),
        ];
        let picture = (sizes, any::<u64>(), any::<u8>()).prop_map(|(size, seed, spread)| {
            let mut state = seed | 1;
            let numbers = (0..size[0] * size[1] * 3).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                128u8.wrapping_add(((state >> 40) as u8) % spread.max(1))
            });
            (size, numbers.collect::<Vec<u8>>())
        });
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(24) });
        runner
            .run(&picture, |(size, pixels)| {
                let shape = [1, size[0] as i64, size[1] as i64, 3];
                let numbers = codec.integers(&Tensor::from_slice(&pixels).view(shape)).unwrap().remove(0);
                let coded = codec.encode(&numbers, size).unwrap();
                let back = codec.pixels(&codec.decode(&coded.bytes, size).unwrap(), size).unwrap();
                prop_assert!(back == pixels, "{:?}", size);
                prop_assert!(coded.bytes.len() as f64 * 8.0 <= coded.model_bits * 1.002 + 100.0);
                Ok(())
            })
            .unwrap();
    }
}
