//! What goes wrong, by seed: cuts of every form, weather, crashes with loss of what was not synced, changes of leaders and
//! members, clocks that are set, checkpoints and logs that are let go of at any time.

use super::world::World;
use crate::cluster::raft::Group;
use crate::cluster::wire::Weather;
use crate::env::task;
use crate::store::tests::Random;
use nightjar_base::{NodeId, ShardId, Wall};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long something may take that needs a majority.
const CHANGING: Duration = Duration::from_secs(3);

/// One after the other, for `steps` of them.
pub(super) async fn happen(world: &Arc<World>, steps: u64, random: &mut Random) {
    for _ in 0..steps {
        task::sleep(Duration::from_millis(20 + random.below(500))).await;
        one(world, random).await;
    }
}

async fn one(world: &Arc<World>, random: &mut Random) {
    match random.below(24) {
        0 => isolate(world, random),
        1 => one_way(world, random),
        2 => split(world, random),
        3 => flap(world, random).await,
        4 | 5 => {
            world.ledger.note(|| "all is mended".to_owned());
            world.heal();
        }
        6 | 7 => weather(world, random),
        8..=11 => crash(world, random).await,
        12 => power_cut(world, random).await,
        13..=15 => restart(world, random).await,
        16 | 17 => transfer(world, random).await,
        18 => change_voters(world, random).await,
        19 | 20 => checkpoint(world, random),
        21 => trim(world, random).await,
        22 => set_clock(world, random),
        // Nothing, for a while.
        _ => task::sleep(Duration::from_millis(random.below(3_000))).await,
    }
}

fn any(world: &World, random: &mut Random) -> usize {
    random.below(world.count() as u64) as usize
}

fn pair(world: &World, random: &mut Random) -> (NodeId, NodeId) {
    let ids = world.ids();
    let from = any(world, random);
    let to = (from + 1 + random.below(ids.len() as u64 - 1) as usize) % ids.len();
    (ids[from], ids[to])
}

fn isolate(world: &World, random: &mut Random) {
    let ids = world.ids();
    let (lonely, way) = (ids[any(world, random)], random.below(3));
    world.ledger.note(|| {
        format!("{lonely} is cut off ({})", ["both ways", "it is not heard", "it hears nothing"][way as usize])
    });
    for other in ids.iter().filter(|other| **other != lonely) {
        if way != 2 {
            world.switch.cut(lonely, *other);
        }
        if way != 1 {
            world.switch.cut(*other, lonely);
        }
    }
}

fn one_way(world: &World, random: &mut Random) {
    let (from, to) = pair(world, random);
    world.ledger.note(|| format!("{from} does not reach {to}"));
    world.switch.cut(from, to);
}

fn split(world: &World, random: &mut Random) {
    let ids = world.ids();
    let side: BTreeSet<NodeId> = ids.iter().copied().filter(|_| random.below(2) == 0).collect();
    world.ledger.note(|| format!("{side:?} are apart from the rest"));
    for from in &ids {
        for to in ids.iter().filter(|to| side.contains(from) != side.contains(to)) {
            world.switch.cut(*from, *to);
        }
    }
}

async fn flap(world: &World, random: &mut Random) {
    let (from, to) = pair(world, random);
    world.ledger.note(|| format!("the link from {from} to {to} comes and goes"));
    for _ in 0..3 + random.below(6) {
        world.switch.cut(from, to);
        task::sleep(Duration::from_millis(5 + random.below(80))).await;
        world.switch.mend(from, to);
        task::sleep(Duration::from_millis(5 + random.below(80))).await;
    }
}

fn weather(world: &World, random: &mut Random) {
    let (shortest, range) = (random.below(30), random.below(120));
    let weather = Weather {
        delay: (Duration::from_millis(shortest), Duration::from_millis(shortest + range)),
        loss: [0.0, 0.05, 0.3][random.below(3) as usize],
        twice: [0.0, 0.2][random.below(2) as usize],
    };
    let everywhere = random.below(2) == 0;
    let chosen = pair(world, random);
    world.ledger.note(|| format!("weather: {weather:?} {}", if everywhere { "everywhere" } else { "on one way" }));
    let ids = world.ids();
    for from in &ids {
        for to in ids.iter().filter(|to| *to != from) {
            if everywhere || chosen == (*from, *to) {
                world.set_weather(*from, *to, weather);
            }
        }
    }
}

async fn crash(world: &Arc<World>, random: &mut Random) {
    let number = any(world, random);
    world.crash(number, random).await;
    if random.below(3) == 0 {
        // At once, before anybody has missed it.
        world.start(number).await;
    }
}

async fn power_cut(world: &Arc<World>, random: &mut Random) {
    world.ledger.note(|| "the power goes off everywhere".to_owned());
    for number in 0..world.count() {
        world.crash(number, random).await;
    }
    task::sleep(Duration::from_millis(random.below(200))).await;
    for number in 0..world.count() {
        if random.below(5) > 0 {
            world.start(number).await;
            task::sleep(Duration::from_millis(random.below(300))).await;
        }
    }
}

/// Starts a node that is down.
async fn restart(world: &Arc<World>, random: &mut Random) {
    let down: Vec<usize> = (0..world.count()).filter(|number| world.site(*number).is_none()).collect();
    if !down.is_empty() {
        world.start(down[random.below(down.len() as u64) as usize]).await;
    }
}

/// The groups of the nodes that run which are led there.
fn led(world: &World) -> Vec<Arc<Group>> {
    let sites = world.sites();
    sites.iter().flat_map(|site| site.works.groups.all()).filter(|group| group.leads()).cloned().collect()
}

fn one_led(world: &World, random: &mut Random) -> Option<Arc<Group>> {
    let led = led(world);
    (!led.is_empty()).then(|| Arc::clone(&led[random.below(led.len() as u64) as usize]))
}

async fn transfer(world: &World, random: &mut Random) {
    let Some(group) = one_led(world, random) else { return };
    // Not to itself: it would wait for that for ever.
    let own = group.leader().map(|leader| leader.0);
    let voters: Vec<u64> = group.members().voters.into_iter().filter(|voter| Some(*voter) != own).collect();
    if voters.is_empty() {
        return;
    }
    let to = NodeId(voters[random.below(voters.len() as u64) as usize]);
    world.ledger.note(|| format!("group {} is to be led by {to}", group.id()));
    // In vain where it has stopped.
    let _ = task::timeout(CHANGING, group.hand_over(to)).await;
}

async fn change_voters(world: &World, random: &mut Random) {
    let Some(group) = one_led(world, random) else { return };
    let (mut ids, voters) = (world.ids(), world.manner.voters);
    while ids.len() > voters {
        ids.remove(random.below(ids.len() as u64) as usize);
    }
    if ids.len() == world.count() && random.below(2) == 0 {
        // One votes no more, for a while.
        ids.remove(random.below(ids.len() as u64) as usize);
        ids.truncate(ids.len() - (ids.len() + 1) % 2);
    }
    world.ledger.note(|| format!("{ids:?} are to vote in group {}", group.id()));
    let ids: BTreeSet<NodeId> = ids.into_iter().collect();
    let changed = task::timeout(CHANGING, async {
        if group.members().is_joint {
            return Ok(());
        }
        group.change(&ids, &BTreeSet::new()).await
    });
    match changed.await {
        Ok(Ok(())) => {}
        other => world.ledger.note(|| format!("which came to {other:?}")),
    }
}

fn checkpoint(world: &World, random: &mut Random) {
    if let Some(site) = world.any_site(random) {
        world.ledger.note(|| format!("{} makes a checkpoint", site.works.id));
        site.works.store.checkpoint();
    }
}

async fn trim(world: &World, random: &mut Random) {
    let Some(site) = world.any_site(random) else { return };
    let group = ShardId(random.below(u64::from(world.manner.shards) + 1) as u16);
    let Some(group) = site.works.groups.get(group) else { return };
    world.ledger.note(|| format!("{} lets go of the log of group {}", site.works.id, group.id()));
    // In vain where it has stopped.
    let _ = task::timeout(CHANGING, group.trim()).await;
}

fn set_clock(world: &World, random: &mut Random) {
    let number = any(world, random);
    let now = world.clock(number).0;
    let to = Wall(now + random.below(200_000) - 100_000);
    world.ledger.note(|| format!("the clock of node {number} is set"));
    world.set_clock(number, to);
}
