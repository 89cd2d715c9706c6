//! Where broker, world, checker and reports meet: scenario files, the runner, the command line.

pub mod bench;
mod cleanup;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod explore;
pub mod file;
mod logs;
pub mod nemesis;
pub mod planted_bugs;
pub mod recorder;
pub mod rerun;
pub mod run;
mod story;
pub mod workload;
