//! `nightjar import mosquitto` as a command: what it writes, what it refuses, and how it exits.

use super::names_in;
use nightjar::config::{Config, Sources};
use nightjar_mqtt::QoS;
use nightjar_policy::{Policy, Rules, Who};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// A folder with mosquitto's files.
struct Moving {
    folder: TempDir,
}

impl Moving {
    fn of(conf: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mosquitto.conf"), conf.replace("{folder}", &folder.path().to_string_lossy()))
            .unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn import(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
        command.args(["import", "mosquitto", "--conf"]).arg(self.path("mosquitto.conf"));
        command.arg("--out").arg(self.path("out")).args(arguments).env_clear();
        command.output().unwrap()
    }

    /// Imports; gives the report without the folder's path.
    #[track_caller]
    fn report(&self, arguments: &[&str]) -> String {
        let done = self.import(arguments);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        String::from_utf8(done.stdout).unwrap().replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// Imports in vain; gives what is told, without the folder's path.
    #[track_caller]
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.import(arguments);
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        String::from_utf8(done.stderr).unwrap().replace(&format!("{}/", self.folder.path().display()), "")
    }

    fn config(&self) -> Config {
        let sources = Sources { file: Some(self.path("out/nightjar.toml")), ..Sources::default() };
        Config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
    }

    /// A database of format 6: its head, and one retained message.
    fn database(&self) -> Vec<u8> {
        let mut bytes = b"\0\xb5\0mosquitto db\0\0\0\0\0\0\0\x06".to_vec();
        bytes.extend(b"\0\0\0\x01\0\0\0\x10\x01\0\0\0\0\0\0\0\x01\x08\0\0\0\0\0\0");
        bytes.extend(
            b"\0\0\0\x02\0\0\0\x24\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\x01\x01txyz",
        );
        bytes.extend(b"\0\0\0\x04\0\0\0\x08\x01\0\0\0\0\0\0\0");
        fs::write(self.path("mosquitto.db"), &bytes).unwrap();
        bytes
    }
}

const CONF: &str = "listener 1883 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}\nmax_inflight_messages 7\n";

#[test]
fn what_is_written_is_a_configuration_and_a_store() {
    let moving = Moving::of(CONF);
    moving.database();
    let report = moving.report(&[]);
    assert!(report.contains("mosquitto.conf:1: listener: honoured: listeners.mqtt-1883 at 127.0.0.1:1883"), "{report}");
    assert!(report.contains("mosquitto.conf:5: max_inflight_messages: honoured: session.max_inflight"), "{report}");
    assert!(
        report.contains("database: mosquitto.db, format 6\n") && report.contains(" 1 retained messages"),
        "{report}"
    );
    let config = moving.config();
    assert_eq!((config.session.max_inflight, config.node.data), (7, moving.path("out/data")));
    let names = names_in(&moving.path("out"));
    assert_eq!(names, ["data", "nightjar.toml"]);
    let mut export = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    let export = export.args(["store", "export", "--data"]).arg(moving.path("out/data")).output().unwrap();
    assert!(export.status.success() && String::from_utf8_lossy(&export.stdout).contains("row "));
}

#[test]
fn a_dry_run_writes_nothing() {
    let moving = Moving::of(CONF);
    moving.database();
    let report = moving.report(&["--dry-run"]);
    assert!(
        report.contains(" 1 retained messages") && report.ends_with("nothing was written (--dry-run)\n"),
        "{report}"
    );
    assert_eq!(names_in(moving.folder.path()), ["mosquitto.conf", "mosquitto.db"]);
}

#[test]
fn what_is_there_is_not_replaced() {
    let moving = Moving::of(CONF);
    moving.database();
    moving.report(&[]);
    let told = moving.refused(1, &[]);
    assert!(told.contains("out/nightjar.toml: is there already; --force replaces it"), "{told}");
    assert!(told.contains("out/data: holds something already"), "{told}");
    let told = moving.refused(1, &["--force"]);
    assert!(!told.contains("nightjar.toml") && told.contains("out/data: holds something already"), "{told}");
    assert!(moving.report(&["--dry-run"]).contains("in the way: out/data"));
    // Without the store in the way, --force is enough.
    fs::remove_dir_all(moving.path("out/data")).unwrap();
    fs::write(moving.path("out/nightjar.toml"), "nonsense").unwrap();
    moving.report(&["--force"]);
    assert_eq!(moving.config().session.max_inflight, 7);
}

#[test]
fn a_bad_configuration_is_told_line_by_line() {
    let moving = Moving::of("listener many\n# fine\nmax_qos 3\npersistance true\n");
    let told = moving.refused(2, &[]);
    assert_eq!(
        told,
        "mosquitto.conf:3: max_qos: expected a whole number from 0 to 2, found \"3\"\n\
         mosquitto.conf:4: \"persistance\": expected an option of mosquitto 2.0 or 2.1\n\
         nothing was imported: 2 mistakes in mosquitto's configuration\n"
    );
    assert!(!moving.path("out").exists());
    fs::remove_file(moving.path("mosquitto.conf")).unwrap();
    assert!(moving.refused(2, &[]).starts_with("mosquitto.conf: is not there"));
}

#[test]
fn a_bad_database_is_told_with_its_offset_and_leaves_nothing() {
    let moving = Moving::of(CONF);
    let whole = moving.database();
    for (bytes, told) in [
        (&whole[..whole.len() - 1], "mosquitto.db: at offset 99: retained message: expected 8 bytes, found 7"),
        (&b"SQLite format 3\0 and more of it"[..], "mosquitto.db: at offset 0: expected mosquitto's database"),
        (&whole[..23], "mosquitto.db: at offset 23: expected a configuration chunk"),
        (&[], "mosquitto.db: at offset 0: header: expected 23 bytes, found 0"),
    ] {
        fs::write(moving.path("mosquitto.db"), bytes).unwrap();
        let found = moving.refused(2, &[]);
        assert!(found.starts_with(told), "{found}");
        assert!(!moving.path("out").exists());
    }
}

#[test]
fn a_database_can_be_named_and_must_then_be_there() {
    let moving = Moving::of("");
    moving.database();
    let named = moving.path("mosquitto.db");
    assert!(moving.report(&["--db", named.to_str().unwrap()]).contains(" 1 retained messages"));
    let other = Moving::of(CONF);
    assert!(other.refused(2, &["--db", other.path("none").to_str().unwrap()]).starts_with("none: is not there"));
    // One that the configuration names may not have been written yet; that is told aloud.
    assert!(other.report(&[]).contains("NO DATA WAS FOUND: mosquitto.db is not there"));
}

#[test]
fn where_nobody_could_come_in_a_password_file_is_made() {
    let moving = Moving::of("listener 1883 0.0.0.0\nplugin /usr/lib/some.so\n");
    let report = moving.report(&[]);
    assert!(report.contains("nightjar passwd add out/passwords NAME"), "{report}");
    assert_eq!(moving.config().auth.password_file, Some(moving.path("out/passwords")));
    assert!(report.contains("EVERYTHING IS DENIED by out/rules"), "{report}");
    assert!(!report.contains("must be mended"), "{report}");
    assert_eq!(moving.config().access.rules, Some(moving.path("out/rules")));
    let rules = fs::read_to_string(moving.path("out/rules")).unwrap();
    let rules = Rules::parse("rules", &rules).unwrap();
    let who = Who { user: Some("ann"), client_id: "c", groups: &[], grants: None };
    assert!(!Policy::Rules(rules).rights(&who).publish("ann/a", QoS::AtMostOnce, false));
    fs::write(moving.path("out/rules"), "allow user ann to all on a\n").unwrap();
    fs::write(moving.path("out/passwords"), "ann:x\n").unwrap();
    moving.report(&["--force"]);
    assert_eq!(fs::read_to_string(moving.path("out/rules")).unwrap(), "allow user ann to all on a\n", "rules stay");
    assert_eq!(fs::read_to_string(moving.path("out/passwords")).unwrap(), "ann:x\n", "users stay");
}

#[test]
fn what_a_start_would_find_wrong_is_told() {
    let moving = Moving::of("listener 1883 127.0.0.1\npassword_file {folder}/none\nacl_file {folder}/acl\n");
    fs::write(moving.path("acl"), "user ann\ntopic sometimes a/#\n").unwrap();
    let report = moving.report(&[]);
    assert!(report.contains("before it can start, this must be mended:"), "{report}");
    assert!(report.contains("none: is not there") && report.contains("acl:2: expected read, write"), "{report}");
}

#[test]
fn queues_are_bounded_so_that_nothing_is_lost() {
    let moving = Moving::of(&format!("{CONF}max_queued_messages 1\nmax_inflight_messages 1\n"));
    let mut bytes = moving.database();
    bytes.extend(b"\0\0\0\x06\0\0\0\x19\0\0\0\0\0\0\0\0\xff\xff\xff\xff\0\x05\0\x01\0\0\0\0\0\0\0\0c");
    for packet_id in 1..=5 {
        bytes.extend(b"\0\0\0\x03\0\0\0\x11\x01\0\0\0\0\0\0\0\0");
        bytes.extend([packet_id, 0, 1, 1, 11, 0, 1, b'c']);
    }
    fs::write(moving.path("mosquitto.db"), bytes).unwrap();
    let report = moving.report(&[]);
    assert!(report.contains("note: session.queue_messages = 10, not 2: a session has 5 messages"), "{report}");
    assert!(report.contains(" 5 queued messages"), "{report}");
    assert_eq!(moving.config().session.queue_messages, 10);
}

#[test]
fn a_package_of_debian_is_imported() {
    let moving = Moving::of(
        "# as Debian ships it\npid_file /run/mosquitto/mosquitto.pid\n\npersistence true\npersistence_location {folder}/\n\n\
         log_dest file /var/log/mosquitto/mosquitto.log\n\ninclude_dir {folder}/conf.d\n",
    );
    moving.database();
    fs::create_dir(moving.path("conf.d")).unwrap();
    fs::write(moving.path("conf.d/README"), "not me\n").unwrap();
    fs::write(moving.path("conf.d/local.conf"), "listener 1884 127.0.0.1\nallow_anonymous true\n").unwrap();
    let report = moving.report(&[]);
    for line in [
        "mosquitto.conf:2: pid_file: unsupported: ",
        "mosquitto.conf:7: log_dest: unsupported: ",
        "mosquitto.conf:9: include_dir: honoured: ",
        "conf.d/local.conf:1: listener: honoured: listeners.mqtt-1884 at 127.0.0.1:1884",
    ] {
        assert!(report.contains(line), "{line}:\n{report}");
    }
}
