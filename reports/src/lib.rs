//! One finished run, rendered for people and machines.
