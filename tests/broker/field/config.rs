//! F67 and F68: what a configuration with mistakes, or files that cannot be read, is told.

use crate::support::broker::free_port;
use crate::support::secrets::{Authority, password_line};
use crate::support::{Broker, Connect};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
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

const USER: u32 = 61_234;

/// What `serve` and `check-config` say as another user than root: exit code and text.
fn as_user(verb: &str, config: &Path) -> (Option<i32>, String) {
    // The program may be where that user cannot look.
    let program = config.parent().unwrap().join("nightjar");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_nightjar"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new(program).args([verb, "--config"]).arg(config).uid(USER).gid(USER).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), text)
}

#[test]
fn f67_a_file_that_cannot_be_read_is_told_with_owner_and_mode() {
    if !rustix::process::geteuid().is_root() {
        return println!("only root can give a file to somebody else");
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = |name: &str| folder.path().join(name);
    let port = free_port();
    let (passwords, config, data) = (path("passwords"), path("nightjar.toml"), path("data"));
    fs::create_dir(&data).unwrap();
    chown(&data, Some(USER), Some(USER)).unwrap();
    let text = format!(
        "[listeners.main]\naddress = \"127.0.0.1:{port}\"\n[node]\ndata = \"{}\"\n[auth]\npassword_file = \"{}\"\n[admin]\naddress = \"off\"\n",
        data.display(),
        passwords.display()
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = |parts: &[&str]| {
        for verb in ["serve", "check-config"] {
            let (code, text) = as_user(verb, &config);
            assert_eq!(code, Some(2), "{verb}: {text}");
            for part in parts {
                assert!(text.contains(part), "{verb} must say {part:?}: {text}");
            }
            let told = text.lines().filter(|line| line.contains("passwords")).count();
            assert_eq!(told, 1, "in one line: {text}");
            assert!(!text.contains("listening"), "{text}");
        }
    };
    let name = passwords.to_string_lossy().into_owned();
    refused(&[&name, "auth.password_file"]);
    fs::create_dir(&passwords).unwrap();
    refused(&[&name, "auth.password_file", "is a folder"]);
    fs::remove_dir(&passwords).unwrap();
    fs::write(&passwords, password_line("ann", "pw")).unwrap();
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o600)).unwrap();
    refused(&[&name, "auth.password_file", &format!("we are user {USER}"), "belongs to user 0", "0600"]);
    // Its own: that is how it should be.
    chown(&passwords, Some(USER), Some(USER)).unwrap();
    let (code, text) = as_user("check-config", &config);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("WARN"), "{text}");
    // The data folder is somebody else's.
    chown(&data, Some(0), Some(0)).unwrap();
    let (code, text) = as_user("serve", &config);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains(&*data.to_string_lossy()) && !text.contains("listening"), "{text}");
}

#[test]
fn f67_a_key_that_everybody_can_read_is_a_warning() {
    let authority = Authority::new();
    let server = authority.sign("localhost", 1);
    let config = "[listeners.main]\naddress = \"127.0.0.1:{port}\"\nanonymous = true\n\
        [listeners.tls]\naddress = \"unix:{folder}/tls\"\nanonymous = true\ncertificate = \"{folder}/server.crt\"\n\
        key = \"{folder}/server.key\"\n";
    let mut broker = Broker::configured(config, &[("server.crt", &server.certificate), ("server.key", &server.key)]);
    assert!(!broker.log().contains(" WARN "), "{}", broker.log());
    fs::set_permissions(broker.scratch().join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    broker.restart();
    broker.wait_log(&["WARN", "private key", "server.key"]);
    Connect::v5("c").open(&broker).ping();
}

#[test]
fn f68_two_tables_that_want_one_port_and_bad_addresses_are_told_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let path = folder.path().join("two.toml");
    let text = format!(
        "[listeners.one]\naddress = \"127.0.0.1:{port}\"\n\n[listeners.two]\naddress = \"127.0.0.1:{port}\"\n\n\
         [listeners.three]\naddress = \"localhost\"\nproxy_protocol = \"yes\"\n"
    );
    fs::write(&path, text).unwrap();
    let address = format!("127.0.0.1:{port}");
    refused(&path, &["two.toml:8", "listeners.three.address", "two.toml:9", "proxy_protocol", "true or false"]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split("[listeners.three]").next().unwrap()).unwrap();
    refused(&path, &["two.toml:5", "listeners.two.address", &address, "listeners.one"]);
}
