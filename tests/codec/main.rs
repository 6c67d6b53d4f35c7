//! The codec against the library: round trips, code lengths, frequencies, the container, one recorded file.

mod container;
mod models;
mod walks;
mod windows;

use lvd::data::view::View;
use lvd::patch::Reading;
use lvd::random::Draws;
use models::{CASES, Case, pictures, tensor};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// -log2 P of pictures by the library.
fn library_bits(case: Case, pixels: &[u8]) -> Vec<f64> {
    let model = case.model();
    let pixels = tensor(pixels, case.channels());
    let numbers: Vec<usize> = (0..pixels.size()[0] as usize).collect();
    let draws = Draws { seed: 1, purpose: "test", pass: 0, pictures: &numbers };
    let gaussian = matches!(case.0, models::Kinds::Gaussian(..) | models::Kinds::Context(..));
    let reading = if gaussian { Reading::Ordered } else { Reading::Exact };
    let patches = model.evidence(&pixels, reading, &draws).unwrap();
    let nats = -model.log_likelihood(&model.patch_log_likelihood(&patches).unwrap()).unwrap();
    Vec::<f64>::try_from(nats).unwrap().into_iter().map(|nats| nats / std::f64::consts::LN_2).collect()
}

#[test]
fn code_lengths_are_those_of_the_library() {
    for case in CASES {
        // Some are like those that the model was made from, some are not.
        let seen = [1, 2, 99].map(|seed| pictures(3, case.channels(), seed)).concat();
        let model = case.model();
        let codec = case.codec(&model);
        let expected = library_bits(case, &seen);
        for (patches, bits) in codec.integers(&tensor(&seen, case.channels())).unwrap().iter().zip(expected) {
            let coded = codec.encode(patches, codec.view().size()).unwrap();
            let off = (coded.model_bits / bits - 1.0).abs();
            assert!(off < 1e-6, "{case:?}: {} and {bits} bits", coded.model_bits);
            // A byte length, 8 bytes of a hash and three bytes of the index go with it.
            let bytes = coded.bytes.len() as f64 + 13.0;
            assert!(bytes <= bits * 1.002 / 8.0 + 24.0, "{case:?}: {bytes} bytes, {bits} bits");
            let beyond = coded.bytes.len() as f64 * 8.0 - coded.coder_bits;
            assert!((0.0..=65.0).contains(&beyond), "{case:?}: {beyond} bits more than the frequencies ask for");
            assert_eq!(&codec.decode(&coded.bytes, codec.view().size()).unwrap(), patches, "{case:?}");
        }
    }
}

fn any_picture(channels: usize) -> impl Strategy<Value = Vec<u8>> {
    let size = 64 * channels;
    prop_oneof![
        prop::collection::vec(any::<u8>(), size),
        any::<u8>().prop_map(move |v| vec![v; size]),
        prop::collection::vec(prop_oneof![Just(0u8), Just(255)], size),
        any::<u64>().prop_map(move |seed| pictures(1, channels, seed)),
        any::<u64>().prop_map(move |seed| {
            // One pixel that nothing prepares for.
            let mut all = vec![128; size];
            all[seed as usize % size] = (seed >> 32) as u8;
            all
        }),
    ]
}

#[test]
fn every_picture_comes_back_bit_for_bit() {
    for case in CASES {
        let codec = case.codec(&case.model());
        let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(12) });
        runner
            .run(&any_picture(case.channels()), |pixels| {
                let patches = codec.integers(&tensor(&pixels, case.channels())).unwrap().remove(0);
                let coded = codec.encode(&patches, codec.view().size()).unwrap();
                let back = codec
                    .pixels(&codec.decode(&coded.bytes, codec.view().size()).unwrap(), codec.view().size())
                    .unwrap();
                prop_assert!(back == pixels, "{:?}", case);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn what_cannot_be_had_back_is_refused_with_the_reason() {
    use lvd::color::ColorSpace;
    use lvd::data::patches::Region;
    use lvd::data::pictures::PictureShape;
    use lvd::run::checkpoint::Named;
    use lvd::wavelet::Transform;
    let tensors = models::written_gaussian();
    let shape = |channels| PictureShape { height: 8, width: 8, channels, levels: 256 };
    let refused = |view: View| lvd::codec::Codec::new(view, &Named::new(&tensors)).unwrap_err().to_string();
    let quarter = View::new(shape(1), ColorSpace::Grey, Region::Quadrant, 4).unwrap();
    assert!(refused(quarter).starts_with("the model is of protocol paper: it sees the top left quarter of a picture"));
    let lapped =
        View::new(shape(1), ColorSpace::Grey, Region::Whole, 4).unwrap().transformed(Transform::Cdf53).unwrap();
    assert!(refused(lapped).starts_with("the model sees pictures by transform cdf53, which keeps no integers"));
    let merged = View::new(shape(3), ColorSpace::YcbcrBt709, Region::Whole, 4).unwrap();
    assert!(refused(merged).starts_with("the model sees pictures in colour ycbcr_bt709, which merges colours"));
}
