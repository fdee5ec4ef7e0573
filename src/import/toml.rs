//! The config file that is written: tables of settings, in order.

use std::fmt::Write as _;

/// A config file in the making.
#[derive(Debug, Default)]
pub(super) struct Toml {
    tables: Vec<(String, Vec<(String, String)>)>,
}

impl Toml {
    /// Sets `key` of `table` to a value that is TOML already; what was set before is replaced.
    pub(super) fn set(&mut self, table: &str, key: &str, value: impl Into<String>) {
        let at = match self.tables.iter().position(|(name, _)| name == table) {
            Some(at) => at,
            None => {
                self.tables.push((table.to_owned(), Vec::new()));
                self.tables.len() - 1
            }
        };
        let settings = &mut self.tables[at].1;
        match settings.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value.into(),
            None => settings.push((key.to_owned(), value.into())),
        }
    }

    /// Takes a table out.
    pub(super) fn remove(&mut self, table: &str) {
        self.tables.retain(|(name, _)| name != table);
    }

    /// Sets a text.
    pub(super) fn text(&mut self, table: &str, key: &str, text: &str) {
        self.set(table, key, quote(text));
    }

    /// Sets a list of texts.
    pub(super) fn texts(&mut self, table: &str, key: &str, texts: &[String]) {
        let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
        let value = match &quoted[..] {
            [_, _, ..] if quoted.iter().map(String::len).sum::<usize>() > 80 => {
                format!("[\n    {},\n]", quoted.join(",\n    "))
            }
            _ => format!("[{}]", quoted.join(", ")),
        };
        self.set(table, key, value);
    }

    /// The file, below `head`, whose lines are comments.
    pub(super) fn finish(&self, head: &str) -> String {
        let mut text: String = head.lines().map(|line| format!("# {line}\n")).collect();
        for (table, settings) in &self.tables {
            let _ = writeln!(text, "\n[{table}]");
            for (key, value) in settings {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
        text
    }
}

/// A TOML string of the config file, in which `${` is no variable.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.replace("${", "$${").chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Config, Sources};

    #[test]
    fn texts_are_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nightjar.toml");
        for text in ["plain", "a \"b\" \\ c", "${HOME}", "$${X}", "tab\there", "ü", "$", "a${", "$$${A}${"] {
            let mut toml = Toml::default();
            toml.text("auth", "jwt_issuer", text);
            toml.texts("auth", "jwt_algorithms", &["HS256".to_owned()]);
            std::fs::write(&file, toml.finish("one\ntwo")).unwrap();
            let loaded = Config::load(&Sources { file: Some(file.clone()), ..Sources::default() }).unwrap();
            assert_eq!(loaded.config.auth.jwt_issuer.as_deref(), Some(text));
        }
    }
}
