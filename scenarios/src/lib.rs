//! Where broker, world, checker and reports meet: scenario files, the runner, the command line.

pub mod bench;
pub mod cli;
pub mod commands;
pub mod cluster;
pub mod explore;
pub mod file;
pub mod nemesis;
pub mod planted_bugs;
pub mod recorder;
pub mod rerun;
pub mod run;
mod logs;
mod story;
pub mod workload;
