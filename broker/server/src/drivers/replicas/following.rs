//! What the replicas' driver fetches from leaders: one lane for each leader, one fetch in flight in each.

use super::super::fetcher::{self, Fetched, FetchedAnswer, Plan};
use super::{Lane, Replicas};
use broker_core::partition::{BatchId, FetchPosition, FetchResult, Input};
use broker_types::{MonoTime, NodeId, TopicIdPartition};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;

impl Replicas {
    pub(super) fn lane(&mut self, leader: NodeId) -> &mut Lane {
        let (node, own) = (&self.node, &self.own);
        self.lanes.entry(leader).or_insert_with(|| {
            let (plans, orders) = mpsc::channel(1);
            node.env.go("replica-fetcher", fetcher::run(node.clone(), leader, orders, own.clone()));
            Lane { plans, busy: false, positions: BTreeMap::new(), questions: VecDeque::new() }
        })
    }

    pub(super) fn plan(&mut self, partition: TopicIdPartition, position: FetchPosition, delay: Duration) {
        self.stop_fetching(partition);
        let due = if delay.is_zero() { MonoTime(0) } else { self.node.env.mono() + delay };
        self.lane(position.leader).positions.insert(partition, (due, position));
    }

    pub(super) fn stop_fetching(&mut self, partition: TopicIdPartition) {
        for lane in self.lanes.values_mut() {
            lane.positions.remove(&partition);
            lane.questions.retain(|(other, _)| *other != partition);
        }
    }

    /// Sends each idle lane what is due.
    pub(super) fn send_plans(&mut self) {
        let mut now = None;
        for lane in self.lanes.values_mut() {
            if lane.busy || (lane.positions.is_empty() && lane.questions.is_empty()) {
                continue;
            }
            let plan = if let Some((partition, position)) = lane.questions.pop_front() {
                let Some(hosted) = self.hosted.get(&partition) else { continue };
                Plan::Offsets { partition, topic: hosted.name.topic.clone(), position }
            } else {
                let now = *now.get_or_insert_with(|| self.node.env.mono());
                let due: Vec<_> = lane
                    .positions
                    .iter()
                    .filter(|(_, (due, _))| *due <= now)
                    .map(|(partition, (_, position))| (*partition, *position))
                    .collect();
                if due.is_empty() {
                    continue;
                }
                for (partition, _) in &due {
                    lane.positions.remove(partition);
                }
                Plan::Fetch(due)
            };
            lane.busy = lane.plans.try_send(plan).is_ok();
        }
    }

    pub(super) async fn fetched(&mut self, fetched: Fetched) {
        let Fetched { partition, asked, answer } = fetched;
        let result = match answer {
            FetchedAnswer::Other(result) => result,
            FetchedAnswer::Records { batches, high_watermark, log_start } => {
                let first = self.next_id + 1;
                self.next_id += batches.len() as u64;
                let Some(hosted) = self.hosted.get_mut(&partition) else { return };
                let named = batches.into_iter().zip(first..).map(|(batch, id)| {
                    let summary = batch.summary();
                    hosted.batches.insert(id, batch);
                    (BatchId(id), summary)
                });
                FetchResult::Records { batches: named.collect(), high_watermark, log_start }
            }
        };
        self.drive(partition, Input::FetchResponse(fetcher::respond(asked, result))).await;
    }
}
