//! Coming to rest: when nothing is in the way any more, everybody serves, has the same, and has nothing under way.

use super::check::picture;
use super::site::{Site, client_id};
use super::world::World;
use crate::env::task;
use nightjar_base::ShardId;
use std::sync::Arc;
use std::time::Duration;

/// How long that may take.
const PATIENCE: u64 = 60_000;
const LOOK: u64 = 50;

/// Waits for something; what it still lacks, if that is in vain.
pub(super) async fn until(mut lacks: impl FnMut() -> Option<String>) -> Result<(), String> {
    let mut waited = 0;
    while let Some(lack) = lacks() {
        if waited > PATIENCE {
            return Err(lack);
        }
        task::sleep(Duration::from_millis(LOOK)).await;
        waited += LOOK;
    }
    Ok(())
}

/// Mends everything, starts everybody, and waits until all is at rest.
pub(super) async fn come(world: &Arc<World>) -> Result<(), String> {
    world.heal();
    for number in 0..world.count() {
        if world.site(number).is_none() {
            world.start(number).await;
        }
    }
    until(|| lacking(world)).await
}

/// What is not at rest.
fn lacking(world: &World) -> Option<String> {
    let sites = world.sites();
    for site in &sites {
        let id = site.works.id;
        if site.works.store.has_failed() {
            return Some(format!("the store of {id} has failed"));
        }
        if !site.works.settling.may_acknowledge() {
            return Some(format!("{id} has no lease"));
        }
        let home = site.works.control.lock().node(id).and_then(nightjar_control::Node::home);
        if home != Some(site.home()) {
            return Some(format!("{id} is known as {home:?}, and is {:?}", site.home()));
        }
        let (submitted, applied) = (site.works.store.submitted(), site.works.store.applied());
        if submitted != applied {
            return Some(format!("{id} has submitted {submitted:?}, and {applied:?} is applied"));
        }
    }
    for group in (0..=world.manner.shards).map(ShardId) {
        let all = || sites.iter().filter_map(|site| site.works.groups.get(group));
        let progress: Vec<_> = all().map(|group| (group.leads(), group.progress())).collect();
        let Some((_, (_, last, _))) = progress.iter().find(|(leads, _)| *leads) else {
            return Some(format!("group {group} has no leader: {progress:?}"));
        };
        let standing = |site: &Arc<Site>| site.works.store.standing(group).point.index;
        if !sites.iter().all(|site| standing(site) == *last) {
            let standing: Vec<u64> = sites.iter().map(standing).collect();
            return Some(format!("group {group} has not applied the same: {standing:?}, {progress:?}"));
        }
    }
    let first = sites.first()?;
    unattached(first, &sites).or_else(|| different(&sites))
}

/// Whether each session has the connection that it is said to have, and the other way round.
fn unattached(first: &Site, sites: &[Arc<Site>]) -> Option<String> {
    let store = &first.works.store;
    for client in 0..first.ledger.read(|_, clients| clients.len()) {
        let id = client_id(client);
        let state = store.lock(store.shard_of(&id));
        let session = state.client(&id);
        let noted = session.filter(|session| session.attached()).map(|session| (session.home(), session.epoch()));
        let has = |site: &Arc<Site>| {
            let connections = site.connections.lock();
            connections.get(&client).filter(|of| of.is_open()).map(|of| (site.home().0, of.epoch))
        };
        let found: Vec<(u64, u64)> = sites.iter().filter_map(has).collect();
        if found.as_slice() != noted.as_slice() {
            return Some(format!("client {client} has the connections {found:?}, and its session has {noted:?}"));
        }
    }
    None
}

fn different(sites: &[Arc<Site>]) -> Option<String> {
    let (first, rest) = sites.split_first()?;
    let expected = picture(first);
    for site in rest {
        let found = picture(site);
        let differ = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
        if let Some((expected, found)) = differ {
            let (a, b) = (first.works.id, site.works.id);
            return Some(format!("replicas differ: {a} has\n    {expected}\n{b} has\n    {found}"));
        }
        if expected.len() != found.len() {
            return Some(format!("{} has more or less than {}", site.works.id, first.works.id));
        }
    }
    None
}
