//! `trial explore`.

use super::run::load;
use super::{NOTHING_SELECTED, color, progress};
use crate::cli::{Common, ExploreArgs, Format, Progress};
use crate::explore::{Campaign, Done, Ending, Named, Plan, Summary};
use crate::file;
use crate::rerun::Compared;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A scenario that should fail carries this tag; a campaign leaves it out unless it is named.
const FAILS_ON_PURPOSE: &str = "fails-on-purpose";
/// Without any limit, so many runs of each scenario.
const RUNS_EACH: u64 = 10;
/// Off a terminal, a line of progress so often.
const PLAIN_EVERY: Duration = Duration::from_secs(30);
/// After a signal, how long runs under way may take to end.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn explore(args: &ExploreArgs, common: &Common) -> ExitCode {
    let bug = match super::bugs::chosen(args.bug.as_deref()) {
        Ok(bug) => bug,
        Err(code) => return code,
    };
    let scenarios = match select(&args.scenarios, common) {
        Ok(scenarios) => scenarios,
        Err(code) => return code,
    };
    let runs = match (args.seeds, args.time) {
        (None, None) => Some(RUNS_EACH * scenarios.len() as u64),
        (seeds, _) => seeds,
    };
    let plan = Arc::new(Plan {
        scenarios,
        campaign: args.campaign,
        runs,
        shard: args.shard.unwrap_or((0, 1)),
        jobs: jobs(args.jobs),
        bug,
        compare: true,
    });
    if plan.own_runs() == Some(0) || args.time.is_some_and(|time| time.is_zero()) {
        eprintln!("trial: nothing to run: this shard of the campaign is empty");
        return ExitCode::from(NOTHING_SELECTED);
    }
    if !common.quiet {
        let count = plan.own_runs().map_or_else(|| "runs".to_owned(), |runs| format!("{runs} runs"));
        let (shard, of) = plan.shard;
        let shard = if of > 1 { format!(" · shard {shard} of {of}") } else { String::new() };
        let (scenarios, jobs) = (plan.scenarios.len(), plan.jobs);
        eprintln!("campaign {:016x}{shard} · {count} over {scenarios} scenarios, {jobs} at a time", plan.campaign);
    }
    let (summary, signal) = carry_out(&plan, args.time, common);
    match common.format {
        Format::Json => outln!("{:#}", summary.json(&plan, signal.is_some())),
        Format::Text => out!("{}", text(&summary, signal.is_some())),
    }
    ExitCode::from(signal.unwrap_or_else(|| summary.exit_code()))
}

/// The scenarios named, or all of the catalog that should pass.
pub(super) fn select(names: &[String], common: &Common) -> Result<Vec<Named>, ExitCode> {
    let catalog: Vec<String>;
    let names = if names.is_empty() {
        let entries = file::list_catalog().into_iter();
        let meant = entries.filter(|entry| entry.tags.iter().all(|tag| tag != FAILS_ON_PURPOSE));
        catalog = meant.map(|entry| entry.name).collect();
        &catalog
    } else {
        names
    };
    let named = |name: &String| {
        let loaded = load(name, color(common))?;
        Ok(Named { scenario: loaded.scenario, named: name.clone() })
    };
    names.iter().map(named).collect()
}

/// As asked, or the cores that this process may use.
pub(super) fn jobs(asked: Option<std::num::NonZeroUsize>) -> usize {
    asked.or_else(|| std::thread::available_parallelism().ok()).map_or(1, std::num::NonZeroUsize::get)
}

/// The signal that came, once one has come; a second one ends the process at once.
pub(super) fn signals() -> Arc<AtomicUsize> {
    let came = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the first one only notes itself.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again.clone());
        let _ = signal_hook::flag::register(signal, again.clone());
        let number = usize::try_from(signal).unwrap_or(0);
        let _ = signal_hook::flag::register_usize(signal, came.clone(), number);
    }
    came
}

/// Runs the campaign to its end, or until its time is over or a signal comes; then the exit code of that signal.
fn carry_out(plan: &Arc<Plan>, time: Option<Duration>, common: &Common) -> (Summary, Option<u8>) {
    let came = signals();
    let campaign = Campaign::start(plan.clone());
    let mut summary = Summary::default();
    let mut status = Status::new(progress(common), plan.own_runs(), time);
    let (mut signal, mut patience) = (None, None);
    while let Ok(next) = campaign.next(Duration::from_millis(100)) {
        if let Some(done) = next {
            let known = summary.failures.contains_key(&done.signature());
            summary.take(&done);
            if !done.is_good() {
                status.clear();
                tell(&done, known, common);
            }
        }
        if status.is_over() {
            campaign.stop();
        }
        if signal.is_none() && came.load(Ordering::Relaxed) != 0 {
            signal = u8::try_from(128 + came.load(Ordering::Relaxed)).ok();
            campaign.stop();
            patience = Some(GRACE);
        }
        if let Some(patience) = patience
            && status.since_signal() > patience
        {
            break;
        }
        status.tell(&summary);
    }
    status.clear();
    (summary, signal)
}

/// A failure, when it is found: what, and how to see it again.
fn tell(done: &Done, known: bool, common: &Common) {
    let (verdict, seed) = (done.verdict().to_uppercase(), done.seed);
    if common.quiet {
        return;
    }
    eprintln!("{verdict}  {} · seed {seed:016x} · {}", done.scenario, done.check());
    if !known {
        match (&done.compared, &done.ending) {
            (Some(Compared::Different { how }), _) => eprintln!("    {how}"),
            (_, Ending::Panicked(why)) => eprintln!("    {why}"),
            (_, Ending::Judged(report)) => {
                for reason in report.reasons.iter().take(3) {
                    eprintln!("    {reason}");
                }
            }
        }
    }
    eprintln!("    {}", done.reproduce());
}

fn text(summary: &Summary, interrupted: bool) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for failure in summary.failures.values() {
        let (witness, times) = (&failure.witness, failure.count);
        let times = if times == 1 { "once".to_owned() } else { format!("{times} times") };
        let _ = writeln!(text, "{}, {times}", failure.signature);
        let _ = writeln!(text, "    {}", witness.why);
        let _ = writeln!(text, "    smallest: seed {:016x}, {} events", witness.seed, witness.events);
        let _ = writeln!(text, "    {}", witness.reproduce);
        let _ = writeln!(text);
    }
    let verdicts: Vec<String> = summary.verdicts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let cut = if interrupted { "interrupted after " } else { "" };
    let verdicts = if verdicts.is_empty() { String::new() } else { format!(": {}", verdicts.join(", ")) };
    let _ = writeln!(text, "{cut}{} runs{verdicts}", summary.runs);
    let kinds = summary.failures.len();
    if kinds > 0 {
        let _ = writeln!(text, "{kinds} {} of failure", if kinds == 1 { "kind" } else { "kinds" });
    }
    let (equal, different) = (summary.compared_equal, summary.different);
    let _ =
        writeln!(text, "{equal} runs repeated in another process with an equal fingerprint, {different} with another");
    if let (count, Some(why)) = &summary.not_compared {
        let _ = writeln!(text, "{count} runs could not be repeated in another process: {why}");
    }
    text
}

/// The line that tells how far a campaign is. Wall time is told here, and nowhere else.
struct Status {
    progress: Progress,
    runs: Option<u64>,
    time: Option<Duration>,
    started: Instant,
    told: Duration,
    signal: Option<Instant>,
}

#[expect(clippy::disallowed_methods, reason = "the person before the screen lives in real time")]
impl Status {
    fn new(progress: Progress, runs: Option<u64>, time: Option<Duration>) -> Self {
        Status { progress, runs, time, started: Instant::now(), told: Duration::ZERO, signal: None }
    }

    fn is_over(&self) -> bool {
        self.time.is_some_and(|time| self.started.elapsed() >= time)
    }

    /// Since this was first asked, which is when the signal came.
    fn since_signal(&mut self) -> Duration {
        self.signal.get_or_insert_with(Instant::now).elapsed()
    }

    fn tell(&mut self, summary: &Summary) {
        let elapsed = self.started.elapsed();
        let live = match self.progress {
            Progress::None => return,
            Progress::Auto => true,
            Progress::Plain => false,
        };
        if elapsed - self.told < if live { Duration::from_millis(100) } else { PLAIN_EVERY } {
            return;
        }
        self.told = elapsed;
        let line = line(summary, self.runs, self.time, elapsed);
        let mut err = std::io::stderr().lock();
        let _ = if live { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
        let _ = err.flush();
    }

    fn clear(&self) {
        if self.progress == Progress::Auto {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(summary: &Summary, runs: Option<u64>, time: Option<Duration>, elapsed: Duration) -> String {
    let done = summary.runs;
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let tenths = done * 10_000 / ms;
    let of = runs.map(|runs| format!(" of {runs}")).unwrap_or_default();
    let by_count = runs.filter(|_| done > 0).map(|runs| ms * runs.saturating_sub(done) / done);
    let by_time = time.map(|time| u64::try_from(time.saturating_sub(elapsed).as_millis()).unwrap_or(u64::MAX));
    let left = by_count.into_iter().chain(by_time).min().map(|ms| format!(" · {} left", clock(ms))).unwrap_or_default();
    let failed = summary.failures.values().map(|failure| failure.count).sum::<u64>();
    let failed = match (failed, summary.failures.len()) {
        (0, _) => "no failure".to_owned(),
        (failed, kinds) => format!("{failed} failed, {kinds} kinds"),
    };
    format!("{done}{of} runs · {}.{}/s · {failed}{left}", tenths / 10, tenths % 10)
}

fn clock(ms: u64) -> String {
    let s = ms.div_ceil(1000);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_rate_and_what_is_left() {
        let summary = Summary { runs: 50, ..Summary::default() };
        let told = |runs, time| line(&summary, runs, time, Duration::from_secs(10));
        assert_eq!(told(Some(200), None), "50 of 200 runs · 5.0/s · no failure · 30 s left");
        assert_eq!(told(None, Some(Duration::from_secs(100))), "50 runs · 5.0/s · no failure · 1 min 30 s left");
        assert_eq!(told(None, None), "50 runs · 5.0/s · no failure");
        let none = line(&Summary::default(), Some(9), None, Duration::ZERO);
        assert_eq!(none, "0 of 9 runs · 0.0/s · no failure");
    }

    #[test]
    fn what_should_fail_is_left_out_unless_it_is_named() {
        let common = crate::cli::Common {
            format: Format::Text,
            color: crate::cli::When::Never,
            progress: Progress::None,
            quiet: true,
            verbose: false,
        };
        let all = select(&[], &common).unwrap();
        assert!(all.iter().all(|one| one.named != "acks-1-power-loss") && all.iter().any(|one| one.named == "idle"));
        assert_eq!(select(&["acks-1-power-loss".to_owned()], &common).unwrap().len(), 1);
        assert!(select(&["no-such-one".to_owned()], &common).is_err());
    }
}
