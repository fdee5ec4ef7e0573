//! The config file: what it includes, the variables in it, and secrets that have files of their own.

use super::access;
use super::effective::SECRETS;
use super::kinds::Found;
use super::mistake::Mistake;
use super::reader::{Gathered, Origin};
use config::{File, FileFormat, Map, Source, Value, ValueKind};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The key at the top of a file that names more files.
const INCLUDE: &str = "include";

/// Reads a config file and what it includes.
///
/// What is included lies over the file that includes it, in the order of the list, and of the names where a `*` stands
/// for several. Included files include nothing.
pub(super) fn read(
    path: &Path,
    environment: &[(OsString, OsString)],
    gathered: &mut Gathered,
) -> Result<(), Vec<Mistake>> {
    one(path, environment, gathered).map_err(|mistake| vec![mistake])?;
    let Some((found, origin)) = gathered.values.remove(INCLUDE) else { return Ok(()) };
    let patterns = match found {
        Found::List(list) => list,
        Found::Text(pattern) | Found::Bare(pattern) => vec![pattern],
        other => {
            let problem = format!("expected a list of files, as [\"conf.d/*.toml\"], found {}", other.describe());
            gathered.mistakes.push(Mistake { origin: Some(origin), key: INCLUDE.to_owned(), problem });
            return Ok(());
        }
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut mistakes = Vec::new();
    for pattern in &patterns {
        let files = match matching(&folder.join(pattern)) {
            Ok(files) => files,
            Err(problem) => {
                mistakes.push(Mistake { origin: Some(origin.clone()), key: INCLUDE.to_owned(), problem });
                continue;
            }
        };
        for file in files {
            if let Err(mistake) = one(&file, environment, gathered) {
                mistakes.push(mistake);
            }
            if let Some((_, origin)) = gathered.values.remove(INCLUDE) {
                let problem = "an included file includes no others".to_owned();
                mistakes.push(Mistake { origin: Some(origin), key: INCLUDE.to_owned(), problem });
            }
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// The files that `pattern` names: one that must be there, or all that match a `*` in its last part.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy();
    let Some((start, end)) = name.split_once('*') else { return Ok(vec![pattern.to_owned()]) };
    let folder = pattern.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder)
        .map_err(|error| format!("{}: {}", folder.display(), access::explain(folder, "read", &error)))?;
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end) && !path.is_dir()
    };
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(fits).collect();
    files.sort();
    Ok(files)
}

fn one(path: &Path, environment: &[(OsString, OsString)], gathered: &mut Gathered) -> Result<(), Mistake> {
    let origin = |line| Origin::File { path: path.to_owned(), line };
    let text = access::read_text(path).map_err(|problem| Mistake {
        origin: Some(origin(None)),
        key: String::new(),
        problem,
    })?;
    for (key, found, line) in parse(path, &text)? {
        let origin = origin(line);
        match filled_in(found, environment) {
            Ok(found) => drop(gathered.values.insert(key, (found, origin))),
            Err(problem) => gathered.mistakes.push(Mistake { origin: Some(origin), key, problem }),
        }
    }
    Ok(())
}

/// Every value of a file's text, and the line that it is on.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<(String, Found, Option<usize>)>, Mistake> {
    let tree = File::from_str(text, FileFormat::Toml).collect().map_err(|error| {
        let problem = error.to_string();
        let origin = Origin::File { path: path.to_owned(), line: line_in(&problem) };
        Mistake { origin: Some(origin), key: String::new(), problem: problem.trim_end().to_owned() }
    })?;
    let mut flat = Vec::new();
    flatten("", tree, &mut flat);
    let with_line = |(key, found): (String, Found)| {
        let line = line_of(text, &key);
        (key, found, line)
    };
    Ok(flat.into_iter().map(with_line).collect())
}

/// Puts variables of the environment in the place of `${NAME}` and `${NAME:-DEFAULT}`. A text that had one stands for
/// whatever type is wanted.
fn filled_in(found: Found, environment: &[(OsString, OsString)]) -> Result<Found, String> {
    match found {
        Found::Text(text) if text.contains("${") => fill_in(&text, environment).map(Found::Bare),
        Found::List(list) => {
            list.iter().map(|text| fill_in(text, environment)).collect::<Result<_, _>>().map(Found::List)
        }
        other => Ok(other),
    }
}

fn fill_in(text: &str, environment: &[(OsString, OsString)]) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // `$${` is a `${` that is meant.
            filled.push_str(&rest[..at - 1]);
            filled.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        filled.push_str(&rest[..at]);
        let Some((variable, later)) = rest[at + 2..].split_once('}') else {
            return Err("expected } behind the name of a variable; write $${ for a ${ that is meant".to_owned());
        };
        let (name, default) = variable.split_once(":-").map_or((variable, None), |(name, or)| (name, Some(or)));
        let set = environment.iter().find(|(of, _)| of == name).and_then(|(_, value)| value.to_str());
        match set.or(default) {
            Some(value) => filled.push_str(value),
            None => return Err(format!("expected the variable {name} to be set; ${{{name}:-default}} needs none")),
        }
        rest = later;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Reads the secrets that are given as files.
pub(super) fn secrets(gathered: &mut Gathered) {
    for key in SECRETS {
        let Some((found, origin)) = gathered.values.remove(&format!("{key}_file")) else { continue };
        let path = match found {
            Found::Text(path) | Found::Bare(path) => PathBuf::from(path),
            other => {
                let problem = format!("expected a path, found {}", other.describe());
                gathered.mistakes.push(Mistake { origin: Some(origin), key: format!("{key}_file"), problem });
                continue;
            }
        };
        match access::read_text(&path) {
            Ok(secret) => {
                let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
                gathered.values.insert((*key).to_owned(), (Found::Text(secret), origin));
            }
            Err(problem) => {
                let problem = format!("{}: {problem}", path.display());
                gathered.mistakes.push(Mistake { origin: Some(origin), key: format!("{key}_file"), problem });
            }
        }
    }
}

/// A tree as a list of `section.key` and value. A table with nothing in it stands for itself.
fn flatten(prefix: &str, tree: Map<String, Value>, flat: &mut Vec<(String, Found)>) {
    for (name, value) in tree {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        let found = match value.kind {
            ValueKind::Table(table) if !table.is_empty() => {
                flatten(&key, table, flat);
                continue;
            }
            ValueKind::Table(_) | ValueKind::Nil => Found::Table,
            // Listeners that need no names can be a list, and are then numbered.
            ValueKind::Array(list) if key == "listeners" && list.iter().all(is_table) => {
                let numbered = list.into_iter().enumerate().map(|(place, table)| ((place + 1).to_string(), table));
                flatten(&key, numbered.collect(), flat);
                continue;
            }
            ValueKind::Array(list) => Found::List(list.into_iter().map(|entry| entry.to_string()).collect()),
            ValueKind::Boolean(flag) => Found::Flag(flag),
            ValueKind::I64(number) => Found::Number(number.into()),
            ValueKind::I128(number) => Found::Number(number),
            ValueKind::U64(number) => Found::Number(number.into()),
            ValueKind::U128(number) => Found::Number(i128::try_from(number).unwrap_or(i128::MAX)),
            ValueKind::Float(number) => Found::Fraction(number),
            ValueKind::String(text) => Found::Text(text),
        };
        flat.push((key, found));
    }
}

fn is_table(value: &Value) -> bool {
    matches!(value.kind, ValueKind::Table(_))
}

/// The line on which `key` is set, found by its looks: the parser tells no lines of what it could read.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut table = String::new();
    let mut nearest = None;
    let mut listeners = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let full = if let Some(header) = line.strip_prefix('[') {
            table = header.trim_start_matches('[').split(']').next().unwrap_or("").trim().to_owned();
            if table == "listeners" && header.starts_with('[') {
                listeners += 1;
                table = format!("listeners.{listeners}");
            }
            table.clone()
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = name.trim().trim_matches(['"', '\'']);
            if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
        } else {
            continue;
        };
        if full == key {
            return Some(number + 1);
        }
        // An inline table, or the header, if nothing nearer comes.
        if key.strip_prefix(&full).is_some_and(|rest| rest.starts_with('.')) {
            nearest = Some(number + 1);
        }
    }
    nearest
}

/// The line that a parser's message names.
fn line_in(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("at line ")?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_by_table_and_key() {
        let text = "# shards = 1\n[node]\nshards = 2\n\n[store]\n  shards = 3 # of 16\n[listeners.main]\naddress='a'\n\
                    [[listeners]]\naddress='b'\n[[listeners]]\naddress='c'\n";
        for (key, line) in [
            ("node.shards", Some(3)),
            ("store.shards", Some(6)),
            ("store.other", Some(5)),
            ("listeners.main.address", Some(8)),
            ("listeners.1.address", Some(10)),
            ("listeners.2.address", Some(12)),
            ("listeners.2.strict", Some(11)),
            ("mqtt.max_qos", None),
        ] {
            assert_eq!(line_of(text, key), line, "{key}");
        }
    }

    #[test]
    fn variables_are_put_in() {
        let environment = [("HOST".into(), "h".into()), ("EMPTY".into(), "".into())];
        for (text, filled) in [
            ("${HOST}:${PORT:-1883}", Ok("h:1883")),
            ("a$${HOST}$", Ok("a${HOST}$")),
            ("<${EMPTY}>", Ok("<>")),
            ("${NONE}", Err("NONE")),
            ("${HOST", Err("expected }")),
        ] {
            match (fill_in(text, &environment), filled) {
                (Ok(filled), Ok(expected)) => assert_eq!(filled, expected, "{text}"),
                (Err(problem), Err(expected)) => assert!(problem.contains(expected), "{text}: {problem}"),
                (result, _) => panic!("{text}: {result:?}"),
            }
        }
    }
}
