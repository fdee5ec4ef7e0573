//! What one client may do, and why.

use crate::acl::AclRights;
use crate::algebra::{covers, overlaps};
use nightjar_mqtt::{QoS, topic};
use std::sync::Arc;

/// What the words of a rule stand for.
pub(crate) mod bits {
    const PLAIN_PUBLISH: u8 = 1;
    pub(crate) const RETAIN: u8 = 2;
    const PLAIN_SUBSCRIBE: u8 = 4;
    pub(crate) const SHARE: u8 = 8;
    pub(crate) const RECEIVE: u8 = 16;
    /// Any PUBLISH.
    pub(crate) const PUBLISH: u8 = PLAIN_PUBLISH | RETAIN;
    /// Any SUBSCRIBE, and what it brings.
    pub(crate) const SUBSCRIBE: u8 = PLAIN_SUBSCRIBE | SHARE | RECEIVE;
    pub(crate) const ALL: u8 = PUBLISH | SUBSCRIBE;
    pub(crate) const ANY_QOS: u8 = 0b111;

    pub(super) fn publish(retain: bool) -> u8 {
        if retain { RETAIN } else { PLAIN_PUBLISH }
    }

    pub(super) fn subscribe(shared: bool) -> u8 {
        if shared { SHARE } else { PLAIN_SUBSCRIBE }
    }
}

/// Where a rule stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// One filter of one rule, for one client.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) allow: bool,
    pub(crate) actions: u8,
    pub(crate) qos: u8,
    pub(crate) filter: Arc<str>,
    /// Whether the filter is meant as it is written, not as the topics that it matches.
    pub(crate) exact: bool,
    pub(crate) note: Arc<Note>,
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish a message.
    Publish {
        /// At this quality of service.
        qos: QoS,
        /// With the retain flag.
        retain: bool,
    },
    /// Subscribe to a filter.
    Subscribe {
        /// At this quality of service.
        qos: QoS,
        /// Behind `$share`.
        shared: bool,
    },
    /// Be sent a message.
    Receive,
}

/// The rule that a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The file that it stands in.
    pub file: Arc<str>,
    /// Its line, counted from 1; 0 if it came with the credentials.
    pub line: usize,
    /// The rule as it was written.
    pub text: String,
}

/// A verdict and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rule that decided, if one did.
    pub rule: Option<RuleRef>,
    /// The reason, in a sentence.
    pub why: String,
}

/// What one client may do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rights(Inner);

#[derive(Clone, Debug)]
enum Inner {
    Open,
    Entries(Arc<[Entry]>),
    Mosquitto(Arc<AclRights>),
}

impl Rights {
    /// Everything.
    #[must_use]
    pub fn open() -> Self {
        Self(Inner::Open)
    }

    /// Whether everything is allowed, so that nothing need be asked.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0, Inner::Open)
    }

    pub(crate) fn of_entries(entries: Vec<Entry>) -> Self {
        Self(Inner::Entries(entries.into()))
    }

    pub(crate) fn of_acl(rights: AclRights) -> Self {
        Self(Inner::Mosquitto(Arc::new(rights)))
    }

    /// Whether it may publish on `topic`.
    #[must_use]
    pub fn publish(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        match &self.0 {
            Inner::Open => true,
            Inner::Entries(entries) => allowed(publishing(entries, topic, qos, retain)),
            Inner::Mosquitto(rights) => rights.write(topic).allowed,
        }
    }

    /// The highest quality of service, up to `qos`, at which it may subscribe to `filter` (without `$share/group/`).
    #[must_use]
    pub fn subscribe(&self, filter: &str, shared: bool, qos: QoS) -> Option<QoS> {
        match &self.0 {
            // Mosquitto's file grants every SUBSCRIBE, and looks at each delivery.
            Inner::Open | Inner::Mosquitto(_) => Some(qos),
            Inner::Entries(entries) => [QoS::ExactlyOnce, QoS::AtLeastOnce, QoS::AtMostOnce]
                .into_iter()
                .filter(|lower| *lower <= qos)
                .find(|lower| allowed(subscribing(entries, filter, *lower, shared))),
        }
    }

    /// Whether it may be sent what is published on `topic`.
    #[must_use]
    pub fn receive(&self, topic: &str) -> bool {
        match &self.0 {
            Inner::Open => true,
            Inner::Entries(entries) => allowed(receiving(entries, topic)),
            Inner::Mosquitto(rights) => rights.read(topic).allowed,
        }
    }

    /// The verdict and its reason. `topic` is a filter where `action` is a SUBSCRIBE.
    #[must_use]
    pub fn explain(&self, action: Action, topic: &str) -> Verdict {
        let entry = match (&self.0, action) {
            (Inner::Open, _) => {
                return Verdict { allowed: true, rule: None, why: "there are no rules: everything is allowed".into() };
            }
            (Inner::Mosquitto(rights), Action::Publish { .. }) => return rights.write(topic).verdict(),
            (Inner::Mosquitto(rights), Action::Receive) => return rights.read(topic).verdict(),
            (Inner::Mosquitto(_), Action::Subscribe { .. }) => {
                let why = "mosquitto's rules grant every SUBSCRIBE; each message is looked at when it is delivered";
                return Verdict { allowed: true, rule: None, why: why.into() };
            }
            (Inner::Entries(entries), Action::Publish { qos, retain }) => publishing(entries, topic, qos, retain),
            (Inner::Entries(entries), Action::Receive) => receiving(entries, topic),
            (Inner::Entries(entries), Action::Subscribe { qos, shared }) => subscribing(entries, topic, qos, shared),
        };
        let Some(entry) = entry else {
            return Verdict {
                allowed: false,
                rule: None,
                why: "no rule matches, and what no rule allows is denied".into(),
            };
        };
        let verb = if entry.allow { "allows" } else { "denies" };
        let partly = matches!(action, Action::Subscribe { .. }) && !entry.allow && !covers(&entry.filter, topic);
        let why = if partly {
            format!("the rule {verb} {}, which is a part of what {topic} asks for", entry.filter)
        } else {
            format!("the rule {verb} {}, and it is the first that matches", entry.filter)
        };
        Verdict { allowed: entry.allow, rule: Some(RuleRef::from(&*entry.note)), why }
    }
}

impl Entry {
    fn fits(&self, topic: &str) -> bool {
        if self.exact { *self.filter == *topic } else { topic::matches(&self.filter, topic) }
    }

    /// Whether it decides about a SUBSCRIBE to `filter`: an allow must cover it whole, a deny any part of it.
    fn decides(&self, filter: &str) -> bool {
        match (self.exact, self.allow) {
            (true, _) => *self.filter == *filter,
            (false, true) => covers(&self.filter, filter),
            (false, false) => overlaps(&self.filter, filter),
        }
    }
}

impl From<&Note> for RuleRef {
    fn from(note: &Note) -> Self {
        Self { file: Arc::clone(&note.file), line: note.line, text: note.text.clone() }
    }
}

fn allowed(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.allow)
}

/// The entry that decides: the first that matches.
fn publishing<'e>(entries: &'e [Entry], topic: &str, qos: QoS, retain: bool) -> Option<&'e Entry> {
    let (action, qos) = (bits::publish(retain), 1 << qos as u8);
    entries.iter().find(|entry| entry.actions & action != 0 && entry.qos & qos != 0 && entry.fits(topic))
}

fn receiving<'e>(entries: &'e [Entry], topic: &str) -> Option<&'e Entry> {
    entries.iter().find(|entry| entry.actions & bits::RECEIVE != 0 && entry.fits(topic))
}

/// A filter is allowed when an entry covers it whole, and no entry before that denies a part of it.
fn subscribing<'e>(entries: &'e [Entry], filter: &str, qos: QoS, shared: bool) -> Option<&'e Entry> {
    let (action, qos) = (bits::subscribe(shared), 1 << qos as u8);
    entries.iter().find(|entry| entry.actions & action != 0 && entry.qos & qos != 0 && entry.decides(filter))
}
