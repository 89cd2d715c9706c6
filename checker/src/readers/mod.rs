//! Histories recorded elsewhere, in the forms others write them: told apart by their content, and paired into operations.

pub(crate) mod atoms;
pub mod edn;
mod jepsen_log;
mod operations;

pub use operations::{Operation, Operations};

/// How a history is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Our own: one JSON object a line, see [`read_recording`](crate::read_recording).
    JsonLines,
    /// One EDN map an operation's invocation, one its return; or a vector of them.
    Edn,
    /// The lines of Jepsen's log that tell of operations: `INFO  jepsen.util - 4<TAB>:invoke<TAB>:cas<TAB>[2 4]`.
    JepsenLog,
}

impl Form {
    /// The form of a text by its first line that says something; `None` when nothing is there at all.
    ///
    /// # Errors
    /// That line, when it begins like none of them.
    pub fn of(text: &str) -> Result<Option<Form>, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            let rest = line.strip_prefix('{').map(str::trim_start);
            return match line.chars().next() {
                None | Some(';') => continue,
                _ if rest.is_some_and(|rest| rest.starts_with('"')) => Ok(Some(Form::JsonLines)),
                Some('{' | '[' | '(' | '#') => Ok(Some(Form::Edn)),
                _ if line.contains(jepsen_log::LOGGER) => Ok(Some(Form::JepsenLog)),
                _ => Err(format!(
                    "line {number}: no history begins like this: JSON lines begin with `{{\"`, EDN with `{{:`, `[`, `(` or \
                     `#`, a line of Jepsen's log names {}",
                    jepsen_log::LOGGER
                )),
            };
        }
        Ok(None)
    }
}

/// Reads the operations of a history in EDN or in Jepsen's log, in order of invocation.
///
/// # Errors
/// The first line that is wrong: no EDN, no operation, or in contradiction to those before it.
pub fn read_operations(text: &str, form: Form) -> Result<Operations<'_>, String> {
    match form {
        Form::JsonLines => Err("these are JSON lines, which hold whole operations".to_owned()),
        Form::Edn | Form::JepsenLog => operations::read(text, form),
    }
}
