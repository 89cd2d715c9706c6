//! Invocations and returns, paired into operations.
//!
//! The order of the lines is the order of time. A process does one thing after the other, so its return belongs to the
//! invocation it has open. What contradicts that is no history, and is refused with its line.

use super::atoms::shortened;
use super::edn::{Kind, Reader, Value};
use crate::history::Outcome;
use std::collections::BTreeMap;

/// One operation of one process.
#[derive(Clone, Debug)]
pub struct Operation<'a> {
    /// Who did it.
    pub process: i64,
    /// `:f`, what was done.
    pub name: &'a str,
    /// What came of it. `Unknown` when it never returned, or returned `:info`.
    pub outcome: Outcome,
    /// The place of the invocation in the order of all invocations and returns.
    pub invoked: u32,
    /// The place of the return; `None` when there is none.
    pub returned: Option<u32>,
    /// The map of the invocation, without what the fields above say.
    pub call: Value<'a>,
    /// The map of the return, likewise.
    pub completion: Option<Value<'a>>,
}

static NIL: Value<'static> = Value { line: 0, kind: Kind::Nil };

impl<'a> Operation<'a> {
    /// The line of the invocation.
    #[must_use]
    pub fn line(&self) -> u32 {
        self.call.line
    }

    /// The lines of the invocation and of the return.
    pub(crate) fn lines(&self) -> (u32, Option<u32>) {
        (self.line(), self.completion.as_ref().map(|answer| answer.line))
    }

    /// `:value` of the invocation; nil when it has none.
    #[must_use]
    pub fn asked(&self) -> &Value<'a> {
        self.call.get("value").unwrap_or(&NIL)
    }

    /// `:value` of the return; nil when there is none.
    #[must_use]
    pub fn answered(&self) -> &Value<'a> {
        self.completion.as_ref().and_then(|map| map.get("value")).unwrap_or(&NIL)
    }

    /// `:error` of the return.
    #[must_use]
    pub fn error(&self) -> Option<&Value<'a>> {
        self.completion.as_ref().and_then(|map| map.get("error")).filter(|error| !error.is_nil())
    }

    /// Until when it may have taken effect, in the order of all invocations and returns: without end when nobody knows what
    /// came of it.
    #[must_use]
    pub fn effect_ends(&self) -> u64 {
        match (self.outcome, self.returned) {
            (Outcome::Ok | Outcome::Fail, Some(returned)) => u64::from(returned),
            _ => u64::MAX,
        }
    }
}

/// The maps of an EDN history. A vector or list of maps is as good as the maps themselves.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Result<Value<'_>, String>> {
    Reader::new(text).flat_map(|form| match form {
        Ok(Value { kind: Kind::Vector(items) | Kind::List(items), .. }) => items.into_iter().map(Ok).collect(),
        Ok(value) => vec![Ok(value)],
        Err(error) => vec![Err(error.to_string())],
    })
}

/// What one line says.
struct Entry<'a> {
    process: i64,
    kind: &'a str,
    name: &'a str,
}

/// `None` for what no client did.
fn entry<'a>(map: &Value<'a>) -> Result<Option<Entry<'a>>, String> {
    if !matches!(map.kind, Kind::Map(_)) {
        return Err(format!("an operation is a map, not `{}`", shortened(map)));
    }
    let field = |name: &str| map.get(name).ok_or_else(|| format!("an operation has :{name}, and this has none"));
    let word = |name: &str| {
        let value = field(name)?;
        value.keyword().ok_or_else(|| format!(":{name} is a keyword, not `{}`", shortened(value)))
    };
    let process = field("process")?;
    match process.kind {
        Kind::Integer(process) => {
            let kind = word("type")?;
            if !matches!(kind, "invoke" | "ok" | "fail" | "info") {
                return Err(format!(":type is :invoke, :ok, :fail or :info, not :{kind}"));
            }
            Ok(Some(Entry { process, kind, name: word("f")? }))
        }
        Kind::Keyword(_) => Ok(None),
        _ => Err(format!(":process is a number, not `{}`", shortened(process))),
    }
}

/// Pairs the lines of each process.
///
/// # Errors
/// The first line that is none, comes before its time, returns what was not invoked, or invokes while another operation
/// of its process is open.
pub(super) fn pair<'a>(entries: impl Iterator<Item = Result<Value<'a>, String>>) -> Result<Vec<Operation<'a>>, String> {
    let mut operations: Vec<Operation<'a>> = Vec::new();
    let mut open: BTreeMap<i64, usize> = BTreeMap::new();
    let mut latest: [Option<i64>; 2] = [None, None];
    let mut place = 0u32;
    for map in entries {
        let map = map?;
        let wrong = |what: String| format!("line {}: {what}", map.line);
        let entry = entry(&map).map_err(wrong)?;
        in_order(&map, &mut latest).map_err(wrong)?;
        let Some(Entry { process, kind, name }) = entry else { continue };
        if kind == "invoke" {
            if let Some(other) = open.insert(process, operations.len()) {
                let other: &Operation<'_> = &operations[other];
                let (was, line) = (other.name, other.line());
                return Err(wrong(format!(
                    "process {process} invokes :{name} while its :{was} of line {line} is open"
                )));
            }
            operations.push(Operation {
                process,
                name,
                outcome: Outcome::Unknown,
                invoked: place,
                returned: None,
                call: kept(map),
                completion: None,
            });
        } else {
            let Some(at) = open.remove(&process) else {
                return Err(wrong(format!("process {process} returns :{name}, and has nothing open")));
            };
            let operation = &mut operations[at];
            if operation.name != name {
                let (was, line) = (operation.name, operation.line());
                return Err(wrong(format!("process {process} returns :{name}, and invoked :{was} in line {line}")));
            }
            let keys = (operation.call.get("key"), map.get("key"));
            if let (Some(asked), Some(answered)) = keys
                && asked != answered
            {
                let line = operation.line();
                return Err(wrong(format!(
                    "process {process} returns key {answered}, and invoked key {asked} in line {line}"
                )));
            }
            operation.outcome = match kind {
                "ok" => Outcome::Ok,
                "fail" => Outcome::Fail,
                _ => Outcome::Unknown,
            };
            operation.returned = Some(place);
            operation.completion = Some(kept(map));
        }
        place = place.checked_add(1).ok_or("more lines than this can count")?;
    }
    Ok(operations)
}

/// A map without what every line says: half of the memory that a history of short operations takes.
fn kept(mut map: Value<'_>) -> Value<'_> {
    if let Kind::Map(pairs) = &mut map.kind {
        pairs.retain(|(key, _)| !matches!(key.keyword(), Some("type" | "f" | "process" | "time" | "index")));
        pairs.shrink_to_fit();
    }
    map
}

/// `:index` rises; without one, `:time` does not fall.
fn in_order(map: &Value<'_>, latest: &mut [Option<i64>; 2]) -> Result<(), String> {
    let told = ["index", "time"].map(|name| map.get(name).and_then(Value::integer));
    let is_late = match (told, *latest) {
        ([Some(index), _], [Some(before), _]) => index <= before,
        ([None, Some(time)], [None, Some(before)]) => time < before,
        _ => false,
    };
    if is_late {
        let (name, at) = if told[0].is_some() { ("index", 0) } else { ("time", 1) };
        let [now, before] = [told[at], latest[at]].map(Option::unwrap_or_default);
        return Err(format!("out of order: :{name} {now} comes after :{name} {before}"));
    }
    for (latest, told) in latest.iter_mut().zip(told) {
        *latest = told.or(*latest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Form, read_operations};

    fn refused(text: &str) -> String {
        let form = Form::of(text).and_then(|form| form.ok_or_else(|| "nothing".to_owned()));
        form.and_then(|form| read_operations(text, form)).map(|operations| format!("{operations:?}")).expect_err(text)
    }

    #[test]
    fn lines_of_one_process_make_operations() {
        let edn = "{:process 0, :type :invoke, :f :read, :value nil}\n{:process 1, :type :invoke, :f :write, :value 3}\n\
                   {:process :nemesis, :type :info, :f :start}\n{:process 0, :type :ok, :f :read, :value 3}\n\
                   {:process 1, :type :info, :f :write, :value 3, :error :timeout}\n";
        let log = "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.core - Starting\n\
                   INFO  jepsen.util - 1\t:invoke\t:write\t3\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n\
                   INFO  jepsen.util - 0\t:ok\t:read\t3\nINFO  jepsen.util - 1\t:info\t:write\t3\t:timeout\n";
        let vector = format!("[{edn}]");
        for text in [edn, log, &vector] {
            let form = Form::of(text).expect("a form").expect("something");
            let operations = read_operations(text, form).expect("a history");
            let told: Vec<String> = operations
                .iter()
                .map(|op| {
                    let (asked, answered) = (op.asked(), op.answered());
                    format!(
                        "{} {} {asked} {answered} {:?} {} {:?}",
                        op.process, op.name, op.outcome, op.invoked, op.returned
                    )
                })
                .collect();
            assert_eq!(told, ["0 read nil 3 Ok 0 Some(2)", "1 write 3 3 Unknown 1 Some(3)"], "{text}");
            assert_eq!(operations[1].error().map(ToString::to_string).as_deref(), Some(":timeout"));
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_its_line() {
        let invoke = "{:process 0, :type :invoke, :f :read, :key 1, :index 5}\n";
        let texts = [
            format!("{invoke}{{:process 0, :type :invoke, :f :write, :value 3}}"),
            "{:process 0, :type :ok, :f :read}".to_owned(),
            format!("{invoke}{{:process 0, :type :ok, :f :write}}"),
            format!("{invoke}{{:process 0, :type :ok, :f :read, :key 2}}"),
            format!("{invoke}{{:process 0, :type :ok, :f :read, :key 1, :index 4}}"),
            "{:process 0, :type :invoke, :f :read, :time 5}\n\n{:process 0, :type :ok, :f :read, :time 4}".to_owned(),
            format!("{invoke}{{:process 0, :type :ok, :f :re"),
            format!("{invoke}17"),
            "{:process 0, :type :maybe, :f :read}".to_owned(),
            "{:process \"0\", :type :ok, :f :read}".to_owned(),
            "{:type :ok, :f :read}".to_owned(),
            "{:process 1, :type :ok, :f 1}".to_owned(),
            "\n\nhello".to_owned(),
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok".to_owned(),
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:cas\t[1 2".to_owned(),
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nIN".to_owned(),
            "INFO  jepsen.util - 0\t:invoke\t:read\tnil\t1\t2".to_owned(),
        ];
        let told: Vec<String> = texts.iter().map(|text| format!("{text}\n    {}", refused(text))).collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_text_that_says_nothing_has_no_form() {
        assert_eq!(Form::of("\n  \n; a comment\n"), Ok(None));
        assert_eq!(Form::of("; about\n {:process 0"), Ok(Some(Form::Edn)));
        assert_eq!(Form::of("{ \"id\": 0"), Ok(Some(Form::JsonLines)));
        assert_eq!(Form::of("#jepsen.history.Op{:process 0"), Ok(Some(Form::Edn)));
    }
}
