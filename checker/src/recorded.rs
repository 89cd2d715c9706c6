//! A history recorded anywhere, as text: its form found out, read, and judged by a model.

use crate::exactly_once::levels::Level;
use crate::linearizability::models::{kv, register};
use crate::linearizability::objects;
use crate::readers::{Form, Operations, read_operations};
use crate::verdict::{CheckResult, Progress, Verdict, verdict};
use std::fmt;
use std::str::FromStr;

/// What a history is judged as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Clients of Kafka: every check of what clients see.
    Kafka,
    /// Each partition as one linearizable log: L1 to L4.
    Log,
    /// A register: `:read`, `:write`.
    Register,
    /// A register with compare-and-set, `:cas [from to]`.
    CasRegister,
    /// A store of strings by key: `:get`, `:put`, `:append`.
    Kv,
    /// Transactions that append to lists and read them.
    ListAppend,
}

impl Model {
    /// All of them.
    pub const ALL: [Model; 6] =
        [Model::Kafka, Model::Log, Model::Register, Model::CasRegister, Model::Kv, Model::ListAppend];

    /// What the command line calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Model::Kafka => "kafka",
            Model::Log => "log",
            Model::Register => "register",
            Model::CasRegister => "cas-register",
            Model::Kv => "kv",
            Model::ListAppend => "list-append",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Model {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Model::ALL.into_iter().find(|model| model.name() == text);
        found.ok_or_else(|| format!("`{text}` is no model; there are {}", Model::ALL.map(Model::name).join(", ")))
    }
}

/// How to judge.
#[derive(Clone, Debug)]
pub struct Options {
    /// As what; `None`: as what the operations look like.
    pub model: Option<Model>,
    /// Most steps of a search. A search that would need more ends as unknown.
    pub budget: u64,
    /// What transactions are held to, by the models that have any.
    pub level: Level,
}

impl Options {
    /// The default of `budget`: some seconds.
    pub const BUDGET: u64 = 100_000_000;
}

impl Default for Options {
    fn default() -> Self {
        Options { model: None, budget: Self::BUDGET, level: Level::default() }
    }
}

/// A history's judgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Judged {
    /// As what it was judged; `None` when there was nothing to tell by.
    pub model: Option<Model>,
    /// The judgement.
    pub verdict: Verdict,
    /// Why it is no pass, a reason a line.
    pub reasons: Vec<String>,
    /// What each check found.
    pub checks: Vec<CheckResult>,
    /// How many operations it has.
    pub operations: usize,
    /// The most that a reader was behind, in a history of our own; `None` elsewhere, and when none was.
    pub lag: Option<crate::RealtimeLag>,
}

impl Judged {
    fn of(model: Option<Model>, operations: usize, checks: Vec<CheckResult>) -> Self {
        let (verdict, mut reasons) = verdict(&checks, &Progress::default());
        if operations == 0 {
            reasons = vec!["the history has no operation".to_owned()];
        }
        Judged { model, verdict, reasons, checks, operations, lag: None }
    }
}

/// Reads and judges a history.
///
/// # Errors
/// What is wrong with the text, and in which line; or that the model cannot judge what it holds.
pub fn judge_text(text: &str, options: &Options) -> Result<Judged, String> {
    let Some(form) = Form::of(text)? else {
        return Ok(Judged::of(options.model, 0, Vec::new()));
    };
    if form == Form::JsonLines {
        return judge_json(text, options);
    }
    let operations = read_operations(text, form)?;
    let model = options.model.or_else(|| model_of(&operations));
    match model {
        None => match operations.iter().next() {
            None => Ok(Judged::of(None, 0, Vec::new())),
            Some(first) => {
                Err(format!("line {}: no model judges :{}; name one with --model", first.line(), first.name))
            }
        },
        Some(model @ (Model::Register | Model::CasRegister)) => {
            let registers = register::registers(&operations, model == Model::CasRegister)?;
            let check = objects::check(
                "linearizable-register",
                "Every operation takes effect at one instant between its invocation and its return: a read gives what was \
                 written last, and a compare-and-set succeeds exactly when it finds what it expects.",
                &registers,
                options.budget,
            );
            Ok(Judged::of(Some(model), operations.len(), vec![check]))
        }
        Some(Model::Kv) => {
            let check = objects::check(
                "linearizable-kv",
                "Every operation takes effect at one instant between its invocation and its return: a get gives what the \
                 puts and appends to its key have made of it.",
                &kv::keys(&operations)?,
                options.budget,
            );
            Ok(Judged::of(Some(Model::Kv), operations.len(), vec![check]))
        }
        Some(Model::ListAppend) => {
            let checks = crate::list_append::judge(&operations, options.level, options.budget)?;
            Ok(Judged::of(model, operations.len(), checks))
        }
        Some(Model::Kafka) => {
            let checks = crate::jepsen_kafka::judge(&operations, options.budget)?;
            Ok(Judged::of(model, operations.len(), checks))
        }
        Some(Model::Log) => Err("model log judges JSON lines, and these are none".to_owned()),
    }
}

fn judge_json(text: &str, options: &Options) -> Result<Judged, String> {
    let (context, history) = crate::read_recording(text)?;
    let context = context.unwrap_or_default();
    let model = options.model.unwrap_or(Model::Kafka);
    let checks = match model {
        Model::Kafka => crate::judge(&history, &context),
        Model::Log => crate::judge_log(&history, &context),
        _ => return Err(format!("JSON lines hold Kafka's operations; model {model} judges EDN and Jepsen's log")),
    };
    let lag = crate::realtime_lag(&history);
    Ok(Judged { lag, ..Judged::of(Some(model), history.ops.len(), checks) })
}

/// As what operations look, by the first that is telling.
fn model_of(operations: &Operations<'_>) -> Option<Model> {
    let has = |name: &str| operations.names().any(|other| other == name);
    operations.iter().find_map(|operation| match operation.name {
        "get" | "put" | "append" => Some(Model::Kv),
        "read" | "write" | "cas" => Some(if has("cas") { Model::CasRegister } else { Model::Register }),
        "send" | "poll" | "assign" | "subscribe" | "crash" => Some(Model::Kafka),
        "txn" => {
            let steps = operation.asked().items()?;
            steps.iter().find_map(|step| match step.items()?.first()?.keyword()? {
                "append" | "r" => Some(Model::ListAppend),
                "send" | "poll" => Some(Model::Kafka),
                _ => None,
            })
        }
        _ => None,
    })
}
