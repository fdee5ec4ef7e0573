//! The rows' values: a format version, then bincode; split into parts where long (`base::parts`).
//!
//! What is written here is a format: a struct's fields are never changed. A new layout is a new struct under the next
//! version number.

use crate::bridges::Owner;
use crate::op::Settings;
use bincode::Options;
use nightjar_base::{HomeId, TablesError, Wall};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The newest format that is known here.
const VERSION: u8 = 1;

/// No row decodes to more; the longest is a filter of 64 KiB with all the share names that it is subscribed under.
const LIMIT: u64 = 1 << 29;

#[derive(Serialize, Deserialize)]
pub(crate) struct MetaV1 {
    pub(crate) applied: u64,
    pub(crate) settings: Option<Settings>,
    pub(crate) protocol: u16,
    pub(crate) routes_epoch: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct NodeV1 {
    pub(crate) seat: Option<u8>,
    /// 0 joining, 1 active, 2 draining, 3 gone.
    pub(crate) stage: u8,
    pub(crate) home: Option<HomeId>,
    pub(crate) since: Wall,
    pub(crate) name: Arc<str>,
    pub(crate) address: Arc<str>,
    pub(crate) hint: Option<Arc<str>>,
    pub(crate) version: u16,
    pub(crate) past: Vec<HomeId>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BridgeV1 {
    pub(crate) name: Arc<str>,
    /// Seats, as bits.
    pub(crate) wanted: u64,
    pub(crate) owner: Option<Owner>,
    pub(crate) release: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RouteV1 {
    pub(crate) filter: String,
    /// Seats, as bits.
    pub(crate) nodes: u64,
    /// Share names, each with its seats.
    pub(crate) groups: Vec<(String, u64)>,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().reject_trailing_bytes().with_limit(LIMIT)
}

/// `value` behind the format version.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    options().serialize_into(&mut bytes, value).expect("a Vec takes all, and no value comes near the limit");
    bytes
}

/// The inverse of [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(key: &[u8], bytes: &[u8]) -> Result<T, TablesError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => options().deserialize(rest).map_err(|error| TablesError::corrupt(key, error)),
        Some((&found, _)) if found > VERSION => Err(TablesError::newer(key, found, VERSION)),
        Some((found, _)) => Err(TablesError::corrupt(key, format_args!("format {found} does not exist"))),
        None => Err(TablesError::corrupt(key, "it is empty")),
    }
}
