//! What `upkeep` and `form` do for a node with a broker, as far as these promises depend on it: a node says which run of it
//! this is, silent ones are declared down, what died with a process is cleared away, and who is out of touch ends what waits.

use super::site::Site;
use crate::env::task;
use nightjar_base::{HomeId, NodeId, ShardId};
use nightjar_control::{ControlOp, Node, Start};
use nightjar_shard::Op;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(250);
const TOUCH: Duration = Duration::from_millis(50);
const SILENT: u64 = 2_000;
const DECLARING: Duration = Duration::from_secs(1);

/// This run of a node, as it introduces itself.
pub(super) fn start_of(site: &Site) -> Start {
    let (name, address) = ("node".into(), site.works.id.to_string().into());
    Start { id: site.works.id, home: site.home(), name, address, hint: None, version: 1 }
}

/// Keeps a node in order, for ever.
pub(super) async fn run(site: Arc<Site>) {
    tokio::join!(touch(Arc::clone(&site)), look(site));
}

async fn touch(site: Arc<Site>) {
    loop {
        if !site.may_acknowledge() {
            site.cut_off();
        }
        task::sleep(TOUCH).await;
    }
}

async fn look(site: Arc<Site>) {
    let mut led = HashSet::new();
    loop {
        task::sleep(LOOK).await;
        let known = site.works.control.lock().node(site.works.id).map(Node::home);
        if known.is_some_and(|home| home != Some(site.home())) {
            let (start, now) = (start_of(&site), site.clock.now());
            // In vain: at the next look.
            let _ = task::timeout(DECLARING, site.agree(&ControlOp::NodeStarted { start, now })).await;
        }
        if site.works.groups.control().leads() {
            mind_nodes(&site).await;
        }
        let shards = site.works.groups.shards().filter(|group| group.leads());
        let leads: HashSet<ShardId> = shards.map(|group| group.id()).collect();
        clear_away(&site, &leads, &led);
        led = leads;
    }
}

async fn mind_nodes(site: &Arc<Site>) {
    let homes: Vec<(NodeId, HomeId)> = {
        let control = site.works.control.lock();
        let others = control.members().filter(|node| node.id() != site.works.id);
        others.filter_map(|node| Some((node.id(), node.home()?))).collect()
    };
    for (id, home) in homes {
        if site.works.settling.gives_up(id, home, SILENT) {
            site.ledger.note(|| format!("{} takes {id} for down", site.works.id));
            let down = ControlOp::NodeDown { id, home, now: site.clock.now() };
            let declared = site.works.groups.control().propose(down.encode().unwrap().into());
            // Whoever leads next looks, too.
            let _ = task::timeout(DECLARING, declared).await;
        }
    }
}

fn clear_away(site: &Arc<Site>, leads: &HashSet<ShardId>, led: &HashSet<ShardId>) {
    let over: Vec<HomeId> = site.works.control.lock().nodes().flat_map(|node| node.past().iter().copied()).collect();
    for &shard in leads {
        let homes: BTreeSet<HomeId> = {
            let state = site.works.store.lock(shard);
            let mut homes: BTreeSet<HomeId> = over.iter().filter(|home| state.proposed(home.0) > 0).copied().collect();
            if !led.contains(&shard) {
                let attached = state.sessions().filter(|session| session.attached());
                homes.extend(attached.map(|session| HomeId(session.home())).filter(|home| over.contains(home)));
            }
            homes
        };
        let now = site.clock.now();
        for home in homes {
            site.works.store.submit(&mut vec![(shard, Op::DetachHome { home: home.0, now })], None);
        }
    }
}
