//! Nodes are killed, stopped, paused and cut off one after the other, at random moments and under load; then everything
//! that was acknowledged is counted.
//!
//! `cargo test --test cluster` runs a short one. `NIGHTJAR_NODES_ROUNDS=300 cargo test --release --test cluster long_run
//! -- --ignored --nocapture` is the long one; `NIGHTJAR_NODES_SEED=n` repeats a run's random choices.

use crate::links::Way;
use crate::load::{Load, finish};
use crate::support::{Connect, Random, ms, secs};
use crate::{Cluster, Pen, leave_session};
use std::time::{Duration, Instant, SystemTime};

const ROUNDS: &str = "NIGHTJAR_NODES_ROUNDS";
const SEED: &str = "NIGHTJAR_NODES_SEED";

/// A short run ends after this time even if rounds are left: machines differ.
const SHORT_LIMIT: Duration = secs(60);

/// Sessions that a probe goes to: in all shards, most likely.
const PROBED: usize = 64;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill_of_one_node_after_the_other() {
    run(10, true);
}

#[test]
#[ignore = "a long run: minutes, and a machine of its own"]
fn nothing_acknowledged_is_lost_in_a_long_run() {
    run(from_env(ROUNDS).unwrap_or(100), false);
}

/// What happens to a node in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL, perhaps several times while it starts.
    Kill,
    /// SIGTERM, and it starts again.
    Restart,
    /// SIGSTOP for a while.
    Pause,
    /// Its links are cut or silent.
    Isolate(Way),
    /// One direction of one link is.
    OneWay(Way),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Restart => "restarted",
            Self::Pause => "paused",
            Self::Isolate(_) | Self::OneWay(_) => "cut off",
        }
    }

    /// Most are kills, as most of what happens to nodes is.
    fn any(random: &mut Random) -> Self {
        let way = if random.below(2) == 0 { Way::Closed } else { Way::Silent };
        match random.below(20) {
            0..=13 => Self::Kill,
            14 => Self::Restart,
            15 => Self::Pause,
            16..=18 => Self::Isolate(way),
            _ => Self::OneWay(way),
        }
    }
}

/// How long it took, after each fault of a kind, until a message for sessions of all shards was acknowledged by another
/// node.
#[derive(Debug, Default)]
struct Times(Vec<(Fault, Duration)>);

impl Times {
    fn print(&self) {
        for name in ["killed", "restarted", "paused", "cut off"] {
            let of = self.0.iter().filter(|(fault, _)| fault.name() == name);
            let mut times: Vec<Duration> = of.map(|(_, time)| *time).collect();
            times.sort();
            if let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) {
                println!(
                    "{name} {} times: served again after {median:?} in the median, {worst:?} at worst",
                    times.len()
                );
            }
        }
    }
}

fn run(rounds: u64, short: bool) {
    let seed = from_env(SEED).unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64 % 1_000_000
    });
    println!("seed {seed}, {rounds} rounds");
    let mut random = Random(seed);
    let mut cluster = if short { Cluster::start(3) } else { Cluster::linked(3) };
    for number in 0..PROBED {
        leave_session(&cluster, number % 3, &Connect::v5(&format!("probed {number}")).persistent(), "probe");
    }
    let load = Load::start(&cluster.ports(), random.next());
    let (mut times, start) = (Times::default(), Instant::now());
    for round in 0..rounds {
        if short && start.elapsed() > SHORT_LIMIT {
            println!("time is up after {round} rounds");
            break;
        }
        std::thread::sleep(ms(100 + random.below(1_000)));
        let fault = if short { Fault::Kill } else { Fault::any(&mut random) };
        let node = if short { random.below(3) as usize } else { leader(&cluster, &mut random) };
        let other = (node + 1 + random.below(2) as usize) % 3;
        // Its own session is at no node that is lost: that would have to be declared down first.
        let mut pen = Pen::at(cluster.port(other), &format!("probes {round}"));
        println!("round {round}: {fault:?} of node {node}, {:?}", start.elapsed());
        let time =
            strike(&mut cluster, fault, node, other, &mut random, || pen.publish("probe", &format!("{round}"), 1));
        times.0.push((fault, time));
        if !short {
            load.wait_more();
            println!("round {round}: node {other} served again after {time:?}");
        }
    }
    times.print();
    println!("{} faults; seed {seed}", times.0.len());
    finish(load, &cluster.ports());
}

/// Any node, but rather the one that leads the control group.
fn leader(cluster: &Cluster, random: &mut Random) -> usize {
    let any = random.below(3) as usize;
    let leads = cluster.leader(any);
    leads.filter(|_| random.below(2) == 0).unwrap_or(any)
}

/// Does it to `node`, has `probe` see when the others serve again, and undoes it.
fn strike(
    cluster: &mut Cluster,
    fault: Fault,
    node: usize,
    other: usize,
    random: &mut Random,
    probe: impl FnOnce() -> Duration,
) -> Duration {
    let time;
    match fault {
        Fault::Kill => {
            cluster.kill(node);
            time = probe();
            // Sometimes it is back before anybody has missed it, sometimes long after.
            std::thread::sleep(ms(random.below(4_000)));
            while random.below(3) == 0 {
                cluster.launch(node);
                std::thread::sleep(ms(random.below(500)));
                cluster.kill(node);
            }
            cluster.again(node);
        }
        Fault::Restart => {
            cluster.terminate(node);
            time = probe();
            cluster.again(node);
        }
        Fault::Pause => {
            cluster.pause(node);
            time = probe();
            std::thread::sleep(ms(random.below(4_000)));
            cluster.resume(node);
        }
        Fault::Isolate(way) => {
            cluster.links().set_around(node, way);
            time = probe();
            std::thread::sleep(ms(random.below(4_000)));
            cluster.links().heal();
        }
        Fault::OneWay(way) => {
            cluster.links().set(node, other, way);
            time = probe();
            std::thread::sleep(ms(random.below(4_000)));
            cluster.links().heal();
        }
    }
    cluster.wait_serves(node);
    time
}
