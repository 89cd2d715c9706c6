//! The command line.

mod dev;
mod directory;
mod format;
mod life;
mod log;
mod metrics;
mod properties;
mod start;

use broker_env::{SharedEnv, TokioEnv};
use broker_types::Uuid;
use clap::{Args, Parser, Subcommand};
use rand_core::Rng;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// A Kafka broker and controller.
#[derive(Parser, Debug)]
#[command(name = "broker", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: log::LogArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Prints a new random id, as a cluster's id is one
    RandomUuid,
    /// Makes a node's log directories its own
    Format(FormatArgs),
    /// Runs one node
    Start(StartArgs),
    /// Runs a whole local cluster in one process
    Dev(DevArgs),
}

#[derive(Args, Debug)]
struct FormatArgs {
    /// The cluster's id, the same on all its nodes (`broker random-uuid` makes one)
    #[arg(short = 't', long)]
    cluster_id: String,
    /// The node's server.properties
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Passes over directories that are formatted already
    #[arg(short = 'g', long)]
    ignore_formatted: bool,
}

#[derive(Args, Debug)]
struct StartArgs {
    /// The node's server.properties
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Sets one key, whatever the file says; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Serves Prometheus text there
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<String>,
}

#[derive(Args, Debug)]
struct DevArgs {
    /// How many brokers
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    brokers: u16,
    /// How many controllers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    controllers: u16,
    /// Where broker 1 listens; broker 2 listens on the next port, and so on
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// Keeps the data here; without it, it goes when the cluster ends
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Sets one key of every node; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

/// Carries out what the command line says.
///
/// # Errors
/// One sentence that says what is wrong and what to do.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::RandomUuid => {
            let runtime = runtime()?;
            println!("{}", random_uuid(&runtime));
            Ok(ExitCode::SUCCESS)
        }
        Command::Format(args) => {
            cli.log.init("warn")?;
            format::run(&args)
        }
        Command::Start(args) => {
            cli.log.init("info")?;
            start::run(&args)
        }
        Command::Dev(args) => {
            cli.log.init("warn")?;
            dev::run(&args)
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}

fn env(runtime: &Runtime) -> SharedEnv {
    TokioEnv::new(runtime.handle().clone())
}

/// A random UUID (RFC 9562, version 4). Never one that begins with a dash: a command line would take it for a flag.
fn random_uuid(runtime: &Runtime) -> Uuid {
    let mut entropy = env(runtime).entropy("random-uuid");
    loop {
        let bits = u128::from(entropy.next_u64()) << 64 | u128::from(entropy.next_u64());
        let version = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let id = Uuid(version);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}
