//! A register: reads, writes, and compare-and-set. It starts as nil.

use crate::history::Outcome;
use crate::linearizability::objects::{ByKey, Object};
use crate::linearizability::search::{Model, State};
use crate::readers::edn::{Kind, Value};
use crate::readers::{Operation, Operations};
use std::collections::BTreeMap;

/// What an operation does; values by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read(u32),
    Write(u32),
    /// Found `from`, and put `to` there.
    Swap {
        from: u32,
        to: u32,
    },
    /// Wanted `from`, and found something else.
    Refused {
        from: u32,
        to: u32,
    },
}

/// The operations on one register.
pub(crate) struct Register {
    pub(crate) accesses: Vec<Access>,
    /// How values are written, by number; nil is 0.
    pub(crate) values: std::rc::Rc<Vec<String>>,
}

/// Numbers for values.
#[derive(Default)]
pub(crate) struct Values {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

impl Values {
    pub(crate) fn new() -> Self {
        let mut values = Values::default();
        values.number("nil".to_owned());
        values
    }

    pub(crate) fn number(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }

    pub(crate) fn into_names(self) -> std::rc::Rc<Vec<String>> {
        std::rc::Rc::new(self.names)
    }
}

/// What an operation did; `None` when it says nothing: it had no effect, or a read without an answer.
///
/// # Errors
/// It is none of a register, or contradicts itself.
pub(crate) fn access(operation: &Operation<'_>, with_cas: bool, values: &mut Values) -> Result<Option<Access>, String> {
    let asked = operation.asked();
    let answered =
        operation.completion.as_ref().filter(|_| operation.outcome == Outcome::Ok).map(|_| operation.answered());
    match operation.name {
        "read" => Ok(answered.map(|value| Access::Read(values.number(value.to_string())))),
        "write" => {
            check_echo(operation, asked, answered)?;
            let value = values.number(asked.to_string());
            Ok((operation.outcome != Outcome::Fail).then_some(Access::Write(value)))
        }
        "cas" if with_cas => {
            let Some([from, to]) = asked.items() else {
                return Err(format!("line {}: :cas wants [from to], not `{asked}`", operation.line()));
            };
            check_echo(operation, asked, answered)?;
            let (from, to) = (values.number(from.to_string()), values.number(to.to_string()));
            Ok(match operation.outcome {
                Outcome::Ok | Outcome::Unknown => Some(Access::Swap { from, to }),
                // It says that the comparison failed, by giving the value back, and not that something else went wrong.
                Outcome::Fail if operation.error().is_none() && operation.answered() == asked => {
                    Some(Access::Refused { from, to })
                }
                Outcome::Fail => None,
            })
        }
        "cas" => Err(format!("line {}: model register has no :cas; cas-register has", operation.line())),
        other => Err(format!("line {}: a register has :read, :write and :cas, not :{other}", operation.line())),
    }
}

/// What was written is what was to be written.
fn check_echo(operation: &Operation<'_>, asked: &Value<'_>, answered: Option<&Value<'_>>) -> Result<(), String> {
    match answered {
        Some(answered) if answered.kind != Kind::Nil && answered != asked => {
            let (name, line) = (operation.name, operation.completion.as_ref().map_or(0, |map| map.line));
            Err(format!(
                "line {line}: :{name} returns {answered}, and was invoked with {asked} in line {}",
                operation.line()
            ))
        }
        _ => Ok(()),
    }
}

impl Model for Register {
    fn initial(&self) -> State {
        0
    }

    fn step(&self, state: State, op: usize) -> Option<State> {
        match self.accesses[op] {
            Access::Read(value) => (u64::from(value) == state).then_some(state),
            Access::Write(value) => Some(u64::from(value)),
            Access::Swap { from, to } => (u64::from(from) == state).then_some(u64::from(to)),
            Access::Refused { from, .. } => (u64::from(from) != state).then_some(state),
        }
    }

    fn only_reads(&self, op: usize) -> bool {
        matches!(self.accesses[op], Access::Read(_) | Access::Refused { .. })
    }

    fn is_telling(&self, op: usize) -> bool {
        !matches!(self.accesses[op], Access::Write(_))
    }

    fn name(&self, op: usize) -> u64 {
        match self.accesses[op] {
            Access::Read(_) | Access::Refused { .. } => 0,
            Access::Write(value) => u64::from(value) << 32 | u64::from(u32::MAX),
            Access::Swap { from, to } => u64::from(to) << 32 | u64::from(from),
        }
    }

    fn is_promising(&self, _: State) -> bool {
        true
    }

    fn observes(&self, op: usize, writer: usize) -> bool {
        let (Access::Write(written) | Access::Swap { to: written, .. }) = self.accesses[writer] else { return false };
        match self.accesses[op] {
            Access::Write(_) => false,
            Access::Read(value) | Access::Swap { from: value, .. } => value == written,
            Access::Refused { from, .. } => from != written,
        }
    }

    fn overwrites(&self, op: usize) -> bool {
        !self.only_reads(op)
    }

    fn tell(&self, op: usize) -> String {
        let value = |number: u32| &self.values[number as usize];
        match self.accesses[op] {
            Access::Read(found) => format!("read → {}", value(found)),
            Access::Write(written) => format!("write {}", value(written)),
            Access::Swap { from, to } => format!("cas {} → {}", value(from), value(to)),
            Access::Refused { from, to } => format!("cas {} → {} refused", value(from), value(to)),
        }
    }
}

/// The registers of a history, by key.
///
/// # Errors
/// The first operation that is none of a register.
pub(crate) fn registers(operations: &Operations<'_>, with_cas: bool) -> Result<Vec<Object<Register>>, String> {
    let mut values = Values::new();
    let mut told = ByKey::default();
    for operation in operations.iter() {
        if let Some(access) = access(&operation, with_cas, &mut values)? {
            told.add(&operation, access);
        }
    }
    let values = values.into_names();
    Ok(told.objects(|accesses| Register { accesses, values: values.clone() }))
}
