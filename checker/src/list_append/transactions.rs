//! Transactions of appends and reads, out of the operations of a history.

use crate::exactly_once::dependency_graph::Interval;
use crate::history::Outcome;
use crate::readers::Operations;
use crate::readers::atoms::{Atom, Names, shortened};
use crate::readers::edn::{Kind, Value};
use std::collections::BTreeMap;

/// One step of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It appends to a list.
    Append { key: u32, element: Atom },
    /// It reads a list; `None` when nobody knows what it read.
    Read { key: u32, list: Option<List> },
}

/// A list that was read: where its elements begin and end in [`Transactions::elements`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct List {
    from: u32,
    end: u32,
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) process: i64,
    pub(crate) outcome: Outcome,
    pub(crate) interval: Interval,
    /// The lines of its invocation and of its return.
    pub(crate) lines: (u32, Option<u32>),
    steps: (usize, usize),
}

/// A history of transactions, in order of invocation.
pub(crate) struct Transactions<'a> {
    pub(crate) all: Vec<Transaction>,
    steps: Vec<Step>,
    pub(crate) elements: Vec<Atom>,
    /// Keys by number.
    pub(crate) keys: Vec<Atom>,
    pub(crate) names: Names<'a>,
}

impl Transactions<'_> {
    pub(crate) fn steps(&self, at: u32) -> &[Step] {
        let (from, end) = self.all[at as usize].steps;
        &self.steps[from..end]
    }

    /// The list that was read, if it is known.
    pub(crate) fn list(&self, list: Option<List>) -> Option<&[Atom]> {
        list.map(|List { from, end }| &self.elements[from as usize..end as usize])
    }

    pub(crate) fn outcome(&self, at: u32) -> Outcome {
        self.all[at as usize].outcome
    }

    pub(crate) fn key(&self, key: u32) -> String {
        self.names.name(self.keys[key as usize])
    }
}

/// Reads every operation as a transaction.
///
/// # Errors
/// The line of the first that is none, appends what was appended before, or returns other steps than it was invoked with.
pub(crate) fn read<'a>(operations: &Operations<'a>) -> Result<Transactions<'a>, String> {
    let mut transactions = Transactions {
        all: Vec::with_capacity(operations.len()),
        steps: Vec::new(),
        elements: Vec::new(),
        keys: Vec::new(),
        names: Names::default(),
    };
    let mut keys: BTreeMap<Atom, u32> = BTreeMap::new();
    // Every append with the line it was asked for in.
    let mut appends: Vec<(u32, Atom, u32)> = Vec::new();
    for operation in operations.iter() {
        let line = operation.line();
        let answer = operation.completion.as_ref().filter(|_| !operation.answered().is_nil());
        let asked = steps_of(operation.asked()).map_err(|what| format!("line {line}: {what}"))?;
        let steps = match answer {
            Some(answer) => {
                let line = answer.line;
                let steps = steps_of(operation.answered()).map_err(|what| format!("line {line}: {what}"))?;
                same_steps(asked, steps).map_err(|what| format!("line {line}: {what}"))?;
                steps
            }
            None if operation.outcome == Outcome::Ok => {
                let line = operation.completion.as_ref().map_or(line, |answer| answer.line);
                return Err(format!("line {line}: a transaction that took effect returns its steps in :value"));
            }
            None => asked,
        };
        let from = transactions.steps.len();
        for step in steps {
            let line = step.line;
            let (word, key, value) = step_of(step).map_err(|what| format!("line {line}: {what}"))?;
            let atom = transactions.names.atom(key);
            let number = keys.len() as u32;
            let key = *keys.entry(atom).or_insert_with(|| {
                transactions.keys.push(atom);
                number
            });
            transactions.steps.push(match (word, &value.kind) {
                ("append", _) => {
                    let element = transactions.names.atom(value);
                    appends.push((key, element, line));
                    Step::Append { key, element }
                }
                // What was not read, and what an operation without a known outcome was asked to read, is nil as well.
                (_, Kind::Nil) if operation.outcome == Outcome::Ok => {
                    Step::Read { key, list: Some(List { from: 0, end: 0 }) }
                }
                (_, Kind::Nil) => Step::Read { key, list: None },
                (_, Kind::Vector(items) | Kind::List(items)) => {
                    let from = transactions.elements.len() as u32;
                    for item in items {
                        let atom = transactions.names.atom(item);
                        transactions.elements.push(atom);
                    }
                    let end = u32::try_from(transactions.elements.len());
                    let end = end.map_err(|_| format!("line {line}: more elements are read than this can count"))?;
                    Step::Read { key, list: Some(List { from, end }) }
                }
                _ => return Err(format!("line {line}: a read returns a vector or nil, not `{value}`")),
            });
        }
        transactions.all.push(Transaction {
            process: operation.process,
            outcome: operation.outcome,
            interval: Interval::of(&operation),
            lines: operation.lines(),
            steps: (from, transactions.steps.len()),
        });
    }
    appends.sort_unstable();
    if let Some(twice) =
        appends.windows(2).filter(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1)).min_by_key(|pair| pair[1].2)
    {
        let (element, key) = (transactions.names.name(twice[1].1), transactions.key(twice[1].0));
        let (line, before) = (twice[1].2, twice[0].2);
        return Err(format!(
            "line {line}: {element} was appended to key {key} before, in line {before}: elements must be unique"
        ));
    }
    Ok(transactions)
}

fn steps_of<'v, 'a>(value: &'v Value<'a>) -> Result<&'v [Value<'a>], String> {
    value.items().ok_or_else(|| format!("a transaction is a vector of steps, not `{}`", shortened(value)))
}

/// What it does, to which key, and with what.
fn step_of<'v, 'a>(step: &'v Value<'a>) -> Result<(&'a str, &'v Value<'a>, &'v Value<'a>), String> {
    if let Some([word, key, value]) = step.items()
        && let Some(word @ ("append" | "r")) = word.keyword()
    {
        return Ok((word, key, value));
    }
    Err(format!("a step is [:append key element] or [:r key list], not `{}`", shortened(step)))
}

/// A transaction returns the steps it was invoked with; only what was read is new.
fn same_steps(asked: &[Value<'_>], answered: &[Value<'_>]) -> Result<(), String> {
    if asked.len() != answered.len() {
        return Err(format!("{} steps are returned, and {} were invoked", answered.len(), asked.len()));
    }
    for (asked, answered) in asked.iter().zip(answered) {
        let ((word, key, value), (did, of, with)) = (step_of(asked)?, step_of(answered)?);
        if word != did || key != of || (word == "append" && value != with) {
            let (asked, answered) = (shortened(asked), shortened(answered));
            return Err(format!("{answered} is returned where {asked} was invoked"));
        }
    }
    Ok(())
}
