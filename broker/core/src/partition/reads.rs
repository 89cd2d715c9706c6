//! What may be read, and what is answered to questions about offsets. Nothing here changes the replica.

use super::leader::Leader;
use super::{ConsumerFetch, ListedBy, ListedOffset, Read, ReadLimit, Replica, Role, TimestampBound};
use crate::planted::{Bug, planted};
use broker_types::{ErrorCode, LeaderEpoch, Offset, OffsetAndEpoch};

impl Replica {
    /// What a consumer may read: below the high watermark, or the last stable offset with `read_committed`.
    ///
    /// # Errors
    /// FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, KAFKA_STORAGE_ERROR.
    pub fn consumer_fetch(&self, fetch: &ConsumerFetch) -> Result<Read, ErrorCode> {
        self.replica_in(fetch.current_leader_epoch, !fetch.from_follower)?;
        let limit = match fetch.read_committed {
            true => ReadLimit::LastStableOffset,
            // What is past the high watermark goes with this leader, and was never there for the next one's readers.
            false if planted(Bug::Z02) => ReadLimit::LogEnd,
            false => ReadLimit::HighWatermark,
        };
        self.read(fetch.offset, fetch.last_fetched_epoch, limit)
    }

    /// The end of the log for a reader: ListOffsets with "latest". While a new leader's high watermark lags behind its
    /// epoch's start, it does not know what was committed before it, and a client must not be sent back (KIP-207).
    ///
    /// # Errors
    /// As [`Replica::consumer_fetch`] without OFFSET_OUT_OF_RANGE, and OFFSET_NOT_AVAILABLE.
    pub fn latest_offset(&self, by: ListedBy, current: Option<LeaderEpoch>) -> Result<ListedOffset, ErrorCode> {
        let leader = self.leader_in(current)?;
        let offset = match by {
            ListedBy::Replica => self.log.offsets().log_end,
            ListedBy::Client { read_committed } => {
                self.check_committed_end(leader)?;
                self.last_fetchable(read_committed)
            }
        };
        Ok(ListedOffset { offset, leader_epoch: self.log.epochs().latest() })
    }

    /// The beginning of the log: ListOffsets with "earliest".
    ///
    /// # Errors
    /// As [`Replica::consumer_fetch`] without OFFSET_OUT_OF_RANGE.
    pub fn earliest_offset(&self, current: Option<LeaderEpoch>) -> Result<ListedOffset, ErrorCode> {
        self.leader_in(current)?;
        let offset = self.log.offsets().log_start;
        Ok(ListedOffset { offset, leader_epoch: self.log.epochs().epoch_at(offset) })
    }

    /// How far a ListOffsets by timestamp, or for the largest timestamp, may look.
    ///
    /// # Errors
    /// As [`Replica::consumer_fetch`] without OFFSET_OUT_OF_RANGE.
    pub fn timestamp_bound(&self, by: ListedBy, current: Option<LeaderEpoch>) -> Result<TimestampBound, ErrorCode> {
        let leader = self.leader_in(current)?;
        Ok(match by {
            ListedBy::Replica => TimestampBound { up_to: self.log.offsets().log_end, beyond: None },
            ListedBy::Client { read_committed } => TimestampBound {
                up_to: self.last_fetchable(read_committed),
                beyond: self.check_committed_end(leader).err(),
            },
        })
    }

    /// The largest epoch not above `asked` and where it ends here: OffsetForLeaderEpoch (KIP-101, KIP-279).
    ///
    /// # Errors
    /// As [`Replica::consumer_fetch`] without OFFSET_OUT_OF_RANGE.
    pub fn offset_for_leader_epoch(
        &self,
        asked: LeaderEpoch,
        current: Option<LeaderEpoch>,
    ) -> Result<Option<OffsetAndEpoch>, ErrorCode> {
        self.leader_in(current)?;
        Ok(self.log.epochs().end_offset_for(asked, self.log.offsets().log_end))
    }

    /// This replica as the leader that a request of epoch `current` means.
    pub(super) fn leader_in(&self, current: Option<LeaderEpoch>) -> Result<&Leader, ErrorCode> {
        self.replica_in(current, true)?;
        match &self.role {
            Role::Leader(leader) => Ok(leader),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// Whether this replica may answer a request of epoch `current` (KIP-320): an older epoch is fenced, a newer one is
    /// not known here yet.
    fn replica_in(&self, current: Option<LeaderEpoch>, as_leader: bool) -> Result<(), ErrorCode> {
        match (&self.role, current, self.leader_epoch()) {
            (Role::Offline, ..) => return Err(ErrorCode::KafkaStorageError),
            (_, Some(asked), Some(known)) if asked < known => return Err(ErrorCode::FencedLeaderEpoch),
            (_, Some(asked), Some(known)) if asked > known => return Err(ErrorCode::UnknownLeaderEpoch),
            _ => {}
        }
        match &self.role {
            Role::Leader(_) => Ok(()),
            // Without its producers a follower does not know where the last stable offset is.
            Role::Follower(_) if !as_leader && self.reloading.is_none() => Ok(()),
            _ => Err(ErrorCode::NotLeaderOrFollower),
        }
    }

    /// What may be read from `from` up to `limit`, if the reader's log, whose last record is of `last_fetched_epoch`, is a
    /// prefix of this one.
    pub(super) fn read(
        &self,
        from: Offset,
        last_fetched_epoch: Option<LeaderEpoch>,
        limit: ReadLimit,
    ) -> Result<Read, ErrorCode> {
        let offsets = self.log.offsets();
        // Out of range comes before diverging: whoever is below the log's start cannot be told where to meet.
        if from < offsets.log_start {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        let ends = self.log.ends();
        let log_start = offsets.log_start;
        if let Some(theirs) = last_fetched_epoch {
            let Some(ours) = self.log.epochs().end_offset_for(theirs, offsets.log_end) else {
                return Err(ErrorCode::OffsetOutOfRange);
            };
            if ours.epoch < theirs || ours.offset < from {
                return Ok(Read::Diverging { epoch: ours.epoch, end_offset: ours.offset, ends, log_start });
            }
        }
        if from > offsets.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        Ok(Read::Records { from, up_to: ends.at(limit).max(from), ends, log_start })
    }

    fn last_fetchable(&self, read_committed: bool) -> Offset {
        let ends = self.log.ends();
        if read_committed { ends.last_stable_offset } else { ends.high_watermark }
    }

    fn check_committed_end(&self, leader: &Leader) -> Result<(), ErrorCode> {
        if self.log.offsets().high_watermark < leader.epoch_start {
            return Err(ErrorCode::OffsetNotAvailable);
        }
        Ok(())
    }
}
