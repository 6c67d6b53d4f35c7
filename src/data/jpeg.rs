//! What the decoder of JPEG files does not say: whether a file is whole, and whether its colours are inks.
//!
//! A JPEG file is a run of markers, `FF xx`; most carry a length. After a start of scan (`FF DA`) come the coded pixels, in
//! which `FF` is always followed by 0 or a restart marker, up to the next marker, at last the end of the picture (`FF D9`).

/// What a JPEG file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jpeg {
    /// Colours a pixel: 1, 3, or 4 for inks.
    pub components: u8,
    /// Whether it goes on to its end marker.
    pub whole: bool,
}

/// Read the markers of a file; none where it is no JPEG.
#[must_use]
pub fn markers(bytes: &[u8]) -> Option<Jpeg> {
    let mut found = Jpeg { components: 0, whole: false };
    let mut at = bytes.starts_with(&[0xff, 0xd8]).then_some(2)?;
    while let Some([0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xd9 => return Some(Jpeg { whole: true, ..found }),
            0xff => at += 1,
            0x01 | 0xd0..=0xd7 => at += 2,
            _ => {
                let Some(length) = bytes.get(at + 2..at + 4) else { break };
                // Frames, but for tables of Huffman codes, extensions and arithmetic coding.
                if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                    found.components = bytes.get(at + 9).copied().unwrap_or(0);
                }
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
                if *marker == 0xda {
                    at += coded(bytes.get(at..).unwrap_or_default());
                }
            }
        }
    }
    Some(found)
}

/// Bytes of coded pixels before the next marker.
fn coded(bytes: &[u8]) -> usize {
    let marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0 | 0xd0..=0xd7);
    bytes.windows(2).position(marker).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{DynamicImage, GrayImage, Luma, RgbImage};

    #[test]
    fn every_truncation_is_seen_and_what_follows_the_end_is_not_looked_at() {
        let grey = DynamicImage::from(GrayImage::from_fn(24, 16, |x, y| Luma([(x * 13 % 256 + y * 7 % 50) as u8])));
        for (picture, components) in [(grey, 1), (DynamicImage::from(RgbImage::new(16, 16)), 3)] {
            let mut bytes = Vec::new();
            picture.write_with_encoder(JpegEncoder::new(&mut bytes)).unwrap();
            assert_eq!(markers(&bytes), Some(Jpeg { components, whole: true }));
            for length in 2..bytes.len() {
                assert!(!markers(&bytes[..length]).unwrap().whole, "{length} of {}", bytes.len());
            }
            bytes.extend([0; 9]);
            assert!(markers(&bytes).unwrap().whole);
        }
        assert_eq!(markers(b"PNG"), None);
    }
}
