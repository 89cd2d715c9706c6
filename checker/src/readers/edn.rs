//! EDN, the notation of Clojure's data: what Jepsen writes.
//!
//! A [`Reader`] gives one form after the other, however they lie on lines. It keeps a stack of its own, so no input can
//! exhaust the thread's; [`DEPTH`] bounds what a form may nest. Strings without escapes, keywords and symbols are borrowed
//! from the text. Beyond the notation's description it takes what Clojure prints in practice: hexadecimal integers,
//! octal escapes, `##Inf`, and records (`#jepsen.history.Op{...}`), which are read as the map they hold.

use std::borrow::Cow;
use std::fmt;

mod reader;
mod words;

pub(crate) use reader::Source;
pub use reader::{Error, Reader};

#[cfg(test)]
mod tests;

/// How deep collections, tags and discards may nest in one form.
pub const DEPTH: usize = 128;

/// One form, and the line it begins on. Two values are equal when they say the same, wherever they stand.
#[derive(Clone, Debug)]
pub struct Value<'a> {
    /// The line it begins on, from 1.
    pub line: u32,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a form is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind<'a> {
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of 64 bits, with or without `N`.
    Integer(i64),
    /// Any other number, as it is written: a float, a ratio, a longer integer.
    Number(&'a str),
    /// `"..."`, escapes resolved.
    Text(Cow<'a, str>),
    /// `\a`, `\newline`, `\u00e9`.
    Char(char),
    /// `:append`, without the colon.
    Keyword(&'a str),
    /// Any other word.
    Symbol(&'a str),
    /// `(...)`.
    List(Box<[Value<'a>]>),
    /// `[...]`.
    Vector(Box<[Value<'a>]>),
    /// `#{...}`, in the order written.
    Set(Box<[Value<'a>]>),
    /// `{...}`, in the order written.
    Map(Box<[(Value<'a>, Value<'a>)]>),
    /// `#tag form`, unless the form is a map: then it is the map alone.
    Tagged(&'a str, Box<Value<'a>>),
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for Value<'_> {}

impl PartialOrd for Value<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.kind.cmp(&other.kind)
    }
}

impl std::hash::Hash for Value<'_> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl<'a> Value<'a> {
    /// What a map holds under the keyword `key`; `None` when this is no map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        let Kind::Map(pairs) = &self.kind else { return None };
        pairs.iter().find(|(k, _)| k.keyword() == Some(key)).map(|(_, value)| value)
    }

    /// The keyword's name.
    #[must_use]
    pub fn keyword(&self) -> Option<&'a str> {
        match self.kind {
            Kind::Keyword(name) => Some(name),
            _ => None,
        }
    }

    /// The integer.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match self.kind {
            Kind::Integer(value) => Some(value),
            _ => None,
        }
    }

    /// The string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items of a list or a vector.
    #[must_use]
    pub fn items(&self) -> Option<&[Value<'a>]> {
        match &self.kind {
            Kind::List(items) | Kind::Vector(items) => Some(items),
            _ => None,
        }
    }

    /// Whether it is `nil`.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        self.kind == Kind::Nil
    }
}

/// As EDN again.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn all(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value<'_>], close: &str) -> fmt::Result {
            f.write_str(open)?;
            for (at, item) in items.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { " " })?;
                item.fmt(f)?;
            }
            f.write_str(close)
        }
        // As deep as DEPTH, not as the input.
        match &self.kind {
            Kind::Nil => f.write_str("nil"),
            Kind::Bool(value) => write!(f, "{value}"),
            Kind::Integer(value) => write!(f, "{value}"),
            Kind::Number(text) | Kind::Symbol(text) => f.write_str(text),
            Kind::Text(text) => {
                f.write_str("\"")?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        '\n' => f.write_str("\\n")?,
                        '\r' => f.write_str("\\r")?,
                        '\t' => f.write_str("\\t")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Kind::Char(c) => match NAMED_CHARS.iter().find(|(_, named)| named == c) {
                Some((name, _)) => write!(f, "\\{name}"),
                None if c.is_control() || c.is_whitespace() => write!(f, "\\u{:04x}", u32::from(*c)),
                None => write!(f, "\\{c}"),
            },
            Kind::Keyword(name) => write!(f, ":{name}"),
            Kind::List(items) => all(f, "(", items, ")"),
            Kind::Vector(items) => all(f, "[", items, "]"),
            Kind::Set(items) => all(f, "#{", items, "}"),
            Kind::Map(pairs) => {
                f.write_str("{")?;
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key} {value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
            Kind::Tagged(tag, value) => write!(f, "#{tag} {value}"),
        }
    }
}

const NAMED_CHARS: [(&str, char); 6] =
    [("newline", '\n'), ("space", ' '), ("tab", '\t'), ("return", '\r'), ("backspace", '\u{8}'), ("formfeed", '\u{c}')];
