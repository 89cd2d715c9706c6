//! Kafka's configuration keys: which there are, and which values each takes.
//!
//! The facts lie beside this file in `kafka-configs.tsv`, one key a line, as Kafka's own definitions print them.

use super::config_value::ConfigValue;
use super::words;
use std::sync::LazyLock;

/// Whose configuration a key belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConfigScope {
    /// server.properties of a broker or a controller.
    Broker,
    /// A topic's own.
    Topic,
}

/// One key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigKey {
    /// Whose.
    pub scope: ConfigScope,
    /// As in server.properties.
    pub name: &'static str,
    /// Kafka's type: `INT`, `LONG`, `SHORT`, `DOUBLE`, `BOOLEAN`, `STRING`, `LIST`, `CLASS`, `PASSWORD`.
    pub kind: &'static str,
    /// Kafka's default, as text; `null` for none.
    pub default: &'static str,
    /// Which values it takes, in Kafka's notation: `[0,...]`, `[1,...,9] or -1`, `[compact, delete]`; `-` for any.
    pub valid: &'static str,
    /// Of a topic's key: the broker's keys that give its default, separated by commas; `-` for none.
    pub broker_keys: &'static str,
}

static KEYS: LazyLock<Vec<ConfigKey>> = LazyLock::new(|| {
    include_str!("kafka-configs.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let scope = if columns.next()? == "topic" { ConfigScope::Topic } else { ConfigScope::Broker };
            Some(ConfigKey {
                scope,
                name: columns.next()?,
                kind: columns.next()?,
                default: columns.next()?,
                valid: columns.next()?,
                broker_keys: columns.next()?,
            })
        })
        .collect()
});

/// Keys whose values follow from the scenario itself.
const SET_BY_THE_TESTBED: &[&str] = &[
    "advertised.listeners",
    "broker.id",
    "broker.rack",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "inter.broker.listener.name",
    "listener.security.protocol.map",
    "listeners",
    "log.dir",
    "log.dirs",
    "metadata.log.dir",
    "node.id",
    "process.roles",
];

/// Every key of a scope.
pub fn config_keys(scope: ConfigScope) -> impl Iterator<Item = &'static ConfigKey> {
    KEYS.iter().filter(move |key| key.scope == scope)
}

/// What is wrong with a key: the message, and what to do.
pub(super) type Complaint = (String, String);

/// The key of that name, or why there is none.
pub(super) fn find(scope: ConfigScope, name: &str) -> Result<&'static ConfigKey, Complaint> {
    if scope == ConfigScope::Broker && SET_BY_THE_TESTBED.contains(&name) {
        let help = "leave it out: it follows from `brokers`, `controllers` and `racks`".to_string();
        return Err((format!("the testbed itself sets `{name}`"), help));
    }
    if let Some(key) = config_keys(scope).find(|key| key.name == name) {
        return Ok(key);
    }
    let shown = words::shortened(name);
    let (message, other) = match scope {
        ConfigScope::Broker => (format!("Kafka has no broker configuration `{shown}`"), ConfigScope::Topic),
        ConfigScope::Topic => (format!("Kafka has no topic configuration `{shown}`"), ConfigScope::Broker),
    };
    // The same thing often has two names, one for all topics and one for a single topic.
    if let Some(key) = config_keys(other).find(|key| key.name == name) {
        let help = match scope {
            ConfigScope::Broker if key.broker_keys != "-" => {
                let twin = key.broker_keys.split(',').next().unwrap_or_default();
                format!("that is a topic's key; for all topics set `{twin}`")
            }
            ConfigScope::Broker => "that is a topic's key; set it in the `config` of a `[[topic]]`".to_string(),
            ConfigScope::Topic => {
                let twin =
                    config_keys(ConfigScope::Topic).find(|topic| topic.broker_keys.split(',').any(|key| key == name));
                match twin {
                    Some(twin) => format!("that is a broker's key; for one topic set `{}`", twin.name),
                    None => "that is a broker's key; set it in `[cluster] config`".to_string(),
                }
            }
        };
        return Err((message, help));
    }
    let near = words::did_you_mean(name, config_keys(scope).map(|key| key.name));
    let help = if near.is_empty() {
        "keys are Kafka's own, as in server.properties".to_string()
    } else {
        near.trim_end().to_string()
    };
    Err((message, help))
}

impl ConfigKey {
    /// Why the value is not one the key takes, if it is not.
    pub(super) fn check(&self, value: &ConfigValue) -> Result<(), Complaint> {
        let text = value.to_string();
        let bad = |allowed: String| {
            Err((format!("`{}` cannot be `{}`", self.name, words::shortened(&text)), format!("allowed is {allowed}")))
        };
        let whole = |least: i64, most: i64| {
            let bounds = Bounds::of(self.valid);
            let (low, high) = (bounds.low.unwrap_or(least).max(least), bounds.high.unwrap_or(most).min(most));
            let also = bounds.also.map_or_else(String::new, |value| format!(", or {value}"));
            let number = text.trim().parse::<i64>();
            let too_large = matches!(number, Ok(number) if number > high);
            let allowed = match (bounds.low, bounds.high) {
                (Some(_), None) if !too_large => format!("a whole number from {low} up{also}"),
                _ => format!("a whole number from {low} to {high}{also}"),
            };
            match number {
                Ok(number) if (low..=high).contains(&number) || bounds.also == Some(number) => Ok(()),
                _ => bad(allowed),
            }
        };
        match self.kind {
            "INT" => whole(i64::from(i32::MIN), i64::from(i32::MAX)),
            "SHORT" => whole(i64::from(i16::MIN), i64::from(i16::MAX)),
            "LONG" => whole(i64::MIN, i64::MAX),
            "BOOLEAN" => match text.to_lowercase().as_str() {
                "true" | "false" => Ok(()),
                _ => bad("`true` or `false`".to_string()),
            },
            "DOUBLE" => self.check_fraction(&text).or_else(bad),
            _ => self.check_words(&text).or_else(bad),
        }
    }

    /// `[0,...,1]` and `[0,...,0.5]`, compared as decimals of nine places.
    fn check_fraction(&self, text: &str) -> Result<(), String> {
        const PLACES: u64 = 1_000_000_000;
        let allowed = match self.valid.trim_start_matches('[').trim_end_matches(']').split_once(",...,") {
            Some((low, high)) => format!("a number from {low} to {high}"),
            None => "a number".to_string(),
        };
        let Some(number) = super::quantity::scaled_decimal(text.trim(), PLACES) else {
            return if self.valid == "-" && text.trim().parse::<f64>().is_ok() { Ok(()) } else { Err(allowed) };
        };
        let most = self.valid.trim_end_matches(']').rsplit_once(",...,").map(|(_, high)| high);
        match most.and_then(|high| super::quantity::scaled_decimal(high, PLACES)) {
            Some(most) if number > most => Err(allowed),
            _ => Ok(()),
        }
    }

    /// `[compact, delete]` and its kin; a list may hold several of the words.
    fn check_words(&self, text: &str) -> Result<(), String> {
        let (ignore_case, words) = match self.valid.strip_prefix("(case insensitive) ") {
            Some(words) => (true, words),
            None => (false, self.valid),
        };
        if words.starts_with("non-") {
            return if text.trim().is_empty() { Err(format!("a {}", words)) } else { Ok(()) };
        }
        let Some(words) = words.strip_prefix('[').and_then(|words| words.strip_suffix(']')) else {
            return Ok(());
        };
        if words.contains(':') || words.contains("...") {
            return Ok(());
        }
        let allowed: Vec<&str> = words.split(", ").collect();
        let known =
            |item: &str| allowed.iter().any(|word| *word == item || (ignore_case && word.eq_ignore_ascii_case(item)));
        let items: Vec<&str> = if self.kind == "LIST" { text.split(',').map(str::trim).collect() } else { vec![text] };
        match items.iter().find(|item| !known(item)) {
            None => Ok(()),
            Some(item) => {
                let near = words::closest(item, allowed.iter().copied());
                Err(format!(
                    "{}{}",
                    words::list(&allowed),
                    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
                ))
            }
        }
    }
}

/// `[1,...]`, `[1,...,9]`, `[1,...,9] or -1`: ends inclusive.
struct Bounds {
    low: Option<i64>,
    high: Option<i64>,
    also: Option<i64>,
}

impl Bounds {
    fn of(valid: &str) -> Bounds {
        let (range, also) = match valid.split_once(" or ") {
            Some((range, also)) => (range, also.parse().ok()),
            None => (valid, None),
        };
        let inner = range.trim_start_matches('[').trim_end_matches(']');
        let (low, high) = inner.split_once(",...").unwrap_or(("", ""));
        Bounds { low: low.parse().ok(), high: high.trim_start_matches(',').parse().ok(), also }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scope: ConfigScope, name: &str, value: impl Into<ConfigValue>) -> Result<(), Complaint> {
        find(scope, name)?.check(&value.into())
    }

    #[test]
    fn every_key_takes_its_own_default() {
        assert!(KEYS.len() > 350, "{}", KEYS.len());
        for key in KEYS.iter().filter(|key| !["null", "(required)", "\"\"", ""].contains(&key.default)) {
            // Kafka itself ships this one default outside the range it prints: -1 stands for "by the codec".
            assert_eq!(key.check(&key.default.into()), Ok(()), "{key:?}");
        }
    }

    #[test]
    fn ranges_and_words_are_kafkas() {
        use ConfigScope::{Broker, Topic};
        assert_eq!(check(Broker, "min.insync.replicas", 2), Ok(()));
        assert_eq!(check(Broker, "min.insync.replicas", "2"), Ok(()));
        assert!(check(Broker, "min.insync.replicas", 0).unwrap_err().1.contains("from 1 up"));
        assert!(check(Broker, "min.insync.replicas", true).is_err());
        assert!(check(Broker, "num.io.threads", i64::from(i32::MAX) + 1).is_err());
        assert_eq!(check(Broker, "compression.gzip.level", -1), Ok(()));
        assert!(check(Broker, "compression.gzip.level", 0).is_err());
        assert_eq!(check(Topic, "cleanup.policy", "compact,delete"), Ok(()));
        assert!(check(Topic, "cleanup.policy", "compct").unwrap_err().1.contains("did you mean `compact`"));
        assert!(check(Topic, "min.cleanable.dirty.ratio", "1.5").is_err());
        assert_eq!(check(Topic, "min.cleanable.dirty.ratio", "0.25"), Ok(()));
        assert!(check(Topic, "unclean.leader.election.enable", "yes").is_err());
    }

    #[test]
    fn a_key_of_the_other_scope_is_named_in_ours() {
        let (_, help) = find(ConfigScope::Broker, "retention.ms").unwrap_err();
        assert!(help.contains("log.retention.ms"), "{help}");
        let (_, help) = find(ConfigScope::Topic, "log.flush.interval.messages").unwrap_err();
        assert!(help.contains("`flush.messages`"), "{help}");
        let (_, help) = find(ConfigScope::Broker, "min.insync.replica").unwrap_err();
        assert!(help.contains("`min.insync.replicas`"), "{help}");
        assert!(find(ConfigScope::Broker, "node.id").is_err());
    }
}
