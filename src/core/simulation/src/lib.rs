//! Several nodes' worth of the pure rooms in one thread, by seed, and a checker for the promises.
//!
//! [`simulate`] makes a world out of a seed: nodes with the real shards, control state, routers, sessions, leases and
//! proposers, on simulated disks and a simulated network, and clients that publish, subscribe, move and lose their
//! connections, while nodes crash and networks part. What clients did and saw is its [`History`]. [`check::all`] says
//! whether every promise was kept.
//!
//! The same seed gives the same history. What is real and what is a model is listed in `docs/reliability.md`.

mod agenda;
mod bugs;
pub mod check;
mod dice;
mod history;
mod store;
mod world;

// The cluster's own logic, as it is: these files need nothing of their room.
#[allow(dead_code, unreachable_pub)]
#[path = "../../../broker/ports.rs"]
mod broker;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../cluster/forward.rs"]
mod forward;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../cluster/lease.rs"]
mod lease;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../cluster/local.rs"]
mod local;
#[allow(dead_code, unreachable_pub, clippy::wrong_self_convention)]
#[path = "../../../cluster/propose.rs"]
mod propose;

pub use bugs::Bug;
pub use dice::Dice;
pub use history::{Event, History};

/// What came of one seed.
#[derive(Debug)]
pub struct Run {
    /// What happened.
    pub history: History,
    /// Events and turns of tasks.
    pub steps: u64,
    /// Which promises were broken, and how.
    pub violations: Vec<String>,
}

/// Lives through the world of a seed, with a fault put in or with none.
#[must_use]
pub fn simulate(seed: u64, bug: Option<Bug>) -> Run {
    let (history, steps) = world::World::live(seed, bug);
    let violations = check::all(&history);
    Run { history, steps, violations }
}
