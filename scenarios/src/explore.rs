//! Many seeds over many scenarios: what was found, grouped, with the smallest witness of each.
//!
//! **The seed law.** Run `k` of a campaign takes scenario `k mod count` and [`seed_of`]`(campaign, k)`; shard `i` of `n`
//! takes every `k` with `k mod n = i`. Which runs a campaign has depends on nothing else, so that shards need no
//! coordinator, and any part of a campaign, by count or by time, is a fair sample of it.
//!
//! **Every run is a run of its own.** Each has a thread for its world, which ends with it. Every failing run, and one in
//! fifty of the others, is run again in another process; when the two fingerprints differ, the run was not
//! deterministic, and nothing that it showed can be relied on.

use crate::file::Scenario;
use crate::rerun::{Compared, in_another_process};
use crate::run::{Options, Watch};
use broker_core::planted::Bug;
use checker::Verdict;
use reports::RunReport;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

/// Version of the JSON of a campaign.
pub const SCHEMA: &str = "kafka-trial/explore/v1";

/// One in so many passing runs is run again in another process.
const COMPARED_ONE_IN: u64 = 50;

/// The seed of run `k`: xxh3 (64 bits) over the campaign and `k`, eight bytes little-endian each.
#[must_use]
pub fn seed_of(campaign: u64, k: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&campaign.to_le_bytes());
    bytes[8..].copy_from_slice(&k.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// A scenario and what the command line calls it: its name in the catalog, or its file.
#[derive(Clone, Debug)]
pub struct Named {
    /// The scenario.
    pub scenario: Scenario,
    /// Its name or file.
    pub named: String,
}

/// What a campaign runs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In turn; not empty.
    pub scenarios: Vec<Named>,
    /// What all seeds are made of.
    pub campaign: u64,
    /// Runs in all, over all shards; without one, until stopped.
    pub runs: Option<u64>,
    /// This shard of how many.
    pub shard: (u64, u64),
    /// Runs at once.
    pub jobs: usize,
    /// Planted in every run.
    pub bug: Option<Bug>,
    /// Whether failing runs, and some passing ones, are run again in another process.
    pub compare: bool,
}

impl Plan {
    /// How many runs this shard has.
    #[must_use]
    pub fn own_runs(&self) -> Option<u64> {
        let (shard, of) = self.shard;
        self.runs.map(|runs| runs.saturating_sub(shard).div_ceil(of))
    }

    /// Scenario and seed of run `k`.
    #[must_use]
    pub fn run(&self, k: u64) -> (&Named, u64) {
        let at = usize::try_from(k % self.scenarios.len() as u64).unwrap_or(0);
        (&self.scenarios[at], seed_of(self.campaign, k))
    }
}

/// How one run of a campaign ended.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With a report. Boxed, for it is large.
    Judged(Box<RunReport>),
    /// Our own program panicked.
    Panicked(String),
}

/// One run of a campaign, done.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its number.
    pub k: u64,
    /// The scenario's name.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// How it ended.
    pub ending: Ending,
    /// What another process made of the same run, if one was asked.
    pub compared: Option<Compared>,
}

impl Done {
    /// The verdict is the one that the scenario expects, and no other process contradicts.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let expected = matches!(&self.ending, Ending::Judged(report) if report.exit_code() == 0);
        expected && !matches!(self.compared, Some(Compared::Different { .. }))
    }

    /// What was found, in the words of verdicts.
    #[must_use]
    pub fn verdict(&self) -> String {
        match (&self.compared, &self.ending) {
            (Some(Compared::Different { .. }), _) => Verdict::NonDeterministic.to_string(),
            (_, Ending::Judged(report)) => report.verdict.to_string(),
            (_, Ending::Panicked(_)) => "panic".to_owned(),
        }
    }

    /// Which checks failed, or why nothing is proven: with the scenario it names a failure.
    #[must_use]
    pub fn check(&self) -> String {
        if matches!(self.compared, Some(Compared::Different { .. })) {
            return "non-deterministic".to_owned();
        }
        match &self.ending {
            Ending::Panicked(_) => "panic".to_owned(),
            Ending::Judged(report) if report.verdict == Verdict::Violation => {
                let violated = report.checks.iter().filter(|check| check.violations > 0);
                let names: Vec<&str> = violated.map(|check| check.id.as_str()).collect();
                names.join("+")
            }
            Ending::Judged(report) => match report.reasons.first() {
                Some(reason) => format!("{}: {}", report.verdict, without_numbers(reason)),
                None => format!("{} where {} is expected", report.verdict, report.expected),
            },
        }
    }

    /// Scenario and check.
    #[must_use]
    pub fn signature(&self) -> String {
        format!("{} / {}", self.scenario, self.check())
    }

    /// The line that runs it again.
    #[must_use]
    pub fn reproduce(&self) -> String {
        match &self.ending {
            Ending::Judged(report) => report.reproduce.clone(),
            Ending::Panicked(_) => format!("cargo trial run {} --seed {:016x}", self.scenario, self.seed),
        }
    }
}

/// What differs between two witnesses of the same failure is mostly numbers.
fn without_numbers(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len());
    for c in reason.chars() {
        match c {
            _ if !c.is_ascii_digit() => text.push(c),
            _ if !text.ends_with('#') => text.push('#'),
            _ => {}
        }
    }
    text
}

/// All failures of one signature.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Scenario and check.
    pub signature: String,
    /// The checks that failed, or why nothing is proven.
    pub check: String,
    /// How many runs failed like this.
    pub count: u64,
    /// The run of the fewest events among them; of those, the first.
    pub witness: Witness,
}

/// One run that shows a failure.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Its number in the campaign.
    pub k: u64,
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// The fingerprint; `None` when our own program panicked.
    pub fingerprint: Option<u128>,
    /// Length of its trace.
    pub events: u64,
    /// What went wrong, in one line.
    pub why: String,
    /// The line that runs it again.
    pub reproduce: String,
}

/// What a campaign has found so far. Says nothing of the machine or of how fast it was.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs done.
    pub runs: u64,
    /// Runs by what was found.
    pub verdicts: BTreeMap<String, u64>,
    /// Failures by signature.
    pub failures: BTreeMap<String, Failure>,
    /// How often each mark was reached, all runs together.
    pub marks: BTreeMap<String, u64>,
    /// Runs that another process was asked to repeat, and did the same.
    pub compared_equal: u64,
    /// Runs that another process could not be asked to repeat, and the first reason.
    pub not_compared: (u64, Option<String>),
    /// Runs of which two processes made two.
    pub different: u64,
    /// A violation was found where none is expected.
    pub violations: u64,
    /// Runs in which our own program panicked.
    pub panics: u64,
}

impl Summary {
    /// Takes one run in.
    pub fn take(&mut self, done: &Done) {
        self.runs += 1;
        *self.verdicts.entry(done.verdict()).or_default() += 1;
        match &done.compared {
            Some(Compared::Same) => self.compared_equal += 1,
            Some(Compared::Different { .. }) => self.different += 1,
            Some(Compared::Failed(why)) => {
                self.not_compared.0 += 1;
                self.not_compared.1.get_or_insert_with(|| why.clone());
            }
            None => {}
        }
        if let Ending::Judged(report) = &done.ending {
            for (name, count) in &report.marks {
                *self.marks.entry(name.clone()).or_default() += count;
            }
        }
        if done.is_good() {
            return;
        }
        let (events, fingerprint, why) = match &done.ending {
            Ending::Judged(report) => {
                self.violations += u64::from(report.exit_code() == 10);
                let why = report.reasons.first().cloned().unwrap_or_default();
                (report.events, Some(report.fingerprint), why)
            }
            Ending::Panicked(why) => {
                self.panics += 1;
                (0, None, why.clone())
            }
        };
        let why = match &done.compared {
            Some(Compared::Different { how }) => how.clone(),
            _ => why,
        };
        let witness = Witness {
            k: done.k,
            scenario: done.scenario.clone(),
            seed: done.seed,
            fingerprint,
            events,
            why,
            reproduce: done.reproduce(),
        };
        let failure = self.failures.entry(done.signature()).or_insert_with(|| Failure {
            signature: done.signature(),
            check: done.check(),
            count: 0,
            witness: witness.clone(),
        });
        failure.count += 1;
        if (witness.events, witness.k) < (failure.witness.events, failure.witness.k) {
            failure.witness = witness;
        }
    }

    /// The process's exit code; 4 when nothing was run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            _ if self.panics > 0 => 101,
            _ if self.different > 0 => 12,
            _ if self.violations > 0 => 10,
            _ if !self.failures.is_empty() || self.not_compared.0 > 0 => 11,
            _ if self.runs == 0 => 4,
            _ => 0,
        }
    }

    /// The campaign as JSON.
    #[must_use]
    pub fn json(&self, plan: &Plan, interrupted: bool) -> Value {
        let failures = self.failures.values().map(|failure| {
            let witness = &failure.witness;
            json!({
                "signature": failure.signature,
                "check": failure.check,
                "count": failure.count,
                "witness": {
                    "scenario": witness.scenario,
                    "seed": format!("{:016x}", witness.seed),
                    "fingerprint": witness.fingerprint.map(|fingerprint| format!("{fingerprint:032x}")),
                    "events": witness.events,
                    "why": witness.why,
                    "reproduce": witness.reproduce,
                },
            })
        });
        json!({
            "schema": SCHEMA,
            "campaign": format!("{:016x}", plan.campaign),
            "shard": [plan.shard.0, plan.shard.1],
            "bug": plan.bug.map(Bug::id),
            "scenarios": plan.scenarios.iter().map(|one| &one.named).collect::<Vec<_>>(),
            "runs": self.runs,
            "verdicts": self.verdicts,
            "failures": failures.collect::<Vec<_>>(),
            "marks": self.marks,
            "compared": { "equal": self.compared_equal, "different": self.different, "failed": self.not_compared.0 },
            "interrupted": interrupted,
            "missing_shards": [],
        })
    }
}

/// A campaign under way.
pub struct Campaign {
    stop: Arc<AtomicBool>,
    done: mpsc::Receiver<Done>,
}

impl Campaign {
    /// Starts `plan` on threads of its own.
    #[must_use]
    pub fn start(plan: Arc<Plan>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (shard, of) = plan.shard;
        let (count, jobs) = (plan.own_runs(), plan.jobs);
        let work = move |index: u64| one_run(&plan, shard + index * of);
        Campaign { done: side_by_side(jobs, count, &stop, work), stop }
    }

    /// No run is begun any more. What is under way still comes.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The next run that is done; `Ok(None)` when there is none for so long, an error when all are done.
    ///
    /// # Errors
    /// [`mpsc::RecvError`] when the campaign is over.
    pub fn next(&self, wait: std::time::Duration) -> Result<Option<Done>, mpsc::RecvError> {
        match self.done.recv_timeout(wait) {
            Ok(done) => Ok(Some(done)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(mpsc::RecvError),
        }
    }
}

/// Does `work` on 0, 1, 2... until `count` or until stopped, `jobs` at a time; results come as they are done. Nothing
/// piles up: whoever does not take results stops the work.
pub(crate) fn side_by_side<T: Send + 'static>(
    jobs: usize,
    count: Option<u64>,
    stop: &Arc<AtomicBool>,
    work: impl Fn(u64) -> T + Send + Sync + 'static,
) -> mpsc::Receiver<T> {
    let jobs = jobs.max(1);
    let (give, take) = mpsc::sync_channel(jobs);
    let (next, work) = (Arc::new(AtomicU64::new(0)), Arc::new(work));
    for _ in 0..jobs {
        let (give, next, work, stop) = (give.clone(), next.clone(), work.clone(), stop.clone());
        #[expect(
            clippy::disallowed_methods,
            reason = "outside every world: each run has a simulated world of its own"
        )]
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if count.is_some_and(|count| index >= count) || give.send(work(index)).is_err() {
                    return;
                }
            }
        });
    }
    take
}

fn one_run(plan: &Plan, k: u64) -> Done {
    let (named, seed) = plan.run(k);
    let options = Options { named: named.named.clone(), bug: plan.bug, ..Options::default() };
    let run = || crate::run::run(&named.scenario, seed, &options, &Arc::new(Watch::default()));
    let ending = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(report) => Ending::Judged(Box::new(report)),
        Err(panic) => Ending::Panicked(panic_text(&*panic)),
    };
    let mut done = Done { k, scenario: named.scenario.name.clone(), seed, ending, compared: None };
    if plan.compare
        && let Ending::Judged(report) = &done.ending
        && (!done.is_good() || seed.is_multiple_of(COMPARED_ONE_IN))
    {
        done.compared =
            Some(in_another_process(&named.named, seed, plan.bug).compare(report.fingerprint, report.events));
    }
    done
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn plan(runs: u64, shard: (u64, u64)) -> Plan {
        let named = |name: &str| Named { scenario: crate::file::find(name).unwrap().scenario, named: name.to_owned() };
        let scenarios = vec![named("idle"), named("smoke"), named("leader-crash")];
        Plan { scenarios, campaign: 7, runs: Some(runs), shard, jobs: 2, bug: None, compare: false }
    }

    fn done(k: u64, verdict: Verdict, reason: &str, events: u64) -> Done {
        let named = crate::file::find("smoke").unwrap().scenario;
        let mut report = crate::run::run(
            &named,
            k,
            &Options { until: Some(std::time::Duration::from_millis(1)), ..Options::default() },
            &Arc::new(Watch::default()),
        );
        (report.verdict, report.reasons, report.events) = (verdict, vec![reason.to_owned()], events);
        Done {
            k,
            scenario: "smoke".to_owned(),
            seed: seed_of(0, k),
            ending: Ending::Judged(Box::new(report)),
            compared: None,
        }
    }

    #[test]
    fn the_seed_law_does_not_change() {
        // A recorded campaign means the same runs for ever.
        let seeds = [seed_of(0, 0), seed_of(0, 1), seed_of(1, 0), seed_of(7, 3)];
        let recorded = [0xd0a6_6a65_c752_8968, 0x0cfb_aea7_4a8c_c0e5, 0x26f2_a114_8cf5_2011, 0x7864_09c0_51b4_5993];
        assert_eq!(seeds, recorded, "{seeds:#018x?}");
    }

    #[test]
    fn shards_together_are_the_whole_campaign_and_share_nothing() {
        let mut seen = BTreeSet::new();
        let mut runs = 0;
        for shard in 0..4 {
            let plan = plan(10, (shard, 4));
            runs += plan.own_runs().unwrap();
            for index in 0..plan.own_runs().unwrap() {
                let k = shard + index * 4;
                assert!(seen.insert((k, plan.run(k).1)), "{k} twice");
            }
        }
        assert_eq!((runs, seen.len()), (10, 10));
        assert_eq!(plan(2, (3, 4)).own_runs(), Some(0));
    }

    #[test]
    fn a_campaign_is_the_same_with_one_job_and_with_three() {
        let run = |jobs| {
            let mut plan = plan(6, (0, 1));
            plan.jobs = jobs;
            let plan = Arc::new(plan);
            let campaign = Campaign::start(plan.clone());
            let (mut summary, mut prints) = (Summary::default(), BTreeMap::new());
            while let Ok(next) = campaign.next(std::time::Duration::from_secs(60)) {
                let Some(done) = next else { continue };
                let Ending::Judged(report) = &done.ending else { panic!("{:?}", done.ending) };
                prints.insert(done.k, report.fingerprint);
                summary.take(&done);
            }
            (prints, summary.json(&plan, false))
        };
        let (one, three) = (run(1), run(3));
        assert_eq!(one, three);
        assert_eq!(one.0.len(), 6);
    }

    #[test]
    fn failures_are_grouped_and_the_shortest_run_is_the_witness() {
        let mut summary = Summary::default();
        summary.take(&done(0, Verdict::Inconclusive, "stuck: 17 clients wait", 900));
        summary.take(&done(1, Verdict::Inconclusive, "stuck: 4 clients wait", 300));
        summary.take(&done(2, Verdict::Inconclusive, "mark not reached: isr-shrunk", 200));
        assert_eq!(summary.failures.len(), 2);
        let stuck = &summary.failures["smoke / inconclusive: stuck: # clients wait"];
        assert_eq!((stuck.count, stuck.witness.k), (2, 1));
        assert_eq!(summary.exit_code(), 11);
        summary.take(&done(3, Verdict::Violation, "", 1));
        assert_eq!(summary.exit_code(), 10, "a violation wins over what is inconclusive");
        let mut differs = done(4, Verdict::Pass, "", 1);
        differs.compared = Some(Compared::Different { how: "here".to_owned() });
        summary.take(&differs);
        assert_eq!(summary.exit_code(), 12, "and what does not repeat wins over everything");
        assert_eq!(summary.verdicts["non-deterministic"], 1);
    }

    #[test]
    fn nothing_run_is_nothing_selected() {
        assert_eq!(Summary::default().exit_code(), 4);
    }
}
