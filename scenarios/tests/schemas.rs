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
