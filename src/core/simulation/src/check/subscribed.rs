//! After SUBACK what is published anywhere comes to a transient session, too, as long as its connection lives.
//!
//! A message for transient subscribers of another node is acknowledged when it is on its way: it may be lost with the
//! process of its publisher.

use super::tale::{Subscription, Tale};
use nightjar_mqtt::QoS;
use std::collections::BTreeSet;

/// How long a message may be on its way, in milliseconds: ways are blocked for no longer than this.
const ON_ITS_WAY: u64 = 8_000;

/// What a live connection did not get.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let receipts: BTreeSet<(u64, u64)> = tale.receipts.iter().map(|of| (of.link, of.number)).collect();
    let mut broken = BTreeSet::new();
    let is_asked = |of: &&Subscription| of.qos > QoS::AtMostOnce && !tale.is_persistent(of);
    for subscription in tale.subscriptions.iter().filter(is_asked) {
        let (client, link) = (subscription.client, subscription.link);
        for (number, message) in &tale.messages {
            let Some(acknowledged) = message.acknowledged else { continue };
            // Nor does it come to who has unsubscribed meanwhile.
            let stays = tale.time(subscription.until) >= tale.time(acknowledged).saturating_add(ON_ITS_WAY);
            let is_due = message.first > subscription.subscribed && stays;
            let lives = |link: u64| tale.lives(link, acknowledged, ON_ITS_WAY);
            let publisher_lives = message.links.iter().all(|link| process_lives(tale, *link, acknowledged));
            if is_due
                && subscription.matches(&message.topic)
                && lives(link)
                && publisher_lives
                && !receipts.contains(&(link, *number))
            {
                broken.insert(format!("client {client} never got {number} of {} on connection {link}", message.topic));
            }
        }
    }
    broken.into_iter().collect()
}

/// Whether the process of a connection certainly lives on for so long, or to the end.
fn process_lives(tale: &Tale<'_>, link: u64, from: usize) -> bool {
    use crate::history::Event;
    let Some(connection) = tale.connections.get(&link) else { return false };
    let Some(served) = connection.served else { return false };
    let Some((_, Event::Served { home, .. })) = tale.history.events.get(served) else { return false };
    let ends = tale.history.events.iter().skip(served).take_while(|(at, _)| *at <= tale.time(from) + ON_ITS_WAY);
    !ends.into_iter().any(|(_, event)| match event {
        Event::Crashed { node } => *node == connection.node,
        Event::Over { home: over } => over == home,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;
    use crate::history::Event;

    #[test]
    fn a_live_connection_gets_what_it_subscribed_to() {
        let begin = [connect(1, 1, true, false), subscribe(1, 1, "t/#", ONE), connect(2, 2, true, false)].concat();
        let lost = [begin, vec![publish(2, 2, 5, "t/2", ONE), acknowledge(2, 5)]].concat();
        assert_eq!(judge(check, lost.clone()).len(), 1);
        assert_eq!(judge(check, [lost.clone(), vec![receive(1, 1, 5, "t/2", ONE)]].concat()).len(), 0);
        assert_eq!(judge(check, [lost.clone(), vec![Event::Crashed { node: 0 }]].concat()).len(), 0);
        assert_eq!(judge(check, [lost, vec![Event::Ended { link: 1 }]].concat()).len(), 0);
    }
}
