//! The command line of `trial`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Deterministic trials of a whole Kafka cluster: real broker, controller and client code in a seeded world.
///
/// Start with `trial run leader-crash --seed 42`: three brokers and three controllers, a leader that loses power, and
/// a verdict. The same seed gives the same run, to the byte.
#[derive(Parser, Debug)]
#[command(name = "trial", version, max_term_width = 100, propagate_version = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

const EXIT_CODES: &str = "Exit codes:
   0  pass                                10  a guarantee was violated
   2  wrong usage                         11  inconclusive, or shards missing
   4  nothing selected                    12  non-deterministic
  14  a file is invalid                  101  a panic of our own
 130  interrupted                        143  terminated";

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub struct Common {
    /// What stdout gets.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "TRIAL_FORMAT")]
    pub format: Format,
    /// Colours; `NO_COLOR` is honoured.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, env = "TRIAL_COLOR")]
    pub color: When,
    /// The live status line on stderr.
    #[arg(long, global = true, value_enum, default_value_t = Progress::Auto, env = "TRIAL_PROGRESS")]
    pub progress: Progress,
    /// Only the verdict.
    #[arg(short, long, global = true, conflicts_with = "verbose", env = "TRIAL_QUIET")]
    pub quiet: bool,
    /// Every check with its opportunities.
    #[arg(short, long, global = true, env = "TRIAL_VERBOSE")]
    pub verbose: bool,
}

/// What stdout gets.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value.
    Json,
}

/// Whether to use colours.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// When stdout is a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How progress is shown.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// A live line on a terminal, else now and then a plain one.
    Auto,
    /// Plain lines.
    Plain,
    /// None.
    None,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Runs one scenario with one seed and judges it.
    Run(RunArgs),
    /// Judges histories recorded anywhere, any number at once.
    Check(CheckArgs),
    /// Runs many seeds and groups what fails.
    Explore(ExploreArgs),
    /// The catalog of scenarios, and scenario files.
    #[command(subcommand)]
    Scenario(ScenarioCommand),
    /// The planted historic bugs (as `cargo museum ...`).
    #[command(subcommand)]
    Bugs(BugsCommand),
    /// Measures speed on fixed seeds.
    Bench(BenchArgs),
    /// Checks that runs are deterministic on this machine: canaries, and every scenario twice in different processes.
    Doctor(DoctorArgs),
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page.
    Man,
}

/// `trial run`.
#[derive(Args, Debug, Clone)]
pub struct RunArgs {
    /// A scenario of the catalog, or a file.
    pub scenario: String,
    /// The seed: 16 hex digits or 0x... as hex, anything shorter as decimal. Default: the scenario's own, or a new one.
    #[arg(long, value_parser = parse_seed, env = "TRIAL_SEED")]
    pub seed: Option<u64>,
    /// Stops the workload and the faults at this simulated time.
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "TRIAL_UNTIL")]
    pub until: Option<std::time::Duration>,
    /// Plants this historic bug (museum build only).
    #[arg(long, value_name = "ID", env = "TRIAL_BUG")]
    pub bug: Option<String>,
    /// Writes each node's log to a file of its own, in simulated time: `info`, `debug`, `broker_core=trace`, ...
    #[arg(long, value_name = "FILTER", env = "TRIAL_LOG")]
    pub log: Option<String>,
    /// Where the run's files go; must not exist. Default: target/trial/<scenario>-<seed>/, replaced.
    #[arg(long, value_name = "DIR", env = "TRIAL_OUT")]
    pub out: Option<PathBuf>,
    /// Keeps no files of the run. For a run that only answers another process.
    #[arg(long, hide = true, conflicts_with_all = ["out", "log"])]
    pub no_files: bool,
    /// Writes the trace's checkpoints there, for comparing two runs.
    #[arg(long, value_name = "FILE", hide = true)]
    pub checkpoints: Option<PathBuf>,
    /// Writes the trace's events there, one a line, to see where two runs part.
    #[arg(long, value_name = "FILE", hide = true)]
    pub events: Option<PathBuf>,
}

/// `trial check`.
#[derive(Args, Debug, Clone)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// Histories: files, or folders that `trial run` wrote.
    #[arg(required = true, value_name = "HISTORY")]
    pub histories: Vec<PathBuf>,
    /// As what to judge them. Default: as what each looks like.
    #[arg(long, value_parser = models(), env = "TRIAL_MODEL")]
    pub model: Option<checker::Model>,
    /// What transactions of list-append are held to: read-committed, snapshot-isolation, serializable, ...
    #[arg(long, default_value_t, env = "TRIAL_LEVEL")]
    pub level: checker::Level,
    /// Most steps that the search for an order may take, for each history. One that needs more is inconclusive.
    #[arg(long, value_name = "STEPS", default_value_t = checker::Options::BUDGET, env = "TRIAL_BUDGET")]
    pub budget: u64,
}

fn models() -> impl clap::builder::TypedValueParser<Value = checker::Model> {
    use clap::builder::TypedValueParser;
    clap::builder::PossibleValuesParser::new(checker::Model::ALL.map(checker::Model::name))
        .try_map(|name| name.parse::<checker::Model>())
}

const CHECK_HELP: &str = "Models:
  kafka         what clients of Kafka see: lost writes, duplicates, order, stale reads, ...
  log           each partition as one linearizable log
  register      :read and :write; with :cas [from to] it is cas-register. Both start as nil
  kv            :get, :put and :append of strings by key. What is absent is empty
  list-append   transactions that append to lists and read them

Forms, told apart by content:
  JSON lines    as `trial run` writes them (history.jsonl), one operation a line
  EDN           {:process 0, :type :invoke, :f :append, :key \"0\", :value \"x\"}, then :ok, :fail or :info
  Jepsen's log  INFO  jepsen.util - 4<TAB>:invoke<TAB>:cas<TAB>[2 4]

Examples:
  trial check target/trial/leader-crash-000000000000002a/     a run, judged again
  trial check etcd_*.log --model cas-register                 logs of Jepsen
  trial check history.edn --format json | jq '.[].verdict'

The exit code is that of the worst history: 14 (one is invalid: the line is named, and there is no verdict on it) before 10
(a guarantee was violated) before 11 (inconclusive: empty, nothing told, or out of its budget) before 0. All are judged and
printed, whatever the others are.";

/// `trial explore`.
#[derive(Args, Debug, Clone)]
pub struct ExploreArgs {
    /// Scenarios of the catalog or files; all of the catalog that should pass when none is named.
    pub scenarios: Vec<String>,
    /// Runs in all, over all shards. Default: ten for each scenario; with --time, as many as there is time for.
    #[arg(long, env = "TRIAL_SEEDS")]
    pub seeds: Option<u64>,
    /// Stops starting runs after this time: `90s`, `10m`.
    #[arg(long, value_name = "TIME", value_parser = parse_time, env = "TRIAL_TIME")]
    pub time: Option<std::time::Duration>,
    /// Runs at once. Default: the cores this process may use.
    #[arg(long, env = "TRIAL_JOBS")]
    pub jobs: Option<NonZeroUsize>,
    /// This shard of how many: `0/4` takes every k with k mod 4 = 0.
    #[arg(long, value_name = "I/N", value_parser = parse_shard, env = "TRIAL_SHARD")]
    pub shard: Option<(u64, u64)>,
    /// The campaign's number: seed k is a hash of it and k.
    #[arg(long, value_parser = parse_seed, default_value = "0", env = "TRIAL_CAMPAIGN")]
    pub campaign: u64,
    /// Plants this historic bug (museum build only).
    #[arg(long, value_name = "ID", env = "TRIAL_BUG")]
    pub bug: Option<String>,
}

/// `trial scenario`.
#[derive(Subcommand, Debug, Clone)]
pub enum ScenarioCommand {
    /// Lists the catalog.
    List,
    /// Prints one scenario's file.
    Show {
        /// Its name.
        name: String,
    },
    /// Prints a new scenario to start from.
    New {
        /// Its name.
        name: String,
    },
    /// Checks files without running them.
    Check {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Prints the JSON schema of scenario files.
    Schema,
}

/// `trial bugs`.
#[derive(Subcommand, Debug, Clone)]
pub enum BugsCommand {
    /// Lists the planted bugs.
    List,
    /// Tells one bug's story.
    Show {
        /// Its number: R01, K02, ...
        id: String,
    },
    /// Hunts one bug with the scenario that finds it: exit 10 when found, 0 when not.
    Run {
        /// Its number.
        id: String,
        /// Most seeds to try.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
    },
}

/// `trial bench`.
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// Times each figure is measured; the median is told.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
}

/// `trial doctor`.
#[derive(Args, Debug, Clone)]
pub struct DoctorArgs {
    /// Seeds per scenario.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Pairs of runs at once. Default: the cores this process may use.
    #[arg(long, env = "TRIAL_JOBS")]
    pub jobs: Option<NonZeroUsize>,
    /// Only these scenarios; without any, the whole catalog.
    pub scenarios: Vec<String>,
}

/// 16 digits or `0x...` are hex, anything shorter is decimal.
///
/// # Errors
/// What is allowed.
pub fn parse_seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if text.len() == 16 => u64::from_str_radix(text, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a seed is 16 hex digits, 0x and hex digits, or a decimal number below 2^64".to_owned())
}

/// `90s`, `10m`, `500ms`, `1h`.
///
/// # Errors
/// What is allowed.
pub fn parse_time(text: &str) -> Result<std::time::Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time is a number and ms, s, m or h: 500ms, 90s, 10m".to_owned()),
    };
    text[..digits]
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| "a time is a number and ms, s, m or h: 500ms, 90s, 10m".to_owned())
}

fn parse_shard(text: &str) -> Result<(u64, u64), String> {
    let shard = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match shard {
        Some((i, n)) if i < n => Ok((i, n)),
        _ => Err("a shard is i/n with i from 0 to n - 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sixteen_digits_are_hex_and_fewer_are_decimal() {
        assert_eq!(parse_seed("42"), Ok(42));
        assert_eq!(parse_seed("000000000000002a"), Ok(42));
        assert_eq!(parse_seed("0x2a"), Ok(42));
        assert!(parse_seed("2a").is_err());
        assert!(parse_seed("").is_err());
    }
}
