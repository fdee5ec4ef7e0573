//! Bridges: MQTT clients on the inside, which join this broker to others.
//!
//! ```text
//!            Bridges (manager) ─ orders ─> Link (a thread for each bridge: reach, splice, lose, wait, again)
//!                                            │
//!   this broker <─ pair of sockets ─> Splice <─ TCP, TLS, WebSocket ─> remote
//! ```
//!
//! | file | its story |
//! | --- | --- |
//! | `manager` | the bridges of a node: started, changed, stopped; the thread that each lives on |
//! | `link`, `meet` | the life of one bridge; where its two connections meet and part |
//! | `remote`, `local` | the connections to the two brokers |
//! | `pump` | the time while both are there: bytes through the splice, keep alive, events |
//! | `splice`, `echo` | what becomes of each packet; pure |
//! | `poison` | the message at which the remote closes the connection |
//! | `status`, `counts` | what those see who look |

mod counts;
mod echo;
mod link;
mod local;
mod manager;
mod meet;
mod poison;
mod pump;
mod remote;
mod splice;
mod status;
mod wire;

pub use counts::{Carried, Count, Counts, RuleCounts};
pub use manager::{Bridges, Shown};
pub use remote::tls_settings;
pub use status::{Now, State};

use crate::broker::{Limits, Listener};
use crate::config::Bridge;
use nightjar_mqtt::{QoS, RetainHandling, SubscriptionOptions};
use nightjar_policy::{TopicRules, Way};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A bridge as it is to be.
#[derive(Clone)]
pub struct Plan {
    /// Its settings.
    pub bridge: Bridge,
    /// Its rules, understood.
    pub rules: Arc<TopicRules>,
    /// The limits of its session here.
    pub limits: Arc<Limits>,
}

impl Plan {
    /// The highest QoS that is spoken with the remote, as far as the settings say.
    fn max_qos(&self) -> QoS {
        QoS::from_bits(self.bridge.max_qos).unwrap_or(QoS::ExactlyOnce)
    }

    /// What the bridge subscribes to where the messages that go `way` come from. Where several rules have one filter, the
    /// highest QoS counts, as it does for overlapping subscriptions.
    fn filters(&self, way: Way) -> Vec<(String, SubscriptionOptions)> {
        let (most, retain_handling) = match way {
            Way::Out => (QoS::ExactlyOnce, RetainHandling::Never),
            // What is retained there is news once, not at each connection.
            Way::In => (self.max_qos(), RetainHandling::IfNew),
        };
        let mut filters: Vec<(String, SubscriptionOptions)> = Vec::new();
        for rule in self.rules.rules().iter().filter(|rule| rule.goes(way)) {
            let qos = rule.qos().min(most);
            let filter = match way {
                Way::Out => rule.local_filter(),
                Way::In => rule.remote_filter(),
            };
            match filters.iter_mut().find(|(known, _)| known == filter) {
                Some((_, options)) => options.qos = options.qos.max(qos),
                None => {
                    let options = SubscriptionOptions {
                        qos,
                        no_local: true,
                        retain_as_published: true,
                        retain_handling,
                        identifier: None,
                    };
                    filters.push((filter.to_owned(), options));
                }
            }
        }
        filters
    }
}

/// What bridges need of the node.
pub trait Host: Send + Sync {
    /// Takes `pair` in as a connection that came by `listener`.
    fn adopt(&self, pair: UnixStream, listener: &Arc<Listener>);
}
