//! Words, strings and characters of EDN: what has nothing inside.

use super::reader::{Error, Place, Reader};
use super::{Kind, NAMED_CHARS};
use std::borrow::Cow;
use std::str::FromStr;

/// What a byte is to whoever looks for the end of a word, by byte.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let ending = b" \t\n\x0b\x0c\r,()[]{}\";";
    let mut at = 0;
    while at < ending.len() {
        ends[ending[at] as usize] = true;
        at += 1;
    }
    ends
};

pub(super) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b',' || byte == 0x0b
}

/// Digits of which no number is too large for 64 bits.
const SAFE_DIGITS: usize = 18;

impl<'a> Reader<'a> {
    /// The bytes up to the next one that ends a word. `#` and `'` may stand inside.
    pub(super) fn word(&mut self) -> &'a str {
        let rest = &self.text[self.place.at..];
        let length = rest.bytes().position(|byte| ENDS[usize::from(byte)]).unwrap_or(rest.len());
        self.place.at += length;
        &rest[..length]
    }

    /// The integer that stands here in plain digits, as nearly all do; `None` for any other word.
    pub(super) fn plain_integer(&mut self) -> Option<i64> {
        let rest = &self.text.as_bytes()[self.place.at..];
        let is_negative = rest.first() == Some(&b'-');
        let digits = &rest[usize::from(is_negative)..];
        let mut value = 0;
        let mut length = 0;
        while let Some(digit @ b'0'..=b'9') = digits.get(length) {
            if length == SAFE_DIGITS {
                return None;
            }
            value = value * 10 + i64::from(digit - b'0');
            length += 1;
        }
        let is_whole = length > 0 && digits.get(length).is_none_or(|byte| ENDS[usize::from(*byte)]);
        if !is_whole {
            return None;
        }
        self.place.at += usize::from(is_negative) + length;
        Some(if is_negative { -value } else { value })
    }

    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, Box<Error>> {
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
    fn escape(&mut self) -> Result<char, Box<Error>> {
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
    fn hex(&mut self, start: Place) -> Result<u32, Box<Error>> {
        let digits = self.text.get(self.place.at..self.place.at + 4);
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let value = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.place.at += 4;
        value.ok_or_else(|| self.error(start, "`\\u` wants four hexadecimal digits"))
    }

    pub(super) fn char(&mut self) -> Result<char, Box<Error>> {
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

    pub(super) fn atom(&mut self) -> Result<Kind<'a>, Box<Error>> {
        if let Some(value) = self.plain_integer() {
            return Ok(Kind::Integer(value));
        }
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
