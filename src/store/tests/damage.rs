//! Full disks, damaged journals, and the bounds that keep both rare.

use super::disk::{SimDisk, SimTables};
use super::*;
use crate::store::files::Files;
use crate::store::segment::HEADER_BLOCK;
use crate::store::{Health, segment};

fn fresh(seed: u64) -> (SimDisk, Arc<SimTables>) {
    let disk = SimDisk::new(seed);
    let tables = Arc::new(SimTables::new(&disk, 0));
    (disk, tables)
}

fn start(config: StoreConfig, disk: &SimDisk, tables: &Arc<SimTables>) -> Store {
    open(config, disk, tables).unwrap().start(Box::new(Ear::default())).unwrap()
}

/// Checkpoints only when asked.
fn quiet() -> StoreConfig {
    StoreConfig { checkpoint_interval: Duration::from_secs(3600), ..small(Durability::Sync) }
}

/// A stopped store's disk, with `count` submissions in its journal and none in its tables.
fn journal_only(count: u64) -> (SimDisk, Arc<SimTables>) {
    let (disk, tables) = fresh(1);
    let store = start(quiet(), &disk, &tables);
    for number in 0..count {
        done(&store, vec![retain(&store, &format!("t/{number}"), &[7; 100])]);
    }
    // As if killed: no last checkpoint.
    disk.fail_in(1);
    store.stop();
    disk.power_cut();
    (disk, tables)
}

fn refused(disk: &SimDisk, tables: &Arc<SimTables>) -> StoreError {
    open(quiet(), disk, tables).map(|_| ()).expect_err("damage must be refused")
}

#[test]
fn submissions_are_applied_in_order_and_heard_of() {
    let (disk, tables) = fresh(1);
    let ear = Ear::default();
    let store = open(quiet(), &disk, &tables).unwrap().start(Box::new(ear.clone())).unwrap();
    let waiter = Arc::new(Newest::default());
    for number in 0..1000 {
        let mut ops = vec![attach(&store, &format!("client {number}"))];
        let position = store.submit(&mut ops, Some(Arc::clone(&waiter) as _));
        assert!(ops.is_empty());
        assert_eq!(position, Position(number + 1));
    }
    assert_eq!(store.barrier(Arc::clone(&waiter) as _), Position(1001));
    until("all waiters", || *waiter.0.lock() == Position(1001));
    until("the watermark", || ear.0.lock().applied.last() == Some(&Position(1001)));
    assert_eq!((store.applied(), store.submitted()), (Position(1001), Position(1001)));
    let heard = ear.0.lock();
    assert_eq!(heard.effects.len(), 1000);
    assert!(heard.applied.is_sorted());
    for (shard, effect) in &heard.effects {
        let Effect::Attached { client_id, .. } = effect else { panic!("{effect:?}") };
        assert_eq!(*shard, store.shard_of(client_id));
    }
    drop(heard);
    assert!(store.stats().syncs < 1000 && store.stats().ops == 1000);
    assert!(!store.congested());
    store.stop();
}

#[test]
fn after_a_stop_nothing_is_taken() {
    let (disk, tables) = fresh(1);
    let store = start(quiet(), &disk, &tables);
    let other = store.clone();
    store.stop();
    let position = submit(&other, vec![retain(&other, "t", b"1")]);
    assert!(!other.wait_blocking(position, Duration::from_millis(20)));
    assert_eq!(retained(&other, "t"), None);
}

#[test]
fn a_zeroed_or_truncated_segment_is_refused_by_name() {
    for change in [0, 1, 2] {
        let (disk, tables) = journal_only(20);
        disk.damage(&segment::name(1), |content| match change {
            0 => content.fill(0),
            1 => content.truncate(content.len() / 2),
            _ => content.clear(),
        });
        let error = refused(&disk, &tables);
        assert!(matches!(&error, StoreError::Corrupt { file, .. } if file.ends_with(segment::name(1))), "{error}");
        assert!(error.is_damage() && error.to_string().contains("nightjar store set-aside"), "{error}");
    }
}

/// Where the last whole record begins.
fn last_record(disk: &SimDisk) -> usize {
    let content = disk.open(&segment::name(1)).unwrap().read_all().unwrap();
    let file = std::path::Path::new("x");
    let mut last = 0;
    segment::scan(&content, &segment::Header::parse(&content, file).unwrap(), file, |offset, _| {
        last = offset;
        Ok(())
    })
    .unwrap();
    last
}

#[test]
fn every_flipped_bit_before_the_last_record_is_refused() {
    for number in 0..60 {
        let (disk, tables) = journal_only(20);
        let last = last_record(&disk);
        let at = if number < 20 { number * 3 } else { HEADER_BLOCK + (last - HEADER_BLOCK) * (number - 20) / 40 };
        disk.damage(&segment::name(1), |content| content[at] ^= 4);
        let error = refused(&disk, &tables);
        assert!(matches!(error, StoreError::Corrupt { .. }), "{at}: {error}");
    }
}

#[test]
fn what_was_cut_off_never_comes_back() {
    let config = || StoreConfig { durability: Durability::Interval(Duration::from_secs(3600)), ..quiet() };
    // What a killed process leaves that wrote these.
    let killed = |disk: &SimDisk, tables: &Arc<SimTables>, topics: &[&str]| {
        let store = start(config(), disk, tables);
        topics.iter().for_each(|topic| done(&store, vec![retain(&store, topic, &[7; 100])]));
        let image = disk.image();
        store.stop();
        (image.clone(), Arc::new(SimTables::new(&image, 0)))
    };
    let (disk, tables) = fresh(1);
    let (disk, tables) = killed(&disk, &tables, &["t/1", "t/2", "t/3"]);
    // A record that nobody had synced is spoilt; the one behind it, of the same length as all, is not.
    let last = last_record(&disk);
    disk.damage(&segment::name(1), |content| content[last - 20] ^= 1);
    let (disk, tables) = killed(&disk, &tables, &["t/4"]);
    let opened = open(config(), &disk, &tables).unwrap();
    let there = ["t/1", "t/2", "t/3", "t/4"].map(|topic| retained(opened.store(), topic).is_some());
    assert_eq!(there, [true, false, false, true]);
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, tables) = journal_only(900);
    let names: Vec<String> = disk.list().unwrap().into_iter().map(|(name, _)| name).collect();
    let journal: Vec<&String> = names.iter().filter(|name| segment::first_of(name).is_some()).collect();
    assert!(journal.len() >= 3);
    disk.remove(journal[1]).unwrap();
    assert!(matches!(refused(&disk, &tables), StoreError::Corrupt { .. }));
    for name in &journal {
        let _ = disk.remove(name);
    }
    assert!(refused(&disk, &tables).to_string().contains("journal is missing"));
}

#[test]
fn lost_tables_are_refused_once_the_journal_was_trimmed_and_rebuilt_before() {
    let (disk, _) = journal_only(20);
    let empty = Arc::new(SimTables::new(&disk, 0));
    let opened = open(quiet(), &disk, &empty).unwrap();
    assert_eq!(retained(opened.store(), "t/19"), Some(vec![7; 100]));

    let (disk, tables) = fresh(3);
    let store = start(small(Durability::Sync), &disk, &tables);
    for number in 0..2000 {
        submit(&store, vec![retain(&store, &format!("t/{}", number % 50), &[7; 100])]);
        if number % 100 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    until("trimmed", || disk.open(&segment::name(1)).is_err());
    store.stop();
    let empty = Arc::new(SimTables::new(&disk, 0));
    assert!(refused(&disk, &empty).is_damage());
    assert!(open(quiet(), &disk, &tables).is_ok());
}

#[test]
fn a_full_disk_stalls_and_recovers_by_itself() {
    let (disk, tables) = fresh(1);
    let store = start(StoreConfig { reserve_bytes: 0, ..quiet() }, &disk, &tables);
    done(&store, vec![retain(&store, "before", b"1")]);
    until("a spare", || disk.used() >= 128 << 10);
    disk.set_capacity(disk.used());
    let mut number = 0;
    until("the stall", || {
        number += 1;
        submit(&store, vec![retain(&store, &format!("t/{}", number % 10), &[1; 4000])]);
        matches!(store.health(), Health::Stalled { .. })
    });
    let stuck = store.applied();
    assert!(store.congested());
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(store.applied(), stuck, "nothing is acknowledged that is not written");
    assert_eq!(retained(&store, "before"), Some(b"1".to_vec()));
    disk.set_capacity(u64::MAX);
    let last = store.submitted();
    assert!(store.wait_blocking(last, PATIENCE));
    assert_eq!(store.health(), Health::Writable);
    done(&store, vec![retain(&store, "after", b"2")]);
    store.stop();
    let opened = open(quiet(), &disk, &tables).unwrap();
    assert_eq!(retained(opened.store(), "after"), Some(b"2".to_vec()));
    assert_eq!(retained(opened.store(), "t/0"), Some(vec![1; 4000]));
}

#[test]
fn the_reserve_is_given_up_first_and_made_again() {
    let (disk, tables) = fresh(1);
    let config = StoreConfig { reserve_bytes: 256 << 10, ..quiet() };
    let store = start(config, &disk, &tables);
    let has_reserve = || disk.open("reserve").is_ok();
    until("the reserve and a spare", || has_reserve() && disk.used() >= 384 << 10);
    disk.set_capacity(disk.used());
    let mut number = 0;
    until("the reserve to be used", || {
        number += 1;
        done(&store, vec![retain(&store, &format!("t/{}", number % 10), &[1; 4000])]);
        !has_reserve()
    });
    assert_eq!(store.health(), Health::Writable);
    disk.set_capacity(u64::MAX);
    until("the reserve again", has_reserve);
    store.stop();
}

#[test]
fn a_store_that_is_full_can_be_stopped() {
    let (disk, tables) = fresh(1);
    let store = start(StoreConfig { reserve_bytes: 0, ..quiet() }, &disk, &tables);
    disk.set_capacity(disk.used());
    until("the stall", || {
        submit(&store, vec![retain(&store, "t", &[1; 4000])]);
        !matches!(store.health(), Health::Writable)
    });
    store.stop();
}

#[test]
fn checkpoints_wait_for_space_and_publishers_for_the_journal() {
    let (disk, tables) = fresh(1);
    disk.set_capacity(4 << 20);
    let config = StoreConfig { free_space_floor: 8 << 20, reserve_bytes: 0, ..small(Durability::Sync) };
    let store = start(config, &disk, &tables);
    until("congestion", || {
        submit(&store, vec![retain(&store, "t", &[1; 4000])]);
        store.congested()
    });
    until("it is said", || store.stats().checkpoint_held);
    assert_eq!(store.stats().checkpoints, 0);
    disk.set_capacity(u64::MAX);
    until("the journal is trimmed", || !store.congested());
    store.stop();
}

#[test]
fn the_journal_stays_within_its_budget_and_segments_come_back() {
    let (disk, tables) = fresh(1);
    let store = start(StoreConfig { pending_bytes: 64 << 10, ..small(Durability::Sync) }, &disk, &tables);
    for number in 0..4000_u32 {
        while store.congested() {
            std::thread::sleep(Duration::from_millis(1));
        }
        submit(&store, vec![retain(&store, &format!("t/{}", number % 20), &[1; 1000])]);
    }
    let last = store.submitted();
    assert!(store.wait_blocking(last, PATIENCE));
    assert!(disk.used() < 2 << 20, "{} bytes for 4 MB of ops", disk.used());
    // An idle store lets go of all but the segment being written.
    until("an idle journal", || store.stats().journal_bytes < 128 << 10);
    store.stop();
}

#[test]
fn a_message_larger_than_a_segment_is_taken() {
    let (disk, tables) = fresh(1);
    let store = start(quiet(), &disk, &tables);
    let payload = vec![3; 300 << 10];
    done(&store, vec![retain(&store, "large", &payload)]);
    done(&store, vec![retain(&store, "small", b"1")]);
    disk.fail_in(1);
    store.stop();
    disk.power_cut();
    let opened = open(quiet(), &disk, &tables).unwrap();
    assert_eq!(retained(opened.store(), "large"), Some(payload));
    assert_eq!(retained(opened.store(), "small"), Some(b"1".to_vec()));
}

#[test]
fn a_failed_sync_ends_the_store() {
    let (disk, tables) = fresh(1);
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let fatal = Arc::new(move |why: &str| hear.lock().push(why.to_owned()));
    let store = start(StoreConfig { fatal, ..quiet() }, &disk, &tables);
    done(&store, vec![retain(&store, "t", b"1")]);
    let (acknowledged, calls) = (store.applied(), disk.calls());
    disk.fail_in(1);
    submit(&store, vec![retain(&store, "t", b"2")]);
    until("the end", || matches!(store.health(), Health::Failed { .. }));
    assert!(disk.calls() > calls && store.congested());
    assert_eq!((store.applied(), told.lock().len()), (acknowledged, 1));
    assert_eq!(retained(&store, "t"), Some(b"1".to_vec()), "nothing is visible that is not durable");
    store.stop();
}

#[test]
fn an_interval_syncs_by_time_and_memory_never() {
    let (disk, tables) = fresh(1);
    let config = StoreConfig { durability: Durability::Interval(Duration::from_millis(5)), ..quiet() };
    let store = start(config, &disk, &tables);
    until("the start", || disk.open("reserve").is_ok());
    let before = store.stats().syncs;
    for number in 0..50 {
        done(&store, vec![retain(&store, "t", &[number])]);
    }
    assert!(store.stats().syncs - before < 45);
    let written = store.stats().syncs;
    until("the last sync", || store.stats().syncs > before && store.stats().syncs >= written);
    assert!(disk.syncs() > 0);
    store.stop();

    let store = Store::open(StoreConfig { durability: Durability::Memory, ..quiet() }).unwrap();
    let store = store.start(Box::new(Ear::default())).unwrap();
    done(&store, vec![retain(&store, "t", b"1"), retain(&store, "u", b"2")]);
    store.checkpoint();
    until("a checkpoint", || store.stats().checkpoints > 0);
    assert_eq!((retained(&store, "t"), store.stats().bytes), (Some(b"1".to_vec()), 0));
    assert!(!std::path::Path::new("simulated").exists());
    store.stop();
}
