//! What makes one broker of several nodes.
//!
//! | room | its story |
//! | --- | --- |
//! | `command`, `status` | what operators tell a cluster, and see of it |
//! | `drain` | a node gives up what it has |
//! | [`engine`] | what the broker submits goes through the groups, and comes back when it is agreed on |
//! | `bridges` | which bridges this node runs |
//! | `form`, `identity` | how a node comes to its cluster, and what its folder notes of it |
//! | `forward` | messages for connections of other nodes |
//! | `hand_over` | others lead what this node leads |
//! | [`lease`] | who may acknowledge |
//! | `local` | what the others are told of this node's subscribers |
//! | `member`, `others` | this node as the other nodes see it; they as its broker sees them |
//! | [`propose`] | what was submitted here goes to the leaders, and is done when it is applied here |
//! | [`raft`] | groups that agree on entries, and apply them |
//! | `recover` | one node that is left of a cluster becomes one of its own |
//! | `sentry` | who is there, and who leads instead of whom |
//! | [`settle`] | leases, and what a SUBACK waits for |
//! | `stuck` | members that nothing is sent to any more |
//! | `upkeep` | what a cluster does for itself |
//! | [`wire`] | the transport between the nodes: requests and answers over gRPC, or within a process |

mod bridges;
mod command;
mod drain;
pub mod engine;
mod form;
mod forward;
mod hand_over;
mod identity;
pub mod lease;
mod local;
mod member;
mod others;
pub mod propose;
pub mod raft;
mod recover;
mod sentry;
pub mod settle;
#[cfg(test)]
mod simulation;
mod status;
mod stuck;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod wire;

pub use command::{Command, Refused};
pub use member::{First, Member, Settings};
pub use raft::Pace;
pub use recover::{RecoverError, Recovered, recover};
pub use status::{NodeStatus, Status};
pub use wire::{Security, Tls, TlsFiles};
