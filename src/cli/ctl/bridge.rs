//! `nightjar ctl bridge`: bridges to other brokers, seen and changed.

use super::client::encode;
use super::{Asker, table};
use crate::cli::Failure;
use crate::config::typed;
use clap::Subcommand;
use hyper::Method;
use serde_json::{Map, Value};

const ADD_EXAMPLES: &str = "\
Examples:
  nightjar ctl bridge add hub --address mqtts://hub.example --topic 'sensors/# out 1'
  nightjar ctl bridge add hub --address mqtt://10.0.0.1 --topic 'sensors/# out 1 \"\" plant7/' \\
      --topic 'commands/# in 1 \"\" plant7/' username=plant7 password_file=/etc/nightjar/hub.password";

const SET_EXAMPLES: &str = "\
Examples:
  nightjar ctl bridge set hub keep_alive=30s queue_messages=1000000
  nightjar ctl bridge set hub topics='[\"sensors/# out 1\", \"commands/# in 1\"]'";

const MAP_EXAMPLES: &str = "\
Examples:
  nightjar ctl bridge map hub sensors/7";

const COLUMNS: &[(&str, &str)] = &[
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("SINCE", "/since"),
    ("ADDRESS", "/address"),
    ("QUEUED", "/queue/messages"),
    ("OLDEST MS", "/queue/oldest_ms"),
    ("UNDER WAY", "/queue/under_way"),
    ("DROPPED", "/queue/dropped"),
    ("LAST ERROR", "/last_error"),
];

#[derive(Debug, Subcommand)]
pub(super) enum Bridge {
    /// List them
    List,
    /// All about one
    Show {
        /// Its name
        name: String,
    },
    /// Add one; it stays, beside those of the config file
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// Its name, of lower-case letters, digits, - and _
        name: String,
        /// The remote broker; can be repeated, for brokers that are tried in this order
        #[arg(long, value_name = "URL", required = true)]
        address: Vec<String>,
        /// What is carried: PATTERN [out|in|both [QOS [LOCAL [REMOTE]]]]; can be repeated
        #[arg(long, value_name = "LINE", required = true)]
        topic: Vec<String>,
        /// Other settings, as in the config file
        #[arg(value_name = "KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, Value)>,
    },
    /// Change settings of one; they stay, over the config file
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// Its name
        name: String,
        /// The settings, as in the config file; lists as JSON, or with commas between
        #[arg(value_name = "KEY=VALUE", required = true, value_parser = setting)]
        settings: Vec<(String, Value)>,
    },
    /// Have the config file decide again: about these settings, or about all, its removal too
    Reset {
        /// Its name
        name: String,
        /// The settings; all without
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Disconnect one; what is published meanwhile waits
    Pause {
        /// Its name
        name: String,
    },
    /// Have one work again
    Resume {
        /// Its name
        name: String,
    },
    /// Have what waits go out, and take nothing new; then disconnect
    Drain {
        /// Its name
        name: String,
    },
    /// Remove one, with all that waits for the remote: that is lost
    Remove {
        /// Its name
        name: String,
        /// Also if something waits
        #[arg(long)]
        yes: bool,
    },
    /// Tell what a topic is called on the other side, and by which rule
    #[command(after_help = MAP_EXAMPLES)]
    Map {
        /// Its name
        name: String,
        /// The topic
        topic: String,
    },
}

fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, as keep_alive=30s")?;
    let key = key.trim();
    Ok((key.to_owned(), typed(key, value)))
}

impl Asker {
    pub(super) fn bridge(&self, command: Bridge) -> Result<(), Failure> {
        match command {
            Bridge::List => self.list("/api/v1/bridges", COLUMNS),
            Bridge::Show { name } => self.show(&path(&name)),
            Bridge::Add { name, address, topic, settings } => {
                let mut all = Map::from_iter(settings);
                all.insert("address".to_owned(), address.into());
                all.insert("topics".to_owned(), topic.into());
                self.change(Method::PUT, &path(&name), Some(&Value::Object(all)))
            }
            Bridge::Set { name, settings } => {
                self.change(Method::PATCH, &path(&name), Some(&Value::Object(Map::from_iter(settings))))
            }
            Bridge::Reset { name, keys } if keys.is_empty() => {
                self.change(Method::DELETE, &format!("{}/settings", path(&name)), None)
            }
            // At once: what can only be reset together is.
            Bridge::Reset { name, keys } => {
                let nothing = Map::from_iter(keys.into_iter().map(|key| (key, Value::Null)));
                self.change(Method::PATCH, &path(&name), Some(&Value::Object(nothing)))
            }
            Bridge::Pause { name } => self.change(Method::POST, &format!("{}/pause", path(&name)), None),
            Bridge::Resume { name } => self.change(Method::POST, &format!("{}/resume", path(&name)), None),
            Bridge::Drain { name } => self.change(Method::POST, &format!("{}/drain", path(&name)), None),
            Bridge::Remove { name, yes } => self.remove_bridge(&name, yes),
            Bridge::Map { name, topic } => {
                let answer =
                    self.client.call(Method::GET, &format!("{}/map?topic={}", path(&name), encode(&topic)), None)?;
                self.print(&answer, mapped)
            }
        }
    }

    fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(), Failure> {
        let answer = self.client.call(method, path, body)?;
        self.print(&answer, |answer| table::table(COLUMNS, std::slice::from_ref(answer)))
    }

    fn remove_bridge(&self, name: &str, yes: bool) -> Result<(), Failure> {
        let waiting = self.client.call(Method::GET, &path(name), None)?["queue"]["messages"].as_u64().unwrap_or(0);
        if waiting > 0 && !yes {
            let text = format!(
                "what waits for the remote would be lost (messages: {waiting}): `drain` sends it first, --yes removes it \
                 all the same"
            );
            return Err(Failure::Answered { code: 1, text });
        }
        let done =
            if waiting > 0 { format!("removed; what waited is lost (messages: {waiting})") } else { "removed".into() };
        self.delete(&path(name), &done)
    }
}

fn path(name: &str) -> String {
    format!("/api/v1/bridges/{}", encode(name))
}

/// What a topic is called on either side.
fn mapped(answer: &Value) -> String {
    let way = |key: &str, leads: &str, none: &str| match &answer[key] {
        Value::Null => format!("{key:<4} {none}\n"),
        way => {
            let name = table::cell(&way["topic"]);
            format!("{key:<4} {leads} {name}, by rule {}: {}\n", way["rule"], table::cell(&way["line"]))
        }
    };
    way("out", "at the remote:", "no rule sends it to the remote")
        + &way("in", "here:", "no rule takes it from the remote")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_keys_and_values() {
        assert_eq!(setting("keep_alive=30s"), Ok(("keep_alive".to_owned(), json!("30s"))));
        assert_eq!(setting("password=a=b"), Ok(("password".to_owned(), json!("a=b"))));
        assert!(setting("keep_alive").is_err());
    }

    #[test]
    fn both_directions_are_told() {
        let answer = json!({"topic": "a", "out": {"topic": "x/a", "rule": 2, "line": "a"}, "in": null});
        let text = mapped(&answer);
        assert!(text.starts_with("out  at the remote: x/a, by rule 2: a\nin   no rule"), "{text}");
    }
}
