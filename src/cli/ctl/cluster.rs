//! `nightjar ctl cluster`: the nodes that are one broker, seen and changed.

use super::client::encode;
use super::{Asker, table};
use crate::cli::Failure;
use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const JOIN_EXAMPLES: &str = "\
Examples:
  nightjar ctl --data /var/lib/nightjar cluster join 10.0.0.1:7883

Asked of the new node, whose configuration has neither cluster.nodes nor cluster.dns.";

const DRAIN_EXAMPLES: &str = "\
Examples:
  nightjar ctl cluster drain node3 --wait && nightjar ctl cluster leave node3";

const REPLACE_EXAMPLES: &str = "\
Examples:
  nightjar ctl cluster replace node3                     a fresh data folder at node3's address takes its place
  nightjar ctl cluster replace node3 10.0.0.4:7883       a node that is in the cluster already does

Only for a node that is down: what it had is on the others. Its data folder is refused from then on.";

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("NAME", "/name"),
    ("ADDRESS", "/address"),
    ("CLIENTS", "/clients"),
    ("STAGE", "/stage"),
    ("UP", "/up"),
    ("SINCE", "/since"),
    ("CONTROL", "/control"),
    ("LEADS", "/leads"),
    ("VOTES", "/votes"),
];

/// How often it is looked whether a node is drained.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// How the cluster is, as the node that is asked sees it
    Status,
    /// Have the node that is asked join a cluster
    #[command(after_help = JOIN_EXAMPLES)]
    Join {
        /// Any node of the cluster
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Make the node that is asked the first of a cluster; it keeps what it has
    Form,
    /// Have a node give up all that it has, and its clients move to others
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain {
        /// Its id, name or address
        node: String,
        /// Wait until it has nothing left to give up
        #[arg(long)]
        wait: bool,
    },
    /// Have a node that is being drained stay after all
    Resume {
        /// Its id, name or address
        node: String,
    },
    /// Take a node that was drained, or is down, out of the cluster for good
    Leave {
        /// Its id, name or address
        node: String,
    },
    /// Have another node take the place of one that is down, for good
    #[command(after_help = REPLACE_EXAMPLES)]
    Replace {
        /// Who is down: its id, name or address
        old: String,
        /// Who takes its place; without, the fresh node that comes to its address
        new: Option<String>,
    },
}

impl Asker {
    pub(super) fn cluster(&self, command: Cluster) -> Result<(), Failure> {
        match command {
            Cluster::Status => {
                let answer = self.client.call(Method::GET, "/api/v1/cluster", None)?;
                self.print(&answer, whole)
            }
            Cluster::Join { address } => {
                self.tell("/api/v1/cluster/join", Some(&json!({"address": address})), "joined")
            }
            Cluster::Form => self.tell("/api/v1/cluster/form", None, "formed"),
            Cluster::Drain { node, wait: false } => self.tell(&path(&node, "drain"), None, "draining"),
            Cluster::Drain { node, wait: true } => self.drain(&node),
            Cluster::Resume { node } => self.tell(&path(&node, "resume"), None, "stays"),
            Cluster::Leave { node } => self.tell(&path(&node, "leave"), None, "has left"),
            Cluster::Replace { old, new: Some(new) } => {
                self.tell(&path(&old, "replace"), Some(&json!({"by": new})), "replaced")
            }
            Cluster::Replace { old, new: None } => {
                let done = "the next fresh node that comes to its address and asks this one takes its place";
                self.tell(&path(&old, "replace"), Some(&json!({})), done)
            }
        }
    }

    fn tell(&self, path: &str, body: Option<&Value>, done: &str) -> Result<(), Failure> {
        let answer = self.client.call(Method::POST, path, body)?;
        self.print(&answer, |answer| format!("{done}\n{}", nodes(answer)))
    }

    fn drain(&self, node: &str) -> Result<(), Failure> {
        let mut answer = self.client.call(Method::POST, &path(node, "drain"), None)?;
        while let Some(left) = waiting(&answer, node) {
            if left == "active" {
                return Err(Failure::Answered {
                    code: 1,
                    text: format!("{node} stays after all: somebody has resumed it"),
                });
            }
            std::thread::sleep(LOOK);
            answer = self.client.call(Method::GET, "/api/v1/cluster", None)?;
        }
        self.print(&answer, |answer| format!("drained\n{}", nodes(answer)))
    }
}

fn path(node: &str, what: &str) -> String {
    format!("/api/v1/cluster/nodes/{}/{what}", encode(node))
}

/// The stage of a node that is not drained yet; none if it is, or is not there any more.
fn waiting(answer: &Value, node: &str) -> Option<String> {
    let is_meant = |of: &&Value| ["id", "name", "address"].iter().any(|key| of[*key] == node);
    let found = answer["nodes"].as_array()?.iter().find(is_meant)?;
    (found["drained"] != true).then(|| table::cell(&found["stage"]))
}

fn nodes(answer: &Value) -> String {
    let nodes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
    if nodes.is_empty() { String::new() } else { table::table(COLUMNS, nodes) }
}

/// Everything: first the node itself, then all of them.
fn whole(answer: &Value) -> String {
    let mut own = answer.clone();
    if let Some(own) = own.as_object_mut() {
        own.remove("nodes");
    }
    let (own, nodes) = (table::lines(&own), nodes(answer));
    if nodes.is_empty() { own } else { format!("{own}\n{nodes}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_waited_for_until_it_is_drained() {
        let with = |stage: &str, drained: bool| {
            json!({"nodes": [{"id": "1", "name": "a", "address": "a:1", "stage": "active", "drained": false},
                {"id": "2", "name": "b", "address": "b:1", "stage": stage, "drained": drained}]})
        };
        assert_eq!(waiting(&with("draining", false), "b").as_deref(), Some("draining"));
        assert_eq!(waiting(&with("draining", true), "b:1"), None);
        assert_eq!(waiting(&with("active", false), "2").as_deref(), Some("active"));
        assert_eq!(waiting(&with("draining", false), "c"), None);
        let text = whole(&with("draining", false));
        assert!(text.contains("STAGE") && !text.contains("nodes."), "{text}");
    }
}
