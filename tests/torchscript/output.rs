//! What a method gives, and every way in which it can be wrong.

use lvd::data::pictures::Pictures;
use lvd::latents::{FeatureChunks, KMeansConfig};
use lvd::teacher::{Teacher, TorchScript};

use tch::Tensor;

use super::{SHAPE, broken, open, refused, tiny};

#[test]
fn an_output_that_is_no_tensor() {
    assert_eq!(broken("text"), "broken.pt, method text: gives a text: expected a tensor");
    assert_eq!(
        refused(&tiny("good.pt"), "{method: forward}"),
        "good.pt, method forward: gives a dict with 'map', 'codes': say which part by contract.output.entry"
    );
    assert_eq!(
        refused(&tiny("good.pt"), "{method: forward, output: {entry: maps}}"),
        "good.pt, method forward: gives a dict with 'map', 'codes': expected a tensor as its entry 'maps'"
    );
    assert_eq!(
        refused(&tiny("good.pt"), "{method: pair, output: {entry: 2}}"),
        "good.pt, method pair: gives a tuple of 2: expected a tensor as its entry 2"
    );
}

#[test]
fn a_wrong_rank() {
    assert_eq!(
        broken("pooled"),
        "broken.pt, method pooled: expected [B, T, D] or [B, D, h, w], found [2, 1]: return one vector a patch"
    );
}

#[test]
fn a_wrong_grid() {
    assert_eq!(
        broken("odd"),
        "broken.pt, method odd: expected a grid of 2 x 2 patches or a multiple of it, found 3 x 3: change \
         contract.input.size or patch.size"
    );
    assert!(broken("coarse").contains("expected a grid of 2 x 2 patches or a multiple of it, found 1 x 1"));
    assert_eq!(
        broken("lost_token"),
        "broken.pt, method lost_token: expected 4 tokens for 2 x 2 patches, or 4, 9, 16 .. times as many, found 3: state \
         tokens in front by contract.output.skip, or change contract.input.size or patch.size"
    );
}

#[test]
fn a_width_that_changes_with_the_batch() {
    assert_eq!(
        broken("width_of_the_batch"),
        "broken.pt, method width_of_the_batch: gives 2 features a patch for 2 pictures and 3 for 3: features must not \
         depend on the batch"
    );
}

#[test]
fn a_batch_size_baked_in_by_tracing() {
    assert_eq!(
        refused(&tiny("baked.pt"), "{input: {range: [0, 1]}}"),
        "baked.pt, method forward: works on a batch of 4 and not of 2: the batch size was baked in by tracing: write -1 or \
         flatten for it in reshapes, or use torch.jit.script (raised on pictures [2, 1, 8, 8]: RuntimeError: shape '[4, \
         4, 1]' is invalid for input of size 8)"
    );
    assert_eq!(
        broken("first_only"),
        "broken.pt, method first_only: works on a batch of 1 and not of 2: the batch size was baked in by tracing: write -1 \
         or flatten for it in reshapes, or use torch.jit.script (expected [B, T, D] or [B, D, h, w] with B = 2 for 2 \
         pictures, found [1, 4, 1]: the batch size was baked in by tracing, or lost in a reshape)"
    );
}

#[test]
fn features_of_double_or_half_precision() {
    for (method, kind) in [("double", "Double"), ("half", "Half")] {
        assert_eq!(
            broken(method),
            format!("broken.pt, method {method}: features are {kind}, expected Float: end the method with .float()")
        );
    }
}

#[test]
fn codes_that_are_none_or_out_of_range() {
    let codes = |method: &str, codes: &str| {
        refused(&tiny("broken.pt"), &format!("{{method: {method}, input: {{range: [0, 1]}}, output: {{{codes}}}}}"))
    };
    assert_eq!(
        codes("many_codes", ""),
        "broken.pt, method many_codes: features are Int64, expected Float: if they are codes, say how many there are by \
         contract.output.codes"
    );
    let message = codes("many_codes", "codes: 4");
    let start = "broken.pt, method many_codes: picture 0 of a batch, patch 0: expected a code in 0..4, found ";
    assert!(message.starts_with(start) && message.ends_with(": correct contract.output.codes"), "{message}");
    assert_eq!(
        codes("short_codes", "codes: 4"),
        "broken.pt, method short_codes: codes are Int, expected Int64: end the method with .long()"
    );
    assert_eq!(
        codes("odd", "codes: 4"),
        "broken.pt, method odd: codes are Float, expected Int64: end the method with .long()"
    );
}

#[test]
fn an_output_that_requires_grad() {
    assert_eq!(
        broken("graded"),
        "broken.pt, method graded: its output requires grad though gradients are off: detach it before it is returned"
    );
}

#[test]
fn constant_features() {
    assert_eq!(
        broken("constant"),
        "broken.pt, method constant: gives the same features for every patch of random pictures: k-means would collapse"
    );
}

#[test]
fn features_that_are_drawn_or_depend_on_other_pictures() {
    assert_eq!(
        broken("drawn"),
        "broken.pt, method drawn: gives other features when the same pictures are shown again: export it in evaluation mode \
         (model.eval()) and without random numbers"
    );
    assert_eq!(
        broken("centred"),
        "broken.pt, method centred: features of a picture depend on the others in its batch: export it in evaluation mode \
         (model.eval()), in which batch normalisation uses its running means"
    );
}

/// Features of some pictures, a picture at a time.
struct Shown {
    teacher: TorchScript,
    pictures: Pictures,
}

impl FeatureChunks for Shown {
    fn count(&self) -> usize {
        4 * self.pictures.len()
    }
    fn patches(&self) -> usize {
        4
    }
    fn for_each(&self, visit: &mut dyn FnMut(Tensor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        (0..self.pictures.len())
            .try_for_each(|i| visit(self.teacher.features(&self.pictures.batch(&[i])?)?.flatten(0, 1)))
    }
}

#[test]
fn features_that_are_not_finite_name_the_picture() {
    let shown = |blank: u8| {
        let mut bytes: Vec<u8> = (0..3 * 64).map(|i| (i * 7 % 13) as u8 + 1).collect();
        for (i, byte) in bytes[128..].iter_mut().enumerate() {
            *byte = if i < 32 { *byte } else { blank }; // the lower half of the last picture
        }
        let teacher = open(&tiny("broken.pt"), "{method: infinite, input: {range: [0, 1]}}").unwrap();
        Shown { teacher, pictures: Pictures::from_bytes(bytes, SHAPE).unwrap() }
    };
    let refused = |blank| {
        KMeansConfig { clusters: 2, ..KMeansConfig::default() }.fit(&shown(blank), 1, &lvd::group::Alone).unwrap_err()
    };
    for (blank, value) in [(0, "NaN"), (16, "inf")] {
        let expected = format!(
            "features: picture 2, patch 2: feature 0 is {value}, expected a finite number: the teacher that made it is broken, \
             train it again"
        );
        assert_eq!(refused(blank).to_string(), expected);
    }
}
