//! mosquitto's configuration as it stands in its files: lines, what each means, and to which listener or bridge it
//! belongs. What becomes of it is decided elsewhere.

pub(crate) mod grammar;
mod options;
pub(crate) mod table;

pub(crate) use grammar::Wrong;
pub(crate) use options::{Conf, Group, Opt, Value, number};
