//! What a report refuses to show: numbers that no run leaves, and files that are no pictures. A chart over them would never
//! end, or show nothing.

use std::io::Cursor;
use std::path::Path;

use anyhow::Result;
use image::{ImageFormat, ImageReader};

use crate::run::metrics::Line;
use crate::run::results::{ClusterSizes, Row};
use crate::{refusal, require};

/// Bits per dimension, either way: any density of bytes is far below.
const BITS: f64 = 1e6;
/// Steps or epochs.
const STEPS: u64 = 1 << 40;

fn fits(bits: f64) -> bool {
    (-BITS..=BITS).contains(&bits)
}

/// Rows of results: at least one, with numbers that can be drawn.
pub(super) fn check_rows(folder: &Path, rows: &[Row]) -> Result<()> {
    let file = folder.display();
    require!(!rows.is_empty(), "{file}/results.json: holds no rows\n  evaluate the run again by `lvd run`");
    for row in rows {
        let numbers = [
            ("bits_per_dimension", row.bits_per_dimension),
            ("standard_error", row.standard_error),
            ("latent_bpd", row.latent_bpd),
            ("conditional_bpd", row.conditional_bpd),
        ];
        for (key, number) in numbers {
            require!(
                fits(number),
                "{file}/results.json: {key} of stage {}: expected at most {BITS} either way, found {number:e}\n  evaluate the \
                 run again by `lvd run`",
                row.stage
            );
        }
    }
    Ok(())
}

/// Lines of metrics: steps and scores that can be drawn.
pub(super) fn check_lines(folder: &Path, lines: &[Line]) -> Result<()> {
    let file = folder.display();
    for (i, line) in lines.iter().enumerate() {
        let (number, stage) = (i + 1, &line.stage);
        require!(
            line.step <= STEPS,
            "{file}/metrics.jsonl, line {number}: step of stage {stage}: expected at most {STEPS}, found {}",
            line.step
        );
        for key in ["valid_bpd", "train_bpd"] {
            let value = line.values.get(key).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
            require!(
                fits(value),
                "{file}/metrics.jsonl, line {number}: {key} of stage {stage}: expected at most {BITS} either way, found {value:e}"
            );
        }
    }
    Ok(())
}

/// Sizes of clusters: at least one share, each from 0 to 1.
pub(super) fn check_sizes(file: &Path, sizes: &ClusterSizes) -> Result<()> {
    let fits = !sizes.shares.is_empty() && sizes.shares.iter().all(|share| (0.0..=1.0).contains(share));
    require!(fits, "{}: shares: expected at least one number, all from 0 to 1", file.display());
    Ok(())
}

/// A PNG picture, all of it.
pub(super) fn check_png(file: &Path, png: &[u8]) -> Result<()> {
    let picture = ImageReader::with_format(Cursor::new(png), ImageFormat::Png).decode();
    let broken =
        |error| refusal!("{}: no PNG picture: {error}\n  delete it, or evaluate the run again", file.display());
    picture.map(drop).map_err(broken)
}
