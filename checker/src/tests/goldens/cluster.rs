//! Topics, voters, producer ids and groups' offsets, in small.

use super::super::{fired, told};
use super::Story;
use super::groups::{OK, assign, commit, ctx, told_offset};
use crate::context::{Context, Excuse, ExcuseKind};
use crate::history::*;
use crate::{CheckOutcome, judge};
use broker_types::{NodeId, ProducerEpoch, ProducerId, TopicIdPartition};
use std::fmt::Write;

fn topic(ask: TopicAsk, told: Option<i32>, error: Option<&str>) -> OpKind {
    let error = error.map(str::to_owned);
    OpKind::Topic(TopicRequest { name: "orders".to_owned(), ask, told, error })
}

fn voters(ask: VoterAsk, told: &[i32], error: Option<&str>) -> OpKind {
    let told = told.iter().copied().map(NodeId).collect();
    OpKind::Voters(VoterRequest { ask, told, error: error.map(str::to_owned) })
}

fn producer(id: i64) -> OpKind {
    OpKind::ProducerId(ProducerIdRequest { producer: Some(ProducerId(id)), error: None })
}

fn transactional(name: &str, id: i64) -> OpKind {
    let producer = Some((ProducerId(id), ProducerEpoch(0)));
    OpKind::InitProducer(InitProducer { transactional_id: name.to_owned(), producer, error: None })
}

fn watched() -> Context {
    Context { voters: [101, 102, 103].map(NodeId).to_vec(), ..ctx() }
}

/// Nobody knows whether the second commit counted; it is told, and then the first one again.
fn back_and_forth(second: i64, third: i64) -> Story {
    Story::new()
        .op(5, OK, assign(GroupProtocol::Classic, 1, &[0]))
        .op(5, OK, commit(1, 1))
        .op(5, Outcome::Unknown, commit(1, 2))
        .op(6, OK, told_offset(true, Some(second)))
        .op(6, OK, told_offset(true, Some(third)))
}

fn created_twice(outcome: Outcome, error: Option<&str>) -> Story {
    Story::new()
        .op(1, OK, topic(TopicAsk::Create(3), None, None))
        .op(2, outcome, topic(TopicAsk::Create(3), None, error))
        .op(2, OK, topic(TopicAsk::Describe, Some(3), None))
}

fn without(described: &[i32]) -> Story {
    Story::new()
        .op(1, OK, voters(VoterAsk::Remove(NodeId(103)), &[], None))
        .op(2, Outcome::Fail, voters(VoterAsk::Add(NodeId(102)), &[], Some("DUPLICATE_VOTER")))
        .op(2, OK, voters(VoterAsk::Describe, described, None))
}

/// Voter 103 is removed; then something is asked that cannot be answered so.
fn asked_twice(outcome: Outcome, ask: VoterAsk, error: Option<&str>) -> Story {
    Story::new().op(1, OK, voters(VoterAsk::Remove(NodeId(103)), &[], None)).op(2, outcome, voters(ask, &[], error))
}

/// A topic has three partitions; then so many are asked for.
fn extended(to: i32, outcome: Outcome, error: Option<&str>) -> Story {
    Story::new().op(1, OK, topic(TopicAsk::Create(3), None, None)).op(
        2,
        outcome,
        topic(TopicAsk::CreatePartitions(to), None, error),
    )
}

/// A topic has three partitions; then somebody asks what would be possible.
fn validated(ask: TopicAsk, outcome: Outcome, error: Option<&str>) -> Story {
    Story::new().op(1, OK, topic(TopicAsk::Create(3), None, None)).op(2, outcome, topic(ask, None, error))
}

#[test]
fn what_a_cluster_keeps_is_told_by_few_operations_when_it_is_refused() {
    let mut text = String::new();
    for (story, check, told_story) in [
        ("an offset that comes and goes", "linearizable-offset", back_and_forth(2, 1)),
        ("a topic created twice", "linearizable-topic", created_twice(OK, None)),
        (
            "a topic that is gone and is not",
            "linearizable-topic",
            created_twice(Outcome::Fail, Some("UNKNOWN_TOPIC_OR_PARTITION")),
        ),
        ("a voter who was removed", "linearizable-voters", without(&[101, 102, 103])),
        ("a voter added twice", "linearizable-voters", asked_twice(OK, VoterAsk::Add(NodeId(102)), None)),
        ("a voter removed twice", "linearizable-voters", asked_twice(OK, VoterAsk::Remove(NodeId(103)), None)),
        (
            "a voter who is there and not found",
            "linearizable-voters",
            asked_twice(Outcome::Fail, VoterAsk::Remove(NodeId(102)), Some("VOTER_NOT_FOUND")),
        ),
        ("a topic with fewer partitions than before", "linearizable-topic", extended(2, OK, None)),
        (
            "a topic that has what it is refused",
            "linearizable-topic",
            extended(4, Outcome::Fail, Some("INVALID_PARTITIONS")),
        ),
        (
            "a topic that could be created and is there",
            "linearizable-topic",
            validated(TopicAsk::ValidateCreate, OK, None),
        ),
        (
            "a topic that could be given what it has",
            "linearizable-topic",
            validated(TopicAsk::ValidatePartitions(3), OK, None),
        ),
        (
            "a topic that could not be given more",
            "linearizable-topic",
            validated(TopicAsk::ValidatePartitions(4), Outcome::Fail, Some("INVALID_PARTITIONS")),
        ),
        ("one id for two producers", "producer-id-once", Story::new().op(1, OK, producer(7)).op(2, OK, producer(7))),
        (
            "the id of a transactional producer",
            "producer-id-once",
            Story::new().op(1, OK, transactional("billing", 7)).op(2, OK, producer(7)),
        ),
    ] {
        let results = judge(&told_story.history, &watched());
        assert_eq!(fired(&results), [check], "{story}");
        writeln!(text, "{story}\n{}", told(&results)).expect("a string");
    }
    insta::assert_snapshot!("cluster_refused", text);
}

#[test]
fn their_legal_twins_pass() {
    let again = Story::new().op(1, OK, transactional("billing", 7)).op(2, OK, transactional("billing", 7)).history;
    for (story, history) in [
        ("an offset that comes late", back_and_forth(1, 2).history),
        ("an offset that never comes", back_and_forth(1, 1).history),
        ("a topic that is there already", created_twice(Outcome::Fail, Some("TOPIC_ALREADY_EXISTS")).history),
        ("a topic of which nobody knows", created_twice(Outcome::Unknown, Some("REQUEST_TIMED_OUT")).history),
        ("one voter less", without(&[101, 102]).history),
        ("a voter who comes back", asked_twice(OK, VoterAsk::Add(NodeId(103)), None).history),
        ("a topic with more partitions", extended(4, OK, None).history),
        (
            "a topic that could not be created again",
            validated(TopicAsk::ValidateCreate, Outcome::Fail, Some("TOPIC_ALREADY_EXISTS")).history,
        ),
        ("a topic that could be given more", validated(TopicAsk::ValidatePartitions(4), OK, None).history),
        (
            "a question without an answer",
            validated(TopicAsk::ValidateCreate, Outcome::Unknown, Some("REQUEST_TIMED_OUT")).history,
        ),
        ("a topic that is refused fewer", extended(2, Outcome::Fail, Some("INVALID_PARTITIONS")).history),
    ] {
        let results = judge(&history, &watched());
        assert_eq!(fired(&results), Vec::<&str>::new(), "{story}: {}", told(&results));
    }
    let results = judge(&again, &watched());
    assert!(!fired(&results).contains(&"producer-id-once"), "a transactional id keeps its producer id");
}

#[test]
fn a_quorum_that_lost_its_log_may_have_forgotten() {
    let loss = Excuse { kind: ExcuseKind::LossBeyondBudget, at: SimTime(0), until: None };
    let forgot = Context { excuses: Some([(TopicIdPartition::METADATA, vec![loss])].into()), ..watched() };
    for history in [created_twice(OK, None).history, without(&[101, 102, 103]).history] {
        let results = judge(&history, &forgot);
        assert_eq!(fired(&results), Vec::<&str>::new(), "{}", told(&results));
        assert_eq!(results.iter().map(|result| result.allowed.get("loss-beyond-budget").unwrap_or(&0)).sum::<u64>(), 1);
    }
}

#[test]
fn too_many_voters_for_a_search_are_no_pass() {
    let story =
        (0..70).fold(Story::new(), |story, node| story.op(1, OK, voters(VoterAsk::Add(NodeId(node)), &[], None)));
    let results = judge(&story.history, &watched());
    let found = results.iter().find(|result| result.id == "linearizable-voters").expect("every check tells");
    assert_eq!(found.outcome, CheckOutcome::Unknown);
}
