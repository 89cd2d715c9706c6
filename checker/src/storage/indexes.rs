//! W-S4: where the indexes of a segment point.
//!
//! A search takes the last entry that is not beyond what it looks for and reads on from there. It finds what reading from the
//! beginning would find if every entry is right by itself: an offset's entry names the batch that ends with it, a
//! timestamp's the first batch that reached it. So each entry is held to the batches, and no search is tried.

use super::files::{OffsetEntry, SegmentEnd, TimeEntry};
use super::tell;
use crate::convergence::BatchEnd;
use broker_types::Offset;

/// How many entries were looked at, and the first that is wrong.
pub(super) fn check(segments: &[SegmentEnd], batches: &[BatchEnd]) -> (u64, Option<String>) {
    let mut rest = batches;
    let (mut looked_at, mut wrong) = (0, None);
    for (number, segment) in segments.iter().enumerate() {
        let (own, others) = rest.split_at(segment.batches.min(rest.len()));
        rest = others;
        let is_sealed = number + 1 < segments.len();
        looked_at += segment.offsets.len() + segment.times.len() + usize::from(is_sealed);
        wrong = wrong.or_else(|| {
            let what = torn(segment)
                .or_else(|| wrong_offset(&segment.offsets, own))
                .or_else(|| wrong_time(&segment.times, own))
                .or_else(|| is_sealed.then(|| unsealed(&segment.times, own)).flatten())?;
            Some(format!("in the segment of base offset {}, {what}", segment.base))
        });
    }
    (looked_at as u64, wrong)
}

fn torn(segment: &SegmentEnd) -> Option<String> {
    (segment.torn_bytes > 0).then(|| format!("the indexes end with {} bytes of half an entry", segment.torn_bytes))
}

fn tell_offset(entry: &OffsetEntry) -> String {
    format!("the offset index's entry {} at byte {}", entry.offset, entry.position)
}

fn tell_time(entry: &TimeEntry) -> String {
    format!("the time index's entry {} ms at offset {}", entry.timestamp, entry.offset)
}

fn wrong_offset(entries: &[OffsetEntry], own: &[BatchEnd]) -> Option<String> {
    let falls = |pair: &&[OffsetEntry]| pair[1].offset <= pair[0].offset || pair[1].position <= pair[0].position;
    if let Some(pair) = entries.windows(2).find(falls) {
        return Some(format!("{} follows {}", tell_offset(&pair[1]), tell_offset(&pair[0])));
    }
    let mut position = 0;
    let mut batches = own.iter().peekable();
    for entry in entries {
        while let Some(passed) = batches.next_if(|_| position < entry.position) {
            position += u64::from(passed.size);
        }
        let what = match batches.peek() {
            Some(batch) if position == entry.position && batch.last == entry.offset => continue,
            Some(batch) if position == entry.position => format!("where {} begins", tell(batch)),
            None if position <= entry.position => format!("where the log has {position} bytes"),
            _ => "where no batch begins".to_owned(),
        };
        return Some(format!("{} points {what}", tell_offset(entry)));
    }
    None
}

/// The first batch that reached the largest timestamp so far.
fn reached(max: Option<(i64, Offset)>, batch: &BatchEnd) -> Option<(i64, Offset)> {
    let exceeds = batch.max_timestamp >= 0 && max.is_none_or(|(largest, _)| batch.max_timestamp > largest);
    if exceeds { Some((batch.max_timestamp, batch.last)) } else { max }
}

fn wrong_time(entries: &[TimeEntry], own: &[BatchEnd]) -> Option<String> {
    let falls = |pair: &&[TimeEntry]| pair[1].timestamp <= pair[0].timestamp || pair[1].offset <= pair[0].offset;
    if let Some(pair) = entries.windows(2).find(falls) {
        return Some(format!("{} follows {}", tell_time(&pair[1]), tell_time(&pair[0])));
    }
    let mut max = None;
    let mut batches = own.iter().peekable();
    for entry in entries {
        let mut ends_there = None;
        while let Some(batch) = batches.next_if(|batch| batch.last <= entry.offset) {
            max = reached(max, batch);
            ends_there = (batch.last == entry.offset).then_some(batch);
        }
        let what = match (ends_there, max) {
            (Some(_), Some(max)) if max == (entry.timestamp, entry.offset) => continue,
            (Some(batch), Some((largest, at))) => format!(
                "speaks of {} with largest timestamp {} ms; up to there the largest is {largest} ms, reached at offset {at}",
                tell(batch),
                batch.max_timestamp
            ),
            (Some(batch), None) => format!("speaks of {}, which has no timestamp", tell(batch)),
            (None, _) if batches.peek().is_none() => "points past the segment's last batch".to_owned(),
            (None, _) => "points where no batch ends".to_owned(),
        };
        return Some(format!("{} {what}", tell_time(entry)));
    }
    None
}

/// A segment that is no longer written to has its largest timestamp in its index: retention by time and searches for the newest
/// record read no more than that.
fn unsealed(entries: &[TimeEntry], own: &[BatchEnd]) -> Option<String> {
    let (largest, at) = own.iter().fold(None, reached)?;
    let last = entries.last();
    (last.map(|entry| entry.timestamp) != Some(largest)).then(|| {
        let ends = last.map_or("is empty".to_owned(), |entry| format!("ends with {} ms", entry.timestamp));
        format!("the time index {ends}; the largest timestamp is {largest} ms, reached at offset {at}, and a later segment is there")
    })
}
