//! The end of a run: a cluster that got well, and every way in which it may not have.

mod cleanup;
mod files;

use super::fired;
use super::reference::partition;
use crate::convergence::*;
use crate::registry::{CHECKS, Evidence};
use crate::{CheckOutcome, Registration, converged};
use broker_types::{GroupState, LeaderEpoch, NodeId, Offset, PartitionEpoch};
use std::fmt::Write;

fn replica(node: i32) -> ReplicaEnd {
    let batch = |base: i64, last: i64| BatchEnd {
        base: Offset(base),
        last: Offset(last),
        leader_epoch: LeaderEpoch(0),
        crc: base as u32,
        ..BatchEnd::default()
    };
    ReplicaEnd {
        node: NodeId(node),
        log_start: Offset(0),
        log_end: Offset(9),
        high_watermark: Offset(9),
        batches: vec![batch(0, 4), batch(5, 8)],
        file_digest: Some(7),
        damage: None,
        epoch_starts: Some(vec![(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(9))]),
        segments: None,
        producer_snapshots: None,
        last_stable: Some(Offset(9)),
        cleaned: None,
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
        adding: Box::default(),
        removing: Box::default(),
        elr: Box::default(),
        last_known_elr: Box::default(),
    };
    let image = |node: i32| ImageEnd {
        node: NodeId(node),
        end: Offset(40),
        partitions: [(partition(0), registration.clone())].into(),
    };
    EndState {
        images: [1, 2, 3, 101, 102, 103].map(image).into(),
        partitions: vec![
            PartitionEnd {
                partition: partition(0),
                leader: Some(NodeId(1)),
                isr: [1, 2, 3].map(NodeId).into(),
                assigned: [1, 2, 3].map(NodeId).into(),
                replicas: [1, 2, 3].map(replica).into(),
            },
            files::well(),
            cleanup::well(),
        ],
        metadata_logs: Vec::new(),
        controllers: [101, 102, 103].map(controller).into(),
        brokers: [1, 2, 3].map(|node| BrokerEnd { node: NodeId(node), unfenced: true }).into(),
        groups: vec![GroupEnd { group: "billing".into(), state: GroupState::Stable, unowned: Vec::new() }],
        convergence: Some(Convergence { within_ns: 30_000_000_000, took_ns: Some(1_000_000_000) }),
        canaries: vec![Canary { what: "produce to orders-0".to_owned(), error: None }],
        idle: Some(cleanup::IDLE),
    }
}

type Change = fn(&mut EndState);

const CHANGES: &[(&str, &str, Change)] = &[
    ("reassignments-end", "a reassignment is still under way", |end| {
        for image in &mut end.images {
            for known in image.partitions.values_mut() {
                known.adding = [NodeId(3)].into();
            }
        }
    }),
    ("leader-everywhere", "a partition has no leader", |end| end.partitions[0].leader = None),
    ("leader-everywhere", "a broker that is no replica leads", |end| end.partitions[0].leader = Some(NodeId(9))),
    ("isr-full", "a living replica is not in the ISR", |end| end.partitions[0].isr.truncate(2)),
    ("high-watermark-at-log-end", "a follower's high watermark stays behind", |end| {
        end.partitions[0].replicas[2].high_watermark = Offset(8);
    }),
    ("replicas-equal", "a batch of a replica has other bytes", |end| end.partitions[0].replicas[1].batches[1].crc = 99),
    ("replicas-equal", "a replica lacks a batch", |end| end.partitions[0].replicas[1].batches.truncate(1)),
    ("replicas-equal", "the same batches lie in other bytes", |end| {
        end.partitions[0].replicas[1].file_digest = Some(8);
    }),
    ("one-controller", "a controller follows another one", |end| end.controllers[1].leader = Some(NodeId(103))),
    ("one-controller", "a controller's high watermark stays behind", |end| {
        end.controllers[1].high_watermark = Offset(39);
    }),
    ("one-controller", "no controller leads", |end| {
        end.controllers.iter_mut().for_each(|controller| controller.leader = None);
    }),
    ("metadata-everywhere", "a node knows nothing of a partition", |end| end.images[1].partitions.clear()),
    ("metadata-everywhere", "a node knows an old registration", |end| {
        let old = end.images[0].partitions.get_mut(&partition(0)).expect("it is known");
        old.partition_epoch = PartitionEpoch(8);
    }),
    ("brokers-unfenced", "a broker is still fenced", |end| end.brokers[1].unfenced = false),
    ("converges", "the cluster is not whole by then", |end| {
        end.convergence = Some(Convergence { within_ns: 1, took_ns: None });
    }),
    ("converges", "the cluster is whole too late", |end| {
        end.convergence = Some(Convergence { within_ns: 1, took_ns: Some(2) });
    }),
    ("log-readable", "half a batch ends a log", |end| {
        end.partitions[0].replicas[1].damage = Some("half a batch at byte 70".to_owned());
    }),
    ("log-readable", "a batch begins within the one before", |end| {
        end.partitions[0].replicas.iter_mut().for_each(|replica| replica.batches[0].last = Offset(5));
    }),
    ("log-readable", "leader epochs fall", |end| {
        let fall = |replica: &mut ReplicaEnd| {
            replica.batches[0].leader_epoch = LeaderEpoch(4);
            replica.epoch_starts = None;
        };
        end.partitions[0].replicas.iter_mut().for_each(fall);
    }),
    ("log-readable", "a batch lies past the log's end", |end| {
        end.partitions[0].replicas.iter_mut().for_each(|replica| replica.batches[1].last = Offset(9));
    }),
    ("epoch-cache", "the checkpoint has no epoch", |end| end.partitions[0].replicas[2].epoch_starts = Some(Vec::new())),
    ("epoch-cache", "the checkpoint's epochs fall", |end| {
        let starts = [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(9)), (LeaderEpoch(3), Offset(9))];
        end.partitions[0].replicas[2].epoch_starts = Some(starts.to_vec());
    }),
    ("epoch-cache", "two of the checkpoint's epochs begin at one offset", |end| {
        let starts = [(LeaderEpoch(0), Offset(0)), (LeaderEpoch(4), Offset(9)), (LeaderEpoch(5), Offset(9))];
        end.partitions[0].replicas[2].epoch_starts = Some(starts.to_vec());
    }),
    ("epoch-cache", "an epoch begins elsewhere than its batches", |end| {
        // The second batch is of an epoch that is said to begin elsewhere.
        end.partitions[0].replicas.iter_mut().for_each(|replica| replica.batches[1].leader_epoch = LeaderEpoch(4));
    }),
    ("groups-stable", "a group is still reconciling", |end| end.groups[0].state = GroupState::Reconciling),
    ("groups-stable", "nobody reads a partition of a group", |end| end.groups[0].unowned.push(partition(0))),
    ("transactions-decided", "a transaction is still open", |end| {
        end.partitions[0].replicas[0].last_stable = Some(Offset(3));
    }),
    ("canaries", "a new request is refused", |end| end.canaries[0].error = Some("REQUEST_TIMED_OUT".to_owned())),
];

#[test]
fn a_cluster_that_got_well_passes_every_check() {
    let results = converged(&well(), &cleanup::ctx());
    assert_eq!(results.len(), CHECKS.iter().filter(|check| check.evidence == Evidence::End).count());
    for result in results {
        assert_eq!(result.outcome, CheckOutcome::Pass, "{}", result.id);
    }
}

fn changes() -> impl Iterator<Item = &'static (&'static str, &'static str, Change)> {
    CHANGES.iter().chain(files::CHANGES).chain(cleanup::CHANGES)
}

/// Each change: the check that refuses it, and what it does.
pub(super) fn refused() -> Vec<(&'static str, &'static str)> {
    changes().map(|(check, what, _)| (*check, *what)).collect()
}

#[test]
fn each_way_of_not_getting_well_is_named() {
    let mut matrix = String::new();
    for (check, what, change) in changes() {
        let mut end = well();
        change(&mut end);
        assert_ne!(end, well(), "{what}: changed nothing");
        let results = converged(&end, &cleanup::ctx());
        assert!(fired(&results).contains(check), "{check} did not see that {what}; fired {:?}", fired(&results));
        let also: Vec<&str> = fired(&results).into_iter().filter(|id| id != check).collect();
        let result = results.iter().find(|result| result.id == *check).expect("it fired");
        writeln!(matrix, "{check}: {what}\n    also: {}", also.join(" ")).expect("a string");
        for line in &result.violations[0].evidence {
            writeln!(matrix, "    | {line}").expect("a string");
        }
    }
    for check in CHECKS.iter().filter(|check| check.evidence == Evidence::End) {
        assert!(changes().any(|(id, ..)| *id == check.id), "{} has no change", check.id);
    }
    insta::assert_snapshot!("kill_matrix_end", matrix);
}

#[test]
fn a_replica_that_is_broken_for_good_is_not_waited_for() {
    let mut end = well();
    end.partitions[0].replicas.remove(2);
    end.partitions[0].isr.truncate(2);
    assert_eq!(fired(&converged(&end, &cleanup::ctx())), Vec::<&str>::new());
    // Nobody who may lead is left.
    end.partitions[0].isr = vec![NodeId(3)];
    end.partitions[0].leader = None;
    end.partitions[0].replicas.clear();
    assert_eq!(fired(&converged(&end, &cleanup::ctx())), Vec::<&str>::new());
}

#[test]
fn replicas_may_have_dropped_different_beginnings() {
    let mut end = well();
    let second = &mut end.partitions[0].replicas[1];
    second.log_start = Offset(5);
    second.batches.remove(0);
    second.file_digest = Some(1234);
    assert_eq!(fired(&converged(&end, &cleanup::ctx())), Vec::<&str>::new());
}
