//! What the replicas' driver does with its log directory: flushes, truncations, checkpoints, the clean end.

use super::super::hosted::Hosted;
use super::{ReplicaMessage, Replicas};
use crate::storage::{CleanShutdown, Flushed, StorageError};
use broker_core::partition::Input;
use broker_types::{Observation, Offset, TopicIdPartition, TopicPartition};
use std::collections::BTreeMap;

impl Replicas {
    pub(super) fn start_flush(&mut self, partition: TopicIdPartition) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        if hosted.flushing {
            return;
        }
        hosted.flushing = true;
        hosted.unflushed = 0;
        let flush = hosted.log.flush();
        let own = self.own.clone();
        self.node.env.go("flush", async move {
            let result = flush.run().await;
            let _ = own.send(ReplicaMessage::Flushed { partition, result }).await;
        });
    }

    pub(super) async fn flushed(&mut self, partition: TopicIdPartition, result: Result<Flushed, StorageError>) {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return };
        hosted.flushing = false;
        match result {
            Ok(flushed) => {
                hosted.log.flushed(flushed);
                let to = hosted.log.recovery_point();
                let again = hosted.flush_again.take().is_some_and(|wanted| wanted > to);
                self.drive(partition, Input::Flushed { to }).await;
                if again {
                    self.start_flush(partition);
                }
            }
            Err(error) => self.fail(&error).await,
        }
    }

    pub(super) async fn truncate(&mut self, partition: TopicIdPartition, to: Offset) -> Result<(), StorageError> {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return Ok(()) };
        let before = hosted.log.recovery_point();
        if let Some(cut) = hosted.log.truncate_to(to).await? {
            hosted.drop_snapshots_beyond(&self.node.env, cut.to).await?;
            if hosted.log.recovery_point() < before {
                self.checkpoint_recovery_points().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn truncate_fully(
        &mut self,
        partition: TopicIdPartition,
        offset: Offset,
    ) -> Result<(), StorageError> {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return Ok(()) };
        // First, or a crash between would leave one that may lie just where the log is to start.
        hosted.drop_snapshots_beyond(&self.node.env, Offset::ZERO).await?;
        hosted.log.truncate_fully_and_start_at(offset).await?;
        self.checkpoint_log_starts().await?;
        self.checkpoint_recovery_points().await
    }

    pub(super) async fn move_log_start(&mut self, partition: TopicIdPartition, to: Offset) -> Result<(), StorageError> {
        let Some(hosted) = self.hosted.get_mut(&partition) else { return Ok(()) };
        if hosted.log.advance_log_start(to) {
            self.node.observer.observe(Observation::LogStart { partition, log_start: to });
            self.checkpoint_log_starts().await?;
            let Some(hosted) = self.hosted.get_mut(&partition) else { return Ok(()) };
            hosted.log.delete_segments_below_start().await?;
        }
        Ok(())
    }

    /// One number of every hosted log, and of those found on disk that were not opened yet (KAFKA-1647).
    pub(super) fn gather(
        &self,
        not_open: &BTreeMap<TopicPartition, Offset>,
        of: impl Fn(&Hosted) -> Offset,
    ) -> BTreeMap<TopicPartition, Offset> {
        let known = self.found.partitions.iter();
        let kept = known.filter_map(|dir| Some((dir.partition.clone(), *not_open.get(&dir.partition)?)));
        kept.chain(self.hosted.values().map(|hosted| (hosted.name.clone(), of(hosted)))).collect()
    }

    pub(super) async fn checkpoint_high_watermarks(&self) -> Result<(), StorageError> {
        let of = |hosted: &Hosted| hosted.replica.log().offsets().high_watermark;
        self.dir.write_high_watermarks(&self.gather(&self.found.high_watermarks, of)).await
    }

    pub(super) async fn checkpoint_recovery_points(&self) -> Result<(), StorageError> {
        let of = |hosted: &Hosted| hosted.log.recovery_point();
        self.dir.write_recovery_points(&self.gather(&self.found.recovery_points, of)).await
    }

    pub(super) async fn checkpoint_log_starts(&self) -> Result<(), StorageError> {
        let of = |hosted: &Hosted| hosted.log.log_start();
        self.dir.write_log_starts(&self.gather(&self.found.log_starts, of)).await
    }

    pub(super) async fn check(&mut self, outcome: Result<(), StorageError>) {
        if let Err(error) = outcome {
            self.fail(&error).await;
        }
    }

    /// The directory failed: its replicas go offline. It is this broker's only one, so the process ends, as Kafka's.
    pub(super) async fn fail(&mut self, error: &StorageError) {
        if std::mem::replace(&mut self.failed, true) {
            return;
        }
        tracing::error!(%error, dir = %self.dir.root().display(), "log directory failed; the broker stops");
        self.node.observer.observe(Observation::LogDirFailed);
        self.node.fail();
    }

    /// A clean end: everything synced, then the mark that says so.
    pub(super) async fn close(&mut self) {
        if self.failed {
            return;
        }
        let outcome = self.close_all().await;
        if let Err(error) = outcome {
            tracing::error!(%error, "the shutdown is not clean");
        }
    }

    pub(super) async fn close_all(&mut self) -> Result<(), StorageError> {
        for hosted in self.hosted.values_mut() {
            hosted.log.flush_now().await?;
            hosted.snapshot_producers(&self.node.env).await?;
            hosted.checkpoint_epochs(&self.node.env).await?;
        }
        self.checkpoint_recovery_points().await?;
        self.checkpoint_high_watermarks().await?;
        self.checkpoint_log_starts().await?;
        for (_, hosted) in std::mem::take(&mut self.hosted) {
            hosted.log.close().await?;
        }
        // A broker that lost power and is stopped before it was registered has opened no log. What is torn in them must be found
        // at the next start.
        if !self.found.is_recovered() {
            tracing::info!("logs were not recovered yet; the shutdown is not marked as clean");
            return Ok(());
        }
        let epoch = *self.node.broker_epoch.borrow();
        self.dir.write_clean_shutdown(CleanShutdown::new(epoch)).await
    }
}
