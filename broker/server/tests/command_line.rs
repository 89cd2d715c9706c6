//! The `broker` program as its users meet it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // The real world is the point.

use broker_types::Uuid;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn broker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_broker")).args(args).env_remove("RUST_LOG").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn properties(dir: &Path, more: &str) -> String {
    let file = dir.join("server.properties");
    let text = format!(
        "node.id=1\nprocess.roles=broker,controller\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:0\n\
         controller.quorum.voters=1@127.0.0.1:9\ncontroller.listener.names=CONTROLLER\nlog.dirs={}\n{more}",
        dir.join("data").display()
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn random_uuid_prints_an_id_and_nothing_else() {
    let (one, other) = (broker(&["random-uuid"]), broker(&["random-uuid"]));
    assert!(one.status.success() && one.stderr.is_empty());
    let text = String::from_utf8(one.stdout.clone()).unwrap();
    assert!(Uuid::parse(text.trim_end_matches('\n')).is_some(), "{text:?}");
    assert_ne!(one.stdout, other.stdout);
}

#[test]
fn a_wrong_value_is_refused_with_key_value_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let file = properties(dir.path(), "");
    for (value, expected) in [
        (
            "num.partitions=none",
            "broker: num.partitions: `none` is not allowed here; allowed: a whole number, 1 or more\n",
        ),
        ("noise", "broker: --override noise: it takes KEY=VALUE\n"),
    ] {
        let refused = broker(&["start", "-c", &file, "--override", value]);
        assert_eq!((refused.status.code(), said(&refused).as_str()), (Some(1), expected));
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn an_unknown_key_is_warned_of_once_and_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let file = properties(dir.path(), "no.such.key=1\n");
    let formatted = broker(&["format", "-t", "vPeOCWypqUOSepEvx0cbog", "-c", &file]);
    assert!(formatted.status.success(), "{}", said(&formatted));
    assert_eq!(said(&formatted).matches("no.such.key").count(), 1, "{}", said(&formatted));
    assert!(dir.path().join("data/meta.properties").exists());
}

#[test]
fn an_unformatted_directory_is_refused_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let refused = broker(&["start", "-c", &properties(dir.path(), "")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("is not formatted; run `broker format` first"), "{}", said(&refused));
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_node_is_ready_on_one_line_keeps_others_out_and_ends_with_0_after_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let override_voters = format!("controller.quorum.voters=1@127.0.0.1:{port}");
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:0,CONTROLLER://127.0.0.1:{port}");
    let file = properties(dir.path(), "");
    assert!(broker(&["format", "-t", "vPeOCWypqUOSepEvx0cbog", "-c", &file]).status.success());
    let start = ["start", "-c", &file, "--override", &override_voters, "--override", &listeners, "--log", "warn"];
    let mut node = Command::new(env!("CARGO_BIN_EXE_broker")).args(start).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    assert!(ready.starts_with("broker and controller 1 is ready after "), "{ready}");
    assert!(
        ready.contains("PLAINTEXT://127.0.0.1:") && ready.ends_with(&format!("CONTROLLER://127.0.0.1:{port}")),
        "{ready}"
    );

    let second = broker(&start);
    assert_eq!(second.status.code(), Some(1));
    assert!(said(&second).contains("is in use by another process"), "{}", said(&second));

    let pid = rustix::process::Pid::from_child(&node);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(node.wait().unwrap().code(), Some(0));
    assert_eq!(lines.next().unwrap().unwrap(), "node 1 has shut down");
}

#[test]
fn a_dev_cluster_is_ready_within_a_second_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let port = (20_000..60_000)
        .step_by(7)
        .find(|port| (0..3).all(|more| std::net::TcpListener::bind(("127.0.0.1", port + more)).is_ok()))
        .unwrap();
    let mut cluster = Command::new(env!("CARGO_BIN_EXE_broker"))
        .args(["dev", "--controllers", "3", "--port", &port.to_string()])
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(cluster.stdout.take().unwrap()).lines();
    let ready = lines.next().unwrap().unwrap();
    let expected = "3 brokers and 3 controllers are ready after ";
    let ms: u64 = ready.strip_prefix(expected).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap();
    assert!(ms < 1000, "{ready}");
    assert!(ready.contains(&format!("localhost:{port},localhost:{},localhost:{}", port + 1, port + 2)), "{ready}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    rustix::process::kill_process(rustix::process::Pid::from_child(&cluster), rustix::process::Signal::INT).unwrap();
    assert_eq!(cluster.wait().unwrap().code(), Some(0));
    assert_eq!(lines.next().unwrap().unwrap(), "the cluster has shut down");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
