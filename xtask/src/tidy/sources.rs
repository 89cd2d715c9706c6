//! Rules for Rust files.

use super::Finding;
use std::collections::BTreeMap;

/// A file longer than this has a second idea in it.
const MAX_LINES: usize = 1000;

/// What must not be said in the code under a folder, and why. Comments may say it.
const BANNED: &[(&str, &[&str], &str)] = &[
    ("broker/", &["madsim"], "the broker never learns that it is being simulated"),
    ("broker/core/src/", &["std::fs", "std::net", "std::thread", "std::env"], "core touches nothing"),
    ("broker/core/src/", &["Instant", "SystemTime"], "core is given `now`"),
    ("broker/core/src/", &["async fn", ".await", "tokio"], "core waits for nothing: the disk answers as an input"),
    (
        "broker/core/src/",
        &["RefCell", "Mutex", "AtomicU", "Cell<"],
        "a machine is a value, without interior mutability",
    ),
    ("broker/client/src/", &["broker_core", "broker_server"], "the client shares no decision with the broker"),
    (
        "checker/src/",
        &["broker_core", "broker_wire", "broker_server", "broker_client"],
        "judge and accused share no logic",
    ),
    ("sim/src/", &["kafka", "Kafka", "TopicPartition", "Offset", "LeaderEpoch"], "the world knows no Kafka"),
    ("broker/", &["thread_rng", "rand::random"], "chance has an owner: Env::entropy, by name"),
    ("sim/src/", &["thread_rng", "rand::random"], "chance has an owner: the seed's streams"),
    ("scenarios/src/", &["thread_rng", "rand::random"], "chance has an owner: the seed's streams"),
];

/// The one licensed exception: which bug is planted is chosen at run time, and the choice is a run's own.
const LICENSED: &[&str] = &["broker/core/src/planted.rs"];

pub(super) fn check(file: &str, text: &str, texts: &BTreeMap<String, String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let declared = declaration(file, texts);
    // Tests read files and variables of the machine they run on.
    let is_free = LICENSED.contains(&file) || declared == Declared::ForTests || !is_module(file);
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > MAX_LINES {
        let what = format!("{} lines: look for the second idea, and give it a file ({MAX_LINES} at most)", lines.len());
        findings.push(Finding::new(file, 0, what));
    }
    for (index, line) in lines.iter().enumerate() {
        let code = code_of(line);
        let mut find = |what: String| findings.push(Finding::new(file, index + 1, what));
        for (folder, words, why) in BANNED {
            if let Some(word) = words.iter().find(|word| !is_free && file.starts_with(folder) && says(code, word)) {
                find(format!("`{word}`: {why}"));
            }
        }
        let next = lines.get(index + 1).copied().unwrap_or_default();
        if code.contains(concat!("select", "! {")) && !next.contains("biased") {
            find("select without `biased`: it would draw from a stream that no seed decides".to_owned());
        }
        if code.trim() == concat!("#[ign", "ore]") {
            find("a test that is passed over says why: #[ignore = \"...\"]".to_owned());
        }
    }
    if is_module(file) {
        if !text.trim_start().starts_with("//!") {
            findings.push(Finding::new(file, 1, "a module begins with what it decides: //! ..."));
        }
        if declared == Declared::Nowhere {
            findings.push(Finding::new(file, 0, "no `mod` leads here: the file is dead"));
        }
    }
    findings
}

/// The line without its comment. (A `//` in a string ends it too early, which costs a finding and invents none.)
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// `word` in `code`; a word that begins or ends with a letter is no part of a longer one.
fn says(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let open_end = word.ends_with('U');
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part) && word.starts_with(part);
        let after = code[at + word.len()..].chars().next().is_some_and(part) && word.ends_with(part) && !open_end;
        !before && !after
    })
}

/// Below a `src` folder, and no test that has its name for a doc.
fn is_module(file: &str) -> bool {
    file.contains("/src/") && !file.ends_with("/tests.rs") && !file.contains("/tests/")
}

/// How a file is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Declared {
    /// By a `mod`, or by cargo itself.
    Yes,
    /// By a `mod` under `#[cfg(test)]`.
    ForTests,
    /// By nobody.
    Nowhere,
}

fn declaration(file: &str, texts: &BTreeMap<String, String>) -> Declared {
    let Some((folder, name)) = file.rsplit_once('/') else { return Declared::Yes };
    let name = name.trim_end_matches(".rs");
    if folder.ends_with("/src") && matches!(name, "lib" | "main") || folder.contains("/src/bin") {
        return Declared::Yes;
    }
    // mod.rs is reached as its folder; others from their folder's mod.rs, lib.rs, main.rs, or the file of its name.
    let (folder, name) = if name == "mod" { folder.rsplit_once('/').unwrap_or((folder, "")) } else { (folder, name) };
    for parent in ["/mod.rs", "/lib.rs", "/main.rs", ".rs"] {
        let parent = format!("{folder}{parent}");
        let Some(text) = texts.get(&parent) else { continue };
        let mut above = "";
        for line in text.lines().map(str::trim) {
            let declares = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
            if declares.is_some_and(|(_, declared)| declared == name) {
                // What belongs to a module for tests is for tests, too.
                let parent_is_for_tests = parent != file && declaration(&parent, texts) == Declared::ForTests;
                let for_tests = above.starts_with("#[cfg(") && above.contains("test") || parent_is_for_tests;
                return if for_tests { Declared::ForTests } else { Declared::Yes };
            }
            above = line;
        }
    }
    Declared::Nowhere
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let texts = BTreeMap::from([
            ("broker/core/src/lib.rs".to_owned(), "//! Lib.\npub mod raft;\nmod one;\n".to_owned()),
            ("broker/core/src/raft.rs".to_owned(), "//! Raft.\n#[cfg(test)]\nmod inner;\n".to_owned()),
        ]);
        check(file, text, &texts).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn core_that_waits_or_looks_at_a_clock_is_found() {
        let said = found("broker/core/src/one.rs", "//! One.\nlet now = Instant::now();\nreply.await;\n");
        assert_eq!(said.len(), 2, "{said:?}");
    }

    #[test]
    fn comments_may_say_what_code_may_not() {
        assert_eq!(
            found("broker/core/src/one.rs", "//! No madsim, no tokio.\nlet x = 1; // not an Instant\n"),
            [""; 0]
        );
    }

    #[test]
    fn a_banned_word_within_a_longer_one_is_none() {
        assert_eq!(found("broker/core/src/one.rs", "//! One.\nlet InstantaneousRate = 1;\n"), [""; 0]);
        assert_eq!(found("broker/core/src/one.rs", "//! One.\nlet x = AtomicU64::new(1);\n").len(), 1);
    }

    #[test]
    fn a_module_that_says_nothing_of_itself_is_found() {
        assert_eq!(found("broker/core/src/one.rs", "use std::fmt;\n").len(), 1);
    }

    #[test]
    fn a_file_that_no_module_names_is_found() {
        assert_eq!(found("broker/core/src/two.rs", "//! Two.\n"), ["no `mod` leads here: the file is dead"]);
        assert_eq!(found("broker/core/src/raft/other.rs", "//! Other.\n").len(), 1);
        assert_eq!(found("broker/core/src/raft/inner.rs", "//! Inner.\n"), [""; 0]);
    }

    #[test]
    fn what_is_for_tests_may_look_around() {
        assert_eq!(
            found("broker/core/src/raft/inner.rs", "//! Inner.\nlet seeds = std::env::var(\"SEEDS\");\n"),
            [""; 0]
        );
        assert_eq!(found("broker/core/src/raft.rs", "//! Raft.\nlet seeds = std::env::var(\"SEEDS\");\n").len(), 1);
    }

    #[test]
    fn a_long_file_is_found() {
        let text = format!("//! Long.\n{}", "\n".repeat(MAX_LINES));
        assert_eq!(found("broker/core/src/one.rs", &text).len(), 1);
    }

    #[test]
    fn a_select_that_draws_by_itself_is_found() {
        let head = concat!("//! One.\ntokio::select", "! {\n");
        assert_eq!(found("broker/server/src/main.rs", &format!("{head}    a = b => {{}}\n")).len(), 1);
        assert_eq!(found("broker/server/src/main.rs", &format!("{head}    biased;\n")), [""; 0]);
    }
}
