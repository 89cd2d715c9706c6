//! What proves each check, as docs/INVARIANTS.md tells it: the changes that it refuses, and the bugs that are planted for it.

use super::{black_box, the_end, white_box};
use crate::registry::CHECKS;
use std::fmt::Write;

fn page() -> &'static str {
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/INVARIANTS.md"))
}

/// The planted bugs that the page says a check sees.
fn planted(check: &str) -> String {
    let rows = page().lines().filter_map(|line| line.strip_prefix("| ")?.split_once(", "));
    let bugs = rows.filter(|(bug, _)| bug.len() == 3 && bug.ends_with(|last: char| last.is_ascii_digit()));
    let seen = bugs.filter(|(_, rest)| rest.contains(&format!("`{check}`"))).map(|(bug, _)| bug);
    let seen: Vec<&str> = seen.collect();
    if seen.is_empty() { "–".to_owned() } else { seen.join(" ") }
}

#[test]
fn the_page_of_invariants_tells_what_each_check_refuses() {
    let refused = [black_box::refused(), white_box::refused(), the_end::refused()].concat();
    let mut table = String::from("| check | refuses | planted bugs |\n| --- | --- | --- |\n");
    for check in CHECKS {
        let changes: Vec<&str> = refused.iter().filter(|(id, _)| *id == check.id).map(|(_, what)| *what).collect();
        writeln!(table, "| `{}` | {} | {} |", check.id, changes.join("; "), planted(check.id)).expect("a string");
    }
    assert!(page().contains(&table), "docs/INVARIANTS.md is to have this table:\n{table}");
}
