//! What is wrong with a configuration, told so that it can be mended without a search.

use super::reader::Origin;
use std::fmt;

/// One mistake: where, which key, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where the value was written, if it was.
    pub origin: Option<Origin>,
    /// `section.key`; empty if it is about a file as a whole.
    pub key: String,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl Mistake {
    /// Mistakes are told in the order of the file, then the environment, then the flags.
    pub(super) fn place(&self) -> (u8, usize, String) {
        match &self.origin {
            Some(Origin::File { line, .. }) => (0, line.unwrap_or(0), self.key.clone()),
            Some(Origin::Environment(name)) => (1, 0, name.clone()),
            Some(Origin::Flag(_)) => (2, 0, self.key.clone()),
            None => (3, 0, self.key.clone()),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        write!(f, "{}", self.problem)
    }
}

/// All that is wrong, one a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, mistake) in self.0.iter().enumerate() {
            let end = if position == 0 { "" } else { "\n" };
            write!(f, "{end}{mistake}")?;
        }
        Ok(())
    }
}

/// The known key that was most likely meant: a slip of the pen in the whole, or the right key in the wrong section.
pub(super) fn nearest<'k>(key: &str, known: &'k [String]) -> Option<&'k str> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let slips = |known: &str| distance(key, known).min(distance(&last(key), &last(known)) + 1);
    let best = known.iter().min_by_key(|known| (slips(known), distance(key, known)))?;
    (slips(best) <= (last(key).chars().count() / 3).max(2)).then_some(best)
}

/// How many characters must be put in, taken out or exchanged to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, character) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for column in 0..other.len() {
            let exchanged = diagonal + usize::from(character != other[column]);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let known = ["store.shards", "store.durability", "node.data", "mqtt.max_qos"].map(str::to_owned);
        for (written, meant) in [
            ("store.shard", Some("store.shards")),
            ("stroe.shards", Some("store.shards")),
            ("node.shards", Some("store.shards")),
            ("data", Some("node.data")),
            ("node.data_dir", None),
            ("mqtt.maxqos", Some("mqtt.max_qos")),
            ("bridge.topics", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written}");
        }
    }

    #[test]
    fn distances_count_single_slips() {
        for (one, other, slips) in
            [("", "", 0), ("a", "", 1), ("qos", "qso", 2), ("shards", "shard", 1), ("abc", "xbc", 1)]
        {
            assert_eq!(distance(one, other), slips, "{one} {other}");
        }
    }
}
