//! When a step fires that waits for the cluster rather than for the clock: `orders-0.acked >= 100`.

use super::marks::Mark;
use super::quantity::written_as_text;
use super::target::read_partition;
use super::words;
use broker_types::TopicPartition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// What a predicate looks at.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// `T-P.acked` and its kin.
    Partition {
        /// Which partition.
        partition: TopicPartition,
        /// Which of its numbers.
        gauge: PartitionGauge,
    },
    /// `controller.epoch`: the highest epoch in which a controller was elected.
    ControllerEpoch,
    /// `mark(NAME)`: how often the mark was reached so far.
    Mark(Mark),
    /// `group(G).generation`: the consumer group's generation, or its epoch under the consumer protocol.
    GroupGeneration(String),
}

/// One number of one partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PartitionGauge {
    /// Records that producers were told are written.
    Acked,
    /// The leader's high watermark.
    HighWatermark,
    /// The leader's log end offset.
    LogEnd,
    /// Members of the in-sync replica set, as the controller committed it.
    IsrSize,
    /// The leader epoch, as the controller committed it.
    LeaderEpoch,
}

impl PartitionGauge {
    /// Each gauge with its word and its meaning.
    pub const ALL: [(PartitionGauge, &'static str, &'static str); 5] = [
        (PartitionGauge::Acked, "acked", "records that producers were told are written"),
        (PartitionGauge::HighWatermark, "hw", "the leader's high watermark"),
        (PartitionGauge::LogEnd, "leo", "the leader's log end offset"),
        (PartitionGauge::IsrSize, "isr-size", "members of the committed in-sync replica set"),
        (PartitionGauge::LeaderEpoch, "leader-epoch", "the committed leader epoch"),
    ];

    fn word(self) -> &'static str {
        PartitionGauge::ALL.iter().find(|(gauge, ..)| *gauge == self).map_or("", |(_, word, _)| word)
    }
}

/// How the two sides compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Comparison {
    /// `>=`
    AtLeast,
    /// `>`
    MoreThan,
    /// `<=`
    AtMost,
    /// `<`
    LessThan,
    /// `==`
    Equal,
}

/// Longer spellings first, so that `>=` is not read as `>`.
const COMPARISONS: [(Comparison, &str); 5] = [
    (Comparison::AtLeast, ">="),
    (Comparison::AtMost, "<="),
    (Comparison::Equal, "=="),
    (Comparison::MoreThan, ">"),
    (Comparison::LessThan, "<"),
];

/// Fires the first time it holds. Looked at after every observation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Predicate {
    /// The left side.
    pub subject: Subject,
    /// The sign in the middle.
    pub comparison: Comparison,
    /// The right side; never negative.
    pub value: u64,
}

impl Predicate {
    /// Whether it holds when its subject reads `reading`.
    #[must_use]
    pub fn holds(&self, reading: u64) -> bool {
        match self.comparison {
            Comparison::AtLeast => reading >= self.value,
            Comparison::MoreThan => reading > self.value,
            Comparison::AtMost => reading <= self.value,
            Comparison::LessThan => reading < self.value,
            Comparison::Equal => reading == self.value,
        }
    }
}

fn read_subject(text: &str) -> Result<Subject, String> {
    if let Some(name) = text.strip_prefix("mark(").and_then(|rest| rest.strip_suffix(')')) {
        return name.parse().map(Subject::Mark);
    }
    if let Some(rest) = text.strip_prefix("group(") {
        return match rest.rsplit_once(").") {
            Some((group, "generation")) if !group.trim().is_empty() => {
                Ok(Subject::GroupGeneration(group.trim().to_string()))
            }
            _ => Err("of a group one can ask `group(NAME).generation`".to_string()),
        };
    }
    let Some((owner, gauge)) = text.rsplit_once('.') else {
        return Err(format!(
            "`{}` is nothing one can wait for; allowed are `T-P.acked`, `.hw`, `.leo`, `.isr-size`, `.leader-epoch`, `controller.epoch`, `mark(NAME)`, `group(G).generation`",
            words::shortened(text)
        ));
    };
    if owner == "controller" {
        return if gauge == "epoch" {
            Ok(Subject::ControllerEpoch)
        } else {
            Err("of the controller one can ask `controller.epoch`".to_string())
        };
    }
    let partition = read_partition(owner)?;
    match PartitionGauge::ALL.iter().find(|(_, word, _)| *word == gauge) {
        Some((known, ..)) => Ok(Subject::Partition { partition, gauge: *known }),
        None => {
            let all = PartitionGauge::ALL.map(|(_, word, _)| word);
            Err(format!(
                "a partition has no `{}`; {}allowed are {}",
                words::shortened(gauge),
                words::did_you_mean(gauge, all),
                words::list(all)
            ))
        }
    }
}

impl FromStr for Predicate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || {
            "a predicate is something to look at, a comparison and a whole number: `orders-0.acked >= 100`; comparisons are >=, >, <=, <, =="
                .to_string()
        };
        let found = COMPARISONS.iter().find_map(|(comparison, sign)| {
            let (left, right) = text.split_once(sign)?;
            Some((*comparison, left.trim(), right.trim()))
        });
        let (comparison, left, right) = found.ok_or_else(shape)?;
        let value: u64 = right.parse().map_err(|_| shape())?;
        if i64::try_from(value).is_err() {
            return Err(shape());
        }
        Ok(Predicate { subject: read_subject(left)?, comparison, value })
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Partition { partition, gauge } => write!(f, "{partition}.{}", gauge.word())?,
            Subject::ControllerEpoch => f.write_str("controller.epoch")?,
            Subject::Mark(mark) => write!(f, "mark({mark})")?,
            Subject::GroupGeneration(group) => write!(f, "group({group}).generation")?,
        }
        let sign = COMPARISONS.iter().find(|(known, _)| *known == self.comparison).map_or("", |(_, sign)| sign);
        write!(f, " {sign} {}", self.value)
    }
}

written_as_text!(
    Predicate,
    r"^(.+-\d+\.(acked|hw|leo|isr-size|leader-epoch)|controller\.epoch|mark\([a-z-]+\)|group\(.+\)\.generation)\s*(>=|>|<=|<|==)\s*\d+$",
    "What a step waits for: `orders-0.acked >= 100`, `mark(isr-shrunk) >= 1`."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_predicate_reads_back_what_it_prints() {
        for text in [
            "orders-0.acked >= 100",
            "a.b-c-12.hw > 0",
            "orders-1.leo <= 7",
            "orders-1.isr-size == 1",
            "orders-1.leader-epoch < 3",
            "controller.epoch >= 2",
            "mark(isr-shrunk) >= 1",
            "group(billing).generation >= 3",
        ] {
            assert_eq!(text.parse::<Predicate>().unwrap().to_string(), text);
        }
        let terse: Predicate = "orders-0.acked>=5".parse().unwrap();
        assert!(terse.holds(5) && terse.holds(6) && !terse.holds(4));
    }

    #[test]
    fn a_wrong_predicate_says_what_is_allowed() {
        let says = |text: &str| text.parse::<Predicate>().unwrap_err();
        assert!(says("orders-0.akced >= 1").contains("did you mean `acked`"), "{}", says("orders-0.akced >= 1"));
        assert!(says("orders-0.acked >= many").contains("whole number"));
        assert!(says("mark(isr-shrank) >= 1").contains("isr-shrunk"), "{}", says("mark(isr-shrank) >= 1"));
        assert!(says("orders.acked >= 1").contains("no partition"));
        for text in ["", ">=", ">= 1", "x", "controller.x > 1", "group(.generation > 1", "orders-0.acked >= -1"] {
            assert!(text.parse::<Predicate>().is_err(), "{text}");
        }
    }
}
