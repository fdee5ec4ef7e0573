//! What was changed of bridges while the broker ran, over the config file.

use super::Setup;
use std::fs;
use std::path::PathBuf;

const BRIDGE: &str = "[bridges.hub]\naddress = \"mqtt://one\"\ntopics = [\"a/# out 1\"]\nkeep_alive = \"10s\"\n";

/// A config file, and in the data folder what was changed.
fn changed(config: &str, changes: &str) -> Setup {
    let mut setup = Setup::file(config);
    let data = setup.folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("bridges.toml"), changes).unwrap();
    setup.sources.data = Some(data);
    setup
}

fn file(setup: &Setup) -> PathBuf {
    setup.folder.path().join("data/bridges.toml")
}

/// Every mistake as a line, the path of the changes taken off.
fn mistakes(setup: &Setup) -> Vec<String> {
    setup.mistakes().iter().map(|line| line.replace(&format!("{}:", file(setup).display()), "CHANGES:")).collect()
}

#[test]
fn changes_lie_over_the_file_and_under_everything_else() {
    let changes = "[bridges.hub]\nkeep_alive = \"20s\"\nmode = \"paused\"\nclean_start = true\n\
                   [bridges.new]\naddress = \"mqtt://two\"\ntopics = [\"b/# in 1\"]\npassword = \"${HOME}\"\nusername = \"u\"\n";
    let setup = changed(BRIDGE, changes)
        .variable("NIGHTJAR_BRIDGES__HUB__MODE", "draining")
        .variable("HOME", "/root")
        .set("bridges.hub.clean_start=false");
    let config = setup.config();
    let [hub, new] = &config.bridges[..] else { panic!("{:?}", config.bridges) };
    assert_eq!((hub.keep_alive, hub.clean_start), (20, false));
    assert_eq!((hub.topics.len(), new.topics.len()), (1, 1));
    assert_eq!(new.password.as_ref().map(|password| password.reveal()), Some("${HOME}"), "nothing is filled in");
    let effective = setup.load().unwrap().effective();
    for line in [
        format!("keep_alive = \"20s\" # {}:2", file(&setup).display()),
        format!("address = [\"mqtt://two:1883\"] # {}:6", file(&setup).display()),
        format!("address = [\"mqtt://one:1883\"] # {}:2", setup.path().display()),
        "mode = \"draining\" # environment NIGHTJAR_BRIDGES__HUB__MODE".to_owned(),
        "clean_start = false # --set".to_owned(),
        format!("password = \"***\" # {}:8", file(&setup).display()),
    ] {
        assert!(effective.lines().any(|found| found == line), "{line}\nin\n{effective}");
    }
}

#[test]
fn a_removed_bridge_is_as_if_it_were_not_configured() {
    let setup = changed(BRIDGE, "[bridges.hub]\nremoved = true\n").variable("NIGHTJAR_BRIDGES__HUB__MODE", "draining");
    assert!(setup.config().bridges.is_empty());
    assert_eq!(changed(BRIDGE, "[bridges.hub]\nremoved = false\n").config().bridges.len(), 1);
}

#[test]
fn changes_of_a_bridge_that_has_left_the_file_mean_nothing() {
    let setup = changed("", "[bridges.hub]\nmode = \"paused\"\n[bridges.old]\nremoved = true\n");
    assert!(setup.config().bridges.is_empty());
}

#[test]
fn mistakes_in_the_changes_are_told_with_their_place() {
    let config = format!("{BRIDGE}removed = true\n");
    assert_eq!(changed(&config, "").mistakes(), ["FILE:5: bridges.hub.removed: no such setting"]);
    let changes = "[bridges.hub]\nkeep_alive = 5\nremoved = 1\nmodee = \"paused\"\n[store]\nshards = 3\n";
    assert_eq!(
        mistakes(&changed(BRIDGE, changes)),
        [
            "CHANGES:2: bridges.hub.keep_alive: expected a duration of whole seconds from 1s to 65535s, as \"60s\", found 5",
            "CHANGES:3: bridges.hub.removed: expected true or false, found 1",
            "CHANGES:4: bridges.hub.modee: no such setting; did you mean bridges.hub.mode?",
            "CHANGES:6: store.shards: expected tables as [bridges.hub], and no other setting in this file",
        ]
    );
    let told = mistakes(&changed(BRIDGE, "[bridges.hub\n"));
    assert!(told[0].starts_with("CHANGES:1: "), "{told:?}");
}

#[test]
fn without_a_folder_or_on_no_disk_there_are_no_changes() {
    let mut setup = changed(BRIDGE, "[bridges.hub]\nmode = \"nonsense\"\n");
    assert_eq!(mistakes(&setup).len(), 1);
    setup.sources.set.push("store.durability=memory".to_owned());
    setup.config();
    let mut setup = Setup::file(BRIDGE);
    setup.sources.data = Some(setup.folder.path().join("none"));
    assert_eq!(setup.config().bridges.len(), 1);
}
