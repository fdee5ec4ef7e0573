//! The promises, one file each: from a history to what of it must not be.

mod acknowledged;
mod agreement;
mod exactly_once;
#[cfg(test)]
mod made_up;
mod order;
mod present;
mod reachable;
mod retained;
mod subscribed;
mod takeover;
mod tale;
mod wills;

use crate::history::History;
use tale::Tale;

/// A promise and how it is checked.
type Promise = (&'static str, fn(&Tale<'_>) -> Vec<String>);

const PROMISES: [Promise; 10] = [
    ("acknowledged", acknowledged::check),
    ("exactly once", exactly_once::check),
    ("order", order::check),
    ("subscribed", subscribed::check),
    ("session present", present::check),
    ("retained", retained::check),
    ("wills", wills::check),
    ("takeover", takeover::check),
    ("agreement", agreement::check),
    ("reachable", reachable::check),
];

/// What of all promises was broken.
#[must_use]
pub fn all(history: &History) -> Vec<String> {
    let tale = Tale::of(history);
    let mut broken = Vec::new();
    for (name, check) in PROMISES {
        broken.extend(check(&tale).into_iter().map(|what| format!("{name}: {what}")));
    }
    broken
}
