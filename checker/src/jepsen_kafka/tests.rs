use crate::{CheckOutcome, Judged, Options, Verdict, judge_text};
use std::fmt::Write;

/// `process came :f steps`, steps being `send key value@offset` and `poll key value@offset … key …`, with `; ` between; for
/// `assign` and `subscribe` the keys.
fn history(ops: &[&str]) -> String {
    let mut text = String::new();
    for op in ops {
        let mut words = op.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (process, came, name, rest) = (word(), word(), word(), word());
        let mut tell = |kind: &str, value: &str, more: &str| {
            writeln!(text, "{{:process {process}, :type :{kind}, :f :{name}, :value {value}{more}}}")
                .expect("a string");
        };
        if matches!(name, "assign" | "subscribe") {
            let (keys, more) = match rest.strip_suffix(" from-beginning") {
                Some(keys) => (keys, ", :seek-to-beginning? true"),
                None => (rest, ""),
            };
            let keys = format!("[{}]", keys.split(' ').map(|key| format!(":{key}")).collect::<Vec<_>>().join(" "));
            tell("invoke", &keys, more);
            tell(came, &keys, more);
            continue;
        }
        let (steps, rebalanced) = rest.split_once(" rebalanced ").unwrap_or((rest, ""));
        let more =
            if rebalanced.is_empty() { String::new() } else { format!(", :rebalance-log [{{:keys [:{rebalanced}]}}]") };
        let (asked, answered): (Vec<String>, Vec<String>) = steps.split("; ").map(step).unzip();
        tell("invoke", &format!("[{}]", asked.join(" ")), "");
        if came != "open" {
            tell(came, &format!("[{}]", answered.join(" ")), &more);
        }
    }
    text
}

fn step(step: &str) -> (String, String) {
    let mut words = step.split(' ');
    if words.next() == Some("send") {
        let (key, record) = (words.next().expect("a key"), words.next().expect("a value"));
        let answered = match record.split_once('@') {
            Some((value, offset)) => format!("[{offset} :{value}]"),
            None => format!(":{record}"),
        };
        let value = record.split('@').next().expect("a value");
        return (format!("[:send :{key} :{value}]"), format!("[:send :{key} {answered}]"));
    }
    let mut answered = String::from("[:poll {");
    let mut open = false;
    for word in words {
        match word.split_once('@') {
            Some((value, offset)) => write!(answered, "[{offset} :{value}] ").expect("a string"),
            None => {
                write!(answered, "{}:{word} [", if open { "] " } else { "" }).expect("a string");
                open = true;
            }
        }
    }
    answered.push_str(if open { "]}]" } else { "}]" });
    ("[:poll]".to_owned(), answered)
}

fn judged(ops: &[&str]) -> Judged {
    let text = history(ops);
    judge_text(&text, &Options::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The checks that are violated.
#[track_caller]
fn violated(ops: &[&str]) -> Vec<String> {
    let judged = judged(ops);
    let violated = judged.checks.iter().filter(|check| check.outcome == CheckOutcome::Violation);
    let names: Vec<String> = violated.map(|check| check.id.clone()).collect();
    assert_eq!(judged.verdict == Verdict::Violation, !names.is_empty());
    names
}

/// How often a check found what Kafka allows, by reason.
fn allowed(ops: &[&str], id: &str) -> Vec<(String, u64)> {
    let judged = judged(ops);
    judged.checks.into_iter().find(|check| check.id == id).expect(id).allowed.into_iter().collect()
}

const NONE: [&str; 0] = [];

#[test]
fn a_history_in_good_order_passes() {
    let good = [
        "0 ok send send x a@0; send x b@1; send y c@0",
        "1 ok assign x y",
        "1 ok poll poll x a@0 y c@0",
        "1 ok txn poll x b@1; send z d@4",
        "2 ok poll poll z d@4",
    ];
    assert_eq!(violated(&good), NONE);
    assert_eq!(judged(&good).verdict, Verdict::Pass);
    assert_eq!(judged(&good[..2]).verdict, Verdict::Pass, "offsets were told, and none twice");
    assert_eq!(judged(&good[1..2]).verdict, Verdict::Inconclusive);
}

#[test]
fn an_offset_with_two_values_is_inconsistent() {
    assert_eq!(violated(&["0 ok send send x a@5", "1 ok send send x b@5"]), ["inconsistent-offset"]);
    // Nobody knows whether the first was committed: until somebody reads a part of it.
    let unknown = ["0 info send send x a@0; send y c", "1 ok send send x b@0"];
    assert_eq!(violated(&unknown), NONE);
    assert_eq!(violated(&[&unknown[..], &["2 ok poll poll y c@5"]].concat()), ["inconsistent-offset"]);
}

#[test]
fn a_value_at_two_offsets_is_a_duplicate() {
    assert_eq!(
        violated(&["0 ok send send x a@0; send x b@1", "1 ok poll poll x a@0 b@1 a@2"]),
        ["duplicate", "int-nonmonotonic-poll"]
    );
    assert_eq!(violated(&["0 ok send send x a@1", "1 ok poll poll x a@0"]), ["duplicate"]);
}

#[test]
fn what_an_aborted_transaction_sent_is_not_polled() {
    let send = "0 fail txn send x a; send y b";
    assert_eq!(violated(&[send, "1 ok poll poll x a@0"]), ["G1a"]);
    assert_eq!(violated(&[send, "1 fail txn poll x a@0; send z c"]), ["G1a"]);
    assert_eq!(violated(&["0 info txn send x a; send y b", "1 ok poll poll x a@0"]), NONE);
}

#[test]
fn a_transaction_does_not_poll_what_it_sent() {
    assert_eq!(violated(&["0 ok txn send x a@0; poll x a@0"]), ["precommitted-read"]);
}

#[test]
fn what_nobody_sent_is_not_polled() {
    assert_eq!(violated(&["0 ok send send x a@0", "1 ok poll poll x a@0 z@1"]), ["garbage-read"]);
}

#[test]
fn an_acknowledged_value_that_readers_passed_is_lost() {
    let sends = ["0 ok send send x a@0", "0 ok send send x b@1; send x d@3", "1 info send send x c"];
    assert_eq!(violated(&sends), NONE);
    let lost = judged(&[&sends[..], &["2 ok poll poll x c@2"]].concat());
    let lost = &lost.checks[0];
    // d lies after what was read: nobody knows of it.
    assert_eq!((lost.id.as_str(), lost.violations_in_all), ("lost-write", 2));
    // b took the place of a.
    let overwritten = ["0 ok send send x a@0", "0 ok send send x b@0; send x c@2", "1 ok poll poll x b@0 c@2"];
    assert!(violated(&overwritten).contains(&"lost-write".to_owned()));
    // One part of a transaction was read, so the other must be there.
    let part = ["0 info txn send x a; send y b@0", "1 info send send y c", "2 ok poll poll y c@1"];
    assert_eq!(violated(&part), NONE);
    assert_eq!(violated(&[&part[..], &["3 ok poll poll x a@0"]].concat()), ["lost-write"]);
}

#[test]
fn a_tail_that_a_read_from_the_beginning_misses_is_unseen() {
    let sends = ["0 ok send send x a@0", "0 ok send send x b@1"];
    let polled = [&sends[..], &["1 ok poll poll x a@0"]].concat();
    assert_eq!((violated(&polled).len(), allowed(&polled, "unseen")), (0, vec![("not-read-to-the-end".to_owned(), 1)]));
    let finally = [&sends[..], &["2 ok assign x from-beginning", "2 ok poll poll x a@0", "2 ok poll poll"]].concat();
    assert_eq!(violated(&finally), ["unseen"]);
    let complete = [&finally[..], &["2 ok poll poll x b@1"]].concat();
    assert_eq!(violated(&complete), NONE);
}

#[test]
fn polls_of_one_process_leave_nothing_out() {
    let sends = "9 ok send send x a@0; send x b@1; send x c@2; send x d@3";
    let skips = |middle: &str| {
        violated(&[sends, "0 ok poll poll x a@0", middle, "0 ok poll poll x c@2 d@3", "1 ok poll poll x b@1"])
    };
    assert_eq!(skips("2 ok poll poll x a@0"), ["poll-skip"]);
    assert_eq!(skips("0 ok assign x y"), ["poll-skip"]);
    assert_eq!(skips("0 ok assign y"), NONE);
    assert_eq!(skips("0 info assign y"), NONE);
    assert_eq!(skips("0 fail assign y"), ["poll-skip"]);
    assert_eq!(skips("0 ok subscribe x"), NONE, "a subscriber may have lost the partition meanwhile");
    assert_eq!(skips("0 ok poll poll x b@1"), NONE);
    // Offsets that nobody saw anything at are no values.
    assert_eq!(violated(&["9 ok send send x a@0; send x b@5", "0 ok poll poll x a@0", "0 ok poll poll x b@5"]), NONE);
}

#[test]
fn polls_of_one_process_do_not_go_back() {
    let sends = "9 ok send send x a@0; send x b@1; send x c@2";
    let back = |middle: &str| violated(&[sends, "0 ok poll poll x a@0 b@1 c@2", middle, "0 ok poll poll x b@1 c@2"]);
    assert_eq!(back("1 ok poll poll"), ["nonmonotonic-poll"]);
    assert_eq!(back("0 ok subscribe x y"), NONE);
    assert_eq!(back("0 ok assign x from-beginning"), NONE);
}

#[test]
fn after_a_failed_transaction_a_consumer_goes_on_or_goes_back() {
    let begin =
        ["9 ok send send x a@0; send x b@1; send x c@2; send x d@3", "0 ok txn poll x a@0", "0 fail txn poll x b@1"];
    let then = |next: &str| violated(&[&begin[..], &[next, "1 ok poll poll x a@0 b@1 c@2 d@3"]].concat());
    assert_eq!(then("0 ok txn poll x b@1"), NONE);
    assert_eq!(then("0 ok txn poll x c@2"), NONE);
    assert_eq!(then("0 ok txn poll x d@3"), ["poll-skip"]);
    assert_eq!(then("0 ok txn poll x a@0"), ["nonmonotonic-poll"]);
    assert_eq!(then("0 info txn poll x d@3"), ["poll-skip"]);
}

#[test]
fn within_a_transaction_polls_go_on() {
    let sends = "9 ok send send x a@0; send x b@1; send x c@2";
    assert_eq!(violated(&[sends, "0 ok txn poll x a@0; poll x c@2", "1 ok poll poll x b@1"]), ["int-poll-skip"]);
    assert_eq!(violated(&[sends, "0 ok poll poll x a@0 b@1; poll x b@1 c@2"]), ["int-nonmonotonic-poll"]);
    let rebalanced = [sends, "0 ok txn poll x a@0; poll x c@2 rebalanced x", "1 ok poll poll x b@1"];
    assert_eq!((violated(&rebalanced).len(), allowed(&rebalanced, "int-poll-skip").len()), (0, 1));
}

#[test]
fn sends_of_one_process_keep_their_order() {
    assert_eq!(violated(&["0 ok send send x b@1", "0 ok send send x a@0"]), ["nonmonotonic-send"]);
    assert_eq!(violated(&["0 ok send send x b@1", "1 ok send send x a@0"]), NONE);
    assert_eq!(violated(&["0 ok txn send x b@1; send x a@0"]), ["int-nonmonotonic-send"]);
    let mixed = ["0 ok txn send x a@0; send x c@2", "1 ok txn send x b@1"];
    assert_eq!(
        (violated(&mixed).len(), allowed(&mixed, "int-send-skip")),
        (0, vec![("no-write-isolation".to_owned(), 1)])
    );
}

/// All at the same time.
fn together(ops: &[&str]) -> Judged {
    let text = history(ops);
    let (invoked, returned): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains(":type :invoke"));
    judge_text(&[invoked, returned].concat().join("\n"), &Options::default()).expect("a history")
}

fn cycles(judged: &Judged) -> Vec<(String, u64, u64)> {
    let cycles = judged.checks.iter().filter(|check| check.id.starts_with("G0") || check.id.starts_with("G1c"));
    let found = cycles.map(|check| (check.id.clone(), check.violations_in_all, check.allowed_in_all()));
    found.filter(|(_, violations, allowed)| violations + allowed > 0).collect()
}

#[test]
fn transactions_that_poll_each_other_are_a_cycle_and_those_that_mix_their_writes_are_none() {
    let each_other = ["0 ok txn send x a@0; poll y b@0", "1 ok txn send y b@0; poll x a@0"];
    assert_eq!(cycles(&together(&each_other)), [("G1c".to_owned(), 1, 0)]);
    let mixed = ["0 ok txn send x a@0; send y d@1", "1 ok txn send x b@1; send y c@0"];
    assert_eq!(cycles(&together(&mixed)), [("G0".to_owned(), 0, 1)]);
    let by_writes = ["0 ok txn send x a@0; poll y c@0", "1 ok txn send x b@1; send y c@0"];
    assert_eq!(cycles(&together(&by_writes)), [("G1c".to_owned(), 0, 1)]);
}

#[test]
fn what_is_sent_later_is_not_polled_before() {
    let future = judged(&["0 ok poll poll x a@0", "1 ok send send x a@0"]);
    assert_eq!(cycles(&future), [("G1c-realtime".to_owned(), 1, 0)]);
    let own = judged(&["0 ok poll poll x a@0", "0 ok send send x a@0"]);
    assert_eq!(cycles(&own), [("G1c-process".to_owned(), 1, 0)]);
}

#[test]
fn a_violation_is_told_with_its_records() {
    let judged = judged(&[
        "0 ok send send x a@0; send x b@1",
        "0 fail txn send x e; send y f",
        "1 ok poll poll x a@0 c@2",
        "2 info txn send x c; send y d@0",
        "2 ok poll poll x e@4",
        "3 open send send y g",
    ]);
    let told = judged.checks.iter().flat_map(|check| &check.violations).map(|violation| {
        format!("{}: {}\n    {}\n", violation.check, violation.guarantee, violation.evidence.join("\n    "))
    });
    insta::assert_snapshot!(told.collect::<String>());
}

#[test]
fn what_is_no_operation_of_kafka_is_refused_with_its_line() {
    let op = |name: &str, value: &str| format!("{{:process 0, :type :invoke, :f :{name}, :value {value}}}\n");
    let texts = [
        op("send", "[[:send 1 2] [:send 1]]"),
        op("poll", "[[:poll {1 [[0]]}]]"),
        op("poll", "[[:poll {1 [[-3 5]]}]]"),
        op("send", "3"),
        op("assign", "3"),
        op("seek", "[3]"),
        op("send", "[[:send 1 2]]") + "{:process 1, :type :invoke, :f :send, :value [[:send 1 2]]}",
        op("txn", "[[:poll] [:poll]]") + "{:process 0, :type :ok, :f :txn, :value [[:poll {}]]}",
    ];
    let contradiction = op("send", "[[:send 1 2]]") + "{:process 0, :type :ok, :f :send, :value [[:send 1 [0 3]]]}";
    let texts = [&texts[..], &[contradiction]].concat();
    let options = Options { model: Some(crate::Model::Kafka), ..Options::default() };
    let told = texts.iter().map(|text| format!("{text}\n    {}\n", judge_text(text, &options).expect_err(text)));
    insta::assert_snapshot!(told.collect::<String>());
}
