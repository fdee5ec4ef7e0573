//! Nothing acknowledged is lost: every persistent session whose subscriptions matched has the message.

use super::tale::Tale;
use nightjar_mqtt::QoS;
use std::collections::BTreeSet;

/// What must have come to a persistent session, and has not.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let receipts: BTreeSet<(usize, u64)> = tale.receipts.iter().map(|of| (of.client, of.number)).collect();
    let mut broken = BTreeSet::new();
    for subscription in &tale.subscriptions {
        let client = subscription.client;
        let is_asked = subscription.qos > QoS::AtMostOnce && tale.is_persistent(subscription);
        if !is_asked || !tale.lasts_from(client, subscription.subscribed) {
            continue;
        }
        for (number, message) in &tale.messages {
            let Some(acknowledged) = message.acknowledged else { continue };
            let is_due = message.first > subscription.subscribed && acknowledged < subscription.until;
            if is_due && subscription.matches(&message.topic) && !receipts.contains(&(client, *number)) {
                broken
                    .insert(format!("client {client} never got {number} of {}, which was acknowledged", message.topic));
            }
        }
    }
    broken.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::check;

    #[test]
    fn an_acknowledged_message_must_come() {
        let begin = [connect(1, 1, false, false), subscribe(1, 1, "t/#", ONE)].concat();
        let lost = [begin.clone(), vec![publish(2, 9, 5, "t/2", TWO), acknowledge(2, 5)]].concat();
        assert_eq!(judge(check, lost.clone()).len(), 1);
        assert_eq!(judge(check, [lost.clone(), vec![receive(1, 1, 5, "t/2", ONE)]].concat()).len(), 0);
        // Its session ended, or nobody was told.
        assert_eq!(judge(check, [lost, connect(1, 2, true, false)].concat()).len(), 0);
        assert_eq!(judge(check, [begin, vec![publish(2, 9, 5, "t/2", TWO)]].concat()).len(), 0);
    }
}
