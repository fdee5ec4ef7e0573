//! F40 to F43: restarts and SIGKILL. What a damaged store does is F41.

use crate::support::persist::{Publisher, Subscriber};
use crate::support::{Broker, Connect, Packet, Random, Read, V5, V311, VERSIONS, ms, secs};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn f40_routes_of_absent_sessions_are_there_from_the_first_packet() {
    let mut broker = Broker::start();
    for (version, filter, hard) in VERSIONS
        .into_iter()
        .flat_map(|v| ["T", "$share/g/T", "+", "#"].map(|f| (v, f)))
        .flat_map(|(v, f)| [(v, f, false), (v, f, true)])
    {
        let connect = Connect::of(version, "a").persistent();
        let mut a = connect.open(&broker);
        assert_eq!(a.subscribe(filter, 1), 1);
        a.disconnect();
        if hard {
            broker.crash()
        } else {
            broker.restart()
        }
        let mut b = broker.v5("b");
        for n in 0..12 {
            assert_eq!(b.publish("T", n.to_string(), 1), 0, "PUBACK code; {filter}, hard {hard}");
        }
        let mut a = connect.open(&broker);
        assert!(a.resumed());
        for n in 0..12 {
            a.expect_payload(n.to_string());
        }
        a.expect_nothing_for(ms(20));
        a.disconnect();
        Connect::of(version, "a").open(&broker).disconnect();
    }
}

#[test]
fn f40_a_thousand_sessions_with_a_hundred_messages() {
    const SESSIONS: usize = 1000;
    const MESSAGES: usize = 100;
    let mut broker = Broker::start();
    let connect = |n: usize| Connect::of([V311, V5][n % 2], &format!("s{n}")).persistent();
    for n in 0..SESSIONS {
        let mut s = connect(n).open(&broker);
        s.subscribe("T", 1);
        s.disconnect();
    }
    let mut p = broker.v5("p");
    for n in 0..MESSAGES / 2 {
        assert_eq!(p.publish("T", n.to_string(), 1), 0);
    }
    broker.crash();
    let mut p = broker.v5("p");
    for n in MESSAGES / 2..MESSAGES {
        assert_eq!(p.publish("T", n.to_string(), 1), 0);
    }
    broker.restart();
    for n in 0..SESSIONS {
        let mut s = connect(n).open(&broker);
        assert!(s.session_present, "session {n}");
        for m in 0..MESSAGES {
            s.expect_payload(m.to_string());
        }
        s.disconnect();
    }
}

#[test]
fn f41_a_damaged_file_is_named_or_repaired_and_never_a_silent_empty_start() {
    let mut broker = Broker::start();
    let mut s = Connect::v311("s").persistent().open(&broker);
    s.subscribe("q", 1);
    s.disconnect();
    let mut p = broker.v311("p");
    for n in 0..50 {
        p.publish("q", n.to_string(), 1);
        p.retain(&format!("r/{n}"), "kept", 1);
    }
    broker.terminate();
    let whole = broker.scratch().join("whole");
    copy_folder(&broker.data(), &whole);
    let files = files_of(&whole);
    assert!(!files.is_empty());
    for file in files {
        for damage in ["zeros", "half", "empty"] {
            let length = fs::metadata(whole.join(&file)).unwrap().len();
            if length == 0 {
                continue;
            }
            fs::remove_dir_all(broker.data()).unwrap();
            copy_folder(&whole, &broker.data());
            damage_file(&broker.data().join(&file), damage, length);
            let what = format!("{damage} {}", file.display());
            start_on_damage(&mut broker, &file, &what);
        }
    }
}

/// Either everything is there, or the broker ends with an error that names the file and the way out, which works.
fn start_on_damage(broker: &mut Broker, file: &Path, what: &str) {
    let before = broker.log().len();
    broker.launch();
    let mut ended = None;
    crate::support::wait_until(&format!("start or end with {what}"), secs(60), || {
        if !broker.is_running() {
            ended = Some(broker.wait_exit(secs(1)));
            return true;
        }
        Connect::v311("probe").try_open(broker.port(), secs(2)).is_some()
    });
    let Some(status) = ended else {
        let mut s = Connect::v311("s").persistent().open(broker);
        assert!(s.session_present, "{what}: a silent empty start");
        for n in 0..50 {
            s.expect_payload(n.to_string());
        }
        let mut r = broker.v311("r");
        r.subscribe("r/#", 0);
        for _ in 0..50 {
            r.expect_payload("kept");
        }
        broker.kill();
        return;
    };
    assert_eq!(status.code(), Some(3), "{what}: exit code");
    let log = broker.log()[before..].to_owned();
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    assert!(log.contains(&name), "{what}: the error must name {name}: {log}");
    assert!(log.contains("store export") && log.contains("store set-aside"), "{what}: no way out named: {log}");
    let run = |verb: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nightjar"));
        command.args(["store", verb, "--data"]).arg(broker.data()).output().unwrap()
    };
    let export = run("export");
    assert!(export.status.code().is_some_and(|c| c == 0 || c == 3), "{what}: export: {export:?}");
    let aside = run("set-aside");
    assert_eq!(aside.status.code(), Some(0), "{what}: set-aside: {aside:?}");
    let kept =
        files_of(broker.scratch()).into_iter().any(|f| f.file_name() == file.file_name() && !f.starts_with("whole"));
    assert!(kept, "{what}: the damaged copy must be kept");
    broker.again();
    broker.kill();
}

fn damage_file(path: &Path, damage: &str, length: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    match damage {
        "half" => file.set_len(length / 2).unwrap(),
        "empty" => file.set_len(0).unwrap(),
        _ => {
            file.set_len(0).unwrap();
            file.set_len(length).unwrap();
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a folder, as paths inside it, in order.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut out = BTreeSet::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(&next).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                out.insert(entry.path().strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    out.into_iter().collect()
}

#[test]
fn f42_acknowledged_means_durable_and_drained_means_gone() {
    let mut random = Random(42);
    for qos in [1, 2] {
        let mut broker = Broker::start();
        let mut s = Subscriber::new(Connect::v311("s").persistent(), "s", &["t"], 2);
        s.open(broker.port(), secs(5)).expect("subscribe").disconnect();
        let mut p = Publisher::new(Connect::v5("p").persistent(), "p", "t", qos);
        for round in 0..30 {
            let kill_after = ms(random.below(60));
            let port = broker.port();
            std::thread::scope(|scope| {
                scope.spawn(|| p.run(port, &|_| false));
                std::thread::sleep(kill_after);
                broker.kill();
            });
            broker.again();
            if round % 2 == 1 {
                let half = p.acked.len() as u64 / 2;
                let target = s.delivered.len() as u64 + half.saturating_sub(s.delivered.len() as u64 / 2);
                std::thread::scope(|scope| {
                    scope.spawn(|| s.run(port, &|s| s.delivered.len() as u64 >= target));
                    std::thread::sleep(ms(random.below(60)));
                    broker.kill();
                });
                broker.again();
            }
        }
        p.finish(broker.port());
        s.drain(broker.port(), ms(500));
        let seen: Vec<u64> = s.delivered.iter().map(|d| d.seq).collect();
        let unique: BTreeSet<u64> = seen.iter().copied().collect();
        assert!(p.session_losses == 0 && s.session_losses == 0, "a session was lost");
        let lost: Vec<_> = p.acked.iter().filter(|n| !unique.contains(n)).collect();
        assert!(lost.is_empty(), "QoS {qos}: lost {lost:?} of {}", p.acked.len());
        let mut highest = 0;
        for n in &seen {
            assert!(*n <= highest + 1, "QoS {qos}: {n} after {highest}");
            highest = highest.max(*n);
        }
        if qos == 2 {
            assert_eq!(seen.len(), unique.len(), "QoS 2 duplicates");
        }
        println!("QoS {qos}: {} acknowledged, {} delivered", p.acked.len(), seen.len());
        assert!(p.acked.len() > 30, "too little load to say anything");
        let mut end = Connect::v311("s").persistent().open(&broker);
        end.expect_nothing();
    }
}

#[test]
fn f43_both_subscriptions_work_after_every_restart() {
    let mut broker = Broker::start();
    for hard in [false, true] {
        let restart = |broker: &mut Broker| if hard { broker.crash() } else { broker.restart() };
        let publish = |broker: &Broker| {
            let mut p = broker.v311("p");
            for topic in ["a", "b"] {
                for qos in [2, 1] {
                    p.publish(topic, format!("{topic}{qos}"), qos);
                }
            }
        };
        let mut s = Connect::v311("s").persistent().open(&broker);
        s.subscribe("a", 2);
        s.subscribe("b", 1);
        s.disconnect();
        publish(&broker);
        restart(&mut broker);
        for _ in 0..3 {
            let mut s = Connect::v311("s").persistent().open(&broker);
            assert!(s.session_present);
            expect_round(&mut s);
            publish(&broker);
            expect_round(&mut s);
            assert_eq!(s.read_packet(ms(50)), Read::Timeout);
            s.disconnect();
            publish(&broker);
            restart(&mut broker);
        }
        Connect::v311("s").open(&broker).disconnect();
    }
}

/// One of each: `a` at the QoS of the message, `b` at 1. Order is promised within a topic and a QoS only.
fn expect_round(s: &mut crate::support::Client) {
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let Packet::Publish(m) = s.recv() else { panic!("expected PUBLISH") };
        assert!(seen.insert((m.text(), m.qos)), "{m:?} twice");
    }
    let right = [("a1", 1), ("a2", 2), ("b1", 1), ("b2", 1)].map(|(t, q)| (t.to_owned(), q));
    assert_eq!(seen, BTreeSet::from(right));
}
