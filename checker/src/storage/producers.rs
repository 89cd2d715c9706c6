//! W-S5: what the snapshots of a log's producers say, against the batches below them.

use super::files::{LastBatch, ProducerRow, SnapshotEnd};
use super::tell;
use crate::convergence::{BatchEnd, ReplicaEnd};
use broker_types::{Offset, ProducerId, increment_sequence};
use std::collections::BTreeMap;

/// What may differ between the snapshots and the batches without anybody being wrong.
#[derive(Clone, Copy)]
struct Leeway {
    /// First offset whose batch is still there: what a producer did before is known to the snapshots alone.
    kept_from: Offset,
    /// A producer may have been forgotten since it last wrote.
    expires: bool,
}

/// How many producers were compared, and the first difference.
pub(super) fn check(replica: &ReplicaEnd, snapshots: &[SnapshotEnd], expires: bool) -> (u64, Option<String>) {
    let segments = replica.segments.iter().flatten();
    let log_end = segments.map(|segment| segment.base).fold(replica.log_end, Offset::max);
    let kept_from = replica.batches.first().map_or(log_end, |first| first.base);
    let leeway = Leeway { kept_from, expires };
    let mut batches = replica.batches.iter().peekable();
    let mut replayed = BTreeMap::new();
    let (mut compared, mut wrong) = (0, None);
    for snapshot in snapshots {
        while let Some(batch) = batches.next_if(|batch| batch.last < snapshot.end) {
            replay(&mut replayed, batch);
        }
        let across = batches.peek().filter(|batch| batch.base < snapshot.end);
        let what = match &snapshot.producers {
            Err(what) => Some(what.clone()),
            Ok(_) if snapshot.end > log_end => Some(format!("is past the log's end {log_end}")),
            Ok(_) if across.is_some() => across.map(|batch| format!("lies within {}", tell(batch))),
            // All that it speaks of is deleted.
            Ok(_) if snapshot.end <= kept_from && kept_from > Offset::ZERO => None,
            Ok(rows) => {
                compared += rows.len().max(replayed.len()) as u64;
                difference(rows, &replayed, leeway)
            }
        };
        wrong = wrong.or_else(|| Some(format!("the snapshot of its producers at offset {} {}", snapshot.end, what?)));
    }
    (compared, wrong)
}

/// One batch more is in the log.
fn replay(producers: &mut BTreeMap<ProducerId, ProducerRow>, batch: &BatchEnd) {
    let Some(stamp) = batch.producer else { return };
    let row = producers.entry(stamp.id).or_insert(ProducerRow {
        id: stamp.id,
        epoch: stamp.epoch,
        last: None,
        timestamp: batch.max_timestamp,
        transaction_start: None,
    });
    if row.epoch != stamp.epoch {
        (row.epoch, row.last) = (stamp.epoch, None);
    }
    row.timestamp = batch.max_timestamp;
    if batch.is_control {
        row.transaction_start = None;
        return;
    }
    if batch.is_transactional {
        row.transaction_start.get_or_insert(batch.base);
    }
    if let Some(first) = stamp.base_sequence {
        let offset_delta = i32::try_from(batch.last - batch.base).unwrap_or(i32::MAX);
        row.last =
            Some(LastBatch { sequence: increment_sequence(first, offset_delta), offset: batch.last, offset_delta });
    }
}

fn difference(rows: &[ProducerRow], replayed: &BTreeMap<ProducerId, ProducerRow>, leeway: Leeway) -> Option<String> {
    let written: BTreeMap<ProducerId, &ProducerRow> = rows.iter().map(|row| (row.id, row)).collect();
    if written.len() < rows.len() {
        return Some(format!("speaks of {} producers in {} rows", written.len(), rows.len()));
    }
    let missing = replayed.values().find(|row| !leeway.expires && !written.contains_key(&row.id));
    if let Some(row) = missing {
        return Some(format!("lacks producer {}; the batches below say: {}", row.id, tell_row(row)));
    }
    rows.iter().find_map(|row| match replayed.get(&row.id) {
        Some(expected) if agree(row, expected, leeway) => None,
        Some(expected) => Some(format!(
            "says of producer {}: {}; the batches below say: {}",
            row.id,
            tell_row(row),
            tell_row(expected)
        )),
        None if leeway.is_deleted(row.last) => None,
        None => Some(format!("says of producer {}: {}; no batch below is of it", row.id, tell_row(row))),
    })
}

impl Leeway {
    /// Whether the batch that a snapshot speaks of is not there any more, so that nobody can say.
    fn is_deleted(self, last: Option<LastBatch>) -> bool {
        match last {
            Some(last) => last.offset < self.kept_from,
            None => self.kept_from > Offset::ZERO,
        }
    }
}

fn agree(row: &ProducerRow, expected: &ProducerRow, leeway: Leeway) -> bool {
    let last = row.last == expected.last
        || expected.last.is_none() && leeway.is_deleted(row.last)
        || row.last.is_none() && leeway.expires;
    // A transaction that began in what is deleted.
    let transaction = row.transaction_start == expected.transaction_start
        || row.transaction_start.is_some_and(|start| start < leeway.kept_from);
    row.epoch == expected.epoch && last && transaction && row.timestamp == expected.timestamp
}

fn tell_row(row: &ProducerRow) -> String {
    let last = row.last.map_or("no batch in it".to_owned(), |last| {
        format!(
            "last sequence number {} at offset {} in a batch of {} offsets",
            last.sequence,
            last.offset,
            i64::from(last.offset_delta) + 1
        )
    });
    let transaction = row
        .transaction_start
        .map_or("no open transaction".to_owned(), |start| format!("a transaction open from offset {start}"));
    format!("epoch {}, {last}, {} ms, {transaction}", row.epoch.0, row.timestamp)
}
