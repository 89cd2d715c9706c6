//! A scenario written as a file: what [`super::parse`] reads back to the same value.

use super::action::{NemesisRule, Step};
use super::scenario::Scenario;
use serde::Serialize;
use toml::ser::ValueSerializer;

impl Scenario {
    /// The scenario as a file, each workload, step and nemesis on one line. Reads back to the same value.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (key, text) in [("name", &self.name), ("question", &self.question)] {
            push(&mut out, &format!("{key} = {}", inline(text)));
        }
        if !self.tags.is_empty() {
            push(&mut out, &format!("tags = {}", inline(&self.tags)));
        }
        table(&mut out, "[cluster]", &self.cluster);
        for topic in &self.topics {
            table(&mut out, "[[topic]]", topic);
        }
        table(&mut out, "[network]", &self.network);
        table(&mut out, "[disk]", &self.disk);
        for workload in &self.workloads {
            push(&mut out, "\n[[workload]]");
            push(&mut out, &braceless(&inline(workload)));
        }
        for step in &self.steps {
            write_step(&mut out, step);
        }
        for rule in &self.nemesis {
            write_nemesis(&mut out, rule);
        }
        table(&mut out, "[run]", &self.run);
        table(&mut out, "[expect]", &self.expect);
        out
    }
}

/// One line.
fn push(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// A value on one line, as it stands to the right of an equals sign.
fn inline<T: Serialize + ?Sized>(value: &T) -> String {
    let mut text = String::new();
    value.serialize(ValueSerializer::new(&mut text)).expect("every type of the grammar has a TOML form");
    text
}

/// A header and one line for each field, in the order in which the type declares them.
fn table<T: Serialize>(out: &mut String, header: &str, value: &T) {
    push(out, &format!("\n{header}"));
    for field in fields(&braceless(&inline(value))) {
        push(out, field);
    }
}

/// The `key = value` pairs of an inline table without its braces.
fn fields(table: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut depth, mut quote, mut escaped, mut start) = (0u32, None, false, 0);
    for (at, c) in table.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None => match c {
                '"' | '\'' => quote = Some(c),
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    fields.push(table[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            },
        }
    }
    fields.push(table[start..].trim());
    fields.retain(|field| !field.is_empty());
    fields
}

/// The trigger stands before the action, whatever the alphabet says.
fn write_step(out: &mut String, step: &Step) {
    push(out, "\n[[step]]");
    push(out, &braceless(&inline(&step.trigger)));
    push(out, &braceless(&inline(&step.action)));
    if !step.required {
        push(out, "required = false");
    }
}

fn write_nemesis(out: &mut String, rule: &NemesisRule) {
    push(out, "\n[[nemesis]]");
    push(out, &braceless(&inline(rule)));
}

/// `{ crash = { ... } }` as a line of its table: `crash = { ... }`.
fn braceless(table: &str) -> String {
    let inner = table.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(table);
    inner.trim().to_string()
}
