//! The rows' values: a format version, then bincode; split into parts where long (`base::parts`).
//!
//! What is written here is a format: a struct's fields are never changed. A new layout is a new struct under the next
//! version number.

use crate::op::{QueueLimits, Will};
use bincode::Options;
use nightjar_base::{TablesError, Wall};
use nightjar_mqtt::{Message, SubscriptionOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The newest format that is known here.
pub(crate) const VERSION: u8 = 1;

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

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(LIMIT)
}

/// Appends `value` to `out`.
pub(crate) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    options().serialize_into(&mut *out, value).expect("a Vec takes all, and no value comes near the limit");
}

/// `value` behind the format version.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    write(value, &mut bytes);
    bytes
}

/// The inverse of [`write`].
pub(crate) fn read<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, TablesError> {
    options().deserialize(bytes).map_err(|error| TablesError::corrupt(key, error))
}

/// What follows the format version.
pub(crate) fn strip_version<'a>(key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], TablesError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((&found, _)) if found > VERSION => Err(TablesError::newer(key, found, VERSION)),
        Some((found, _)) => Err(TablesError::corrupt(key, format_args!("format {found} does not exist"))),
        None => Err(TablesError::corrupt(key, "it is empty")),
    }
}

/// The inverse of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, TablesError> {
    read(key, strip_version(key, bytes)?)
}
