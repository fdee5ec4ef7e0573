//! Looking at what happens: `trace` as it happens, `explain` before it does.

use super::client::{Client, encode};
use super::table::cell;
use crate::cli::Failure;
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// What to look at.
#[derive(Debug, Args)]
#[group(id = "lens", required = true, multiple = true)]
pub(super) struct Trace {
    /// This client
    #[arg(long, group = "lens")]
    client: Option<String>,
    /// Topics that this filter matches
    #[arg(long, group = "lens", value_name = "FILTER")]
    topic: Option<String>,
    /// Clients of this address
    #[arg(long, group = "lens")]
    address: Option<String>,
    /// For how long, as 30s, 10m or 2h; without it, until it is interrupted
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    span: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration as 30s, 10m or 2h".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(expected)
}

/// Prints what happens.
pub(super) fn trace(client: &Client, trace: &Trace, json: bool) -> Result<(), Failure> {
    let mut path = format!("/api/v1/trace?seconds={}", trace.span.unwrap_or(Duration::from_secs(86_400)).as_secs());
    for (name, value) in [("client", &trace.client), ("topic", &trace.topic), ("address", &trace.address)] {
        if let Some(value) = value {
            path += &format!("&{name}={}", encode(value));
        }
    }
    client.lines(&path, |line| {
        if json {
            return crate::cli::print(&format!("{line}\n"));
        }
        match serde_json::from_str::<Value>(line) {
            Ok(event) if event.is_object() => crate::cli::print(&told(&event)),
            // A line that keeps the connection alive.
            _ => Ok(()),
        }
    })
}

fn told(event: &Value) -> String {
    let at = event["at"].as_u64().unwrap_or(0);
    let day = at / 1000 % 86_400;
    let mut line = format!("{:02}:{:02}:{:02}.{:03}", day / 3600, day / 60 % 60, day % 60, at % 1000);
    line += &format!(" {:<12}", event["event"].as_str().unwrap_or_default());
    for key in ["client", "address", "packet", "topic", "qos", "packet_id", "bytes", "receivers", "detail", "missed"] {
        if !event[key].is_null() {
            line += &format!(" {key}={}", cell(&event[key]));
        }
    }
    line + "\n"
}

/// The steps between a message and a client.
pub(super) fn explanation(answer: &Value) -> String {
    let verdict = if answer["receives"] == true { "yes" } else { "no" };
    let mut text = format!("{verdict}: {}\n", cell(&answer["summary"]));
    for step in answer["steps"].as_array().into_iter().flatten() {
        let mark = match step["ok"].as_bool() {
            Some(true) => "ok",
            Some(false) => "NO",
            None => "--",
        };
        text += &format!("  {mark}  {:<14} {}\n", cell(&step["what"]), cell(&step["detail"]));
    }
    for drop in answer["drops"].as_array().into_iter().flatten() {
        text += &format!(
            "  lost {} of {} at {}: {}\n",
            cell(&drop["count"]),
            cell(&drop["topic"]),
            cell(&drop["at"]),
            cell(&drop["reason"])
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "s", "0s", "-1s", "1d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_are_one_line() {
        let line = told(&json!({"at": 3_723_004, "event": "sent", "client": "a\nb", "qos": 1}));
        assert!(line.starts_with("01:02:03.004 sent") && line.lines().count() == 1, "{line}");
    }
}
