//! The log and the `$SYS` topics.

use super::{Writer, seconds};
use crate::telemetry::escape;

/// Levels from the quietest on, and mosquitto's kinds of lines that each includes.
const LEVELS: &[(&str, &[&str])] = &[
    ("error", &["none", "error"]),
    ("warn", &["warning"]),
    ("info", &["notice", "information"]),
    ("debug", &["debug", "subscribe", "unsubscribe", "internal", "websockets", "all"]),
];
/// The longest interval of the statistics.
const LONGEST: i64 = 3_600;

impl Writer<'_> {
    pub(super) fn log(&mut self) {
        let conf = self.conf;
        let types: Vec<usize> = conf.all(&conf.global, "log_type").collect();
        let level = |at: usize| {
            let word = conf.options[at].text().split(' ').next().unwrap_or_default();
            LEVELS.iter().position(|(_, words)| words.contains(&word))
        };
        for &at in types.iter().filter(|&&at| level(at).is_none()) {
            self.wrong(
                at,
                format!("expected a kind of line that mosquitto logs, found {}", escape(self.option(at).text())),
            );
        }
        // A level includes the quieter ones, so the loudest kind decides.
        if let Some(loudest) = types.iter().filter_map(|&at| level(at)).max() {
            let name = LEVELS[loudest].0;
            self.toml.text("log", "level", name);
            for at in types {
                if self.option(at).text().starts_with("none") {
                    self.changed(at, format!("log.level = \"{name}\": errors are always logged"));
                } else {
                    self.changed(at, format!("log.level = \"{name}\", which includes what is worse"));
                }
            }
        }
        for at in conf.all(&conf.global, "log_dest").collect::<Vec<_>>() {
            match self.option(at).text().split(' ').next().unwrap_or_default() {
                "stderr" => self.honoured(at, "the log goes to the standard error"),
                "stdout" | "syslog" => {
                    self.changed(at, "the log goes to the standard error, where the service manager takes it")
                }
                "none" => self.changed(at, "the log goes to the standard error: send that to /dev/null"),
                "topic" => self.unsupported(
                    at,
                    "the log is in no topic: `nightjar ctl trace` and the dashboard show what happens",
                ),
                _ => self.unsupported(
                    at,
                    "the log goes to the standard error: the service manager, or a shell, can put it into a file",
                ),
            }
        }
        if let Some(at) = conf.last(&conf.global, "connection_messages") {
            match conf.flag(&conf.global, "connection_messages") {
                Some(true) => self.honoured(at, "log.level \"info\" has a line for each connect and disconnect"),
                _ => self.unsupported(at, "set log.level to \"warn\" to be without those lines"),
            }
        }
        if let Some(at) = conf.last(&conf.global, "sys_interval") {
            match conf.number(&conf.global, "sys_interval") {
                Some(0) => self.put(at, "sys", "interval", "\"off\""),
                Some(interval @ 1..=LONGEST) => self.put(at, "sys", "interval", seconds(interval.unsigned_abs())),
                _ => {
                    self.toml.set("sys", "interval", "\"1h\"");
                    self.changed(at, "sys.interval = \"1h\": it is never longer");
                }
            }
        }
    }
}
