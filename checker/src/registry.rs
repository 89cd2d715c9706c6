//! Every check by its stable name: what it guards, in words, and where it comes from.

use crate::context::{Allowed, Context};
use crate::verdict::CheckResult;

/// On what evidence a check rests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Evidence {
    /// What clients saw.
    BlackBox,
    /// What brokers and controllers admit.
    WhiteBox,
    /// The state after healing.
    End,
}

/// One check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckInfo {
    /// Its stable name.
    pub id: &'static str,
    /// Its row in the research notes: `B3`, `L1`, `W-R7`. Several checks may judge parts of one row.
    pub row: &'static str,
    /// What Kafka promises, in one sentence.
    pub guarantee: &'static str,
    /// Where the promise comes from.
    pub source: &'static str,
    /// On what it rests.
    pub evidence: Evidence,
    /// A breach is a loss of records: with `allowed = "none"` it is a violation even where Kafka documents it.
    pub is_loss: bool,
}

impl CheckInfo {
    /// The check of that name.
    #[must_use]
    pub fn find(id: &str) -> Option<&'static CheckInfo> {
        CHECKS.iter().find(|check| check.id == id)
    }
}

macro_rules! checks {
    ($($constant:ident = $evidence:ident $id:literal $row:literal $loss:literal, $guarantee:literal, $source:literal;)*) => {
        $(pub(crate) const $constant: &CheckInfo = &CheckInfo {
            id: $id, row: $row, guarantee: $guarantee, source: $source, evidence: Evidence::$evidence, is_loss: $loss,
        };)*
        /// All checks: first what clients lose by, then what brokers admit, then the end.
        pub const CHECKS: &[CheckInfo] = &[$(*$constant),*];
    };
}

checks! {
    LOST_WRITE = BlackBox "lost-write" "B3" true,
        "An acknowledged record stays readable: no reader passes its offset without getting it.",
        "Kafka design, replication; KIP-101, KIP-966";
    UNSEEN = BlackBox "unseen" "B4" true,
        "An acknowledged record is there when the log is read to its end.",
        "Kafka design, replication; KIP-966";
    DIRTY_READ = BlackBox "dirty-read" "W-R13" true,
        "A record that a consumer was given is committed: it does not vanish afterwards.",
        "high watermark; KIP-101, KIP-966 (ConsistentRead)";
    INCONSISTENT_OFFSET = BlackBox "inconsistent-offset" "B1" true,
        "An offset names one record for ever: nobody sees another one there.",
        "KIP-101, KIP-279, KIP-320";
    FAILED_WRITE_READ = BlackBox "failed-write-read" "B10" false,
        "A record that was refused for good is never read.",
        "produce error codes without effect";
    DUPLICATE = BlackBox "duplicate" "B2" false,
        "An idempotent producer's record enters the log once, whatever is retried.",
        "KIP-98, KIP-360";
    CONTIGUITY = BlackBox "contiguity" "B5" false,
        "A fetch returns every visible record of the range it covers, once, in order, and none before its position.",
        "Fetch API";
    POLL_SKIP = BlackBox "poll-skip" "B6" false,
        "A consumer that does not seek gets every record between two polls.",
        "KafkaConsumer position";
    NONMONOTONIC_POLL = BlackBox "nonmonotonic-poll" "B6" false,
        "A consumer that does not seek never goes back.",
        "KafkaConsumer position";
    NONMONOTONIC_SEND = BlackBox "nonmonotonic-send" "B8" false,
        "Records of one producer to one partition lie in the log in the order they were sent.",
        "KIP-98; max.in.flight.requests.per.connection";
    GARBAGE_READ = BlackBox "garbage-read" "B12" false,
        "Every record read was sent to that partition.",
        "Kafka design";
    FUTURE_READ = BlackBox "future-read" "B12" false,
        "No record is read before it is sent.",
        "real time";
    RECORD_INTEGRITY = BlackBox "record-integrity" "B13" false,
        "A record is read as it was sent: key, value, headers and timestamp.",
        "record format v2, CRC-32C";
    ISOLATION_BOUND = BlackBox "isolation-bound" "B19" false,
        "A fetch returns nothing at or past its own high watermark (last stable offset when read_committed), and log start <= last stable offset <= high watermark.",
        "Fetch API; KIP-98";
    STALE_POLL = BlackBox "stale-poll" "B18" false,
        "The high watermark told by a current leader covers every record acknowledged before the fetch was sent.",
        "KIP-207; acks=all";
    APPEND_ORDER = BlackBox "l1-append-order" "L1" false,
        "A partition is a linearizable log: a record sent after another was acknowledged gets the higher offset.",
        "linearizability of appends; acks=all";
    END_READS = BlackBox "l2-end-reads" "L2" false,
        "The end of the log that a current leader tells covers every record acknowledged before it was asked, and none that was sent after it answered.",
        "ListOffsets; KIP-207";
    END_MONOTONE = BlackBox "l3-end-monotone" "L3" false,
        "The end of the log never goes back, also across a change of leader.",
        "ListOffsets; KIP-207";
    LOG_START = BlackBox "l4-log-start" "L4" false,
        "The start of a broker's log never goes back, and is never past the high watermark.",
        "Fetch API; KIP-107";
    ABORTED_READ = BlackBox "aborted-read" "B10" false,
        "A read_committed consumer gets nothing of a transaction that was not committed.",
        "KIP-98";
    PRECOMMITTED_READ = BlackBox "precommitted-read" "B11" false,
        "A read_committed consumer gets nothing of a transaction before its producer commits it.",
        "KIP-98";
    TORN_TRANSACTION = BlackBox "torn-transaction" "B14" true,
        "Of a transaction's records all are there in the end, or none.",
        "KIP-98; KIP-890";
    TRANSACTION_CYCLE = BlackBox "transaction-cycle" "B16" false,
        "A transaction is read once it has committed, and reads nothing that began after that.",
        "KIP-98; read_committed";
    ZOMBIE_WRITE = BlackBox "zombie-write" "T4" false,
        "Once a producer is initialised, nothing that an earlier one of its transactional id asks for takes effect.",
        "KIP-98, KIP-360; transactional.id";
    INITIALISED_EPOCHS = BlackBox "initialised-epochs" "L9" false,
        "Every initialisation of a transactional id gets a higher epoch than those before it, or a new producer id.",
        "KIP-98, KIP-360, KIP-890";
    ABORTED_OFFSET = BlackBox "aborted-offset" "T6" false,
        "A group's offset that was committed in a transaction counts once that transaction is committed, and not otherwise.",
        "KIP-98, KIP-447";
    TRANSFORM_ONCE = BlackBox "transform-once" "T5" false,
        "Of every record below a group's offset one is made, of none above, and in their order, when offsets are committed in the transactions that make them.",
        "KIP-98, KIP-447; exactly-once processing";
    COMPACTED_LAST_VALUE = BlackBox "compacted-last-value" "T11" false,
        "Compaction keeps the last committed record of every key.",
        "log compaction; KIP-98";
    CONSERVATION = BlackBox "conservation" "T12" false,
        "Transfers in transactions leave what all accounts hold together as it was.",
        "KIP-98";
    GROUP_DELIVERY = BlackBox "group-delivery" "B20" false,
        "Every acknowledged record below a group's committed offset was given to one of its sessions.",
        "KafkaConsumer, at-least-once; OffsetCommit";
    DOUBLE_OWNERSHIP = BlackBox "double-ownership" "B22" false,
        "Two sessions of a group do not hold one partition in one generation, and whoever was succeeded there commits nothing.",
        "KIP-429, KIP-848; ILLEGAL_GENERATION, STALE_MEMBER_EPOCH";
    STALE_COMMIT = BlackBox "stale-commit" "T7" false,
        "Nothing is committed in a generation that the group has left, nor committed in transactions by two of its sessions.",
        "KIP-447, KIP-848; ILLEGAL_GENERATION, STALE_MEMBER_EPOCH";
    LOST_OFFSET = BlackBox "lost-offset" "L5" false,
        "The offset that a group is told is the one that was committed last.",
        "OffsetFetch; KIP-447 (require_stable)";
    LINEARIZABLE_OFFSET = BlackBox "linearizable-offset" "L5" false,
        "What a group has committed in a partition is one register: whoever asks with require_stable is told its last commit.",
        "KIP-447; OffsetFetch";
    LINEARIZABLE_TOPIC = BlackBox "linearizable-topic" "L6" false,
        "The active controller answers for a topic as if one request after the other were done, each at once.",
        "KIP-500; CreateTopics, DeleteTopics, CreatePartitions";
    METADATA_ANSWERS = BlackBox "metadata-answers" "L7" false,
        "A broker never tells of an older leader epoch than before, nor of fewer partitions, and a leader epoch has one leader, whoever tells.",
        "Metadata; KIP-320, KIP-500";
    CONFIG_ANSWERS = BlackBox "config-answers" "L7" false,
        "A broker that has told a configuration never tells one that was replaced before that one was set.",
        "DescribeConfigs, IncrementalAlterConfigs; KIP-339, KIP-500";
    PRODUCER_ID_ONCE = BlackBox "producer-id-once" "L8" false,
        "A producer id is given to one producer, whoever gives it.",
        "KIP-98, KIP-730";
    LINEARIZABLE_VOTERS = BlackBox "linearizable-voters" "L10" false,
        "The voters change by one at a time, and whoever asks their leader is told the last change.",
        "KIP-853";
    UNRESOLVED_OP = BlackBox "unresolved-op" "V6" false,
        "Every operation of a client returns, with success or an error, within its timeout.",
        "delivery.timeout.ms, default.api.timeout.ms";

    LEADER_PER_EPOCH = WhiteBox "leader-per-epoch" "W-R1" false,
        "At most one incarnation of one broker appends to a partition as leader of one leader epoch.",
        "KIP-101, KIP-320; KIP-631";
    LEADER_COMPLETENESS = WhiteBox "leader-completeness" "W-R11" true,
        "A leader elected from the ISR has every committed record.",
        "ISR replication; KIP-966 (LeaderCompleteness)";
    COMMITTED_TRUNCATED = WhiteBox "committed-truncated" "W-R15" true,
        "A member of the ISR never truncates a committed record.",
        "KIP-101, KIP-279, KIP-320";
    LOG_MATCHING = WhiteBox "log-matching" "W-R12" true,
        "Two replicas agree below their high watermarks, and the same offset and leader epoch mean the same batch and the same log before it.",
        "KIP-101, KIP-279 (LogMatching)";
    ACK_RULE = WhiteBox "ack-rule" "W-R21" false,
        "acks=all succeeds only for a record below the high watermark, while the ISR has min.insync.replicas members.",
        "acks=all; KIP-966";
    HIGH_WATERMARK = WhiteBox "high-watermark" "W-R7" false,
        "A leader's high watermark is at most the log end of every member of its ISR, a follower's at most what a leader has set.",
        "KIP-497, KIP-966";
    HIGH_WATERMARK_MONOTONE = WhiteBox "high-watermark-monotone" "W-R8" false,
        "A leader's high watermark never falls within its leader epoch.",
        "KIP-207, KIP-966";
    LEADER_IN_ISR = WhiteBox "leader-in-isr" "W-R3" false,
        "A partition's leader is in its ISR.",
        "KIP-497, KIP-631";
    ISR_OF_REPLICAS = WhiteBox "isr-of-replicas" "W-R4" false,
        "The ISR is a subset of the replicas, without repeats, and never empty.",
        "KIP-497, KIP-966";
    ISR_UNFENCED = WhiteBox "isr-unfenced" "W-R5" false,
        "A fenced broker does not join the ISR, and leaves it unless it is its last member.",
        "KIP-841, KIP-903";
    CLEAN_ELECTION = WhiteBox "clean-election" "W-R18" true,
        "A new leader comes from the ISR.",
        "unclean.leader.election.enable; KIP-966";
    REGISTRATION_EPOCHS = WhiteBox "registration-epochs" "W-R2" false,
        "Every change of a partition adds one to its partition epoch, a change of leader adds one to its leader epoch, and neither ever falls.",
        "KIP-320, KIP-497";
    REASSIGNMENT = WhiteBox "reassignment" "W-R24" false,
        "Replicas come only as a reassignment brings them, go with a new leader epoch, and it ends when all its targets are in the ISR or is taken back.",
        "KIP-455; KIP-631";
    ELIGIBLE_LEADERS = WhiteBox "eligible-leaders" "W-R4 W-R19 W-R20" false,
        "Eligible leader replicas left the ISR while it was below min.insync.replicas, and lost no power since; without any, it is known who was last.",
        "KIP-966";
    REGISTRATION_AGREEMENT = WhiteBox "registration-agreement" "W-R23" false,
        "All nodes replay the same registrations: one partition epoch means one leader, one ISR, one set of replicas.",
        "KIP-500, KIP-631 (state machine safety)";
    BROKER_EPOCHS = WhiteBox "broker-epochs" "W-R22" false,
        "Every registration of a broker gets a higher broker epoch.",
        "KIP-631, KIP-841";
    QUORUM_LEADER_PER_EPOCH = WhiteBox "quorum-leader-per-epoch" "W-K1" false,
        "All nodes that know a leader of a quorum epoch know the same one.",
        "KIP-595 (NeverTwoLeadersInSameEpoch)";
    QUORUM_VOTE = WhiteBox "quorum-vote" "W-K3" false,
        "A voter votes for one candidate in one quorum epoch, also across restarts.",
        "KIP-595, KIP-996";
    QUORUM_EPOCH_MONOTONE = WhiteBox "quorum-epoch-monotone" "W-K2" false,
        "A node's quorum epoch never falls, also across restarts.",
        "KIP-595 (MonotonicEpoch)";
    QUORUM_HIGH_WATERMARK = WhiteBox "quorum-high-watermark" "W-K8" false,
        "A quorum leader's high watermark is on a majority of the voters, past the start of its epoch, and never below that of an earlier leader.",
        "KIP-595 (MonotonicHighWatermark, MajorityReachedHighWatermark)";
    METADATA_LEADER_COMPLETENESS = WhiteBox "metadata-leader-completeness" "W-K5" true,
        "An elected controller has every committed metadata record.",
        "KIP-595 (LeaderHasAllAckedValues)";
    METADATA_TRUNCATED = WhiteBox "metadata-truncated" "W-K9" true,
        "A voter never truncates a committed metadata record.",
        "KIP-595";
    METADATA_LOG_MATCHING = WhiteBox "metadata-log-matching" "W-K4" true,
        "Two metadata logs agree below their high watermarks, and the same offset and epoch mean the same batch and the same log before it.",
        "KIP-595 (NoLogDivergence)";
    TRUNCATION_POINT = WhiteBox "truncation-point" "W-R15 W-K9" false,
        "A follower cuts its log only where its leader's differs, and a voter never below its own high watermark.",
        "KIP-101, KIP-279, KIP-320; KIP-595";
    RECOVERED_LOG = WhiteBox "recovered-log" "W-S10 W-S2" false,
        "A log opens with its start, high watermark and end in order, and with all that was in a page cache that was not lost.",
        "log recovery; KIP-966";
    ISR_PROPOSAL = WhiteBox "isr-proposal" "W-R6 W-R17" false,
        "An ISR grows only as its leader asked on the registration that it knew, and a leader's ISR is the controller's.",
        "KIP-497; KIP-966 (ReplicationQuorumSuperset)";
    ISR_COMPLETE = WhiteBox "isr-complete" "W-R10 W-R16" false,
        "A replica joins the ISR with everything that is committed, and all up to where its leader's epoch begins.",
        "KIP-320, KIP-966 (LeaderCandidateCompleteness)";
    QUORUM_ROLES = WhiteBox "quorum-roles" "W-K14 W-K15" false,
        "A node asks for pre-votes in the epoch it is in, stands in the next, leads with a majority's votes, and resigns only what it leads.",
        "KIP-595, KIP-996";
    CONTROLLER_ANSWER = WhiteBox "controller-answer" "W-K16" false,
        "The controller answers a request once the records that the answer rests on are committed.",
        "KIP-631";
    QUORUM_SNAPSHOT = WhiteBox "quorum-snapshot" "W-K10 W-K11 W-K12" false,
        "A snapshot stands for committed metadata records, is the same wherever it is taken, is loaded by no leader, and a log begins only where one ends.",
        "KIP-630";
    VOTER_CHANGES = WhiteBox "voter-changes" "W-K13" false,
        "Voters change one at a time, by a leader that has committed in its epoch, once the change before is committed and who joins has caught up.",
        "KIP-853";
    DELETED_SEGMENTS = WhiteBox "deleted-segments" "W-S9" false,
        "Retention deletes whole segments, the oldest first, only committed ones, and never the active one.",
        "retention.ms, retention.bytes; KIP-107";
    CLEANED_RANGE = WhiteBox "cleaned-range" "W-S7" false,
        "The cleaner rewrites only what is committed, and not the active segment.",
        "cleanup.policy=compact";
    PRODUCER_SEQUENCE = WhiteBox "producer-sequence" "W-S6" false,
        "A producer's batches continue its sequence in a partition's log: epochs never fall, a new one begins at 0, none is left out or repeated.",
        "KIP-98, KIP-360";
    COORDINATOR_PER_EPOCH = WhiteBox "coordinator-per-epoch" "W-G10 W-T3" false,
        "One incarnation of one broker coordinates a partition's groups or transactions in one leader epoch, and only what it has loaded.",
        "KIP-98; KIP-848";
    GROUP_EPOCH_MONOTONE = WhiteBox "group-epoch-monotone" "W-G6 W-G7" false,
        "The epochs of a group, of its members and of its coordinator never fall.",
        "KIP-848; KIP-62";
    SINGLE_OWNER = WhiteBox "single-owner" "W-G1 W-G3 W-G7" false,
        "No two members of a group may read one partition: at any time since KIP-848, in one generation before.",
        "KIP-848 (NoDoubleClientAssignment); KIP-429";
    STABLE_GROUP = WhiteBox "stable-group" "W-G2 W-G4 W-G5" false,
        "In a stable group every member is at the group's epoch with exactly its target, and no partition is the target of two.",
        "KIP-848 (ValidStableGroupState)";
    COMMIT_FENCING = WhiteBox "commit-fencing" "W-G8 W-G11" false,
        "An offset is committed by a current member in its current epoch, or by nobody while the group is empty.",
        "KIP-345, KIP-848";
    TRANSACTION_STATE = WhiteBox "transaction-state" "W-T1 W-T2 W-T4" false,
        "A transaction moves through its states in order: a decision never flips, and an open transaction loses no partition.",
        "KIP-98, KIP-890";
    PRODUCER_EPOCHS = WhiteBox "producer-epochs" "W-T2 W-T3" false,
        "A transactional id's producer epoch and its coordinator's epoch never fall, and no two ids share a producer id.",
        "KIP-98, KIP-360";
    TRANSACTION_MARKERS = WhiteBox "transaction-markers" "W-T5 W-T6 W-T7" false,
        "A complete transaction has one decision's marker after all of its data in every partition in it, and coordinator epochs of markers never fall.",
        "KIP-98, KIP-890";
    TRANSACTION_DATA = WhiteBox "transaction-data" "W-T8 W-T9" false,
        "Transactional data enters only an open transaction that its coordinator knows there, in one producer epoch and nothing beside it.",
        "KIP-890";
    COMMITTED_ON_DISK = WhiteBox "committed-on-disk" "W-R14" true,
        "At the end some replica's disk has every committed record.",
        "ISR replication; KIP-966 (NoCommittedRecordLostGlobally)";

    LEADER_EVERYWHERE = End "leader-everywhere" "V3" false,
        "Once faults end, every partition with a living replica that may lead gets a leader.",
        "KIP-631";
    ISR_FULL = End "isr-full" "V4" false,
        "Once faults end, every living replica rejoins the ISR.",
        "replica.lag.time.max.ms; KIP-497";
    HIGH_WATERMARK_AT_END = End "high-watermark-at-log-end" "V5" false,
        "Once traffic ends, the high watermark reaches the log's end on every replica.",
        "ISR replication";
    REPLICAS_EQUAL = End "replicas-equal" "W-S11" true,
        "Once traffic ends, all replicas of a partition are equal to the byte.",
        "Fetch API: followers copy batches as they are";
    ONE_CONTROLLER = End "one-controller" "V1" false,
        "Once faults end, all controllers follow one of them and share its high watermark.",
        "KIP-595";
    METADATA_EVERYWHERE = End "metadata-everywhere" "V4" false,
        "Once faults end, every running node knows the newest registration of every partition.",
        "KIP-500, KIP-631 (EventuallyMetadataConverges)";
    BROKERS_UNFENCED = End "brokers-unfenced" "V2" false,
        "Once faults end, every running broker is registered and unfenced.",
        "KIP-631";
    CONVERGES = End "converges" "V1 V2 V3 V4 V5" false,
        "Once faults end, the cluster is whole again within the time that its timers give it.",
        "election, session and replica lag timeouts";
    LOG_READABLE = End "log-readable" "W-S1" false,
        "At the end every log parses to its last byte: batches are whole, offsets rise and leader epochs never fall.",
        "record format v2, CRC-32C";
    EPOCH_CACHE = End "epoch-cache" "W-S3" false,
        "The leader epoch checkpoint of a log rises in epoch and offset, and says where each epoch of its batches begins.",
        "KIP-101";
    INDEX_ENTRIES = End "index-entries" "W-S4" false,
        "A segment's indexes rise from entry to entry, and every entry names the batch that a search from the segment's beginning would find.",
        "OffsetIndex, TimeIndex; KIP-33";
    PRODUCER_SNAPSHOT = End "producer-snapshot" "W-S5" false,
        "A snapshot of a log's producers says what the batches below it say, and none is past the log's end.",
        "ProducerStateManager; KIP-98";
    CLEANUP_PROGRESS = End "cleanup-progress" "V11" false,
        "Once faults end, a segment that retention is to delete goes, and a log that the cleaner is to clean is cleaned.",
        "cleanup.policy, retention.ms, retention.bytes, min.cleanable.dirty.ratio, max.compaction.lag.ms; KIP-107, KIP-354";
    REASSIGNMENTS_END = End "reassignments-end" "V9" false,
        "Once faults end, every reassignment comes to its end or is taken back.",
        "KIP-455 (EventuallyReassignmentCompletes)";
    GROUPS_STABLE = End "groups-stable" "V7" false,
        "Once faults end, every group with members is stable and reads every partition it subscribes to.",
        "KIP-848 (EventuallyConverges)";
    TRANSACTIONS_DECIDED = End "transactions-decided" "V8" false,
        "Once traffic ends and timeouts have passed, no transaction is open: the last stable offset is the high watermark.",
        "KIP-98, KIP-890";
    CANARIES = End "canaries" "V10" false,
        "Once faults end, the cluster serves new requests.",
        "liveness";
}

impl CheckResult {
    /// A result of `check` without findings yet.
    pub(crate) fn of(check: &CheckInfo) -> Self {
        CheckResult::new(check.id)
    }

    /// A finding that is documented as possible if there is an `excuse`, and a violation otherwise, or when the run allows
    /// no loss.
    pub(crate) fn find(
        &mut self,
        check: &CheckInfo,
        ctx: &Context,
        excuse: Option<&str>,
        at_ns: Option<u64>,
        evidence: impl FnOnce() -> Vec<String>,
    ) {
        match excuse {
            Some(reason) if ctx.allowed == Allowed::Counted || !check.is_loss => self.allow(reason),
            Some(reason) => {
                let mut evidence = evidence();
                evidence.push(format!("Kafka documents this as possible here ({reason}); this run allows no loss"));
                self.violate(check.guarantee, evidence, at_ns);
            }
            None if self.violations.len() < Self::KEPT => self.violate(check.guarantee, evidence(), at_ns),
            None => self.violate(check.guarantee, Vec::new(), at_ns),
        }
    }
}

/// Puts results into the order of [`CHECKS`].
pub(crate) fn sort(results: &mut [CheckResult]) {
    results.sort_by_key(|result| CHECKS.iter().position(|check| check.id == result.id));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_page_of_invariants_has_every_check_in_its_own_words() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/INVARIANTS.md"));
        for check in CHECKS {
            let row = format!("| `{}` | {} | {} | {} |", check.id, check.row, check.guarantee, check.source);
            assert!(page.contains(&row), "docs/INVARIANTS.md lacks: {row}");
        }
        let names = page.lines().filter(|line| line.starts_with("| `") && line.contains(".rs`")).count();
        assert_eq!(names, CHECKS.len(), "docs/INVARIANTS.md has rows that are no checks");
    }

    #[test]
    fn every_row_is_answered_for() {
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/INVARIANTS.md"));
        let inventory = page.split("\n## ").find(|part| part.starts_with("Row by row")).expect("an inventory");
        let rows = |prefix: &str, last: u32| (1..=last).map(|row| format!("{prefix}{row}")).collect::<Vec<_>>();
        let clients = [("B", 22), ("L", 12), ("T", 13)];
        let brokers = [("W-R", 26), ("W-K", 16), ("W-G", 11), ("W-T", 10), ("W-S", 11), ("V", 11)];
        let wanted = clients.iter().chain(&brokers);
        let told: BTreeSet<&str> = inventory
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
            .flat_map(|rows| rows.split(", "))
            .collect();
        for row in wanted.flat_map(|(prefix, last)| rows(prefix, *last)) {
            assert!(told.contains(row.as_str()), "docs/INVARIANTS.md says nothing of row {row}");
        }
        for name in inventory.split('`').skip(1).step_by(2).filter(|name| name.contains('-')) {
            assert!(CheckInfo::find(name).is_some(), "docs/INVARIANTS.md names {name}, which is no check");
        }
        for check in CHECKS {
            assert!(inventory.contains(&format!("`{}`", check.id)), "the inventory does not name {}", check.id);
        }
    }

    #[test]
    fn names_are_unique_and_guarantees_are_sentences() {
        let names: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            assert!(check.guarantee.ends_with('.') && check.guarantee.starts_with(char::is_alphabetic), "{}", check.id);
            assert!(check.row.starts_with(['B', 'L', 'T', 'V', 'W']), "{}: {}", check.id, check.row);
            assert_eq!(CheckInfo::find(check.id), Some(check));
        }
    }
}
