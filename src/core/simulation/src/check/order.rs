//! Order: of one publisher, one topic and one QoS a session sees messages as they were published; repetitions keep their
//! place [MQTT-4.6.0].
//!
//! To a transient session, and at QoS 0, messages go by more than one way if their publisher moves: of those only what was
//! published on one connection and came on one is compared.

use super::tale::{Subscription, Tale};
use nightjar_mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet};

/// What came behind something that was published later.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let (mut last, mut seen, mut broken) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for receipt in tale.receipts.iter().filter(|of| !of.retain) {
        let (client, number) = (receipt.client, receipt.number);
        let Some(message) = tale.messages.get(&number) else { continue };
        let is_transient = tale.connections.get(&receipt.link).is_none_or(|of| of.is_clean);
        let is_live = is_transient || receipt.qos == QoS::AtMostOnce;
        let way = match (is_live, message.links.len()) {
            (false, _) => None,
            (true, 1) => message.links.first().map(|link| (*link, receipt.link)),
            (true, _) => continue,
        };
        // What is not kept for who is away may come to him when it is published again.
        let was_there =
            tale.connections.get(&receipt.link).is_some_and(|of| of.connected.is_some_and(|at| at < message.first));
        if is_live && !was_there {
            continue;
        }
        // Somebody who comes between two attempts gets the second.
        let certain = |of: &Subscription| {
            let is_own = of.client == client && of.session == receipt.session;
            // By another one it may have come, too: before this client lost it, and was sent it again.
            let is_by_it = of.qos.min(message.qos) == receipt.qos;
            is_own && is_by_it && of.matches(&message.topic) && of.subscribed < message.first && of.until > receipt.at
        };
        if !tale.subscriptions.iter().any(certain) || !seen.insert((client, receipt.session, number)) {
            continue;
        }
        let key = (client, receipt.session, message.client, &message.topic, (message.qos, receipt.qos), way);
        let before = last.insert(key, number).unwrap_or(0);
        if before > number {
            let (publisher, topic) = (message.client, &message.topic);
            broken.push(format!("client {client} got {number} of {topic} by {publisher} behind {before}"));
            last.insert(key, before);
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;

    #[test]
    fn what_was_published_first_comes_first() {
        let first = [connect(1, 1, false, false), subscribe(1, 1, "t/#", ONE)].concat();
        let begin = [first, vec![publish(2, 9, 5, "t/2", ONE), publish(2, 9, 6, "t/2", ONE)]].concat();
        let come = |numbers: &[u64]| {
            let come = numbers.iter().map(|number| receive(1, 1, *number, "t/2", ONE)).collect();
            judge(check, [begin.clone(), come].concat()).len()
        };
        assert_eq!(come(&[5, 6]), 0);
        assert_eq!(come(&[6, 5]), 1);
        assert_eq!(come(&[5, 6, 5, 6]), 0, "what is sent again keeps its place");
    }
}
