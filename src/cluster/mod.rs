//! What makes one broker of several nodes.
//!
//! | room | its story |
//! | --- | --- |
//! | [`wire`] | the transport between the nodes: requests and answers over gRPC, or within a process |

pub mod wire;
