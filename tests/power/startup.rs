//! SIGKILL while the broker starts and recovers, again and again: it opens every time, with everything there.

use crate::load::Load;
use crate::support::{Broker, ms, wait_until};
use crate::{from_env, random};
use std::time::Instant;

#[test]
fn startup_killed_again_and_again() {
    let test = "startup killed";
    let mut random = random(test);
    // A journal that is long in the reading, with checkpoints that are never far.
    let mut broker = Broker::with(&["store.segment_size=1MiB", "store.checkpoint_interval=50ms", "store.shards=8"]);
    let mut load = Load::start(broker.port(), &mut random);
    std::thread::sleep(ms(1000));
    let asked = from_env("NIGHTJAR_CRASH_STARTUP_KILLS").unwrap_or(30);
    let (mut kills, mut opened) = (0, 0);
    let mut typical = ms(100);
    while kills < asked {
        broker.kill();
        for _ in 0..1 + random.below(8) {
            broker.launch();
            std::thread::sleep(typical.mul_f64(random.below(1000) as f64 / 900.0));
            broker.kill();
            kills += 1;
        }
        let start = Instant::now();
        broker.again();
        typical = (typical * 3 + start.elapsed()) / 4;
        opened += 1;
        load.read_retained();
        let before = load.acknowledged();
        wait_until("acknowledgements go on after the start", crate::support::PATIENCE, || {
            load.acknowledged() > before + 50
        });
    }
    println!("{test}: {kills} kills during a start, {opened} whole starts, the typical one took {typical:?}");
    load.finish(test);
}
