//! The examples of `docs/bridges.md`, as they stand there: each is a config file without a mistake.

use super::Setup;
use nightjar::config::Config;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Where the examples have their files.
const FOLDER: &str = "/etc/nightjar";

fn page() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bridges.md")).unwrap()
}

/// The program, with the authorities in `folder` for those of the system.
fn nightjar(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nightjar"));
    command.args(arguments).env_clear().env("SSL_CERT_FILE", folder.join("tls/ca.crt")).output().unwrap()
}

/// Makes the files in `folder` that the page names: certificates in `tls`, and passwords.
fn make_files(folder: &Path, page: &str) {
    let made = nightjar(folder, &["cert", "dev", folder.join("tls").to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    let opening = format!("\"{FOLDER}/");
    let named = page.split(&opening).skip(1).filter_map(|rest| rest.split('"').next());
    for name in named.filter(|name| !name.starts_with("tls/")) {
        fs::write(folder.join(name), "secret\n").unwrap();
    }
}

#[test]
fn every_example_is_a_configuration_without_a_mistake() {
    let page = page();
    let folder = tempfile::tempdir().unwrap();
    make_files(folder.path(), &page);
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(example, _)| example).collect();
    assert!(examples.len() > 5, "{examples:#?}");
    for example in examples {
        let setup = Setup::file(&example.replace(FOLDER, folder.path().to_str().unwrap()));
        let checked = nightjar(folder.path(), &["check-config", "--config", setup.path().to_str().unwrap()]);
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(0), "{example}\n{told}");
    }
}

#[test]
fn every_preset_has_its_example() {
    let (page, manual) = (page(), Config::manual());
    let row = manual.lines().find(|line| line.starts_with("| `preset` |")).unwrap();
    let (_, names) = row.split_once("one of ").unwrap();
    let presets: Vec<&str> = names.split('"').skip(1).step_by(2).filter(|name| *name != "none").collect();
    assert!(presets.len() > 4, "{presets:?}");
    for preset in presets {
        assert!(page.contains(&format!("preset = \"{preset}\"\n")), "{preset} has no example");
    }
}
