//! What one failed attempt to append says about its effect.

use super::Acks;
use crate::error::Outcome;
use broker_types::ErrorCode;

/// Whether a broker that answered `code` surely did not append, and never will.
///
/// Definite are the errors that Kafka gives before it touches the log. Everything else may come from a request whose
/// batch was appended and then waited for its replicas: a leader that loses its place meanwhile answers
/// NOT_LEADER_OR_FOLLOWER, UNKNOWN_TOPIC_OR_PARTITION or KAFKA_STORAGE_ERROR, and the batch may survive it.
pub(crate) fn of_attempt(code: ErrorCode, acks: Acks) -> Outcome {
    use ErrorCode::*;
    match code {
        NotEnoughReplicas
        | OutOfOrderSequenceNumber
        | UnknownProducerId
        | InvalidProducerEpoch
        | ProducerFenced
        | InvalidProducerIdMapping
        | InvalidTxnState
        | CorruptMessage
        | MessageTooLarge
        | RecordListTooLarge
        | InvalidTopicException
        | InvalidRequiredAcks
        | InvalidTimestamp
        | InvalidRecord
        | InvalidRequest
        | UnsupportedVersion
        | UnsupportedForMessageFormat
        | UnsupportedCompressionType
        | PolicyViolation
        | TopicAuthorizationFailed
        | ClusterAuthorizationFailed
        | TransactionalIdAuthorizationFailed => Outcome::Definite,
        // Without the wait for replicas the broker can only have said it before the append.
        UnknownTopicOrPartition | UnknownTopicId | InconsistentTopicId if acks != Acks::All => Outcome::Definite,
        _ => Outcome::Indeterminate,
    }
}

/// Whether the error says that our idea of leaders or topics is old.
pub(crate) fn asks_for_metadata(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        UnknownTopicOrPartition
            | LeaderNotAvailable
            | NotLeaderOrFollower
            | ReplicaNotAvailable
            | NetworkException
            | RequestTimedOut
            | KafkaStorageError
            | FencedLeaderEpoch
            | UnknownTopicId
            | InconsistentTopicId
            | ListenerNotFound
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_waiting_request_may_be_told_is_never_definite() {
        use ErrorCode::*;
        for code in [
            NotLeaderOrFollower,
            UnknownTopicOrPartition,
            KafkaStorageError,
            NotEnoughReplicasAfterAppend,
            RequestTimedOut,
            UnknownServerError,
            NetworkException,
        ] {
            assert_eq!(of_attempt(code, Acks::All), Outcome::Indeterminate, "{code}");
        }
        assert_eq!(of_attempt(NotEnoughReplicas, Acks::All), Outcome::Definite);
        assert_eq!(of_attempt(UnknownTopicOrPartition, Acks::Leader), Outcome::Definite);
        assert_eq!(of_attempt(NotLeaderOrFollower, Acks::Leader), Outcome::Indeterminate);
    }
}
