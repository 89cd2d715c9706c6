//! What happened in a run, in at most eight plain sentences.

use crate::cluster::{Event, Happening, View, node_name};
use broker_types::{NodeId, TopicIdPartition};
use reports::FaultLine;
use reports::terminal::seconds;
use std::collections::BTreeMap;

/// Sentences told, at most.
const MOST: usize = 8;

/// One thing to tell, and how much it matters: the least number is told first when there is too much.
struct Line {
    at_ms: u64,
    weight: u32,
    text: String,
}

/// Tells the run. `zero_ns` is where its time starts.
#[must_use]
pub fn tell(view: &View, faults: &[FaultLine], zero_ns: u64, healed_ms: u64, converged_ms: Option<u64>) -> Vec<String> {
    let mut lines: Vec<Line> = Vec::new();
    for fault in faults {
        let until =
            fault.to_ms.map(|to| format!(" for {}", seconds(to.saturating_sub(fault.from_ms)))).unwrap_or_default();
        lines.push(Line { at_ms: fault.from_ms, weight: 2, text: format!("{}: {}{until}.", fault.kind, fault.target) });
    }
    lines.extend(leaders(view, zero_ns));
    lines.extend(isr(view, zero_ns));
    lines.extend(truncations(view, zero_ns));
    lines.extend(controllers(view, zero_ns));
    if let Some(converged_ms) = converged_ms {
        let took = seconds(converged_ms.saturating_sub(healed_ms));
        let text = format!("Faults were over; the cluster was whole again {took} later.");
        lines.push(Line { at_ms: healed_ms, weight: 0, text });
    }
    lines.sort_by_key(|line| line.weight);
    let left_out = lines.len().saturating_sub(MOST);
    let keep = if left_out > 0 { MOST - 1 } else { MOST };
    let left_out = lines.len().saturating_sub(keep);
    lines.truncate(keep);
    lines.sort_by_key(|line| line.at_ms);
    let mut told: Vec<String> =
        lines.into_iter().map(|line| format!("{:>9}  {}", seconds(line.at_ms), line.text)).collect();
    if left_out > 0 {
        told.push(format!("{:>9}  {left_out} more events of the same kinds.", "…"));
    }
    told
}

fn ms(event: &Event, zero_ns: u64) -> Option<u64> {
    Some(event.at_ns.checked_sub(zero_ns)? / 1_000_000)
}

fn node(id: Option<NodeId>) -> String {
    id.map_or_else(|| "nobody".to_owned(), node_name)
}

/// Partitions joined: `orders-0, orders-2`; many as a count.
fn joined(view: &View, partitions: &[TopicIdPartition]) -> String {
    if partitions.len() > 4 {
        return format!("{} partitions", partitions.len());
    }
    let names: Vec<String> = partitions.iter().map(|partition| view.partition_name(*partition)).collect();
    names.join(", ")
}

/// Elections at the same moment are told together.
fn leaders(view: &View, zero_ns: u64) -> Vec<Line> {
    /// When, from whom, to whom, and whether unclean.
    type Election = (u64, Option<NodeId>, Option<NodeId>, bool);
    let mut groups: BTreeMap<Election, Vec<TopicIdPartition>> = BTreeMap::new();
    for event in &view.events {
        if let (Happening::Leader { partition, from, to, unclean, .. }, Some(at)) = (&event.what, ms(event, zero_ns)) {
            groups.entry((at, *from, *to, *unclean)).or_default().push(*partition);
        }
    }
    groups
        .into_iter()
        .map(|((at_ms, from, to, unclean), partitions)| {
            let what = joined(view, &partitions);
            let text = match (from, to) {
                (from, None) => format!("{what} lost {} and had no leader: nobody in the ISR was alive.", node(from)),
                (None, Some(_)) => format!("{what} got {} as leader again.", node(to)),
                (Some(_), Some(_)) if unclean => {
                    format!("{} was elected for {what} from outside the ISR, in place of {}.", node(to), node(from))
                }
                _ => {
                    format!("The controller elected {} for {what} from the ISR, in place of {}.", node(to), node(from))
                }
            };
            Line { at_ms, weight: if unclean { 0 } else { 1 }, text }
        })
        .collect()
}

fn isr(view: &View, zero_ns: u64) -> Vec<Line> {
    let mut groups: BTreeMap<(u64, bool, Vec<NodeId>), Vec<TopicIdPartition>> = BTreeMap::new();
    for event in &view.events {
        if let (Happening::Isr { partition, from, to }, Some(at)) = (&event.what, ms(event, zero_ns)) {
            let gone: Vec<NodeId> = from.iter().filter(|id| !to.contains(id)).copied().collect();
            let come: Vec<NodeId> = to.iter().filter(|id| !from.contains(id)).copied().collect();
            // Changes of one second are one sentence.
            let second = at / 1000 * 1000;
            if !gone.is_empty() {
                groups.entry((second, false, gone)).or_default().push(*partition);
            }
            if !come.is_empty() {
                groups.entry((second, true, come)).or_default().push(*partition);
            }
        }
    }
    groups
        .into_iter()
        .map(|((at_ms, grew, nodes), partitions)| {
            let who: Vec<String> = nodes.into_iter().map(node_name).collect();
            let (who, what) = (who.join(" and "), joined(view, &partitions));
            let text = if grew {
                format!("{who} had caught up and rejoined the ISR of {what}.")
            } else {
                format!("{who} left the ISR of {what}.")
            };
            Line { at_ms, weight: if grew { 4 } else { 3 }, text }
        })
        .collect()
}

fn truncations(view: &View, zero_ns: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for event in &view.events {
        let Some(at_ms) = ms(event, zero_ns) else { continue };
        let who = node_name(event.node);
        let text = match &event.what {
            Happening::Truncated { partition, from, to } => {
                let count = *from - *to;
                let (records, them) = if count == 1 { ("record", "it") } else { ("records", "them") };
                let name = view.partition_name(*partition);
                format!(
                    "{who} cut {count} {records} off its log of {name} (from offset {to}): its leader never had {them}."
                )
            }
            Happening::Recovered { partition, bytes } => {
                format!("{who} found a torn tail of {bytes} bytes in {} and cut it.", view.partition_name(*partition))
            }
            Happening::LogDirFailed => format!("{who}'s log directory failed; it stopped."),
            Happening::Fenced { broker } => format!("{} was fenced: its session was over.", node_name(*broker)),
            _ => continue,
        };
        let weight = if matches!(event.what, Happening::Fenced { .. }) { 5 } else { 1 };
        lines.push(Line { at_ms, weight, text });
    }
    lines
}

fn controllers(view: &View, zero_ns: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for event in &view.events {
        let Some(at_ms) = ms(event, zero_ns) else { continue };
        let who = node_name(event.node);
        match &event.what {
            Happening::Controller { epoch } => {
                let text = format!("{who} won the metadata quorum's election of epoch {epoch}.");
                lines.push(Line { at_ms, weight: 2, text });
            }
            Happening::ControllerResigned { epoch } => {
                let text = format!("{who} resigned as leader of epoch {epoch}: no majority fetched from it.");
                lines.push(Line { at_ms, weight: 3, text });
            }
            _ => {}
        }
    }
    lines
}
