//! The round trip: teachers of this program as modules, opened again.

use lvd::data::pictures::{PictureShape, Pictures};
use lvd::teacher::torchscript::export::export;
use lvd::teacher::{PixelConfig, PixelTeacher, Teacher, TorchScript, TorchScriptConfig, VqVae, VqVaeConfig};
use tch::{CModule, Device, Kind, Tensor};

fn pictures(shape: PictureShape, n: usize) -> Pictures {
    let size = shape.height * shape.width * shape.channels;
    let bytes = (0..n * size).map(|i| (i * i / 7 % shape.levels) as u8).collect();
    Pictures::from_bytes(bytes, shape).unwrap()
}

/// Features of the exported twin, asked of libtorch itself.
fn round_trip(teacher: &dyn Teacher, shape: PictureShape, pixels: &Tensor) -> Tensor {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.pt");
    export(teacher, shape, &path).unwrap();
    let twin = CModule::load(&path).unwrap();
    twin.method_ts("features", &[pixels.permute([0, 3, 1, 2]).to_kind(Kind::Float)]).unwrap()
}

fn same(a: &Tensor, b: &Tensor) {
    assert_eq!(a.size(), b.size());
    let distance = (a - b).abs().max().double_value(&[]);
    assert!(distance <= 1e-5, "{distance}");
}

#[test]
fn exported_teachers_give_the_same_features_for_any_batch() {
    for (channels, levels) in [(1, 17), (3, 256)] {
        let shape = PictureShape { height: 8, width: 12, channels, levels };
        let all = pictures(shape, 7);
        for n in [1, 7] {
            let pixels = all.batch(&(0..n).collect::<Vec<_>>()).unwrap();
            for features in ["quantised", "continuous", "codes"] {
                let config = format!(
                    "{{patch: 4, hidden: 8, residual: 4, embedding: 4, codes_bottom: 8, codes_top: 8, \
                                      decoder: [8], features: {features}}}"
                );
                let config: VqVaeConfig = serde_yaml::from_str(&config).unwrap();
                let teacher = VqVae::fresh(&config, shape, 3, Device::Cpu).unwrap();
                same(&teacher.features(&pixels).unwrap(), &round_trip(&teacher, shape, &pixels));
            }
            let kinds =
                ["{patch: 4, normalise_contrast: true}", "{patch: 4, features: contrast_orientation, components: 3}"];
            for config in kinds {
                let config: PixelConfig = serde_yaml::from_str(config).unwrap();
                let teacher = PixelTeacher::fit(&config, &all, 1, Device::Cpu).unwrap();
                let found = teacher.features(&pixels).unwrap();
                assert_eq!(found.kind(), Kind::Float);
                same(&found, &round_trip(&teacher, shape, &pixels));
            }
        }
    }
}

#[test]
fn an_exported_teacher_says_itself_what_it_wants() {
    let shape = PictureShape { height: 8, width: 12, channels: 3, levels: 256 };
    let all = pictures(shape, 5);
    let config: PixelConfig = serde_yaml::from_str("{patch: 4}").unwrap();
    let teacher = PixelTeacher::fit(&config, &all, 1, Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.pt");
    export(&teacher, shape, &path).unwrap();
    let config = format!("{{module: {:?}}}", path.display().to_string());
    let config: TorchScriptConfig = serde_yaml::from_str(&config).unwrap();
    let twin = TorchScript::open(&config, shape, Device::Cpu).unwrap();
    assert_eq!((twin.grid(), twin.contract().method.as_deref()), ((2, 3), Some("features")));
    let pixels = all.batch(&[0, 1, 2, 3, 4]).unwrap();
    same(&teacher.features(&pixels).unwrap(), &twin.features(&pixels).unwrap());
    let other = PictureShape { width: 16, ..shape };
    let refused = TorchScript::open(&config, other, Device::Cpu).err().unwrap().to_string();
    assert!(refused.contains("the module wants 8 x 12 pixels and pictures have 8 x 16"), "{refused}");
}
