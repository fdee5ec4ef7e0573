//! What makes one broker of several nodes.
//!
//! | room | its story |
//! | --- | --- |
//! | [`engine`] | what the broker submits goes through the groups, and comes back when it is agreed on |
//! | [`lease`] | who may acknowledge |
//! | [`propose`] | what was submitted here goes to the leaders, and is done when it is applied here |
//! | [`raft`] | groups that agree on entries, and apply them |
//! | [`settle`] | leases, and what a SUBACK waits for |
//! | [`wire`] | the transport between the nodes: requests and answers over gRPC, or within a process |

pub mod engine;
pub mod lease;
pub mod propose;
pub mod raft;
pub mod settle;
#[cfg(test)]
mod tests;
pub mod wire;
