//! What a stage measured, as a line for people: `valid 4.0381 +- 0.0099  train 3.9912  12 s`. Everything else, with all digits, is in
//! `metrics.jsonl` and the records.

use serde_json::Value;

/// What is told of a measurement, in this order: its name in the files, what stands before it, and what behind.
const TOLD: [(&str, &str, &str); 15] = [
    ("valid_bpd", "valid ", ""),
    ("valid_se", "+- ", ""),
    ("train_bpd", "train ", ""),
    ("splits", "", " splits"),
    ("merges", "", " merges"),
    ("proposals", "of ", " proposals"),
    ("gain_nats", "gain ", " nats"),
    ("held_out_nats", "held out ", " nats"),
    ("clusters", "", " clusters"),
    ("smallest_cluster", "of ", ""),
    ("largest_cluster", "to ", " patches"),
    ("inertia", "inertia ", ""),
    ("parameters", "", " parameters"),
    ("truncated_share", "left out ", " %"),
    ("seconds", "", ""),
];

/// Shares below this, in percent, are not worth a word.
const LEAST_PERCENT: f64 = 0.1;

/// The line of some measurements.
#[must_use]
pub fn line(values: &Value) -> String {
    let parts = TOLD.iter().filter_map(|(name, before, behind)| {
        let number = values.get(name).and_then(Value::as_f64)?;
        let text = match *name {
            "seconds" => seconds(number),
            "truncated_share" if number * 100.0 < LEAST_PERCENT => return None,
            "truncated_share" => format!("{:.1}", number * 100.0),
            "valid_bpd" | "valid_se" | "train_bpd" | "inertia" => format!("{number:.4}"),
            _ => format!("{number:.0}"),
        };
        // What belongs to the number before it.
        let gap = if matches!(*before, "+- " | "of " | "to ") { " " } else { "  " };
        Some(format!("{gap}{before}{text}{behind}"))
    });
    parts.collect::<String>().trim_start().to_owned()
}

/// A duration in its two greatest units.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..120 => format!("{whole} s"),
        120..7200 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_short_and_have_four_digits() {
        let epoch = json!({
            "valid_bpd": 4.038_149_298_252_97, "valid_se": 0.009_91, "train_bpd": 3.991_2, "truncated_share": 0.000_1,
            "waited_for_pictures_s": 0.03, "seconds": 12.3,
        });
        assert_eq!(line(&epoch), "valid 4.0381 +- 0.0099  train 3.9912  12 s");
        let latents =
            json!({"clusters": 32, "inertia": 1.5, "smallest_cluster": 7, "largest_cluster": 90, "seconds": 2.0});
        assert_eq!(line(&latents), "32 clusters of 7 to 90 patches  inertia 1.5000  2.0 s");
        assert_eq!(line(&json!({"valid_bpd": 2.0, "truncated_share": 0.02})), "valid 2.0000  left out 2.0 %");
        assert_eq!(line(&json!({"valid_bpd": null})), "");
    }

    #[test]
    fn durations_have_two_units_at_most() {
        let told = [0.04, 9.0, 75.4, 130.0, 7300.0].map(seconds);
        assert_eq!(told, ["0.0 s", "9.0 s", "75 s", "2 min 10 s", "2 h 01 min"]);
    }
}
