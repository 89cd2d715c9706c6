//! Many objects, each judged apart: an execution of several is linearizable when each of them is.

use super::picture::{Bar, draw};
use super::search::{Answer, Budget, Model, Span, search};
use super::shrink::{search_part, shrink};
use crate::readers::Operation;
use crate::readers::edn::Value;
use crate::verdict::{CheckOutcome, CheckResult};
use std::collections::BTreeMap;

/// One object and what was done to it.
pub(crate) struct Object<M> {
    /// `key "0"`; empty when there is but one.
    pub(crate) name: String,
    pub(crate) model: M,
    pub(crate) spans: Vec<Span>,
    /// Who did each operation, and which one it is.
    pub(crate) who: Vec<(i64, u32)>,
    pub(crate) by: By,
}

/// What tells operations apart, in words.
#[derive(Clone, Copy)]
pub(crate) struct By {
    who: &'static str,
    which: &'static str,
}

impl By {
    /// As others write histories: the process, and the line of its invocation.
    pub(crate) const LINE: By = By { who: "process", which: "line" };
    /// As we do: the session, and the operation's id.
    pub(crate) const SESSION: By = By { who: "session", which: "operation" };
}

impl<M> Object<M> {
    /// Nothing was done to it yet.
    pub(crate) fn new(name: String, by: By, model: M) -> Self {
        Object { name, model, spans: Vec::new(), who: Vec::new(), by }
    }
}

/// What operations did, sorted by their key.
pub(crate) struct ByKey<'a, T>(BTreeMap<Option<Value<'a>>, Told<T>>);

/// What was done to one key, when, and by whom.
type Told<T> = (Vec<T>, Vec<Span>, Vec<(i64, u32)>);

impl<T> Default for ByKey<'_, T> {
    fn default() -> Self {
        ByKey(BTreeMap::new())
    }
}

impl<'a, T> ByKey<'a, T> {
    /// One more operation, invoked after those before.
    pub(crate) fn add(&mut self, operation: &Operation<'a>, what: T) {
        let key = operation.call.get("key").cloned();
        let (accesses, spans, who) = self.0.entry(key).or_default();
        accesses.push(what);
        spans.push(Span { invoked: u64::from(operation.invoked), returned: operation.effect_ends() });
        who.push((operation.process, operation.line()));
    }

    /// An object of each key.
    pub(crate) fn objects<M>(self, model: impl Fn(Vec<T>) -> M) -> Vec<Object<M>> {
        let objects = self.0.into_iter().map(|(key, (accesses, spans, who))| Object {
            name: key.map_or_else(String::new, |key| format!("key {key}")),
            model: model(accesses),
            spans,
            who,
            by: By::LINE,
        });
        objects.collect()
    }
}

/// Steps for making counterexamples smaller, all objects together.
const SHRINKING: u64 = 10_000_000;

/// Of how many objects a small counterexample is sought.
const SHRUNK: u64 = 3;

/// Judges objects under one check.
pub(crate) fn check<M: Model>(id: &str, guarantee: &str, objects: &[Object<M>], budget: u64) -> CheckResult {
    let mut result = CheckResult::new(id);
    let (mut budget, mut shrinking) = (Budget { steps: budget }, Budget { steps: SHRINKING });
    for object in objects {
        let is_told = |op: &usize| object.spans[*op].returned != u64::MAX && object.model.is_telling(*op);
        result.opportunity((0..object.spans.len()).filter(is_told).count() as u64);
        match search(&object.model, &object.spans, &mut budget) {
            Answer::Linearizable(_) => {}
            Answer::Unknown if result.outcome == CheckOutcome::Violation => {}
            Answer::Unknown => result.outcome = CheckOutcome::Unknown,
            Answer::Impossible { stuck, .. } => {
                let evidence = match result.violations_in_all {
                    0..SHRUNK => tell(object, stuck, &mut shrinking),
                    _ => vec![format!(
                        "{}no order explains its operations up to {}",
                        object.prefix(),
                        object.told(stuck)
                    )],
                };
                result.violate(guarantee, evidence, None);
            }
        }
    }
    result
}

impl<M: Model> Object<M> {
    fn prefix(&self) -> String {
        if self.name.is_empty() { String::new() } else { format!("{}: ", self.name) }
    }

    /// `process 3, read → 2 (line 17)`.
    fn told(&self, op: u32) -> String {
        let (who, which) = self.who[op as usize];
        format!("{} {who}, {} ({} {which})", self.by.who, self.model.tell(op as usize), self.by.which)
    }
}

/// A small counterexample, as a list and as a picture.
fn tell<M: Model>(object: &Object<M>, stuck: u32, shrinking: &mut Budget) -> Vec<String> {
    let ops = shrink(&object.model, &object.spans, stuck, shrinking);
    let mut budget = Budget { steps: SHRINKING };
    let found = search_part(&object.model, &object.spans, &ops, &mut budget);
    let (stuck, longest) = match found {
        Answer::Impossible { stuck, longest } => (stuck, longest),
        _ => (stuck, Vec::new()),
    };
    let (few, all) = (ops.len(), object.spans.len());
    let mut lines = vec![format!("{}no order explains these {few} of its {all} operations:", object.prefix())];
    let bars: Vec<Bar> = ops
        .iter()
        .map(|op| Bar {
            row: format!("{} {}", object.by.who, object.who[*op as usize].0),
            label: object.model.tell(*op as usize),
            invoked: object.spans[*op as usize].invoked,
            returned: object.spans[*op as usize].returned,
        })
        .collect();
    let digits = few.to_string().len();
    lines.extend(
        (1..)
            .zip(&ops)
            .take(LISTED)
            .map(|(number, op): (usize, _)| format!("  #{number:<digits$}  {}", object.told(*op))),
    );
    if few > LISTED {
        lines.push(format!("  … and {} more", few - LISTED));
    }
    lines.extend(draw(&bars).into_iter().flatten().map(|row| format!("  {row}")));
    let number = |op: &u32| ops.iter().position(|other| other == op).map_or(0, |at| at + 1);
    let order: Vec<String> = longest.iter().map(|op| format!("#{}", number(op))).collect();
    lines.push(match order.len() {
        0 => format!("nothing lets #{} come first", number(&stuck)),
        _ => format!("#{} fits nowhere: the longest order without it is {}", number(&stuck), order.join(" ")),
    });
    lines
}

/// Most operations of a counterexample that are listed.
const LISTED: usize = 40;
