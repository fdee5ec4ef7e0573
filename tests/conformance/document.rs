//! `docs/conformance.md` is complete, and names tests that there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

const DOCUMENT: &str = "docs/conformance.md";

/// The statements of a version: section, first number, last number.
type Sections = &'static [(&'static str, u32, u32)];

const V311: Sections = &[
    ("1.5.3", 1, 3),
    ("2.2.2", 1, 2),
    ("2.3.1", 1, 7),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 24),
    ("3.1.3", 1, 11),
    ("3.1.4", 1, 5),
    ("3.2.0", 1, 1),
    ("3.2.2", 1, 6),
    ("3.3.1", 1, 12),
    ("3.3.2", 1, 3),
    ("3.3.4", 1, 1),
    ("3.3.5", 1, 2),
    ("3.6.1", 1, 1),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 4),
    ("3.8.4", 1, 6),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.12.4", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.4", 1, 3),
    ("4.1.0", 1, 2),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 2),
    ("4.3.3", 1, 2),
    ("4.4.0", 1, 1),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.1", 1, 3),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.0", 1, 2),
    ("6.0.0", 1, 4),
    ("7.0.0", 1, 2),
    ("7.1.1", 1, 1),
    ("7.1.2", 1, 1),
];

/// In 5.0 there is no 2.2.1-1.
const V5: Sections = &[
    ("1.5.4", 1, 3),
    ("1.5.5", 1, 1),
    ("1.5.7", 1, 1),
    ("2.1.3", 1, 1),
    ("2.2.1", 2, 6),
    ("2.2.2", 1, 1),
    ("3.1.0", 1, 2),
    ("3.1.2", 1, 30),
    ("3.1.3", 1, 12),
    ("3.1.4", 1, 6),
    ("3.2.0", 1, 2),
    ("3.2.2", 1, 22),
    ("3.3.1", 1, 13),
    ("3.3.2", 1, 20),
    ("3.3.4", 1, 10),
    ("3.4.2", 1, 3),
    ("3.5.2", 1, 3),
    ("3.6.1", 1, 1),
    ("3.6.2", 1, 3),
    ("3.7.2", 1, 3),
    ("3.8.1", 1, 1),
    ("3.8.3", 1, 5),
    ("3.8.4", 1, 8),
    ("3.9.2", 1, 2),
    ("3.9.3", 1, 2),
    ("3.10.1", 1, 1),
    ("3.10.3", 1, 2),
    ("3.10.4", 1, 6),
    ("3.11.2", 1, 2),
    ("3.11.3", 1, 2),
    ("3.12.4", 1, 1),
    ("3.14.0", 1, 1),
    ("3.14.1", 1, 1),
    ("3.14.2", 1, 4),
    ("3.14.4", 1, 3),
    ("3.15.1", 1, 1),
    ("3.15.2", 1, 3),
    ("4.1.0", 1, 2),
    ("4.2.0", 1, 1),
    ("4.3.1", 1, 1),
    ("4.3.2", 1, 5),
    ("4.3.3", 1, 13),
    ("4.4.0", 1, 2),
    ("4.5.0", 1, 2),
    ("4.6.0", 1, 6),
    ("4.7.0", 1, 1),
    ("4.7.1", 1, 2),
    ("4.7.2", 1, 1),
    ("4.7.3", 1, 4),
    ("4.8.2", 1, 6),
    ("4.9.0", 1, 3),
    ("4.12.0", 1, 7),
    ("4.12.1", 1, 2),
    ("4.13.1", 1, 1),
    ("4.13.2", 1, 1),
    ("6.0.0", 1, 4),
];

/// One row of the document: its place, the statement in our words, and what shows it.
struct Row<'a> {
    version: &'a str,
    section: &'a str,
    id: &'a str,
    statement: &'a str,
    shown: &'a str,
}

/// The rows under `## MQTT 3.1.1` and `## MQTT 5.0`, each table under its `### section`.
fn rows(text: &str) -> Vec<Row<'_>> {
    let (mut version, mut section, mut rows) = ("", "", Vec::new());
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## MQTT ") {
            version = heading.split_whitespace().next().unwrap();
        } else if let Some(heading) = line.strip_prefix("### ") {
            section = heading.split_whitespace().next().unwrap();
        } else if line.starts_with("| MQTT-") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [id, statement, shown] = cells[..] else { panic!("three cells expected: {line}") };
            rows.push(Row { version, section, id, statement, shown });
        }
    }
    rows
}

/// The tests that a cell names, as file and function.
fn tests(shown: &str) -> Vec<(&str, &str)> {
    shown.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::")).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The functions of a file that are tests, property tests included.
fn test_functions(source: &str) -> BTreeSet<String> {
    let mut marked = false;
    let mut found = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        match line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ") {
            Some(rest) if marked => {
                found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
                marked = false;
            }
            _ if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => marked = true,
            _ if line.starts_with("#[") || line.starts_with("//") => {}
            _ => marked = false,
        }
    }
    found
}

#[test]
fn every_named_test_exists() {
    let text = read(DOCUMENT);
    let mut files: HashMap<&str, BTreeSet<String>> = HashMap::new();
    let mut missing = Vec::new();
    for row in rows(&text) {
        let named = tests(row.shown);
        assert!(
            !named.is_empty() || row.shown.starts_with("does not apply: ") || row.shown.starts_with("not yet: "),
            "{} of {} names no test and gives no reason",
            row.id,
            row.version
        );
        for (file, function) in named {
            let functions = files.entry(file).or_insert_with(|| test_functions(&read(file)));
            if !functions.contains(function) {
                missing.push(format!("{}: {file}::{function}", row.id));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn every_statement_has_its_row() {
    let text = read(DOCUMENT);
    for (version, sections, count) in [("3.1.1", V311, 141), ("5.0", V5, 251)] {
        let mut expected = BTreeMap::new();
        for (section, first, last) in sections {
            for n in *first..=*last {
                expected.insert(format!("MQTT-{section}-{n}"), *section);
            }
        }
        assert_eq!(expected.len(), count, "statements of {version}");
        let mut seen = BTreeMap::new();
        for row in rows(&text).into_iter().filter(|row| row.version == version) {
            assert!(!row.statement.is_empty(), "{} says nothing", row.id);
            assert_eq!(seen.insert(row.id.to_owned(), row.section), None, "{} of {version} twice", row.id);
        }
        let missing: Vec<_> = expected.keys().filter(|id| !seen.contains_key(*id)).collect();
        assert!(missing.is_empty(), "{version} lacks {missing:?}");
        for (id, section) in seen {
            assert_eq!(expected.get(&id), Some(&section), "{id} of {version} stands in section {section}");
        }
    }
}

#[test]
fn every_test_of_this_suite_is_named() {
    let text = read(DOCUMENT);
    let named: BTreeSet<&str> = rows(&text).iter().flat_map(|row| tests(row.shown)).map(|(_, f)| f).collect();
    for file in ["behaviour", "connect", "flow", "format", "leave", "publish", "subscribe"] {
        for function in test_functions(&read(&format!("tests/conformance/{file}.rs"))) {
            assert!(named.contains(function.as_str()), "{file}.rs: {function} shows nothing");
        }
    }
}

#[test]
fn the_totals_are_those_of_the_tables() {
    let text = read(DOCUMENT);
    let all = rows(&text);
    for version in ["3.1.1", "5.0"] {
        let of: Vec<_> = all.iter().filter(|row| row.version == version).collect();
        let not_yet = of.iter().filter(|row| row.shown.starts_with("not yet: ")).count();
        let other = of.iter().filter(|row| row.shown.starts_with("does not apply: ")).count();
        let line = format!("| {version} | {} | {} | {other} | {not_yet} |", of.len(), of.len() - other - not_yet);
        assert!(text.contains(&line), "expected this line of the totals: {line}");
    }
}
