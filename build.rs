//! Makes code of the protocol between nodes, without any program that would have to be installed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["nightjar/cluster/v1/cluster.proto"], ["proto"])?;
    // Payloads are parts of the message that was received, not copies of them.
    tonic_prost_build::configure().bytes(".").compile_fds(files)?;
    Ok(())
}
