//! Takeover: once a client has its CONNACK, no other connection of its identifier is answered any more, anywhere.

use super::tale::Tale;
use crate::history::Event;
use std::collections::BTreeMap;

/// Answers on connections whose clients had come in elsewhere.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let (mut newest, mut broken) = (BTreeMap::new(), Vec::new());
    for event in tale.history.iter() {
        match event {
            Event::Served { client, link, .. } => drop(newest.insert(*client, *link)),
            Event::Answered { client, link } => {
                if let Some(other) = newest.get(client).filter(|newest| *newest != link) {
                    broken.push(format!("client {client} was answered on connection {link}, though it has {other}"));
                }
            }
            _ => {}
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
    fn only_the_newest_connection_is_answered() {
        let answered = |link| vec![Event::Answered { client: 1, link }];
        let moved = [connect(1, 1, false, false), answered(1), connect(1, 2, false, true), answered(2)].concat();
        assert_eq!(judge(check, moved.clone()).len(), 0);
        assert_eq!(judge(check, [moved, answered(1)].concat()).len(), 1);
    }
}
