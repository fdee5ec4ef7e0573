//! The checker: what must be so when everything has come to rest, by the promises.
//!
//! | promise | here |
//! | --- | --- |
//! | PUBACK, PUBREC | [`everything_acknowledged`] |
//! | SUBACK | the same, by what was told of subscriptions |
//! | exactly once, and no batch twice | [`nothing_twice`] |
//! | order | [`order`] |
//! | retained messages | [`retained`] |
//! | what is done with is never sent again | [`nothing_comes_back`], and `ledger` |
//! | one connection of a client | `ledger`, `World::see_alone`, `rest` |
//! | all replicas are the same | `rest` |

use super::client::{TOPICS, topic};
use super::ledger::{Ledger, Publication, Published, Told};
use super::site::{Site, client_id};
use nightjar_base::ShardId;
use nightjar_shard::Entry;
use std::collections::{BTreeMap, BTreeSet};

/// What a client has got or will get: by sequence.
type Received = BTreeMap<u64, Publication>;

/// All that waits for a client, received entries too.
pub(super) fn waiting(site: &Site, client: usize) -> Vec<Entry> {
    let (store, id) = (&site.works.store, client_id(client));
    let state = store.lock(store.shard_of(&id));
    let Some(session) = state.session_of(&id) else { return Vec::new() };
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let before = found.len();
        from = state.page(store.tables(), session, from, 100, 1 << 20, &mut found).unwrap();
        if found.len() == before {
            return found;
        }
    }
}

/// Compares what clients were told with what `site` has, which all others have as well.
pub(super) fn check(ledger: &Ledger, site: &Site) {
    let clients = ledger.read(|_, clients| clients.len());
    let waiting: Vec<Vec<Entry>> = (0..clients).map(|client| waiting(site, client)).collect();
    let mut wrong = Vec::new();
    let received: Vec<Received> =
        waiting.iter().enumerate().map(|(client, queue)| all_of(ledger, client, queue)).collect();
    everything_acknowledged(ledger, &received, &mut wrong);
    nothing_twice(&received, &mut wrong);
    order(ledger, &received, &mut wrong);
    nothing_comes_back(ledger, &waiting, &mut wrong);
    retained(ledger, site, clients, &mut wrong);
    wrong.into_iter().for_each(|what| ledger.violation(what));
}

/// What a client was sent, and what waits for it.
fn all_of(ledger: &Ledger, client: usize, queue: &[Entry]) -> Received {
    let mut all = ledger.read(|_, clients| clients[client].seen.clone());
    for entry in queue.iter().filter(|entry| !entry.received) {
        let publication = Site::publication(entry.message.payload());
        if let Some(other) = all.insert(entry.sequence, publication).filter(|other| *other != publication) {
            let sequence = entry.sequence;
            ledger.violation(format!("client {client}: {sequence} was {other:?}, and is {publication:?}"));
        }
    }
    all
}

fn everything_acknowledged(ledger: &Ledger, received: &[Received], wrong: &mut Vec<String>) {
    ledger.read(|published, clients| {
        for (client, told) in clients.iter().enumerate() {
            let has: BTreeSet<&Publication> = received[client].values().collect();
            for (publication, of) in published.iter().filter(|(_, of)| of.acknowledged) {
                if is_due(told, of) && !has.contains(publication) {
                    wrong.push(format!("client {client} never gets {publication:?}, which was acknowledged: {of:?}"));
                }
            }
        }
    });
}

/// Whether a client was told of a subscription before a publication began, and has kept it.
fn is_due(told: &Told, of: &Published) -> bool {
    told.subscribed.iter().any(|(topic, from, until)| {
        *topic == of.topic && *from < of.began && until.is_none_or(|until| of.again < until)
    })
}

fn nothing_twice(received: &[Received], wrong: &mut Vec<String>) {
    for (client, received) in received.iter().enumerate() {
        let mut known = BTreeMap::new();
        for (sequence, publication) in received {
            if let Some(before) = known.insert(publication, sequence) {
                wrong.push(format!("client {client} gets {publication:?} twice, as {before} and as {sequence}"));
            }
        }
    }
}

fn order(ledger: &Ledger, received: &[Received], wrong: &mut Vec<String>) {
    ledger.read(|published, clients| {
        for (client, received) in received.iter().enumerate() {
            let mut newest: BTreeMap<(usize, usize, bool), u64> = BTreeMap::new();
            for publication in received.values() {
                let Some(of) = published.get(publication) else {
                    wrong.push(format!("client {client} gets {publication:?}, which nobody has published"));
                    continue;
                };
                // One that was published again reaches who has come in between when it comes.
                let is_late = of.again != of.began && !is_due(&clients[client], of);
                if is_late {
                    continue;
                }
                let (publisher, number) = *publication;
                let newest = newest.entry((publisher, of.topic, of.exactly_once)).or_default();
                if number < *newest {
                    let qos = if of.exactly_once { 2 } else { 1 };
                    wrong.push(format!("client {client} gets {publication:?} at QoS {qos} behind {newest}"));
                }
                *newest = number.max(*newest);
            }
        }
    });
}

fn nothing_comes_back(ledger: &Ledger, waiting: &[Vec<Entry>], wrong: &mut Vec<String>) {
    ledger.read(|_, clients| {
        for (client, told) in clients.iter().enumerate() {
            for entry in &waiting[client] {
                let sequence = entry.sequence;
                if told.done.contains(&sequence) {
                    wrong.push(format!("client {client}: {sequence} waits, though it was done with"));
                } else if told.received.contains(&sequence) && !entry.received {
                    wrong.push(format!("client {client}: {sequence} waits to be sent, though it was received"));
                }
            }
        }
    });
}

/// Each client alone publishes to its retained topic: the newest that was acknowledged, or one behind it, is there.
fn retained(ledger: &Ledger, site: &Site, clients: usize, wrong: &mut Vec<String>) {
    let store = &site.works.store;
    for client in 0..clients {
        let name = topic(TOPICS + client);
        let found = store.lock(store.shard_of(&name)).retained(store.tables(), &name).unwrap();
        let found = found.map(|(message, _)| Site::publication(message.payload()).1);
        let newest = ledger.read(|published, _| {
            let own = published.iter().filter(|((of, _), published)| *of == client && published.retain);
            own.filter(|(_, published)| published.acknowledged).map(|((_, number), _)| *number).max()
        });
        if newest.is_some() && found < newest {
            wrong.push(format!("client {client}: {newest:?} was retained, and {found:?} is"));
        }
    }
}

/// All that a node has, as text: two that have the same say the same.
pub(super) fn picture(site: &Site) -> String {
    use std::fmt::Write as _;
    let (store, mut out) = (&site.works.store, String::new());
    for shard in (0..store.shard_count()).map(ShardId) {
        let point = store.standing(shard).point;
        let state = store.lock(shard);
        writeln!(out, "shard {shard} at {point:?}, {} homes", state.proposer_count()).unwrap();
        for session in state.sessions() {
            let (attached, home, epoch) = (session.attached(), session.home(), session.epoch());
            let (next, head, inbound) = (session.next_sequence(), session.head(), session.inbound());
            let subscriptions: Vec<_> = session.subscriptions().map(|(filter, _)| filter).collect();
            let received: Vec<u64> = session.received().collect();
            writeln!(
                out,
                "{} {attached} {home} {epoch} {head}-{next} {inbound:?} {received:?} {subscriptions:?}",
                session.client_id()
            )
            .unwrap();
            let (mut from, mut queue) = (0, Vec::new());
            loop {
                let before = queue.len();
                from = state.page(store.tables(), session.id(), from, 100, 1 << 20, &mut queue).unwrap();
                if queue.len() == before {
                    break;
                }
            }
            for entry in queue {
                let text = String::from_utf8_lossy(entry.message.payload()).into_owned();
                writeln!(out, "  {} {text} {:?} {}", entry.sequence, entry.qos, entry.received).unwrap();
            }
        }
        for publisher in state.publishers() {
            writeln!(out, "origins of {publisher:?}").unwrap();
        }
        let mut found = Vec::new();
        state.retained_page(store.tables(), "#", None, usize::MAX, usize::MAX, &mut found).unwrap();
        for retained in found {
            let text = String::from_utf8_lossy(retained.message.payload()).into_owned();
            writeln!(out, "retained {} {text} {:?}", retained.message.topic(), retained.at).unwrap();
        }
    }
    let control = site.works.control.lock();
    writeln!(out, "control at {}", control.applied()).unwrap();
    for node in control.nodes() {
        writeln!(out, "{node:?}").unwrap();
    }
    out
}
