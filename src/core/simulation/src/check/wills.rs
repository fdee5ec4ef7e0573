//! Wills: published once when a connection ends without DISCONNECT, and not while it lives. That none comes twice is seen
//! to by [`exactly_once`](super::exactly_once).

use super::tale::Tale;
use std::collections::BTreeMap;

/// Wills that did not come to who had subscribed for good, and wills that came too early.
pub(crate) fn check(tale: &Tale<'_>) -> Vec<String> {
    let mut broken = Vec::new();
    let mut first: BTreeMap<u64, usize> = BTreeMap::new();
    for receipt in &tale.receipts {
        first.entry(receipt.number).or_insert(receipt.at);
    }
    for (link, connection) in &tale.connections {
        let (Some(will), Some(served)) = (connection.will, connection.served) else { continue };
        let (topic, come) = (format!("w/{}", connection.client), first.get(&will).copied());
        if come.is_some_and(|come| connection.over.is_none_or(|over| come < over)) {
            broken.push(format!("the will {will} of the live connection {link} came"));
        }
        let is_due = connection.connected.is_some() && connection.disconnecting.is_none() && connection.over.is_some();
        if !is_due {
            continue;
        }
        for subscription in tale.subscriptions.iter().filter(|of| of.matches(&topic) && of.subscribed < served) {
            let client = subscription.client;
            let is_certain = tale.is_persistent(subscription) && tale.lasts_from(client, subscription.subscribed);
            let has_come = || tale.receipts.iter().any(|of| of.client == client && of.number == will);
            if is_certain && subscription.until == usize::MAX && subscription.qos as u8 > 0 && !has_come() {
                broken.push(format!("client {client} never got the will {will} of connection {link}"));
            }
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
    fn a_will_comes_when_its_connection_is_over() {
        let mut begin = [connect(1, 1, false, false), subscribe(1, 1, "w/#", TWO), connect(2, 2, true, false)].concat();
        for event in &mut begin {
            if let Event::Connecting { link: 2, will, .. } = event {
                *will = Some(5);
            }
        }
        let (will, end) = (receive(1, 1, 5, "w/2", TWO), Event::Ended { link: 2 });
        assert_eq!(judge(check, begin.clone()).len(), 0);
        assert_eq!(judge(check, [begin.clone(), vec![end.clone()]].concat()).len(), 1);
        assert_eq!(judge(check, [begin.clone(), vec![end.clone(), will.clone()]].concat()).len(), 0);
        assert_eq!(judge(check, [begin.clone(), vec![will]].concat()).len(), 1);
        let said = Event::Disconnecting { client: 2, link: 2 };
        assert_eq!(judge(check, [begin, vec![said, end]].concat()).len(), 0);
    }
}
