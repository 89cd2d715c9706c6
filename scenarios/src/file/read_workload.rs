//! Reading `[[workload]]`.

use super::diagnostics::{Diagnostic, DiagnosticKind};
use super::quantity::ByteRange;
use super::read::read_bytes;
use super::references::{Reference, References};
use super::table::{Fields, Value};
use super::words;
use super::workload::*;
use toml::de::DeValue;

/// What a workload can be, by the word for it.
const WORKLOADS: [&str; 3] = ["produce", "consume", "admin-churn"];

pub(super) fn read_workload<'a>(item: &Value<'a>, references: &References<'a>) -> Option<Workload> {
    let mut fields = item.table("`[[workload]]`".to_string())?;
    let planned: Vec<Value<'a>> = PLANNED_WORKLOADS.iter().filter_map(|word| fields.get(word)).collect();
    for value in &planned {
        let message = format!("the workload `{}` is not built yet", value.name);
        value.report(
            Diagnostic::new(DiagnosticKind::Unsupported, Some(value.key_span.clone()), message)
                .help(format!("workloads of this version are {}", words::list(WORKLOADS))),
        );
    }
    let built: Vec<Value<'a>> = WORKLOADS.iter().filter_map(|word| fields.get(word)).collect();
    let workload = match built.as_slice() {
        [value] => match value.name.as_str() {
            "produce" => read_produce(value, references).map(Workload::Produce),
            "consume" => read_consume(value, references).map(Workload::Consume),
            _ => read_admin_churn(value, references).map(Workload::AdminChurn),
        },
        [] => {
            if planned.is_empty() && fields.entries().is_empty() {
                let help = format!("workloads are {}", words::list(WORKLOADS));
                fields.missing("this workload does nothing", &help);
            }
            None
        }
        [first, second, ..] => {
            let message = format!("a workload does one thing, and this one has `{}` and `{}`", first.name, second.name);
            let error = Diagnostic::new(DiagnosticKind::Shape, Some(second.key_span.clone()), message);
            second.report(error.help("write a second `[[workload]]` for it"));
            None
        }
    };
    fields.finish();
    workload
}

fn read_admin_churn<'a>(value: &Value<'a>, references: &References<'a>) -> Option<AdminChurn> {
    let mut fields = value.table("`admin-churn`".to_string())?;
    let defaults = AdminChurn::default();
    let churn = AdminChurn {
        clients: fields.or("clients", defaults.clients, |value| value.integer(1..=100)),
        rate: fields.or("rate", defaults.rate, Value::parse),
        topics: fields.or("topics", defaults.topics, |value| value.integer(1..=100)),
    };
    let own: Vec<String> = (0..churn.topics).map(AdminChurn::topic).collect();
    if let Some(taken) = references.topics.borrow().iter().find(|topic| own.contains(&topic.name)) {
        value.contradicts(
            format!("`admin-churn` would delete the `[[topic]]` called `{}`", taken.name),
            format!("its own topics are called {} to {}; give that topic another name", own[0], own[own.len() - 1]),
        );
    }
    fields.finish();
    Some(churn)
}

fn read_topic_name<'a>(fields: &mut Fields<'a>, references: &References<'a>) -> Option<String> {
    let value = fields.need("topic", "name one of the `[[topic]]`s")?;
    let name = value.text()?.to_string();
    references.note(&value, Reference::Topic(name.clone()));
    Some(name)
}

fn read_produce<'a>(value: &Value<'a>, references: &References<'a>) -> Option<Produce> {
    let mut fields = value.table("`produce`".to_string())?;
    let topic = read_topic_name(&mut fields, references);
    let defaults = Produce::to("");
    let acks = fields.or("acks", defaults.acks, |value| {
        // `acks = 1` is as clear as `acks = "1"`.
        if let DeValue::Integer(_) = value.raw() {
            let number: i64 = value.integer(-1..=1)?;
            return Some(match number {
                0 => Acks::None,
                1 => Acks::Leader,
                _ => Acks::All,
            });
        }
        value.choice(&[("all", Acks::All), ("1", Acks::Leader), ("0", Acks::None), ("-1", Acks::All)])
    });
    let idempotence = fields.or("idempotence", acks == Acks::All, |value| {
        let on = value.boolean()?;
        if on && acks != Acks::All {
            value.contradicts(
                "an idempotent producer needs `acks = \"all\"`",
                "as in Kafka: set `acks = \"all\"` or `idempotence = false`",
            );
        }
        Some(on)
    });
    let produce = Produce {
        topic: String::new(),
        clients: fields.or("clients", defaults.clients, |value| value.integer(1..=1000)),
        rate: fields.or("rate", defaults.rate, Value::parse),
        acks,
        idempotence,
        keys: fields.or("keys", defaults.keys, |value| value.integer(0..=1_000_000)),
        value_bytes: fields.or("value-bytes", defaults.value_bytes, |value| {
            let range: ByteRange = match value.raw() {
                DeValue::Integer(_) => {
                    let only = read_bytes(value, 0)?;
                    ByteRange { min: only, max: only }
                }
                _ => value.parse()?,
            };
            if range.max.0 > 16 << 20 {
                value.wrong("`value-bytes` is too large", "a value has at most 16MiB");
                return None;
            }
            Some(range)
        }),
        linger: fields.or("linger", defaults.linger, Value::parse),
        compression: fields.or("compression", defaults.compression, |value| {
            value.choice(&[
                ("none", Compression::None),
                ("gzip", Compression::Gzip),
                ("snappy", Compression::Snappy),
                ("lz4", Compression::Lz4),
                ("zstd", Compression::Zstd),
            ])
        }),
        max_in_flight: fields.or("max-in-flight", defaults.max_in_flight, |value| {
            let most: u32 = value.integer(1..=100)?;
            if idempotence && most > 5 {
                value.contradicts(
                    "an idempotent producer has at most 5 requests in flight",
                    "as in Kafka: 1 to 5, or `idempotence = false`",
                );
            }
            Some(most)
        }),
    };
    fields.finish();
    Some(Produce { topic: topic?, ..produce })
}

fn read_consume<'a>(value: &Value<'a>, references: &References<'a>) -> Option<Consume> {
    let mut fields = value.table("`consume`".to_string())?;
    let topic = read_topic_name(&mut fields, references);
    let clients = fields.get("clients");
    let group = fields.get("group");
    let members = fields.get("members");
    let protocol = fields.get("protocol");
    let isolation = fields.or("isolation", Isolation::ReadUncommitted, |value| {
        value.choice(&[("read_uncommitted", Isolation::ReadUncommitted), ("read_committed", Isolation::ReadCommitted)])
    });
    let forms = "`{ topic, clients }` reads every partition, `{ topic, group, members }` shares them";
    if let (Some(clients), Some(_)) = (&clients, &group) {
        clients.contradicts("`clients` does not go with `group`", forms);
    }
    if group.is_none() {
        for value in [&members, &protocol].into_iter().flatten() {
            value.contradicts(format!("`{}` needs a `group`", value.name), forms);
        }
    }
    let membership = group.as_ref().and_then(|value| {
        let group = value.text()?.to_string();
        if group.is_empty() {
            value.wrong("a group has a name", "");
        }
        references.groups.borrow_mut().push(group.clone());
        let protocol = protocol.as_ref().and_then(|value| {
            value.choice(&[("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)])
        });
        let members = members.as_ref().and_then(|value| value.integer(1..=1000)).unwrap_or(1);
        Some(GroupMembership { group, members, protocol: protocol.unwrap_or_default() })
    });
    let clients = match &group {
        Some(_) => None,
        None => Some(clients.and_then(|value| value.integer(1..=1000)).unwrap_or(1)),
    };
    fields.finish();
    Some(Consume { topic: topic?, clients, group: membership, isolation })
}
