//! The replica as follower: where it fetches, what it appends, what it cuts.

use super::{BatchId, FetchPosition, FetchResponse, FetchResult, InFlight, Output, PartitionMetadata, Replica, Role};
use crate::planted::{Bug, planted};
use broker_types::MonoTime;
use broker_types::{BatchSummary, BrokerId, ErrorCode, LeaderEpoch, Observation, Offset, ReplicaRole};
use std::time::Duration;
use tracing::{debug, info, warn};

/// What a follower knows in one leader epoch.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Follower {
    epoch: LeaderEpoch,
    leader: Option<BrokerId>,
    /// The fetch that is out, with the log exactly as it was then: nothing is appended or cut while it is. An answer to
    /// another position comes from another time and changes nothing.
    asked: Option<FetchPosition>,
    /// How long the next fetch waits; meaningful while `asked` is `None`.
    delay: Duration,
    /// The leader's high watermark and log start as last heard in this epoch; `None` before.
    heard: Option<(Offset, Offset)>,
}

impl Follower {
    pub(super) fn new(metadata: &PartitionMetadata) -> Self {
        Follower {
            epoch: metadata.leader_epoch,
            leader: metadata.leader,
            asked: None,
            delay: Duration::ZERO,
            heard: None,
        }
    }
}

impl Replica {
    /// Fetches on, if nothing is out and the log is at rest: appends arrived, producers loaded, and durable if only that
    /// counts. For the fetch says to the leader: all before this offset is mine.
    pub(super) fn maybe_fetch(&mut self, out: &mut Vec<Output>) {
        let offsets = self.log.offsets();
        let end = self.own_end();
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        if follower.asked.is_some() || !self.in_flight.is_empty() || self.reloading.is_some() || end < offsets.log_end {
            return;
        }
        self.last_fetch += 1;
        let position = FetchPosition {
            number: self.last_fetch,
            leader,
            leader_epoch: follower.epoch,
            offset: end,
            // Of the log, not of the last response: an empty response leaves it as it is (KAFKA-15510).
            last_fetched_epoch: self.log.epochs().latest(),
            log_start: offsets.log_start,
        };
        follower.asked = Some(position);
        out.push(Output::FetchFrom { position, delay: std::mem::take(&mut follower.delay) });
    }

    pub(super) fn fetch_response(&mut self, now: MonoTime, response: FetchResponse, out: &mut Vec<Output>) {
        let current = match &mut self.role {
            Role::Follower(follower) if planted(Bug::Z08) || follower.asked == Some(response.asked) => {
                follower.asked = None;
                true
            }
            // The replica leads by now, follows in another epoch, or has asked anew: nothing of it may touch the log
            // (KAFKA-13207).
            _ => false,
        };
        if !current {
            if let FetchResult::Records { batches, .. } = response.result {
                out.extend(batches.iter().map(|(batch, _)| Output::Discard { batch: *batch }));
            }
            return;
        }
        match response.result {
            FetchResult::Records { batches, high_watermark, log_start } => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.heard = Some((high_watermark, log_start));
                }
                self.append_as_follower(&response.asked, &batches, out);
                self.progress(now, out);
            }
            FetchResult::Diverging { epoch, end_offset } => {
                self.cut_to_common_history(epoch, end_offset, out);
                self.maybe_fetch(out);
            }
            FetchResult::Error(ErrorCode::OffsetOutOfRange) => {
                if let Role::Follower(follower) = &mut self.role {
                    follower.asked = Some(response.asked);
                }
                out.push(Output::AskLeaderOffsets { position: response.asked });
            }
            FetchResult::Error(error) => {
                debug!(partition = %self.config.partition, leader_epoch = %response.asked.leader_epoch, %error, "fetch failed");
                self.fetch_later();
                self.maybe_fetch(out);
            }
        }
    }

    fn fetch_later(&mut self) {
        let backoff = self.config.fetch_backoff;
        if let Role::Follower(follower) = &mut self.role {
            follower.delay = backoff;
        }
    }

    fn append_as_follower(
        &mut self,
        asked: &FetchPosition,
        batches: &[(BatchId, BatchSummary)],
        out: &mut Vec<Output>,
    ) {
        for (index, (batch, summary)) in batches.iter().enumerate() {
            let offsets = *self.log.offsets();
            let straddles = summary.base_offset < offsets.next && summary.end_offset() > offsets.next;
            if index == 0 && straddles && offsets.log_start == offsets.next {
                // The log is empty and begins inside a batch (records were deleted up to there): batches come whole.
                self.start_afresh_at(summary.base_offset, out);
            }
            match self.check_continuity(asked, summary) {
                Ok(leader_epoch) => self.append_fetched(*batch, summary, leader_epoch, out),
                Err(why) => {
                    warn!(
                        partition = %self.config.partition, leader_epoch = %asked.leader_epoch, ?summary,
                        next = %self.log.offsets().next, why, "fetched batch refused"
                    );
                    out.push(Output::Observe(Observation::Mark { name: "fetched-batch-refused" }));
                    out.extend(batches[index..].iter().map(|(batch, _)| Output::Discard { batch: *batch }));
                    self.fetch_later();
                    return;
                }
            }
        }
    }

    /// Whether `summary` continues this log: in offset, in epoch, and not from a later history than the one asked for
    /// (KAFKA-18723: a slow answer may have been read after its sender was deposed, truncated and appended again).
    fn check_continuity(&self, asked: &FetchPosition, summary: &BatchSummary) -> Result<LeaderEpoch, &'static str> {
        if planted(Bug::Z08) {
            return summary.leader_epoch.ok_or("it has no leader epoch");
        }
        let next = self.log.offsets().next;
        if summary.last_offset_delta < 0 {
            return Err("it has no offsets");
        }
        if summary.base_offset < next {
            return Err("it begins before the log's end");
        }
        if summary.base_offset > next && !self.topic.compacted {
            return Err("it leaves a gap");
        }
        let Some(leader_epoch) = summary.leader_epoch else { return Err("it has no leader epoch") };
        if leader_epoch > asked.leader_epoch {
            return Err("its epoch is later than the one asked in");
        }
        if self.log.epochs().latest().is_some_and(|latest| leader_epoch < latest) {
            return Err("its epoch is older than the log's last one");
        }
        Ok(leader_epoch)
    }

    fn append_fetched(
        &mut self,
        batch: BatchId,
        summary: &BatchSummary,
        leader_epoch: LeaderEpoch,
        out: &mut Vec<Output>,
    ) {
        let next = self.log.offsets().next;
        let base = if planted(Bug::Z08) { next.max(summary.base_offset) } else { summary.base_offset };
        if self.log.assign_epoch(leader_epoch, base) {
            out.push(Output::CheckpointEpochs);
        }
        self.log.reserve(base, summary.offset_count());
        out.push(Output::Append { batch, at: base, leader_epoch });
        self.in_flight.push_back(InFlight {
            batch,
            base,
            summary: *summary,
            leader_epoch,
            role: ReplicaRole::Follower,
            waiter: None,
        });
    }

    /// A follower's high watermark is the leader's, as far as its own log goes; its log start follows.
    pub(super) fn follow_high_watermark(&mut self, out: &mut Vec<Output>) {
        let Role::Follower(follower) = &self.role else { return };
        let Some((high_watermark, log_start)) = follower.heard else { return };
        let offsets = self.log.offsets();
        let to = high_watermark.min(offsets.log_end).max(offsets.log_start);
        if self.log.set_high_watermark(to) {
            self.observe_high_watermark(ReplicaRole::Follower, out);
        }
        self.advance_log_start(log_start, out);
    }

    /// The leader has no more of this log than what its epoch `epoch` wrote before `end_offset` (KIP-279): everything
    /// beyond the last offset that both may share goes. If this log lacks that epoch, cut to where its own next lower
    /// one ends, and ask again.
    fn cut_to_common_history(&mut self, epoch: LeaderEpoch, end_offset: Offset, out: &mut Vec<Output>) {
        let log_end = self.log.offsets().log_end;
        let shared = match self.log.epochs().end_offset_for(epoch, log_end) {
            Some(own) if own.epoch == epoch => own.offset.min(end_offset),
            Some(own) => own.offset,
            None => end_offset,
        };
        let before = (log_end, self.log.epochs().latest());
        self.truncate_to(shared.min(log_end), out);
        if before == (self.log.offsets().log_end, self.log.epochs().latest()) {
            // The leader calls a log diverging that it cannot shorten. Do not ask it in a tight loop.
            self.fetch_later();
        }
    }

    /// Cuts the log back to `to` and puts out all that follows from it. Nothing may be on its way into the log.
    pub(super) fn truncate_to(&mut self, to: Offset, out: &mut Vec<Output>) {
        let offsets = *self.log.offsets();
        if to < offsets.log_start {
            self.start_afresh_at(to, out);
            return;
        }
        if to < offsets.log_end {
            let (partition, from) = (self.config.partition, offsets.log_end);
            info!(%partition, %from, %to, high_watermark = %offsets.high_watermark, "log truncated");
            out.push(Output::Truncate { to });
            out.push(Output::Observe(Observation::Truncated { partition, from, to }));
        }
        let truncation = self.log.truncate_to(to);
        self.flush_asked = self.flush_asked.min(to);
        if truncation.epochs_changed {
            out.push(Output::CheckpointEpochs);
        }
        if truncation.producers_lost {
            self.reloading = Some(to);
            out.push(Output::ReloadProducers { up_to: to });
        }
        if self.log.offsets().high_watermark != offsets.high_watermark {
            self.observe_high_watermark(ReplicaRole::Follower, out);
        }
        self.reread = true;
    }

    /// Nothing of this log can be kept: it is emptied, to begin at `offset`.
    fn start_afresh_at(&mut self, offset: Offset, out: &mut Vec<Output>) {
        let before = *self.log.offsets();
        let partition = self.config.partition;
        info!(%partition, from = %before.log_end, start = %offset, "log emptied to start elsewhere");
        let epochs_changed = self.log.truncate_fully_and_start_at(offset);
        self.flush_asked = offset;
        self.reloading = None;
        out.push(Output::TruncateFullyAndStartAt { offset });
        if offset < before.log_end {
            out.push(Output::Observe(Observation::Truncated { partition, from: before.log_end, to: offset }));
        }
        if offset != before.log_start {
            out.push(Output::Observe(Observation::LogStart { partition, log_start: offset }));
        }
        if epochs_changed {
            out.push(Output::CheckpointEpochs);
        }
        if offset != before.high_watermark {
            self.observe_high_watermark(ReplicaRole::Follower, out);
        }
        self.reread = true;
    }

    /// The fetch was out of range, and the leader said where its log begins and ends. Only a leader whose log begins
    /// after ours ends makes us drop everything; whoever is merely behind for a moment does not (KAFKA-2143).
    pub(super) fn leader_offsets(
        &mut self,
        asked: FetchPosition,
        result: Result<(Offset, Offset), ErrorCode>,
        out: &mut Vec<Output>,
    ) {
        match &mut self.role {
            Role::Follower(follower) if follower.asked == Some(asked) => follower.asked = None,
            _ => return,
        }
        let offsets = *self.log.offsets();
        let is_empty = offsets.log_start == offsets.log_end;
        match result {
            Ok((leader_start, _)) if leader_start > offsets.log_end => self.start_afresh_at(leader_start, out),
            // Records beyond the leader's end are for a diverging answer to cut. An empty log without an epoch to
            // compare just begins where the leader ends.
            Ok((_, leader_end)) if is_empty && leader_end < offsets.log_end => self.start_afresh_at(leader_end, out),
            Ok(_) | Err(_) => self.fetch_later(),
        }
        self.maybe_fetch(out);
    }
}
