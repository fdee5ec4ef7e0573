//! Nightjar.
