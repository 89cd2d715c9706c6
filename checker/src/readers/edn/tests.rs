use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Vec<Value<'_>> {
    Reader::new(text).map(|form| form.unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}

fn shown(text: &str) -> String {
    read(text).iter().map(Value::to_string).collect::<Vec<_>>().join(" | ")
}

fn refused(text: &str) -> String {
    let mut reader = Reader::new(text);
    let error = reader.by_ref().find_map(Result::err).unwrap_or_else(|| panic!("{text} was read"));
    assert!(reader.next().is_none(), "nothing follows an error");
    let mut reader = Reader::of_operations(text);
    assert_eq!(reader.find_map(Result::err).as_ref(), Some(&error), "{text}");
    assert!(reader.next().is_none(), "nothing follows an error");
    error.to_string()
}

#[test]
fn every_kind_of_form_is_read_and_written_again() {
    let text =
        r#"nil true -7 12N 1.5e3 2/3 "a \"b\"" \a \newline :append sym (1 2) [3] #{4} {:a 1, "b" [2]} #inst "x" ##Inf"#;
    assert_eq!(shown(text).replace(" | ", " "), text.replace("12N", "12"));
    assert_eq!(read("0x1f -0x10 +5"), read("31 -16 5N"));
    for number in ["99999999999999999999", "99999999999999999999N", "1.0M", "-3/4", "1e-3", "0xffffffffffffffffff"] {
        assert_eq!(read(number)[0].kind, Kind::Number(number));
    }
}

#[test]
fn an_operation_of_jepsen_reads_as_its_map() {
    let record = "#jepsen.history.Op{:index 3, :time 12, :type :invoke, :process 0, :f :txn, :value [[:r 1 nil]]}";
    let plain = "{:index 3 :time 12 :type :invoke\n :process 0 :f :txn :value [[:r 1 nil]]}";
    assert_eq!(read(record), read(plain));
    let op = &read(record)[0];
    assert_eq!(op.get("type").and_then(Value::keyword), Some("invoke"));
    assert_eq!(op.get("index").and_then(Value::integer), Some(3));
    assert_eq!(op.get("value").and_then(Value::items).map(<[_]>::len), Some(1));
    assert!(op.get("error").is_none());
}

#[test]
fn forms_carry_the_line_they_begin_on() {
    let lines = |text| read(text).iter().map(|value| value.line).collect::<Vec<_>>();
    assert_eq!(lines("1 2\n; 3\n\n{:a\n 4} \"x\ny\" 5"), [1, 1, 4, 5, 6]);
    let nested = read("[\n1\n2]");
    assert_eq!(nested[0].items().map(|items| items[1].line), Some(3));
}

#[test]
fn comments_and_discarded_forms_are_skipped() {
    assert_eq!(shown("; all\n1 #_2 #_ {:a [  ;]\n]} 3 #_ #_ 4 5 6 ; end"), "1 | 3 | 6");
    assert_eq!(shown("[1 #_ 2] #_#inst \"x\""), "[1]");
    assert!(read("").is_empty() && read(" ,\n; only this").is_empty());
}

#[test]
fn strings_and_characters_know_their_escapes() {
    assert_eq!(read(r#""\t\n\\\"\u00e9\101\ud83d\ude00""#)[0].text(), Some("\t\n\\\"éA😀"));
    assert_eq!(read("\"plain\"")[0].kind, Kind::Text(Cow::Borrowed("plain")));
    assert_eq!(read(r"\( \u0041 \o101 \space")[1..], read(r"\A \A \space")[..]);
    assert_eq!(read(r"[\(]")[0].items().map(<[_]>::len), Some(1));
}

#[test]
fn errors_say_where_and_what_was_expected() {
    let texts = [
        "{:a 1\n :b [1 2",
        "{:a 1\n :b [1 2}",
        "{:a 1 :b}",
        "]",
        "é [1 #_]",
        "\"abc",
        r#""a\qb""#,
        r#""\u12""#,
        r#""\ud800x""#,
        "12x",
        "1 2.3.4",
        "#",
        "##Info",
        "[:]",
        r"\nope",
        "\u{1}",
        "#tag",
        "{:value {[1 2]}}",
        "{:value #t {:a {[1] 2} #u [3 4]}}",
        "[{:value (1 2]} 3)",
        "[{:value 1} {:value #{[1 2",
        "({:value 1} #_)",
    ];
    let told: Vec<String> = texts.iter().map(|text| format!("{text:?}\n    {}", refused(text))).collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn no_nesting_exhausts_the_stack() {
    for open in ["[", "(", "{", "#{", "#_", "#_#a ", "#tag "] {
        assert!(refused(&open.repeat(200_000)).contains("nested deeper than 128"), "{open}");
    }
    let deep = "[".repeat(DEPTH) + &"]".repeat(DEPTH);
    assert_eq!(shown(&deep), deep);
}

#[test]
fn operations_are_found_alone_or_in_a_vector_and_read_again_as_they_are() {
    let maps = [
        "{:f 1, :value [[:r 1 nil] {:a [1 2]} #t {[3] 4}]}",
        "#op{:f 2, :key {:value [1]}, :value #{2}}",
        "{:value -3}",
    ];
    for text in [maps.join("\n"), format!("[{}]", maps.join(" #_{:value [1]}\n")), format!(";\n({})", maps.join(","))] {
        let mut reader = Reader::of_operations(&text);
        let mut found = Vec::new();
        while let Some(form) = reader.next_form().expect("forms") {
            found.push(form);
        }
        let skimmed: Vec<String> = found.iter().map(|(_, value)| value.to_string()).collect();
        assert_eq!(skimmed, ["{:f 1, :value []}", "{:f 2, :key {:value [1]}, :value #{}}", "{:value -3}"], "{text}");
        for ((source, value), map) in found.into_iter().zip(maps).rev() {
            let again = Reader::new(&text).again(source);
            assert_eq!((again.line, &again), (value.line, &read(map)[0]), "{text}");
        }
    }
    let nested = |text| Reader::of_operations(text).map(|form| form.expect("forms").to_string()).collect::<Vec<_>>();
    assert_eq!(nested("[[1 {:value [2]}]] #t [{:value [3]}] []"), ["[1 {:value [2]}]", "#t [{:value [3]}]"]);
}

fn value() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        any::<i64>().prop_map(|value| value.to_string()),
        "[a-z*!?$%&=<>_][a-z0-9/#']{0,5}",
        ":[a-z/-]{1,5}",
        Just("nil".to_owned()),
        any::<String>().prop_map(|text| Value { line: 1, kind: Kind::Text(text.into()) }.to_string()),
        any::<char>().prop_map(|c| Value { line: 1, kind: Kind::Char(c) }.to_string()),
    ];
    atom.prop_recursive(4, 24, 4, |inner| {
        let items = prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            items.clone().prop_map(|items| format!("[{}]", items.join(" "))),
            items.clone().prop_map(|items| format!("({})", items.join(" , "))),
            items.clone().prop_map(|items| format!("#{{{}}}", items.join("\n"))),
            items.prop_map(|items| {
                let pairs: Vec<String> = items.iter().map(|item| format!("{item} {item}")).collect();
                format!("{{{}}}", pairs.join(", "))
            }),
            inner.prop_map(|item| format!("#t/ag {item}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_text_is_an_error_or_forms_that_read_the_same_again(
        text in prop_oneof![
            any::<String>(),
            r##"[\[\](){}#_:"\\;0-9a-zN./+\n ,é-]{0,60}"##,
        ],
    ) {
        let forms: Result<Vec<Value<'_>>, Error> = Reader::new(&text).collect();
        match forms {
            Ok(forms) => {
                let written = forms.iter().map(Value::to_string).collect::<Vec<_>>().join(" ");
                let again: Result<Vec<Value<'_>>, Error> = Reader::new(&written).collect();
                prop_assert_eq!(again.expect("what was written is read"), forms);
            }
            Err(error) => {
                prop_assert!(error.line as usize <= text.lines().count().max(1) + 1);
                prop_assert!(error.column >= 1 && !error.what.is_empty());
            }
        }
    }

    #[test]
    fn looking_for_operations_finds_the_same_error(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", "(", ")", "#{", "#_", "#t ", ":value ", ":value {", "1 ", "-2 ", "\"s\"", ":a ", "1x ", "\n",
            ]),
            0..24,
        ),
    ) {
        let text = words.concat();
        let whole = Reader::new(&text).find_map(Result::err);
        prop_assert_eq!(Reader::of_operations(&text).find_map(Result::err), whole);
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_refused(text in value(), cut in any::<prop::sample::Index>()) {
        let text = format!("[{text}]");
        let forms: Vec<Value<'_>> = Reader::new(&text).collect::<Result<_, _>>().expect("generated");
        let written = forms[0].to_string();
        let again: Vec<Value<'_>> = Reader::new(&written).collect::<Result<_, _>>().expect("written");
        prop_assert_eq!(&again, &forms);
        let ends: Vec<usize> = written.char_indices().map(|(at, _)| at).filter(|at| *at > 0).collect();
        let cut = &written[..*cut.get(&ends)];
        prop_assert!(Reader::new(cut).any(|form| form.is_err()), "{}", cut);
    }
}
