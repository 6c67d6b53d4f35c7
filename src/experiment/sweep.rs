//! The points of a sweep: one experiment with some keys set to several values, every combination of them.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Error, Result};

use crate::{refusal, require};

/// Points of a sweep, at most.
const MOST: usize = 1000;
/// Bytes of a folder's name, at most.
const MOST_BYTES: usize = 200;

/// Which points of a sweep are done here: the i-th of n parts, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    number: usize,
    of: usize,
}

impl Shard {
    /// Whether the point with this number belongs to the part.
    #[must_use]
    pub fn has(self, point: usize) -> bool {
        point % self.of == self.number - 1
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let found = numbers.filter(|(number, of): &(usize, usize)| (1..=*of).contains(number));
        let (number, of) = found.ok_or_else(|| refusal!("expected PART/PARTS such as 1/4, found {text}"))?;
        Ok(Self { number, of })
    }
}

/// One combination of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Name of its folder: the keys that vary with their values.
    pub name: String,
    /// `KEY=VALUE` of all keys that are set.
    pub sets: Vec<String>,
}

/// All combinations of what some keys are set to: `KEY=VALUE`, or `KEY=VALUE,VALUE,...` for those that vary. Commas inside of
/// brackets and quotes separate nothing.
///
/// # Errors
/// A refusal where a text is no such setting, a key is set twice, nothing varies, or there are too many points.
pub fn points(sets: &[String]) -> Result<Vec<Point>> {
    let axes = sets.iter().map(|set| axis(set)).collect::<Result<Vec<_>>>()?;
    let mut keys = BTreeSet::new();
    for (key, _) in &axes {
        require!(keys.insert(key), "--set {key}: is set twice: give all of its values at once, separated by commas");
    }
    let count = axes.iter().try_fold(1usize, |count, (_, values)| count.checked_mul(values.len()));
    let count = count.filter(|count| *count <= MOST);
    let count = count.ok_or_else(|| refusal!("a sweep has at most {MOST} points"))?;
    require!(count > 1, "nothing varies: give a key several values, such as --set latents.clusters=4,8,16");
    let mut points = Vec::new();
    for number in 0..count {
        let (mut rest, mut sets, mut names) = (number, Vec::new(), Vec::new());
        // The last key varies fastest.
        for (key, values) in axes.iter().rev() {
            let value = &values[rest % values.len()];
            rest /= values.len();
            sets.insert(0, format!("{key}={value}"));
            if values.len() > 1 {
                names.insert(0, format!("{}={}", short(key, &axes), plain(value)));
            }
        }
        points.push(Point { name: names.join(","), sets });
    }
    let names: BTreeSet<&str> = points.iter().map(|point| point.name.as_str()).collect();
    let usable = names.len() == count && names.iter().all(|name| name.len() <= MOST_BYTES);
    if !usable {
        points.iter_mut().enumerate().for_each(|(number, point)| point.name = format!("point-{number:03}"));
    }
    Ok(points)
}

/// A key and its values.
fn axis(set: &str) -> Result<(&str, Vec<&str>)> {
    let (key, values) = set.split_once('=').ok_or_else(|| refusal!("--set {set}: expected KEY=VALUE[,VALUE...]"))?;
    let values = split(values);
    let different: BTreeSet<&str> = values.iter().copied().collect();
    require!(different.len() == values.len(), "--set {set}: a value is named twice");
    let some = !key.is_empty() && values.iter().all(|value| !value.is_empty());
    require!(some, "--set {set}: a key or a value is empty");
    Ok((key, values))
}

/// The parts between commas that stand in no brackets and no quotes.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (at, c) in text.char_indices() {
        if let Some(open) = quote {
            quote = Some(open).filter(|_| c != open);
            continue;
        }
        match c {
            '"' | '\'' => quote = Some(c),
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).collect()
}

/// The last part of a key, or all of it where another key ends alike.
fn short<'a>(key: &'a str, axes: &[(&str, Vec<&str>)]) -> &'a str {
    let last = |key: &'a str| key.rsplit('.').next().unwrap_or(key);
    let mine = last(key);
    let same = axes.iter().filter(|(other, _)| other.rsplit('.').next() == Some(mine)).count();
    if same > 1 { key } else { mine }
}

/// A value as part of a folder's name.
fn plain(value: &str) -> String {
    value.chars().map(|c| if c.is_alphanumeric() || "._+-".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sets: &[&str]) -> Result<Vec<Point>> {
        points(&sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn points_are_all_combinations() {
        let points = of(&["latents.clusters=4, 8", "color=grey", "seed=1,2,3"]).unwrap();
        let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
        assert_eq!(names[..4], ["clusters=4,seed=1", "clusters=4,seed=2", "clusters=4,seed=3", "clusters=8,seed=1"]);
        assert_eq!(points[5].sets, ["latents.clusters=8", "color=grey", "seed=3"]);
        let nested = of(&["a.epochs=1,2", "b.epochs=3,4", "x={k: 1, l: [2, 3]},{k: 'a,b'}"]).unwrap();
        assert_eq!(nested.len(), 8);
        assert_eq!(nested[0].name, "a.epochs=1,b.epochs=3,x=_k__1__l___2__3__");
        assert_eq!(nested[1].sets[2], "x={k: 'a,b'}");
        // Names that are the same but for what names cannot hold.
        let same = of(&["x=a/b,a:b"]).unwrap();
        assert_eq!(same[1].name, "point-001");
    }

    #[test]
    fn what_is_no_sweep_is_refused() {
        let refused = |sets: &[&str]| of(sets).unwrap_err().to_string();
        assert!(refused(&["seed=1"]).starts_with("nothing varies"));
        assert!(refused(&["seed"]).contains("expected KEY=VALUE"));
        assert!(refused(&["seed=1,1"]).contains("a value is named twice"));
        assert!(refused(&["seed=1,,2"]).contains("is empty"));
        assert!(refused(&["seed=1,2", "seed=3"]).contains("is set twice"));
        let many = vec!["a=1,2,3,4,5,6,7,8,9,10,11", "b=1,2,3,4,5,6,7,8,9,10", "c=1,2,3,4,5,6,7,8,9,10"];
        assert_eq!(refused(&many), "a sweep has at most 1000 points");
    }

    #[test]
    fn shards_share_out_points() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].map(|text| text.parse().unwrap()).into();
        for point in 0..7 {
            assert_eq!(shards.iter().filter(|shard| shard.has(point)).count(), 1);
        }
        for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
            assert!(wrong.parse::<Shard>().unwrap_err().to_string().contains("such as 1/4"), "{wrong}");
        }
    }
}
