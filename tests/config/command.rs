//! The program itself: what it prints and how it exits.

use super::Setup;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn nightjar(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nightjar")).args(arguments).env_clear().output().unwrap()
}

/// What both commands say about a config file that is not to be used: nothing may be started by either.
fn refused_by_both(file: &Path) -> String {
    let file = file.to_str().unwrap();
    let serve = nightjar(&["serve", "--config", file]);
    let check = nightjar(&["check-config", "--config", file]);
    assert_eq!(serve.status.code(), Some(2));
    assert_eq!(check.status.code(), Some(2));
    assert_eq!(serve.stderr, check.stderr, "the same text from both commands");
    assert!(serve.stdout.is_empty());
    String::from_utf8(serve.stderr).unwrap()
}

#[test]
fn f68_config_file_is_not_there() {
    let setup = Setup::nothing();
    let told = refused_by_both(&setup.path());
    assert!(told.starts_with(&format!("{}: is not there; needs read access", setup.path().display())), "{told}");
}

#[test]
fn f68_config_file_is_a_folder() {
    let setup = Setup::nothing();
    let told = refused_by_both(setup.folder.path());
    assert!(told.starts_with(&format!("{}: is a folder, expected a file", setup.folder.path().display())), "{told}");
}

#[test]
fn f68_an_include_that_is_not_there() {
    let setup = Setup::file("# a\ninclude = [\"more.toml\"]\n");
    let told = refused_by_both(&setup.path());
    let missing = setup.folder.path().join("more.toml");
    assert!(told.contains(&format!("{}: is not there", missing.display())), "{told}");
}

#[test]
fn f68_unknown_key_on_line_7() {
    let setup = Setup::file("# a\n# b\n# c\n# d\n# e\n[store]\nshard = 16\n");
    let told = refused_by_both(&setup.path());
    assert!(told.contains("nightjar.toml:7: store.shard: no such setting; did you mean store.shards?"), "{told}");
}

#[test]
fn f68_value_of_the_wrong_type() {
    let setup = Setup::file("[store]\nshards = \"many\"\n");
    let told = refused_by_both(&setup.path());
    assert!(
        told.contains("nightjar.toml:2: store.shards: expected a whole number from 1 to 1024, found \"many\""),
        "{told}"
    );
}

#[test]
fn f68_two_listeners_on_one_port() {
    let setup =
        Setup::file("[listeners.a]\naddress = \"127.0.0.1:1883\"\n[listeners.b]\naddress = \"127.0.0.1:1883\"\n");
    let told = refused_by_both(&setup.path());
    assert!(told.contains("nightjar.toml:4: listeners.b.address: 127.0.0.1:1883 is taken by listeners.a"), "{told}");
}

#[test]
fn f68_text_that_is_no_toml() {
    let setup = Setup::file("[store]\nshards = [\n");
    let told = refused_by_both(&setup.path());
    assert!(told.contains("nightjar.toml:2: ") || told.contains("nightjar.toml:3: "), "{told}");
    fs::write(setup.path(), b"[store]\nshards = \xff\n").unwrap();
    assert!(refused_by_both(&setup.path()).contains("expected text in UTF-8"));
    fs::write(setup.path(), "[store]\nshards = 1\nshards = 2\n").unwrap();
    assert!(refused_by_both(&setup.path()).contains("nightjar.toml:3: "));
}

#[test]
fn a_good_config_is_told_to_be_good() {
    let setup = Setup::file("[store]\nshards = 4\n");
    let file = setup.path();
    let checked = nightjar(&["check-config", "--config", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(String::from_utf8(checked.stdout).unwrap().ends_with("no mistakes found\n"));
    let effective = nightjar(&["check-config", "--config", file.to_str().unwrap(), "--effective"]);
    assert!(String::from_utf8(effective.stdout).unwrap().contains("shards = 4 # "));
}

#[test]
fn checking_makes_no_data_folder() {
    let setup = Setup::nothing();
    let data = setup.folder.path().join("data");
    let checked = nightjar(&["check-config", "--data", data.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert!(!data.exists());
}

#[test]
fn rescue_work_on_what_is_no_data_folder_is_refused() {
    let setup = Setup::file("");
    for folder in [setup.folder.path().to_owned(), setup.path(), setup.folder.path().join("none")] {
        for command in ["export", "set-aside"] {
            let done = nightjar(&["store", command, "--data", folder.to_str().unwrap()]);
            assert_eq!(done.status.code(), Some(1), "{done:?}");
            assert!(String::from_utf8_lossy(&done.stderr).contains(folder.to_str().unwrap()), "{done:?}");
        }
    }
    assert!(setup.path().exists());
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [&["serve", "--bogus"][..], &["bogus"], &["store", "export"], &["serve", "--listen"]] {
        assert_eq!(nightjar(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn the_version_and_the_help_have_what_is_looked_for() {
    let version = String::from_utf8(nightjar(&["version"]).stdout).unwrap();
    assert_eq!(version, format!("nightjar {}\n", env!("CARGO_PKG_VERSION")));
    for command in [
        &["--help"][..],
        &["serve", "--help"],
        &["check-config", "--help"],
        &["store", "--help"],
        &["import", "mosquitto", "--help"],
    ] {
        let help = String::from_utf8(nightjar(command).stdout).unwrap();
        assert!(help.contains("Examples:"), "{command:?}");
    }
}
