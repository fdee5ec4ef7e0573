//! Topic aliases towards the client (v5 section 3.3.2.3.4).

use std::collections::HashMap;

/// The aliases in use on one connection, from us to the client. They end with the connection.
///
/// The first topics that are sent get them; an alias is never given to another topic, so that what is already
/// encoded stays right.
#[derive(Debug, Default)]
pub struct Aliases {
    maximum: u16,
    known: HashMap<Box<[u8]>, u16>,
}

impl Aliases {
    /// Aliases of which the client allows `maximum`; 0 means none [MQTT-3.1.2-26], [MQTT-3.1.2-27].
    #[must_use]
    pub fn new(maximum: u16) -> Self {
        Self { maximum, known: HashMap::new() }
    }

    /// Whether the client knows an alias for `topic`.
    #[must_use]
    pub fn knows(&self, topic: &[u8]) -> bool {
        self.known.contains_key(topic)
    }

    /// The alias for `topic`, and whether the client knows it already (so that the topic may be left out).
    #[must_use]
    pub fn get(&mut self, topic: &[u8]) -> Option<(u16, bool)> {
        if self.maximum == 0 {
            return None;
        }
        if let Some(alias) = self.known.get(topic) {
            return Some((*alias, true));
        }
        // An alias costs three bytes: a topic this short gains nothing.
        if self.known.len() >= usize::from(self.maximum) || topic.len() <= 3 {
            return None;
        }
        let alias = u16::try_from(self.known.len() + 1).expect("fewer aliases are known than the 16-bit maximum");
        self.known.insert(topic.into(), alias);
        Some((alias, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_aliases_and_keep_them() {
        let mut aliases = Aliases::new(2);
        assert_eq!(aliases.get(b"sensors/1"), Some((1, false)));
        assert_eq!(aliases.get(b"sensors/1"), Some((1, true)));
        assert_eq!(aliases.get(b"a"), None);
        assert_eq!(aliases.get(b"sensors/2"), Some((2, false)));
        assert_eq!(aliases.get(b"sensors/3"), None);
        assert_eq!(Aliases::new(0).get(b"sensors/1"), None);
    }
}
