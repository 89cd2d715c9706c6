//! What is taken out of a log on purpose: its oldest segments, or all but the last record of each key.

use crate::context::{Context, seconds};
use crate::findings::Findings;
use crate::registry::{CLEANED_RANGE, DELETED_SEGMENTS};
use crate::replication::replica_set::{Place, ReplicaSet};
use broker_types::Offset;

/// W-S9: whole segments go, the oldest first, what is committed only, and never the active one.
pub(crate) fn deleted(
    ctx: &Context,
    out: &mut Findings,
    place: Place,
    set: &mut ReplicaSet,
    [from, until, active]: [Offset; 3],
) {
    out.opportunity(DELETED_SEGMENTS, 1);
    let start = set.log_of(place.node).map_or(from.0, |log| log.start());
    let wrong = match beyond(set, place, until, active) {
        _ if until <= from => Some("that is nothing".to_owned()),
        _ if from.0 > start => Some(format!("its log began at {start}: something older was left")),
        beyond => beyond,
    };
    if let Some(wrong) = wrong {
        out.find(DELETED_SEGMENTS, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(set.id()), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} deleted its segments from offset {from} to {until} at {at}"), wrong]
        });
    }
    set.starts_at(place, until);
}

/// W-S7, the half about where the cleaner may work. What it leaves there, readers show.
pub(crate) fn cleaned(
    ctx: &Context,
    out: &mut Findings,
    place: Place,
    set: &ReplicaSet,
    (until, active): (Offset, Offset),
) {
    out.opportunity(CLEANED_RANGE, 1);
    if let Some(wrong) = beyond(set, place, until, active) {
        out.find(CLEANED_RANGE, ctx, None, Some(place.at), || {
            let (partition, node, at) = (ctx.partition_name(set.id()), ctx.node_name(place.node), seconds(place.at));
            vec![format!("{partition}: {node} cleaned its log up to offset {until} at {at}"), wrong]
        });
    }
}

/// Past what is committed, as the node knows it, or into the active segment.
fn beyond(set: &ReplicaSet, place: Place, until: Offset, active: Offset) -> Option<String> {
    let high_watermark = set.high_watermark_of(place.node);
    if until > active {
        return Some(format!("its active segment begins at {active}"));
    }
    (until > high_watermark).then(|| format!("its high watermark was {high_watermark}"))
}
