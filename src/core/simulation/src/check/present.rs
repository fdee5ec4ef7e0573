//! Session present says the truth: 1 only for a session that there was, never 0 for one that there still is.

use super::tale::Tale;
use crate::history::Event;
use std::collections::BTreeMap;

/// What a client knows of its session.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    There,
    NotThere,
    Nothing,
}

/// CONNACKs that were wrong.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let (mut known, mut broken) = (BTreeMap::new(), Vec::new());
    for (at, event) in tale.history.iter().enumerate() {
        let Event::Connected { client, link, present } = event else { continue };
        let is_clean = tale.connections.get(link).is_some_and(|of| of.is_clean);
        let before = known.insert(*client, if is_clean { Known::NotThere } else { Known::There });
        let mut expected = before.unwrap_or(Known::NotThere);
        // One that was given up on may have come in, or may come in late, and have made a session or ended it.
        let unsure = |expected| match expected {
            Known::There => tale.has_late_connect(*client, at, true),
            _ => tale.has_late_connect(*client, at, false),
        };
        if is_clean {
            expected = Known::NotThere;
        } else if unsure(expected) {
            expected = Known::Nothing;
        }
        let wrong = match expected {
            Known::There => !present,
            Known::NotThere => *present,
            Known::Nothing => false,
        };
        if wrong {
            broken.push(format!("client {client} was told {present} on connection {link}"));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;
    use crate::history::Event;

    #[test]
    fn a_session_is_there_or_not() {
        let first = connect(1, 1, false, false);
        assert_eq!(judge(check, connect(1, 1, false, true)).len(), 1);
        assert_eq!(judge(check, [first.clone(), connect(1, 2, false, true)].concat()).len(), 0);
        assert_eq!(judge(check, [first.clone(), connect(1, 2, false, false)].concat()).len(), 1);
        assert_eq!(judge(check, [first.clone(), connect(1, 2, true, true)].concat()).len(), 1);
        assert_eq!(
            judge(check, [first.clone(), connect(1, 2, true, false), connect(1, 3, false, true)].concat()).len(),
            1
        );
        let lost = vec![Event::Connecting { client: 1, link: 2, node: 0, clean: true, will: None }];
        assert_eq!(judge(check, [first, lost, connect(1, 3, false, false)].concat()).len(), 0);
    }
}
