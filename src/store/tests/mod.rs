//! The store as a whole, on disks that forget.
