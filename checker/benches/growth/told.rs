//! Histories as others write them.

use std::fmt::Write;

/// Operations of `processes`, each in flight for as long as a round of all of them takes, that take effect when they return:
/// `does` tells each of them its process and its number, and gets what was asked and what was answered.
fn edn(count: u64, processes: u64, mut does: impl FnMut(u64, u64) -> [String; 2]) -> String {
    let mut text = String::new();
    let mut open: Vec<Option<String>> = vec![None; processes as usize];
    for number in 0..count + processes {
        let process = number % processes;
        if let Some(answer) = open[process as usize].take() {
            let _ = writeln!(text, "{{:process {process}, {answer}}}");
        }
        if number < count {
            let [asked, answered] = does(process, number);
            let _ = writeln!(text, "{{:process {process}, :type :invoke, {asked}}}");
            open[process as usize] = Some(format!(":type :ok, {answered}"));
        }
    }
    text
}

/// Appends, gets and now and then a put; 200 operations a key, ten processes.
pub(crate) fn store(count: u64) -> String {
    let mut values: Vec<String> = Vec::new();
    edn(count, 10, |process, number| {
        let key = number / 200;
        values.resize((key + 1) as usize, String::new());
        let value = &mut values[key as usize];
        let (name, text) = match number % 20 {
            0 => ("put", format!("\"p {process} {number} \"")),
            at if at % 2 == 0 => ("append", format!("\"a {process} {number} \"")),
            _ => ("get", format!("{value:?}")),
        };
        match name {
            "put" => *value = text.trim_matches('"').to_owned(),
            "append" => value.push_str(text.trim_matches('"')),
            _ => return ["nil", &text].map(|text| format!(":f :get, :key {key}, :value {text}")),
        }
        [(); 2].map(|()| format!(":f :{name}, :key {key}, :value {text}"))
    })
}

/// Writes of five values and reads of one register, ten processes.
pub(crate) fn register(count: u64) -> String {
    let mut value = "nil".to_owned();
    edn(count, 10, |_, number| match number % 3 {
        0 => {
            value = (number % 5).to_string();
            [(); 2].map(|()| format!(":f :write, :value {value}"))
        }
        _ => [":f :read, :value nil".to_owned(), format!(":f :read, :value {value}")],
    })
}

/// Transactions of up to four steps, twenty processes at a time, on keys of 32 elements: serial, or each round of twenty
/// on the snapshot that it began with.
pub(crate) fn transactions(count: u64, serial: bool) -> String {
    let mut text = String::new();
    let mut lists: Vec<Vec<u64>> = vec![Vec::new(); 10];
    let mut first_key = 0;
    let mut chance = 42u64;
    let mut draw = move |below: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (chance >> 33) % below
    };
    for round in 0..count / 20 {
        let mut lines = Vec::new();
        let before = lists.clone();
        for process in 0..20 {
            let (mut asked, mut answered) = (String::new(), String::new());
            for _ in 0..=draw(4) {
                let at = draw(10) as usize;
                let key = first_key + at as u64;
                if draw(2) == 0 {
                    let value = lists[at].len() as u64 + 1;
                    lists[at].push(value);
                    write!(asked, "[:append {key} {value}] ").expect("a string");
                    write!(answered, "[:append {key} {value}] ").expect("a string");
                } else {
                    let list = if serial { &lists[at] } else { &before[at] };
                    write!(asked, "[:r {key} nil] ").expect("a string");
                    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                    write!(answered, "[:r {key} [{}]] ", list.join(" ")).expect("a string");
                }
            }
            writeln!(text, "{{:process {process}, :type :invoke, :f :txn, :value [{asked}]}}").expect("a string");
            lines.push(format!("{{:process {process}, :type :ok, :f :txn, :value [{answered}]}}\n"));
        }
        text.extend(lines);
        if round % 12 == 11 {
            first_key += 10;
            lists.iter_mut().for_each(Vec::clear);
        }
    }
    text
}
