//! `trial check`.

use super::color;
use crate::cli::{CheckArgs, Common, Format};
use checker::{Judged, Options, judge_text};
use reports::Checked;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// What a run's folder calls its history.
pub(super) const HISTORY: &str = "history.jsonl";

pub(super) fn check(args: &CheckArgs, common: &Common) -> ExitCode {
    let options = Options { model: args.model, budget: args.budget, level: args.level };
    let colored = color(common);
    let mut histories = Vec::with_capacity(args.histories.len());
    for path in &args.histories {
        let judged = read(path).and_then(|text| judge_text(&text, &options));
        let checked = Checked { history: path.display().to_string(), judged };
        if common.format == Format::Text {
            tell(&checked, common, colored, histories.is_empty());
        }
        if let Err(error) = &checked.judged {
            eprintln!("trial: {}: {error}", checked.history);
        }
        histories.push(checked);
    }
    if common.format == Format::Json {
        outln!("{:#}", reports::check_json(&histories));
    }
    // The worst of all.
    let codes: Vec<u8> = histories.iter().map(Checked::exit_code).collect();
    let worst =
        [super::INVALID_FILE, super::VIOLATED, super::INCONCLUSIVE].into_iter().find(|code| codes.contains(code));
    worst.map_or(ExitCode::SUCCESS, ExitCode::from)
}

/// A history's text.
///
/// # Errors
/// Why it cannot be read.
fn read(path: &Path) -> Result<String, String> {
    if path == Path::new("-") {
        return Err("a history is a file; standard input is not read".to_owned());
    }
    let path = if path.is_dir() { &path.join(HISTORY) } else { path };
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound if path.ends_with(HISTORY) => {
            format!("this folder has no {HISTORY}: `trial run SCENARIO --out FOLDER` writes one")
        }
        std::io::ErrorKind::NotFound => "there is no such file; name a history, or the folder of a run".to_owned(),
        _ => error.to_string(),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        format!("line {line}: byte {at} of the file is no UTF-8")
    })
}

fn tell(checked: &Checked, common: &Common, colored: bool, is_first: bool) {
    let text = reports::terminal::render_checked(checked, colored, common.verbose);
    let is_plain = matches!(&checked.judged, Ok(Judged { verdict: checker::Verdict::Pass, .. }));
    if common.quiet || (is_plain && !common.verbose) {
        outln!("{}", text.lines().next().unwrap_or_default());
        return;
    }
    if !is_first {
        outln!();
    }
    out!("{text}");
}
