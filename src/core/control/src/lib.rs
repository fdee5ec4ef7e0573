//! The control group's state: who belongs to the cluster, which node keeps which shard, who wants which topics, who runs
//! which bridge.
//!
//! [`Control::apply`] takes ops in order and says what follows from each. The same ops in the same order give the same
//! state on any node, whenever each of them froze its changes into the tables. It knows no clock, no disk, no chance.

mod apply;
mod bridges;
mod codec;
mod control;
mod effect;
mod freeze;
mod keys;
mod load;
mod node;
mod op;
mod placement;
mod routes;

pub use bridges::{Bridge, Owner};
pub use control::Control;
pub use effect::{ControlEffect, Refusal};
pub use node::{MAX_NODES, Node, NodeSet, Seat, Stage};
pub use op::{ControlOp, MAX_OP, OpError, Settings, Start};
pub use placement::Placement;
pub use routes::GroupRoute;
