//! The rows of an experiment's results as a table for the terminal.

use crate::run::results::{Row, verdict};

/// The rows as a table for the terminal.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<42} {:<8} {:>8} {:>7} {:>8} {:>8} {:>8} {:>11} {:>8}",
        "test split", "reading", "bpd", "+-", "prior", "residual", "refund", "parameters", "seconds"
    )];
    for row in rows {
        lines.push(format!(
            "{:<42} {:<8} {:>8.4} {:>7.4} {:>8.4} {:>8.4} {:>8.4} {:>11} {:>8.1}",
            row.label,
            row.reading,
            row.bits_per_dimension,
            row.standard_error,
            row.latent_bpd,
            row.conditional_bpd,
            row.refund_bpd(),
            row.parameters.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            row.seconds
        ));
    }
    let protocol = rows.first().map_or("", |r| r.protocol.as_str());
    lines.push(format!(
        "bits per dimension, protocol {protocol}; bpd = prior + residual - refund; +- is one standard error"
    ));
    lines.extend(verdict(rows));
    lines.join("\n")
}
