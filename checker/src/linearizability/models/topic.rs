//! L6: a topic's name, as the active controller knows it: how many partitions there are, or no topic.

use crate::history::{Op, Outcome, TopicAsk, TopicRequest};
use crate::linearizability::search::{Model, State};

/// What a request did, or was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Create(u32),
    Delete,
    /// There were fewer, and so many afterwards.
    Extend(u32),
    /// There were so many already, or more.
    NotExtended(u32),
    Exists,
    Absent,
    Found(u32),
    /// It is there, with fewer.
    Fewer(u32),
}

/// What `request` says of its topic; `None`: nothing.
pub(crate) fn access(op: &Op, request: &TopicRequest) -> Option<Access> {
    let count = |partitions: i32| u32::try_from(partitions).ok().filter(|count| *count > 0);
    let told = match op.outcome {
        Outcome::Fail => return refused(request),
        Outcome::Ok => request.told,
        Outcome::Unknown => None,
    };
    match request.ask {
        TopicAsk::Create(partitions) => count(partitions).map(Access::Create),
        TopicAsk::Delete => Some(Access::Delete),
        TopicAsk::CreatePartitions(partitions) => count(partitions).map(Access::Extend),
        TopicAsk::Describe => told.and_then(count).map(Access::Found),
        // A question that nobody answered says nothing.
        TopicAsk::ValidateCreate => (op.outcome == Outcome::Ok).then_some(Access::Absent),
        TopicAsk::ValidatePartitions(partitions) => {
            count(partitions).filter(|_| op.outcome == Outcome::Ok).map(Access::Fewer)
        }
    }
}

fn refused(request: &TopicRequest) -> Option<Access> {
    match (request.error.as_deref()?, request.ask) {
        ("TOPIC_ALREADY_EXISTS", TopicAsk::Create(_) | TopicAsk::ValidateCreate) => Some(Access::Exists),
        ("UNKNOWN_TOPIC_OR_PARTITION", _) => Some(Access::Absent),
        ("INVALID_PARTITIONS", TopicAsk::CreatePartitions(partitions) | TopicAsk::ValidatePartitions(partitions)) => {
            u32::try_from(partitions).ok().map(Access::NotExtended)
        }
        _ => None,
    }
}

/// The requests about one topic. Its state is how many partitions it has; 0: it is not there.
pub(crate) struct Topic {
    pub(crate) accesses: Vec<Access>,
}

impl Model for Topic {
    fn initial(&self) -> State {
        0
    }

    fn step(&self, state: State, op: usize) -> Option<State> {
        match self.accesses[op] {
            Access::Create(partitions) => (state == 0).then_some(u64::from(partitions)),
            Access::Delete => (state > 0).then_some(0),
            Access::Extend(partitions) => (0 < state && state < u64::from(partitions)).then_some(u64::from(partitions)),
            Access::NotExtended(partitions) => (state > 0 && state >= u64::from(partitions)).then_some(state),
            Access::Exists => (state > 0).then_some(state),
            Access::Absent => (state == 0).then_some(state),
            Access::Found(partitions) => (state == u64::from(partitions)).then_some(state),
            Access::Fewer(partitions) => (0 < state && state < u64::from(partitions)).then_some(state),
        }
    }

    fn only_reads(&self, op: usize) -> bool {
        !matches!(self.accesses[op], Access::Create(_) | Access::Delete | Access::Extend(_))
    }

    fn is_telling(&self, _: usize) -> bool {
        true
    }

    fn name(&self, op: usize) -> u64 {
        match self.accesses[op] {
            Access::Create(partitions) => u64::from(partitions) << 2 | 1,
            Access::Extend(partitions) => u64::from(partitions) << 2 | 2,
            Access::Delete => 3,
            _ => 0,
        }
    }

    fn is_promising(&self, _: State) -> bool {
        true
    }

    fn observes(&self, op: usize, writer: usize) -> bool {
        let is_there = !matches!(self.accesses[writer], Access::Delete);
        !self.only_reads(writer) && is_there != matches!(self.accesses[op], Access::Create(_) | Access::Absent)
    }

    fn overwrites(&self, op: usize) -> bool {
        !self.only_reads(op)
    }

    fn tell(&self, op: usize) -> String {
        match self.accesses[op] {
            Access::Create(partitions) => format!("create {partitions}"),
            Access::Delete => "delete".to_owned(),
            Access::Extend(partitions) => format!("extend to {partitions}"),
            Access::NotExtended(partitions) => format!("not fewer than {partitions}"),
            Access::Exists => "there is such a topic".to_owned(),
            Access::Absent => "there is no such topic".to_owned(),
            Access::Found(partitions) => format!("describe → {partitions}"),
            Access::Fewer(partitions) => format!("fewer than {partitions}"),
        }
    }
}
