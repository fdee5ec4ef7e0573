//! Who may do what, and how much of it: rules for rights, and quotas, as pure values.
