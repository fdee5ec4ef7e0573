//! A client: it comes in at one node or another, publishes, subscribes, receives, goes, and comes back elsewhere.

use super::packets;
use super::site::{Connection, Site};
use super::world::World;
use super::{coming, ledger::Ledger};
use crate::env::task;
use crate::store::tests::Random;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Topics that anybody may use; behind them each client has one of its own, which is retained.
pub(super) const TOPICS: usize = 4;
/// QoS 2 messages that a client has under way.
const FLIGHTS: usize = 3;

/// The name of a topic.
pub(super) fn topic(number: usize) -> Arc<str> {
    format!("topic/{number}").into()
}

/// A QoS 2 message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) packet_id: u16,
    pub(super) number: u64,
    pub(super) topic: usize,
    pub(super) retain: bool,
    /// PUBREC was seen: PUBREL follows.
    pub(super) is_received: bool,
}

/// What a client remembers over its connections.
#[derive(Debug, Default)]
pub(super) struct Life {
    next_number: u64,
    flights: VecDeque<Flight>,
    /// PUBREC came, PUBREL is to be sent.
    to_release: Vec<u16>,
    pub(super) subscribing: BTreeSet<usize>,
    subscribed: BTreeSet<usize>,
}

impl Life {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// PUBREC.
    pub(super) fn received(&mut self, packet_id: u16, number: u64) {
        let flight = self.flights.iter_mut().find(|flight| flight.packet_id == packet_id && flight.number == number);
        if let Some(flight) = flight.filter(|flight| !flight.is_received) {
            flight.is_received = true;
            self.to_release.push(packet_id);
        }
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, packet_id: u16) {
        self.flights.retain(|flight| flight.packet_id != packet_id || !flight.is_received);
    }

    /// SUBACK.
    pub(super) fn subscribed(&mut self, to: usize) {
        self.subscribing.remove(&to);
        self.subscribed.insert(to);
    }

    fn fly(&mut self, topic: usize, retain: bool) -> Option<Flight> {
        let free = (1..=FLIGHTS as u16).find(|id| self.flights.iter().all(|flight| flight.packet_id != *id))?;
        let flight = Flight { packet_id: free, number: self.number(), topic, retain, is_received: false };
        self.flights.push_back(flight);
        Some(flight)
    }
}

/// Lives until the world wants no more.
pub(super) async fn live(world: Arc<World>, client: usize, mut random: Random) {
    let life = Arc::new(Mutex::new(Life::default()));
    while !world.is_closing() {
        task::sleep(Duration::from_millis(5 + random.below(60))).await;
        let Some(site) = world.any_site(&mut random) else { continue };
        let attempt = {
            let (world, site) = (Arc::clone(&world), Arc::clone(&site));
            task::spawn(async move { coming::come_in(&world, &site, client).await })
        };
        // Whoever waits for too long goes elsewhere, whatever becomes of it here.
        let patience = Duration::from_millis(200 + random.below(4_000));
        let Ok(Ok(Some(connection))) = task::timeout(patience, attempt).await else { continue };
        stay(&world, &site, &connection, &life, &mut random).await;
    }
}

/// One connection, until it is over or the client has enough of it.
async fn stay(
    world: &Arc<World>,
    site: &Arc<Site>,
    connection: &Arc<Connection>,
    life: &Arc<Mutex<Life>>,
    random: &mut Random,
) {
    let again: Vec<Flight> = {
        let mut life = life.lock();
        life.subscribing.clear();
        life.to_release.clear();
        life.flights.iter().copied().collect()
    };
    for flight in again {
        if flight.is_received {
            packets::release(site, connection, life, flight.packet_id);
        } else {
            packets::publish_exactly_once(site, connection, life, &flight);
        }
    }
    let actions = 5 + random.below(40);
    for _ in 0..actions {
        if !connection.is_open() || !site.is_alive() {
            return;
        }
        let to_release = std::mem::take(&mut life.lock().to_release);
        to_release.into_iter().for_each(|packet_id| packets::release(site, connection, life, packet_id));
        if world.is_closing() {
            // What is under way may come to its end.
            packets::receive(site, connection);
        } else {
            act(site, connection, life, random);
        }
        task::sleep(Duration::from_millis(1 + random.below(50))).await;
    }
    match random.below(4) {
        // Half open: the node hears nothing of it.
        0 => {}
        _ => site.close(connection),
    }
}

fn act(site: &Arc<Site>, connection: &Arc<Connection>, life: &Arc<Mutex<Life>>, random: &mut Random) {
    let to = random.below(TOPICS as u64) as usize;
    match random.below(20) {
        0..=5 => {
            let number = life.lock().number();
            packets::publish_once_or_more(site, connection, number, to);
        }
        6..=10 => {
            let flight = life.lock().fly(to, false);
            if let Some(flight) = flight {
                packets::publish_exactly_once(site, connection, life, &flight);
            }
        }
        11 => {
            let flight = life.lock().fly(TOPICS + connection.client, true);
            if let Some(flight) = flight {
                packets::publish_exactly_once(site, connection, life, &flight);
            }
        }
        12..=14 => {
            let known = {
                let life = life.lock();
                (life.subscribing.contains(&to), life.subscribed.contains(&to))
            };
            match known {
                (true, _) => {}
                (false, false) => packets::subscribe(site, connection, life, to),
                (false, true) if random.below(3) == 0 => {
                    life.lock().subscribed.remove(&to);
                    packets::unsubscribe(site, connection, to);
                }
                _ => {}
            }
        }
        _ => packets::receive(site, connection),
    }
}

/// For the story of a failure.
pub(super) fn describe(ledger: &Ledger) -> String {
    let counts = ledger.counts();
    format!(
        "{} let in, {} published, {} acknowledged, {} subscribed, {} delivered",
        counts.connected, counts.published, counts.acknowledged, counts.subscribed, counts.delivered
    )
}
