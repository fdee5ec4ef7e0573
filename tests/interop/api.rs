//! The examples of `docs/api.md` and `docs/bridges-operating.md`, as they stand there.

use super::{success, works};
use crate::support::broker::free_port;
use crate::support::{Broker, Connect, PATIENCE, wait_until};
use std::process::{Command, Stdio};

/// Each `$ ` line of the console blocks, with the lines that it is to print.
fn examples(document: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in super::examples(document, "console").lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command.to_owned(), String::new())),
            (None, Some((_, answer))) => {
                let end = if answer.is_empty() { "" } else { "\n" };
                *answer += &format!("{end}{line}");
            }
            (None, None) => panic!("an answer to nothing: {line}"),
        }
    }
    found
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut whole = rest.is_empty();
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
        whole = part.is_empty() || rest.is_empty();
    }
    whole
}

#[test]
fn patterns_fit_what_they_should() {
    assert!(fits("a…c", "abc") && fits("a…", "abc") && fits("abc", "abc"));
    assert!(!fits("a…c", "abd") && !fits("ab", "abc") && !fits("a…b", "abc"));
}

#[test]
fn the_examples_of_the_api_answer_as_the_document_says() {
    if !super::have("curl", works(Command::new("curl").arg("--version"))) {
        return;
    }
    let port = free_port();
    let broker = Broker::with(&[&format!("admin.address=127.0.0.1:{port}"), "log.level=info"]);
    let mut lamp = Connect::v311("lamp").clean(false).open(&broker);
    lamp.subscribe("home/#", 1);
    let examples = examples("docs/api.md");
    assert!(examples.len() > 8, "{examples:#?}");
    for (command, expected) in examples {
        let here = command
            .replace("nightjar-data", &broker.data().display().to_string())
            .replace("127.0.0.1:9883", &format!("127.0.0.1:{port}"));
        let shell = Command::new("bash").args(["-c", &here]).stdin(Stdio::null()).output().unwrap();
        let answer = success(&command, shell);
        assert!(fits(&expected, answer.trim_end()), "{command}\nexpected {expected}\ngot      {answer}");
    }
    lamp.expect_publish();
    lamp.expect_closed();
}

#[test]
fn bridges_are_looked_after_as_the_document_says() {
    let hub = Broker::start();
    let broker = Broker::start();
    wait_until("the admin door opens", PATIENCE, || broker.data().join("admin.sock").exists());
    let examples = examples("docs/bridges-operating.md");
    assert!(examples.len() > 8, "{examples:#?}");
    for (command, expected) in examples {
        let here = command
            .replacen("nightjar ctl", &format!("{} ctl", env!("CARGO_BIN_EXE_nightjar")), 1)
            .replace("nightjar-data", &broker.data().display().to_string())
            .replace("mqtt://hub.example", &format!("mqtt://127.0.0.1:{}", hub.port()));
        let expected = expected.replace("mqtt://hub.example:1883", &format!("mqtt://127.0.0.1:{}", hub.port()));
        let mut answer = String::new();
        // A bridge is connected a moment after it was added; who looks may look again.
        let looks = [" list", " show ", " map "].iter().any(|look| command.contains(look));
        wait_until(&format!("{command} answers\n{expected}\n"), PATIENCE, || {
            let shell = Command::new("bash").args(["-c", &here]).stdin(Stdio::null()).output().unwrap();
            answer = success(&command, shell);
            let does = fits(&expected, answer.trim_end());
            assert!(does || looks, "{command}\nexpected {expected}\ngot      {answer}");
            does
        });
    }
}
