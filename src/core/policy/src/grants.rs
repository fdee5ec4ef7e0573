//! What credentials themselves allow: a token's claims, a call-out's answer.

use crate::Who;
use crate::pattern::Pattern;
use crate::rights::{Entry, Note, bits};
use std::sync::Arc;

/// Topic filters that a token or a call-out allows to publish and to subscribe to. They are looked at before the rules
/// of the file; `%u` and `%c` stand for names in them too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
}

impl Grants {
    /// The grants, or what is wrong with the first bad filter.
    ///
    /// # Errors
    /// With a sentence that names the filter.
    pub fn new(publish: &[String], subscribe: &[String]) -> Result<Self, String> {
        let all = |filters: &[String]| filters.iter().map(|filter| Pattern::parse(filter)).collect::<Result<_, _>>();
        Ok(Self { publish: all(publish)?, subscribe: all(subscribe)? })
    }

    pub(crate) fn entries(&self, who: &Who<'_>) -> Vec<Entry> {
        let note = Arc::new(Note { file: "credentials".into(), line: 0, text: "granted by the credentials".into() });
        let entry = |pattern: &Pattern, actions| {
            let filter = pattern.of(who)?;
            Some(Entry { allow: true, actions, qos: bits::ANY_QOS, filter, exact: false, note: Arc::clone(&note) })
        };
        let publish = self.publish.iter().filter_map(|pattern| entry(pattern, bits::PUBLISH));
        publish.chain(self.subscribe.iter().filter_map(|pattern| entry(pattern, bits::SUBSCRIBE))).collect()
    }
}
