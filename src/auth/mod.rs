//! Who are you: the ways in which a client can prove it.
