//! Rules for Cargo.toml, Cargo.lock and clippy.toml: who may import whom.

use super::Finding;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Crates of this workspace, and which of the others each may import. `dev-dependencies` may import more.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("broker-types", &[]),
    ("broker-wire", &["broker-types"]),
    ("broker-core", &["broker-types", "broker-wire"]),
    ("broker-env", &["broker-types"]),
    ("broker-server", &["broker-types", "broker-wire", "broker-core", "broker-env"]),
    ("broker-client", &["broker-types", "broker-wire", "broker-env"]),
    ("sim", &["broker-types", "broker-env"]),
    ("checker", &["broker-types"]),
    ("reports", &["checker"]),
    (
        "scenarios",
        &[
            "broker-types",
            "broker-wire",
            "broker-core",
            "broker-env",
            "broker-server",
            "broker-client",
            "sim",
            "checker",
            "reports",
        ],
    ),
    ("xtask", &[]),
];

/// Crates whose whole list of dependencies is part of the design.
const NOTHING_ELSE: &[(&str, &[&str])] = &[
    ("broker-types", &["serde"]),
    ("broker-core", &["imbl", "rand_chacha", "rand_core", "thiserror", "tracing"]),
    ("checker", &["petgraph", "serde", "serde_json"]),
];

/// Dependencies that belong to some crates alone.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("madsim", &["sim"]),
    ("proto-kafka", &["broker-wire"]),
    ("tokio", &["broker-env", "broker-server", "broker-client", "sim", "scenarios"]),
    ("anyhow", &["broker-server", "xtask"]),
    ("rand", &[]),
    ("chrono", &[]),
];

/// What only the `broker` binary needs, and its library must do without.
const BINARY_ONLY: &[&str] = &["anyhow", "clap", "rustix", "tempfile", "tracing-subscriber"];

const PLANTED: &str = "planted-bugs";

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    let manifest: Table = match text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::new(file, 0, format!("no TOML: {error}"))],
    };
    let Some(name) = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(Finding::new(file, 0, what));
    let empty = Table::new();
    let dependencies = manifest.get("dependencies").and_then(Value::as_table).unwrap_or(&empty);
    // A fuzz target or an example of its own is no crate of the design.
    let Some((_, own)) = MAY_IMPORT.iter().find(|(known, _)| *known == name) else { return planted(file, &manifest) };
    for (dependency, spec) in dependencies {
        let is_ours = MAY_IMPORT.iter().any(|(known, _)| known == dependency);
        if is_ours && !own.contains(&dependency.as_str()) {
            find(format!("{name} may not import {dependency}"));
        }
        let only = NOTHING_ELSE.iter().find(|(known, _)| *known == name);
        if !is_ours && only.is_some_and(|(_, list)| !list.contains(&dependency.as_str())) {
            find(format!("{name} does with little, and {dependency} is not part of it"));
        }
        if ONLY_IN.iter().any(|(outside, homes)| outside == dependency && !homes.contains(&name)) {
            find(format!("{dependency} does not belong in {name}"));
        }
        let optional = spec.get("optional").and_then(Value::as_bool).unwrap_or(false);
        if name == "broker-server" && BINARY_ONLY.contains(&dependency.as_str()) && !optional {
            find(format!("the library of broker-server does without {dependency}: make it optional"));
        }
        if dependency == "tokio" && spec.get("features").is_some() {
            find(
                "of tokio the library sees `sync` and `io-util`; the rest comes with a feature of the crate".to_owned(),
            );
        }
    }
    let inherits = |key: &str| manifest.get(key).and_then(|table| table.get("workspace")).and_then(Value::as_bool);
    if inherits("lints") != Some(true) {
        find("the workspace's lints apply: [lints] workspace = true".to_owned());
    }
    findings.extend(planted(file, &manifest));
    findings
}

/// Planted bugs come from the command line alone: features unify, and would ship them.
fn planted(file: &str, manifest: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    let names_it = |list: Option<&Value>| {
        list.and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|name| name.as_str().is_some_and(|name| name.contains(PLANTED)))
    };
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let table = manifest.get(section).and_then(Value::as_table);
        for (dependency, spec) in table.into_iter().flatten() {
            if names_it(spec.get("features")) {
                findings.push(Finding::new(file, 0, format!("{section}.{dependency} switches {PLANTED} on")));
            }
        }
    }
    if names_it(manifest.get("features").and_then(|features| features.get("default"))) {
        findings.push(Finding::new(file, 0, format!("{PLANTED} is on by default")));
    }
    findings
}

/// Everything comes from the public registry.
pub(super) fn lock_file(texts: &BTreeMap<String, String>) -> Vec<Finding> {
    let file = "Cargo.lock";
    let Some(text) = texts.get(file) else {
        return vec![Finding::new(file, 0, "is not there; it belongs to the repository")];
    };
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let strange = text.lines().enumerate().filter(|(_, line)| line.starts_with("source = ") && *line != public);
    strange.map(|(index, _)| Finding::new(file, index + 1, "not from crates.io")).collect()
}

/// Clippy reads the nearest clippy.toml only, so each repeats what the root's says.
pub(super) fn clippy_files(texts: &BTreeMap<String, String>) -> Vec<Finding> {
    let Some(root) = texts.get("clippy.toml") else { return vec![Finding::new("clippy.toml", 0, "is not there")] };
    let entries: Vec<&str> = root.lines().filter(|line| line.trim_start().starts_with('{')).collect();
    let mut findings = Vec::new();
    for (file, text) in texts.iter().filter(|(file, _)| file.ends_with("/clippy.toml")) {
        let missing = entries.iter().filter(|entry| !text.lines().any(|line| line == **entry));
        findings.extend(missing.map(|entry| Finding::new(file, 0, format!("does not repeat the root's line{entry}"))));
    }
    for folder in ["broker/types", "broker/wire", "broker/core", "broker/env", "broker/server", "broker/client", "sim"]
    {
        if !texts.contains_key(&format!("{folder}/clippy.toml")) {
            findings.push(Finding::new(
                folder,
                0,
                "has no clippy.toml, so the files and sockets of the machine are open to it",
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, rest: &str) -> usize {
        let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}");
        check("Cargo.toml", &text).len()
    }

    #[test]
    fn an_import_against_the_direction_is_found() {
        assert_eq!(found("broker-core", "[dependencies]\nbroker-types.workspace = true\n"), 0);
        assert_eq!(found("broker-core", "[dependencies]\nbroker-server.workspace = true\n"), 1);
        assert_eq!(found("broker-client", "[dependencies]\nbroker-core.workspace = true\n"), 1);
        assert_eq!(found("sim", "[dependencies]\nbroker-wire.workspace = true\n"), 1);
    }

    #[test]
    fn core_does_without_a_runtime_and_only_the_world_knows_its_executor() {
        assert_ne!(found("broker-core", "[dependencies]\ntokio.workspace = true\n"), 0);
        assert_eq!(found("sim", "[dependencies]\nmadsim.workspace = true\n"), 0);
        assert_eq!(found("scenarios", "[dependencies]\nmadsim.workspace = true\n"), 1);
    }

    #[test]
    fn a_runtime_feature_in_a_library_is_found() {
        assert_eq!(found("broker-client", "[dependencies]\ntokio = { workspace = true, features = [\"rt\"] }\n"), 1);
    }

    #[test]
    fn a_planted_bug_that_would_ship_is_found() {
        let rest = "[dev-dependencies]\nbroker-core = { workspace = true, features = [\"planted-bugs\"] }\n";
        assert_eq!(found("broker-server", rest), 1);
        assert_eq!(found("scenarios", "[features]\ndefault = [\"planted-bugs\"]\n"), 1);
        assert_eq!(found("scenarios", "[features]\nplanted-bugs = []\n"), 0);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(check("Cargo.toml", "[package]\nname = \"sim\"\n").len(), 1);
    }

    #[test]
    fn a_clippy_file_that_forgets_a_line_of_the_root_is_found() {
        let line = "    { path = \"std::thread::spawn\", reason = \"...\" },";
        let mut texts = BTreeMap::from([("clippy.toml".to_owned(), format!("disallowed-methods = [\n{line}\n]\n"))]);
        for folder in
            ["broker/types", "broker/wire", "broker/core", "broker/env", "broker/server", "broker/client", "sim"]
        {
            texts.insert(format!("{folder}/clippy.toml"), format!("{line}\n"));
        }
        assert_eq!(clippy_files(&texts), []);
        texts.insert("sim/clippy.toml".to_owned(), String::new());
        assert_eq!(clippy_files(&texts).len(), 1);
    }

    #[test]
    fn a_dependency_from_elsewhere_is_found() {
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://example.org/x\"\n";
        let texts = BTreeMap::from([("Cargo.lock".to_owned(), lock.to_owned())]);
        assert_eq!(lock_file(&texts).len(), 1);
    }
}
