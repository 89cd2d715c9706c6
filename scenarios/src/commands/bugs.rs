//! `trial bugs`: the museum.

use super::{NOTHING_SELECTED, USAGE, VIOLATED, progress};
use crate::cli::{BugsCommand, Common, Format, Progress};
use crate::explore::{Campaign, Done, Ending, Named, Plan, Summary};
use crate::file;
use crate::planted_bugs::{EXHIBITS, Exhibit};
use crate::run::{MUSEUM, Options, Watch};
use broker_core::planted::{BUILT_IN, Bug};
use checker::{CheckOutcome, Verdict};
use reports::CheckLine;
use serde_json::{Value, json};
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The bug that `--bug` names, if this build has it.
///
/// # Errors
/// The exit code, after the error was told.
pub(super) fn chosen(id: Option<&str>) -> Result<Option<Bug>, ExitCode> {
    let Some(id) = id else { return Ok(None) };
    let bug = named(id)?;
    if !BUILT_IN {
        eprintln!("trial: this build has no bugs planted in it; `--bug {}` needs the museum's:", bug.id());
        eprintln!("       {MUSEUM} run ... --bug {}", bug.id());
        return Err(ExitCode::from(USAGE));
    }
    Ok(Some(bug))
}

fn named(id: &str) -> Result<Bug, ExitCode> {
    Bug::named(id).ok_or_else(|| {
        let all: Vec<&str> = EXHIBITS.iter().map(|exhibit| exhibit.bug.id()).collect();
        eprintln!("trial: the museum has no bug `{id}`; it has {}", all.join(", "));
        ExitCode::from(NOTHING_SELECTED)
    })
}

pub(super) fn bugs(command: &BugsCommand, common: &Common) -> ExitCode {
    let done = match command {
        BugsCommand::List => Ok(list(common)),
        BugsCommand::Show { id } => named(id).map(|bug| show(Exhibit::of(bug), common)),
        BugsCommand::Run { id, seeds } => named(id).and_then(|bug| hunt(Exhibit::of(bug), *seeds, common)),
    };
    done.unwrap_or_else(|code| code)
}

fn value(exhibit: &Exhibit) -> Value {
    json!({
        "id": exhibit.bug.id(),
        "section": exhibit.section,
        "title": exhibit.title,
        "origin": exhibit.origin,
        "scenario": exhibit.scenario,
        "check": exhibit.check,
        // Known once it was hunted.
        "found": null,
        "seeds_to_detection": null,
        "cpu_seconds_to_detection": null,
        "share_of_1000": null,
    })
}

fn list(common: &Common) -> ExitCode {
    if common.format == Format::Json {
        outln!("{:#}", Value::Array(EXHIBITS.iter().map(value).collect()));
    } else {
        for exhibit in EXHIBITS {
            outln!("{}  {:<52}  {:<16} {}", exhibit.bug.id(), exhibit.title, exhibit.section, exhibit.scenario);
        }
    }
    if !BUILT_IN && !common.quiet {
        eprintln!("This build has none of them in it; `cargo museum run ID` builds one that has.");
    }
    ExitCode::SUCCESS
}

fn show(exhibit: &Exhibit, common: &Common) -> ExitCode {
    if common.format == Format::Json {
        let mut value = value(exhibit);
        value["story"] = json!(exhibit.story);
        outln!("{value:#}");
        return ExitCode::SUCCESS;
    }
    outln!("{}  {}", exhibit.bug.id(), exhibit.title);
    outln!("{} · {}", exhibit.section, exhibit.origin);
    outln!();
    for line in wrapped(exhibit.story, 100) {
        outln!("{line}");
    }
    outln!();
    outln!("Found by the scenario {}, first by the check {}:", exhibit.scenario, exhibit.check);
    outln!("cargo museum run {}", exhibit.bug.id());
    ExitCode::SUCCESS
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// Runs the exhibit's scenario with its bug until the check that it names is violated by a seed that is green without the bug.
fn hunt(exhibit: &Exhibit, seeds: u64, common: &Common) -> Result<ExitCode, ExitCode> {
    let bug = chosen(Some(exhibit.bug.id()))?;
    let loaded = file::find(exhibit.scenario).expect("a test looks that the catalog has it");
    let plan = Arc::new(Plan {
        scenarios: vec![Named { scenario: loaded.scenario, named: exhibit.scenario.to_owned() }],
        campaign: 0,
        runs: Some(seeds),
        shard: (0, 1),
        jobs: super::explore::jobs(None),
        bug,
        compare: false,
    });
    if !common.quiet {
        eprintln!("{} · {} · {} seeds at most", exhibit.bug.id(), exhibit.scenario, seeds);
    }
    let (summary, found) = search(&plan, exhibit.check, progress(common));
    match common.format {
        Format::Json => {
            let mut value = summary.json(&plan, false);
            value["found"] = json!(found.is_some());
            value["seeds_to_detection"] = json!(found.as_ref().map(|done| done.k + 1));
            outln!("{value:#}");
        }
        Format::Text => tell(exhibit, &summary, found.as_ref(), common),
    }
    Ok(ExitCode::from(if found.is_some() { VIOLATED } else { 0 }))
}

/// Runs in the order of their numbers, until one finds it. What later runs found meanwhile does not count, so that the
/// outcome does not depend on the number of jobs.
fn search(plan: &Arc<Plan>, check: &str, progress: Progress) -> (Summary, Option<Done>) {
    let campaign = Campaign::start(plan.clone());
    let mut waiting = std::collections::BTreeMap::new();
    let (mut summary, mut next) = (Summary::default(), 0);
    loop {
        match campaign.next(Duration::from_secs(1)) {
            Err(_) => return (summary, None),
            Ok(None) => {}
            Ok(Some(done)) => {
                waiting.insert(done.k, done);
            }
        }
        while let Some(done) = waiting.remove(&next) {
            next += 1;
            summary.take(&done);
            if is_found(plan, check, &done) {
                campaign.stop();
                return (summary, Some(done));
            }
            if progress == Progress::Auto {
                eprint!("\r\x1b[K");
                eprint!("{next} of {} seeds", plan.runs.unwrap_or_default());
            }
        }
    }
}

/// `check` is violated, and nothing is without the bug. Other checks may see the bug in more seeds; this one sees what it costs.
fn is_found(plan: &Plan, check: &str, done: &Done) -> bool {
    let Ending::Judged(report) = &done.ending else { return false };
    let is_seen = |line: &CheckLine| line.id == check && line.outcome == CheckOutcome::Violation;
    if !report.checks.iter().any(is_seen) {
        return false;
    }
    let (named, seed) = plan.run(done.k);
    let options = Options { named: named.named.clone(), ..Options::default() };
    crate::run::run(&named.scenario, seed, &options, &Arc::new(Watch::default())).verdict == Verdict::Pass
}

fn tell(exhibit: &Exhibit, summary: &Summary, found: Option<&Done>, common: &Common) {
    let id = exhibit.bug.id();
    let Some(done) = found else {
        outln!("{id} was not found by {} in {} seeds", exhibit.scenario, summary.runs);
        return;
    };
    outln!("{id} was found by {} with seed {}: {}", exhibit.scenario, done.k + 1, done.check());
    outln!("The same seed without the bug: pass");
    if let Ending::Judged(report) = &done.ending
        && !common.quiet
    {
        outln!();
        out!("{}", reports::terminal::render(report, super::color(common), common.verbose));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_wrapped_and_lose_no_word() {
        for exhibit in EXHIBITS {
            let lines = wrapped(exhibit.story, 60);
            assert!(lines.iter().all(|line| line.len() <= 60));
            assert_eq!(lines.join(" "), exhibit.story.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }

    #[test]
    #[cfg(not(feature = "planted-bugs"))]
    fn a_build_without_bugs_says_so() {
        assert!(chosen(None).is_ok());
        assert!(chosen(Some("R01")).is_err() && chosen(Some("nonsense")).is_err());
    }
}
