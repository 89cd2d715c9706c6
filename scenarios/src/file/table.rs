//! Walking a TOML document by hand, so that one wrong value does not hide the next.
//!
//! A reader asks [`Fields`] for the keys it knows; whatever nobody asked for is an unknown key. Each question that fails
//! leaves an error behind and the reader goes on with a default.

use super::diagnostics::{Diagnostic, DiagnosticKind};
use super::words;
use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Collects the errors of one file.
#[derive(Default)]
pub(super) struct Errors(RefCell<Vec<Diagnostic>>);

/// More errors of one file are not kept: a hostile file has one in every five bytes.
pub(super) const MAX_ERRORS: usize = 1000;

/// A scenario has no more topics, workloads, steps or nemeses than this, each.
const MAX_TABLES: usize = 20_000;

impl Errors {
    pub(super) fn push(&self, error: Diagnostic) {
        if !self.is_full() {
            self.0.borrow_mut().push(error);
        }
    }

    /// Whether one more would be dropped.
    pub(super) fn is_full(&self) -> bool {
        self.0.borrow().len() >= MAX_ERRORS
    }

    pub(super) fn into_vec(self) -> Vec<Diagnostic> {
        self.0.into_inner()
    }
}

/// A table that is being read.
pub(super) struct Fields<'a> {
    errors: &'a Errors,
    table: &'a DeTable<'a>,
    span: Range<usize>,
    /// How messages call the table: "`[cluster]`".
    what: String,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of_document(document: &'a Spanned<DeTable<'a>>, errors: &'a Errors) -> Self {
        Fields { errors, table: document.get_ref(), span: 0..0, what: "a scenario".to_string(), asked: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        let (name, value) = self.table.get_key_value(key)?;
        Some(Value { errors: self.errors, name: key.to_string(), key_span: name.span(), value })
    }

    /// The value of a key that must be there.
    pub(super) fn need(&mut self, key: &'static str, help: &str) -> Option<Value<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.missing(&format!("`{key}` is missing in {}", self.what), help);
        }
        found
    }

    pub(super) fn missing(&self, message: &str, help: &str) {
        self.errors.push(Diagnostic::new(DiagnosticKind::Missing, Some(self.span.clone()), message).help(help));
    }

    /// What `read` makes of a key's value; the default when the key is absent or its value wrong.
    pub(super) fn or<T>(&mut self, key: &'static str, default: T, read: impl FnOnce(&Value<'a>) -> Option<T>) -> T {
        self.get(key).and_then(|value| read(&value)).unwrap_or(default)
    }

    /// Whether the key is there; does not ask for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The table itself, for errors about the whole of it.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    pub(super) fn errors(&self) -> &'a Errors {
        self.errors
    }

    /// Every key and value, in the order of the file, for tables whose keys are data.
    pub(super) fn entries(&self) -> Vec<Value<'a>> {
        let mut entries: Vec<Value<'a>> = self
            .table
            .iter()
            .map(|(key, value)| Value {
                errors: self.errors,
                name: key.get_ref().to_string(),
                key_span: key.span(),
                value,
            })
            .collect();
        entries.sort_by_key(|entry| entry.key_span.start);
        entries
    }

    /// Blames every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = &self.asked;
        for entry in self.entries() {
            if known.contains(&entry.name.as_str()) {
                continue;
            }
            if self.errors.is_full() {
                break;
            }
            let name = words::shortened(&entry.name);
            let message = format!("nobody knows the key `{name}` in {}", self.what);
            let label = words::closest(&entry.name, known.iter().copied())
                .map_or_else(|| "unknown key".to_string(), |near| format!("did you mean `{near}`?"));
            self.errors.push(
                Diagnostic::new(DiagnosticKind::Shape, Some(entry.key_span), message)
                    .label(label)
                    .help(format!("allowed are {}", words::list(known))),
            );
        }
    }
}

/// One value that is being read.
#[derive(Clone)]
pub(super) struct Value<'a> {
    errors: &'a Errors,
    /// Its key, or that of the list it stands in.
    pub(super) name: String,
    pub(super) key_span: Range<usize>,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    pub(super) fn raw(&self) -> &'a DeValue<'a> {
        self.value.get_ref()
    }

    pub(super) fn report(&self, error: Diagnostic) {
        self.errors.push(error);
    }

    /// The value is wrong.
    pub(super) fn wrong(&self, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Diagnostic::new(DiagnosticKind::Shape, Some(self.span()), message).help(help));
    }

    /// The value does not fit the rest of the file.
    pub(super) fn contradicts(&self, message: impl Into<String>, help: impl Into<String>) {
        self.errors.push(Diagnostic::new(DiagnosticKind::Reference, Some(self.span()), message).help(help));
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        let kind = match self.raw() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let error =
            Diagnostic::new(DiagnosticKind::Shape, Some(self.span()), format!("`{}` must be {what}", self.name));
        self.errors.push(error.label(format!("this is {kind}")));
        None
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.raw() {
            DeValue::String(text) => Some(text),
            _ => self.expected("a string"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.raw() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.expected("`true` or `false`"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer<T: TryFrom<i128>>(&self, allowed: RangeInclusive<i128>) -> Option<T> {
        let (least, most) = (*allowed.start(), *allowed.end());
        let DeValue::Integer(number) = self.raw() else {
            return self.expected(&format!("a whole number from {least} to {most}"));
        };
        match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if allowed.contains(&number) => T::try_from(number).ok(),
            _ => {
                self.wrong(
                    format!("`{}` is out of range", self.name),
                    format!("allowed are whole numbers from {least} to {most}"),
                );
                None
            }
        }
    }

    /// A string that says a value of type `T`.
    pub(super) fn parse<T: FromStr<Err = String>>(&self) -> Option<T> {
        let DeValue::String(text) = self.raw() else {
            // What the type says about an empty text is how it is written.
            let shape = "".parse::<T>().err().unwrap_or_default();
            let message = format!("`{}` must be a string", self.name);
            self.errors.push(Diagnostic::new(DiagnosticKind::Shape, Some(self.span()), message).help(shape));
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.explain(&why);
                None
            }
        }
    }

    /// The value is wrong for this reason: its first clause is the message, the rest is help.
    pub(super) fn explain(&self, why: &str) {
        let (message, help) = why.split_once("; ").unwrap_or((why, ""));
        self.wrong(format!("`{}`: {message}", self.name), help);
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words = || choices.iter().map(|(word, _)| *word);
        let message = format!("`{}` cannot be `{}`", self.name, words::shortened(text));
        let error = Diagnostic::new(DiagnosticKind::Shape, Some(self.span()), message);
        let label = words::closest(text, words()).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
        self.errors.push(error.label(label).help(format!("allowed are {}", words::list(words()))));
        None
    }

    /// The items of a list.
    pub(super) fn list(&self, of_what: &str) -> Option<Vec<Value<'a>>> {
        match self.raw() {
            DeValue::Array(items) => Some(
                items
                    .iter()
                    .map(|value| Value {
                        errors: self.errors,
                        name: self.name.clone(),
                        key_span: self.key_span.clone(),
                        value,
                    })
                    .collect(),
            ),
            _ => self.expected(&format!("a list of {of_what}")),
        }
    }

    /// The value as one item of a list of tables: `[[topic]]`.
    pub(super) fn tables(&self) -> Vec<Value<'a>> {
        match self.raw() {
            DeValue::Array(_) => {
                let mut items = self.list("tables").unwrap_or_default();
                if items.len() > MAX_TABLES {
                    let (name, count) = (&self.name, items.len());
                    self.wrong(
                        format!("there are {count} tables `[[{name}]]`"),
                        format!("a scenario has at most {MAX_TABLES} of a kind"),
                    );
                    items.truncate(MAX_TABLES);
                }
                items
            }
            DeValue::Table(_) => {
                let name = &self.name;
                self.errors.push(
                    Diagnostic::new(DiagnosticKind::Shape, Some(self.span()), format!("`{name}` is a list of tables"))
                        .help(format!("write `[[{name}]]`, with two brackets, once for each")),
                );
                Vec::new()
            }
            _ => self.expected(&format!("a list of tables: `[[{}]]`", self.name)).unwrap_or_default(),
        }
    }

    /// The value as a table.
    pub(super) fn table(&self, what: String) -> Option<Fields<'a>> {
        match self.raw() {
            DeValue::Table(table) => {
                Some(Fields { errors: self.errors, table, span: self.span(), what, asked: Vec::new() })
            }
            _ => self.expected("a table"),
        }
    }
}
