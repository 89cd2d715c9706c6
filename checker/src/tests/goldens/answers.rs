//! What brokers tell of leaders and configurations, in small.

use super::super::{fired, reference::partition, told};
use super::Story;
use super::groups::{OK, ctx};
use crate::context::{Context, Excuse, ExcuseKind};
use crate::history::*;
use crate::judge;
use broker_types::{LeaderEpoch, NodeId, TopicIdPartition};
use std::fmt::Write;

/// `partition`, `leader epoch`, `leader`.
fn metadata(broker: i32, told: &[(i32, i32, Option<i32>)]) -> OpKind {
    let partitions = told.iter().map(|(index, epoch, leader)| PartitionRead {
        partition: partition(*index),
        leader_epoch: LeaderEpoch(*epoch),
        leader: leader.map(NodeId),
    });
    OpKind::Metadata(MetadataRead { broker: NodeId(broker), partitions: partitions.collect() })
}

fn config(ask: ConfigAsk, told: Option<&str>) -> OpKind {
    let told = told.map(str::to_owned);
    let (resource, key) = ("topic orders".to_owned(), "retention.ms".to_owned());
    OpKind::Config(ConfigRequest { resource, key, ask, told, error: None })
}

fn set(value: &str) -> OpKind {
    config(ConfigAsk::Set(Some(value.to_owned())), None)
}

fn reset() -> OpKind {
    config(ConfigAsk::Set(None), None)
}

fn described(broker: i32, value: &str) -> OpKind {
    config(ConfigAsk::Describe(NodeId(broker)), Some(value))
}

fn story(ops: Vec<OpKind>) -> Story {
    ops.into_iter().fold(Story::new(), |story, kind| story.op(1, OK, kind))
}

/// The first is asked for before the second is answered.
fn at_once(mut story: Story) -> Story {
    story.history.ops[0].returned = story.history.ops[1].returned;
    story.history.ops[1].session = SessionId(2);
    story
}

#[test]
fn what_brokers_tell_is_refused_in_few_words() {
    let older = vec![metadata(1, &[(0, 5, Some(1))]), metadata(1, &[(0, 4, Some(2))])];
    let mut text = String::new();
    for (what, check, ops) in [
        ("an older leader epoch", "metadata-answers", older),
        (
            "two leaders of one epoch, by two brokers",
            "metadata-answers",
            vec![metadata(1, &[(0, 5, Some(1))]), metadata(2, &[(0, 5, Some(2))])],
        ),
        (
            "fewer partitions",
            "metadata-answers",
            vec![metadata(1, &[(0, 5, None), (1, 5, None)]), metadata(1, &[(0, 5, None)])],
        ),
        (
            "a configuration that was replaced",
            "config-answers",
            vec![described(1, "7"), set("8"), set("9"), described(1, "9"), described(1, "8")],
        ),
        (
            "the default that was replaced",
            "config-answers",
            vec![described(1, "7"), set("8"), described(1, "8"), described(1, "7")],
        ),
        (
            "a value after its default was set again",
            "config-answers",
            vec![
                described(1, "7"),
                set("8"),
                reset(),
                described(1, "7"),
                set("9"),
                described(1, "9"),
                described(1, "8"),
            ],
        ),
        ("two defaults of one broker", "config-answers", vec![described(1, "7"), described(1, "8")]),
    ] {
        let results = judge(&story(ops).history, &ctx());
        assert_eq!(fired(&results), [check], "{what}");
        writeln!(text, "{what}\n{}", told(&results)).expect("a string");
    }
    insta::assert_snapshot!("answers_refused", text);
}

#[test]
fn brokers_may_be_behind_each_other() {
    let refused_set = Story::new().op(1, OK, described(1, "7")).op(1, Outcome::Fail, set("8")).op(1, OK, set("9")).op(
        1,
        OK,
        described(1, "9"),
    );
    let unknown = Story::new()
        .op(1, OK, described(1, "7"))
        .op(1, Outcome::Unknown, set("8"))
        .op(1, OK, set("9"))
        .op(1, OK, described(1, "9"))
        .op(1, OK, described(1, "8"));
    for (what, told_story) in [
        (
            "another broker knows the older epoch",
            story(vec![
                metadata(1, &[(0, 5, Some(1))]),
                metadata(2, &[(0, 4, Some(2))]),
                metadata(1, &[(0, 5, Some(1))]),
            ]),
        ),
        (
            "the answers were under way at once",
            at_once(story(vec![metadata(1, &[(0, 5, Some(1))]), metadata(1, &[(0, 4, Some(2))])])),
        ),
        ("nobody leads, or is known to", story(vec![metadata(1, &[(0, 5, Some(1))]), metadata(2, &[(0, 5, None)])])),
        ("a partition more", story(vec![metadata(1, &[(0, 5, None)]), metadata(1, &[(0, 5, None), (1, 0, None)])])),
        (
            "another broker has not heard of the configuration",
            story(vec![described(1, "7"), set("8"), described(1, "8"), described(2, "7")]),
        ),
        (
            "the default is set again",
            story(vec![described(1, "7"), set("8"), described(1, "8"), reset(), described(1, "7")]),
        ),
        (
            "a value comes back",
            story(vec![
                described(1, "7"),
                set("8"),
                described(1, "8"),
                set("9"),
                described(1, "9"),
                set("8"),
                described(1, "8"),
            ]),
        ),
        ("brokers have defaults of their own", story(vec![described(1, "7"), described(2, "8")])),
        ("nobody knows the default", story(vec![set("8"), described(1, "8"), set("9"), described(1, "9")])),
        ("what was refused counts for nothing", refused_set),
        ("what nobody knows of may come late", unknown),
    ] {
        let results = judge(&told_story.history, &ctx());
        assert_eq!(fired(&results), Vec::<&str>::new(), "{what}: {}", told(&results));
    }
}

#[test]
fn a_value_that_was_refused_is_nobodys() {
    let refused = Story::new().op(1, OK, described(1, "7")).op(1, Outcome::Fail, set("8")).op(1, OK, described(1, "8"));
    assert_eq!(fired(&judge(&refused.history, &ctx())), ["config-answers"]);
}

#[test]
fn a_metadata_log_that_was_lost_begins_anew() {
    let loss = Excuse { kind: ExcuseKind::LossBeyondBudget, at: SimTime(0), until: None };
    let forgot = Context { excuses: Some([(TopicIdPartition::METADATA, vec![loss])].into()), ..ctx() };
    let older = story(vec![metadata(1, &[(0, 5, Some(1))]), metadata(1, &[(0, 4, Some(2))])]);
    let results = judge(&older.history, &forgot);
    assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
    assert_eq!(results.iter().map(|result| result.allowed.get("loss-beyond-budget").unwrap_or(&0)).sum::<u64>(), 1);
}

#[test]
fn what_was_told_without_success_is_no_answer() {
    let told_in_vain = |came: Outcome| Story::new().op(1, OK, described(1, "7")).op(1, came, described(1, "8"));
    for (came, refused) in [(OK, &["config-answers"][..]), (Outcome::Unknown, &[]), (Outcome::Fail, &[])] {
        assert_eq!(fired(&judge(&told_in_vain(came).history, &ctx())), refused, "{came:?}");
    }
}

#[test]
fn each_answer_after_the_first_counts() {
    let results = judge(&story(vec![described(1, "7"), described(1, "7"), described(1, "7")]).history, &ctx());
    let configs = results.iter().find(|result| result.id == "config-answers").expect("every check tells");
    assert_eq!(configs.opportunities, 4, "as a default, and in the order of time");
}
