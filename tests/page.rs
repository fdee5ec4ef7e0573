//! The dashboard in a real browser: on a stand-in for the admin door, and on a broker.
//!
//! A missing browser is a failure, unless `NIGHTJAR_SKIP_BROWSER=1` says that this machine need not have one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use support::broker::free_port;
use support::{Broker, Connect};

const SKIP: &str = "NIGHTJAR_SKIP_BROWSER";
const TOKEN: &str = "a-token-for-the-test-of-the-page";
/// A session whose client is away; its identifier would be markup if anything read it as such.
const SESSION: &str = "away <img src=x onerror=alert(1)>";

/// The command for one of the scripts; `None` when this machine may go without.
fn script(name: &str) -> Option<Command> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "page"].iter().collect();
    let works = |program: &str| Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    let there = works("node") && works(&chromium) && folder.join("node_modules/playwright-core").exists();
    if !there {
        let how = "apt-get install chromium nodejs npm; npm ci --prefix tests/page";
        assert!(std::env::var(SKIP).is_ok_and(|v| v == "1"), "the browser is missing ({how}); {SKIP}=1 goes without");
        println!("skipped: the browser is missing");
        return None;
    }
    let mut command = Command::new("node");
    command.arg(folder.join(name)).stdin(Stdio::null());
    Some(command)
}

fn run(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("ok: "), "{text}");
}

#[test]
fn every_screen_on_a_stand_in() {
    if let Some(command) = script("screens.mjs") {
        run(command);
    }
}

#[test]
fn the_page_of_a_broker() {
    let Some(mut command) = script("broker.mjs") else { return };
    let port = free_port();
    let address = format!("admin.address=127.0.0.1:{port}");
    let token = format!("admin.token={TOKEN}");
    let bridge = ["bridges.hub.address=mqtt://127.0.0.1:1", "bridges.hub.topics=bridged/# out 1 \"\" far/"];
    let broker = Broker::with(&[&address, &token, bridge[0], bridge[1]]);
    let mut away = Connect::v5(SESSION).clean(true).expiry(3600).open(&broker);
    away.subscribe("page/#", 1);
    away.disconnect();
    command.args([&format!("http://127.0.0.1:{port}/"), TOKEN, SESSION]);
    run(command);
}
