//! `nightjar ctl`: what operators ask of a broker that runs, and tell it. It speaks to the admin door.

mod bridge;
pub(super) mod client;
mod cluster;
mod table;
mod watch;

use super::{Failure, Settings};
use clap::{Args, Parser, Subcommand};
use client::{Client, Whereabouts, encode};
use hyper::Method;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

const BRIDGE_EXAMPLES: &str = "\
Examples:
  nightjar ctl bridge list
  nightjar ctl bridge add hub --address mqtts://hub.example --topic 'sensors/# out 1'
  nightjar ctl bridge pause hub
  nightjar ctl bridge map hub sensors/7

Changes are kept in bridges.toml in the data folder, over the config file, and outlive a restart.";

const CLUSTER_EXAMPLES: &str = "\
Examples:
  nightjar ctl cluster status
  nightjar ctl cluster drain node3 --wait
  nightjar ctl cluster leave node3
  nightjar ctl cluster replace node2

Nodes are named by id, name or address. All but join and form can be asked of any node.";

/// What `nightjar ctl` is asked.
#[derive(Debug, Parser)]
pub(super) struct Ctl {
    #[command(flatten)]
    place: Place,
    /// Print the answers as JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Which broker.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The config file of the broker
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The data folder of the broker, where its admin socket is
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,
    /// The admin address, in place of the socket
    #[arg(long, value_name = "http://HOST:PORT", global = true)]
    url: Option<String>,
    /// The file that the admin token is in (or the variable NIGHTJAR_ADMIN_TOKEN holds the token)
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl Place {
    pub(super) fn client(self, environment: Vec<(OsString, OsString)>) -> Result<Client, Failure> {
        let token = match &self.token_file {
            Some(path) => Some(
                crate::config::access::read_text(path)
                    .map_err(|why| Failure::Other(format!("{}: {why}", path.display()).into()))?
                    .trim()
                    .to_owned(),
            ),
            None => environment
                .iter()
                .find(|(name, _)| name == "NIGHTJAR_ADMIN_TOKEN")
                .and_then(|(_, token)| token.to_str().map(str::to_owned)),
        };
        let settings = Settings { config: self.config, data: self.data, ..Settings::default() };
        let sources = settings.sources(environment);
        Client::new(Whereabouts { sources: &sources, url: self.url.as_deref(), token })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How the broker is
    Status,
    /// Connected clients
    #[command(subcommand)]
    Clients(Clients),
    /// Persistent sessions, connected or not
    #[command(subcommand)]
    Sessions(Sessions),
    /// Subscriptions
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// Retained messages
    #[command(subcommand)]
    Retained(Retained),
    /// Where clients come in
    Listeners,
    /// Bridges to other brokers
    #[command(subcommand, after_help = BRIDGE_EXAMPLES)]
    Bridge(bridge::Bridge),
    /// The nodes that are one broker
    #[command(subcommand, after_help = CLUSTER_EXAMPLES)]
    Cluster(cluster::Cluster),
    /// Publish a message
    Publish {
        /// The topic
        topic: String,
        /// The payload
        message: String,
        /// Quality of service
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
        qos: u8,
        /// Make it the topic's retained message
        #[arg(long)]
        retain: bool,
    },
    /// Access rules
    #[command(subcommand)]
    Acl(Acl),
    /// Show what happens, as it happens
    Trace(watch::Trace),
    /// Tell whether, and why, a client would receive a message on a topic, and what it lost of late
    Explain {
        /// The client identifier
        client: String,
        /// The topic
        topic: String,
    },
    /// Read the configuration again and put it in force, or say why not
    Reload,
    /// How much is logged
    #[command(subcommand)]
    Log(Log),
    /// The configuration in force, with where each value came from
    Config,
}

#[derive(Debug, Subcommand)]
enum Clients {
    /// List them
    List {
        /// Of this user
        #[arg(long)]
        user: Option<String>,
        /// From this address
        #[arg(long)]
        address: Option<String>,
        /// By this listener
        #[arg(long)]
        listener: Option<String>,
        /// With this in their identifier
        #[arg(long = "match", value_name = "TEXT")]
        part: Option<String>,
    },
    /// All about one
    Show {
        /// The client identifier
        client: String,
    },
    /// Disconnect one (MQTT 5: 0x98); its session stays
    Kick {
        /// The client identifier
        client: String,
    },
}

#[derive(Debug, Subcommand)]
enum Sessions {
    /// List them
    List,
    /// All about one
    Show {
        /// The client identifier
        client: String,
    },
    /// End one, with all that it has; a connected client is disconnected
    Delete {
        /// The client identifier
        client: String,
    },
}

#[derive(Debug, Subcommand)]
enum Subscriptions {
    /// List them
    List {
        /// Of this client
        #[arg(long)]
        client: Option<String>,
        /// That match this topic
        #[arg(long)]
        topic: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Retained {
    /// List them
    List {
        /// Of topics that this filter matches
        #[arg(default_value = "#")]
        filter: String,
    },
    /// Show one
    Show {
        /// The topic
        topic: String,
    },
    /// Remove one
    Delete {
        /// The topic
        topic: String,
    },
}

#[derive(Debug, Subcommand)]
enum Acl {
    /// Tell whether a client may do something, and by which rule
    Test {
        /// The user; - for none
        user: String,
        /// The client identifier
        client: String,
        /// publish, subscribe or receive
        #[arg(value_parser = ["publish", "subscribe", "receive"])]
        action: String,
        /// The topic, or filter
        topic: String,
        /// At this quality of service
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
        qos: u8,
        /// With the retain flag
        #[arg(long)]
        retain: bool,
        /// As if the credentials put it in this group; can be repeated
        #[arg(long)]
        group: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Log {
    /// Print the level
    Get,
    /// Set the level, until the next reload or restart
    Set {
        /// error, warn, info, debug or trace
        #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
        level: String,
    },
}

/// Asks, and prints the answer.
pub(super) fn run(ctl: Ctl, environment: Vec<(OsString, OsString)>) -> Result<(), Failure> {
    let asker = Asker { client: ctl.place.client(environment)?, json: ctl.json };
    match ctl.command {
        Command::Status => asker.show("/api/v1/status"),
        Command::Clients(clients) => asker.clients(clients),
        Command::Sessions(sessions) => asker.sessions(sessions),
        Command::Subscriptions(Subscriptions::List { client, topic }) => {
            let path = query("/api/v1/subscriptions", &[("client", client), ("topic", topic)]);
            asker.list(&path, &[("CLIENT", "/client_id"), ("FILTER", "/filter"), ("SHARE", "/share"), ("QOS", "/qos")])
        }
        Command::Retained(retained) => asker.retained(retained),
        Command::Listeners => asker.list(
            "/api/v1/listeners",
            &[
                ("NAME", "/name"),
                ("ADDRESS", "/address"),
                ("TRANSPORTS", "/transports"),
                ("TLS", "/tls"),
                ("ANONYMOUS", "/anonymous"),
                ("CONNECTIONS", "/connections"),
                ("CERTIFICATE EXPIRES", "/certificate_expires"),
            ],
        ),
        Command::Bridge(bridge) => asker.bridge(bridge),
        Command::Cluster(command) => asker.cluster(command),
        Command::Publish { topic, message, qos, retain } => {
            let body = json!({"topic": topic, "payload": message, "qos": qos, "retain": retain});
            let answer = asker.client.call(Method::POST, "/api/v1/publish", Some(&body))?;
            asker.print(&answer, |answer| format!("{}\n", table::cell(&answer["reason"])))
        }
        Command::Acl(test) => asker.acl(test),
        Command::Trace(trace) => watch::trace(&asker.client, &trace, asker.json),
        Command::Explain { client, topic } => {
            let path = query("/api/v1/explain", &[("client", Some(client)), ("topic", Some(topic))]);
            let answer = asker.client.call(Method::GET, &path, None)?;
            asker.print(&answer, watch::explanation)
        }
        Command::Reload => {
            let answer = asker.client.call(Method::POST, "/api/v1/reload", None)?;
            asker.print(&answer, reloaded)
        }
        Command::Log(Log::Get) => asker.level(Method::GET, None),
        Command::Log(Log::Set { level }) => asker.level(Method::PUT, Some(&json!({"level": level}))),
        Command::Config => {
            let answer = asker.client.call(Method::GET, "/api/v1/config", None)?;
            asker.print(&answer, |answer| answer["toml"].as_str().unwrap_or_default().to_owned())
        }
    }
}

fn reloaded(answer: &Value) -> String {
    let list = |key: &str| answer[key].as_array().into_iter().flatten().map(table::cell).collect::<Vec<_>>().join(" ");
    let (applied, restart) = (list("applied"), list("needs_restart"));
    let mut text = if applied.is_empty() { "reloaded\n".to_owned() } else { format!("reloaded: {applied}\n") };
    if !restart.is_empty() {
        text += &format!("takes effect at a restart: {restart}\n");
    }
    text
}

/// A path with the parameters that are set.
fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let set = |(name, value): &(&str, Option<String>)| Some(format!("{name}={}", encode(value.as_ref()?)));
    let set: Vec<String> = parameters.iter().filter_map(set).collect();
    if set.is_empty() { path.to_owned() } else { format!("{path}?{}", set.join("&")) }
}

struct Asker {
    client: Client,
    json: bool,
}

impl Asker {
    fn print(&self, answer: &Value, for_people: impl Fn(&Value) -> String) -> Result<(), Failure> {
        super::print(&if self.json { format!("{answer}\n") } else { for_people(answer) })
    }

    fn show(&self, path: &str) -> Result<(), Failure> {
        let answer = self.client.call(Method::GET, path, None)?;
        self.print(&answer, table::lines)
    }

    fn delete(&self, path: &str, done: &str) -> Result<(), Failure> {
        let answer = self.client.call(Method::DELETE, path, None)?;
        self.print(&answer, |_| format!("{done}\n"))
    }

    /// All pages of a list.
    fn list(&self, path: &str, columns: &[(&str, &str)]) -> Result<(), Failure> {
        let mut items = Vec::new();
        let mut page = path.to_owned();
        loop {
            let mut answer = self.client.call(Method::GET, &page, None)?;
            match &mut answer {
                Value::Array(all) => items.append(all),
                _ => items.append(answer["items"].as_array_mut().unwrap_or(&mut Vec::new())),
            }
            let Some(next) = answer.get("next").and_then(Value::as_str) else { break };
            let joint = if path.contains('?') { '&' } else { '?' };
            page = format!("{path}{joint}cursor={}", encode(next));
        }
        if self.json {
            return super::print(&format!("{}\n", Value::Array(items)));
        }
        super::print(&table::table(columns, &items))
    }

    fn clients(&self, command: Clients) -> Result<(), Failure> {
        match command {
            Clients::List { user, address, listener, part } => self.list(
                &query(
                    "/api/v1/clients",
                    &[("user", user), ("address", address), ("listener", listener), ("match", part)],
                ),
                &[
                    ("CLIENT", "/client_id"),
                    ("USER", "/user"),
                    ("ADDRESS", "/address"),
                    ("BY", "/transport"),
                    ("VERSION", "/version"),
                    ("SINCE", "/connected_at"),
                    ("SUBSCRIPTIONS", "/subscriptions"),
                    ("QUEUED", "/queued"),
                    ("UNDER WAY", "/inflight"),
                ],
            ),
            Clients::Show { client } => self.show(&format!("/api/v1/clients/{}", encode(&client))),
            Clients::Kick { client } => self.delete(&format!("/api/v1/clients/{}", encode(&client)), "disconnected"),
        }
    }

    fn sessions(&self, command: Sessions) -> Result<(), Failure> {
        match command {
            Sessions::List => self.list(
                "/api/v1/sessions",
                &[
                    ("CLIENT", "/client_id"),
                    ("USER", "/user"),
                    ("CONNECTED", "/connected"),
                    ("EXPIRES", "/expires_at"),
                    ("QUEUED", "/queued"),
                    ("BYTES", "/queued_bytes"),
                    ("SUBSCRIPTIONS", "/subscriptions"),
                ],
            ),
            Sessions::Show { client } => self.show(&format!("/api/v1/sessions/{}", encode(&client))),
            Sessions::Delete { client } => self.delete(&format!("/api/v1/sessions/{}", encode(&client)), "ended"),
        }
    }

    fn retained(&self, command: Retained) -> Result<(), Failure> {
        match command {
            Retained::List { filter } => self.list(
                &query("/api/v1/retained", &[("filter", Some(filter))]),
                &[
                    ("TOPIC", "/topic"),
                    ("BYTES", "/bytes"),
                    ("QOS", "/qos"),
                    ("SINCE", "/retained_at"),
                    ("EXPIRES", "/expires_at"),
                    ("PAYLOAD", "/payload_preview"),
                ],
            ),
            Retained::Show { topic } => self.show(&format!("/api/v1/retained/{}", encode(&topic))),
            Retained::Delete { topic } => self.delete(&format!("/api/v1/retained/{}", encode(&topic)), "removed"),
        }
    }

    fn acl(&self, test: Acl) -> Result<(), Failure> {
        let Acl::Test { user, client, action, topic, qos, retain, group } = test;
        let user = (user != "-").then_some(user);
        let groups = (!group.is_empty()).then(|| group.join(","));
        let path = query(
            "/api/v1/rules/test",
            &[
                ("user", user),
                ("client", Some(client)),
                ("action", Some(action)),
                ("topic", Some(topic)),
                ("qos", Some(qos.to_string())),
                ("retain", Some(retain.to_string())),
                ("groups", groups),
            ],
        );
        let answer = self.client.call(Method::GET, &path, None)?;
        self.print(&answer, |answer| {
            let verdict = if answer["allowed"] == true { "allowed" } else { "denied" };
            let rule = &answer["rule"];
            let by = match rule["line"].as_u64() {
                Some(0) => format!(" {}:", table::cell(&rule["text"])),
                Some(line) => format!(" {}:{line}: {}:", table::cell(&rule["file"]), table::cell(&rule["text"])),
                None => String::new(),
            };
            format!("{verdict}:{by} {}\n", table::cell(&answer["why"]))
        })
    }

    fn level(&self, method: Method, body: Option<&Value>) -> Result<(), Failure> {
        let answer = self.client.call(method, "/api/v1/log", body)?;
        self.print(&answer, |answer| format!("{}\n", table::cell(&answer["level"])))
    }
}
