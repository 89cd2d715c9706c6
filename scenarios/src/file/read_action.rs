//! Reading `[[step]]` and `[[nemesis]]`.

use super::action::*;
use super::kafka_configs::ConfigScope;
use super::predicate::{Predicate, Subject};
use super::quantity::{DurationRange, Proportion, SimDuration};
use super::read::{read_config, read_proportion, read_topic};
use super::references::{Place, Reference, References};
use super::scenario::Run;
use super::table::{Fields, Value};
use super::target::{Target, Targets};
use super::words;
use broker_types::TopicPartition;

/// Every action of a step, each with its fields and what it does. One table for messages and documentation.
pub const ACTIONS: &[(&str, &str, &str)] = &[
    ("crash", "node, down", "the process ends at once; the page cache is kept"),
    ("power-loss", "node, down", "the machine loses power; what was not synced is lost, kept or torn"),
    ("wipe", "node, down", "the process ends and its disk is empty when it starts again"),
    ("pause", "node, for", "the process stands still, as in a long garbage collection"),
    ("shutdown", "node, down", "a controlled shutdown"),
    ("restart", "node", "a controlled shutdown and a start"),
    ("rolling-restart", "nodes, pause", "each of the nodes in turn is restarted in order"),
    ("partition", "groups, for | from, to, for | bridge, for", "packets between some nodes are lost"),
    ("isolate", "node, for", "packets between the node and everyone, clients too, are lost"),
    ("slow-link", "between, latency, for", "packets take longer"),
    ("lossy-link", "between, loss, for", "part of the packets is lost and sent again"),
    ("flaky-link", "between, every, for", "connections are reset again and again"),
    ("throttle", "between, rate, for", "less fits through"),
    ("drop-request", "api, node, nth", "the n-th request of an API to the node is lost"),
    ("delay-request", "api, node, nth, by", "the n-th request of an API to the node arrives late"),
    ("drop-response", "api, node, nth", "the n-th response of an API from the node is lost"),
    ("delay-response", "api, node, nth, by", "the n-th response of an API from the node arrives late"),
    ("slow-disk", "node, latency, for", "reads and syncs take longer"),
    ("stall-disk", "node, for", "reads and syncs do not come back while it lasts"),
    ("full-disk", "node, for", "writes fail for want of space"),
    ("read-error", "node, for", "reads fail"),
    ("write-error", "node, for", "writes fail"),
    ("sync-error", "node, for", "syncs fail and their data is lost, as on Linux"),
    ("bit-rot", "node, for", "stored bits flip"),
    ("clock-skew", "node, by, for", "the wall clock is off by this"),
    ("clock-step", "node, by, for", "the wall clock jumps by this"),
    ("clock-drift", "node, ppm, for", "the clocks run fast or slow"),
    ("clock-freeze", "node, for", "the wall clock stands still"),
    ("elect-leader", "partition, unclean", "the preferred replica is asked to lead"),
    ("reassign", "partition, replicas", "a partition's replicas move"),
    ("create-topic", "name, partitions, replication-factor, config", "a topic is created"),
    ("delete-topic", "topic", "a topic is deleted"),
    ("add-partitions", "topic, count", "a topic gets more partitions"),
    ("alter-config", "topic | node, config", "a topic's, a broker's or the cluster's configuration changes"),
    ("delete-records", "partition, before", "a partition forgets its first records"),
    ("add-voter", "node", "a controller becomes a voter of the metadata quorum"),
    ("remove-voter", "node", "a controller stops being a voter"),
    ("add-broker", "node", "a broker that was removed joins the cluster again"),
    ("remove-broker", "node", "a broker is drained, shut down and unregistered"),
    ("join-group", "group", "another consumer joins the group"),
    ("leave-group", "group", "one consumer leaves the group"),
    ("restart-consumer", "group", "one consumer leaves the group and comes back as a new member"),
    ("heal", "", "everything broken is made whole now"),
    ("check", "", "every check of the cluster's state is made now"),
];

/// Every word of a nemesis, each with its fields.
pub const NEMESES: &[(&str, &str)] = &[
    ("crash", "nodes, every, down"),
    ("power-loss", "nodes, every, down"),
    ("wipe", "nodes, every, down"),
    ("shutdown", "nodes, every, down"),
    ("restart", "nodes, every"),
    ("pause", "nodes, every, for"),
    ("partition", "nodes, every, for"),
    ("isolate", "nodes, every, for"),
    ("slow-link", "nodes, every, latency, for"),
    ("lossy-link", "nodes, every, loss, for"),
    ("flaky-link", "nodes, every, resets, for"),
    ("throttle", "nodes, every, rate, for"),
    ("slow-disk", "nodes, every, latency, for"),
    ("stall-disk", "nodes, every, for"),
    ("full-disk", "nodes, every, for"),
    ("read-error", "nodes, every, for"),
    ("write-error", "nodes, every, for"),
    ("sync-error", "nodes, every, for"),
    ("bit-rot", "nodes, every, for"),
    ("clock-skew", "nodes, every, by, for"),
    ("clock-step", "nodes, every, by, for"),
    ("clock-drift", "nodes, every, ppm, for"),
    ("clock-freeze", "nodes, every, for"),
];

/// Reads the body of one action.
struct Body<'r, 'a> {
    fields: Fields<'a>,
    references: &'r References<'a>,
}

impl<'a> Body<'_, 'a> {
    fn target_as(&mut self, key: &'static str, place: Place) -> Option<Target> {
        let value = self.fields.need(key, "name a node or a role: `broker-1`, `leader(orders-0)`, `any broker`")?;
        read_target(&value, place, self.references)
    }

    fn node(&mut self) -> Option<Target> {
        self.target_as("node", Place::Node)
    }

    fn targets(&mut self, key: &'static str, place: Place) -> Option<Targets> {
        let value = self.fields.need(key, "name nodes or a role: `\"any broker\"`, `[\"broker-1\", \"broker-2\"]`")?;
        read_targets(&value, place, self.references).map(Targets)
    }

    fn duration(&mut self, key: &'static str) -> Option<SimDuration> {
        self.fields.get(key).and_then(|value| value.parse())
    }

    fn range(&mut self, key: &'static str) -> Option<DurationRange> {
        self.fields.need(key, "give a duration or a range: `\"5s\"`, `\"5s..20s\"`")?.parse()
    }

    fn between(&mut self) -> Option<[Target; 2]> {
        let value = self.fields.need("between", "name the two ends: `between = [\"broker-1\", \"broker-2\"]`")?;
        let ends = read_targets(&value, Place::Side, self.references)?;
        match <[Target; 2]>::try_from(ends) {
            Ok(ends) => Some(ends),
            Err(ends) => {
                value.wrong(format!("`between` has {} ends", ends.len()), "it names exactly two");
                None
            }
        }
    }

    fn partition_name(&mut self) -> Option<PartitionName> {
        let value = self.fields.need("partition", "name a partition: `orders-0`")?;
        match super::target::read_partition(value.text()?) {
            Ok(partition) => {
                self.references.note(&value, Reference::Partition(partition.clone()));
                Some(PartitionName(partition))
            }
            Err(why) => {
                value.wrong(why, "");
                None
            }
        }
    }

    fn topic(&mut self) -> Option<String> {
        let value = self.fields.need("topic", "name a topic")?;
        let name = value.text()?.to_string();
        self.references.note(&value, Reference::Topic(name.clone()));
        Some(name)
    }

    fn group(&mut self) -> Option<GroupOnly> {
        let value = self.fields.need("group", "name a consumer group")?;
        let group = value.text()?.to_string();
        self.references.note(&value, Reference::Group(group.clone()));
        Some(GroupOnly { group })
    }

    fn down(&mut self) -> Option<NodeDown> {
        let (node, down) = (self.node(), self.duration("down"));
        Some(NodeDown { node: node?, down })
    }

    fn fault(&mut self) -> Option<NodeFault> {
        let (node, lasts) = (self.node(), self.duration("for"));
        Some(NodeFault { node: node?, lasts })
    }

    fn only(&mut self) -> Option<NodeOnly> {
        self.node().map(|node| NodeOnly { node })
    }

    fn controller(&mut self) -> Option<NodeOnly> {
        self.target_as("node", Place::Controller).map(|node| NodeOnly { node })
    }

    fn broker(&mut self) -> Option<NodeOnly> {
        self.target_as("node", Place::Broker).map(|node| NodeOnly { node })
    }

    fn api(&mut self) -> Option<String> {
        let value = self.fields.need("api", "name an API as Kafka does: `Produce`, `AlterPartition`")?;
        let name = value.text()?;
        if APIS.contains(&name) {
            return Some(name.to_string());
        }
        let near = words::did_you_mean(name, APIS.iter().copied());
        value.wrong(
            format!("Kafka has no API `{}`", words::shortened(name)),
            format!("{near}allowed are {}", words::list(APIS)),
        );
        None
    }

    fn request(&mut self) -> Option<RequestFault> {
        let (api, node) = (self.api(), self.node());
        let nth = self.fields.or("nth", 1, |value| value.integer(1..=1_000_000));
        Some(RequestFault { api: api?, node: node?, nth })
    }

    fn late_request(&mut self) -> Option<DelayedRequestFault> {
        let request = self.request();
        let by = self.fields.need("by", "say how much later: `by = \"5s\"`").and_then(|value| value.parse());
        let RequestFault { api, node, nth } = request?;
        Some(DelayedRequestFault { api, node, nth, by: by? })
    }

    fn partition(&mut self) -> Option<Partition> {
        let forms = "a partition is `{ groups, for }`, `{ from, to, for }` (one way) or `{ bridge, for }`";
        for key in ["groups", "from", "to", "bridge"] {
            self.fields.get(key);
        }
        let words = [("groups", &["from", "to", "bridge"][..]), ("bridge", &["from", "to"])];
        for (word, others) in words {
            if self.fields.has(word)
                && let Some(other) = others.iter().find(|other| self.fields.has(other))
                && let Some(value) = self.fields.get(other)
            {
                value.contradicts(format!("`{other}` does not go with `{word}`"), forms);
                return None;
            }
        }
        let lasts = self.duration("for");
        if self.fields.has("groups") {
            let groups = self.groups()?;
            return Some(Partition::Groups(PartitionGroups { groups, lasts }));
        }
        if self.fields.has("bridge") {
            let bridge = self.target_as("bridge", Place::Node)?;
            return Some(Partition::Bridge(PartitionBridge { bridge, lasts }));
        }
        if self.fields.has("from") || self.fields.has("to") {
            let (from, to) = (self.targets("from", Place::Side), self.targets("to", Place::Side));
            return Some(Partition::OneWay(PartitionOneWay { from: from?, to: to?, lasts }));
        }
        self.fields.missing("a partition must say whom it parts", forms);
        None
    }

    fn groups(&mut self) -> Option<Vec<Vec<Target>>> {
        let value = self.fields.get("groups")?;
        let lists = value.list("lists of targets: `[[\"broker-1\"], [\"rest\"]]`")?;
        let groups: Vec<Option<Vec<Target>>> =
            lists.iter().map(|list| read_targets(list, Place::Side, self.references)).collect();
        if groups.len() < 2 {
            value.wrong(
                "a partition has at least two groups",
                "`rest` names everyone else: `[[\"broker-1\"], [\"rest\"]]`",
            );
        }
        let groups: Option<Vec<Vec<Target>>> = groups.into_iter().collect();
        let groups = groups?;
        if groups.iter().flatten().filter(|target| **target == Target::Rest).count() > 1 {
            value.contradicts("`rest` stands in two places", "only one group can be everyone else");
        }
        Some(groups)
    }

    fn shift(&mut self) -> Option<ClockShift> {
        let (node, lasts) = (self.node(), self.duration("for"));
        let by = self.fields.need("by", "say how far: `by = \"-5s\"`").and_then(|value| value.parse());
        Some(ClockShift { node: node?, by: by?, lasts })
    }

    fn alter_config(&mut self) -> Option<AlterConfig> {
        let topic = if self.fields.has("topic") { Some(self.topic()?) } else { None };
        let node = if self.fields.has("node") { Some(self.node()?) } else { None };
        if topic.is_some()
            && let Some(value) = self.fields.get("node")
        {
            value.contradicts(
                "`node` does not go with `topic`",
                "change one of them; leave both out for the whole cluster",
            );
        }
        let scope = if topic.is_some() { ConfigScope::Topic } else { ConfigScope::Broker };
        let value = self.fields.need("config", "say what changes: `config = { \"min.insync.replicas\" = 1 }`")?;
        let config = read_config(&value, scope);
        if config.is_empty() {
            value.wrong("`config` changes nothing", "give at least one of Kafka's keys");
        }
        Some(AlterConfig { topic, node, config })
    }

    fn reassign(&mut self) -> Option<Reassign> {
        let partition = self.partition_name();
        let value = self.fields.need("replicas", "name brokers: `replicas = [\"broker-2\", \"broker-3\"]`")?;
        let replicas = read_targets(&value, Place::Broker, self.references)?;
        let mut sorted = replicas.clone();
        sorted.sort();
        sorted.dedup();
        if sorted.len() != replicas.len() {
            value
                .contradicts("a broker stands twice in `replicas`", "each replica of a partition is on another broker");
        }
        Some(Reassign { partition: partition?, replicas })
    }

    fn action(&mut self, word: &str) -> Option<Action> {
        Some(match word {
            "crash" => Action::Crash(self.down()?),
            "power-loss" => Action::PowerLoss(self.down()?),
            "wipe" => Action::Wipe(self.down()?),
            "shutdown" => Action::Shutdown(self.down()?),
            "pause" => Action::Pause(self.fault()?),
            "isolate" => Action::Isolate(self.fault()?),
            "stall-disk" => Action::StallDisk(self.fault()?),
            "full-disk" => Action::FullDisk(self.fault()?),
            "read-error" => Action::ReadError(self.fault()?),
            "write-error" => Action::WriteError(self.fault()?),
            "sync-error" => Action::SyncError(self.fault()?),
            "bit-rot" => Action::BitRot(self.fault()?),
            "clock-freeze" => Action::ClockFreeze(self.fault()?),
            "restart" => Action::Restart(self.only()?),
            "add-voter" => Action::AddVoter(self.controller()?),
            "remove-voter" => Action::RemoveVoter(self.controller()?),
            "add-broker" => Action::AddBroker(self.broker()?),
            "remove-broker" => Action::RemoveBroker(self.broker()?),
            "rolling-restart" => {
                let nodes = self.targets("nodes", Place::Node);
                let pause = self.fields.or("pause", SimDuration::ZERO, Value::parse);
                Action::RollingRestart(RollingRestart { nodes: nodes?, pause })
            }
            "partition" => Action::Partition(self.partition()?),
            "slow-link" => {
                let (between, latency, lasts) = (self.between(), self.range("latency"), self.duration("for"));
                Action::SlowLink(SlowLink { between: between?, latency: latency?, lasts })
            }
            "lossy-link" => {
                let (between, lasts) = (self.between(), self.duration("for"));
                let loss = self.loss();
                Action::LossyLink(LossyLink { between: between?, loss: loss?, lasts })
            }
            "flaky-link" => {
                let (between, every, lasts) = (self.between(), self.interval("every"), self.duration("for"));
                Action::FlakyLink(FlakyLink { between: between?, every: every?, lasts })
            }
            "throttle" => {
                let (between, lasts) = (self.between(), self.duration("for"));
                let rate = self
                    .fields
                    .need("rate", "say what still fits: `rate = \"64KiB/s\"`")
                    .and_then(|value| value.parse());
                Action::Throttle(Throttle { between: between?, rate: rate?, lasts })
            }
            "drop-request" => Action::DropRequest(self.request()?),
            "drop-response" => Action::DropResponse(self.request()?),
            "delay-request" => Action::DelayRequest(self.late_request()?),
            "delay-response" => Action::DelayResponse(self.late_request()?),
            "slow-disk" => {
                let (node, latency, lasts) = (self.node(), self.range("latency"), self.duration("for"));
                Action::SlowDisk(SlowDisk { node: node?, latency: latency?, lasts })
            }
            "clock-skew" => Action::ClockSkew(self.shift()?),
            "clock-step" => Action::ClockStep(self.shift()?),
            "clock-drift" => {
                let (node, lasts) = (self.node(), self.duration("for"));
                let ppm = self
                    .fields
                    .need("ppm", "say how fast: `ppm = 200`")
                    .and_then(|value| value.integer(-500_000..=500_000));
                Action::ClockDrift(ClockDrift { node: node?, ppm: ppm?, lasts })
            }
            "elect-leader" => {
                let partition = self.partition_name();
                let unclean = self.fields.or("unclean", false, Value::boolean);
                Action::ElectLeader(ElectLeader { partition: partition?, unclean })
            }
            "reassign" => Action::Reassign(self.reassign()?),
            "create-topic" => Action::CreateTopic(read_topic(&mut self.fields)?),
            "delete-topic" => Action::DeleteTopic(TopicOnly { topic: self.topic()? }),
            "add-partitions" => {
                let topic = self.topic();
                let count = self.fields.or("count", 1, |value| value.integer(1..=1000));
                Action::AddPartitions(AddPartitions { topic: topic?, count })
            }
            "alter-config" => Action::AlterConfig(self.alter_config()?),
            "delete-records" => {
                let partition = self.partition_name();
                let before = self.fields.get("before").and_then(|value| value.integer(0..=i128::from(i64::MAX)));
                Action::DeleteRecords(DeleteRecords { partition: partition?, before })
            }
            "join-group" => Action::JoinGroup(self.group()?),
            "leave-group" => Action::LeaveGroup(self.group()?),
            "restart-consumer" => Action::RestartConsumer(self.group()?),
            "heal" => Action::Heal(Nothing {}),
            "check" => Action::Check(Nothing {}),
            _ => return None,
        })
    }

    fn loss(&mut self) -> Option<Proportion> {
        self.fields.need("loss", "say which part: `loss = \"5%\"`").and_then(|value| read_proportion(&value))
    }

    /// A range that something repeats after: long enough that a run does not drown in it.
    fn interval(&mut self, key: &'static str) -> Option<DurationRange> {
        let range = self.range(key)?;
        if range.min < SimDuration::from_millis(10)
            && let Some(value) = self.fields.get(key)
        {
            value.wrong(format!("`{key}` is too short"), "at least `10ms` lie between two draws");
            return None;
        }
        Some(range)
    }

    fn nemesis(&mut self, word: &str, run: &Run) -> Option<NemesisRule> {
        let nodes = self.targets("nodes", Place::Pool);
        let every = self.interval("every");
        if let (Some(every), Some(value)) = (every, self.fields.get("every"))
            && every.min >= run.duration
        {
            value.contradicts("it never fires", format!("the run takes {}", run.duration));
        }
        let rule = match word {
            "crash" | "power-loss" | "wipe" | "shutdown" => {
                let down = self.range("down");
                let rule = NemesisDown { nodes: nodes?, every: every?, down: down? };
                match word {
                    "crash" => NemesisRule::Crash(rule),
                    "power-loss" => NemesisRule::PowerLoss(rule),
                    "wipe" => NemesisRule::Wipe(rule),
                    _ => NemesisRule::Shutdown(rule),
                }
            }
            "restart" => NemesisRule::Restart(NemesisOnce { nodes: nodes?, every: every? }),
            "slow-link" | "slow-disk" => {
                let (latency, lasts) = (self.range("latency"), self.range("for"));
                let rule = NemesisLatency { nodes: nodes?, every: every?, latency: latency?, lasts: lasts? };
                if word == "slow-link" { NemesisRule::SlowLink(rule) } else { NemesisRule::SlowDisk(rule) }
            }
            "lossy-link" => {
                let (loss, lasts) = (self.loss(), self.range("for"));
                NemesisRule::LossyLink(NemesisLoss { nodes: nodes?, every: every?, loss: loss?, lasts: lasts? })
            }
            "flaky-link" => {
                let (resets, lasts) = (self.interval("resets"), self.range("for"));
                NemesisRule::FlakyLink(NemesisResets { nodes: nodes?, every: every?, resets: resets?, lasts: lasts? })
            }
            "throttle" => {
                let rate = self
                    .fields
                    .need("rate", "say what still fits: `rate = \"64KiB/s\"`")
                    .and_then(|value| value.parse());
                let lasts = self.range("for");
                NemesisRule::Throttle(NemesisThrottle { nodes: nodes?, every: every?, rate: rate?, lasts: lasts? })
            }
            "clock-skew" | "clock-step" => {
                let by =
                    self.fields.need("by", "say how far: `by = \"-500ms..500ms\"`").and_then(|value| value.parse());
                let lasts = self.fields.get("for").and_then(|value| value.parse());
                let rule = NemesisShift { nodes: nodes?, every: every?, by: by?, lasts };
                if word == "clock-skew" { NemesisRule::ClockSkew(rule) } else { NemesisRule::ClockStep(rule) }
            }
            "clock-drift" => {
                let ppm = self
                    .fields
                    .need("ppm", "at most so many millionths: `ppm = 200`")
                    .and_then(|value| value.integer(1..=500_000));
                let lasts = self.range("for");
                NemesisRule::ClockDrift(NemesisDrift { nodes: nodes?, every: every?, ppm: ppm?, lasts: lasts? })
            }
            _ => {
                let lasts = self.range("for");
                let rule = NemesisFault { nodes: nodes?, every: every?, lasts: lasts? };
                match word {
                    "pause" => NemesisRule::Pause(rule),
                    "partition" => NemesisRule::Partition(rule),
                    "isolate" => NemesisRule::Isolate(rule),
                    "stall-disk" => NemesisRule::StallDisk(rule),
                    "full-disk" => NemesisRule::FullDisk(rule),
                    "read-error" => NemesisRule::ReadError(rule),
                    "write-error" => NemesisRule::WriteError(rule),
                    "sync-error" => NemesisRule::SyncError(rule),
                    "bit-rot" => NemesisRule::BitRot(rule),
                    "clock-freeze" => NemesisRule::ClockFreeze(rule),
                    _ => return None,
                }
            }
        };
        Some(rule)
    }
}

fn read_target<'a>(value: &Value<'a>, place: Place, references: &References<'a>) -> Option<Target> {
    let text = value.text()?;
    match text.parse::<Target>() {
        Ok(target) => {
            references.note(value, Reference::Target(target.clone(), place));
            Some(target)
        }
        Err(why) => {
            let (message, near) = why.split_once("; ").unwrap_or((&why, ""));
            let spellings = words::list(super::target::TARGETS.iter().map(|(spelling, _)| *spelling));
            let allowed = format!("targets are {spellings}");
            let error = super::diagnostics::Diagnostic::new(
                super::diagnostics::DiagnosticKind::Shape,
                Some(value.span()),
                message,
            );
            value.report(error.label(near).help(allowed));
            None
        }
    }
}

/// One target or a list of them; at least one.
fn read_targets<'a>(value: &Value<'a>, place: Place, references: &References<'a>) -> Option<Vec<Target>> {
    if value.raw().is_str() {
        return read_target(value, place, references).map(|target| vec![target]);
    }
    let items = value.list("targets, or one target,")?;
    if items.is_empty() {
        value.wrong(format!("`{}` names nobody", value.name), "name at least one target");
        return None;
    }
    let targets: Vec<Option<Target>> = items.iter().map(|item| read_target(item, place, references)).collect();
    targets.into_iter().collect()
}

/// The one action word of a step or nemesis, with its body; errors when there is none or more than one.
fn one_word<'a>(
    fields: &mut Fields<'a>,
    words: impl Iterator<Item = &'static str>,
    what: &str,
    help: &str,
) -> Option<(&'static str, Value<'a>)> {
    let mut present: Vec<(&'static str, Value<'a>)> =
        words.filter_map(|word| Some((word, fields.get(word)?))).collect();
    present.sort_by_key(|(_, value)| value.key_span.start);
    if let [(first, _), (second, value), ..] = present.as_slice() {
        let message = format!("a {what} does one thing, and this one has `{first}` and `{second}`");
        let error = super::diagnostics::Diagnostic::new(
            super::diagnostics::DiagnosticKind::Shape,
            Some(value.key_span.clone()),
            message,
        );
        value.report(error.help(format!("write a second `[[{what}]]` for it")));
        return None;
    }
    if present.is_empty() {
        // A misspelt action is an unknown key; to call the action missing as well would blame the same slip twice.
        let slip = fields.entries().iter().any(|entry| !["at", "when", "required"].contains(&entry.name.as_str()));
        if !slip {
            fields.missing(&format!("this {what} does nothing"), help);
        }
        return None;
    }
    present.pop()
}

pub(super) fn read_step<'a>(item: &Value<'a>, run: &Run, references: &References<'a>) -> Option<Step> {
    let mut fields = item.table("`[[step]]`".to_string())?;
    let (at, when) = (fields.get("at"), fields.get("when"));
    let trigger = match (&at, &when) {
        (Some(_), Some(when)) => {
            when.contradicts("a step has `at` or `when`, not both", "write two steps, or keep one of the two");
            None
        }
        (None, None) => {
            fields.missing("this step never fires", "say when: `at = \"5s\"`, or `when = \"orders-0.acked >= 100\"`");
            None
        }
        (Some(at), None) => at.parse::<SimDuration>().map(|time| {
            if time > run.duration {
                let help =
                    format!("the run takes {}: raise `[run] duration`, or let the step fire sooner", run.duration);
                at.contradicts("this step fires after the run's end", help);
            }
            Trigger::At(time)
        }),
        (None, Some(when)) => when.parse::<Predicate>().map(|predicate| {
            match &predicate.subject {
                Subject::Partition { partition, .. } => {
                    references.note(when, Reference::Partition(TopicPartition::clone(partition)));
                }
                Subject::GroupGeneration(group) => references.note(when, Reference::Group(group.clone())),
                Subject::ControllerEpoch | Subject::Mark(_) => {}
            }
            Trigger::When(predicate)
        }),
    };
    let required = fields.or("required", true, Value::boolean);
    let words = ACTIONS.iter().map(|(word, ..)| *word);
    let help = format!("actions are {}", words::list(words.clone()));
    let action = one_word(&mut fields, words, "step", &help).and_then(|(word, value)| {
        let mut body = Body { fields: value.table(format!("`{word}`"))?, references };
        let action = body.action(word);
        body.fields.finish();
        if let Some(Action::CreateTopic(topic)) = &action {
            references.topics.borrow_mut().push(topic.clone());
        }
        action
    });
    fields.finish();
    Some(Step { trigger: trigger?, action: action?, required })
}

pub(super) fn read_nemesis<'a>(item: &Value<'a>, run: &Run, references: &References<'a>) -> Option<NemesisRule> {
    let mut fields = item.table("`[[nemesis]]`".to_string())?;
    let words = NEMESES.iter().map(|(word, _)| *word);
    let help = format!("a nemesis draws one of {}", words::list(words.clone()));
    let rule = one_word(&mut fields, words, "nemesis", &help).and_then(|(word, value)| {
        let mut body = Body { fields: value.table(format!("`{word}` of a nemesis"))?, references };
        let rule = body.nemesis(word, run);
        body.fields.finish();
        rule
    });
    fields.finish();
    rule
}

/// The APIs of Kafka 4.x whose requests a fault can name.
const APIS: &[&str] = &[
    "Produce",
    "Fetch",
    "ListOffsets",
    "Metadata",
    "OffsetCommit",
    "OffsetFetch",
    "FindCoordinator",
    "JoinGroup",
    "Heartbeat",
    "LeaveGroup",
    "SyncGroup",
    "DescribeGroups",
    "ListGroups",
    "ApiVersions",
    "CreateTopics",
    "DeleteTopics",
    "DeleteRecords",
    "InitProducerId",
    "OffsetForLeaderEpoch",
    "AddPartitionsToTxn",
    "AddOffsetsToTxn",
    "EndTxn",
    "WriteTxnMarkers",
    "TxnOffsetCommit",
    "DescribeConfigs",
    "CreatePartitions",
    "DeleteGroups",
    "ElectLeaders",
    "IncrementalAlterConfigs",
    "AlterPartitionReassignments",
    "ListPartitionReassignments",
    "Vote",
    "BeginQuorumEpoch",
    "EndQuorumEpoch",
    "DescribeQuorum",
    "AlterPartition",
    "UpdateFeatures",
    "Envelope",
    "FetchSnapshot",
    "DescribeCluster",
    "BrokerRegistration",
    "BrokerHeartbeat",
    "UnregisterBroker",
    "AllocateProducerIds",
    "ConsumerGroupHeartbeat",
    "ConsumerGroupDescribe",
    "ControllerRegistration",
    "DescribeTopicPartitions",
    "AddRaftVoter",
    "RemoveRaftVoter",
    "UpdateRaftVoter",
];
