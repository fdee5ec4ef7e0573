//! What people deploy: that the files in `deploy/` say what is so, and, with `NIGHTJAR_DOCKER=1`, that they work.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod compose;
mod engine;
mod files;
mod metrics;
mod pods;
#[path = "../support/mod.rs"]
mod support;
mod up;
mod watched;

use std::fs;
use std::path::{Path, PathBuf};
use yaml_rust2::{Yaml, YamlLoader};

/// A path from the top of the source tree.
fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The one document of a YAML file.
fn yaml(path: &str) -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path}");
    documents.remove(0)
}

/// Every file below a folder, by its path from the top of the tree, whose name ends so.
fn files(folder: &str, ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(at(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&path, ends));
        } else if ends.iter().any(|end| path.ends_with(end)) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The texts of a list.
fn texts(list: &Yaml) -> Vec<&str> {
    list.as_vec().map(|items| items.iter().filter_map(Yaml::as_str).collect()).unwrap_or_default()
}

/// The keys of a map.
fn keys(map: &Yaml) -> Vec<&str> {
    map.as_hash().map(|map| map.keys().filter_map(Yaml::as_str).collect()).unwrap_or_default()
}
