//! The report that a person reads in a terminal: the answer, then why, then the evidence, then how to see it again.

use crate::{CheckLine, Checked, FaultLine, Lag, RunReport};
use checker::{CheckInfo, CheckOutcome, Verdict, Violation};
use owo_colors::{OwoColorize, Style};
use std::fmt::Write;

/// Renders one run. With `color` false the text holds no escape code.
#[must_use]
pub fn render(report: &RunReport, color: bool, verbose: bool) -> String {
    let paint = Paint { color };
    let mut text = String::new();
    headline(&mut text, report, &paint);
    for reason in &report.reasons {
        let _ = writeln!(text, "  {reason}");
    }
    violations(&mut text, &report.violations, &report.checks, &paint, verbose);
    if !report.story.is_empty() {
        let _ = writeln!(text, "\n{}", paint.head("What happened"));
        for sentence in &report.story {
            let _ = writeln!(text, "  {sentence}");
        }
        let lag = report
            .realtime_lag
            .as_ref()
            .map(|Lag { ms, partition, at_ms }| format!("{}, in {partition} at {}.", behind(*ms), seconds(*at_ms)));
        let _ = writeln!(text, "  {}{}", report.traffic, lag.unwrap_or_default());
    }
    if !report.faults.is_empty() {
        let _ = writeln!(text, "\n{}", paint.head("Faults and their effects"));
        for fault in &report.faults {
            let _ = writeln!(text, "  {}", fault_line(fault));
        }
    }
    let _ = writeln!(text, "\n{}", paint.head("Checks"));
    checks(&mut text, &report.checks, &paint, verbose);
    let _ = writeln!(text, "\n{}  {:032x}  {} events", paint.head("Fingerprint"), report.fingerprint, report.events);
    let _ = writeln!(text, "{}    {}", paint.head("Reproduce"), report.reproduce);
    text
}

/// Renders one history's judgement. With `color` false the text holds no escape code.
#[must_use]
pub fn render_checked(checked: &Checked, color: bool, verbose: bool) -> String {
    let paint = Paint { color };
    let mut text = String::new();
    let name = &checked.history;
    let judged = match &checked.judged {
        Ok(judged) => judged,
        Err(error) => {
            let _ = writeln!(text, "{}  {name}\n  {error}", paint.bad("INVALID"));
            return text;
        }
    };
    let model = judged.model.map(|model| format!(" · model {model}")).unwrap_or_default();
    let _ = writeln!(text, "{}  {name}{model} · {} operations", word(judged.verdict, &paint), judged.operations);
    if let Some(lag) = judged.lag {
        let _ = writeln!(text, " {}.", behind(lag.ns() / 1_000_000));
    }
    // What was violated is told below, with its evidence.
    for reason in judged.reasons.iter().filter(|_| judged.verdict != Verdict::Violation) {
        let _ = writeln!(text, "  {reason}");
    }
    let lines: Vec<CheckLine> = judged.checks.iter().map(CheckLine::from).collect();
    let found: Vec<Violation> = judged.checks.iter().flat_map(|check| check.violations.clone()).collect();
    violations(&mut text, &found, &lines, &paint, verbose);
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{}", paint.head("Checks"));
        checks(&mut text, &lines, &paint, verbose);
    }
    text
}

/// B21, in words.
fn behind(ms: u64) -> String {
    format!(" Readers were behind by at most {}", seconds(ms))
}

fn word(verdict: Verdict, paint: &Paint) -> String {
    match verdict {
        Verdict::Pass => paint.good("PASS"),
        Verdict::Violation => paint.bad("VIOLATION"),
        Verdict::Inconclusive => paint.warn("INCONCLUSIVE"),
        Verdict::NonDeterministic => paint.bad("NON-DETERMINISTIC"),
    }
}

/// `lost-write (B3)`: the check and its row in the research notes, where it has one.
fn named(check: &str) -> String {
    CheckInfo::find(check).map_or_else(|| check.to_owned(), |info| format!("{check} ({})", info.row))
}

struct Paint {
    color: bool,
}

impl Paint {
    fn style(&self, text: &str, style: Style) -> String {
        if self.color { text.style(style).to_string() } else { text.to_owned() }
    }
    fn head(&self, text: &str) -> String {
        self.style(text, Style::new().bold())
    }
    fn bad(&self, text: &str) -> String {
        self.style(text, Style::new().red().bold())
    }
    fn good(&self, text: &str) -> String {
        self.style(text, Style::new().green().bold())
    }
    fn dim(&self, text: &str) -> String {
        self.style(text, Style::new().dimmed())
    }
    fn warn(&self, text: &str) -> String {
        self.style(text, Style::new().yellow().bold())
    }
}

fn headline(text: &mut String, report: &RunReport, paint: &Paint) {
    let word = word(report.verdict, paint);
    let expected = match (report.verdict == report.expected, report.expected) {
        (true, Verdict::Pass) => String::new(),
        (true, _) => ", as the scenario expects".to_owned(),
        (false, expected) => format!(", where the scenario expects {expected}"),
    };
    let _ = writeln!(
        text,
        "{word}  {} · seed {} · {} simulated{expected}",
        report.scenario,
        report.seed_text(),
        seconds(report.simulated_ms),
    );
    let _ = writeln!(text, "  {}", paint.dim(&report.question));
}

/// The first violation of each check with its evidence, the others as a number; all of those kept when `verbose`.
fn violations(text: &mut String, violations: &[Violation], checks: &[CheckLine], paint: &Paint, verbose: bool) {
    let mut told: Vec<&str> = Vec::new();
    for violation in violations {
        let is_first = !told.contains(&violation.check.as_str());
        if !is_first && !verbose {
            continue;
        }
        told.push(&violation.check);
        let _ = writeln!(text, "\n{}  {}", paint.bad(&named(&violation.check)), violation.guarantee);
        for line in &violation.evidence {
            let _ = writeln!(text, "    {line}");
        }
        let in_all = checks.iter().find(|check| check.id == violation.check).map_or(1, |check| check.violations);
        if is_first && in_all > 1 && !verbose {
            let _ = writeln!(
                text,
                "    {}",
                paint.dim(&format!("… and {} more; --verbose shows the first ten", in_all - 1))
            );
        }
    }
}

fn fault_line(fault: &FaultLine) -> String {
    let until = match fault.to_ms {
        Some(to) => format!("{} to {}", seconds(fault.from_ms), seconds(to)),
        None => format!("from {}", seconds(fault.from_ms)),
    };
    let effects: Vec<String> =
        fault.effects.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    let effects = if effects.is_empty() { "no effect".to_owned() } else { effects.join(", ") };
    format!("{:<14} {}  {until}: {effects}", fault.kind, fault.target)
}

/// Violated, unknown and vacuous checks a line each; those that passed in one paragraph unless `verbose`.
fn checks(text: &mut String, lines: &[CheckLine], paint: &Paint, verbose: bool) {
    let mut passed = Vec::new();
    for check in lines {
        let count = check.opportunities;
        let allowed: u64 = check.allowed.values().sum();
        match check.outcome {
            CheckOutcome::Pass if !verbose && allowed == 0 => passed.push(format!("{} ({count})", check.id)),
            CheckOutcome::Pass => {
                let _ =
                    writeln!(text, "  {} {:<24} {count} opportunities{}", paint.good("ok  "), check.id, reasons(check));
            }
            CheckOutcome::Violation => {
                let number = check.violations;
                let _ = writeln!(
                    text,
                    "  {} {:<24} {number} of {count} opportunities violated{}",
                    paint.bad("FAIL"),
                    check.id,
                    reasons(check),
                );
            }
            CheckOutcome::Unknown => {
                let _ = writeln!(text, "  {} {:<24} its budget ran out", paint.warn("??  "), check.id);
            }
            CheckOutcome::Vacuous if verbose => {
                let _ = writeln!(text, "  {} {:<24} never had an opportunity", paint.dim("--  "), check.id);
            }
            CheckOutcome::Vacuous => {}
        }
    }
    if !passed.is_empty() {
        let number = passed.len();
        let _ = writeln!(text, "  {} {number} passed, with their opportunities:", paint.good("ok  "));
        list(text, &passed);
    }
    let vacuous: Vec<&String> =
        lines.iter().filter(|check| check.outcome == CheckOutcome::Vacuous).map(|check| &check.id).collect();
    if !verbose && !vacuous.is_empty() {
        let number = vacuous.len();
        let _ = writeln!(text, "  {} {number} had no opportunity, so prove nothing here:", paint.dim("--  "));
        list(text, &vacuous);
    }
}

/// Items with commas between them, as many as go into a line.
fn list(text: &mut String, items: &[impl AsRef<str>]) {
    let mut line = String::new();
    for (index, item) in items.iter().enumerate() {
        let item = item.as_ref();
        let item = if index + 1 == items.len() { item.to_owned() } else { format!("{item}, ") };
        if line.len() + item.len() > 100 {
            let _ = writeln!(text, "       {}", line.trim_end());
            line.clear();
        }
        line.push_str(&item);
    }
    let _ = writeln!(text, "       {line}");
}

fn reasons(check: &CheckLine) -> String {
    if check.allowed.is_empty() {
        return String::new();
    }
    let list: Vec<String> = check.allowed.iter().map(|(reason, count)| format!("{count} × {reason}")).collect();
    format!("; allowed: {}", list.join(", "))
}

/// Milliseconds as seconds with three decimals.
#[must_use]
pub fn seconds(ms: u64) -> String {
    format!("{}.{:03}s", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(id: &str, outcome: CheckOutcome, opportunities: u64) -> CheckLine {
        CheckLine { id: id.to_owned(), outcome, opportunities, allowed: [].into(), violations: 0 }
    }

    fn passed() -> RunReport {
        RunReport {
            scenario: "leader-crash".to_owned(),
            question: "Is an acknowledged write safe when its leader loses power?".to_owned(),
            seed: 42,
            verdict: Verdict::Pass,
            expected: Verdict::Pass,
            reasons: Vec::new(),
            fingerprint: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
            events: 104_512,
            simulated_ms: 61_250,
            marks: [("leader-elected".to_owned(), 9)].into(),
            faults: vec![
                FaultLine {
                    kind: "power-loss".to_owned(),
                    target: "leader(orders-0) = broker-2".to_owned(),
                    from_ms: 5_012,
                    to_ms: Some(8_012),
                    effects: [("nodes stopped".to_owned(), 1), ("writes lost".to_owned(), 0)].into(),
                    required: true,
                },
                FaultLine {
                    kind: "slow-disk".to_owned(),
                    target: "broker-3".to_owned(),
                    from_ms: 20_000,
                    to_ms: None,
                    effects: [].into(),
                    required: false,
                },
            ],
            checks: vec![
                check("lost-write", CheckOutcome::Pass, 5_950),
                check("l1-append-order", CheckOutcome::Pass, 17_850),
                check("metadata-truncated", CheckOutcome::Vacuous, 0),
            ],
            violations: Vec::new(),
            story: vec![
                "At 5.012s broker-2, the leader of orders-0, lost power.".to_owned(),
                "At 5.894s broker-1 was elected leader of orders-0 in leader epoch 1.".to_owned(),
            ],
            traffic: "5,950 records sent, 5,950 acknowledged, 11,900 read.".to_owned(),
            realtime_lag: Some(Lag { ms: 1240, partition: "orders-0".to_owned(), at_ms: 6_250 }),
            reproduce: "cargo trial run leader-crash --seed 000000000000002a".to_owned(),
        }
    }

    fn violated() -> RunReport {
        let guarantee = "An acknowledged record stays readable: no reader passes its offset without getting it.";
        let violation = |record: &str| Violation {
            check: "lost-write".to_owned(),
            guarantee: guarantee.to_owned(),
            evidence: vec![
                format!("record {record} was acknowledged at offset 17 of orders-0 at 5.010s"),
                "reader-1 read up to offset 40 of orders-0 at 9.120s and never got it".to_owned(),
            ],
            at_ns: Some(9_120_000_000),
        };
        let mut report = passed();
        report.scenario = "acks-1-power-loss".to_owned();
        report.verdict = Verdict::Violation;
        report.reasons = vec![format!("lost-write (3 times): {guarantee}")];
        report.violations = vec![violation("7"), violation("8"), violation("9")];
        report.checks[0] = CheckLine { outcome: CheckOutcome::Violation, violations: 3, ..report.checks[0].clone() };
        report.checks[1].allowed = [("acks-1-power-loss".to_owned(), 2)].into();
        report.checks.push(check("log-matching", CheckOutcome::Unknown, 9));
        report
    }

    #[test]
    fn a_pass_is_told_in_one_screen() {
        insta::assert_snapshot!(render(&passed(), false, false));
    }

    #[test]
    fn a_violation_is_told_with_its_evidence() {
        insta::assert_snapshot!(render(&violated(), false, false));
    }

    #[test]
    fn verbose_tells_every_check_and_every_violation_that_was_kept() {
        insta::assert_snapshot!(render(&violated(), false, true));
    }

    #[test]
    fn colours_change_no_word() {
        let plain = render(&violated(), false, false);
        let painted = render(&violated(), true, false);
        assert!(!plain.contains('\u{1b}') && painted.contains('\u{1b}'));
        assert_eq!(anstream::adapter::strip_str(&painted).to_string(), plain);
    }
}
