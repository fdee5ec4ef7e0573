//! How long a group takes nothing when its leader is asked to hand over, under proposals.
//!
//! openraft's leader stops proposing and sends no heartbeats from the moment it is asked, for ever: if the next one is not
//! up to date at that moment, or the request is lost, only an election ends that.

use super::bugs::Bug;
use super::form;
use super::world::{Manner, World};
use crate::cluster::raft::Pace;
use crate::cluster::wire::Weather;
use crate::env::task;
use crate::store::tests::Random;
use nightjar_base::{NodeId, ShardId, Wall};
use nightjar_mqtt::Message;
use nightjar_shard::Op;
use std::sync::Arc;
use std::time::Duration;

const SHARD: ShardId = ShardId(0);
const TRANSFERS: usize = 8;
/// An election in vain and one that is not, as the pace has it: what is taken for a group that hangs.
const HANGS: u64 = 8_000;

fn manner() -> Manner {
    Manner {
        nodes: 3,
        voters: 3,
        shards: 1,
        clients: 0,
        pace: Pace::default(),
        most_held: 1 << 20,
        checkpoint_overlay_bytes: 1 << 20,
        drift: 0,
    }
}

fn entry(number: u64) -> (ShardId, Op) {
    let message = Arc::new(Message::new("the/last", &[], format!("0 {number}").as_bytes()));
    (SHARD, Op::Retain { message, now: Wall(1) })
}

/// For each transfer, for how many milliseconds some node saw nothing new of the shard, at most.
fn stalls(seed: u64, weather: Weather, gap: Duration) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut random = Random(seed);
        let world = World::new(seed, manner(), Bug::None, &mut random);
        let _time = task::hold(Arc::clone(&world).run());
        form(&world).await.unwrap();
        let ids = world.ids();
        for from in &ids {
            ids.iter().filter(|to| *to != from).for_each(|to| world.set_weather(*from, *to, weather));
        }
        let sites = world.sites();
        let loads: Vec<task::Held> = sites
            .iter()
            .map(|site| {
                let store = site.works.store.clone();
                task::hold(async move {
                    for number in 0.. {
                        store.submit(&mut vec![entry(number)], None);
                        task::sleep(gap).await;
                    }
                })
            })
            .collect();
        let mut stalls = Vec::new();
        for _ in 0..TRANSFERS {
            task::sleep(Duration::from_millis(3_000 + random.below(500))).await;
            let groups = || sites.iter().filter_map(|site| site.works.groups.get(SHARD));
            let Some(leader) = groups().find(|group| group.leads()) else { continue };
            let to: Vec<NodeId> = ids.iter().copied().filter(|id| Some(*id) != leader.leader()).collect();
            leader.hand_over(to[random.below(2) as usize]).await.unwrap();
            let applied = || sites.iter().map(|site| site.works.store.applied()).collect::<Vec<_>>();
            let (before, mut waited) = (applied(), 0);
            while applied().iter().zip(&before).any(|(now, before)| now.0 < before.0 + 20) && waited < 60_000 {
                task::sleep(Duration::from_millis(5)).await;
                waited += 5;
            }
            stalls.push(waited);
        }
        drop(loads);
        for site in &sites {
            site.die();
            site.works.stop(&world.switch).await;
        }
        stalls
    })
}

fn delayed(loss: f64) -> Weather {
    Weather { delay: (Duration::from_millis(1), Duration::from_millis(4)), loss, twice: 0.0 }
}

#[test]
fn a_transfer_under_proposals_holds_a_group_up_for_elections_but_not_for_good() {
    for (loss, gap) in [(0.0, 2), (0.1, 10)] {
        let mut stalls = stalls(7, delayed(loss), Duration::from_millis(gap));
        stalls.sort_unstable();
        let (middle, worst) = (stalls[stalls.len() / 2], stalls[stalls.len() - 1]);
        println!(
            "loss {loss}, a proposal every {gap} ms a node: stalls of {middle} ms in the middle, {worst} ms at worst"
        );
        assert!(worst < HANGS, "{stalls:?}");
    }
}
