use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A scenario that is right, into which each test puts what is wrong.
const GOOD: &str = r#"name = "t"
[cluster]
brokers = 3
controllers = 3
racks = ["a", "b"]
[[topic]]
name = "orders"
partitions = 2
[[workload]]
produce = { topic = "orders" }
"#;

fn errors_of(text: &str) -> Diagnostics {
    match parse("scenario.toml", text) {
        Ok(scenario) => panic!("this should be wrong:\n{text}\nbut reads as {scenario:?}"),
        Err(errors) => errors,
    }
}

/// The errors of the right scenario with something put before it and something after.
fn with(before: &str, after: &str) -> String {
    errors_of(&format!("{before}{GOOD}{after}")).render(false)
}

macro_rules! golden {
    ($($name:ident: $before:expr, $after:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::assert_snapshot!(with($before, $after));
        })*
    };
}

golden! {
    an_unknown_key_at_the_top: "qestion = \"?\"\n", "";
    an_unknown_section: "", "[clutser]\nbrokers = 1\n";
    an_unknown_field_of_an_action: "", "[[step]]\nat = \"1s\"\ncrash = { node = \"broker-1\", dwon = \"3s\" }\n";
    an_unknown_action: "", "[[step]]\nat = \"1s\"\ncrahs = { node = \"broker-1\" }\n";
    an_unknown_topic: "", "[[workload]]\nconsume = { topic = \"oders\" }\n";
    an_unknown_partition: "", "[[step]]\nwhen = \"orders-2.acked >= 100\"\ncrash = { node = \"leader(orders-5)\" }\n";
    an_unknown_role: "", "[[step]]\nat = \"1s\"\ncrash = { node = \"leeder(orders-0)\" }\n";
    an_unknown_node: "", "[[step]]\nat = \"1s\"\npartition = { groups = [[\"broker-4\", \"controller-9\"], [\"rest\"]] }\n";
    an_unknown_rack: "", "[[step]]\nat = \"1s\"\npower-loss = { node = \"rack(c)\" }\n";
    an_unknown_mark: "", "[expect]\nmarks = [\"leader-elected\", \"isr-shrnk\"]\n";
    an_unknown_gauge: "", "[[step]]\nwhen = \"orders-0.akced >= 1\"\nheal = {}\n";
    a_follower_that_there_cannot_be: "", "[[step]]\nat = \"1s\"\npause = { node = \"follower(orders-0, 3)\", for = \"1s\" }\n";
    a_duration_without_a_unit: "", "[run]\nduration = \"60\"\n";
    a_range_that_runs_backwards: "", "[network]\nlatency = \"5ms..1ms\"\n";
    a_value_of_the_wrong_kind: "", "[[workload]]\nproduce = { topic = \"orders\", rate = 100, clients = \"three\", idempotence = \"yes\" }\n";
    a_number_out_of_range: "", "[[workload]]\nproduce = { topic = \"orders\", clients = 0 }\n";
    a_step_without_a_trigger_and_one_with_two: "", "[[step]]\nheal = {}\n[[step]]\nat = \"1s\"\nwhen = \"controller.epoch >= 2\"\ncheck = {}\n";
    a_step_with_two_actions: "", "[[step]]\nat = \"1s\"\nheal = {}\ncheck = {}\n";
    a_step_without_an_action: "", "[[step]]\nat = \"1s\"\n";
    a_step_after_the_end: "", "[[step]]\nat = \"61s\"\nheal = {}\n";
    a_partition_of_two_forms: "", "[[step]]\nat = \"1s\"\npartition = { groups = [[\"all\"], [\"rest\"]], from = \"broker-1\" }\n";
    a_nemesis_that_never_fires: "", "[[nemesis]]\ncrash = { nodes = \"any broker\", every = \"2m\", down = \"1s\" }\n";
    a_nemesis_without_its_fields: "", "[[nemesis]]\ncrash = { node = \"any broker\" }\n";
    a_workload_that_is_not_built: "", "[[workload]]\ntransfer = { accounts = 8 }\n";
    a_workload_that_does_two_things: "", "[[workload]]\nadmin-churn = {}\nproduce = { topic = \"orders\" }\n";
    a_churn_of_no_topics: "", "[[workload]]\nadmin-churn = { topic = \"orders\", topics = 0, rate = 5 }\n";
    a_churn_that_would_delete_a_topic: "", "[[topic]]\nname = \"churn-1\"\n[[workload]]\nadmin-churn = {}\n";
    idempotence_without_all_acks: "", "[[workload]]\nproduce = { topic = \"orders\", acks = \"1\", idempotence = true }\n";
    a_group_that_nobody_is_in: "", "[[step]]\nwhen = \"group(billing).generation >= 2\"\nheal = {}\n";
    one_table_where_a_list_is_meant: "", "[step]\nat = \"1s\"\nheal = {}\n";
    no_toml_on_one_line_and_an_error_on_another: "question = \"what\n", "[run]\nduratoin = \"5s\"\n";
    a_key_said_twice: "name = \"again\"\n", "";
}

#[test]
fn kafka_keys_are_checked_by_name_type_and_range() {
    let text = r#"name = "t"
[cluster]
config = { "min.insync.replica" = 2, "num.io.threads" = 0, "retention.ms" = 5, "node.id" = 7, "auto.create.topics.enable" = "maybe" }
[[topic]]
name = "orders"
config = { "cleanup.policy" = "compct", "min.cleanable.dirty.ratio" = 1.5, "log.flush.interval.messages" = 1, "max.message.bytes" = 99999999999 }
[[topic]]
name = "other"
config = { min.insync.replicas = 2 }
"#;
    insta::assert_snapshot!(errors_of(text).render(false));
}

#[test]
fn replicas_must_fit_the_cluster_and_min_insync_replicas_the_replicas() {
    let text = r#"name = "t"
[cluster]
brokers = 2
config = { "min.insync.replicas" = 2 }
[[topic]]
name = "a"
replication-factor = 3
[[topic]]
name = "b"
[[topic]]
name = "c"
replication-factor = 1
[[topic]]
name = "d"
replication-factor = 2
config = { "min.insync.replicas" = 3 }
[[topic]]
name = "d"
replication-factor = 2
"#;
    insta::assert_snapshot!(errors_of(text).render(false));
}

#[test]
fn an_empty_file_lacks_a_name() {
    insta::assert_snapshot!(errors_of("").render(false));
}

#[test]
fn bytes_that_are_no_text_are_an_ordinary_error() {
    let errors = parse_bytes("noise.toml", b"name = \"t\"\n\xff\xfe\x00").unwrap_err();
    insta::assert_snapshot!(errors.render(false));
}

#[test]
fn a_file_that_is_too_long_is_not_read() {
    let errors = parse("long.toml", &"#".repeat(MAX_FILE_BYTES + 1)).unwrap_err();
    assert_eq!(errors.errors.len(), 1);
    assert!(errors.to_string().contains("1048577 bytes"), "{errors}");
}

#[test]
fn a_hostile_file_costs_no_more_than_its_size() {
    let files = [
        (0..100_000).map(|n| format!("k{n}=1\n")).collect::<String>(),
        format!("name = \"t\"\n[[step]]\n{}", (0..100_000).map(|n| format!("k{n}=1\n")).collect::<String>()),
        "[[step]]\n".repeat(100_000),
        (0..40_000).map(|n| format!("[[topic]]\nname=\"a{n}\"\n")).collect::<String>(),
        "= = =\n".repeat(150_000),
        "[".repeat(1 << 20),
        format!("a = {}", "[".repeat(1 << 19)),
        format!("a = \"{}\"", "x".repeat(1 << 19)),
        format!("{} = 1", "x".repeat(1 << 19)),
    ];
    for text in files {
        let errors = errors_of(&text);
        assert!(errors.errors.len() <= 2000, "{}", errors.errors.len());
        assert!(errors.render(false).len() < 1 << 20, "{}", errors.render(false).len());
    }
}

#[test]
fn colour_adds_nothing_but_escape_sequences() {
    let errors = errors_of(&format!("qestion = 1\n{GOOD}"));
    let coloured = errors.render(true);
    assert!(coloured.contains("\u{1b}["));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    assert_eq!(plain, errors.render(false));
}

#[test]
fn an_error_knows_its_line_and_column() {
    let errors = errors_of(&format!("{GOOD}\n[[step]]\nat = \"1s\"\ncrash = {{ node = \"broker-7\" }}\n"));
    assert_eq!(errors.line_and_column(&errors.errors[0]), Some((14, 18)));
}

#[test]
fn what_cannot_run_yet_is_blamed_at_its_place() {
    let text = format!(
        "{GOOD}[[workload]]\nconsume = {{ topic = \"orders\", group = \"billing\" }}\n[[step]]\nat = \"1s\"\nheal = {{}}\n\
         [[step]]\nat = \"2s\"\nreassign = {{ partition = \"orders-0\", replicas = [\"broker-2\"] }}\n"
    );
    let scenario = parse("scenario.toml", &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(unsupported(&scenario).len(), 2);
    insta::assert_snapshot!(check_supported("scenario.toml", &text, &scenario).unwrap_err().render(false));
}

#[test]
fn every_word_of_the_tables_is_one_the_reader_knows() {
    let known: BTreeSet<&str> = ACTIONS.iter().map(|(word, ..)| *word).collect();
    for (word, _) in NOT_BUILT {
        assert!(known.contains(word) || word.contains(' '), "{word}");
    }
    // A word with an empty body is blamed for what is missing in it, never called unknown or passed over.
    for word in known {
        let text = format!("{GOOD}[[step]]\nat = \"1s\"\n{word} = {{ nonsense = 1 }}\n");
        let errors = errors_of(&text).to_string();
        assert!(errors.contains(&format!("`nonsense` in `{word}`")), "{word}: {errors}");
    }
    for (word, _) in NEMESES {
        let text = format!("{GOOD}[[nemesis]]\n{word} = {{ nonsense = 1 }}\n");
        let errors = errors_of(&text).to_string();
        assert!(errors.contains(&format!("`nonsense` in `{word}` of a nemesis")), "{word}: {errors}");
    }
}

/// Every action in every form, and every nemesis.
const EVERYTHING: &str = include_str!("everything.toml");

#[test]
fn a_scenario_reads_back_what_it_writes() {
    let everything = parse("everything.toml", EVERYTHING).unwrap_or_else(|errors| panic!("{errors}"));
    let used: BTreeSet<&str> = everything.steps.iter().map(|step| step.action.word()).collect();
    assert_eq!(used, ACTIONS.iter().map(|(word, ..)| *word).collect(), "everything.toml shows every action");
    let drawn: BTreeSet<&str> = everything.nemesis.iter().map(NemesisRule::word).collect();
    assert_eq!(drawn, NEMESES.iter().map(|(word, _)| *word).collect(), "everything.toml shows every nemesis");
    let mut scenarios = vec![everything, parse("t", &new_template("own")).unwrap_or_else(|errors| panic!("{errors}"))];
    scenarios.extend(list_catalog().iter().filter_map(|entry| find(&entry.name)).map(|loaded| loaded.scenario));
    for scenario in scenarios {
        let text = scenario.to_toml();
        let again = parse("written.toml", &text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
        assert_eq!(again, scenario, "{text}");
        assert_eq!(again.to_toml(), text);
    }
}

#[test]
fn a_written_scenario_looks_like_a_scenario() {
    insta::assert_snapshot!(find("leader-crash").expect("in the catalog").scenario.to_toml());
}

fn repository() -> PathBuf {
    // This file is scenarios/src/file/tests.rs.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = Path::new(file!());
    let source = if source.is_absolute() { source.to_path_buf() } else { here.join("..").join(source) };
    source.ancestors().nth(4).expect("four folders up").to_path_buf()
}

fn toml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            toml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn the_catalog_is_what_lies_in_its_folder() {
    let mut files = Vec::new();
    toml_files(&repository().join("scenarios/catalog"), &mut files);
    let relative =
        |path: &PathBuf| path.strip_prefix(repository()).expect("inside").to_string_lossy().replace('\\', "/");
    let on_disk: BTreeSet<String> = files.iter().map(relative).collect();
    let listed: BTreeSet<String> = list_catalog().into_iter().map(|entry| entry.path).collect();
    assert_eq!(listed, on_disk, "the table in catalog.rs names every file of scenarios/catalog");
    assert!(listed.len() >= 20);
}

#[test]
fn every_scenario_of_the_catalog_can_run_and_says_what_it_asks() {
    let entries = list_catalog();
    let names: BTreeSet<&String> = entries.iter().map(|entry| &entry.name).collect();
    assert_eq!(names.len(), entries.len(), "each name once");
    for entry in &entries {
        let loaded = find(&entry.name).unwrap_or_else(|| panic!("the file of {} is called otherwise", entry.name));
        assert!(entry.question.ends_with('?'), "{}", entry.name);
        assert!(!entry.tags.is_empty(), "{}", entry.name);
        assert!(loaded.text.starts_with("# "), "{} begins with its story", entry.name);
        check_supported(&loaded.file, &loaded.text, &loaded.scenario).unwrap_or_else(|errors| panic!("{errors}"));
    }
    assert_eq!(nearest_name("leadr-crash"), Some("leader-crash"));
    assert_eq!(find("no-such-scenario"), None);
}

#[test]
fn a_file_is_checked_as_a_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("own.toml");
    std::fs::write(&path, new_template("own")).expect("written");
    assert_eq!(check(&path).unwrap_or_else(|errors| panic!("{errors}")).scenario.name, "own");
    std::fs::write(&path, [0, 159, 146, 150]).expect("written");
    assert!(check(&path).unwrap_err().to_string().contains("no UTF-8"));
    assert!(check(&folder.path().join("absent.toml")).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn the_schema_beside_this_file_is_the_schema() {
    let schema = serde_json::to_string_pretty(&schema()).expect("JSON") + "\n";
    let path = repository().join("scenarios/src/file/scenario.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &schema).expect("written");
    }
    let kept = std::fs::read_to_string(&path).expect("UPDATE_SCHEMA=1 writes it");
    assert!(kept == schema, "scenario.schema.json is stale: run this test with UPDATE_SCHEMA=1");
}

#[test]
fn every_example_of_the_page_about_scenario_files_is_right() {
    let page = std::fs::read_to_string(repository().join("docs/SCENARIO-FILES.md")).expect("the page");
    let mut whole = 0;
    for (index, block) in page.split("```toml\n").skip(1).enumerate() {
        let example = block.split("```").next().expect("an end");
        // A piece of a scenario is read in the company of the rest.
        let text = if example.starts_with("name") || example.starts_with('#') {
            whole += 1;
            example.to_string()
        } else {
            format!(
                "name = \"t\"\n[cluster]\nracks = [\"a\", \"b\", \"c\"]\n[[topic]]\nname = \"orders\"\npartitions = 4\n{example}"
            )
        };
        parse(&format!("example {}", index + 1), &text).unwrap_or_else(|errors| panic!("{errors}"));
    }
    assert!(whole >= 1, "the page has a whole example");
}

/// A file of the catalog with a piece taken out, doubled or replaced.
fn mutated() -> impl Strategy<Value = String> {
    let texts: Vec<String> = list_catalog()
        .iter()
        .filter_map(|entry| find(&entry.name))
        .map(|loaded| loaded.text)
        .chain([EVERYTHING.to_string(), new_template("own")])
        .collect();
    let change = (any::<prop::sample::Index>(), 0usize..12, "[\\PC\\n]{0,6}|\"|\\[\\[|\\}|= |-9|1e999|1979-05-27");
    (prop::sample::select(texts), prop::collection::vec(change, 1..5)).prop_map(|(text, changes)| {
        let mut characters: Vec<char> = text.chars().collect();
        for (at, length, replacement) in changes {
            let start = at.index(characters.len().max(1));
            let end = (start + length).min(characters.len());
            characters.splice(start.min(end)..end, replacement.chars());
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Err(errors) = parse_bytes("noise", &bytes) {
            prop_assert!(!errors.errors.is_empty());
            let _ = errors.render(true);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\PC\\n\\[\\]{}=\".#-]{0,300}") {
        if let Err(errors) = parse("noise", &text) {
            prop_assert!(!errors.errors.is_empty());
            let _ = errors.render(false);
        }
    }

    #[test]
    fn a_changed_scenario_is_refused_with_a_place_or_reads_back_what_it_writes(text in mutated()) {
        match parse("changed", &text) {
            Err(errors) => {
                prop_assert!(!errors.errors.is_empty());
                for error in &errors.errors {
                    prop_assert!(errors.line_and_column(error).is_some(), "{:?}", error);
                }
                prop_assert!(errors.render(false).contains("changed:"));
            }
            Ok(scenario) => {
                let again = parse("written", &scenario.to_toml());
                prop_assert_eq!(again.as_ref(), Ok(&scenario), "{}", scenario.to_toml());
            }
        }
    }
}
