//! Simulation: the real store, log, Raft and cluster code of three to five nodes in one process, with everything that goes
//! wrong between and beneath them chosen by a seed, and a checker for the promises.
//!
//! | file | its story |
//! | --- | --- |
//! | `world` | nodes, disks, clocks, and the time that passes |
//! | `site`, `coming`, `packets`, `upkeep`, `asking` | what a broker and its member do for clients, without packets |
//! | `client` | what clients do |
//! | `faults` | what goes wrong |
//! | `ledger`, `rest`, `check` | what was told, and whether it is true |
//! | `bugs` | faults that are put in, which must be found |
//! | `transfer` | how long a group takes nothing when its leader is to be another |
//!
//! What is real: store, journal, logs, openraft, proposals, leases, settling, control. What is not: the broker's connections
//! (`site` submits what they would), the links (a switch with cuts, delays, losses), the disks (memory that forgets what
//! was not synced), `upkeep` and `member`.
//!
//! The same seed makes the same choices. What it leads to is not the same to the last step: journals have threads, and
//! openraft draws its own election timeouts.
#![allow(clippy::unwrap_used)]

mod asking;
mod bugs;
mod check;
mod client;
mod coming;
mod faults;
mod ledger;
mod packets;
mod rest;
mod site;
mod tests;
mod transfer;
mod upkeep;
mod world;

use crate::env::task;
use crate::store::tests::Random;
use bugs::Bug;
use nightjar_base::NodeId;
use nightjar_control::{ControlOp, Settings};
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Arc;
use world::{Manner, World};

/// What came of a seed.
struct Outcome {
    violations: Vec<String>,
    story: Vec<String>,
    summary: String,
    counts: ledger::Counts,
}

/// Runs one seed. A panic is a violation as well.
fn simulate(seed: u64, bug: Bug) -> Outcome {
    catch_unwind(|| run(seed, bug)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![format!("a panic: {}", text.unwrap_or_default())];
        Outcome { violations, story: Vec::new(), summary: String::new(), counts: ledger::Counts::default() }
    })
}

fn run(seed: u64, bug: Bug) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut random = Random(seed);
        let manner = Manner::of(&mut random);
        let world = World::new(seed, manner, bug, &mut random);
        let _time = task::hold(Arc::clone(&world).run());
        let came = story(&world, &mut random).await;
        if let Err(lack) = came {
            world.ledger.violation(format!("it does not come to rest: {lack}"));
        } else {
            check::check(&world.ledger, &world.sites()[0]);
        }
        for number in 0..world.count() {
            if let Some(site) = world.site(number) {
                site.die();
                site.works.stop(&world.switch).await;
            }
        }
        let summary = format!("{manner:?}: {}", client::describe(&world.ledger));
        let (violations, story) = (world.ledger.violations(), world.ledger.story());
        Outcome { violations, story, summary, counts: world.ledger.counts() }
    })
}

async fn story(world: &Arc<World>, random: &mut Random) -> Result<(), String> {
    form(world).await?;
    world.note_early();
    let clients: Vec<_> = (0..world.manner.clients)
        .map(|client| {
            let random = Random(random.next());
            task::spawn(client::live(Arc::clone(world), client, random))
        })
        .collect();
    let steps = 15 + random.below(25);
    faults::happen(world, steps, random).await;
    world.close();
    for client in clients {
        client.await.map_err(|error| format!("a client has ended: {error}"))?;
    }
    if random.below(2) == 0 {
        // What is there must be there when everybody has started anew.
        for number in 0..world.count() {
            world.crash(number, random).await;
        }
    }
    rest::come(world).await
}

/// The first of the nodes begin, the others follow them.
async fn form(world: &Arc<World>) -> Result<(), String> {
    for number in 0..world.count() {
        world.start(number).await;
    }
    let voters: BTreeSet<NodeId> = world.ids().into_iter().take(world.manner.voters).collect();
    for site in world.sites().iter().take(voters.len()) {
        for group in site.works.groups.all() {
            group.found(&voters).await.map_err(|error| error.to_string())?;
        }
    }
    let sites = world.sites();
    let starts = sites.iter().map(|site| upkeep::start_of(site)).collect();
    let settings = Settings { cluster: 1, shards: world.manner.shards, replicas: 3 };
    let form = ControlOp::Form { settings, protocol: 1, members: starts, now: sites[0].clock.now() };
    let mut waited = 0;
    while sites[0].works.control.lock().settings().is_none() {
        sites[0].agree(&form).await;
        task::sleep(std::time::Duration::from_millis(50)).await;
        waited += 1;
        if waited > 1_000 {
            return Err("the cluster does not form".to_owned());
        }
    }
    for follower in sites.iter().skip(voters.len()) {
        for group in sites[0].works.groups.all() {
            follow(world, group.id(), follower.works.id).await?;
        }
    }
    rest::until(|| {
        let lack = sites.iter().find(|site| !site.works.settling.may_acknowledge());
        lack.map(|site| format!("{} has no lease yet", site.works.id))
    })
    .await
}

/// Has whoever leads a group add a member that follows.
async fn follow(world: &World, group: nightjar_base::ShardId, node: NodeId) -> Result<(), String> {
    for _ in 0..1_000 {
        let leader = world.sites().into_iter().find(|site| site.works.groups.get(group).is_some_and(|of| of.leads()));
        if let Some(leader) = leader
            && let Some(group) = leader.works.groups.get(group)
            && (group.members().contains(node.0) || group.add_learner(node, false).await.is_ok())
        {
            return Ok(());
        }
        task::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(format!("{node} cannot follow group {group}"))
}
