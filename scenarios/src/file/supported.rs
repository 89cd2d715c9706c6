//! Which words of the grammar this version can run, and where in a file one stands that it cannot.

use super::action::{Action, NemesisRule};
use super::diagnostics::{Diagnostic, DiagnosticKind, Diagnostics};
use super::scenario::Scenario;
use super::workload::Workload;
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// What the grammar knows and this version cannot run yet. The one switch: take a line away when its machinery is built.
///
/// Actions by their word; `consume with a group` by this name.
pub const NOT_BUILT: &[(&str, &str)] = &[
    ("elect-leader", "electing a preferred leader by request"),
    ("reassign", "reassignment"),
    ("create-topic", "creating topics during a run"),
    ("delete-topic", "deleting topics"),
    ("add-partitions", "adding partitions"),
    ("alter-config", "changing configuration during a run"),
    ("delete-records", "deleting records"),
    ("add-voter", "changing the voters of the metadata quorum"),
    ("remove-voter", "changing the voters of the metadata quorum"),
    ("add-broker", "adding brokers"),
    ("remove-broker", "removing brokers"),
    ("join-group", "consumer groups"),
    ("leave-group", "consumer groups"),
    ("restart-consumer", "consumer groups"),
    ("consume with a group", "consumer groups"),
    ("drop-request", "faults of single requests"),
    ("delay-request", "faults of single requests"),
    ("drop-response", "faults of single requests"),
    ("delay-response", "faults of single requests"),
    ("bit-rot", "rotting bits"),
];

impl Action {
    /// Its word in the grammar.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Action::Crash(_) => "crash",
            Action::PowerLoss(_) => "power-loss",
            Action::Wipe(_) => "wipe",
            Action::Pause(_) => "pause",
            Action::Shutdown(_) => "shutdown",
            Action::Restart(_) => "restart",
            Action::RollingRestart(_) => "rolling-restart",
            Action::Partition(_) => "partition",
            Action::Isolate(_) => "isolate",
            Action::SlowLink(_) => "slow-link",
            Action::LossyLink(_) => "lossy-link",
            Action::FlakyLink(_) => "flaky-link",
            Action::Throttle(_) => "throttle",
            Action::DropRequest(_) => "drop-request",
            Action::DelayRequest(_) => "delay-request",
            Action::DropResponse(_) => "drop-response",
            Action::DelayResponse(_) => "delay-response",
            Action::SlowDisk(_) => "slow-disk",
            Action::StallDisk(_) => "stall-disk",
            Action::FullDisk(_) => "full-disk",
            Action::ReadError(_) => "read-error",
            Action::WriteError(_) => "write-error",
            Action::SyncError(_) => "sync-error",
            Action::BitRot(_) => "bit-rot",
            Action::ClockSkew(_) => "clock-skew",
            Action::ClockStep(_) => "clock-step",
            Action::ClockDrift(_) => "clock-drift",
            Action::ClockFreeze(_) => "clock-freeze",
            Action::ElectLeader(_) => "elect-leader",
            Action::Reassign(_) => "reassign",
            Action::CreateTopic(_) => "create-topic",
            Action::DeleteTopic(_) => "delete-topic",
            Action::AddPartitions(_) => "add-partitions",
            Action::AlterConfig(_) => "alter-config",
            Action::DeleteRecords(_) => "delete-records",
            Action::AddVoter(_) => "add-voter",
            Action::RemoveVoter(_) => "remove-voter",
            Action::AddBroker(_) => "add-broker",
            Action::RemoveBroker(_) => "remove-broker",
            Action::JoinGroup(_) => "join-group",
            Action::LeaveGroup(_) => "leave-group",
            Action::RestartConsumer(_) => "restart-consumer",
            Action::Heal(_) => "heal",
            Action::Check(_) => "check",
        }
    }
}

impl NemesisRule {
    /// Its word in the grammar.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            NemesisRule::Crash(_) => "crash",
            NemesisRule::PowerLoss(_) => "power-loss",
            NemesisRule::Wipe(_) => "wipe",
            NemesisRule::Shutdown(_) => "shutdown",
            NemesisRule::Restart(_) => "restart",
            NemesisRule::Pause(_) => "pause",
            NemesisRule::Partition(_) => "partition",
            NemesisRule::Isolate(_) => "isolate",
            NemesisRule::SlowLink(_) => "slow-link",
            NemesisRule::LossyLink(_) => "lossy-link",
            NemesisRule::FlakyLink(_) => "flaky-link",
            NemesisRule::Throttle(_) => "throttle",
            NemesisRule::SlowDisk(_) => "slow-disk",
            NemesisRule::StallDisk(_) => "stall-disk",
            NemesisRule::FullDisk(_) => "full-disk",
            NemesisRule::ReadError(_) => "read-error",
            NemesisRule::WriteError(_) => "write-error",
            NemesisRule::SyncError(_) => "sync-error",
            NemesisRule::BitRot(_) => "bit-rot",
            NemesisRule::ClockSkew(_) => "clock-skew",
            NemesisRule::ClockStep(_) => "clock-step",
            NemesisRule::ClockDrift(_) => "clock-drift",
            NemesisRule::ClockFreeze(_) => "clock-freeze",
        }
    }
}

/// One place in a document: a list or table by its key, an item by its number.
enum At {
    Key(&'static str),
    Item(usize),
}

/// What of the scenario this version cannot run; empty when it can run all of it. Without places: see [`check_supported`].
#[must_use]
pub fn unsupported(scenario: &Scenario) -> Vec<Diagnostic> {
    find_unsupported(scenario).into_iter().map(|(_, diagnostic)| diagnostic).collect()
}

/// That this version can run all of a scenario that was read from `text`.
///
/// # Errors
///
/// Everything it cannot run, each with its place.
pub fn check_supported(file: &str, text: &str, scenario: &Scenario) -> Result<(), Diagnostics> {
    let found = find_unsupported(scenario);
    if found.is_empty() {
        return Ok(());
    }
    let document = DeTable::parse(text).ok();
    let errors = found.into_iter().map(|(path, mut diagnostic)| {
        diagnostic.span = document.as_ref().and_then(|document| locate(document.get_ref(), &path));
        diagnostic
    });
    Err(Diagnostics::new(file, text, errors.collect()))
}

fn find_unsupported(scenario: &Scenario) -> Vec<(Vec<At>, Diagnostic)> {
    let mut found = Vec::new();
    let mut look_up = |word: &'static str, path: Vec<At>| {
        if let Some((_, machinery)) = NOT_BUILT.iter().find(|(known, _)| *known == word) {
            let message = format!("this version cannot run `{word}` yet");
            let help = format!("a part of the grammar that is not built so far: {machinery}");
            found.push((path, Diagnostic::new(DiagnosticKind::Unsupported, None, message).help(help)));
        }
    };
    for (index, workload) in scenario.workloads.iter().enumerate() {
        if let Workload::Consume(consume) = workload
            && consume.group.is_some()
        {
            let path = vec![At::Key("workload"), At::Item(index), At::Key("consume"), At::Key("group")];
            look_up("consume with a group", path);
        }
    }
    for (index, step) in scenario.steps.iter().enumerate() {
        let word = step.action.word();
        look_up(word, vec![At::Key("step"), At::Item(index), At::Key(word)]);
    }
    for (index, rule) in scenario.nemesis.iter().enumerate() {
        let word = rule.word();
        look_up(word, vec![At::Key("nemesis"), At::Item(index), At::Key(word)]);
    }
    found
}

/// The place of the last key of the path.
fn locate(document: &DeTable<'_>, path: &[At]) -> Option<Range<usize>> {
    let mut table = document;
    let mut list = None;
    let mut place = None;
    for step in path {
        match step {
            At::Key(key) => {
                let (name, value) = table.get_key_value(*key)?;
                place = Some(name.span());
                match value.get_ref() {
                    DeValue::Table(inner) => table = inner,
                    DeValue::Array(items) => list = Some(items),
                    _ => {}
                }
            }
            At::Item(index) => match list.take()?.get(*index)?.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => return None,
            },
        }
    }
    place
}
