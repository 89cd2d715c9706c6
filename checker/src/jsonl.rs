//! Histories as text: one operation a line, each a JSON object. A first line `{"context": {...}}` may say what is legal.

use crate::context::Context;
use crate::history::{History, Op, OpId, OpKind, SessionId, SimTime};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextLine {
    context: Context,
}

/// Reads a history written by [`write_history`] or [`write_recording`], or recorded elsewhere in the same form. Empty
/// lines are skipped.
///
/// # Errors
/// As [`read_recording`].
pub fn read_history(text: &str) -> Result<History, String> {
    read_recording(text).map(|(_, history)| history)
}

/// Reads a history and, if the first line tells it, the context it is to be judged in.
///
/// # Errors
/// The first line that is not an operation, by its number and with the reason; so is one that returned before it was
/// invoked, and a name or a value that was used before.
pub fn read_recording(text: &str) -> Result<(Option<Context>, History), String> {
    let mut context = None;
    let mut history = History::default();
    let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
    // By session: what was invoked last of all that were told so far.
    let mut latest: BTreeMap<SessionId, (SimTime, OpId)> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: String| format!("line {number}: {what}");
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let is_context = line.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with("\"context\""));
        if is_context && history.ops.is_empty() && context.is_none() {
            let read: ContextLine = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            context = Some(read.context);
            continue;
        }
        let op: Op = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if op.returned.is_some_and(|returned| returned < op.invoked) {
            return Err(wrong(format!("operation {} returned before it was invoked", op.id.0)));
        }
        if !names.insert(op.id) {
            return Err(wrong(format!("operation {} was told before", op.id.0)));
        }
        if let OpKind::Send(send) = &op.kind
            && !values.insert(send.value)
        {
            return Err(wrong(format!("value {} was sent before: values must be unique", send.value.0)));
        }
        check_offsets(&op).map_err(wrong)?;
        let latest = latest.entry(op.session).or_insert((op.invoked, op.id));
        if op.returned.is_some_and(|returned| returned < latest.0) {
            let (session, before) = (op.session.0, latest.1.0);
            let what = "stands after it, and was over before that began";
            return Err(wrong(format!(
                "operation {} of session {session} is out of order with {before}: it {what}",
                op.id.0
            )));
        }
        *latest = (*latest).max((op.invoked, op.id));
        history.ops.push(op);
    }
    Ok((context, history))
}

fn check_offsets(op: &Op) -> Result<(), String> {
    let negative = |what: &str, offset: i64| match offset {
        // Far below the end of the numbers, so that no check can run over it.
        0..=0x3fff_ffff_ffff_ffff => Ok(()),
        _ => Err(format!("operation {}: {what} {offset} is no offset", op.id.0)),
    };
    match &op.kind {
        OpKind::Send(send) => {
            let source = send.source.as_ref().map(|source| source.1);
            send.offset.into_iter().chain(source).try_for_each(|offset| negative("offset", offset.0))
        }
        OpKind::TailRead(read) => negative("end", read.end.0),
        OpKind::InitProducer(_)
        | OpKind::Begin
        | OpKind::EndTransaction(_)
        | OpKind::Assign(_)
        | OpKind::Topic(_)
        | OpKind::Voters(_)
        | OpKind::ProducerId(_)
        | OpKind::Metadata(_)
        | OpKind::Config(_) => Ok(()),
        OpKind::CommitOffsets(commit) => commit.offsets.iter().try_for_each(|(_, at)| negative("offset", at.0)),
        OpKind::FetchOffsets(fetch) => {
            fetch.offsets.iter().filter_map(|(_, at)| *at).try_for_each(|at| negative("offset", at.0))
        }
        OpKind::Poll(poll) => {
            negative("position", poll.position.0)?;
            negative("next_position", poll.next_position.0)?;
            let bounds = [poll.high_watermark, poll.last_stable, poll.log_start];
            let mut offsets = bounds.into_iter().flatten().chain(poll.records.iter().map(|read| read.offset));
            offsets.try_for_each(|offset| negative("offset", offset.0))
        }
    }
}

/// Writes a history, one operation a line.
#[must_use]
pub fn write_history(history: &History) -> String {
    history.ops.iter().map(line).collect()
}

/// Writes a history and the context it is to be judged in.
#[must_use]
pub fn write_recording(context: &Context, history: &History) -> String {
    line(&ContextLine { context: context.clone() }) + &write_history(history)
}

fn line(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("plain data becomes JSON");
    text.push('\n');
    text
}

/// Maps whose keys are no strings, as lists of pairs.
pub(crate) mod pairs {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter())
    }

    pub(crate) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<K, V>, D::Error> {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }

    /// The same where there may be no map at all.
    pub(crate) mod optional {
        use super::{BTreeMap, Deserialize, Deserializer, Serialize, Serializer};

        pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
            map: &Option<BTreeMap<K, V>>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            map.as_ref().map(|map| map.iter().collect::<Vec<_>>()).serialize(to)
        }

        pub(crate) fn deserialize<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<BTreeMap<K, V>>, D::Error> {
            Ok(Option::<Vec<(K, V)>>::deserialize(from)?.map(|pairs| pairs.into_iter().collect()))
        }
    }
}
