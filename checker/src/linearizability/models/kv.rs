//! One key of a store of strings: get, put, append. What is absent is empty.
//!
//! Only gets tell states apart, and they tell apart only what somebody got. So a state is a beginning of some string that
//! was got, or else *lost*: whatever is appended to it, no get will ever return it, until a put. All lost states are one.
//! A beginning is named by the first string that has it, in order, and its length.

use crate::history::Outcome;
use crate::linearizability::objects::{ByKey, Object};
use crate::linearizability::search::{Model, State};
use crate::readers::edn::{Kind, Value};
use crate::readers::{Operation, Operations};
use std::collections::BTreeMap;

/// What an operation does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Found the string of that place in `got`.
    Get(u32),
    Put(String),
    Append(String),
}

/// The operations on one key.
pub(crate) struct Key {
    accesses: Vec<Access>,
    /// What was got: ascending, each once.
    got: Vec<String>,
    /// The same for what is written.
    names: Vec<u64>,
}

const LOST: State = u64::MAX;

/// What an operation wrote or, if it is a get, found; `None` when it says nothing.
///
/// # Errors
/// It is none of a store.
pub(crate) fn access(operation: &Operation<'_>) -> Result<Option<(&'static str, String)>, String> {
    let text = |value: &Value<'_>| match &value.kind {
        Kind::Nil => String::new(),
        Kind::Text(text) => text.clone().into_owned(),
        _ => value.to_string(),
    };
    let name = match operation.name {
        "get" if operation.outcome == Outcome::Ok => return Ok(Some(("get", text(operation.answered())))),
        "get" => return Ok(None),
        "put" => "put",
        "append" => "append",
        other => return Err(format!("line {}: a store has :get, :put and :append, not :{other}", operation.line())),
    };
    let (asked, answered) = (operation.asked(), operation.answered());
    if operation.outcome == Outcome::Ok && !answered.is_nil() && answered != asked {
        let line = operation.completion.as_ref().map_or(0, |map| map.line);
        let invoked = operation.line();
        return Err(format!("line {line}: :{name} returns {answered}, and was invoked with {asked} in line {invoked}"));
    }
    Ok((operation.outcome != Outcome::Fail).then(|| (name, text(asked))))
}

impl Key {
    /// The operations of one key, as [`access`] gave them.
    pub(crate) fn new(accesses: Vec<(&'static str, String)>) -> Self {
        let mut got: Vec<String> =
            accesses.iter().filter(|(name, _)| *name == "get").map(|(_, text)| text.clone()).collect();
        got.sort_unstable();
        got.dedup();
        let mut known = BTreeMap::new();
        let mut names = Vec::with_capacity(accesses.len());
        let accesses = accesses.into_iter().map(|(name, text)| {
            let next = known.len() as u64;
            names.push(*known.entry((name, text.clone())).or_insert(next));
            match name {
                "get" => Access::Get(got.partition_point(|other| *other < text) as u32),
                "put" => Access::Put(text),
                _ => Access::Append(text),
            }
        });
        Key { accesses: accesses.collect(), got, names }
    }

    /// The beginning that `got[first]` has up to `length`, and then `more`.
    fn beginning(&self, first: usize, length: usize, more: &str) -> State {
        let Some(begins) = self.got.get(first) else { return LOST };
        let prefix = &begins.as_bytes()[..length];
        let more = more.as_bytes();
        let has = |text: &String| text.as_bytes()[length..].starts_with(more);
        // Those that begin with the prefix come first from here on; those that do not come after anything it begins.
        let is_less = |text: &String| {
            let text = text.as_bytes();
            text.len() >= length && text[..length] == *prefix && text[length..] < *more
        };
        let at = if has(begins) { first } else { first + self.got[first..].partition_point(is_less) };
        let is_there = self.got.get(at).is_some_and(|text| text.as_bytes().starts_with(prefix) && has(text));
        if is_there { (at as u64) << 32 | (length + more.len()) as u64 } else { LOST }
    }
}

impl Model for Key {
    fn initial(&self) -> State {
        self.beginning(0, 0, "")
    }

    fn step(&self, state: State, op: usize) -> Option<State> {
        match &self.accesses[op] {
            Access::Get(found) => {
                let whole = u64::from(*found) << 32 | self.got[*found as usize].len() as u64;
                (state == whole).then_some(state)
            }
            Access::Put(text) => Some(self.beginning(0, 0, text)),
            Access::Append(_) if state == LOST => Some(LOST),
            Access::Append(text) => Some(self.beginning((state >> 32) as usize, state as u32 as usize, text)),
        }
    }

    fn only_reads(&self, op: usize) -> bool {
        matches!(self.accesses[op], Access::Get(_))
    }

    fn is_telling(&self, op: usize) -> bool {
        self.only_reads(op)
    }

    fn name(&self, op: usize) -> u64 {
        self.names[op]
    }

    fn is_promising(&self, state: State) -> bool {
        state != LOST
    }

    fn observes(&self, op: usize, writer: usize) -> bool {
        match (&self.accesses[op], &self.accesses[writer]) {
            (Access::Get(found), Access::Put(text) | Access::Append(text)) => self.got[*found as usize].contains(text),
            _ => false,
        }
    }

    fn overwrites(&self, op: usize) -> bool {
        matches!(self.accesses[op], Access::Put(_))
    }

    fn tell(&self, op: usize) -> String {
        match &self.accesses[op] {
            Access::Get(found) => format!("get → {:?}", self.got[*found as usize]),
            Access::Put(text) => format!("put {text:?}"),
            Access::Append(text) => format!("append {text:?}"),
        }
    }
}

/// The keys of a history.
///
/// # Errors
/// The first operation that is none of a store.
pub(crate) fn keys(operations: &Operations<'_>) -> Result<Vec<Object<Key>>, String> {
    let mut told = ByKey::default();
    for operation in operations.iter() {
        if let Some(access) = access(&operation)? {
            told.add(&operation, access);
        }
    }
    Ok(told.objects(Key::new))
}
