//! The configuration as an operator meets it: files, variables, flags, the messages, the exit codes, the manual.
#![allow(clippy::unwrap_used)]

mod access;
mod bridge_examples;
mod cert;
mod cluster;
mod command;
mod documents;
mod import;
mod layers;
mod mistakes;
mod overlay;

use nightjar::config::{Config, Loaded, Mistakes, Sources};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A folder with one config file in it.
struct Setup {
    folder: TempDir,
    sources: Sources,
}

impl Setup {
    fn file(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nightjar.toml");
        fs::write(&file, text).unwrap();
        Self { folder, sources: Sources { file: Some(file), ..Sources::default() } }
    }

    fn nothing() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), sources: Sources::default() }
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((OsString::from(name), OsString::from(value)));
        self
    }

    fn set(mut self, setting: &str) -> Self {
        self.sources.set.push(setting.to_owned());
        self
    }

    fn listen(mut self, address: &str) -> Self {
        self.sources.listen.push(address.to_owned());
        self
    }

    fn anonymous(mut self) -> Self {
        self.sources.anonymous = true;
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("nightjar.toml")
    }

    fn load(&self) -> Result<Loaded, Mistakes> {
        Config::load(&self.sources)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|mistakes| panic!("{mistakes}")).config
    }

    /// Every mistake as a line, the file's path taken off.
    fn mistakes(&self) -> Vec<String> {
        let mistakes = self.load().expect_err("there are mistakes").to_string();
        mistakes.lines().map(|line| line.replace(&format!("{}:", self.path().display()), "FILE:")).collect()
    }
}

#[test]
fn without_any_configuration_it_is_the_default() {
    assert_eq!(Setup::nothing().config(), Config::default());
    assert_eq!(Setup::file("").config(), Config::default());
}

#[test]
fn the_example_file_names_every_key_with_its_default() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nightjar.toml");
    assert_eq!(fs::read_to_string(path).unwrap(), Config::example(), "run `make config-docs`");
    let sources = Sources { file: Some(path.into()), ..Sources::default() };
    let loaded = Config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.config, Config::default());
    // Every line of the effective configuration comes from the file: no key is missing in it.
    assert!(!loaded.effective().contains("# default"), "{}", loaded.effective());
}

#[test]
fn the_manual_tells_every_key() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    assert_eq!(page, Config::manual(), "run `make config-docs`");
}

#[test]
fn the_effective_configuration_is_a_file_that_gives_it_again() {
    let first = Setup::file(
        "[store]\nshards = 4\nsegment_size = \"3MB\"\n[listeners.x]\naddress = \"[::1]:1\"\nstrict = true\n",
    )
    .set("session.queue_bytes=unlimited")
    .set("mqtt.max_packet_size=unlimited")
    .variable("NIGHTJAR_NODE__DATA", "/tmp/with \"quotes\" and \\ and ü");
    let loaded = first.load().unwrap();
    let again = Setup::file(&loaded.effective()).config();
    assert_eq!(again, loaded.config);
}

/// What is in a folder, by name.
fn names_in(folder: &std::path::Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
