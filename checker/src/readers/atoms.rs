//! Keys and values as small numbers.

use super::edn::{Kind, Value};
use std::collections::BTreeMap;

/// A key or an element: an integer as it is, anything else by the order in which it was first named.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Atom(i64);

/// Integers below stand for names.
const NAMES_END: i64 = i64::MIN + u32::MAX as i64;

/// Everything that is named by another word than an integer.
#[derive(Default)]
pub(crate) struct Names<'a> {
    by_value: BTreeMap<Value<'a>, u32>,
    names: Vec<String>,
}

impl<'a> Names<'a> {
    /// The atom of a value, a new one if need be.
    pub(crate) fn atom(&mut self, value: &Value<'a>) -> Atom {
        if let Kind::Integer(integer) = value.kind
            && integer >= NAMES_END
        {
            return Atom(integer);
        }
        let next = self.names.len() as u32;
        let name = *self.by_value.entry(value.clone()).or_insert_with(|| {
            self.names.push(value.to_string());
            next
        });
        Atom(i64::MIN + i64::from(name))
    }

    /// As it was written.
    pub(crate) fn name(&self, atom: Atom) -> String {
        match atom.0 {
            integer if integer >= NAMES_END => integer.to_string(),
            name => self.names[(name - i64::MIN) as usize].clone(),
        }
    }

    /// `[1 2 3]`; a long one with its middle left out.
    pub(crate) fn list(&self, atoms: &[Atom]) -> String {
        let names = |atoms: &[Atom]| atoms.iter().map(|atom| self.name(*atom)).collect::<Vec<_>>().join(" ");
        match atoms.len() {
            0..=16 => format!("[{}]", names(atoms)),
            many => format!("[{} … {}]", names(&atoms[..4]), names(&atoms[many - 8..])),
        }
    }
}

/// A value for an error: its beginning.
pub(crate) fn shortened(value: &Value<'_>) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
