//! Damaged files of a store that has lived for a while: its journal was trimmed, its tables hold thousands of rows. Each
//! file in turn is spoiled in each way, and the broker must either have everything or say what is damaged.

use crate::support::{Broker, Connect, Read, secs, wait_until};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SETTINGS: &[&str] =
    &["store.segment_size=128KiB", "store.checkpoint_interval=30ms", "store.shards=4", "store.reserve=64KiB"];

const QUEUED: usize = 1500;
const RETAINED: usize = 300;

#[derive(Clone, Copy, Debug)]
enum Damage {
    /// All bytes are zero, the length stays.
    Zeros,
    Half,
    Empty,
    /// Only the middle 4 KiB are zero: a write that was lost.
    Hole,
}

#[test]
fn damaged_file_is_named_or_repaired_after_a_clean_stop() {
    each_file("damage after a stop", Broker::terminate);
}

#[test]
fn damaged_file_is_named_or_repaired_after_sigkill() {
    each_file("damage after SIGKILL", Broker::kill);
}

fn each_file(test: &str, end: fn(&mut Broker)) {
    let mut broker = Broker::with(SETTINGS);
    fill(&broker);
    end(&mut broker);
    let whole = broker.scratch().join("whole");
    copy_folder(&broker.data(), &whole);
    let (mut refused, mut complete) = (0, 0);
    let mut silent = Vec::new();
    for file in files_of(&whole) {
        for damage in [Damage::Zeros, Damage::Half, Damage::Empty, Damage::Hole] {
            fs::remove_dir_all(broker.data()).unwrap();
            copy_folder(&whole, &broker.data());
            if !spoil(&broker.data().join(&file), damage) {
                continue;
            }
            let what = format!("{damage:?} {}", file.display());
            if start(&mut broker) {
                complete += 1;
                if let Err(lost) = everything_is_there(&broker) {
                    silent.push(format!("{what}: {lost}"));
                }
                broker.kill();
            } else {
                refused += 1;
                way_out(&mut broker, &file, &what);
            }
        }
    }
    println!("{test}: {refused} refused, {complete} started, silently lost: {silent:#?}");
    assert!(silent.is_empty(), "{test}");
    assert!(refused > 4, "{test}: the damage was none");
}

/// Queues, retained messages, and enough taken away again for the journal to be trimmed.
fn fill(broker: &Broker) {
    let mut s = Connect::v311("kept").persistent().open(broker);
    s.subscribe("q", 1);
    s.disconnect();
    let mut p = broker.v311("p");
    for n in 0..RETAINED {
        p.retain(&format!("r/{n}"), format!("{n}.{}", "r".repeat(n % 50 * 20)), 1);
    }
    for n in 0..QUEUED {
        // Two of them are split over several rows.
        let width = if n % 700 == 7 { 50_000 } else { n % 30 * 10 };
        p.publish("q", format!("{n}.{}", "q".repeat(width)), 1);
    }
    wait_until("the journal is trimmed", secs(20), || {
        p.publish("r/churn", "c".repeat(1000), 1);
        p.retain("r/0", format!("0.{}", "r".repeat(1000)), 1);
        !broker.data().join("journal-0000000000000001").exists()
    });
    p.disconnect();
}

fn everything_is_there(broker: &Broker) -> Result<(), String> {
    let Some(mut s) = Connect::v311("kept").persistent().try_open(broker.port(), secs(10)) else {
        return Err("no CONNACK for the session".into());
    };
    if !s.session_present {
        return Err("session present = 0".into());
    }
    let mut next = 0;
    while next < QUEUED {
        match s.read_packet(secs(5)) {
            Read::Packet(crate::support::Packet::Publish(m)) if number(&m.text()) == next => next += 1,
            other => return Err(format!("message {next} of the queue is not there: {}", brief(&other))),
        }
    }
    let mut r = broker.v311("r");
    r.subscribe("r/#", 0);
    let mut seen = BTreeSet::new();
    while seen.len() < RETAINED {
        match r.read_packet(secs(5)) {
            Read::Packet(crate::support::Packet::Publish(m)) => seen.insert(number(&m.text())),
            other => return Err(format!("{} retained of {RETAINED} are there, then {}", seen.len(), brief(&other))),
        };
    }
    Ok(())
}

fn number(text: &str) -> usize {
    text.split('.').next().unwrap().parse().unwrap_or(usize::MAX)
}

fn brief(read: &Read) -> String {
    format!("{read:?}").chars().take(120).collect()
}

/// Whether the broker serves; else it has ended.
fn start(broker: &mut Broker) -> bool {
    broker.launch();
    let mut serves = false;
    wait_until("the broker serves or ends", secs(60), || {
        serves = Connect::v311("probe").try_open(broker.port(), secs(2)).is_some();
        serves || !broker.is_running()
    });
    serves
}

/// Exit code 3 and one line with the file and both commands, which work; then a start is possible.
fn way_out(broker: &mut Broker, file: &Path, what: &str) {
    assert_eq!(broker.wait_exit(secs(1)).code(), Some(3), "{what}: exit code");
    let log = broker.log();
    let line = log.lines().rev().find(|line| line.contains("damaged")).unwrap_or_default();
    let first = file.components().next().unwrap().as_os_str().to_string_lossy();
    for part in [&*first, "nightjar store export", "nightjar store set-aside"] {
        assert!(line.contains(part), "{what}: the line must have {part:?}: {line}");
    }
    let run = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        let output = command.args(["store", verb, "--data"]).arg(broker.data()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{what}: {verb}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let exported = run("export");
    assert!(exported.ends_with("# end\n"), "{what}: the export is not whole");
    // Tables whose file is full of zeros are merely empty tables: only the journal knows better.
    assert!(!first.starts_with("journal") || exported.contains("damage "), "{what}: the export says what is damaged");
    assert!(exported.lines().count() > 3, "{what}: nothing was exported");
    let said = run("set-aside");
    let aside = PathBuf::from(said.trim().rsplit(" is now ").next().unwrap());
    assert!(aside.join(file).exists() && !broker.data().exists(), "{what}: the damaged copy must be kept: {said}");
    fs::create_dir_all(broker.data()).unwrap();
    fs::remove_dir_all(aside).unwrap();
}

/// False: this damage changes nothing in this file.
fn spoil(path: &Path, damage: Damage) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let before = fs::read(path).unwrap();
    let length = before.len() as u64;
    match damage {
        Damage::Zeros => file.write_all_at(&vec![0; before.len()], 0).unwrap(),
        Damage::Half => file.set_len(length / 2).unwrap(),
        Damage::Empty => file.set_len(0).unwrap(),
        Damage::Hole => {
            let hole = before.len().min(4096);
            file.write_all_at(&vec![0; hole], (length - hole as u64) / 2 / 4096 * 4096).unwrap();
        }
    }
    fs::read(path).unwrap() != before
}

/// The journal ends in the middle of a record: cut off without asking, nothing before it is lost.
#[test]
fn damaged_torn_tail_is_repaired_without_asking() {
    let mut broker = Broker::with(&["store.checkpoint_interval=1h", "store.shards=1"]);
    let mut s = Connect::v311("kept").persistent().open(&broker);
    s.subscribe("q", 1);
    s.disconnect();
    let mut p = broker.v311("p");
    for n in 0..100 {
        p.publish("q", n.to_string(), 1);
    }
    broker.kill();
    // What a process that was killed, or a power cut, leaves of a record that was being written: its first bytes.
    let journal = broker.data().join("journal-0000000000000001");
    let content = fs::read(&journal).unwrap();
    let last = content.windows(4).rposition(|window| window == b"NJR1").expect("a record begins with this");
    let end = last + 32 + u32::from_le_bytes(content[last + 4..last + 8].try_into().unwrap()) as usize;
    let mut next = content[last..end].to_vec();
    next[16] += 1;
    let file = File::options().write(true).open(&journal).unwrap();
    file.write_all_at(&next[..next.len() / 2], end as u64).unwrap();
    broker.again();
    let mut s = Connect::v311("kept").persistent().open(&broker);
    assert!(s.session_present);
    for n in 0..100 {
        s.expect_payload(n.to_string());
    }
    s.expect_nothing();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in files_of(from) {
        fs::create_dir_all(to.join(&file).parent().unwrap()).unwrap();
        fs::copy(from.join(&file), to.join(&file)).unwrap();
    }
    fs::create_dir_all(to.join("sled/blobs")).unwrap();
}

/// All files below a folder, as paths inside it, in order.
fn files_of(folder: &Path) -> BTreeSet<PathBuf> {
    let mut out = BTreeSet::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                // The socket of the admin door is no file.
                out.insert(entry.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    out
}
