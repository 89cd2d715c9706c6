//! Who reads what `trial` prints may leave at any time: no panic, and the exit code stays what it is.

use std::process::{Command, Stdio};

/// Runs `trial` for a reader that is gone before a byte is written: its exit code, and what it told on stderr.
fn trial_unread(arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let folder = tempfile::tempdir().expect("a folder");
    let mut trial = Command::new(env!("CARGO_BIN_EXE_trial"));
    trial.args(arguments).current_dir(&folder).stdout(writer).stderr(Stdio::piped());
    let output = trial.output().expect("trial runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_reader_who_leaves_changes_nothing() {
    for (arguments, wanted) in [
        (&["scenario", "list"][..], 0),
        (&["bugs", "list"], 0),
        (&["completions", "bash"], 0),
        (&["run", "smoke", "--seed", "1"], 0),
        (&["run", "acks-1-power-loss", "--seed", "7"], 10),
        (&["run", "acks-1-power-loss", "--seed", "7", "--format", "json"], 10),
        (&["explore", "smoke", "--seeds", "1"], 0),
    ] {
        let (code, told) = trial_unread(arguments);
        assert_eq!(code, Some(wanted), "{arguments:?}: {told}");
        assert!(!told.contains("panicked"), "{arguments:?}: {told}");
    }
}
