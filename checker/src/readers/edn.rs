//! EDN, the notation of Clojure's data: what Jepsen writes.
//!
//! A [`Reader`] gives one form after the other, however they lie on lines. It keeps a stack of its own, so no input can
//! exhaust the thread's; [`DEPTH`] bounds what a form may nest. Strings without escapes, keywords and symbols are borrowed
//! from the text. Beyond the notation's description it takes what Clojure prints in practice: hexadecimal integers,
//! octal escapes, `##Inf`, and records (`#jepsen.history.Op{...}`), which are read as the map they hold.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

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
    List(Vec<Value<'a>>),
    /// `[...]`.
    Vector(Vec<Value<'a>>),
    /// `#{...}`, in the order written.
    Set(Vec<Value<'a>>),
    /// `{...}`, in the order written.
    Map(Vec<(Value<'a>, Value<'a>)>),
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

/// Where a text is no EDN, and what was expected there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.what)
    }
}

impl std::error::Error for Error {}

/// A place in the text.
#[derive(Clone, Copy)]
struct Place {
    /// In bytes.
    at: usize,
    line: u32,
    /// Where its line begins, in bytes.
    line_start: usize,
}

/// What was opened and waits for its end.
enum Open<'a> {
    List(Vec<Value<'a>>),
    Vector(Vec<Value<'a>>),
    Set(Vec<Value<'a>>),
    /// Keys and values in turn.
    Map(Vec<Value<'a>>),
    /// Waits for one form.
    Tag(&'a str),
    /// Swallows one form.
    Discard,
}

impl Open<'_> {
    fn closed_by(&self) -> Option<u8> {
        match self {
            Open::List(_) => Some(b')'),
            Open::Vector(_) => Some(b']'),
            Open::Set(_) | Open::Map(_) => Some(b'}'),
            Open::Tag(_) | Open::Discard => None,
        }
    }

    fn name(&self) -> String {
        match self {
            Open::List(_) => "the list".to_owned(),
            Open::Vector(_) => "the vector".to_owned(),
            Open::Set(_) => "the set".to_owned(),
            Open::Map(_) => "the map".to_owned(),
            Open::Tag(tag) => format!("the tag #{tag}"),
            Open::Discard => "the discard #_".to_owned(),
        }
    }
}

/// Gives the forms of a text one after the other. After an error it gives nothing more.
pub struct Reader<'a> {
    text: &'a str,
    place: Place,
}

const NAMED_CHARS: [(&str, char); 6] =
    [("newline", '\n'), ("space", ' '), ("tab", '\t'), ("return", '\r'), ("backspace", '\u{8}'), ("formfeed", '\u{c}')];

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b',' || byte == 0x0b
}

fn ends_word(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'"' | b';')
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Reader { text, place: Place { at, line: 1, line_start: at } }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.place.at).copied()
    }

    fn error(&self, place: Place, what: impl Into<String>) -> Error {
        let before = &self.text[place.line_start..place.at];
        Error { line: place.line, column: before.chars().count() as u32 + 1, what: what.into() }
    }

    /// What stands where the reader is, for an error.
    fn found(&self) -> String {
        match self.text[self.place.at..].chars().next() {
            Some(c) => format!("`{}`", c.escape_debug()),
            None => "the end of the text".to_owned(),
        }
    }

    fn skip_space(&mut self) {
        let bytes = self.text.as_bytes();
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.place.at += 1;
                    self.place.line += 1;
                    self.place.line_start = self.place.at;
                }
                b';' => {
                    let rest = &bytes[self.place.at..];
                    self.place.at += rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                }
                byte if is_space(byte) => self.place.at += 1,
                _ => break,
            }
        }
    }

    /// The bytes up to the next one that ends a word. `#` and `'` may stand inside.
    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.place.at..];
        let length = rest.bytes().position(ends_word).unwrap_or(rest.len());
        self.place.at += length;
        &rest[..length]
    }

    fn form(&mut self) -> Result<Option<Value<'a>>, Error> {
        let mut stack: Vec<(Open<'a>, Place)> = Vec::new();
        loop {
            self.skip_space();
            let start = self.place;
            let Some(byte) = self.peek() else {
                return match stack.pop() {
                    None => Ok(None),
                    Some((open, opened)) => {
                        let name = open.name();
                        Err(self.error(opened, format!("{name} that begins here is cut off by the end of the text")))
                    }
                };
            };
            let opened = match byte {
                b'(' => Some(Open::List(Vec::new())),
                b'[' => Some(Open::Vector(Vec::new())),
                b'{' => Some(Open::Map(Vec::new())),
                b'#' => self.dispatch()?,
                _ => None,
            };
            if let Some(open) = opened {
                if self.place.at == start.at {
                    self.place.at += 1;
                }
                if stack.len() == DEPTH {
                    return Err(self.error(start, format!("this is nested deeper than {DEPTH}")));
                }
                stack.push((open, start));
                continue;
            }
            let mut value = match byte {
                b')' | b']' | b'}' => self.close(&mut stack)?,
                b'"' => Value { line: start.line, kind: Kind::Text(self.string()?) },
                b'\\' => Value { line: start.line, kind: Kind::Char(self.char()?) },
                b'#' => Value { line: start.line, kind: Kind::Number(self.word()) },
                _ => Value { line: start.line, kind: self.atom()? },
            };
            // Hands the finished form to whatever waits for it.
            loop {
                match stack.last_mut() {
                    None => return Ok(Some(value)),
                    Some((Open::List(items) | Open::Vector(items) | Open::Set(items) | Open::Map(items), _)) => {
                        items.push(value);
                        break;
                    }
                    Some((Open::Tag(tag), place)) => {
                        if matches!(value.kind, Kind::Map(_)) && !tag.starts_with(':') {
                            value.line = place.line;
                        } else {
                            value = Value { line: place.line, kind: Kind::Tagged(tag, Box::new(value)) };
                        }
                        stack.pop();
                    }
                    Some((Open::Discard, _)) => {
                        stack.pop();
                        break;
                    }
                }
            }
        }
    }

    /// What a `#` begins; `None` for `##Inf` and its like, which is a number and still to be read.
    fn dispatch(&mut self) -> Result<Option<Open<'a>>, Error> {
        let start = self.place;
        let next = self.text.as_bytes().get(start.at + 1).copied();
        match next {
            Some(b'{') => {
                self.place.at += 2;
                Ok(Some(Open::Set(Vec::new())))
            }
            Some(b'_') => {
                self.place.at += 2;
                Ok(Some(Open::Discard))
            }
            Some(b'#') => {
                let word = self.word();
                if !matches!(word, "##Inf" | "##-Inf" | "##NaN") {
                    return Err(self.error(start, format!("`{word}` is none of ##Inf, ##-Inf, ##NaN")));
                }
                self.place = start;
                Ok(None)
            }
            Some(byte) if byte.is_ascii_alphabetic() || byte == b':' || byte >= 0x80 => {
                self.place.at += 1;
                Ok(Some(Open::Tag(self.word())))
            }
            _ => {
                self.place.at += 1;
                let found = self.found();
                Err(self.error(start, format!("after `#` a tag, `{{` or `_` is expected, not {found}")))
            }
        }
    }

    fn close(&mut self, stack: &mut Vec<(Open<'a>, Place)>) -> Result<Value<'a>, Error> {
        let here = self.place;
        let found = self.peek().unwrap_or_default();
        let Some((open, opened)) = stack.pop() else {
            return Err(self.error(here, format!("`{}` closes nothing", char::from(found))));
        };
        let since = |open: &Open<'a>| {
            let since = self.error(opened, "");
            format!("{} of line {}, column {}", open.name(), since.line, since.column)
        };
        match open.closed_by() {
            Some(wanted) if wanted == found => {}
            Some(wanted) => {
                let (wanted, found, since) = (char::from(wanted), char::from(found), since(&open));
                return Err(self.error(here, format!("`{wanted}` is expected, to close {since}, not `{found}`")));
            }
            None => return Err(self.error(here, format!("{} wants a form, and there is none", since(&open)))),
        }
        if let Open::Map(items) = &open
            && items.len() % 2 == 1
        {
            let key = items.last().map(Value::to_string).unwrap_or_default();
            return Err(self.error(here, format!("key {key} of {} has no value", since(&open))));
        }
        self.place.at += 1;
        let kept = |mut items: Vec<Value<'a>>| {
            items.shrink_to_fit();
            items
        };
        let kind = match open {
            Open::List(items) => Kind::List(kept(items)),
            Open::Vector(items) => Kind::Vector(kept(items)),
            Open::Set(items) => Kind::Set(kept(items)),
            Open::Map(items) => {
                let mut items = items.into_iter();
                Kind::Map(std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect())
            }
            Open::Tag(_) | Open::Discard => Kind::Nil,
        };
        Ok(Value { line: opened.line, kind })
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Error> {
        let start = self.place;
        self.place.at += 1;
        let mut from = self.place.at;
        let mut unescaped = String::new();
        loop {
            match self.peek() {
                None => return Err(self.error(start, "the string that begins here is cut off by the end of the text")),
                Some(b'"') => {
                    let last = &self.text[from..self.place.at];
                    self.place.at += 1;
                    return Ok(if unescaped.is_empty() { Cow::Borrowed(last) } else { Cow::Owned(unescaped + last) });
                }
                Some(b'\\') => {
                    unescaped.push_str(&self.text[from..self.place.at]);
                    unescaped.push(self.escape()?);
                    from = self.place.at;
                }
                Some(byte) => {
                    self.place.at += 1;
                    if byte == b'\n' {
                        self.place.line += 1;
                        self.place.line_start = self.place.at;
                    }
                }
            }
        }
    }

    /// A backslash in a string, and what follows.
    fn escape(&mut self) -> Result<char, Error> {
        let start = self.place;
        let escaped = self.text[start.at + 1..].chars().next();
        self.place.at += 1 + escaped.map_or(0, char::len_utf8);
        match escaped {
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('n') => Ok('\n'),
            Some('b') => Ok('\u{8}'),
            Some('f') => Ok('\u{c}'),
            Some(c @ ('"' | '\\' | '\'')) => Ok(c),
            Some('u') => {
                let first = self.hex(start)?;
                let is_pair = (0xd800..0xdc00).contains(&first) && self.text[self.place.at..].starts_with("\\u");
                if !is_pair {
                    return char::from_u32(first).ok_or_else(|| self.error(start, "half a surrogate pair"));
                }
                self.place.at += 2;
                let second = self.hex(start)?;
                let is_low = (0xdc00..0xe000).contains(&second);
                let joined = is_low.then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00));
                joined.and_then(char::from_u32).ok_or_else(|| self.error(start, "half a surrogate pair"))
            }
            Some('0'..='7') => {
                let rest = &self.text[start.at + 1..];
                let digits = rest.bytes().take(3).take_while(|byte| matches!(byte, b'0'..=b'7')).count();
                self.place.at = start.at + 1 + digits;
                let value = u32::from_str_radix(&rest[..digits], 8).unwrap_or(0);
                char::from_u32(value).ok_or_else(|| self.error(start, "no character has this number"))
            }
            Some(c) => Err(self.error(start, format!("`\\{}` is no escape", c.escape_debug()))),
            None => Err(self.error(start, "the escape is cut off by the end of the text")),
        }
    }

    /// Four hexadecimal digits.
    fn hex(&mut self, start: Place) -> Result<u32, Error> {
        let digits = self.text.get(self.place.at..self.place.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.place.at += 4;
        value.ok_or_else(|| self.error(start, "`\\u` wants four hexadecimal digits"))
    }

    fn char(&mut self) -> Result<char, Error> {
        let start = self.place;
        self.place.at += 1;
        let Some(first) = self.text[self.place.at..].chars().next() else {
            return Err(self.error(start, "the character is cut off by the end of the text"));
        };
        self.place.at += first.len_utf8();
        // Even a bracket or a quote is a character here; the rest is as of a word.
        if first.is_whitespace() {
            return Err(self.error(start, "`\\` wants a character, and there is none"));
        }
        let word = self.word();
        if word.is_empty() {
            return Ok(first);
        }
        let whole = &self.text[start.at + 1..self.place.at];
        let named = NAMED_CHARS.iter().find(|(name, _)| *name == whole).map(|(_, c)| *c);
        let by_number = || match first {
            'u' if word.len() == 4 => u32::from_str_radix(word, 16).ok().and_then(char::from_u32),
            'o' if word.len() <= 3 => u32::from_str_radix(word, 8).ok().and_then(char::from_u32),
            _ => None,
        };
        named.or_else(by_number).ok_or_else(|| self.error(start, format!("`\\{whole}` is no character")))
    }

    fn atom(&mut self) -> Result<Kind<'a>, Error> {
        let start = self.place;
        let word = self.word();
        let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
        if unsigned.starts_with(|c: char| c.is_ascii_digit()) {
            return number(word).ok_or_else(|| self.error(start, format!("`{word}` is no number")));
        }
        match word {
            "nil" => Ok(Kind::Nil),
            "true" => Ok(Kind::Bool(true)),
            "false" => Ok(Kind::Bool(false)),
            _ => match word.strip_prefix(':') {
                Some("") => Err(self.error(start, "`:` wants a name")),
                Some(name) => Ok(Kind::Keyword(name)),
                None if word.chars().any(char::is_control) => {
                    Err(self.error(start, format!("a form is expected, not `{}`", word.escape_debug())))
                }
                None => Ok(Kind::Symbol(word)),
            },
        }
    }
}

/// A word that begins like a number; `None` when it goes on like none.
fn number(word: &str) -> Option<Kind<'_>> {
    let integer = word.strip_suffix('N').unwrap_or(word);
    if let Ok(value) = i64::from_str(integer) {
        return Some(Kind::Integer(value));
    }
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    if let Some(digits) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        let is_hex = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sign = if word.starts_with('-') { "-" } else { "" };
        let value = is_hex.then(|| i64::from_str_radix(&format!("{sign}{digits}"), 16));
        return value.map(|value| value.map_or(Kind::Number(word), Kind::Integer));
    }
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_long = is_digits(unsigned.strip_suffix('N').unwrap_or(unsigned));
    let is_ratio = || unsigned.split_once('/').is_some_and(|(over, under)| is_digits(over) && is_digits(under));
    let float = unsigned.strip_suffix('M').unwrap_or(unsigned);
    let is_float = || float.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let is_number = is_long || is_ratio() || (is_float() && f64::from_str(float).is_ok());
    is_number.then_some(Kind::Number(word))
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Value<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let form = self.form();
        if form.is_err() {
            self.place.at = self.text.len();
        }
        form.transpose()
    }
}
