//! The rows' values: a format version, then bincode; split into parts where long (`base::parts`).
//!
//! What is written here is a format: a struct's fields are never changed. A new layout is a new struct under the next
//! version number.

use crate::op::{ALONE, QueueLimits, Will};
use bincode::Options;
use nightjar_base::{TablesError, Wall};
use nightjar_mqtt::{Message, SubscriptionOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The format of all rows but those that say otherwise.
pub(crate) const VERSION: u8 = 1;

/// The format of an identity with a home; of one without it is [`VERSION`].
const IDENTITY: u8 = 2;

/// No row decodes to more: a packet is at most 256 MiB on the wire.
const LIMIT: u64 = 1 << 30;

#[derive(Serialize, Deserialize)]
pub(crate) struct MetaV1 {
    pub(crate) applied: u64,
    pub(crate) next_session: u64,
    pub(crate) next_message: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IdentityV1 {
    pub(crate) client_id: Arc<str>,
    pub(crate) user: Option<Arc<str>>,
    pub(crate) epoch: u64,
    pub(crate) attached: bool,
    pub(crate) expiry: u32,
    pub(crate) expires: Option<Wall>,
    pub(crate) will: Option<Will>,
    pub(crate) will_due: Option<Wall>,
    pub(crate) sent: u64,
    pub(crate) limits: QueueLimits,
}

/// Is written where there is a home only: the rows of a node alone are what they were.
#[derive(Serialize, Deserialize)]
struct IdentityV2 {
    identity: IdentityV1,
    home: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct QueueV1 {
    pub(crate) head: u64,
    pub(crate) next: u64,
    pub(crate) gone: Vec<u64>,
    pub(crate) received: Vec<u64>,
    pub(crate) inbound: Vec<u16>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct SubscriptionV1 {
    pub(crate) filter: Arc<str>,
    pub(crate) options: SubscriptionOptions,
    pub(crate) replaying: bool,
    pub(crate) since: Wall,
    pub(crate) after: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RetainedV1 {
    pub(crate) index: u64,
    pub(crate) at: Wall,
    pub(crate) message: Arc<Message>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct ProposerV1 {
    pub(crate) last: u64,
    pub(crate) gone: Option<u64>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct OriginsV1 {
    pub(crate) enqueued: Vec<(u64, u64)>,
    pub(crate) retained: Vec<(u64, u64)>,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(LIMIT)
}

/// Appends `value` to `out`.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    options().serialize_into(&mut *out, value).expect("a Vec takes all, and no value comes near the limit");
}

/// `value` behind the format version.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    encode_as(VERSION, value)
}

fn encode_as(version: u8, value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(version);
    write(value, &mut bytes);
    bytes
}

/// An identity and the home of its connection.
pub(crate) fn encode_identity(identity: IdentityV1, home: u64) -> Vec<u8> {
    if home == ALONE { encode(&identity) } else { encode_as(IDENTITY, &IdentityV2 { identity, home }) }
}

/// The inverse of [`encode_identity`].
pub(crate) fn decode_identity(key: &[u8], bytes: &[u8]) -> Result<(IdentityV1, u64), TablesError> {
    let (version, rest) = split_version(key, bytes, IDENTITY)?;
    if version == IDENTITY {
        return read(key, rest).map(|IdentityV2 { identity, home }| (identity, home));
    }
    Ok((read(key, rest)?, ALONE))
}

/// The inverse of [`write`].
pub(crate) fn read<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, TablesError> {
    options().deserialize(bytes).map_err(|error| TablesError::corrupt(key, error))
}

/// What follows the format version.
pub(crate) fn strip_version<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], TablesError> {
    split_version(key, bytes, VERSION).map(|(_, rest)| rest)
}

/// The format version, which is at most `known`, and what follows it.
fn split_version<'a>(key: &[u8], bytes: &'a [u8], known: u8) -> Result<(u8, &'a [u8]), TablesError> {
    match bytes.split_first() {
        Some((&found, _)) if found > known => Err(TablesError::newer(key, found, known)),
        Some((&found, rest)) if found != 0 => Ok((found, rest)),
        Some((found, _)) => Err(TablesError::corrupt(key, format_args!("format {found} does not exist"))),
        None => Err(TablesError::corrupt(key, "it is empty")),
    }
}

/// The inverse of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, TablesError> {
    read(key, strip_version(key, bytes)?)
}
