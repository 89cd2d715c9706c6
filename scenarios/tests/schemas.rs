//! What `--format json` prints is what the checked-in schemas (`reports/schemas/`) say.

use serde_json::Value;
use std::process::Command;

/// What `trial` prints, and its exit code.
fn trial(words: &[&str]) -> (Value, i32) {
    let out = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_trial"))
        .args(["--quiet", "--format", "json"])
        .args(words)
        .current_dir(out.path())
        .output()
        .expect("trial starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{words:?}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (value, output.status.code().unwrap_or(-1))
}

fn schema(name: &str) -> jsonschema::Validator {
    let path = format!("{}/../reports/schemas/{name}.v1.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn holds(name: &str, value: &Value) {
    let errors: Vec<String> =
        schema(name).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
}

#[test]
fn a_run_prints_what_its_schema_says() {
    let (green, code) = trial(&["run", "leader-crash", "--seed", "42"]);
    holds("run", &green);
    assert_eq!((code, &green["verdict"]), (0, &Value::from("pass")));
    let (red, code) = trial(&["run", "acks-1-power-loss", "--seed", "7"]);
    holds("run", &red);
    assert_eq!((code, &red["verdict"]), (10, &Value::from("violation")));
    assert_ne!(red["violations"][0]["evidence"].as_array().map(Vec::len), Some(0), "a violation has its evidence");
}

#[test]
fn judged_histories_print_what_their_schema_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a name in Unicode").to_owned()
    };
    let append = "{:process 0, :type :invoke, :f :append, :key \"k\", :value \"x\"}\n\
                  {:process 0, :type :ok, :f :append, :key \"k\", :value \"x\"}\n\
                  {:process 0, :type :invoke, :f :get, :key \"k\", :value nil}\n";
    let good = write("good.edn", &format!("{append}{{:process 0, :type :ok, :f :get, :key \"k\", :value \"x\"}}"));
    let bad = write("bad.edn", &format!("{append}{{:process 0, :type :ok, :f :get, :key \"k\", :value \"\"}}"));
    let empty = write("empty.edn", "");
    let cut = write("cut.edn", &append[..append.len() - 5]);
    let gone = folder.path().join("gone").to_str().expect("a name in Unicode").to_owned();
    for (histories, wanted) in [
        (vec![&good], 0),
        (vec![&good, &empty], 11),
        (vec![&empty, &bad, &good], 10),
        (vec![&good, &bad, &cut, &empty], 14),
        (vec![&gone, &good], 14),
    ] {
        let words: Vec<&str> = ["check"].into_iter().chain(histories.iter().map(|path| path.as_str())).collect();
        let (judged, code) = trial(&words);
        holds("check", &judged);
        assert_eq!((code, judged.as_array().map(Vec::len)), (wanted, Some(histories.len())), "{judged:#}");
        for (one, path) in judged.as_array().expect("a list").iter().zip(histories) {
            let wanted = match path {
                path if path == &good => "pass",
                path if path == &bad => "violation",
                path if path == &empty => "inconclusive",
                _ => "invalid",
            };
            assert_eq!(one["verdict"], wanted, "{one:#}");
            assert_eq!(one["error"].is_string(), wanted == "invalid", "{one:#}");
        }
    }
    let (judged, _) = trial(&["check", &cut]);
    assert!(judged[0]["error"].as_str().is_some_and(|error| error.starts_with("line 3, column 1: ")), "{judged:#}");
}

#[test]
fn a_run_leaves_a_history_that_is_judged_as_it_was() {
    let out = tempfile::tempdir().expect("a folder");
    let folder = out.path().join("run").to_str().expect("a name in Unicode").to_owned();
    let (run, _) = trial(&["run", "acks-1-power-loss", "--seed", "7", "--out", &folder]);
    let (judged, code) = trial(&["check", &folder]);
    holds("check", &judged);
    assert_eq!((code, &judged[0]["verdict"], &judged[0]["model"]), (10, &"violation".into(), &"kafka".into()));
    for check in judged[0]["checks"].as_array().expect("a list") {
        let same = |other: &&Value| other["id"] == check["id"];
        let before = run["checks"].as_array().expect("a list").iter().find(same).expect("the run has that check");
        for key in ["outcome", "opportunities", "allowed", "violations"] {
            assert_eq!(before[key], check[key], "{check:#}");
        }
    }
}

#[test]
fn a_schema_refuses_what_lacks_a_key_or_has_one_too_many() {
    let (run, _) = trial(&["run", "smoke", "--seed", "1"]);
    let schema = schema("run");
    assert!(schema.is_valid(&run));
    for key in run.as_object().expect("an object").keys() {
        let mut less = run.clone();
        less.as_object_mut().expect("an object").remove(key);
        assert!(!schema.is_valid(&less), "without {key}");
    }
    let mut more = run;
    more["extra"] = Value::Null;
    assert!(!schema.is_valid(&more));
}

#[test]
fn a_campaign_prints_what_its_schema_says() {
    let (green, code) = trial(&["explore", "smoke", "--seeds", "2"]);
    holds("explore", &green);
    assert_eq!((code, green["runs"].as_u64()), (0, Some(2)));
    let (red, code) = trial(&["explore", "acks-1-power-loss", "--seeds", "2"]);
    holds("explore", &red);
    assert_eq!((code, red["failures"].as_array().is_some_and(|all| !all.is_empty())), (10, true), "{red:#}");
}

#[test]
fn the_lists_print_what_their_schemas_say() {
    holds("scenario-list", &trial(&["scenario", "list"]).0);
    holds("bugs", &trial(&["bugs", "list"]).0);
}
