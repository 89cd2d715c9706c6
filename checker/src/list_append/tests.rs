use crate::{CheckOutcome, Judged, Level, Options, Verdict, judge_text};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One transaction: its process, what came of it, and its steps as they return: `append x 1, r y [1 2]`.
type Txn<'t> = (i64, &'t str, &'t str);

fn steps(text: &str, is_answer: bool) -> String {
    let steps = text.split(", ").map(|step| {
        let mut words = step.splitn(3, ' ');
        let (word, key, value) = (words.next(), words.next(), words.next());
        let value = value.filter(|_| is_answer || word == Some("append")).unwrap_or("nil");
        format!("[:{} :{} {value}]", word.expect("a word"), key.expect("a key"))
    });
    format!("[{}]", steps.collect::<Vec<_>>().join(" "))
}

fn invoke(text: &mut String, (process, _, txn): Txn<'_>) {
    let value = steps(txn, false);
    writeln!(text, "{{:process {process}, :type :invoke, :f :txn, :value {value}}}").expect("a string");
}

fn complete(text: &mut String, (process, came, txn): Txn<'_>) {
    let value = steps(txn, true);
    writeln!(text, "{{:process {process}, :type :{came}, :f :txn, :value {value}}}").expect("a string");
}

/// All at the same time, each in a process of its own.
fn together(txns: &[&str]) -> String {
    let mut text = String::new();
    let txns = (0..).zip(txns).map(|(process, txn)| match txn.split_once(": ") {
        Some((came, steps)) => (process, came, steps),
        None => (process, "ok", *txn),
    });
    txns.clone().for_each(|txn| invoke(&mut text, txn));
    txns.for_each(|txn| complete(&mut text, txn));
    text
}

/// One after the other.
fn in_turn(txns: &[Txn<'_>]) -> String {
    let mut text = String::new();
    for txn in txns {
        invoke(&mut text, *txn);
        complete(&mut text, *txn);
    }
    text
}

fn judged(text: &str, level: &str) -> Judged {
    let options = Options { level: level.parse().expect("a level"), ..Options::default() };
    judge_text(text, &options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The anomalies found that the level forbids, and the weakest levels they refute.
fn found(text: &str, level: &str) -> (Vec<String>, String) {
    let judged = judged(text, level);
    let violated = judged.checks.iter().filter(|check| check.outcome == CheckOutcome::Violation);
    let names = violated.map(|check| check.id.clone()).filter(|id| id != "isolation-level").collect();
    let summary = &judged.checks[0];
    let refuted = summary.violations.first().map_or("", |violation| &violation.evidence[1]);
    (names, refuted.trim_start_matches("the weakest levels refuted: ").to_owned())
}

#[track_caller]
fn expect(text: &str, level: &str, anomalies: &[&str], refuted: &str) {
    let (mut names, not) = found(text, level);
    names.sort();
    assert_eq!(
        (names.iter().map(String::as_str).collect::<Vec<_>>(), not.as_str()),
        (anomalies.to_vec(), refuted),
        "{text}"
    );
    let verdict = judged(text, level).verdict;
    assert_eq!(verdict, if anomalies.is_empty() { Verdict::Pass } else { Verdict::Violation });
}

const STRICT: &str = "strict-serializable";

#[test]
fn writes_in_contradictory_orders_are_g0() {
    let text = together(&["append x 1, append y 1", "append x 2, append y 2", "r x [1 2], r y [2 1]"]);
    expect(&text, "read-uncommitted", &["G0"], "read-uncommitted");
}

#[test]
fn a_read_of_what_failed_is_g1a() {
    let text = together(&["fail: append x 1", "r x [1], append x 2", "r x [1 2]"]);
    let anomalies = found(&text, "read-committed").0;
    assert_eq!(anomalies, ["G1a", "dirty-update"]);
    // With reads of nothing else there is still evidence: what was read.
    expect(&together(&["fail: append x 1", "r x [1]"]), "read-committed", &["G1a"], "read-committed");
    let permitted = judged(&together(&["fail: append x 1", "r x [1]"]), "read-uncommitted");
    assert_eq!(permitted.verdict, Verdict::Pass);
    let g1a = permitted.checks.iter().find(|check| check.id == "G1a").expect("every check tells");
    assert_eq!(g1a.allowed, [("permitted by read-uncommitted".to_owned(), 1)].into());
    assert_eq!(permitted.checks[0].allowed, [("refutes read-committed".to_owned(), 1)].into());
}

#[test]
fn an_intermediate_read_is_g1b() {
    let text = together(&["append x 1, append x 2", "r x [1]"]);
    expect(&text, STRICT, &["G-single-item", "G1b"], "read-committed");
    expect(&together(&["append x 1, r x [1], append x 2", "r x [1 2]"]), STRICT, &[], "");
}

#[test]
fn circular_information_is_g1c() {
    let text = together(&["append x 1, r y [1]", "append x 2, append y 1", "r x [1 2], r y [1]"]);
    expect(&text, "read-committed", &["G1c"], "read-committed");
    expect(&text, "read-uncommitted", &[], "");
}

#[test]
fn half_a_transaction_read_is_g_single() {
    let text = together(&["append x 1, append y 1", "append x 2, r y nil", "r x [1 2]"]);
    expect(&text, "serializable", &["G-single-item"], "consistent-view, repeatable-read");
    expect(&text, "read-committed", &[], "");
    let text = together(&["append x 1, append y 1", "r x [1], r y nil"]);
    expect(&text, "repeatable-read", &["G-single-item"], "consistent-view, repeatable-read");
}

#[test]
fn write_skew_is_g2() {
    let text = together(&["append x 1, r y nil", "append y 1, r x nil"]);
    expect(&text, "serializable", &["G2-item"], "repeatable-read");
    expect(&text, "repeatable-read", &["G2-item"], "repeatable-read");
    expect(&text, "snapshot-isolation", &[], "");
}

#[test]
fn snapshots_that_disagree_are_g_nonadjacent() {
    let text = together(&["append x 1", "r x [1], r y nil", "append y 1", "r y [1], r x nil"]);
    expect(&text, STRICT, &["G-nonadjacent-item"], "repeatable-read, snapshot-isolation");
    // Two of three reads follow each other: snapshots may do so.
    let text = together(&[
        "r e [1], r a nil",
        "append a 1, r b nil",
        "append b 1, append c 1",
        "r c [1], r d nil",
        "append d 1, append e 1",
    ]);
    expect(&text, "snapshot-isolation", &[], "");
    expect(&text, "serializable", &["G2-item"], "repeatable-read");
}

#[test]
fn what_was_never_read_came_last() {
    let text = together(&[
        "append x 1, append y 1",
        "append x 2, append y 2",
        "append x 3, append y 3",
        "r x [1 2]",
        "r y [2]",
    ]);
    expect(&text, "serializable", &["G-single-item", "G0"], "read-uncommitted");
}

#[test]
fn a_stale_read_breaks_real_time_only() {
    let text =
        in_turn(&[(0, "ok", "append x 1"), (1, "ok", "append x 2"), (2, "ok", "r x [1]"), (3, "ok", "r x [1 2]")]);
    expect(&text, "serializable", &[], "");
    expect(&text, STRICT, &["G-single-item-realtime"], "strong-snapshot-isolation");
    let own =
        in_turn(&[(0, "ok", "append x 1"), (1, "ok", "append x 2"), (1, "ok", "r x [1]"), (3, "ok", "r x [1 2]")]);
    expect(&own, "strong-session-snapshot-isolation", &["G-single-item-process"], "strong-session-snapshot-isolation");
    expect(&text, "strong-session-serializable", &[], "");
    expect(&own, STRICT, &["G-single-item-realtime"], "strong-snapshot-isolation");
}

#[test]
fn a_process_that_learns_of_its_own_future_is_g1c_process() {
    let text = in_turn(&[(1, "ok", "r x [1], append y 1"), (2, "ok", "r y [1]"), (2, "ok", "append x 1")]);
    expect(&text, "strong-session-snapshot-isolation", &["G1c-process"], "strong-session-read-committed");
    expect(&text, STRICT, &["G1c-realtime"], "strong-read-committed");
}

#[test]
fn snapshots_out_of_a_process_order_are_g_nonadjacent_process() {
    let text = in_turn(&[
        (0, "ok", "r x nil, r z [1]"),
        (1, "ok", "append x 1"),
        (1, "ok", "r z nil"),
        (2, "ok", "append z 1"),
    ]);
    expect(&text, "serializable", &[], "");
    expect(
        &text,
        "strong-session-snapshot-isolation",
        &["G-nonadjacent-item-process"],
        // The first read what the last one appended long after.
        "strong-read-committed, strong-session-snapshot-isolation",
    );
}

#[test]
fn two_updates_of_one_state_lose_one() {
    let text = together(&["append x 0", "r x [0], append x 1", "r x [0], append x 2"]);
    expect(&text, STRICT, &["G2-item", "lost-update"], "cursor-stability, update-atomic");
    expect(&together(&["r x nil, append x 1, append x 2", "r x [1 2]"]), STRICT, &[], "");
}

#[test]
fn lists_that_contradict_each_other_have_no_order() {
    let text = together(&["append x 1, r y [1]", "append x 2", "append x 3, append y 1", "r x [1 3]", "r x [1 2 3]"]);
    assert_eq!(
        found(&text, "read-committed"),
        (vec!["incompatible-order".to_owned(), "G1c".to_owned()], "read-committed".to_owned())
    );
    let twice = together(&["append x 1", "append x 2", "r x [1 2 1]"]);
    expect(&twice, "read-committed", &["duplicate-elements"], "read-uncommitted");
    expect(&together(&["append x 1", "r x [1 7]"]), "read-committed", &["garbage-read"], "read-committed");
}

#[test]
fn a_transaction_agrees_with_itself() {
    let broken = [
        "r x [1 2], append x 3, r x [1 2]",
        "r x [1 2], append x 3, r x [0 2 3]",
        "r x [1 2], append x 3, r x [1 2 3 4]",
        "r x [1 2], append x 3, r x [1]",
        "append x 3, r x [1 2 3 4]",
        "append x 3, r x nil",
        "r x nil, r x [1 2]",
    ];
    for txn in broken {
        let others = ["append x 1", "append x 2", "append x 4", "append x 0"];
        let text = together(&[&[txn], &others[..]].concat());
        assert!(found(&text, STRICT).0.contains(&"internal".to_owned()), "{txn}");
    }
    let own = together(&["append x 1", "append x 2", "r x [1 2], append x 3, r x [1 2 3], append x 4, r x [1 2 3 4]"]);
    expect(&own, STRICT, &[], "");
    let future = together(&["r x [0 1], append x 1", "append x 0"]);
    assert!(found(&future, STRICT).0.contains(&"future-read".to_owned()));
}

#[test]
fn a_dirty_update_may_have_unknown_ones_between() {
    let text = together(&["fail: append x 1", "info: append x 2", "append x 3", "r x [1 2 3]"]);
    assert!(found(&text, "read-committed").0.contains(&"dirty-update".to_owned()));
}

#[test]
fn unknown_outcomes_prove_nothing_but_what_others_saw() {
    // T1 may not have read the empty list: it never said.
    let text = together(&["info: append x 2, r y", "append x 1, append y 1", "r x [1 2], r y [1]"]);
    expect(&text, STRICT, &[], "");
    let never = "{:process 0, :type :invoke, :f :txn, :value [[:append :x 1]]}\n".to_owned();
    expect(&(never + &in_turn(&[(1, "ok", "r x [1]")])), STRICT, &[], "");
}

#[test]
fn nothing_read_proves_nothing() {
    let judged = judged(&together(&["append x 1", "append y 1"]), STRICT);
    assert_eq!(judged.verdict, Verdict::Inconclusive, "{:?}", judged.reasons);
}

#[test]
fn what_is_no_transaction_is_refused_with_its_line() {
    let refused = |text: &str| {
        judge_text(text, &Options { model: Some(crate::Model::ListAppend), ..Options::default() }).expect_err(text)
    };
    let texts = [
        in_turn(&[(0, "ok", "append x 1"), (0, "ok", "append x 1")]),
        "{:process 0, :type :invoke, :f :txn, :value [[:append 1 1] [:w 1 2]]}".to_owned(),
        "{:process 0, :type :invoke, :f :txn, :value 7}".to_owned(),
        "{:process 0, :type :invoke, :f :txn, :value [[:r 1 nil]]}\n{:process 0, :type :ok, :f :txn, :value [[:r 1 7]]}".to_owned(),
        "{:process 0, :type :invoke, :f :txn, :value [[:r 1 nil]]}\n{:process 0, :type :ok, :f :txn}".to_owned(),
        "{:process 0, :type :invoke, :f :txn, :value [[:r 1 nil]]}\n{:process 0, :type :ok, :f :txn, :value []}".to_owned(),
        "{:process 0, :type :invoke, :f :txn, :value [[:append 1 1]]}\n{:process 0, :type :ok, :f :txn, :value [[:append 1 2]]}".to_owned(),
    ];
    insta::assert_snapshot!(texts.iter().map(|text| format!("{text}\n    {}\n", refused(text))).collect::<String>());
}

#[test]
fn a_wrong_step_in_a_log_is_refused_with_its_line() {
    let log = "INFO  jepsen.util - 0\t:invoke\t:txn\t[[:r 1 nil]]\nINFO  jepsen.util - 0\t:ok\t:txn\t[[:r 1 7]]\n";
    let error = judge_text(log, &Options::default()).expect_err(log);
    assert_eq!(error, "line 2: a read returns a vector or nil, not `7`");
}

#[test]
fn a_cycle_is_told_step_by_step() {
    let text = in_turn(&[
        (0, "ok", "append x 1, append y \"a\""),
        (1, "ok", "r x [1], r y nil"),
        (2, "ok", "append x 2, append y \"b\""),
        (3, "ok", "r x [1 2], r y [\"a\"]"),
        (3, "fail", "append x 3"),
        (4, "ok", "r x [1 2 3], r y [\"b\" \"a\"]"),
    ]);
    let judged = judged(&text, STRICT);
    let mut told = String::new();
    for violation in judged.checks.iter().flat_map(|check| &check.violations) {
        writeln!(told, "{}: {}\n    {}", violation.check, violation.guarantee, violation.evidence.join("\n    "))
            .expect("a string");
    }
    insta::assert_snapshot!(told);
}

/// What a database does with one transaction after the other: keys to append to (or to read), and when it begins and ends.
#[derive(Clone, Debug)]
struct Work {
    steps: Vec<(bool, u8)>,
    came: u8,
}

fn work() -> impl Strategy<Value = Vec<Work>> {
    let steps = prop::collection::vec((any::<bool>(), 0u8..3), 1..4);
    prop::collection::vec((steps, 0u8..10).prop_map(|(steps, came)| Work { steps, came }), 1..40)
}

/// A database of which every transaction sees a snapshot of the moment it begins. If `serial`, it begins when it ends; else a
/// transaction fails when another one appended to the same key meanwhile. Four run at a time.
fn database(all: &[Work], serial: bool) -> String {
    let mut lists: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    let mut text = String::new();
    let mut next = 0;
    for round in all.chunks(4) {
        let mut lines: Vec<(i64, String)> = Vec::new();
        let snapshot = lists.clone();
        let mut appended: Vec<u8> = Vec::new();
        for (process, work) in (0..).zip(round) {
            let view = if serial { lists.clone() } else { snapshot.clone() };
            let mut mine = view.clone();
            let mut told = Vec::new();
            for (is_append, key) in &work.steps {
                if *is_append {
                    next += 1;
                    mine.entry(*key).or_default().push(next);
                    told.push(format!("append k{key} {next}"));
                } else {
                    let list: Vec<String> = mine.get(key).into_iter().flatten().map(ToString::to_string).collect();
                    told.push(format!("r k{key} [{}]", list.join(" ")));
                }
            }
            let conflicts = work.steps.iter().any(|(is_append, key)| *is_append && appended.contains(key));
            let came = match work.came {
                0 => "fail",
                _ if !serial && conflicts => "fail",
                1 | 2 => "info",
                _ => "ok",
            };
            // Of those without a known outcome, half take effect.
            if came == "ok" || (came == "info" && work.came == 1) {
                for (_, key) in work.steps.iter().filter(|(is_append, _)| *is_append) {
                    lists.insert(*key, mine[key].clone());
                    appended.push(*key);
                }
            }
            let told = told.join(", ");
            let told = if came == "ok" {
                told
            } else {
                told.split(", ")
                    .map(|step| step.split(" [").next().unwrap_or(step).to_owned())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            lines.push((process, format!("{came}: {told}")));
        }
        let parts = |line: &str| {
            line.split_once(": ").map(|(came, steps)| (came.to_owned(), steps.to_owned())).expect("two parts")
        };
        for (process, line) in &lines {
            let (came, steps) = parts(line);
            invoke(&mut text, (*process, &came, &steps));
        }
        for (process, line) in &lines {
            let (came, steps) = parts(line);
            complete(&mut text, (*process, &came, &steps));
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_serial_database_is_never_accused(work in work()) {
        let text = database(&work, true);
        prop_assert_eq!(found(&text, STRICT).0, Vec::<String>::new(), "{}", text);
    }

    #[test]
    fn a_database_of_snapshots_is_not_accused_of_more_than_write_skew(work in work()) {
        let text = database(&work, false);
        prop_assert_eq!(found(&text, "strong-snapshot-isolation").0, Vec::<String>::new(), "{}", text);
    }
}

#[test]
fn levels_are_ordered_by_what_they_forbid() {
    let text = together(&["append x 1, r y nil", "append y 1, r x nil"]);
    let violated: Vec<&str> = Level::all()
        .filter(|level| judged(&text, level.name()).verdict == Verdict::Violation)
        .map(Level::name)
        .collect();
    assert_eq!(violated, ["repeatable-read", "serializable", "strong-session-serializable", "strict-serializable"]);
}
