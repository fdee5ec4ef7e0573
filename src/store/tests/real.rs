//! On the real disk, with sled.

use super::*;
use crate::store::{export, set_aside};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn config(folder: &Path) -> StoreConfig {
    StoreConfig { folder: folder.to_owned(), sled_cache_bytes: 1 << 20, ..small(Durability::Sync) }
}

fn start(folder: &Path) -> Store {
    Store::open(config(folder)).unwrap().start(Box::new(Ear::default())).unwrap()
}

/// A folder with something in journal and tables.
fn filled(folder: &Path) {
    let store = start(folder);
    for number in 0..200 {
        submit(&store, vec![retain(&store, &format!("t/{number}"), &[9; 300])]);
    }
    until("a checkpoint", || store.stats().checkpoints > 0);
    store.stop();
}

#[test]
fn what_was_acknowledged_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    filled(&path);
    let opened = Store::open(config(&path)).unwrap();
    for number in 0..200 {
        assert_eq!(retained(opened.store(), &format!("t/{number}")), Some(vec![9; 300]), "{number}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("lock")), 0o600);
    for (name, _) in opened.store().core.files.list().unwrap() {
        if name.starts_with("journal-") {
            assert_eq!(mode(&path.join(name)), 0o600);
        }
    }
}

#[test]
fn a_second_process_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    let error = Store::open(config(folder.path())).unwrap_err();
    assert!(matches!(error, StoreError::Locked { pid, .. } if pid == Some(std::process::id())), "{error}");
    assert!(matches!(export(folder.path(), &mut Vec::new()), Err(StoreError::Locked { .. })));
    assert!(matches!(set_aside(folder.path()), Err(StoreError::Locked { .. })));
    store.stop();
    start(folder.path()).stop();
}

#[test]
fn the_number_of_shards_is_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    start(folder.path()).stop();
    let store = Store::open(StoreConfig { shards: 7, ..config(folder.path()) }).unwrap();
    assert_eq!(store.store().shard_count(), 3);
}

#[test]
fn shards_of_keys_never_change() {
    let shards = |count| ["", "a", "client-1", "sensors/7/temperature"].map(|key| super::super::shard_of(key, count).0);
    assert_eq!(shards(1), [0, 0, 0, 0]);
    assert_eq!(shards(16), [1, 0, 10, 13]);
}

#[test]
fn damage_is_refused_exported_and_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    filled(&path);
    let segment = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.to_string_lossy().contains("journal-")).max().unwrap();
    let content = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &content[..content.len() / 2]).unwrap();
    let error = Store::open(config(&path)).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains("journal-"), "{error}");

    let mut out = Vec::new();
    export(&path, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.ends_with("# end\n") && text.contains("\ndamage "), "{text}");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("row ")).collect();
    assert!(rows.len() > 3 && rows.is_sorted());
    for line in rows {
        let (content, crc) = line.rsplit_once(' ').unwrap();
        assert_eq!(crc, format!("{:08x}", crc32fast::hash(content.as_bytes())));
    }

    let aside = set_aside(&path).unwrap();
    assert!(aside.ends_with("data.damaged-1") && aside.is_dir() && !path.exists());
    start(&path).stop();
    assert!(set_aside(&path).unwrap().ends_with("data.damaged-2"));
    assert!(set_aside(&path).is_err());
}

#[test]
fn zeroed_and_cut_files_of_the_tables_never_start_empty() {
    let folder = tempfile::tempdir().unwrap();
    for (number, file) in ["db", "conf"].into_iter().enumerate() {
        for cut in [0, 1, 2] {
            let path = folder.path().join(format!("{number}-{cut}"));
            filled(&path);
            let target = path.join("sled").join(file);
            let mut content = std::fs::read(&target).unwrap();
            match cut {
                0 => content.fill(0),
                1 => content.truncate(content.len() / 2),
                _ => content.clear(),
            }
            std::fs::write(&target, content).unwrap();
            match Store::open(config(&path)) {
                Err(error) => assert!(error.is_damage(), "{file} {cut}: {error}"),
                // The journal still had everything, or sled made the file anew from what it knew.
                Ok(opened) => {
                    for number in 0..200 {
                        let found = retained(opened.store(), &format!("t/{number}"));
                        assert_eq!(found, Some(vec![9; 300]), "{file} {cut}: t/{number}");
                    }
                }
            }
        }
    }
}

#[test]
fn waiting_is_possible_for_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let store = start(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let position = submit(&store, vec![retain(&store, "t", b"1")]);
    runtime.block_on(store.wait(position));
    assert!(store.applied() >= position);
    runtime.block_on(store.wait(position));
    store.stop();
}
