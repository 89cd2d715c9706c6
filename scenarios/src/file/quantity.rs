//! The small values of the grammar that are written as text: durations, ranges, rates, sizes, proportions.
//!
//! Each reads one or more spellings and prints one, which reads back to the same value. None of them holds a float:
//! a decimal fraction is read digit by digit into whole nanoseconds, bytes or millionths.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Gives a type that is written as text its serialised form and its JSON schema.
macro_rules! written_as_text {
    ($type:ident, $pattern:expr, $description:expr) => {
        written_as_text!($type, $pattern, $description, "string");
    };
    ($type:ident, $pattern:expr, $description:expr, $kinds:tt) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $kinds, "pattern": $pattern, "description": $description })
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(super) use written_as_text;

/// Splits `12.5ms` into its number and its unit; both parts trimmed, neither checked.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (text[..end].trim(), text[end..].trim())
}

/// Reads a decimal number times `scale` without a float: `0.25` at scale 1000 is 250. `None` when it is no number, too
/// large, or finer than the scale can hold.
pub(super) fn scaled_decimal(digits: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits_only(whole) || !digits_only(fraction) || fraction.len() > 12
    {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut value = whole.checked_mul(u128::from(scale))?;
    if !fraction.is_empty() {
        let places = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = fraction.parse::<u128>().ok()? * u128::from(scale);
        if part % places != 0 {
            return None;
        }
        value = value.checked_add(part / places)?;
    }
    u64::try_from(value).ok()
}

/// A length of simulated time. At most ten days, so that sums of a few never overflow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SimDuration(pub Duration);

const DURATION_UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl SimDuration {
    /// The longest duration the grammar accepts.
    pub const MAX: SimDuration = SimDuration(Duration::from_secs(10 * 24 * 3600));
    /// No time at all.
    pub const ZERO: SimDuration = SimDuration(Duration::ZERO);

    /// `ms` milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        SimDuration(Duration::from_millis(ms))
    }

    /// `seconds` seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        SimDuration(Duration::from_secs(seconds))
    }

    /// In nanoseconds.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// `nanos` nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        SimDuration(Duration::from_nanos(nanos))
    }
}

impl FromStr for SimDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "a duration is a number and a unit: `250ms`, `1.5s`; units are ns, us, ms, s, m, h".to_string();
        let (digits, unit) = split_unit(text.trim());
        if digits.is_empty() {
            return Err(shape());
        }
        let scale = match DURATION_UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, scale)) => *scale,
            None if unit.is_empty() => return Err(format!("a unit is missing: {digits}ms, {digits}s or {digits}m?")),
            None => return Err(shape()),
        };
        let nanos = scaled_decimal(digits, scale).ok_or_else(shape)?;
        let duration = SimDuration::from_nanos(nanos);
        if duration > SimDuration::MAX {
            return Err("a duration is at most 240h".to_string());
        }
        Ok(duration)
    }
}

impl fmt::Display for SimDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
            if nanos.is_multiple_of(scale) {
                return write!(f, "{}{unit}", nanos / scale);
            }
        }
        write!(f, "{nanos}ns")
    }
}

impl From<Duration> for SimDuration {
    fn from(duration: Duration) -> Self {
        SimDuration(duration)
    }
}

impl From<SimDuration> for Duration {
    fn from(duration: SimDuration) -> Self {
        duration.0
    }
}

const DURATION: &str = r"\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h)";

written_as_text!(SimDuration, format!("^{DURATION}$"), "A length of simulated time: `250ms`, `1.5s`, `2m`.");

/// From `min` to `max`, both inclusive. One value is the range from it to itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DurationRange {
    /// The least, inclusive.
    pub min: SimDuration,
    /// The most, inclusive; never less than `min`.
    pub max: SimDuration,
}

impl DurationRange {
    /// From `min` to `max` milliseconds.
    #[must_use]
    pub const fn from_millis(min: u64, max: u64) -> Self {
        DurationRange { min: SimDuration::from_millis(min), max: SimDuration::from_millis(max) }
    }
}

impl From<SimDuration> for DurationRange {
    fn from(only: SimDuration) -> Self {
        DurationRange { min: only, max: only }
    }
}

/// Reads `low..high` or one value, and refuses a range that runs backwards.
fn read_range<T: FromStr<Err = String> + PartialOrd + Copy>(text: &str) -> Result<(T, T), String> {
    let (low, high) = match text.split_once("..") {
        None => (text.parse::<T>()?, text.parse::<T>()?),
        Some((low, high)) => (low.parse::<T>()?, high.parse::<T>()?),
    };
    if high < low {
        return Err("the range runs backwards: the lower end comes first".to_string());
    }
    Ok((low, high))
}

impl FromStr for DurationRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = read_range(text)?;
        Ok(DurationRange { min, max })
    }
}

impl fmt::Display for DurationRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

written_as_text!(
    DurationRange,
    format!(r"^{DURATION}(\s*\.\.\s*{DURATION})?$"),
    "A duration or a range of durations, ends included: `5ms`, `0.2ms..2ms`."
);

/// A duration with a sign, in nanoseconds: how far a clock is moved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SignedDuration {
    /// Nanoseconds; negative is back in time. No further than ten days either way.
    pub nanos: i64,
}

impl FromStr for SignedDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let nanos = i64::try_from(rest.parse::<SimDuration>()?.nanos()).map_err(|_| "too long".to_string())?;
        Ok(SignedDuration { nanos: if negative { -nanos } else { nanos } })
    }
}

impl fmt::Display for SignedDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        SimDuration::from_nanos(self.nanos.unsigned_abs()).fmt(f)
    }
}

written_as_text!(SignedDuration, format!("^[+-]?{DURATION}$"), "A duration with a sign: `-5s`, `250ms`.");

/// From `min` to `max`, both inclusive, each with a sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SignedRange {
    /// The least, inclusive.
    pub min: SignedDuration,
    /// The most, inclusive; never less than `min`.
    pub max: SignedDuration,
}

impl FromStr for SignedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = read_range(text)?;
        Ok(SignedRange { min, max })
    }
}

impl fmt::Display for SignedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

written_as_text!(
    SignedRange,
    format!(r"^[+-]?{DURATION}(\s*\.\.\s*[+-]?{DURATION})?$"),
    "A signed duration or a range of them, ends included: `-500ms..500ms`."
);

/// So many per so long: `100/s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// In which time, more than none.
    pub per: SimDuration,
}

impl Rate {
    /// `count` a second.
    #[must_use]
    pub const fn per_second(count: u32) -> Self {
        Rate { count, per: SimDuration::from_secs(1) }
    }

    /// The time from one to the next, rounded down to whole nanoseconds, at least one.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_nanos((self.per.nanos() / u64::from(self.count.max(1))).max(1))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "a rate is a whole number per unit of time: `100/s`, `30/m`; units are s, m, h".to_string();
        let (count, unit) = text.split_once('/').ok_or_else(shape)?;
        let count: u32 = count.trim().parse().map_err(|_| shape())?;
        let per = match unit.trim() {
            "s" => SimDuration::from_secs(1),
            "m" => SimDuration::from_secs(60),
            "h" => SimDuration::from_secs(3600),
            _ => return Err(shape()),
        };
        if count == 0 || count > 1_000_000 {
            return Err("a rate is from 1 to 1000000; leave the workload out for no requests at all".to_string());
        }
        Ok(Rate { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.0.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

written_as_text!(Rate, r"^\d+\s*/\s*[smh]$", "So many per second, minute or hour: `100/s`.");

/// A number of bytes: `512`, `64KiB`, `1GB`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

const BYTE_UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape =
            || "a size is a number of bytes: `512`, `64KiB`, `1MB`; units are B, KB, MB, GB, KiB, MiB, GiB".to_string();
        let (digits, unit) = split_unit(text.trim());
        let scale = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?.1;
        let bytes = scaled_decimal(digits, scale).ok_or_else(shape)?;
        if bytes > 1 << 50 {
            return Err("a size is at most 1048576GiB".to_string());
        }
        Ok(Bytes(bytes))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, scale) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1u64 << 10)] {
            if self.0 != 0 && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        self.0.fmt(f)
    }
}

const SIZE: &str = r"\d+(\.\d+)?\s*([KMG]i?)?B?";

written_as_text!(Bytes, format!("^{SIZE}$"), "A number of bytes: `512`, `64KiB`, `1GB`.", ["string", "integer"]);

/// From `min` to `max` bytes, both inclusive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteRange {
    /// The least, inclusive.
    pub min: Bytes,
    /// The most, inclusive; never less than `min`.
    pub max: Bytes,
}

impl FromStr for ByteRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = read_range(text)?;
        Ok(ByteRange { min, max })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { self.min.fmt(f) } else { write!(f, "{}..{}", self.min, self.max) }
    }
}

written_as_text!(
    ByteRange,
    format!(r"^{SIZE}(\s*\.\.\s*{SIZE})?$"),
    "A size or a range of sizes, ends included: `16..512`, `1KiB`.",
    ["string", "integer"]
);

/// Bytes per second: `10MB/s`, `1Gbit/s`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate {
    /// Never zero.
    pub bytes_per_second: u64,
}

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "a bandwidth is bytes or bits per second: `10MB/s`, `64KiB/s`, `1Gbit/s`".to_string();
        let per_second = text.trim().strip_suffix("/s").ok_or_else(shape)?.trim_end();
        let bytes_per_second = match per_second.strip_suffix("bit") {
            Some(bits) => {
                let (digits, unit) = split_unit(bits);
                let scale = [("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000u64)];
                let scale = scale.iter().find(|(name, _)| *name == unit).ok_or_else(shape)?.1;
                scaled_decimal(digits, scale).ok_or_else(shape)? / 8
            }
            None => per_second.parse::<Bytes>().map_err(|_| shape())?.0,
        };
        if bytes_per_second == 0 {
            return Err("a bandwidth is at least one byte a second; cut a link with a partition".to_string());
        }
        Ok(ByteRate { bytes_per_second })
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", Bytes(self.bytes_per_second))
    }
}

written_as_text!(
    ByteRate,
    r"^\d+(\.\d+)?\s*(([KMG]i?)?B?|[kMG]?bit)/s$",
    "Bytes or bits per second: `10MB/s`, `1Gbit/s`."
);

/// A part of the whole, in millionths: `5%`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Proportion {
    /// From 0 to 1,000,000.
    pub ppm: u32,
}

impl Proportion {
    /// `percent` of a hundred.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        Proportion { ppm: percent * 10_000 }
    }
}

impl FromStr for Proportion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "a proportion is from `0%` to `100%`, in steps of `0.0001%`".to_string();
        let digits = text.trim().strip_suffix('%').ok_or_else(shape)?.trim();
        let ppm = scaled_decimal(digits, 10_000).ok_or_else(shape)?;
        if ppm > 1_000_000 {
            return Err(shape());
        }
        Ok(Proportion { ppm: u32::try_from(ppm).map_err(|_| shape())? })
    }
}

impl fmt::Display for Proportion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:04}", self.ppm % 10_000);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() {
            write!(f, "{}%", self.ppm / 10_000)
        } else {
            write!(f, "{}.{fraction}%", self.ppm / 10_000)
        }
    }
}

written_as_text!(Proportion, r"^\d+(\.\d+)?\s*%$", "A part of the whole: `5%`, `0.1%`, 0.05.", ["string", "number"]);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_fraction_of_a_unit_is_exact() {
        assert_eq!("0.2ms".parse::<SimDuration>().unwrap().nanos(), 200_000);
        assert_eq!("1.5s".parse::<SimDuration>().unwrap(), SimDuration::from_millis(1500));
        assert_eq!("0.5%".parse::<Proportion>().unwrap().ppm, 5_000);
        assert_eq!("1Gbit/s".parse::<ByteRate>().unwrap().bytes_per_second, 125_000_000);
        assert_eq!("1.5KiB".parse::<Bytes>().unwrap(), Bytes(1536));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in
            ["", "s", "5", "5 parsecs", "-1s", "1..2s", "0.0000000001s", "99999999999999999999s", "300h", "1.2.3s"]
        {
            assert!(text.parse::<SimDuration>().is_err(), "{text}");
        }
        for text in ["2s..1s", "1s..", "..1s", "1s...2s"] {
            assert!(text.parse::<DurationRange>().is_err(), "{text}");
        }
        for text in ["100", "0/s", "1.5/s", "10/y", "-1/s", "9999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        for text in ["101%", "5", "-1%", "0.00001%"] {
            assert!(text.parse::<Proportion>().is_err(), "{text}");
        }
        for text in ["12XB", "KiB", "-3", "512..16"] {
            assert!(text.parse::<ByteRange>().is_err(), "{text}");
        }
        assert!("0/s".parse::<ByteRate>().is_err());
    }

    proptest! {
        #[test]
        fn a_quantity_reads_back_what_it_prints(a in 0u64..1 << 49, b in 0u64..1 << 49, ppm in 0u32..=1_000_000) {
            let (low, high) = (a.min(b), a.max(b));
            let range = DurationRange { min: SimDuration::from_nanos(low), max: SimDuration::from_nanos(high) };
            prop_assert_eq!(range.to_string().parse::<DurationRange>(), Ok(range));
            let signed = SignedDuration { nanos: low as i64 - high as i64 };
            prop_assert_eq!(signed.to_string().parse::<SignedDuration>(), Ok(signed));
            let bytes = ByteRange { min: Bytes(low), max: Bytes(high) };
            prop_assert_eq!(bytes.to_string().parse::<ByteRange>(), Ok(bytes));
            let rate = ByteRate { bytes_per_second: low + 1 };
            prop_assert_eq!(rate.to_string().parse::<ByteRate>(), Ok(rate));
            prop_assert_eq!(Proportion { ppm }.to_string().parse::<Proportion>(), Ok(Proportion { ppm }));
        }

        #[test]
        fn no_text_makes_a_quantity_panic(text in "\\PC{0,20}") {
            let _ = text.parse::<DurationRange>();
            let _ = text.parse::<SignedRange>();
            let _ = text.parse::<Rate>();
            let _ = text.parse::<ByteRange>();
            let _ = text.parse::<ByteRate>();
            let _ = text.parse::<Proportion>();
        }
    }
}
