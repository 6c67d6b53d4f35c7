//! The manifest: what stood behind a run's numbers. Facts about the run, never settings for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::Device;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::device::{self, Description};

/// The commit that the program was built from: `unknown` outside a repository, ending in `-changed` where sources
/// differed from it.
pub const COMMIT: &str = match option_env!("LVD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this program.
    pub version: String,
    /// Commit of this program, see [`COMMIT`].
    pub commit: String,
    /// Version of the libtorch that computed.
    pub libtorch: String,
    /// Device that computed.
    pub device: Description,
    /// Seed of all random streams.
    pub seed: u64,
    /// Evaluation protocol that the numbers are in.
    pub protocol: String,
    /// SHA-256 of each split's pictures.
    pub data: BTreeMap<String, String>,
    /// SHA-256 of each file of weights that the run was given.
    pub weights: BTreeMap<String, String>,
    /// When the run was first started (UTC, RFC 3339).
    pub started: String,
    /// When its last stage was finished.
    pub finished: Option<String>,
}

impl Manifest {
    /// The manifest of a run that starts now on `device`, without data and weights.
    #[must_use]
    pub fn now(device: Device, seed: u64, protocol: &str) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.to_owned(),
            libtorch: device::libtorch_version(),
            device: device::describe(device),
            seed,
            protocol: protocol.to_owned(),
            data: BTreeMap::new(),
            weights: BTreeMap::new(),
            started: timestamp(),
            finished: None,
        }
    }

    /// The recorded hashes of the kinds to be `looked_at` (`data`, `weights`) that `now` contradicts: one line each,
    /// `data.test: old -> new`.
    pub(super) fn contradictions(&self, now: &Self, looked_at: &dyn Fn(&str) -> bool) -> Vec<String> {
        let pairs = [("data", &self.data, &now.data), ("weights", &self.weights, &now.weights)];
        let differences = pairs.iter().filter(|(kind, ..)| looked_at(kind)).flat_map(|(kind, old, new)| {
            let both = old.iter().filter_map(|(name, hash)| Some((name, hash, new.get(name)?)));
            both.filter(|(_, old, new)| old != new)
                .map(move |(name, old, new)| format!("{kind}.{name}: {old} -> {new}"))
        });
        differences.collect()
    }
}

/// The time now: UTC, RFC 3339.
#[must_use]
pub fn timestamp() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("a string can be written to");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_contradict_each_other_only_where_both_are_known() {
        let mut old = Manifest::now(Device::Cpu, 1, "lossless");
        let mut new = old.clone();
        old.data = BTreeMap::from([("test".into(), "aa".into()), ("train".into(), "bb".into())]);
        new.data = BTreeMap::from([("test".into(), "aa".into()), ("valid".into(), "dd".into())]);
        assert!(old.contradictions(&new, &|_| true).is_empty());
        new.data.insert("train".into(), "cc".into());
        assert_eq!(old.contradictions(&new, &|_| true), ["data.train: bb -> cc"]);
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let text = timestamp();
        assert_eq!((text.len(), &text[10..11], &text[text.len() - 1..]), (27, "T", "Z"), "{text}");
    }
}
