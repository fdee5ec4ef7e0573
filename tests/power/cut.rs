//! The power fails: all that was not synced is gone. The store must open by itself, and nothing acknowledged is lost.
//!
//! SIGKILL does not show what this shows, because the page cache outlives the process.

use crate::disk::Disk;
use crate::load::Load;
use crate::support::{Broker, Packet, Read, ms, secs};
use crate::{from_env, random, skipped};
use std::time::Instant;

/// Checkpoints without a pause, of next to nothing each.
const RESTLESS: &[&str] = &[
    "store.checkpoint_interval=5ms",
    "store.checkpoint_size=16KiB",
    "store.segment_size=1MiB",
    "store.journal_budget=4MiB",
    "store.free_space_floor=8MiB",
    "store.reserve=1MiB",
    "session.max_inflight=20",
];

/// Larger checkpoints in larger segments, all shards in turn.
const ROOMY: &[&str] = &[
    "store.checkpoint_interval=5ms",
    "store.segment_size=8MiB",
    "store.free_space_floor=8MiB",
    "store.reserve=1MiB",
    "store.shards=4",
];

/// The smallest segments, so that they are begun, retired and used again all the time; the file system orders nothing
/// of its own accord.
const RECYCLING: &[&str] = &[
    "store.checkpoint_interval=20ms",
    "store.checkpoint_size=64KiB",
    "store.segment_size=128KiB",
    "store.journal_budget=1MiB",
    "store.free_space_floor=8MiB",
    "store.reserve=1MiB",
    "store.sled_cache=1MiB",
];

#[test]
fn power_cut_while_checkpoints_never_rest() {
    run("power cut, restless", RESTLESS, "data=ordered");
}

#[test]
fn power_cut_while_checkpoints_are_large() {
    run("power cut, roomy", ROOMY, "data=ordered");
}

#[test]
fn power_cut_while_segments_are_recycled() {
    run("power cut, recycling", RECYCLING, "data=writeback");
}

/// The proof that a cut cuts: a broker that was told to acknowledge before it syncs loses what it acknowledged.
#[test]
fn power_cut_is_noticed_where_nothing_is_synced() {
    let test = "power cut, unsynced";
    let mut broker = Broker::prepare(&[
        "store.durability=interval",
        "store.sync_interval=1h",
        "store.checkpoint_interval=1h",
        "store.free_space_floor=8MiB",
        "store.reserve=1MiB",
    ]);
    let disk = match Disk::ext4(&broker.data(), broker.scratch().join("image"), 256, "data=ordered") {
        Ok(disk) => disk,
        Err(reason) => return skipped(test, &reason),
    };
    broker.again();
    let mut p = broker.v311("p");
    for n in 0..200 {
        assert_eq!(p.retain(&format!("r/{n}"), "kept", 1), 0);
    }
    disk.cut();
    broker.kill();
    disk.power_on();
    broker.again();
    let mut r = broker.v311("r");
    r.subscribe("r/#", 0);
    let mut kept = 0;
    while let Read::Packet(Packet::Publish(_)) = r.read_packet(secs(1)) {
        kept += 1;
    }
    println!("{test}: acknowledged 200, of them kept {kept}");
    assert!(kept < 200, "{test}: the power was not cut, so the other tests prove nothing");
}

/// The three runs share the cuts that are asked for.
fn run(test: &str, settings: &[&str], options: &str) {
    let mut random = random(test);
    let mut broker = Broker::prepare(settings);
    let disk = match Disk::ext4(&broker.data(), broker.scratch().join("image"), 256, options) {
        Ok(disk) => disk,
        Err(reason) => return skipped(test, &reason),
    };
    let asked = from_env("NIGHTJAR_CRASH_POWER_CUTS");
    let rounds = asked.map_or(2, |cuts| cuts.div_ceil(3));
    let cut = |broker: &mut Broker| {
        disk.cut();
        broker.kill();
        disk.power_on();
    };
    // The first start of a folder's life is cut too, until one is left alone.
    let mut early = 0;
    for _ in 0..2 {
        broker.launch();
        std::thread::sleep(ms(random.below(60)));
        cut(&mut broker);
        early += 1;
    }
    broker.again();
    let mut load = Load::start(broker.port(), &mut random);
    let (mut cuts, mut slowest) = (0, ms(0));
    for _ in 0..rounds {
        std::thread::sleep(ms(300 + random.below(1200)));
        cut(&mut broker);
        cuts += 1;
        // The power may fail again while the store recovers, or just after.
        while random.below(3) == 0 {
            broker.launch();
            std::thread::sleep(ms(random.below(200)));
            cut(&mut broker);
            early += 1;
        }
        let start = Instant::now();
        broker.again();
        slowest = slowest.max(start.elapsed());
        load.read_retained();
    }
    let wrote = load.acknowledged();
    load.finish(test);
    // What sled puts there it never syncs.
    let blobs = std::fs::read_dir(broker.data().join("sled/blobs")).map_or(0, Iterator::count);
    assert_eq!(blobs, 0, "{test}: pages that are too large for sled's own file");
    println!(
        "{test}: cuts {cuts} under load and {early} of starts, {wrote} numbers acknowledged until the last, slowest start {slowest:?}"
    );
    assert!(slowest < secs(30), "{test}: a start took {slowest:?}");
}
