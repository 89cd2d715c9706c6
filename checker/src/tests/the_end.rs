//! The end of a run: a cluster that got well, and every way in which it may not have.

use super::fired;
use super::reference::partition;
use crate::convergence::*;
use crate::registry::{CHECKS, Evidence};
use crate::{CheckOutcome, Context, Registration, converged};
use broker_types::{LeaderEpoch, NodeId, Offset, PartitionEpoch};

fn replica(node: i32) -> ReplicaEnd {
    let batch = |base: i64, last: i64| BatchEnd {
        base: Offset(base),
        last: Offset(last),
        leader_epoch: LeaderEpoch(0),
        crc: base as u32,
    };
    ReplicaEnd {
        node: NodeId(node),
        log_start: Offset(0),
        log_end: Offset(9),
        high_watermark: Offset(9),
        batches: vec![batch(0, 4), batch(5, 8)],
        file_digest: Some(7),
    }
}

fn well() -> EndState {
    let controller = |node: i32| ControllerEnd {
        node: NodeId(node),
        epoch: LeaderEpoch(2),
        leader: Some(NodeId(101)),
        log_end: Offset(40),
        high_watermark: Offset(40),
    };
    let registration = Registration {
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(4),
        partition_epoch: PartitionEpoch(9),
        isr: [1, 2, 3].map(NodeId).into(),
        replicas: [1, 2, 3].map(NodeId).into(),
    };
    let image = |node: i32| ImageEnd {
        node: NodeId(node),
        end: Offset(40),
        partitions: [(partition(0), registration.clone())].into(),
    };
    EndState {
        images: [1, 2, 3, 101, 102, 103].map(image).into(),
        partitions: vec![PartitionEnd {
            partition: partition(0),
            leader: Some(NodeId(1)),
            isr: [1, 2, 3].map(NodeId).into(),
            assigned: [1, 2, 3].map(NodeId).into(),
            replicas: [1, 2, 3].map(replica).into(),
        }],
        controllers: [101, 102, 103].map(controller).into(),
        brokers: [1, 2, 3].map(|node| BrokerEnd { node: NodeId(node), unfenced: true }).into(),
        canaries: vec![Canary { what: "produce to orders-0".to_owned(), error: None }],
    }
}

type Change = fn(&mut EndState);

const CHANGES: &[(&str, Change)] = &[
    ("leader-everywhere", |end| end.partitions[0].leader = None),
    ("leader-everywhere", |end| end.partitions[0].leader = Some(NodeId(9))),
    ("isr-full", |end| end.partitions[0].isr.truncate(2)),
    ("high-watermark-at-log-end", |end| end.partitions[0].replicas[2].high_watermark = Offset(8)),
    ("replicas-equal", |end| end.partitions[0].replicas[1].batches[1].crc = 99),
    ("replicas-equal", |end| end.partitions[0].replicas[1].batches.truncate(1)),
    ("replicas-equal", |end| end.partitions[0].replicas[1].file_digest = Some(8)),
    ("one-controller", |end| end.controllers[1].leader = Some(NodeId(103))),
    ("one-controller", |end| end.controllers[1].high_watermark = Offset(39)),
    ("one-controller", |end| end.controllers.iter_mut().for_each(|controller| controller.leader = None)),
    ("metadata-everywhere", |end| end.images[1].partitions.clear()),
    ("metadata-everywhere", |end| {
        let old = end.images[0].partitions.get_mut(&partition(0)).expect("it is known");
        old.partition_epoch = PartitionEpoch(8);
    }),
    ("brokers-unfenced", |end| end.brokers[1].unfenced = false),
    ("canaries", |end| end.canaries[0].error = Some("REQUEST_TIMED_OUT".to_owned())),
];

#[test]
fn a_cluster_that_got_well_passes_every_check() {
    let results = converged(&well(), &Context::default());
    assert_eq!(results.len(), CHECKS.iter().filter(|check| check.evidence == Evidence::End).count());
    for result in results {
        assert_eq!(result.outcome, CheckOutcome::Pass, "{}", result.id);
    }
}

#[test]
fn each_way_of_not_getting_well_is_named() {
    for (at, (check, change)) in CHANGES.iter().enumerate() {
        let mut end = well();
        change(&mut end);
        assert_eq!(fired(&converged(&end, &Context::default())), [*check], "change {at}");
    }
    for check in CHECKS.iter().filter(|check| check.evidence == Evidence::End) {
        assert!(CHANGES.iter().any(|(id, _)| *id == check.id), "{} has no change", check.id);
    }
}

#[test]
fn a_replica_that_is_broken_for_good_is_not_waited_for() {
    let mut end = well();
    end.partitions[0].replicas.remove(2);
    end.partitions[0].isr.truncate(2);
    assert_eq!(fired(&converged(&end, &Context::default())), Vec::<&str>::new());
    // Nobody who may lead is left.
    end.partitions[0].isr = vec![NodeId(3)];
    end.partitions[0].leader = None;
    end.partitions[0].replicas.clear();
    assert_eq!(fired(&converged(&end, &Context::default())), Vec::<&str>::new());
}

#[test]
fn replicas_may_have_dropped_different_beginnings() {
    let mut end = well();
    let second = &mut end.partitions[0].replicas[1];
    second.log_start = Offset(5);
    second.batches.remove(0);
    second.file_digest = Some(1234);
    assert_eq!(fired(&converged(&end, &Context::default())), Vec::<&str>::new());
}
