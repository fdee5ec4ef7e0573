//! A history with what several promises ask of it: messages, connections, sessions, subscriptions.
//!
//! Places are indexes into the history; what is certain is what no order of things that nobody saw could make otherwise.

use crate::history::{Event, History};
use nightjar_mqtt::{QoS, topic};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long a CONNECT may do its work after its client has given up on it, in milliseconds.
const LATE: u64 = 20_000;

/// A message that a client published.
pub(crate) struct Published {
    pub(crate) client: usize,
    pub(crate) topic: Arc<str>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Where it was first sent, and the connections on which it was.
    pub(crate) first: usize,
    pub(crate) links: BTreeSet<u64>,
    pub(crate) acknowledged: Option<usize>,
}

/// A connection.
#[derive(Default)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) node: usize,
    pub(crate) is_clean: bool,
    pub(crate) will: Option<u64>,
    pub(crate) connecting: usize,
    pub(crate) connected: Option<usize>,
    pub(crate) served: Option<usize>,
    /// Where its end, whoever saw to it, or the end of its process is first seen.
    pub(crate) over: Option<usize>,
    pub(crate) disconnecting: Option<usize>,
}

/// A subscription from its SUBACK on.
pub(crate) struct Subscription {
    pub(crate) client: usize,
    /// Which of the client's sessions.
    pub(crate) session: usize,
    pub(crate) link: u64,
    pub(crate) filter: Arc<str>,
    pub(crate) qos: QoS,
    pub(crate) subscribing: usize,
    pub(crate) subscribed: usize,
    /// Where the client begins to take it back.
    pub(crate) until: usize,
}

impl Subscription {
    pub(crate) fn matches(&self, name: &str) -> bool {
        topic::matches(&self.filter, name)
    }
}

/// A delivery.
pub(crate) struct Receipt {
    pub(crate) client: usize,
    /// Which of the client's sessions.
    pub(crate) session: usize,
    pub(crate) link: u64,
    pub(crate) number: u64,
    pub(crate) topic: Arc<str>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) at: usize,
}

/// A history, taken apart.
pub(crate) struct Tale<'a> {
    pub(crate) history: &'a History,
    pub(crate) messages: BTreeMap<u64, Published>,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) receipts: Vec<Receipt>,
    /// Where each client's sessions may have ended, or another may have begun.
    ends: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Tale<'a> {
    pub(crate) fn of(history: &'a History) -> Self {
        let mut tale = Self {
            history,
            messages: BTreeMap::new(),
            connections: BTreeMap::new(),
            subscriptions: Vec::new(),
            receipts: Vec::new(),
            ends: BTreeMap::new(),
        };
        let (mut asked, mut sessions) = (BTreeMap::new(), BTreeMap::new());
        for (at, event) in history.iter().enumerate() {
            tale.see_connection(at, event);
            match event {
                Event::Publishing { .. } | Event::Acknowledged { .. } => tale.see_message(at, event),
                Event::Connected { client, present: false, .. } => {
                    *sessions.entry(*client).or_insert(0) += 1;
                    tale.ends.entry(*client).or_default().push(at);
                }
                Event::Connecting { client, clean: true, .. } => {
                    // For the client it is another one from here on.
                    *sessions.entry(*client).or_insert(0) += 1;
                    tale.ends.entry(*client).or_default().push(at);
                }
                Event::Subscribing { client, filter, .. } => drop(asked.insert((*client, Arc::clone(filter)), at)),
                Event::Subscribed { client, link, filter, qos } => {
                    let subscribing = asked.get(&(*client, Arc::clone(filter))).copied().unwrap_or(at);
                    let (client, link, filter, qos) = (*client, *link, Arc::clone(filter), *qos);
                    let session = sessions.get(&client).copied().unwrap_or(0);
                    let (subscribed, until) = (at, usize::MAX);
                    tale.subscriptions.push(Subscription {
                        client,
                        session,
                        link,
                        filter,
                        qos,
                        subscribing,
                        subscribed,
                        until,
                    });
                }
                Event::Unsubscribing { client, filter } => {
                    let of = |of: &&mut Subscription| of.client == *client && of.filter == *filter;
                    tale.subscriptions.iter_mut().filter(of).for_each(|of| of.until = of.until.min(at));
                }
                Event::Received { client, link, number, topic, qos, retain, .. } => {
                    let session = sessions.get(client).copied().unwrap_or(0);
                    let (client, link, number, topic) = (*client, *link, *number, Arc::clone(topic));
                    tale.receipts.push(Receipt {
                        client,
                        session,
                        link,
                        number,
                        topic,
                        qos: *qos,
                        retain: *retain,
                        at,
                    });
                }
                _ => {}
            }
        }
        tale
    }

    fn see_message(&mut self, at: usize, event: &Event) {
        match event {
            Event::Publishing { client, link, number, topic, qos, retain, .. } => {
                let make = || Published {
                    client: *client,
                    topic: Arc::clone(topic),
                    qos: *qos,
                    retain: *retain,
                    first: at,
                    links: BTreeSet::new(),
                    acknowledged: None,
                };
                self.messages.entry(*number).or_insert_with(make).links.insert(*link);
            }
            Event::Acknowledged { number, .. } => {
                if let Some(message) = self.messages.get_mut(number) {
                    message.acknowledged.get_or_insert(at);
                }
            }
            _ => {}
        }
    }

    fn see_connection(&mut self, at: usize, event: &Event) {
        let over = |of: &mut Connection| of.over = of.over.or(Some(at));
        match event {
            Event::Connecting { client, link, node, clean, will } => {
                let (client, node, is_clean, will) = (*client, *node, *clean, *will);
                let connection = Connection { client, node, is_clean, will, connecting: at, ..Connection::default() };
                self.connections.insert(*link, connection);
            }
            Event::Connected { link, .. } => self.on(*link, |of| of.connected = Some(at)),
            Event::Served { link, .. } => self.on(*link, |of| of.served = Some(at)),
            Event::Disconnecting { link, .. } => self.on(*link, |of| of.disconnecting = Some(at)),
            Event::Lost { link, .. } | Event::Ended { link } | Event::Refused { link, .. } => self.on(*link, over),
            Event::Crashed { node } => {
                self.connections.values_mut().filter(|of| of.node == *node).for_each(over);
            }
            Event::Over { home } => {
                let history = self.history;
                let is_there =
                    |of: &&mut Connection| of.served.is_some_and(|served| home_at(history, served) == Some(*home));
                self.connections.values_mut().filter(is_there).for_each(over);
            }
            _ => {}
        }
    }

    fn on(&mut self, link: u64, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = self.connections.get_mut(&link) {
            change(connection);
        }
    }

    /// When something happened.
    pub(crate) fn time(&self, at: usize) -> u64 {
        self.history.events.get(at).map_or(u64::MAX, |(time, _)| *time)
    }

    /// Whether the client's session certainly went on from there to the end: no CONNECT of it may have ended it, not even
    /// one that it had given up on before.
    pub(crate) fn lasts_from(&self, client: usize, at: usize) -> bool {
        let is_late = |of: &&Connection| of.client == client && of.is_clean && of.connected.is_none();
        let may_come_late = |of: &Connection| of.connecting > at || self.time(of.connecting) + LATE > self.time(at);
        !self.ends.get(&client).is_some_and(|ends| ends.iter().any(|end| *end > at))
            && !self.connections.values().filter(is_late).any(may_come_late)
    }

    /// Whether a CONNECT may still do its work at `at`, though its client may have given up on it.
    pub(crate) fn is_late(&self, connection: &Connection, at: usize) -> bool {
        connection.connected.is_none()
            && connection.connecting < at
            && self.time(connection.connecting) + LATE > self.time(at)
    }

    /// Whether a CONNECT that was given up on may still do its work then.
    pub(crate) fn has_late_connect(&self, client: usize, at: usize, only_clean: bool) -> bool {
        let of_client = self.connections.values().filter(|of| of.client == client && (of.is_clean || !only_clean));
        of_client.into_iter().any(|of| self.is_late(of, at))
    }

    /// Whether the subscription is one of a persistent session.
    pub(crate) fn is_persistent(&self, subscription: &Subscription) -> bool {
        self.connections.get(&subscription.link).is_some_and(|of| !of.is_clean)
    }

    /// Whether a connection certainly lives for `more` milliseconds from there, or to the end.
    pub(crate) fn lives(&self, link: u64, from: usize, more: u64) -> bool {
        let end = self.connections.get(&link).and_then(|of| of.over);
        end.is_none_or(|end| end > from && self.time(end) >= self.time(from) + more)
    }
}

fn home_at(history: &History, served: usize) -> Option<u64> {
    match history.events.get(served) {
        Some((_, Event::Served { home, .. })) => Some(*home),
        _ => None,
    }
}
