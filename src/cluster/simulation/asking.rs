//! What one site asks another.

use crate::cluster::tests::node::Works;
use crate::cluster::wire::{Lane, Request, Transport as _};
use bytes::Buf as _;
use nightjar_base::NodeId;
use std::time::Duration;

/// How long another node has for one request.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The number that is the answer.
pub(super) async fn number(works: &Works, to: NodeId, request: Request) -> Option<u64> {
    let answer = works.port.call(to, Lane::Bulk, request, PATIENCE).await.ok()?;
    answer.clone().try_get_u64_le().ok()
}

/// Whether it was done.
pub(super) async fn done(works: &Works, to: NodeId, request: Request) -> bool {
    works.port.call(to, Lane::Bulk, request, PATIENCE).await.is_ok()
}
