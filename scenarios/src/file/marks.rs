//! The marks: rare or telling things that a run may reach, by the names that scenarios use.

use super::words;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// A known mark; only [`MARKS`] has names for one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(&'static str);

/// Every mark, with what it says about a run. A run counts each.
pub const MARKS: &[(&str, &str)] = &[
    ("leader-elected", "a partition got another leader than it had"),
    ("controller-elected", "a controller won an election after the first"),
    ("isr-shrunk", "an in-sync replica set lost a member"),
    ("isr-expanded", "an in-sync replica set got a member back"),
    ("isr-rejected", "the controller refused a leader's change of the in-sync replica set"),
    ("log-truncated", "a replica cut records off the end of its log"),
    ("torn-tail-truncated", "recovery cut off a torn end of a log after a crash"),
    ("log-dir-failed", "a log directory went offline"),
    ("unclean-leader-elected", "a leader was elected that was not in sync"),
    ("broker-fenced", "the controller fenced a broker"),
    ("broker-unfenced", "the controller let a fenced broker lead again"),
    ("broker-registered", "a broker registered again after the first time"),
    ("epoch-bumped", "a leader epoch was raised"),
    ("topic-deleted", "a topic was deleted"),
    ("quorum-resigned", "a leader of the metadata quorum gave up"),
    ("below-min-isr", "a produce was refused for want of in-sync replicas"),
    ("fenced-leader-epoch", "a request was refused because its leader epoch was old"),
    ("diverging-epoch", "a follower was told that its log diverges"),
    ("controlled-shutdown", "a broker left in order and handed its partitions over"),
    ("snapshot-loaded", "a node loaded a snapshot of the metadata"),
    ("duplicate-batch", "a leader recognised a batch that a producer sent again"),
    ("out-of-order-sequence", "a leader refused a batch that left a gap in its producer's sequence"),
    ("producer-fenced", "a producer was refused because a newer one took its place"),
    ("producer-epoch-bumped", "a producer went on with a new producer epoch"),
    ("coordinator-moved", "a group's or transaction's coordinator changed"),
    ("rebalance", "a consumer group rebalanced"),
    ("transaction-committed", "a transaction was committed"),
    ("transaction-aborted", "a transaction was aborted"),
    ("offset-out-of-range", "a fetch asked for an offset that the log does not have"),
    ("request-timed-out", "a client gave up waiting for a reply"),
    ("delivery-timed-out", "a producer gave up a record"),
];

impl Mark {
    /// The mark of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Mark> {
        MARKS.iter().find(|(known, _)| *known == name).map(|(known, _)| Mark(known))
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Mark::named(text).ok_or_else(|| {
            let names = MARKS.iter().map(|(name, _)| *name);
            format!(
                "nobody knows a mark `{}`; {}allowed are {}",
                words::shortened(text),
                words::did_you_mean(text, names.clone()),
                words::list(names)
            )
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl JsonSchema for Mark {
    fn schema_name() -> Cow<'static, str> {
        "Mark".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = MARKS.iter().map(|(name, _)| *name).collect();
        json_schema!({ "description": "Something a run can reach.", "enum": names })
    }
}
