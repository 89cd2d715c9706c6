//! Invocations and returns, paired into operations.
//!
//! The order of the lines is the order of time. A process does one thing after the other, so its return belongs to the
//! invocation it has open. What contradicts that is no history, and is refused with its line.
//!
//! Of a text that is long, the values are longer still. So no more is kept of an operation than where its two lines are: all
//! of the text is read once to pair them, and each operation again when it is its turn.

use super::atoms::shortened;
use super::edn::{Kind, Reader, Source, Value};
use super::{Form, jepsen_log};
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
    /// The map of the invocation.
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

/// What is kept of an operation: the fields of [`Operation`] that pairing finds out, and where the two maps are.
struct Paired<'a> {
    process: i64,
    name: &'a str,
    outcome: Outcome,
    invoked: u32,
    call: Source,
    /// With its place in the order.
    returned: Option<(u32, Source)>,
}

/// The operations of a text, in order of invocation.
pub struct Operations<'a> {
    text: &'a str,
    form: Form,
    all: Vec<Paired<'a>>,
}

impl<'a> Operations<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What was done, by each of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.all.iter().map(|paired| paired.name)
    }

    /// Reads one after the other.
    pub fn iter(&self) -> impl Iterator<Item = Operation<'a>> {
        let mut reader = Reader::new(self.text);
        let mut again = move |source| match self.form {
            Form::JepsenLog => jepsen_log::again(self.text, source),
            Form::Edn | Form::JsonLines => reader.again(source),
        };
        self.all.iter().map(move |paired| Operation {
            process: paired.process,
            name: paired.name,
            outcome: paired.outcome,
            invoked: paired.invoked,
            returned: paired.returned.map(|(place, _)| place),
            call: again(paired.call),
            completion: paired.returned.map(|(_, source)| again(source)),
        })
    }
}

/// The maps of an EDN history. A vector or list of maps is as good as the maps themselves.
fn entries(text: &str) -> impl Iterator<Item = Result<(Source, Value<'_>), String>> {
    let mut reader = Reader::of_operations(text);
    std::iter::from_fn(move || reader.next_form().map_err(|error| error.to_string()).transpose())
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

/// Pairs the lines of each process. Text that is neither EDN nor a log has none.
///
/// # Errors
/// The first line that is none, comes before its time, returns what was not invoked, or invokes while another operation
/// of its process is open.
pub(super) fn read(text: &str, form: Form) -> Result<Operations<'_>, String> {
    let all = match form {
        Form::JepsenLog => pair(jepsen_log::entries(text))?,
        Form::Edn | Form::JsonLines => pair(entries(text))?,
    };
    Ok(Operations { text, form, all })
}

fn pair<'a>(entries: impl Iterator<Item = Result<(Source, Value<'a>), String>>) -> Result<Vec<Paired<'a>>, String> {
    let mut operations: Vec<Paired<'a>> = Vec::new();
    // By process: which operation, and the key that it was invoked with.
    let mut open: BTreeMap<i64, (usize, Option<Value<'a>>)> = BTreeMap::new();
    let mut latest: [Option<i64>; 2] = [None, None];
    let mut place = 0u32;
    for entry_at in entries {
        let (source, map) = entry_at?;
        let wrong = |what: String| format!("line {}: {what}", map.line);
        let entry = entry(&map).map_err(wrong)?;
        in_order(&map, &mut latest).map_err(wrong)?;
        let Some(Entry { process, kind, name }) = entry else { continue };
        if kind == "invoke" {
            if let Some((other, _)) = open.insert(process, (operations.len(), map.get("key").cloned())) {
                let Paired { name: was, call: Source { line, .. }, .. } = operations[other];
                return Err(wrong(format!(
                    "process {process} invokes :{name} while its :{was} of line {line} is open"
                )));
            }
            let outcome = Outcome::Unknown;
            operations.push(Paired { process, name, outcome, invoked: place, call: source, returned: None });
        } else {
            let Some((at, asked)) = open.remove(&process) else {
                return Err(wrong(format!("process {process} returns :{name}, and has nothing open")));
            };
            let operation = &mut operations[at];
            let line = operation.call.line;
            if operation.name != name {
                let was = operation.name;
                return Err(wrong(format!("process {process} returns :{name}, and invoked :{was} in line {line}")));
            }
            if let (Some(asked), Some(answered)) = (&asked, map.get("key"))
                && asked != answered
            {
                return Err(wrong(format!(
                    "process {process} returns key {answered}, and invoked key {asked} in line {line}"
                )));
            }
            operation.outcome = match kind {
                "ok" => Outcome::Ok,
                "fail" => Outcome::Fail,
                _ => Outcome::Unknown,
            };
            operation.returned = Some((place, source));
        }
        place = place.checked_add(1).ok_or("more lines than this can count")?;
    }
    Ok(operations)
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
    use super::super::{Form, Operation, read_operations};

    fn refused(text: &str) -> String {
        let form = Form::of(text).and_then(|form| form.ok_or_else(|| "nothing".to_owned()));
        form.and_then(|form| read_operations(text, form)).map(|operations| operations.len()).expect_err(text)
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
            assert_eq!((operations.len(), operations.is_empty()), (2, false));
            let operations: Vec<Operation<'_>> = operations.iter().collect();
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
            let (begun, ended) = if form == Form::Edn { (2, 5) } else { (3, 6) };
            assert_eq!(operations[1].lines(), (begun, Some(ended)));
            assert_eq!((operations[1].asked().line, operations[1].answered().line), (begun, ended));
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
