//! What goes wrong in a run, decided before it starts.
//!
//! [`resolve`] turns the steps and nemeses of a scenario and a seed into a [`Schedule`]: a plain list of what happens when.
//! It is data, so that a failure's schedule can be stored, made smaller and run again without its nemesis. What a role
//! means (`leader(orders-0)`) is decided only when its step fires.

mod budget;
mod resolve;
mod schedule;
#[cfg(test)]
mod tests;

pub use resolve::resolve;
pub use schedule::{Origin, Schedule, ScheduledStep};
