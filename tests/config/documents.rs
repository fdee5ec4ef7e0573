//! The documents that anybody meets first say what is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manifests of the workspace.
fn manifests() -> Vec<PathBuf> {
    let workspace = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    let members = members.trim_matches(['[', ']']).split(',').map(|member| member.trim().trim_matches('"'));
    members.map(|member| root().join(member).join("Cargo.toml")).collect()
}

#[test]
fn every_dependency_is_accounted_for() {
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut seen = 0;
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        let mut table = "";
        for line in text.lines() {
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']');
            } else if table.ends_with("dependencies")
                && let Some((name, _)) = line.split_once('=')
            {
                let name = name.trim().trim_end_matches(".workspace");
                seen += 1;
                let accounted = name.starts_with("nightjar-") || reasons.contains(&format!("`{name}`"));
                assert!(accounted, "{name} of {} has no line in docs/dependencies.md", manifest.display());
            }
        }
    }
    assert!(seen > 20, "the manifests were not read: {seen}");
}

#[test]
fn the_readme_points_to_what_is_there() {
    for document in ["README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_there = target.starts_with("https://") || root().join(target).exists();
            assert!(is_there, "{document} points to {target}");
        }
    }
}
