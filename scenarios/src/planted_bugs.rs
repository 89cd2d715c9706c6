//! The museum: historic bugs of Kafka, and plain mistakes beside them, each with its story and the scenario that finds
//! it. What they do stands in `broker/core`, beside the right line, behind `planted(Bug::...)`.

use broker_core::planted::Bug;

/// One exhibit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exhibit {
    /// Which.
    pub bug: Bug,
    /// Where in a cluster it sits.
    pub section: &'static str,
    /// In one line.
    pub title: &'static str,
    /// Where it comes from: the report, and the versions that had it.
    pub origin: &'static str,
    /// What it did, who met it how, and what is right.
    pub story: &'static str,
    /// The scenario of the catalog that finds it.
    pub scenario: &'static str,
    /// The check that names it first.
    pub check: &'static str,
}

impl Exhibit {
    /// The exhibit of a bug.
    ///
    /// # Panics
    /// Never: a test looks that every bug has one.
    #[must_use]
    pub fn of(bug: Bug) -> &'static Exhibit {
        EXHIBITS.iter().find(|exhibit| exhibit.bug == bug).expect("every bug has its exhibit")
    }
}

/// All of them, by name.
pub const EXHIBITS: &[Exhibit] = &[
    Exhibit {
        bug: Bug::K02,
        section: "metadata quorum",
        title: "Records count as committed before they are on disk",
        origin: "KAFKA-10533; never released, fixed before 2.8.0",
        story: "A record of the metadata log is committed once a majority of the voters has it. The first versions of \
the quorum counted a voter as soon as it had the record in memory: the leader counted its own log end, and a follower \
fetched on, which says \"I have all before this\", without waiting for its disk. Cut the power of the voters in that \
moment and they come back without the record. It had been committed; brokers had acted on it; now the quorum's high \
watermark goes back, and the next leader writes something else at the same offset. Right is: the leader counts itself \
up to what is on its disk, and a voter fetches from the end of what is on its own.",
        scenario: "quorum-power-loss",
        check: "quorum-high-watermark",
    },
    Exhibit {
        bug: Bug::R01,
        section: "replication",
        title: "A follower truncates to its own high watermark",
        origin: "KIP-101, KAFKA-1211; up to 0.10.2, fixed in 0.11.0",
        story: "A replica that began to follow cut its log to the high watermark it knew. A follower learns of the high \
watermark with the answer to its next fetch, so that it is always a round trip behind: the leader may have told a \
producer that a record is safe, the follower has the record, and does not know yet that it is committed. The leader \
goes, a new one is elected, and every other follower throws the record away, to fetch it again a moment later. If the \
new leader goes in that moment, a follower without the record leads, and it is gone from the cluster. Right is: keep \
the tail, ask the new leader where the last leader epoch of one's own log ended, and cut only there.",
        scenario: "second-leader-crash",
        check: "lost-write",
    },
    Exhibit {
        bug: Bug::Z01,
        section: "plain mistakes",
        title: "acks=all is answered when the leader has appended",
        origin: "no version of Kafka; a control: whoever does not find this one finds nothing",
        story: "The leader answers a producer that asked for acks=all as soon as it has the record itself, as it would \
for acks=1. As long as it lives nobody can tell. When it goes before the followers have fetched, one of them leads \
without the record that was acknowledged. Right is: the answer waits for the high watermark.",
        scenario: "slow-replication",
        check: "lost-write",
    },
    Exhibit {
        bug: Bug::Z02,
        section: "plain mistakes",
        title: "Consumers read past the high watermark",
        origin: "no version of Kafka; KAFKA-9835 and KAFKA-9196 let single records through",
        story: "A consumer is served all that the leader has, committed or not. It acts on a record that is on one disk \
only. When the leader goes, the next one has another record at that offset: what was read never was. Right is: nobody \
but a replica reads past the high watermark.",
        scenario: "slow-replication",
        check: "isolation-bound",
    },
    Exhibit {
        bug: Bug::Z08,
        section: "plain mistakes",
        title: "A follower appends whatever answer comes",
        origin: "no version of Kafka; KAFKA-13207 and KAFKA-18723 are its kin",
        story: "A follower takes any answer to any fetch it ever sent and appends what is in it, without asking whether \
the batch continues its log. It needs an answer that is late: the leader changes while one is on its way over a slow \
link, the follower fetches the same records from the new leader, and then the old answer arrives. The records are there \
twice, the offsets of all that follows are shifted, and two replicas hold different records at the same offset, below \
the high watermark. Right is: an answer counts if it is to the fetch that is out, and a batch is appended if its offset \
is the next one and its epoch no older than the log's last.",
        scenario: "late-fetch-response",
        check: "log-matching",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_an_exhibit_and_a_scenario_and_a_check() {
        assert_eq!(EXHIBITS.iter().map(|exhibit| exhibit.bug).collect::<Vec<_>>(), Bug::ALL);
        for exhibit in EXHIBITS {
            assert!(crate::file::find(exhibit.scenario).is_some(), "{}: {}", exhibit.bug.id(), exhibit.scenario);
            assert!(checker::CheckInfo::find(exhibit.check).is_some(), "{}: {}", exhibit.bug.id(), exhibit.check);
        }
    }
}
