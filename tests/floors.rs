//! The rules of the house that no compiler checks: which room may use which, who may touch the outside, how long a
//! file may be. `clippy.toml` repeats those bans that clippy can see.
//!
//! Each violation is printed with its place and the rule that it breaks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, lowest floor first. A room uses rooms of lower floors only; those of one floor are strangers.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["mqtt"],
    &["trie"],
    &["session", "router", "shard", "policy", "control"],
    &["simulation"],
    &["env"],
    &["config"],
    &["telemetry"],
    &["store", "auth", "transport"],
    &["broker"],
    &["cluster"],
    &["bridge", "admin", "import"],
    &["node"],
    &["cli"],
    &["main"],
];

/// What the pure crates may depend on (tests and examples apart): nothing here does I/O, reads a clock or starts a
/// thread.
const PURE_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("src/base", &["serde", "thiserror"]),
    ("src/mqtt", &["nightjar-base", "serde", "serde_bytes", "thiserror"]),
    ("src/core/session", &["nightjar-base", "nightjar-mqtt", "thiserror"]),
    ("src/core/trie", &["hashbrown", "smallvec"]),
    ("src/core/router", &["nightjar-mqtt", "nightjar-trie", "smallvec"]),
    ("src/core/shard", &["bincode", "nightjar-base", "nightjar-mqtt", "serde", "serde_bytes", "smallvec", "thiserror"]),
    ("src/core/control", &["bincode", "nightjar-base", "nightjar-mqtt", "nightjar-trie", "serde", "thiserror"]),
    ("src/core/policy", &["nightjar-base", "nightjar-mqtt", "serde", "thiserror"]),
    (
        "src/core/simulation",
        &[
            "bincode",
            "bytes",
            "nightjar-base",
            "nightjar-control",
            "nightjar-mqtt",
            "nightjar-router",
            "nightjar-session",
            "nightjar-shard",
        ],
    ),
];

/// Files that may be longer than `LONG`, each with its own limit and never more than `LONGEST`.
const LONG_FILES: &[(&str, usize)] = &[];
const LONG: usize = 500;
const LONGEST: usize = 700;

/// Paths that only files under the given prefix may name, and why.
const BANNED: &[(&str, &str, &str)] = &[
    ("sled", "src/store/sled", "only store/sled.rs names sled"),
    ("tonic", "src/cluster/wire/", "only cluster/wire names tonic"),
    ("prost", "src/cluster/wire/", "only cluster/wire names prost"),
    ("openraft", "src/cluster/raft/", "only cluster/raft names openraft"),
    ("tokio::net", "src/env/", "only env opens sockets"),
    ("tokio::time::Instant", "src/env/", "only env reads clocks"),
    ("Instant::now", "src/env/", "only env reads clocks"),
    ("SystemTime::now", "src/env/", "only env reads clocks"),
    ("getrandom", "src/env/", "only env reads random numbers"),
    ("thread::spawn", "src/env/", "only env starts threads"),
    ("thread::Builder", "src/env/", "only env starts threads"),
    ("tokio::spawn", "src/env/", "only env starts tasks"),
    ("tokio::task::spawn", "src/env/", "only env starts tasks"),
    ("spawn_blocking", "src/env/", "only env starts tasks"),
    ("spawn_local", "src/env/", "only env starts tasks"),
    ("unbounded_channel", "nowhere", "every queue has a bound"),
];

/// What a pure room must not even name.
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::thread", "std::process", "std::env", "std::time::Instant", "std::time::SystemTime"];

/// What is left undone, wherever it is.
const UNDONE: &[&str] = &["todo!", "unimplemented!"];

#[derive(Debug)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

/// `text` with comments, strings and characters blanked, so that what remains is code; lines stay where they are.
fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match &bytes[at..] {
            [b'/', b'/', ..] => text[at..].find('\n').map_or(bytes.len(), |length| at + length),
            [b'/', b'*', ..] => comment_end(bytes, at),
            [b'r', b'"' | b'#', ..] if !follows_name(bytes, at) => raw_string_end(text, at),
            [b'b' | b'c', b'r', b'"' | b'#', ..] if !follows_name(bytes, at) => raw_string_end(text, at + 1),
            [b'"', ..] => quoted_end(bytes, at, b'"'),
            [b'\'', b'\\', ..] => quoted_end(bytes, at, b'\''),
            [b'\'', ..] if character_ends(&text[at + 1..]) => quoted_end(bytes, at, b'\''),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole literals and comments were blanked, so whole characters")
}

fn follows_name(bytes: &[u8], at: usize) -> bool {
    at > 0 && is_name(bytes[at - 1])
}

fn is_name(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Whether `rest`, behind an apostrophe, is one character and an apostrophe: else it is a lifetime.
fn character_ends(rest: &str) -> bool {
    let mut characters = rest.chars();
    characters.next().is_some() && characters.next() == Some('\'')
}

fn comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// `start` is at the `r`; returns `start` if this is no raw string (`r#type` is a name).
fn raw_string_end(text: &str, start: usize) -> usize {
    let hashes = text[start + 1..].bytes().take_while(|&byte| byte == b'#').count();
    let open = start + 1 + hashes;
    if text.as_bytes().get(open) != Some(&b'"') {
        return start;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    text[open + 1..].find(&close).map_or(text.len(), |length| open + 1 + length + close.len())
}

/// `code` without the items that exist for tests only.
fn without_tests(code: &str) -> String {
    let mut rest = code.to_owned();
    while let Some(start) = rest.find("#[cfg(test)]") {
        let (mut depth, mut end) = (0_i32, rest.len());
        for (at, byte) in rest.bytes().enumerate().skip(start + "#[cfg(test)]".len()) {
            depth += i32::from(matches!(byte, b'{' | b'(' | b'[')) - i32::from(matches!(byte, b'}' | b')' | b']'));
            if depth <= 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        let blank: String = rest[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        rest.replace_range(start..end, &blank);
    }
    rest
}

/// Every path in `code`, with the line of its last name: `a::{b, c::d}` gives `a::b` and `a::c::d`. Macros keep their
/// exclamation mark.
fn paths(code: &str) -> Vec<(usize, String)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line, mut path) = (0, 1, String::new());
    // The paths in front of the braces that are open; `None` for a brace that belongs to no path.
    let mut open: Vec<Option<String>> = Vec::new();
    let prefix = |open: &[Option<String>]| open.last().cloned().flatten().unwrap_or_default();
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => line += 1,
            b'{' => open.push(path.ends_with("::").then(|| std::mem::take(&mut path))),
            b'}' => drop(open.pop()),
            byte if is_name(byte) => {
                let start = at;
                while at < bytes.len() && is_name(bytes[at]) {
                    at += 1;
                }
                if !path.ends_with("::") {
                    path = prefix(&open);
                }
                path.push_str(&code[start..at]);
                if bytes[at..].starts_with(b"::") {
                    path.push_str("::");
                    at += 2;
                    continue;
                }
                if bytes.get(at) == Some(&b'!') && bytes.get(at + 1) != Some(&b'=') {
                    path.push('!');
                }
                found.push((line, std::mem::take(&mut path)));
                continue;
            }
            byte if byte.is_ascii_whitespace() => {}
            // `a::*`, `a::<b>`
            _ if path.ends_with("::") => found.push((line, std::mem::take(&mut path).trim_end_matches(':').to_owned())),
            _ => {}
        }
        at += 1;
    }
    found
}

/// Whether the names of `banned` follow each other in `path`. A name alone must begin a longer path if it is a
/// crate's, since a variable or a module may be called so too.
fn names(path: &str, banned: &str) -> bool {
    match banned {
        "sled" | "getrandom" | "tonic" | "prost" | "openraft" => {
            path.strip_prefix(banned).is_some_and(|rest| rest.starts_with("::"))
        }
        _ => format!("::{path}::").contains(&format!("::{banned}::")),
    }
}

fn is_test(file: &str) -> bool {
    let apart = |part: &str| matches!(part, "tests" | "examples" | "benches" | "fuzz" | "tools");
    file.split('/').any(apart) || file.ends_with("/tests.rs")
}

fn is_pure(file: &str) -> bool {
    ["src/base/", "src/mqtt/", "src/core/"].iter().any(|pure| file.starts_with(pure))
}

/// The room that `file` is in; none for `src/lib.rs`, which only lists them, and for what is not in `src`.
fn room_of(file: &str) -> Option<&str> {
    let inside = file.strip_prefix("src/")?;
    let inside = inside.strip_prefix("core/").unwrap_or(inside);
    Some(inside.split(['/', '.']).next().unwrap_or(inside)).filter(|room| *room != "lib")
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// The room that a path in `file` leads to, if it leads out of its crate or to the top of it.
fn target<'a>(file: &str, path: &'a str) -> Option<&'a str> {
    let first = path.split("::").next().unwrap_or(path);
    if let Some(room) = first.strip_prefix("nightjar_") {
        return Some(room);
    }
    // Within a pure crate `crate::` is the room itself.
    let inside = if is_pure(file) { None } else { path.strip_prefix("crate::") };
    let top = inside.or_else(|| path.strip_prefix("nightjar::"));
    top.or_else(|| path.strip_prefix("super::super::").filter(|_| file.ends_with("/mod.rs")))
        .or_else(|| path.strip_prefix("super::").filter(|_| file.ends_with("/mod.rs") && !is_pure(file)))
        .and_then(|rest| rest.split("::").next())
        .filter(|room| floor_of(room).is_some())
}

/// Checks one source file; `file` is its path in the repository.
fn check_source(file: &str, text: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut report = |line, rule| violations.push(Violation { file: file.to_owned(), line, rule });
    let lines = text.lines().count();
    let limit = LONG_FILES.iter().find(|(long, _)| *long == file).map_or(LONG, |(_, limit)| (*limit).min(LONGEST));
    if lines > limit {
        report(limit + 1, format!("{lines} lines, more than {limit}: a file tells one story"));
    }
    let code = code(text);
    for (line, path) in paths(&code) {
        if UNDONE.contains(&path.as_str()) {
            report(line, format!("`{path}`: nothing is left undone"));
        }
        if let (Some(room), Some(other)) = (room_of(file), target(file, &path))
            && room != other
            && !is_test(file)
        {
            match (floor_of(room), floor_of(other)) {
                (Some(own), Some(below)) if below < own => {}
                (Some(_), Some(_)) => report(line, format!("`{path}`: {room} must not use {other}, see FLOORS")),
                _ => report(line, format!("`{path}`: {room} or {other} is in no list of FLOORS")),
            }
        }
    }
    if !is_test(file) {
        for (line, path) in paths(&without_tests(&code)) {
            let banned = BANNED.iter().filter(|(banned, home, _)| names(&path, banned) && !file.starts_with(home));
            for (_, _, why) in banned {
                report(line, format!("`{path}`: {why}"));
            }
            if is_pure(file) && IMPURE.iter().any(|impure| names(&path, impure)) {
                report(line, format!("`{path}`: a pure room knows no clock, disk, socket or thread"));
            }
        }
    }
    violations
}

/// Checks the `Cargo.toml` of a pure crate; `file` is its path in the repository.
fn check_manifest(file: &str, text: &str) -> Vec<Violation> {
    let folder = file.strip_suffix("/Cargo.toml").unwrap_or(file);
    let allowed = PURE_DEPENDENCIES.iter().find(|(pure, _)| *pure == folder).map_or(&[][..], |(_, allowed)| *allowed);
    let mut violations = Vec::new();
    let mut listing = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        let mut names = None;
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            let free = section.contains("dev-dependencies");
            listing = !free && section.ends_with("dependencies");
            // [dependencies.name]
            names = section.split_once("dependencies.").map(|(_, name)| name).filter(|_| !free);
        } else if listing && !line.starts_with('#') {
            names = line.split(['.', '=', ' ']).next();
        }
        let Some(name) = names.map(|name| name.trim_matches('"')).filter(|name| !name.is_empty()) else { continue };
        if !allowed.contains(&name) {
            let rule = format!("`{name}` is not in PURE_DEPENDENCIES of {folder}");
            violations.push(Violation { file: file.to_owned(), line: number, rule });
        }
    }
    violations
}

/// All sources and manifests under `folder`, by their path in the repository.
fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder of the repository can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "node_modules") && !name.starts_with('.') {
                collect(root, &path, found);
            }
        } else if name.ends_with(".rs") || name == "Cargo.toml" {
            let inside = path.strip_prefix(root).expect("walked from the root").to_string_lossy().replace('\\', "/");
            found.insert(inside, path);
        }
    }
}

#[test]
fn the_sources_keep_to_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    for folder in ["src", "tests", "examples", "tools", "fuzz"] {
        collect(root, &root.join(folder), &mut files);
    }
    assert!(files.contains_key("src/main.rs"), "the sources were found");
    let mut violations = Vec::new();
    for (file, path) in &files {
        // Somebody may be moving files while this runs.
        let Ok(text) = fs::read_to_string(path) else { continue };
        if file.ends_with(".rs") {
            violations.extend(check_source(file, &text));
        } else if is_pure(file) {
            violations.extend(check_manifest(file, &text));
        }
    }
    for (file, limit) in LONG_FILES {
        assert!(
            files.contains_key(*file) && *limit <= LONGEST,
            "{file} in LONG_FILES is gone, or its limit is too high"
        );
    }
    let list: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} violations:\n{}", list.len(), list.join("\n"));
}

/// A made-up source for each rule: what it says, where, and the line that must be found (0: none).
const MADE_UP: &[(&str, &str, usize)] = &[
    // Directions.
    ("src/store/mod.rs", "use nightjar_shard::Shard;\nuse crate::broker::Peer;", 2),
    ("src/store/mod.rs", "use crate::{\n    env,\n    node::Node,\n};", 3),
    ("src/store/mod.rs", "fn f() {\n    crate::node::start();\n}", 2),
    ("src/store/mod.rs", "use super::broker;", 1),
    ("src/store/mod.rs", "use crate::broker::*;", 1),
    ("src/store/mod.rs", "use crate::auth::User;", 1),
    ("src/store/mod.rs", "use crate::{env::{clock::Clock, task}, config};\nuse crate::store::Waiter;", 0),
    ("src/broker/mod.rs", "use crate::store::Store;\nuse nightjar_router::Router;", 0),
    ("src/core/session/src/lib.rs", "use crate::node::Tree;\nuse nightjar_mqtt::QoS;", 0),
    ("src/core/session/src/lib.rs", "use nightjar_router::Router;", 1),
    ("src/mqtt/src/lib.rs", "use nightjar_session::Session;", 1),
    ("src/main.rs", "use nightjar::cli;", 0),
    ("src/cellar/mod.rs", "use crate::store::Store;", 1),
    // The doors to the outside.
    ("src/store/journal.rs", "fn f(d: &sled::Db) {}", 1),
    ("src/store/sled.rs", "fn f(d: &sled::Db) {}", 0),
    ("src/store/journal.rs", "mod sled;\nuse self::sled::Tables; // sled::Db\nconst A: &str = \"sled::Db\";", 0),
    ("src/cluster/lease.rs", "use tonic::Status;", 1),
    ("src/cluster/lease.rs", "use prost::Message;", 1),
    ("src/cluster/wire/dial.rs", "use openraft::Raft;", 1),
    ("src/cluster/raft/group.rs", "use openraft::Raft;", 0),
    ("src/cluster/wire/dial.rs", "use tonic::Status;\nuse prost::Message;", 0),
    ("src/cluster/lease.rs", "use crate::broker::Broker;\nuse crate::admin::Health;", 2),
    ("src/broker/ports.rs", "use crate::cluster::wire::Transport;", 1),
    ("src/broker/listen.rs", "use tokio::net::TcpStream;", 1),
    ("src/broker/listen.rs", "use tokio::{\n    sync::Notify,\n    net::TcpStream,\n};", 3),
    ("src/env/net.rs", "use tokio::net::TcpStream;", 0),
    ("src/broker/peer.rs", "use tokio::time::Instant;", 1),
    ("src/broker/peer.rs", "use std::time::Instant;\nfn f() -> Instant {\n    Instant::now()\n}", 3),
    ("src/broker/peer.rs", "fn f() {\n    std::time::SystemTime::now();\n}", 2),
    ("src/broker/peer.rs", "fn f() {\n    getrandom::fill(&mut []);\n}", 2),
    ("src/broker/peer.rs", "fn f() {\n    std::thread::spawn(f);\n}", 2),
    ("src/broker/peer.rs", "fn f() {\n    tokio::spawn(async {});\n}", 2),
    ("src/broker/peer.rs", "fn f() {\n    crate::env::task::spawn(async {});\n}", 0),
    ("src/broker/peer.rs", "#[cfg(test)]\nmod tests {\n    fn f() {\n        tokio::spawn(async {});\n    }\n}", 0),
    ("src/broker/peer.rs", "#[cfg(test)]\nmod tests {}\nfn f() {\n    tokio::spawn(async {});\n}", 4),
    ("src/broker/peer.rs", "#[cfg(test)]\nfn f(a: [u8; 2]) {\n    tokio::spawn(async {});\n}", 0),
    ("src/broker/tests.rs", "fn f() { tokio::spawn(async {}); }", 0),
    ("tests/broker/main.rs", "fn f() { std::time::Instant::now(); }", 0),
    ("src/core/shard/src/lib.rs", "use std::time::{Duration, SystemTime};", 1),
    ("src/core/shard/src/lib.rs", "use std::fs;", 1),
    ("src/core/shard/examples/cost.rs", "use std::time::Instant;", 0),
    // Nothing without a bound, nothing undone; what is no code does not count.
    ("src/broker/peer.rs", "fn f() {\n    let c = tokio::sync::mpsc::unbounded_channel::<u8>();\n}", 2),
    ("src/broker/peer.rs", "use tokio::sync::mpsc::unbounded_channel;", 1),
    ("tests/broker/main.rs", "fn f() {\n    todo!()\n}", 2),
    (
        "src/broker/peer.rs",
        "fn f<'a>(c: char, s: &'a str) {\n    if c == '\"' {\n        unimplemented!()\n    }\n}",
        3,
    ),
    (
        "src/broker/peer.rs",
        "// todo!()\n/* /* */ todo!() */ const A: &str = r#\"\"todo!()\"#;\nconst B: char = '\\'';",
        0,
    ),
];

#[test]
fn each_rule_catches_a_made_up_source() {
    for (file, text, line) in MADE_UP {
        let lines: Vec<usize> = check_source(file, text).iter().map(|violation| violation.line).collect();
        let expected = if *line == 0 { vec![] } else { vec![*line] };
        assert_eq!(lines, expected, "{file}:\n{text}\n{:?}", check_source(file, text));
    }
}

#[test]
fn a_file_that_is_too_long_is_caught() {
    assert!(check_source("src/broker/peer.rs", &"\n".repeat(LONG)).is_empty());
    assert_eq!(check_source("src/broker/peer.rs", &"\n".repeat(LONG + 1))[0].line, LONG + 1);
}

#[test]
fn a_new_dependency_of_a_pure_crate_is_caught() {
    let lines = |text| check_manifest("src/core/router/Cargo.toml", text).iter().map(|v| v.line).collect::<Vec<_>>();
    assert_eq!(lines("[dependencies]\nsmallvec = \"1\"\nnightjar-mqtt.workspace = true\n"), []);
    assert_eq!(lines("[dependencies]\n# why\n\ntokio = \"1\"\n[features]\nx = []"), [4]);
    assert_eq!(
        lines("[dependencies.tokio]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\""),
        [1, 4]
    );
    assert_eq!(lines("[dev-dependencies]\ntokio = \"1\"\n[dev-dependencies.rand]\nversion = \"0.9\""), []);
}
