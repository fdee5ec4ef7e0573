//! F67: files and folders that this user may not use, told in one line that says who would have to change what.

use super::Setup;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// Somebody who owns nothing here.
const NOBODY: u32 = 65_534;

/// Runs `check-config` and `serve` as a user whom modes bind, and gives what they said on their way to exit code 2.
fn refused(setup: &Setup, arguments: &[&str]) -> String {
    let (_place, program) = program_for_all();
    fs::set_permissions(setup.folder.path(), Permissions::from_mode(0o755)).unwrap();
    let mut told = Vec::new();
    for command in ["check-config", "serve"] {
        let mut run = Command::new(&program);
        run.arg(command).args(arguments).env_clear().current_dir("/");
        if rustix::process::geteuid().is_root() {
            run.uid(NOBODY).gid(NOBODY);
        }
        let done = run.output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        told.push(String::from_utf8(done.stderr).unwrap());
    }
    assert_eq!(told[0], told[1], "the same text from both commands");
    told.remove(0)
}

/// The program where anybody may run it.
fn program_for_all() -> (TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("nightjar");
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    // Not by `fs::copy`: a test that forks meanwhile would hold the copy open for writing, and then it does not run.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_nightjar")).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    (place, program)
}

fn user() -> u32 {
    if rustix::process::geteuid().is_root() { NOBODY } else { rustix::process::geteuid().as_raw() }
}

fn one_line_with(told: &str, parts: &[&str]) {
    let first = told.lines().next().unwrap();
    for part in parts {
        assert!(first.contains(part), "{part:?} in {told}");
    }
}

#[test]
fn f67_config_file_that_may_not_be_read() {
    let setup = Setup::file("");
    let file = setup.path();
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    let told = refused(&setup, &["--config", file.to_str().unwrap()]);
    let owner = format!("it belongs to user {}", rustix::process::geteuid().as_raw());
    let we = format!("we are user {}", user());
    one_line_with(&told, &[file.to_str().unwrap(), "permission denied", "needs read access", &we, &owner, "mode 0000"]);
}

#[test]
fn f67_data_folder_that_may_not_be_written() {
    let setup = Setup::nothing();
    let data = setup.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o555)).unwrap();
    let told = refused(&setup, &["--data", data.to_str().unwrap()]);
    let we = format!("we are user {}", user());
    one_line_with(&told, &[data.to_str().unwrap(), "needs read, write and search access", &we, "mode 0555"]);
}

#[test]
fn f67_data_folder_that_cannot_be_made() {
    let setup = Setup::nothing();
    let closed = setup.folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let data = closed.join("deep/data");
    let told = refused(&setup, &["--data", data.to_str().unwrap()]);
    let on = format!("needs write and search access on {} to make it", closed.display());
    one_line_with(&told, &[data.to_str().unwrap(), &on, "mode 0555"]);
}

#[test]
fn f67_data_folder_that_is_a_file() {
    let setup = Setup::file("");
    let file = setup.path();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let told = refused(&setup, &["--data", file.to_str().unwrap()]);
    one_line_with(&told, &["node.data", "is no folder", "mode 0644"]);
}
