//! Files of options, as mosquitto reads them: a name, a space, the rest of the line. `include_dir` brings in more.

use crate::config::access;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest file that is taken for a config file: a mistaken path may lead to anything.
const LONGEST: u64 = 16 << 20;

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: Arc<Path>,
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One option as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) place: Place,
    pub(crate) name: String,
    /// What follows the name, without white space at its ends.
    pub(crate) rest: String,
    /// The files that an `include_dir` brings in.
    pub(crate) included: Vec<Vec<Line>>,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) place: Option<Place>,
    pub(crate) what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// The lines of the main file, with those of the files that it includes.
pub(crate) fn read(path: &Path, wrong: &mut Vec<Wrong>) -> Vec<Line> {
    file(path, true, wrong)
}

fn file(path: &Path, main: bool, wrong: &mut Vec<Wrong>) -> Vec<Line> {
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(what) => {
            wrong.push(Wrong { place: None, what: format!("{}: {what}", path.display()) });
            return Vec::new();
        }
    };
    let name: Arc<Path> = path.into();
    let mut lines = Vec::new();
    for (number, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let place = Place { file: Arc::clone(&name), line: number + 1 };
        match line(bytes, place.clone()) {
            Ok(Some(line)) => lines.push(line),
            Ok(None) => continue,
            Err(what) => wrong.push(Wrong { place: Some(place), what }),
        }
        if let Some(line) = lines.last_mut()
            && line.name == "include_dir"
        {
            include(line, main, wrong);
        }
    }
    lines
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let found = fs::metadata(path).map_err(|error| access::explain(path, "read", &error))?;
    if !found.is_file() {
        return Err("expected a file".to_owned());
    }
    if found.len() > LONGEST {
        return Err(format!("expected a config file, found one of {} bytes", found.len()));
    }
    fs::read(path).map_err(|error| access::explain(path, "read", &error))
}

/// A comment begins with `#` as the very first character: anywhere else it belongs to the value.
fn line(bytes: &[u8], place: Place) -> Result<Option<Line>, String> {
    if bytes.starts_with(b"#") {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "expected text in UTF-8".to_owned())?;
    let text = text.trim_end_matches('\r').trim_start_matches(' ');
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    if name.is_empty() {
        return Ok(None);
    }
    let rest = rest.trim_matches([' ', '\t']).to_owned();
    Ok(Some(Line { place, name: name.to_owned(), rest, included: Vec::new() }))
}

fn include(line: &mut Line, main: bool, wrong: &mut Vec<Wrong>) {
    let mut refuse = |what: String| wrong.push(Wrong { place: Some(line.place.clone()), what });
    if !main {
        return refuse("include_dir: expected in the main file alone".to_owned());
    }
    if line.rest.is_empty() {
        return refuse("include_dir: expected a folder, found nothing".to_owned());
    }
    match files(Path::new(&line.rest)) {
        Ok(files) => line.included = files.iter().map(|path| file(path, false, wrong)).collect(),
        Err(what) => refuse(format!("include_dir: {}: {what}", line.rest)),
    }
}

/// The files of a folder that mosquitto includes, in its order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| access::explain(folder, "read", &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name.len() > ".conf".len() && name.as_encoded_bytes().ends_with(b".conf") {
            names.push(name);
        }
    }
    names.sort_by(|one, other| order(one.as_encoded_bytes(), other.as_encoded_bytes()));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Letters of both cases together, the upper one first.
fn order(one: &[u8], other: &[u8]) -> std::cmp::Ordering {
    let pair = |&byte: &u8| (byte.to_ascii_uppercase(), byte);
    one.iter().map(pair).cmp(other.iter().map(pair))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read_all(path: &Path) -> (Vec<Line>, Vec<String>) {
        let mut wrong = Vec::new();
        let lines = read(path, &mut wrong);
        (lines, wrong.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn lines_are_names_and_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.conf");
        fs::write(&path, b"# a comment \xff\n\n  listener 1883  \r\n   \nremote_password a # b\t\nlog_type\n").unwrap();
        let (lines, wrong) = read_all(&path);
        assert_eq!(wrong, [""; 0]);
        let short: Vec<_> = lines.iter().map(|line| (line.place.line, &*line.name, &*line.rest)).collect();
        assert_eq!(short, [(3, "listener", "1883"), (5, "remote_password", "a # b"), (6, "log_type", "")]);
    }

    #[test]
    fn text_that_is_none_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.conf");
        fs::write(&path, b"port 1883\nuser \xff\n").unwrap();
        assert_eq!(read_all(&path).1, [format!("{}:2: expected text in UTF-8", path.display())]);
        assert!(read_all(folder.path()).1[0].ends_with(": expected a file"));
        assert!(read_all(&folder.path().join("none")).1[0].contains("is not there"));
    }

    #[test]
    fn a_folder_is_included_in_mosquittos_order_and_only_once_deep() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("conf.d");
        fs::create_dir(&inner).unwrap();
        for name in ["b.conf", "B.conf", "a.conf", "A.conf", "C.conf", ".conf", "x.txt", "ab.conf"] {
            fs::write(inner.join(name), format!("user {name}\n")).unwrap();
        }
        fs::write(inner.join("z.conf"), "include_dir /tmp\n").unwrap();
        let path = folder.path().join("m.conf");
        fs::write(&path, format!("port 1\ninclude_dir {}\nport 2\n", inner.display())).unwrap();
        let (lines, wrong) = read_all(&path);
        assert_eq!(lines.len(), 3);
        let users: Vec<_> = lines[1].included.iter().flatten().map(|line| &*line.rest).collect();
        assert_eq!(users[..6], ["A.conf", "a.conf", "ab.conf", "B.conf", "b.conf", "C.conf"]);
        assert_eq!(
            wrong,
            [format!("{}:1: include_dir: expected in the main file alone", inner.join("z.conf").display())]
        );
    }
}
