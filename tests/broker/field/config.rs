//! F68: what a wrong configuration is told.

use crate::support::broker::free_port;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

fn run(verb: &str, config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nightjar")).args([verb, "--config"]).arg(config).output().unwrap()
}

/// Both commands refuse with exit code 2, and each part is named by both.
fn refused(config: &Path, parts: &[&str]) {
    let mut texts = Vec::new();
    for verb in ["serve", "check-config"] {
        let output = run(verb, config);
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{verb}: {text}");
        for part in parts {
            assert!(text.contains(part), "{verb} must name {part:?}: {text}");
        }
        assert!(!text.contains("panicked") && !text.contains("32765"), "{text}");
        texts.push(text);
    }
    assert_eq!(texts[0], texts[1], "both commands say the same");
}

#[test]
fn f68_every_fault_of_a_config_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let missing = folder.path().join("missing.toml");
    refused(&missing, &["missing.toml"]);
    refused(folder.path(), &[&folder.path().to_string_lossy()]);

    let port = free_port();
    let unknown = write(
        "unknown.toml",
        &format!(
            "[[listeners]]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\n[session]\nqueue_qos0 = false\nmax_inflihgt = 5\n"
        ),
    );
    refused(&unknown, &["unknown.toml", "7", "max_inflihgt", "max_inflight"]);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "nothing was started");

    let wrong =
        write("wrong.toml", "[mqtt]\nmax_qos = \"two\"\nreceive_maximum = 0\n\n[limits]\nconnect_timeout = 10\n");
    refused(&wrong, &["wrong.toml", "max_qos"]);
    let impossible = write("impossible.toml", "[mqtt]\nreceive_maximum = 0\nmax_qos = 7\n");
    refused(&impossible, &["impossible.toml", "receive_maximum", "max_qos"]);

    let address = format!("127.0.0.1:{port}");
    let listener = format!("[[listeners]]\naddress = \"{address}\"\nanonymous = true\n");
    let twice = write("twice.toml", &format!("{listener}\n{listener}"));
    refused(&twice, &["twice.toml", &address]);

    let open = write("open.toml", "[[listeners]]\naddress = \"0.0.0.0:1883\"\n");
    refused(&open, &["0.0.0.0:1883", "anonymous"]);

    let broken = write("broken.toml", "[mqtt]\nmax_qos = = 2\n");
    refused(&broken, &["broken.toml", "2"]);
}

#[test]
fn f68_an_unknown_variable_or_flag_value_is_refused_too() {
    for (name, value, parts) in [
        ("NIGHTJAR_SESSION__MAX_INFLIHGT", "5", ["MAX_INFLIHGT", "max_inflight"]),
        ("NIGHTJAR_MQTT__MAX_QOS", "many", ["max_qos", "many"]),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_nightjar")).arg("check-config").env(name, value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in parts {
            assert!(text.contains(&part.to_lowercase()), "{part:?} must be named: {text}");
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_nightjar"))
        .args(["serve", "--set", "mqtt.max_qoss=1", "--set", "store.shards=0"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("max_qoss") && text.contains("shards"), "all at once: {text}");
}
