//! Who may do what, and how much of it: rules for rights, and quotas, as pure values.
//!
//! | file | its story |
//! | --- | --- |
//! | `algebra` | filters as sets of topics: what covers what, what overlaps |
//! | `words`, `parse`, `rules` | our own rules file, from text to rules |
//! | `acl` | mosquitto's ACL file, as mosquitto reads it |
//! | `grants` | what a token or a call-out allows |
//! | `rights` | all of it for one client, and the reason of a verdict |
//! | `bridge` | which topics a bridge carries, and what they are called on the other side |
//! | `loops` | what goes around a circle of brokers |
//! | `bucket` | how much in a second |

mod acl;
mod algebra;
mod bridge;
mod bucket;
mod grants;
mod loops;
mod parse;
mod pattern;
mod rights;
mod rules;
mod words;

pub use acl::Acl;
pub use algebra::{covers, overlaps};
pub use bridge::{Direction, TopicRule, TopicRules, Way};
pub use bucket::Bucket;
pub use grants::Grants;
pub use loops::{Bringer, LoopGuard, Stamp};
pub use rights::{Action, Rights, RuleRef, Verdict};
pub use rules::Rules;

use std::fmt;
use std::sync::Arc;

/// The rules that are in force.
#[derive(Debug)]
pub enum Policy {
    /// None: whoever came in may do everything.
    Open,
    /// Our own rules file.
    Rules(Rules),
    /// Mosquitto's ACL file.
    Mosquitto(Acl),
}

/// Who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// The user name, if anybody authenticated.
    pub user: Option<&'a str>,
    /// The client identifier.
    pub client_id: &'a str,
    /// Groups that came with the credentials, besides those of the rules file.
    pub groups: &'a [Arc<str>],
    /// What the credentials themselves allow.
    pub grants: Option<&'a Grants>,
}

impl Policy {
    /// What `who` may do.
    #[must_use]
    pub fn rights(&self, who: &Who<'_>) -> Rights {
        match self {
            Self::Open => who.grants.map_or_else(Rights::open, |grants| Rights::of_entries(grants.entries(who))),
            Self::Rules(rules) => rules.rights(who),
            Self::Mosquitto(acl) => acl.rights(who),
        }
    }
}

/// A mistake in a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong and what was expected.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.problem)
    }
}
