//! Field cases: inputs that broke other brokers, each with all its variants. The name of a test begins with the case.

mod auth;
mod codec;
mod config;
mod flow_control;
mod keepalive;
mod limits;
mod persistence;
mod qos_flow;
mod retained;
mod session;
mod shared_sub;
mod sys;
mod topic;
mod transport;
mod will;

/// Plain CONNECT packets as bytes, client id `t1`.
const CONNECT_V311: &str = "100e00044d5154540402003c00027431";
const CONNECT_V5: &str = "100f00044d5154540502003c0000027431";

use crate::support::{Broker, Client, Packet, V5, V311};

/// A connection opened with the plain CONNECT of the version, acknowledged.
#[track_caller]
fn plain(broker: &Broker, version: u8) -> Client {
    let mut client = broker.socket_for(version);
    client.send_hex(if version == V5 { CONNECT_V5 } else { CONNECT_V311 });
    assert!(matches!(client.recv(), Packet::Connack { code: 0, .. }));
    assert!(matches!(version, V311 | V5));
    client
}
