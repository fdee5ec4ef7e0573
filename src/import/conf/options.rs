//! Options with their values, each put to the listener, bridge or plugin that it belongs to.

use super::grammar::{Line, Place, Wrong, read};
use super::table::{self, Kind, Known, REPEATED, Scope};
use crate::telemetry::escape;
use std::path::Path;

/// A value as its kind has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Flag(bool),
    Number(i64),
    Text(String),
}

/// One option of the file.
#[derive(Clone, Debug)]
pub(crate) struct Opt {
    pub(crate) place: Place,
    /// As it stands in the file.
    pub(crate) name: String,
    pub(crate) known: &'static Known,
    pub(crate) value: Value,
}

impl Opt {
    /// The value as text; empty if it is none.
    pub(crate) fn text(&self) -> &str {
        if let Value::Text(text) = &self.value { text } else { "" }
    }
}

/// The options of one listener, of one bridge, or of the broker: their numbers in [`Conf::options`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Group(Vec<usize>);

/// The whole configuration.
#[derive(Debug, Default)]
pub(crate) struct Conf {
    /// All options, in the order of the files.
    pub(crate) options: Vec<Opt>,
    pub(crate) global: Group,
    pub(crate) listeners: Vec<Group>,
    pub(crate) bridges: Vec<Group>,
    /// Which of the listeners is the one that no `listener` line made.
    pub(crate) default_listener: Option<usize>,
    /// Whether security options belong to listeners.
    pub(crate) per_listener: bool,
}

/// What options that come next belong to; each file begins anew.
#[derive(Default)]
struct Current {
    listener: Option<usize>,
    bridge: Option<usize>,
}

impl Conf {
    /// Reads it, or tells all that is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, Vec<Wrong>> {
        let mut wrong = Vec::new();
        let lines = read(path, &mut wrong);
        let mut conf = Self::default();
        conf.take(lines, &mut wrong);
        if wrong.is_empty() { Ok(conf) } else { Err(wrong) }
    }

    fn take(&mut self, lines: Vec<Line>, wrong: &mut Vec<Wrong>) {
        let mut current = Current::default();
        for mut line in lines {
            let included = std::mem::take(&mut line.included);
            let place = line.place.clone();
            if let Err(what) = self.put(line, &mut current) {
                wrong.push(Wrong { place: Some(place), what });
            }
            for lines in included {
                self.take(lines, wrong);
            }
        }
    }

    fn put(&mut self, line: Line, current: &mut Current) -> Result<(), String> {
        let Line { place, name, rest, .. } = line;
        let Some(known) = table::find(&name) else {
            return Err(format!("{}: expected an option of mosquitto 2.0 or 2.1", escape(&name)));
        };
        let value = value(known.kind, &rest).map_err(|expected| {
            format!(
                "{name}: expected {expected}, found {}",
                if rest.is_empty() { "nothing".into() } else { found(known, &rest) }
            )
        })?;
        if known.name == "per_listener_settings" && value == Value::Flag(true) {
            self.per_listener = true;
        }
        let number = self.options.len();
        let scope = if known.scope == Scope::Security && self.per_listener && known.name != "global_plugin" {
            Scope::Listener
        } else {
            known.scope
        };
        let group = match scope {
            Scope::Bridge => self.bridge(known, &name, current)?,
            Scope::Listener => self.listener(known, current),
            Scope::Global | Scope::Security | Scope::Plugin => &mut self.global,
        };
        group.0.push(number);
        self.options.push(Opt { place, name, known, value });
        Ok(())
    }

    fn bridge(&mut self, known: &Known, name: &str, current: &mut Current) -> Result<&mut Group, String> {
        if known.name == "connection" {
            self.bridges.push(Group::default());
            current.bridge = Some(self.bridges.len() - 1);
        }
        let at = current.bridge.ok_or_else(|| format!("{name}: expected a `connection NAME` line above it"))?;
        Ok(&mut self.bridges[at])
    }

    fn listener(&mut self, known: &Known, current: &mut Current) -> &mut Group {
        let at = match (known.name, current.listener) {
            ("listener", _) => {
                self.listeners.push(Group::default());
                self.listeners.len() - 1
            }
            ("port" | "bind_address", _) | (_, None) => *self.default_listener.get_or_insert_with(|| {
                self.listeners.push(Group::default());
                self.listeners.len() - 1
            }),
            (_, Some(at)) => at,
        };
        current.listener = Some(at);
        &mut self.listeners[at]
    }

    /// The numbers of all options of a group with this name, in order.
    pub(crate) fn all<'c>(&'c self, group: &'c Group, name: &'c str) -> impl Iterator<Item = usize> + use<'c> {
        group.0.iter().copied().filter(move |&at| self.options[at].known.means == name)
    }

    /// All options of a group.
    pub(crate) fn each<'c>(&'c self, group: &'c Group) -> impl Iterator<Item = usize> + use<'c> {
        group.0.iter().copied()
    }

    /// The option of a group with this name: the last, if it stands more than once.
    pub(crate) fn last(&self, group: &Group, name: &str) -> Option<usize> {
        self.all(group, name).last()
    }

    /// Options that a later one of the same name in the same group replaces, each with its successor.
    pub(crate) fn replaced(&self, group: &Group) -> Vec<(usize, usize)> {
        let name = |at: usize| self.options[at].known.means;
        let single = |&at: &usize| !REPEATED.contains(&name(at)) && self.options[at].known.fate.is_none();
        let successor = |at: usize| self.last(group, name(at)).filter(|&last| last != at);
        self.each(group).filter(single).filter_map(|at| Some((at, successor(at)?))).collect()
    }

    /// The value of a flag.
    pub(crate) fn flag(&self, group: &Group, name: &str) -> Option<bool> {
        match self.options[self.last(group, name)?].value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// The value of a number.
    pub(crate) fn number(&self, group: &Group, name: &str) -> Option<i64> {
        match self.options[self.last(group, name)?].value {
            Value::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The value of a text.
    pub(crate) fn text(&self, group: &Group, name: &str) -> Option<&str> {
        self.last(group, name).map(|at| self.options[at].text())
    }
}

/// The value in `rest`, or what was expected.
fn value(kind: Kind, rest: &str) -> Result<Value, String> {
    let word = rest.split(' ').next().unwrap_or_default();
    match kind {
        Kind::Flag => match word {
            "true" | "1" => Ok(Value::Flag(true)),
            "false" | "0" => Ok(Value::Flag(false)),
            _ => Err("true or false".to_owned()),
        },
        Kind::Number(from, to) => match number(word).filter(|number| (from..=to).contains(number)) {
            Some(number) => Ok(Value::Number(number)),
            None if from <= i64::from(i32::MIN) => Err(format!("a whole number up to {to}")),
            None => Err(format!("a whole number from {from} to {to}")),
        },
        Kind::Text if rest.is_empty() => Err("a value".to_owned()),
        Kind::Text => Ok(Value::Text(rest.to_owned())),
        Kind::Word(words) if words.contains(&word) => Ok(Value::Text(word.to_owned())),
        Kind::Word(words) => Err(format!("one of {}", words.join(", "))),
    }
}

/// A whole number as C writes them: decimal, `0x` hexadecimal, `0` octal.
pub(crate) fn number(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let radix =
        |digits: &str, radix| i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']));
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(digits) => radix(digits, 16)?,
        None if digits.len() > 1 && digits.starts_with('0') => radix(digits, 8)?,
        None => radix(digits, 10)?,
    };
    number.checked_mul(sign)
}

/// A wrong value for a message; secrets are not repeated.
fn found(known: &Known, rest: &str) -> String {
    match known.means {
        "remote_password" | "local_password" | "bridge_psk" | "bridge_identity" | "plugin_opt_*" => {
            "another".to_owned()
        }
        _ => escape(rest).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(crate) fn conf(text: &str) -> Result<Conf, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.conf");
        std::fs::write(&path, text).unwrap();
        let shorten = |wrong: &Wrong| wrong.to_string().replace(&format!("{}:", path.display()), "");
        Conf::read(&path).map_err(|all| all.iter().map(shorten).collect())
    }

    #[test]
    fn options_belong_to_what_stands_above_them() {
        let text = "max_connections 5\nlistener 1884\nmax_connections 6\nport 1885\nconnection b\naddress h\nallow_anonymous true\n";
        let conf = conf(text).unwrap();
        assert_eq!((conf.listeners.len(), conf.bridges.len(), conf.default_listener), (2, 1, Some(0)));
        assert_eq!(conf.number(&conf.listeners[0], "max_connections"), Some(5));
        assert_eq!(conf.number(&conf.listeners[0], "port"), Some(1885));
        assert_eq!(conf.number(&conf.listeners[1], "max_connections"), Some(6));
        assert_eq!(conf.text(&conf.bridges[0], "address"), Some("h"));
        assert_eq!(conf.flag(&conf.global, "allow_anonymous"), Some(true));
    }

    #[test]
    fn with_per_listener_settings_security_belongs_to_listeners() {
        let conf =
            conf("per_listener_settings true\nlistener 1\npassword_file a\nlistener 2\npassword_file b\n").unwrap();
        let files: Vec<_> = conf.listeners.iter().map(|group| conf.text(group, "password_file").unwrap()).collect();
        assert_eq!(files, ["a", "b"]);
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "persistence maybe\nmax_qos 3\naddress h\nnonsense 1\nprotocol smtp\nuser\nsys_interval ten\nport 0x75b # c\n";
        assert_eq!(
            conf(text).unwrap_err(),
            [
                "1: persistence: expected true or false, found \"maybe\"",
                "2: max_qos: expected a whole number from 0 to 2, found \"3\"",
                "3: address: expected a `connection NAME` line above it",
                "4: \"nonsense\": expected an option of mosquitto 2.0 or 2.1",
                "5: protocol: expected one of mqtt, websockets, http_api, found \"smtp\"",
                "6: user: expected a value, found nothing",
                "7: sys_interval: expected a whole number from 0 to 65535, found \"ten\"",
            ]
        );
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (text, value) in [
            ("10", Some(10)),
            ("-1", Some(-1)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("+3", Some(3)),
            ("1a", None),
            ("", None),
            ("--1", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(number(text), value, "{text}");
        }
    }

    #[test]
    fn the_last_of_two_counts() {
        let conf = conf("sys_interval 1\nsys_interval 2\nlog_type error\nlog_type debug\n").unwrap();
        assert_eq!(conf.number(&conf.global, "sys_interval"), Some(2));
        assert_eq!(conf.replaced(&conf.global), [(0, 1)]);
    }
}
