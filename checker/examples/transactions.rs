//! What judging transactions costs: prints how long a million transactions of appends and reads take to read and to judge,
//! and what is found in histories named on the command line.
//!
//! `cargo run --release -p checker --example transactions [HISTORY.edn...]`

use checker::readers::{Form, read_operations};
use checker::{CheckOutcome, Options, judge_text};
use std::fmt::Write;
use std::time::Instant;

/// A million transactions of up to four steps, twenty processes at a time, on keys of 32 elements: serial, or each round of twenty
/// on the snapshot that it began with.
fn history(transactions: u64, serial: bool) -> String {
    let mut text = String::new();
    let mut lists: Vec<Vec<u64>> = vec![Vec::new(); 10];
    let mut first_key = 0;
    let mut chance = 42u64;
    let mut draw = move |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % below
    };
    for round in 0..transactions / 20 {
        let mut lines = Vec::new();
        let before = lists.clone();
        for process in 0..20 {
            let (mut asked, mut answered) = (String::new(), String::new());
            for _ in 0..=draw(4) {
                let at = draw(10) as usize;
                let key = first_key + at as u64;
                if draw(2) == 0 {
                    let value = lists[at].len() as u64 + 1;
                    lists[at].push(value);
                    write!(asked, "[:append {key} {value}] ").expect("a string");
                    write!(answered, "[:append {key} {value}] ").expect("a string");
                } else {
                    let list = if serial { &lists[at] } else { &before[at] };
                    write!(asked, "[:r {key} nil] ").expect("a string");
                    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                    write!(answered, "[:r {key} [{}]] ", list.join(" ")).expect("a string");
                }
            }
            writeln!(text, "{{:process {process}, :type :invoke, :f :txn, :value [{asked}]}}").expect("a string");
            lines.push(format!("{{:process {process}, :type :ok, :f :txn, :value [{answered}]}}\n"));
        }
        text.extend(lines);
        if round % 12 == 11 {
            first_key += 10;
            lists.iter_mut().for_each(Vec::clear);
        }
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {} ms", start.elapsed().as_millis());
    result
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (name, serial) in [("serial", true), ("snapshots", false)] {
        let text = history(1_000_000, serial);
        println!("{name}: {} MB", text.len() / 1_000_000);
        let operations = timed("  read", || read_operations(&text, Form::Edn))?;
        println!("  {} operations", operations.len());
        drop(operations);
        tell(&timed("  read and judged", || judge_text(&text, &Options::default()))?);
    }
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path)?;
        tell(&timed(&path, || judge_text(&text, &Options::default()))?);
    }
    Ok(())
}

fn tell(judged: &checker::Judged) {
    println!("  {} of {} operations", judged.verdict, judged.operations);
    for check in
        judged.checks.iter().filter(|check| !matches!(check.outcome, CheckOutcome::Pass | CheckOutcome::Vacuous))
    {
        println!("  {} {:?} {} times", check.id, check.outcome, check.violations_in_all);
    }
}
