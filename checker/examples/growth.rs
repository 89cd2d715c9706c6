//! How judging linearizability grows with the length of a history: the sweep over a log, and the search on a store of strings
//! and on a register.
//!
//! `cargo run --release -p checker --example growth [MOST]`, where MOST is the longest log, a million by default

use broker_types::{Offset, TopicIdPartition, Uuid};
use checker::{
    Acks, Context, History, Op, OpId, OpKind, Options, Outcome, Send, SessionId, SimTime, ValueId, Verdict, judge_log,
    judge_text,
};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Appends of 64 producers, one in flight each.
fn log(appends: u64) -> History {
    let append = |value: u64| {
        let partition = TopicIdPartition { topic: Uuid(7), partition: 0 };
        let (value_id, offset) = (ValueId(value), Some(Offset(value as i64)));
        let send =
            Send { partition, value: value_id, digest: value, acks: Acks::All, idempotent: true, offset, error: None };
        Op {
            id: OpId(value),
            session: SessionId((value % 64) as u32),
            invoked: SimTime(value * 1000),
            returned: Some(SimTime(value * 1000 + 64_000)),
            outcome: Outcome::Ok,
            kind: OpKind::Send(send),
        }
    };
    History { ops: (0..appends).map(append).collect() }
}

/// Operations of `processes`, each in flight for as long as a round of all of them takes, that take effect when they return:
/// `does` tells each of them its process and its number, and gets what was asked and what was answered.
fn edn(count: u64, processes: u64, mut does: impl FnMut(u64, u64) -> [String; 2]) -> String {
    let mut text = String::new();
    let mut open: Vec<Option<String>> = vec![None; processes as usize];
    for number in 0..count + processes {
        let process = number % processes;
        if let Some(answer) = open[process as usize].take() {
            let _ = writeln!(text, "{{:process {process}, {answer}}}");
        }
        if number < count {
            let [asked, answered] = does(process, number);
            let _ = writeln!(text, "{{:process {process}, :type :invoke, {asked}}}");
            open[process as usize] = Some(format!(":type :ok, {answered}"));
        }
    }
    text
}

/// Appends, gets and now and then a put; 200 operations a key, ten processes.
fn store(count: u64) -> String {
    let mut values: Vec<String> = Vec::new();
    edn(count, 10, |process, number| {
        let key = number / 200;
        values.resize((key + 1) as usize, String::new());
        let value = &mut values[key as usize];
        let (name, text) = match number % 20 {
            0 => ("put", format!("\"p {process} {number} \"")),
            at if at % 2 == 0 => ("append", format!("\"a {process} {number} \"")),
            _ => ("get", format!("{value:?}")),
        };
        match name {
            "put" => *value = text.trim_matches('"').to_owned(),
            "append" => value.push_str(text.trim_matches('"')),
            _ => return ["nil", &text].map(|text| format!(":f :get, :key {key}, :value {text}")),
        }
        [(); 2].map(|()| format!(":f :{name}, :key {key}, :value {text}"))
    })
}

/// Writes of five values and reads of one register, ten processes.
fn register(count: u64) -> String {
    let mut value = "nil".to_owned();
    edn(count, 10, |_, number| match number % 3 {
        0 => {
            value = (number % 5).to_string();
            [(); 2].map(|()| format!(":f :write, :value {value}"))
        }
        _ => [":f :read, :value nil".to_owned(), format!(":f :read, :value {value}")],
    })
}

fn line(what: &str, count: u64, time: Duration) {
    println!("{what:9} {count:>9} operations  {time:>12.3?}  {:>6.0} ns each", time.as_nanos() as f64 / count as f64);
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine, and nothing depends on the figures")]
fn main() {
    let most = std::env::args().nth(1).and_then(|most| most.parse().ok()).unwrap_or(1_000_000);
    for count in (3..).map(|power| 10u64.pow(power)).take_while(|count| *count <= most) {
        let history = log(count);
        let started = Instant::now();
        let results = judge_log(&history, &Context::default());
        line("log", count, started.elapsed());
        assert!(results.iter().all(|result| result.violations.is_empty()));
    }
    for what in ["kv", "register"] {
        for count in [1000, 10_000, 100_000] {
            let text = if what == "kv" { store(count) } else { register(count) };
            let started = Instant::now();
            let judged = judge_text(&text, &Options::default()).expect("a history");
            line(what, count, started.elapsed());
            assert_eq!(judged.verdict, Verdict::Pass, "{:?}", judged.reasons);
        }
    }
}
