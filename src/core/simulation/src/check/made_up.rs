//! Made-up histories, an event a line, for the checks' own tests.

use super::tale::Tale;
use crate::history::{Event, History};
use nightjar_mqtt::QoS;

pub(crate) const TWO: QoS = QoS::ExactlyOnce;
pub(crate) const ONE: QoS = QoS::AtLeastOnce;

/// What a check says of a history whose events are a second apart.
pub(crate) fn judge(check: fn(&Tale<'_>) -> Vec<String>, events: Vec<Event>) -> Vec<String> {
    let events = (0..).step_by(1_000).zip(events).collect();
    let history = History { events };
    check(&Tale::of(&history))
}

pub(crate) fn connect(client: usize, link: u64, clean: bool, present: bool) -> Vec<Event> {
    let node = 0;
    vec![
        Event::Connecting { client, link, node, clean, will: None },
        Event::Served { client, link, node, home: 7 },
        Event::Connected { client, link, present },
    ]
}

pub(crate) fn subscribe(client: usize, link: u64, filter: &str, qos: QoS) -> Vec<Event> {
    vec![
        Event::Subscribing { client, link, filter: filter.into(), qos },
        Event::Subscribed { client, link, filter: filter.into(), qos },
    ]
}

pub(crate) fn publish(client: usize, link: u64, number: u64, topic: &str, qos: QoS) -> Event {
    let (topic, retain) = (topic.into(), topic.starts_with('r'));
    Event::Publishing { client, link, number, topic, qos, retain, dup: false }
}

pub(crate) fn acknowledge(client: usize, number: u64) -> Event {
    Event::Acknowledged { client, number }
}

pub(crate) fn receive(client: usize, link: u64, number: u64, topic: &str, qos: QoS) -> Event {
    Event::Received { client, link, number, topic: topic.into(), qos, retain: false, dup: false }
}
