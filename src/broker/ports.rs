//! What a cluster does for the broker, and a node alone does not need.
//!
//! Every node has every persistent session, queue and retained message in its own store, and routes to all of them. What
//! it does not have are the connections of others: to those go what is only ever live (QoS 0, and all of transient
//! sessions), by way of this door.

use nightjar_base::{ClientId, HomeId, ShardId};
use nightjar_mqtt::Message;
use nightjar_shard::Origin;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A future of any kind.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The other nodes.
pub trait Others: Send + Sync {
    /// This process, as the cluster knows it. Another one once the cluster has given this one up.
    fn home(&self) -> HomeId;

    /// The cluster as a whole, as other brokers know it.
    fn cluster(&self) -> u64;

    /// Whether this node may acknowledge: it knows of every subscription that any client was told of.
    fn may_acknowledge(&self) -> bool;

    /// Whether this node sees to what becomes due in `shard`: each shard has one that does.
    fn leads(&self, shard: ShardId) -> bool;

    /// A transient subscriber of this node has subscribed to `filter` (as sent, `$share/…/` included).
    fn added(&self, filter: &str);

    /// A transient subscriber of this node has left `filter`.
    fn removed(&self, filter: &str);

    /// Returns when every node that may acknowledge routes to all that is subscribed here now, and all that anybody was
    /// told of until then is in this node's store.
    fn settled(&self) -> BoxFuture<()>;

    /// Returns when this node's store has all that anybody was told of `shard`; false if that cannot be found out soon.
    fn latest(&self, shard: ShardId) -> BoxFuture<bool>;

    /// Who of the others has transient subscribers for `topic`.
    fn far(&self, topic: &str) -> Far;

    /// Hands `message` on to the process `to`. What is handed to one process arrives in order and once, as long as it
    /// lives.
    fn forward(&self, to: HomeId, message: Forwarded);

    /// How large the cluster is.
    fn census(&self) -> Census;

    /// Whether so much waits to be forwarded that publishers are not to be read.
    fn is_behind(&self) -> bool;

    /// Has the process `home` close the connection that `client_id` has there since `epoch`. Returns when nothing of it
    /// can come any more; false if that takes too long.
    fn evict(&self, home: HomeId, client_id: ClientId, epoch: u64) -> BoxFuture<bool>;
}

/// A few figures of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Nodes that belong to it.
    pub nodes: usize,
    /// Those of them that are up.
    pub up: usize,
    /// Shards that this node leads.
    pub leads: usize,
}

/// The processes of other nodes that have transient subscribers for a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Far {
    /// By subscriptions that are not shared.
    pub plain: Vec<HomeId>,
    /// By shared ones: `$share/group/filter`, and who has members.
    pub groups: Vec<(Arc<str>, Vec<HomeId>)>,
}

/// A message for connections of another node.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    /// The message as it was published; quality of service and retain flag inside.
    pub message: Arc<Message>,
    /// Whether all of them get it that subscribed, other than by shared subscriptions.
    pub plain: bool,
    /// The shared subscriptions of which one member there gets it.
    pub groups: Vec<Arc<str>>,
    /// How many nodes have passed it on already because no member was left.
    pub hops: u8,
    /// Which publication it is, if it may have to be made again; and whether this is the second time.
    pub origin: Option<Publication>,
}

/// A QoS 2 publication of a persistent session: its client makes it again where nobody knows how far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Publication {
    /// Whose, and which of its own.
    pub origin: Origin,
    /// Of the message.
    pub digest: u64,
    /// It is made again.
    pub again: bool,
}
