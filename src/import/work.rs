//! From a database to what is to be in the store: each session with its queue in order, and the retained messages.
//!
//! Three things are not as in the file:
//!
//! - **Packet identifiers** follow from the place in a session's queue. mosquitto counts them up as well, so where a
//!   message is under way its place is chosen to give its old identifier again: what lies between is left empty. So a
//!   client that has the PUBLISH knows the PUBLISH or PUBREL that comes again [MQTT-4.4.0-1].
//! - **A QoS 2 message from a client that is not released** was not given to anybody by mosquitto, which waits for
//!   PUBREL. Nightjar gives it away at PUBLISH. So it is given away now, and its identifier is remembered: PUBREL ends
//!   the exchange, and a repeated PUBLISH brings no second one.
//! - **What has expired** is not carried over.

use super::db::{Client, ClientMessage, Database, State};
use nightjar_base::Wall;
use nightjar_mqtt::{Message, QoS, topic};
use nightjar_router::Router;
use nightjar_session::packet_id;
use nightjar_shard::{NEVER, Subscription};
use std::collections::HashMap;
use std::sync::Arc;

/// More places than this are not left empty between two messages: identifiers would not run in order.
const WIDEST: u64 = 60_000;
/// Places that may be left empty for each message that is for a client, all sessions together: each is written once, at
/// some 32 bytes, so what is written is in proportion to what is read.
const PLACES_EACH: u64 = 256;
/// Places that may be left empty for messages of QoS 2 besides, however few there are: those of a hundred sessions.
const PLACES: u64 = 4_000_000;
/// All identifiers: as many places may be left empty for QoS 1 besides, where another identifier harms nobody.
const ROUND: u64 = 65_535;
/// The most copies of messages from clients that are given away: more than any mosquitto could have to.
const COPIES: u64 = 10_000_000;
/// What an entry weighs beside its message, as the store counts.
const ENTRY_BYTES: u64 = 64;

/// What the configuration says about sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// When it is.
    pub(crate) now: Wall,
    /// After how many seconds sessions end that would not by themselves.
    pub(crate) expiration: Option<u64>,
    /// Whether user names are proved: a session belongs to its user then.
    pub(crate) proves_users: bool,
}

/// All that is to be in the store.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) sessions: Vec<Session>,
    pub(crate) retained: Vec<Arc<Message>>,
    pub(crate) counts: Counts,
}

/// A session.
#[derive(Debug, PartialEq)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    pub(crate) user: Option<Arc<str>>,
    /// Its session expiry interval.
    pub(crate) expiry: u32,
    /// When its connection ended.
    pub(crate) detached: Wall,
    pub(crate) subscriptions: Vec<Subscription>,
    /// Its queue, by ascending sequence.
    pub(crate) entries: Vec<Entry>,
    /// Packet identifiers of the client's own messages that are not released.
    pub(crate) inbound: Vec<u16>,
    /// The first sequence that was never sent.
    pub(crate) sent: u64,
}

/// A message in a queue.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    /// The message's number in the database.
    pub(crate) number: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Vec<u32>,
    /// Whether the client has it, and waits for PUBREL.
    pub(crate) received: bool,
}

/// How much of everything there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages that wait in their queues and were never sent.
    pub queued: u64,
    /// Messages that were sent and not acknowledged.
    pub in_flight: u64,
    /// Messages of QoS 2 that the client has, and that PUBREL is still due for.
    pub to_release: u64,
    /// Messages of QoS 2 from clients that PUBREL was awaited for.
    pub from_clients: u64,
    /// Retained messages.
    pub retained: u64,
    /// Sessions whose time is over.
    pub expired_sessions: u64,
    /// Messages that waited in them.
    pub left_behind: u64,
    /// Messages whose time is over, or that the file does not hold any more.
    pub expired_messages: u64,
    /// Messages of QoS 2 from clients that mosquitto had not acknowledged: they come again.
    pub unacknowledged: u64,
    /// Messages under way that get another packet identifier.
    pub renumbered: u64,
    /// Those of them of QoS 2.
    pub renumbered_qos2: u64,
    /// Records of clients that the file has no session of.
    pub orphans: u64,
    /// The most messages in one queue.
    pub longest_queue: u64,
    /// The most bytes in one queue.
    pub largest_queue: u64,
}

impl Work {
    /// Works it out.
    ///
    /// # Errors
    /// When it would be more than any mosquitto could have had to do.
    pub(crate) fn of(database: Database, rules: &Rules) -> Result<Self, String> {
        let Database { messages, clients, retained, orphans, .. } = database;
        let counts = Counts { orphans, ..Counts::default() };
        let outgoing: u64 = clients.iter().map(|client| client.outgoing.len() as u64).sum();
        let each = outgoing.saturating_mul(PLACES_EACH);
        let (places, exact_places) = ((ROUND + each).min(PLACES), PLACES.saturating_add(each));
        let mut plan = Plan { messages, rules, counts, places, exact_places };
        let mut sessions: Vec<Session> = Vec::with_capacity(clients.len());
        let mut incoming = Vec::new();
        for client in clients {
            let id: Arc<str> = client.id.as_str().into();
            incoming.extend(client.incoming.iter().map(|message| (Arc::clone(&id), *message)));
            sessions.extend(plan.session(client));
        }
        let mut kept = plan.retained(&retained);
        let mut given = Given::to(&sessions);
        for (source, message) in incoming {
            plan.incoming(&source, &message, &mut sessions, &mut given, &mut kept);
            if given.copies > COPIES {
                return Err(format!("expected at most {COPIES} copies of messages from clients to be given away"));
            }
        }
        let mut counts = plan.counts;
        counts.sessions = sessions.len() as u64;
        counts.subscriptions = sessions.iter().map(|session| session.subscriptions.len() as u64).sum();
        counts.retained = kept.len() as u64;
        for session in &sessions {
            let waiting = || session.entries.iter().filter(|entry| !entry.received);
            counts.longest_queue = counts.longest_queue.max(waiting().count() as u64);
            counts.largest_queue = counts.largest_queue.max(waiting().map(weight).sum());
        }
        let mut retained: Vec<_> = kept.into_values().collect();
        retained.sort_by(|one, other| one.topic().cmp(other.topic()));
        Ok(Self { sessions, retained, counts })
    }
}

/// What an entry weighs in its queue, at most: the store rounds up to eleven bits.
fn weight(entry: &Entry) -> u64 {
    let message = &entry.message;
    let body =
        message.topic().len() + message.properties().len() + message.payload().len() + 4 * entry.identifiers.len();
    let bytes = ENTRY_BYTES + body as u64;
    bytes + bytes / 1024 + 1
}

struct Plan<'r> {
    messages: HashMap<u64, Arc<Message>>,
    rules: &'r Rules,
    counts: Counts,
    /// Places that may still be left empty for messages of QoS 1.
    places: u64,
    /// The same for sessions with messages of QoS 2.
    exact_places: u64,
}

impl Plan<'_> {
    /// The message with this number, unless it has expired.
    fn message(&self, number: u64) -> Option<Arc<Message>> {
        self.messages.get(&number).filter(|message| !message.is_expired(self.rules.now)).cloned()
    }

    /// A session; `None` if its time is over.
    fn session(&mut self, client: Client) -> Option<Session> {
        let Some((expiry, detached)) = self.expiry(&client) else {
            self.counts.expired_sessions += 1;
            self.counts.left_behind += client.outgoing.len() as u64;
            return None;
        };
        let Client { id, user, outgoing, subscriptions, .. } = client;
        let subscription =
            |(filter, options): (String, _)| Subscription { filter: filter.into(), options, replay: false };
        let mut session = Session {
            client_id: id.into(),
            user: user.filter(|_| self.rules.proves_users).map(Into::into),
            expiry,
            detached,
            subscriptions: subscriptions.into_iter().map(subscription).collect(),
            entries: Vec::with_capacity(outgoing.len()),
            inbound: Vec::new(),
            sent: 1,
        };
        self.fill(&mut session, &outgoing);
        Some(session)
    }

    /// The expiry interval, and when the connection ended, from when the session ends.
    fn expiry(&self, client: &Client) -> Option<(u32, Wall)> {
        let longest = self.rules.expiration.and_then(|span| u32::try_from(span).ok()).unwrap_or(NEVER);
        let expiry = client.expiry.min(longest);
        let now = self.rules.now;
        if expiry == 0 {
            return None;
        }
        let ends = u64::try_from(client.expiry_time).unwrap_or(0).saturating_mul(1000);
        if expiry == NEVER || ends == 0 {
            return Some((expiry, now));
        }
        let detached = Wall(ends.saturating_sub(u64::from(expiry) * 1000)).min(now);
        (detached.plus_seconds(expiry.into()) > now).then_some((expiry, detached))
    }

    /// Puts what is for a client into its queue: first what is under way, with its identifiers, then what waits.
    fn fill(&mut self, session: &mut Session, outgoing: &[ClientMessage]) {
        let under_way = |of: &&ClientMessage| of.qos > QoS::AtMostOnce && of.state != State::Queued;
        let exact = outgoing.iter().filter(under_way).any(|of| of.qos == QoS::ExactlyOnce);
        let mut next = 1;
        for of in outgoing.iter().filter(under_way) {
            let received = of.state == State::Released;
            let message = match self.message(of.message) {
                Some(message) => message,
                // PUBREL carries no message.
                None if received => Arc::new(Message::new("", &[], &[])),
                None => {
                    self.counts.expired_messages += 1;
                    continue;
                }
            };
            let sequence = self.place(next, of, exact);
            let sent = of.dup || matches!(of.state, State::Sent | State::Released);
            if sent {
                session.sent = sequence + 1;
            }
            let count = match (received, sent) {
                (true, _) => &mut self.counts.to_release,
                (false, true) => &mut self.counts.in_flight,
                (false, false) => &mut self.counts.queued,
            };
            *count += 1;
            session.entries.push(entry(of, sequence, message, received));
            next = sequence + 1;
        }
        for of in outgoing.iter().filter(|of| !under_way(of)) {
            let Some(message) = self.message(of.message) else {
                self.counts.expired_messages += 1;
                continue;
            };
            self.counts.queued += 1;
            session.entries.push(entry(of, next, message, false));
            next += 1;
        }
    }

    /// The place of a message under way, from `next` on: the one whose identifier is the message's own, if it can be.
    fn place(&mut self, next: u64, of: &ClientMessage, exact: bool) -> u64 {
        let ahead = u64::from(of.packet_id) + ROUND - u64::from(packet_id(next));
        let ahead = ahead % ROUND;
        // Only the first may lie anywhere: later ones are ahead of it by less than all identifiers.
        let places = if exact { &mut self.exact_places } else { &mut self.places };
        let fits = of.packet_id != 0 && (next == 1 || ahead <= WIDEST) && ahead <= *places;
        if !fits {
            self.counts.renumbered += 1;
            self.counts.renumbered_qos2 += u64::from(of.qos == QoS::ExactlyOnce);
            return next;
        }
        *places -= ahead;
        next + ahead
    }

    /// The retained messages by their topics.
    fn retained(&mut self, numbers: &[u64]) -> HashMap<String, Arc<Message>> {
        let mut kept = HashMap::new();
        for &number in numbers {
            match self.message(number) {
                Some(message) if !message.payload().is_empty() => {
                    drop(kept.insert(message.topic().to_owned(), as_retained(message)))
                }
                Some(_) => {}
                None => self.counts.expired_messages += 1,
            }
        }
        kept
    }

    /// Gives a client's own message that PUBREL was awaited for to all who subscribed, and remembers its identifier.
    fn incoming(
        &mut self,
        source: &Arc<str>,
        of: &ClientMessage,
        sessions: &mut [Session],
        given: &mut Given,
        retained: &mut HashMap<String, Arc<Message>>,
    ) {
        if of.qos != QoS::ExactlyOnce || of.state != State::AwaitsRelease || of.packet_id == 0 {
            self.counts.unacknowledged += 1;
            return;
        }
        self.counts.from_clients += 1;
        if let Some(session) = given.by_id.get(source).map(|&at| &mut sessions[at])
            && let Err(at) = session.inbound.binary_search(&of.packet_id)
        {
            session.inbound.insert(at, of.packet_id);
        }
        let Some(message) = self.message(of.message) else {
            self.counts.expired_messages += 1;
            return;
        };
        self.counts.queued += given.away(sessions, source, of, &message);
        if of.retain || message.retain {
            if message.payload().is_empty() {
                retained.remove(message.topic());
            } else {
                retained.insert(message.topic().to_owned(), as_retained(message));
            }
        }
    }
}

fn entry(of: &ClientMessage, sequence: u64, message: Arc<Message>, received: bool) -> Entry {
    let identifiers = of.identifier.into_iter().collect();
    Entry { sequence, number: of.message, message, qos: of.qos, retain: of.retain, identifiers, received }
}

fn as_retained(message: Arc<Message>) -> Arc<Message> {
    if message.retain {
        return message;
    }
    let mut marked = Message::clone(&message);
    marked.retain = true;
    Arc::new(marked)
}

/// Who gets the clients' own messages: the broker's own router knows.
struct Given {
    by_id: HashMap<Arc<str>, usize>,
    router: Router<()>,
    /// How many copies were given away.
    copies: u64,
}

impl Given {
    fn to(sessions: &[Session]) -> Self {
        let by_id = sessions.iter().enumerate().map(|(at, session)| (Arc::clone(&session.client_id), at)).collect();
        let mut router = Router::new();
        for (at, session) in sessions.iter().enumerate() {
            for Subscription { filter, options, .. } in &session.subscriptions {
                if !topic::is_shared(filter) {
                    router.subscribe(filter, None, number(at), &(), *options);
                }
            }
        }
        Self { by_id, router, copies: 0 }
    }

    /// Puts a message into the queues of all who subscribed to it at QoS 1 or 2; how many.
    fn away(&mut self, sessions: &mut [Session], source: &Arc<str>, of: &ClientMessage, message: &Arc<Message>) -> u64 {
        let publisher = self.by_id.get(source).map_or(0, |&at| number(at));
        let before = self.copies;
        for receiver in self.router.plan(message.topic(), publisher).receivers {
            let session = usize::try_from(receiver.id - 1).ok().and_then(|at| sessions.get_mut(at));
            let Some(session) = session.filter(|_| receiver.qos > QoS::AtMostOnce) else { continue };
            session.entries.push(Entry {
                sequence: session.entries.last().map_or(1, |last| last.sequence + 1),
                number: of.message,
                message: Arc::clone(message),
                qos: receiver.qos,
                retain: (of.retain || message.retain) && receiver.retain_as_published,
                identifiers: receiver.identifiers.as_slice().to_vec(),
                received: false,
            });
            self.copies += 1;
        }
        self.copies - before
    }
}

/// The router's number of the session at this place; 0 is nobody's.
fn number(at: usize) -> u64 {
    at as u64 + 1
}

#[cfg(test)]
mod tests;
