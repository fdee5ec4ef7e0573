//! Messages for connections of other nodes: in order and once, as long as both processes live.
//!
//! ```text
//! forward ─► Outlet (one for each process) ─ batch, numbered ─► Inlets: not seen before? ─► broker
//!               └── sent again until it is answered ──┘
//! ```
//! One batch is under way to each process; what comes meanwhile makes the next one. No I/O here.

use crate::broker::{Forwarded, Publication};
use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use nightjar_base::{HomeId, SessionId, ShardId, Wall};
use nightjar_mqtt::{Message, QoS};
use nightjar_shard::Origin;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes that are sent together.
const BATCH: usize = 256 * 1024;
/// Bytes that may wait for one process: then QoS 0 is dropped, and publishers are not read.
const MOST: usize = 32 * 1024 * 1024;
/// Bytes that may wait for one process, whatever they are. What is beyond is lost with it: it does not take anything.
const LIMIT: usize = 4 * MOST;

/// What waits for one process.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// The batch that is under way.
    sent: Option<Bytes>,
    last: u64,
}

impl Outlet {
    /// Takes a message; false if it was dropped.
    pub(super) fn push(&mut self, forwarded: &Forwarded) -> bool {
        let least = forwarded.message.qos == QoS::AtMostOnce;
        if self.bytes >= if least { MOST } else { LIMIT } {
            return false;
        }
        let bytes = encode(forwarded);
        self.bytes += bytes.len();
        self.waiting.push_back(bytes);
        true
    }

    /// Whether publishers are not to be read for its sake.
    #[must_use]
    pub(super) fn is_behind(&self) -> bool {
        self.bytes >= MOST
    }

    /// Bytes that wait, those under way included.
    pub(super) fn waiting(&self) -> usize {
        self.bytes + self.sent.as_ref().map_or(0, Bytes::len)
    }

    /// What is to be sent from `from` to `to`: the batch that was not answered yet, or the next.
    pub(super) fn batch(&mut self, from: HomeId, to: HomeId) -> Option<Bytes> {
        if self.sent.is_none() && !self.waiting.is_empty() {
            self.last += 1;
            let mut out = BytesMut::new();
            out.put_u64_le(from.0);
            out.put_u64_le(to.0);
            out.put_u64_le(self.last);
            while let Some(next) = self.waiting.front() {
                if out.len() > HEAD && out.len() + next.len() > BATCH {
                    break;
                }
                out.extend_from_slice(next);
                self.bytes -= next.len();
                self.waiting.pop_front();
            }
            self.sent = Some(out.freeze());
        }
        self.sent.clone()
    }

    /// The batch was answered: whether there is more.
    pub(super) fn answered(&mut self) -> bool {
        self.sent = None;
        !self.waiting.is_empty()
    }
}

const HEAD: usize = 24;

/// What has come from other processes, and for which one here.
#[derive(Debug, Default)]
pub(super) struct Inlets(HashMap<(HomeId, HomeId), u64>);

impl Inlets {
    /// The messages of a batch for the process `own`; none if they have come before. `None` if it is for another process
    /// or cannot be understood.
    pub(super) fn take(&mut self, own: HomeId, mut payload: Bytes) -> Option<Vec<Forwarded>> {
        let from = HomeId(payload.try_get_u64_le().ok()?);
        if payload.try_get_u64_le().ok()? != own.0 {
            return None;
        }
        let number = payload.try_get_u64_le().ok()?;
        // Each of two processes has an outlet of its own, and numbers of its own, though the one has gone on as the other.
        let last = self.0.entry((from, own)).or_default();
        if number <= *last {
            return Some(Vec::new());
        }
        let mut messages = Vec::new();
        while payload.has_remaining() {
            messages.push(decode(&mut payload)?);
        }
        *last = number;
        Some(messages)
    }

    /// A process is over.
    pub(super) fn forget(&mut self, home: HomeId) {
        self.0.retain(|(from, own), _| *from != home && *own != home);
    }
}

const PLAIN: u8 = 4;
const RETAIN: u8 = 8;
const EXPIRES: u8 = 16;
const ORIGIN: u8 = 32;
const AGAIN: u8 = 64;

fn encode(forwarded: &Forwarded) -> Bytes {
    let Forwarded { message, plain, groups, hops, origin } = forwarded;
    let flag = |is: bool, bit| if is { bit } else { 0 };
    let mut out = BytesMut::with_capacity(64 + message.size());
    let again = origin.is_some_and(|publication| publication.again);
    out.put_u8(
        message.qos as u8
            | flag(*plain, PLAIN)
            | flag(message.retain, RETAIN)
            | flag(message.expires.is_some(), EXPIRES)
            | flag(origin.is_some(), ORIGIN)
            | flag(again, AGAIN),
    );
    out.put_u8(*hops);
    for part in [message.topic_bytes(), message.properties(), message.payload()] {
        put(&mut out, part);
    }
    if let Some(expires) = message.expires {
        out.put_u64_le(expires.0);
    }
    if let Some(Publication { origin, digest, .. }) = origin {
        out.put_u16_le(origin.session.0.0);
        out.put_u64_le(origin.session.1.0);
        out.put_u64_le(origin.token);
        out.put_u64_le(*digest);
    }
    // More than 255 shared subscriptions with the same topic and members here alone are served by others.
    let groups = &groups[..groups.len().min(255)];
    out.put_u8(u8::try_from(groups.len()).expect("it was cut to fit"));
    groups.iter().for_each(|group| put(&mut out, group.as_bytes()));
    out.freeze()
}

fn put(out: &mut BytesMut, part: &[u8]) {
    out.put_u32_le(u32::try_from(part.len()).expect("parts of an MQTT packet have less than 256 MiB"));
    out.extend_from_slice(part);
}

fn decode(input: &mut Bytes) -> Option<Forwarded> {
    let (flags, hops) = (input.try_get_u8().ok()?, input.try_get_u8().ok()?);
    let is = |bit| flags & bit != 0;
    let (topic, properties, payload) = (get(input)?, get(input)?, get(input)?);
    let mut message = Message::new(std::str::from_utf8(&topic).ok()?, &properties, &payload);
    message.qos = QoS::from_bits(flags & 3)?;
    message.retain = is(RETAIN);
    message.expires = if is(EXPIRES) { Some(Wall(input.try_get_u64_le().ok()?)) } else { None };
    let origin = if is(ORIGIN) { Some(publication(input, is(AGAIN)).ok()?) } else { None };
    let count = input.try_get_u8().ok()?;
    let group = |_| Some(Arc::from(std::str::from_utf8(&get(input)?).ok()?));
    let groups = (0..count).map(group).collect::<Option<_>>()?;
    Some(Forwarded { message: Arc::new(message), plain: is(PLAIN), groups, hops, origin })
}

fn publication(input: &mut Bytes, again: bool) -> Result<Publication, TryGetError> {
    let session = (ShardId(input.try_get_u16_le()?), SessionId(input.try_get_u64_le()?));
    let origin = Origin { session, token: input.try_get_u64_le()? };
    Ok(Publication { origin, digest: input.try_get_u64_le()?, again })
}

fn get(input: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(input.try_get_u32_le().ok()?).ok()?;
    (length <= input.len()).then(|| input.split_to(length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const A: HomeId = HomeId(1);
    const B: HomeId = HomeId(2);

    fn message(number: u8, size: usize) -> Forwarded {
        let mut message = Message::new("a/topic", &[number], &vec![number; size]);
        (message.qos, message.retain, message.expires) = (QoS::ExactlyOnce, number.is_multiple_of(2), Some(Wall(7)));
        let origin = Origin { session: (ShardId(3), SessionId(4)), token: 5 };
        let origin = Some(Publication { origin, digest: 6, again: true });
        Forwarded { message: Arc::new(message), plain: true, groups: vec!["$share/g/a/+".into()], hops: 1, origin }
    }

    #[test]
    fn what_is_pushed_comes_once_and_in_order_however_often_it_is_sent() {
        let (mut outlet, mut inlets) = (Outlet::default(), Inlets::default());
        let all: Vec<_> = (0..9).map(|number| message(number, 100_000)).collect();
        assert!(all.iter().all(|one| outlet.push(one)));
        let mut come = Vec::new();
        while let Some(batch) = outlet.batch(A, B) {
            assert!(batch.len() <= BATCH);
            come.extend(inlets.take(B, batch.clone()).unwrap());
            assert_eq!(inlets.take(B, batch.clone()), Some(Vec::new()));
            assert_eq!(inlets.take(A, batch.clone()), None, "it is for another process");
            assert_eq!(outlet.batch(A, B), Some(batch), "until it is answered");
            outlet.answered();
        }
        assert_eq!(come, all);
        assert_eq!(outlet.bytes, 0);
    }

    #[test]
    fn a_process_that_goes_on_as_another_hears_of_the_others_from_the_first_on() {
        const C: HomeId = HomeId(3);
        let (one, mut inlets) = (message(1, 10), Inlets::default());
        for own in [B, C] {
            let mut outlet = Outlet::default();
            outlet.push(&one);
            let batch = outlet.batch(A, own).unwrap();
            assert_eq!(inlets.take(own, batch.clone()), Some(vec![one.clone()]));
            assert_eq!(inlets.take(own, batch), Some(Vec::new()));
        }
        assert_eq!(inlets.0.len(), 2);
        inlets.forget(B);
        assert_eq!(inlets.0.len(), 1);
        inlets.forget(A);
        assert_eq!(inlets.0.len(), 0);
    }

    #[test]
    fn damaged_batches_are_refused_whole() {
        let mut outlet = Outlet::default();
        outlet.push(&message(1, 10));
        let batch = outlet.batch(A, B).unwrap();
        for cut in HEAD + 1..batch.len() {
            assert_eq!(Inlets::default().take(B, batch.slice(..cut)), None);
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outlet = Outlet::default();
        let large = message(1, 1 << 20);
        let mut least = large.clone();
        Arc::make_mut(&mut least.message).qos = QoS::AtMostOnce;
        while !outlet.is_behind() {
            assert!(outlet.push(&least));
        }
        assert!(!outlet.push(&least));
        while outlet.push(&large) {}
        assert!(outlet.bytes <= LIMIT + (2 << 20));
    }
}
