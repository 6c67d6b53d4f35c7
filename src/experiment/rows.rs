//! The rows of an experiment's results as a table for the terminal.

use super::pixel_teacher;
use crate::run::results::{Role, Row};

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

/// A sentence where the model that distillation ends with is not the best.
#[must_use]
pub fn verdict(rows: &[Row]) -> Option<String> {
    let student = rows.iter().rfind(|row| row.role == Role::Student)?;
    let baselines = rows.iter().filter(|row| row.role == Role::Baseline && row.reading == student.reading);
    let best = baselines.min_by(|a, b| a.bits_per_dimension.total_cmp(&b.bits_per_dimension))?;
    let ahead = student.bits_per_dimension - best.bits_per_dimension;
    let why = if best.stage == pixel_teacher::NAME {
        "this teacher says less about the patches than their own pixels do; train it longer, or do without"
    } else {
        "on small pictures of few values a circuit over all pixels is hard to beat; distillation pays on natural pictures"
    };
    (ahead > 0.0).then(|| format!("{} is {ahead:.4} bits below {}: {why} (docs/results.md)", best.label, student.label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_that_wins_is_named() {
        let row = |role, label: &str, bits_per_dimension| Row {
            stage: "x".into(),
            role,
            label: label.into(),
            protocol: "lossless".into(),
            reading: "exact".into(),
            bits_per_dimension,
            standard_error: 0.0,
            nats_mean: 0.0,
            num_images: 1,
            num_dimensions: 1,
            latent_bpd: 0.0,
            conditional_bpd: 0.0,
            parameters: None,
            seconds: 0.0,
        };
        let student = row(Role::Student, "LVD", 2.1);
        let [worse, mut better] = [2.2, 2.0].map(|bits| row(Role::Baseline, "HCLT over pixels", bits));
        assert!(verdict(&[student.clone(), worse.clone()]).is_none());
        let said = verdict(&[student.clone(), worse.clone(), better.clone()]).unwrap();
        assert!(said.starts_with("HCLT over pixels is 0.1000 bits below LVD: "), "{said}");
        assert!(said.contains("natural pictures"), "{said}");
        better.stage = pixel_teacher::NAME.to_owned();
        let said = verdict(&[student, worse, better]).unwrap();
        assert!(said.contains("train it longer"), "{said}");
    }
}
