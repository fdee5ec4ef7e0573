//! Retained messages: the last one acknowledged, or one published later, is its topic's, at every node; and whoever
//! subscribes afterwards gets it.

use super::tale::{Published, Subscription, Tale};
use crate::history::Event;
use nightjar_mqtt::QoS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a replay may take, in milliseconds.
const REPLAYING: u64 = 8_000;

/// What is retained and should not be, or did not come.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let mut broken = BTreeSet::new();
    let mut kept: BTreeMap<(usize, &Arc<str>), u64> = BTreeMap::new();
    let mut nodes = BTreeSet::new();
    for event in tale.history.iter() {
        match event {
            Event::Kept { node, topic, number } => drop(kept.insert((*node, topic), *number)),
            Event::Standing { node, .. } => drop(nodes.insert(*node)),
            _ => {}
        }
    }
    for (number, message) in acknowledged(tale) {
        for &node in &nodes {
            let found = kept.get(&(node, &message.topic)).copied().unwrap_or(0);
            if found < number {
                broken.insert(format!("node {node} keeps {found} for {}, behind {number}", message.topic));
            }
        }
    }
    tale.subscriptions.iter().for_each(|subscription| missed(tale, subscription, &mut broken));
    broken.into_iter().collect()
}

fn acknowledged<'a>(tale: &'a Tale<'_>) -> impl Iterator<Item = (u64, &'a Published)> {
    let retained =
        tale.messages.iter().filter(|(_, of)| of.retain && of.qos > QoS::AtMostOnce && of.acknowledged.is_some());
    retained.map(|(number, of)| (*number, of))
}

/// What was retained before a SUBSCRIBE and did not follow it.
fn missed(tale: &Tale<'_>, subscription: &Subscription, broken: &mut BTreeSet<String>) {
    let (client, link) = (subscription.client, subscription.link);
    if !tale.lives(link, subscription.subscribed, REPLAYING) || subscription.qos == QoS::AtMostOnce {
        return;
    }
    let before = |of: &Published| of.acknowledged.is_some_and(|at| at < subscription.subscribing);
    for (number, message) in acknowledged(tale).filter(|(_, of)| before(of) && subscription.matches(&of.topic)) {
        let stands_for =
            |of: &&super::tale::Receipt| of.link == link && of.topic == message.topic && of.number >= number;
        if subscription.until == usize::MAX && !tale.receipts.iter().any(|of| stands_for(&of)) {
            broken.insert(format!("client {client} did not get {number} of {} on connection {link}", message.topic));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;
    use crate::history::Event;

    #[test]
    fn the_last_one_acknowledged_is_kept() {
        let begin = vec![publish(2, 9, 5, "r/2", ONE), acknowledge(2, 5), publish(2, 9, 6, "r/2", ONE)];
        let kept = |number| Event::Kept { node: 0, topic: "r/2".into(), number };
        let standing = Event::Standing { node: 0, shard: 0, index: 1, digest: 1 };
        let end = |number: Option<u64>| {
            let end = number.map(kept).into_iter().chain([standing.clone()]).collect();
            judge(check, [begin.clone(), end].concat()).len()
        };
        assert_eq!((end(Some(5)), end(Some(6)), end(Some(4)), end(None)), (0, 0, 1, 1));
    }

    #[test]
    fn it_follows_a_subscription() {
        let begin = [vec![publish(2, 9, 5, "r/2", ONE), acknowledge(2, 5)], connect(1, 1, true, false)].concat();
        let begin = [begin, subscribe(1, 1, "r/#", ONE)].concat();
        assert_eq!(judge(check, begin.clone()).len(), 1);
        assert_eq!(judge(check, [begin.clone(), vec![receive(1, 1, 5, "r/2", ONE)]].concat()).len(), 0);
        assert_eq!(judge(check, [begin, vec![Event::Ended { link: 1 }]].concat()).len(), 0);
    }
}
