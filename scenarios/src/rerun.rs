//! The same run in another process: is it the same run?

use broker_core::planted::Bug;
use serde_json::Value;
use sim::trace::Checkpoint;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What another process made of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compared {
    /// The same.
    Same,
    /// Another one: the build or the machine is not deterministic.
    Different {
        /// In one sentence.
        how: String,
    },
    /// It could not be asked, and why.
    Failed(String),
}

/// What another process said of its run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Fingerprint and number of events.
    Ran {
        /// The fingerprint, as it is printed.
        fingerprint: String,
        /// Events in its trace.
        events: u64,
    },
    /// Nothing, and why.
    Nothing(String),
}

impl Said {
    /// Whether that is the run of this fingerprint.
    #[must_use]
    pub fn compare(self, own_fingerprint: u128, own_events: u64) -> Compared {
        let own = format!("{own_fingerprint:032x}");
        match self {
            Said::Ran { fingerprint, .. } if fingerprint == own => Compared::Same,
            Said::Ran { fingerprint, events } => Compared::Different {
                how: format!("{own} after {own_events} events here, {fingerprint} after {events} in another process"),
            },
            Said::Nothing(why) => Compared::Failed(why),
        }
    }
}

/// Runs it in another process of this very build. It keeps no files of its own.
#[must_use]
pub fn in_another_process(named: &str, seed: u64, bug: Option<Bug>) -> Said {
    said(named, seed, bug, None)
}

/// As [`in_another_process`], and the trace's checkpoints go to `checkpoints`.
#[must_use]
pub fn with_checkpoints(named: &str, seed: u64, checkpoints: &Path) -> Said {
    said(named, seed, None, Some(checkpoints))
}

fn said(named: &str, seed: u64, bug: Option<Bug>, checkpoints: Option<&Path>) -> Said {
    let program = match program() {
        Ok(program) => program,
        Err(error) => return Said::Nothing(format!("this program does not find itself: {error}")),
    };
    let mut command = Command::new(program);
    command.args(["run", named, "--seed", &format!("{seed:016x}"), "--format", "json", "-q", "--no-files"]);
    command.args(["--color", "never"]);
    if let Some(bug) = bug {
        command.args(["--bug", bug.id()]);
    }
    if let Some(checkpoints) = checkpoints {
        command.arg("--checkpoints").arg(checkpoints);
    }
    // What the user set for this process is not meant for that one.
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("TRIAL_") {
            command.env_remove(key);
        }
    }
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return Said::Nothing(format!("no other process could be started: {error}")),
    };
    let value: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    let ran = value.as_ref().and_then(|value| {
        Some(Said::Ran {
            fingerprint: value.get("fingerprint")?.as_str()?.to_owned(),
            events: value.get("events")?.as_u64()?,
        })
    });
    ran.unwrap_or_else(|| {
        let told = String::from_utf8_lossy(&output.stderr);
        let last = told.lines().last().unwrap_or("it said nothing");
        Said::Nothing(format!("another process ended with {} and no report: {last}", output.status))
    })
}

/// This very program, also when a newer build has taken its place on disk meanwhile.
fn program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// One checkpoint a line: events, nanoseconds of simulated time, hash. The last line is the end of the run.
#[must_use]
pub fn checkpoints_text(checkpoints: &[Checkpoint]) -> String {
    let line = |point: &Checkpoint| format!("{} {} {:032x}\n", point.events, point.at.0, point.hash);
    checkpoints.iter().map(line).collect()
}

/// Reads [`checkpoints_text`]; a line that is none ends it.
#[must_use]
pub fn read_checkpoints(text: &str) -> Vec<Checkpoint> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        Some(Checkpoint {
            events: words.next()?.parse().ok()?,
            at: sim::SimTime(words.next()?.parse().ok()?),
            hash: u128::from_str_radix(words.next()?, 16).ok()?,
        })
    };
    text.lines().map_while(line).collect()
}

/// Where two runs part, in words, by their checkpoints.
#[must_use]
pub fn where_they_part(left: &[Checkpoint], right: &[Checkpoint]) -> String {
    let Some(at) = left.iter().zip(right).position(|(left, right)| left != right) else {
        let (short, long) = (left.len().min(right.len()), left.len().max(right.len()));
        return format!("one ends after {short} checkpoints, the other after {long}");
    };
    let before = at.checked_sub(1).map(|before| left[before]);
    let (agree, since) = before.map_or((0, 0), |point| (point.events, point.at.0));
    let differ = left[at].events.max(right[at].events);
    let (from, to) = (since / 1_000_000, left[at].at.0.max(right[at].at.0) / 1_000_000);
    format!("equal for {agree} events, different within event {differ}: between {from} ms and {to} ms")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::SimTime;

    fn points(hashes: &[u128]) -> Vec<Checkpoint> {
        let point = |(index, hash): (usize, &u128)| {
            let events = 1024 * (index as u64 + 1);
            Checkpoint { events, at: SimTime(events * 1_000_000), hash: *hash }
        };
        hashes.iter().enumerate().map(point).collect()
    }

    #[test]
    fn checkpoints_are_read_as_they_were_written() {
        let some = points(&[1, u128::MAX, 3]);
        assert_eq!(read_checkpoints(&checkpoints_text(&some)), some);
        assert_eq!(read_checkpoints("1 2 zz\n"), []);
    }

    #[test]
    fn the_first_difference_is_named() {
        let told = where_they_part(&points(&[1, 2, 3]), &points(&[1, 9, 9]));
        assert_eq!(told, "equal for 1024 events, different within event 2048: between 1024 ms and 2048 ms");
        assert_eq!(where_they_part(&points(&[1]), &points(&[1, 2])), "one ends after 1 checkpoints, the other after 2");
    }

    #[test]
    fn another_fingerprint_is_another_run() {
        let said = |fingerprint: &str| Said::Ran { fingerprint: fingerprint.to_owned(), events: 5 };
        assert_eq!(said("0000000000000000000000000000002a").compare(42, 5), Compared::Same);
        assert!(matches!(said("0000000000000000000000000000002b").compare(42, 5), Compared::Different { .. }));
        assert!(matches!(Said::Nothing("x".to_owned()).compare(42, 5), Compared::Failed(_)));
    }
}
