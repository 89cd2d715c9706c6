//! Jepsen's log: one line an invocation or a return, the fields in EDN.

use super::edn::{Kind, Reader, Source, Value};

/// Who logs operations. Lines of others are skipped.
pub(super) const LOGGER: &str = "jepsen.util";

/// The operations' lines, each as the map that EDN histories have.
///
/// # Errors
/// A line that is no line of a log, and one of an operation that is cut or wrong.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<(Source, Value<'_>), String>> {
    let begins = text.split_inclusive('\n').scan(0, |end, line| {
        *end += line.len();
        Some(*end - line.len())
    });
    let lines = (1u32..).zip(begins.zip(text.lines())).filter(|(_, (_, line))| !line.trim().is_empty());
    lines.filter_map(|(line, (at, told))| {
        let entry = entry(told, line).map_err(|what| format!("line {line}: {what}")).transpose()?;
        Some(entry.map(|map| (Source { at, line }, map)))
    })
}

/// The map of a line that was one of an operation, again.
pub(super) fn again(text: &str, source: Source) -> Value<'_> {
    let line = text[source.at..].lines().next().unwrap_or_default();
    match entry(line, source.line) {
        Ok(Some(map)) => map,
        other => panic!("line {} was an operation, and now it is {other:?}", source.line),
    }
}

fn entry(line: &str, number: u32) -> Result<Option<Value<'_>>, String> {
    let Some((_, fields)) = line.split_once(LOGGER) else {
        let levels = ["INFO", "WARN", "ERROR", "DEBUG", "FATAL", "TRACE"];
        return match levels.iter().any(|level| line.contains(level)) {
            true => Ok(None),
            false => Err("this is no line of a log".to_owned()),
        };
    };
    let fields =
        fields.strip_prefix(": ").unwrap_or(fields).trim_start_matches(|c: char| c.is_whitespace() || c == '-');
    if fields.starts_with(char::is_alphabetic) {
        // Talk, no operation.
        return Ok(None);
    }
    let fields: Result<Vec<Value<'_>>, _> = Reader::at_line(fields, number).collect();
    let mut fields = fields.map_err(|error| error.what)?.into_iter();
    let wanted = ["process", "type", "f", "value", "error"];
    let mut pairs = Vec::with_capacity(wanted.len());
    for name in wanted {
        match fields.next() {
            Some(value) => {
                let key = Value { line: number, kind: Kind::Keyword(name) };
                pairs.push((key, value));
            }
            None if name == "error" => {}
            None => return Err(format!("the {name} is missing: a line has process, type, function and value")),
        }
    }
    match fields.next() {
        Some(more) => Err(format!("`{more}` is one field too many: a line has process, type, function, value, error")),
        None => Ok(Some(Value { line: number, kind: Kind::Map(pairs.into()) })),
    }
}
