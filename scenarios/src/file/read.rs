//! From the text of a file to a [`Scenario`], or to every error in it.

use super::config_value::ConfigValue;
use super::diagnostics::{Diagnostic, DiagnosticKind, Diagnostics};
use super::kafka_configs::{self, ConfigScope};
use super::quantity::{Bytes, Proportion, SimDuration};
use super::read_action::{read_nemesis, read_step};
use super::read_workload::read_workload;
use super::references::References;
use super::scenario::*;
use super::table::{Errors, Fields, MAX_ERRORS, Value};
use super::words;
use std::ops::Range;
use std::str::FromStr;
use toml::de::{DeTable, DeValue};

/// A file longer than this is no scenario.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Reads a scenario. `file` is how messages call it.
///
/// # Errors
///
/// Every error in the file at once, each with its place.
pub fn parse(file: &str, text: &str) -> Result<Scenario, Diagnostics> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; a scenario has at most {MAX_FILE_BYTES}", text.len());
        return Err(Diagnostics::new(file, "", vec![Diagnostic::new(DiagnosticKind::Syntax, None, message)]));
    }
    let (document, syntax) = DeTable::parse_recoverable(text);
    let errors = Errors::default();
    let scenario = read_scenario(Fields::of_document(&document, &errors));
    let mut errors = errors.into_vec();
    if !syntax.is_empty() {
        // What a broken line was meant to say is not known, so that nothing is missing and no name is wrong for certain;
        // nor is anything on the broken lines themselves.
        let broken: Vec<Range<usize>> =
            syntax.iter().take(MAX_ERRORS).filter_map(|error| Some(line_of(text, error.span()?))).collect();
        let on_broken_line =
            |span: &Range<usize>| broken.iter().any(|line| span.start <= line.end && span.end >= line.start);
        errors.retain(|error| error.kind == DiagnosticKind::Shape && !error.span.as_ref().is_some_and(on_broken_line));
        errors.extend(syntax.iter().take(MAX_ERRORS).map(|error| {
            let message = words::shortened(error.message().lines().next().unwrap_or("this is no TOML"));
            let help = error.message().lines().nth(1).unwrap_or_default().to_string();
            Diagnostic::new(DiagnosticKind::Syntax, error.span(), format!("this is no TOML: {message}")).help(help)
        }));
    }
    if errors.is_empty() { Ok(scenario) } else { Err(Diagnostics::new(file, text, errors)) }
}

/// Reads a scenario from the bytes of a file, which may be anything.
///
/// # Errors
///
/// As [`parse`]; also when the bytes are no UTF-8.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Scenario, Diagnostics> {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            let message = format!("the file is no text: byte {} (line {line}) is no UTF-8", error.valid_up_to());
            let error =
                Diagnostic::new(DiagnosticKind::Syntax, None, message).help("a scenario is a TOML file in UTF-8");
            Err(Diagnostics::new(file, "", vec![error]))
        }
    }
}

impl FromStr for Scenario {
    type Err = Diagnostics;

    fn from_str(text: &str) -> Result<Self, Diagnostics> {
        parse("scenario", text)
    }
}

fn line_of(text: &str, span: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (span.start.min(text.len()), span.end.min(text.len()));
    let bytes = text.as_bytes();
    while start > 0 && bytes[start - 1] != b'\n' {
        start -= 1;
    }
    while end < bytes.len() && bytes[end] != b'\n' {
        end += 1;
    }
    start..end
}

fn read_scenario(mut fields: Fields<'_>) -> Scenario {
    let references = References::default();
    let name = fields.need("name", "give it a name: `name = \"leader-crash\"`").and_then(|value| read_name(&value));
    let question = fields.or("question", String::new(), |value| value.text().map(str::to_string));
    let tags = fields.or("tags", Vec::new(), |value| {
        let items = value.list("words")?;
        items.iter().map(read_name).collect()
    });
    let cluster_value = fields.get("cluster");
    let cluster_config = cluster_value.as_ref().and_then(|value| {
        let mut cluster = value.table("`[cluster]`".to_string())?;
        cluster.get("config")
    });
    let cluster = cluster_value.as_ref().and_then(read_cluster).unwrap_or_default();
    let topic_values = fields.get("topic").map(|value| value.tables()).unwrap_or_default();
    let mut topics = Vec::new();
    for value in &topic_values {
        let Some(mut topic_fields) = value.table("`[[topic]]`".to_string()) else {
            continue;
        };
        if let Some(topic) = read_topic(&mut topic_fields) {
            check_topic(&topic, &mut topic_fields, &topics, &cluster, cluster_config.as_ref());
            references.topics.borrow_mut().push(topic.clone());
            topics.push(topic);
        }
        topic_fields.finish();
    }
    let network = fields.get("network").and_then(|value| read_network(&value)).unwrap_or_default();
    let disk = fields.get("disk").and_then(|value| read_disk(&value)).unwrap_or_default();
    let run = fields.get("run").and_then(|value| read_run(&value)).unwrap_or_default();
    let workload_values = fields.get("workload").map(|value| value.tables()).unwrap_or_default();
    let workloads = workload_values.iter().filter_map(|value| read_workload(value, &references)).collect();
    let step_values = fields.get("step").map(|value| value.tables()).unwrap_or_default();
    let steps = step_values.iter().filter_map(|value| read_step(value, &run, &references)).collect::<Vec<_>>();
    let nemesis_values = fields.get("nemesis").map(|value| value.tables()).unwrap_or_default();
    let nemesis = nemesis_values.iter().filter_map(|value| read_nemesis(value, &run, &references)).collect();
    let expect = fields.get("expect").and_then(|value| read_expect(&value)).unwrap_or_default();
    for step in &steps {
        if let super::action::Action::AddPartitions(more) = &step.action {
            let mut topics = references.topics.borrow_mut();
            if let Some(topic) = topics.iter_mut().find(|topic| topic.name == more.topic) {
                topic.partitions = topic.partitions.saturating_add(more.count);
            }
        }
    }
    references.check(&cluster);
    fields.finish();
    Scenario {
        name: name.unwrap_or_default(),
        question,
        tags,
        cluster,
        topics,
        network,
        disk,
        workloads,
        steps,
        nemesis,
        run,
        expect,
    }
}

/// A word of lower-case letters, digits and hyphens.
fn read_name(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || text.len() > 80 || !text.chars().all(fine) || text.starts_with('-') {
        value.wrong(
            format!("`{}` cannot be `{}`", value.name, words::shortened(text)),
            "allowed are lower-case letters, digits and hyphens, at most 80: `leader-crash`",
        );
        return None;
    }
    Some(text.to_string())
}

fn read_cluster(value: &Value<'_>) -> Option<Cluster> {
    let defaults = Cluster::default();
    let mut fields = value.table("`[cluster]`".to_string())?;
    let brokers = fields.or("brokers", defaults.brokers, |value| value.integer(1..=i128::from(Cluster::MAX_BROKERS)));
    let controllers =
        fields.or("controllers", defaults.controllers, |value| value.integer(0..=i128::from(Cluster::MAX_CONTROLLERS)));
    let racks = fields.or("racks", Vec::new(), |value| {
        let items = value.list("names of racks")?;
        items.iter().map(read_rack).collect()
    });
    let config = fields.or("config", Config::new(), |value| Some(read_config(value, ConfigScope::Broker)));
    fields.finish();
    Some(Cluster { brokers, controllers, racks, config })
}

fn read_rack(value: &Value<'_>) -> Option<String> {
    let text = value.text()?;
    if text.is_empty()
        || text.len() > 80
        || text.contains(['(', ')', '"'])
        || text.trim() != text
        || text.contains(char::is_control)
    {
        value.wrong("this is no name of a rack", "a rack is a short word: `a`, `eu-west-1a`");
        return None;
    }
    Some(text.to_string())
}

/// Kafka's configuration, each key checked by name, type and range.
pub(super) fn read_config(value: &Value<'_>, scope: ConfigScope) -> Config {
    let mut config = Config::new();
    let Some(fields) = value.table(format!("`{}`", value.name)) else {
        return config;
    };
    for entry in fields.entries() {
        let known = match kafka_configs::find(scope, &entry.name) {
            Ok(known) => known,
            Err((message, help)) => {
                // `config.min.insync.replicas = 2` without quotes is a table in a table.
                let help = if matches!(entry.raw(), DeValue::Table(_)) {
                    "Kafka's keys have dots, so that they need quotes: `\"min.insync.replicas\" = 2`".to_string()
                } else {
                    help
                };
                entry.report(Diagnostic::new(DiagnosticKind::Shape, Some(entry.key_span.clone()), message).help(help));
                continue;
            }
        };
        let Some(kafka_value) = read_config_value(&entry) else {
            continue;
        };
        match known.check(&kafka_value) {
            Ok(()) => {
                config.insert(entry.name.clone(), kafka_value);
            }
            Err((message, help)) => entry.wrong(message, help),
        }
    }
    config
}

fn read_config_value(value: &Value<'_>) -> Option<ConfigValue> {
    match value.raw() {
        DeValue::Boolean(boolean) => Some(ConfigValue::Boolean(*boolean)),
        DeValue::Integer(_) => value.integer(i128::from(i64::MIN)..=i128::from(i64::MAX)).map(ConfigValue::Integer),
        DeValue::Float(float) => Some(ConfigValue::Text(float.as_str().to_string())),
        DeValue::String(text) => Some(ConfigValue::Text(text.to_string())),
        _ => {
            value.wrong(
                format!("`{}` must be a number, a boolean or a string", value.name),
                "lists are written as Kafka writes them: `\"compact,delete\"`",
            );
            None
        }
    }
}

/// Reads a topic; leaves unknown keys to the caller's `finish`.
pub(super) fn read_topic(fields: &mut Fields<'_>) -> Option<Topic> {
    let name = fields.need("name", "give it a name: `name = \"orders\"`").and_then(|value| {
        let text = value.text()?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() || text.len() > 249 || text == "." || text == ".." || !text.chars().all(legal) {
            value.wrong(
                format!("Kafka takes no topic named `{}`", words::shortened(text)),
                "allowed are at most 249 letters, digits, `.`, `_` and `-`",
            );
            return None;
        }
        if text.starts_with("__") {
            value.wrong(
                format!("`{}` is Kafka's own", words::shortened(text)),
                "choose a name that does not start with two underscores",
            );
            return None;
        }
        Some(text.to_string())
    });
    let partitions = fields.or("partitions", 1, |value| value.integer(1..=1000));
    let replication_factor =
        fields.or("replication-factor", 3, |value| value.integer(1..=i128::from(Cluster::MAX_BROKERS)));
    let config = fields.or("config", Config::new(), |value| Some(read_config(value, ConfigScope::Topic)));
    Some(Topic { name: name?, partitions, replication_factor, config })
}

/// What a topic may not be, given the cluster and the topics before it.
fn check_topic(
    topic: &Topic,
    fields: &mut Fields<'_>,
    before: &[Topic],
    cluster: &Cluster,
    cluster_config: Option<&Value<'_>>,
) {
    if before.iter().any(|other| other.name == topic.name)
        && let Some(value) = fields.get("name")
    {
        value.contradicts(format!("there are two topics `{}`", topic.name), "each topic has a name of its own");
    }
    let replication = fields.get("replication-factor");
    if topic.replication_factor > cluster.brokers {
        let message = format!(
            "topic `{}` wants {} replicas, and there are {} brokers",
            topic.name, topic.replication_factor, cluster.brokers
        );
        let help = format!("allowed are 1 to {}: each replica is on another broker", cluster.brokers);
        match &replication {
            Some(value) => value.contradicts(message, help),
            None => fields.errors().push(
                Diagnostic::new(DiagnosticKind::Reference, Some(fields.span()), message)
                    .label("`replication-factor` is 3 by default")
                    .help(help),
            ),
        }
        return;
    }
    let own = topic.config.get("min.insync.replicas");
    let Some(setting) = own.or_else(|| cluster.config.get("min.insync.replicas")) else {
        return;
    };
    let Ok(min_isr) = setting.to_string().trim().parse::<u32>() else {
        return;
    };
    if min_isr <= topic.replication_factor {
        return;
    }
    let place = if own.is_some() { fields.get("config") } else { cluster_config.cloned() };
    let value = place.and_then(|config| {
        let config = config.table(String::new())?;
        config.entries().into_iter().find(|entry| entry.name == "min.insync.replicas")
    });
    let span = value.map_or_else(|| fields.span(), |value| value.span());
    let message = format!(
        "`min.insync.replicas` is {min_isr}, and topic `{}` has {} replica{}: no acks=all write could ever succeed",
        topic.name,
        topic.replication_factor,
        if topic.replication_factor == 1 { "" } else { "s" }
    );
    let mut error = Diagnostic::new(DiagnosticKind::Reference, Some(span), message)
        .help(format!("allowed for this topic is 1 to {}", topic.replication_factor));
    if let Some(replication) = replication {
        error = error.context(replication.span(), "its replicas");
    }
    fields.errors().push(error);
}

fn read_network(value: &Value<'_>) -> Option<Network> {
    let defaults = Network::default();
    let mut fields = value.table("`[network]`".to_string())?;
    let network = Network {
        latency: fields.or("latency", defaults.latency, Value::parse),
        loss: fields.or("loss", defaults.loss, read_proportion),
        bandwidth: fields.get("bandwidth").and_then(|value| value.parse()),
        send_buffer: fields.or("send-buffer", defaults.send_buffer, |value| read_bytes(value, 1024)),
    };
    fields.finish();
    Some(network)
}

/// `"5%"`, or a fraction: `0.05`.
pub(super) fn read_proportion(value: &Value<'_>) -> Option<Proportion> {
    let digits = match value.raw() {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        _ => return value.parse(),
    };
    match super::quantity::scaled_decimal(digits, 1_000_000) {
        Some(ppm) if ppm <= 1_000_000 => Some(Proportion { ppm: u32::try_from(ppm).ok()? }),
        _ => {
            value.wrong(format!("`{}` is no proportion", value.name), "allowed are `\"0%\"` to `\"100%\"`, or 0 to 1");
            None
        }
    }
}

/// `"64KiB"`, or a number of bytes.
pub(super) fn read_bytes(value: &Value<'_>, least: u64) -> Option<Bytes> {
    let bytes = match value.raw() {
        DeValue::Integer(_) => Bytes(value.integer(0..=1 << 50)?),
        _ => value.parse()?,
    };
    if bytes.0 < least {
        value.wrong(format!("`{}` is too small", value.name), format!("at least {}", Bytes(least)));
        return None;
    }
    Some(bytes)
}

fn read_disk(value: &Value<'_>) -> Option<Disk> {
    let defaults = Disk::default();
    let mut fields = value.table("`[disk]`".to_string())?;
    let disk = Disk {
        read_latency: fields.or("read-latency", defaults.read_latency, Value::parse),
        sync_latency: fields.or("sync-latency", defaults.sync_latency, Value::parse),
        write_back: fields.or("write-back", defaults.write_back, |value| {
            let range: super::quantity::DurationRange = value.parse()?;
            if range.max > SimDuration::from_secs(30) {
                value.wrong("`write-back` is too long", "a dirty page becomes durable after 30s at most");
                return None;
            }
            Some(range)
        }),
        bandwidth: fields.get("bandwidth").and_then(|value| value.parse()),
        capacity: fields.get("capacity").and_then(|value| read_bytes(&value, 1 << 20)),
    };
    fields.finish();
    Some(disk)
}

fn read_run(value: &Value<'_>) -> Option<Run> {
    let defaults = Run::default();
    let mut fields = value.table("`[run]`".to_string())?;
    let run = Run {
        duration: fields.or("duration", defaults.duration, |value| {
            let duration: SimDuration = value.parse()?;
            if duration < SimDuration::from_secs(1) {
                value.wrong("the run is too short", "a run takes at least 1s");
                return None;
            }
            Some(duration)
        }),
        seed: fields.get("seed").and_then(|value| read_seed(&value)),
        budget: fields.or("budget", defaults.budget, |value| {
            value.choice(&[("recoverable", Budget::Recoverable), ("none", Budget::None)])
        }),
        heal: fields.or("heal", defaults.heal, |value| value.choice(&[("all", Heal::All), ("core", Heal::Core)])),
    };
    fields.finish();
    Some(run)
}

/// A number, or a text as the command line takes it: 16 digits or `0x...` are hexadecimal, anything shorter decimal.
fn read_seed(value: &Value<'_>) -> Option<u64> {
    if matches!(value.raw(), DeValue::Integer(_)) {
        return value.integer(0..=i128::from(u64::MAX));
    }
    let seed = parse_seed(value.text()?);
    if seed.is_none() {
        value.wrong("this is no seed", "allowed are 16 hexadecimal digits, `0x...`, or a shorter decimal number");
    }
    seed
}

/// Reads a seed as people write it: 16 digits or `0x...` are hexadecimal, anything shorter is decimal.
#[must_use]
pub fn parse_seed(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.starts_with('+') {
        return None;
    }
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return if digits.starts_with('+') { None } else { u64::from_str_radix(digits, 16).ok() };
    }
    if text.len() == 16 { u64::from_str_radix(text, 16).ok() } else { text.parse().ok() }
}

fn read_expect(value: &Value<'_>) -> Option<Expect> {
    let defaults = Expect::default();
    let mut fields = value.table("`[expect]`".to_string())?;
    let verdict = fields.or("verdict", defaults.verdict, |value| {
        value.choice(&[
            ("pass", ExpectedVerdict::Pass),
            ("violation", ExpectedVerdict::Violation),
            ("inconclusive", ExpectedVerdict::Inconclusive),
        ])
    });
    let checks = fields.or("checks", Vec::new(), |value| {
        let items = value.list("names of checks")?;
        if verdict != ExpectedVerdict::Violation && !items.is_empty() {
            value.contradicts(
                "`checks` names what a violation must be",
                "set `verdict = \"violation\"`, or leave `checks` out",
            );
        }
        items.iter().map(read_name).collect()
    });
    let marks = fields.or("marks", Vec::new(), |value| {
        let items = value.list("marks")?;
        let marks: Vec<_> = items.iter().map(|item| item.parse()).collect();
        marks.into_iter().collect()
    });
    let allowed = fields.or("allowed", defaults.allowed, |value| {
        value.choice(&[("counted", Allowed::Counted), ("none", Allowed::None)])
    });
    let converges_within = fields.get("converges-within").and_then(|value| value.parse());
    fields.finish();
    Some(Expect { verdict, checks, marks, allowed, converges_within })
}
