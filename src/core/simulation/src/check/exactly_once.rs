//! QoS 2 is exactly once: no session gets a message twice that was published and delivered so, wills included.
//!
//! A transient session may: what was handed on to its node by one node may come behind what its publisher has made again
//! at another.

use super::tale::Tale;
use nightjar_mqtt::QoS;
use std::collections::BTreeMap;

/// What came twice.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for receipt in tale.receipts.iter().filter(|of| of.qos == QoS::ExactlyOnce && !of.retain) {
        let publisher = tale.messages.get(&receipt.number).map_or(receipt.client, |of| of.client);
        if tale.has_late_connect(publisher, receipt.at, true) {
            // Nobody can say whether its session is still the one that published it.
            continue;
        }
        let is_transient = tale.connections.get(&receipt.link).is_some_and(|of| of.is_clean);
        if is_transient && tale.messages.get(&receipt.number).is_some_and(|of| of.links.len() > 1) {
            continue;
        }
        *counts.entry((receipt.client, receipt.session, receipt.number, &receipt.topic)).or_insert(0) += 1;
    }
    let twice = counts.into_iter().filter(|(_, count)| *count > 1);
    twice
        .map(|((client, _, number, topic), count)| format!("client {client} got {number} of {topic} {count} times"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;

    #[test]
    fn a_message_comes_once_to_a_session() {
        let once = [connect(1, 1, false, false), vec![receive(1, 1, 5, "t/2", TWO)]].concat();
        assert_eq!(judge(check, once.clone()).len(), 0);
        assert_eq!(judge(check, [once.clone(), vec![receive(1, 1, 5, "t/2", TWO)]].concat()).len(), 1);
        let resumed = [connect(1, 2, false, true), vec![receive(1, 2, 5, "t/2", TWO)]].concat();
        assert_eq!(judge(check, [once.clone(), resumed].concat()).len(), 1);
        // Another session, and QoS 1.
        let anew = [connect(1, 2, false, false), vec![receive(1, 2, 5, "t/2", TWO)]].concat();
        assert_eq!(judge(check, [once, anew].concat()).len(), 0);
        assert_eq!(judge(check, vec![receive(1, 1, 5, "t/2", ONE), receive(1, 1, 5, "t/2", ONE)]).len(), 0);
    }
}
