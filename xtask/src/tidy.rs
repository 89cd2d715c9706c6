//! `cargo xtask tidy`: what no compiler looks at.
//!
//! Each rule takes text and gives findings, so that each has a test that it finds what it is there to find.

mod manifests;
mod sources;
mod text;

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Finding {
    /// In the repository.
    file: String,
    /// From 1; 0 for the whole file.
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Finding { file: file.to_owned(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Whether a file is a scenario of the catalog.
pub(crate) fn is_catalog(file: &str) -> bool {
    file.starts_with("scenarios/catalog/") && file.ends_with(".toml")
}

/// Every file of the repository, sorted, with forward slashes.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if !matches!(name.to_str(), Some("target" | ".git" | "__pycache__" | "node_modules")) {
                    folders.push(path);
                }
            } else if name == ".git" {
                // A work tree beside the first has a file there, which names a folder of this machine.
            } else if let Ok(inside) = path.strip_prefix(root) {
                found.push(inside.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn tidy(root: &Path) -> Result<()> {
    let mut texts = BTreeMap::new();
    for file in files(root)? {
        // What is no text (golden bytes, seeds of fuzzers) has nothing to tidy.
        if let Ok(text) = String::from_utf8(fs::read(root.join(&file))?) {
            texts.insert(file, text);
        }
    }
    let mut findings = all(&texts);
    if findings.is_empty() {
        eprintln!("    {} files are tidy", texts.len());
        return Ok(());
    }
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    bail!("{} things to tidy", findings.len())
}

/// Everything that is wrong in these files.
fn all(texts: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (file, text) in texts {
        findings.extend(text::check(file, text, texts));
        if file.ends_with(".rs") {
            findings.extend(sources::check(file, text, texts));
        }
        if file.ends_with("Cargo.toml") {
            findings.extend(manifests::check(file, text));
        }
    }
    findings.extend(manifests::lock_file(texts));
    findings.extend(manifests::clippy_files(texts));
    findings.extend(catalog(texts));
    findings
}

/// A scenario that lies in the catalog's folder is in the catalog.
fn catalog(texts: &BTreeMap<String, String>) -> Vec<Finding> {
    let embedded = texts.get("scenarios/src/file/catalog.rs").map_or("", String::as_str);
    let named = |file: &str| {
        let path = file.trim_start_matches("scenarios/catalog/").trim_end_matches(".toml");
        embedded.contains(&format!("\"{path}\""))
    };
    let forgotten = texts.keys().filter(|file| is_catalog(file) && !named(file));
    forgotten.map(|file| Finding::new(file, 0, "no line of scenarios/src/file/catalog.rs names it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_nobody_embeds_is_found() {
        let mut texts = BTreeMap::from([
            ("scenarios/catalog/isr/one.toml".to_owned(), String::new()),
            ("scenarios/src/file/catalog.rs".to_owned(), "    \"isr/one\",\n".to_owned()),
        ]);
        assert_eq!(catalog(&texts), []);
        texts.insert("scenarios/catalog/isr/two.toml".to_owned(), String::new());
        assert_eq!(catalog(&texts).len(), 1);
    }
}
