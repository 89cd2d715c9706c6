//! Forms out of a text, one after the other.

use super::words::is_space;
use super::{DEPTH, Kind, Value};
use std::fmt;

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
pub(super) struct Place {
    /// In bytes.
    pub(super) at: usize,
    pub(super) line: u32,
    /// Where its line begins, in bytes.
    pub(super) line_start: usize,
}

/// What may be open.
#[derive(Clone, Copy)]
enum What<'a> {
    List,
    Vector,
    Set,
    /// Keys and values in turn.
    Map,
    /// Waits for one form.
    Tag(&'a str),
    /// Swallows one form.
    Discard,
}

impl What<'_> {
    fn closed_by(self) -> Option<u8> {
        match self {
            What::List => Some(b')'),
            What::Vector => Some(b']'),
            What::Set | What::Map => Some(b'}'),
            What::Tag(_) | What::Discard => None,
        }
    }

    fn name(self) -> String {
        match self {
            What::List => "the list".to_owned(),
            What::Vector => "the vector".to_owned(),
            What::Set => "the set".to_owned(),
            What::Map => "the map".to_owned(),
            What::Tag(tag) => format!("the tag #{tag}"),
            What::Discard => "the discard #_".to_owned(),
        }
    }
}

/// What was opened and waits for its end.
#[derive(Clone, Copy)]
struct Open<'a> {
    what: What<'a>,
    place: Place,
    /// Where its items begin in [`Reader::items`].
    first: usize,
    /// It is looked through and comes out empty: of its items only the last is kept, until the next.
    is_skimmed: bool,
    /// So far it has an odd number of items, if it is no list or vector: in a map, a key without its value.
    is_odd: bool,
}

/// Where a form begins: from there it can be read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    /// In bytes.
    pub(crate) at: usize,
    /// From 1.
    pub(crate) line: u32,
}

/// Gives the forms of a text one after the other. After an error it gives nothing more.
pub struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) place: Place,
    /// The outermost first. Empty between two forms, or the collection whose items are given.
    open: Vec<Open<'a>>,
    /// The finished items of all that is open.
    items: Vec<Value<'a>>,
    mode: Mode,
}

/// What a reader makes of a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Its forms.
    Forms,
    /// See [`Reader::of_operations`].
    Operations,
}

impl<'a> Reader<'a> {
    /// A reader at the beginning of `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let place = Place { at, line: 1, line_start: at };
        Reader { text, place, open: Vec::new(), items: Vec::new(), mode: Mode::Forms }
    }

    /// The same, of a text that begins in that line of a longer one.
    pub(crate) fn at_line(text: &'a str, line: u32) -> Self {
        let mut reader = Reader::new(text);
        reader.place.line = line;
        reader
    }

    /// A reader at the beginning of `text`, to find operations in a long text: of an outermost list or vector it gives the items,
    /// each as soon as it is read; and where a map that it gives has a collection under `:value`, that is empty. Errors are
    /// the same.
    pub(crate) fn of_operations(text: &'a str) -> Self {
        Reader { mode: Mode::Operations, ..Reader::new(text) }
    }

    /// The next form, and where it begins; `None` at the end of the text.
    ///
    /// # Errors
    /// What comes next is no form.
    pub(crate) fn next_form(&mut self) -> Result<Option<(Source, Value<'a>)>, Error> {
        self.form().map_err(|error| {
            self.place.at = self.text.len();
            self.open.clear();
            self.items.clear();
            *error
        })
    }

    /// The form that begins at `source`, again.
    ///
    /// # Panics
    /// No form begins there.
    pub(crate) fn again(&mut self, source: Source) -> Value<'a> {
        let Source { at, line } = source;
        self.place = Place { at, line, line_start: at };
        match self.form() {
            Ok(Some((_, value))) => value,
            other => panic!("line {line} was a form, and now it is {other:?}"),
        }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.place.at).copied()
    }

    /// Boxed: a form passes through many hands, and an error is larger than it is.
    pub(super) fn error(&self, place: Place, what: impl Into<String>) -> Box<Error> {
        let before = &self.text[place.line_start..place.at];
        Box::new(Error { line: place.line, column: before.chars().count() as u32 + 1, what: what.into() })
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

    fn form(&mut self) -> Result<Option<(Source, Value<'a>)>, Box<Error>> {
        loop {
            self.skip_space();
            let start = self.place;
            let Some(byte) = self.peek() else {
                return match self.open.pop() {
                    None => Ok(None),
                    Some(Open { what, place, .. }) => {
                        let name = what.name();
                        Err(self.error(place, format!("{name} that begins here is cut off by the end of the text")))
                    }
                };
            };
            let opened = match byte {
                b'(' => Some(What::List),
                b'[' => Some(What::Vector),
                b'{' => Some(What::Map),
                b'#' => self.dispatch()?,
                _ => None,
            };
            if let Some(what) = opened {
                if self.place.at == start.at {
                    self.place.at += 1;
                }
                if self.open.len() == DEPTH {
                    return Err(self.error(start, format!("this is nested deeper than {DEPTH}")));
                }
                let (first, is_skimmed) = (self.items.len(), self.skims());
                self.open.push(Open { what, place: start, first, is_skimmed, is_odd: false });
                if matches!(what, What::List | What::Vector) && !self.gives_items() {
                    self.integers(is_skimmed);
                }
                continue;
            }
            let (begins, kind) = match byte {
                b')' | b']' | b'}' => match self.close()? {
                    Some(closed) => closed,
                    None => continue,
                },
                b'"' => (start, Kind::Text(self.string()?)),
                b'\\' => (start, Kind::Char(self.char()?)),
                b'#' => (start, Kind::Number(self.word())),
                _ => (start, self.atom()?),
            };
            if let Some(form) = self.hand_over(begins, kind) {
                return Ok(Some(form));
            }
        }
    }

    /// Whether what is open is given item by item.
    fn gives_items(&self) -> bool {
        let [open] = self.open[..] else { return false };
        self.mode == Mode::Operations && matches!(open.what, What::List | What::Vector)
    }

    /// Whether what opens here is only looked through.
    fn skims(&self) -> bool {
        let Some((inner, outer)) = self.open.split_last().filter(|_| self.mode == Mode::Operations) else {
            return false;
        };
        if inner.is_skimmed {
            // But an error tells a key as it is.
            return !matches!(inner.what, What::Map) || inner.is_odd;
        }
        let is_value = || self.items.last().and_then(Value::keyword) == Some("value");
        let is_given = |(at, open): (usize, &Open<'a>)| match open.what {
            What::Tag(_) => true,
            What::List | What::Vector => at == 0,
            What::Set | What::Map | What::Discard => false,
        };
        matches!(inner.what, What::Map) && inner.is_odd && is_value() && outer.iter().enumerate().all(is_given)
    }

    /// The integers that a list or a vector begins with: in a long history, nearly all there is.
    fn integers(&mut self, is_skimmed: bool) {
        let line = self.place.line;
        while let Some(value) = self.plain_integer() {
            if !is_skimmed {
                self.items.push(Value { line, kind: Kind::Integer(value) });
            }
            while self.peek() == Some(b' ') {
                self.place.at += 1;
            }
        }
    }

    /// Hands a finished form to whatever waits for it; gives it back when nothing does.
    fn hand_over(&mut self, mut begins: Place, mut kind: Kind<'a>) -> Option<(Source, Value<'a>)> {
        while let depth @ 1.. = self.open.len() {
            if self.gives_items() {
                break;
            }
            let open = &mut self.open[depth - 1];
            match open.what {
                What::List | What::Vector | What::Set | What::Map => {
                    open.is_odd = !open.is_odd;
                    if open.is_skimmed {
                        self.items.truncate(open.first);
                    }
                    self.items.push(Value { line: begins.line, kind });
                    return None;
                }
                What::Tag(tag) => {
                    begins = open.place;
                    if !matches!(kind, Kind::Map(_)) || tag.starts_with(':') {
                        kind = Kind::Tagged(tag, Box::new(Value { line: begins.line, kind }));
                    }
                    self.open.pop();
                }
                What::Discard => {
                    self.open.pop();
                    return None;
                }
            }
        }
        let line = begins.line;
        Some((Source { at: begins.at, line }, Value { line, kind }))
    }

    /// What a `#` begins; `None` for `##Inf` and its like, which is a number and still to be read.
    fn dispatch(&mut self) -> Result<Option<What<'a>>, Box<Error>> {
        let start = self.place;
        let next = self.text.as_bytes().get(start.at + 1).copied();
        match next {
            Some(b'{') => {
                self.place.at += 2;
                Ok(Some(What::Set))
            }
            Some(b'_') => {
                self.place.at += 2;
                Ok(Some(What::Discard))
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
                Ok(Some(What::Tag(self.word())))
            }
            _ => {
                self.place.at += 1;
                let found = self.found();
                Err(self.error(start, format!("after `#` a tag, `{{` or `_` is expected, not {found}")))
            }
        }
    }

    /// The end of a collection: where it began and what it is; `None` when its items were given one by one.
    fn close(&mut self) -> Result<Option<(Place, Kind<'a>)>, Box<Error>> {
        let here = self.place;
        let found = self.peek().unwrap_or_default();
        let gives_items = self.gives_items();
        let Some(Open { what, place: opened, first, is_skimmed, is_odd }) = self.open.pop() else {
            return Err(self.error(here, format!("`{}` closes nothing", char::from(found))));
        };
        let since = || {
            let since = self.error(opened, "");
            format!("{} of line {}, column {}", what.name(), since.line, since.column)
        };
        match what.closed_by() {
            Some(wanted) if wanted == found => {}
            Some(wanted) => {
                let (wanted, found, since) = (char::from(wanted), char::from(found), since());
                return Err(self.error(here, format!("`{wanted}` is expected, to close {since}, not `{found}`")));
            }
            None => return Err(self.error(here, format!("{} wants a form, and there is none", since()))),
        }
        if matches!(what, What::Map) && is_odd {
            let key = self.items.last().map(Value::to_string).unwrap_or_default();
            return Err(self.error(here, format!("key {key} of {} has no value", since())));
        }
        self.place.at += 1;
        if gives_items {
            return Ok(None);
        }
        if is_skimmed {
            self.items.truncate(first);
        }
        // What is kept has just the size it needs; what is read into serves all forms.
        let mut items = self.items.drain(first..);
        let kind = match what {
            What::List => Kind::List(items.collect()),
            What::Vector => Kind::Vector(items.collect()),
            What::Set => Kind::Set(items.collect()),
            What::Map => {
                let mut pairs = Vec::with_capacity(items.len() / 2);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Kind::Map(pairs.into())
            }
            What::Tag(_) | What::Discard => Kind::Nil,
        };
        Ok(Some((opened, kind)))
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Value<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_form().map(|form| form.map(|(_, value)| value)).transpose()
    }
}
