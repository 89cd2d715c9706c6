//! What judging costs, and how it grows: generated histories of 10^3 operations and more, tenfold each time. Of each it
//! prints the CPU time, how many times that of the line above it is, and the most memory held, the history included.
//!
//! `cargo bench -p checker`, or `cargo bench -p checker -- 7` to go on to 10^7.

mod own;
mod told;

use checker::readers::{Form, read_operations};
use checker::{Options, Verdict, judge_text};
use std::time::{Duration, Instant};

/// From now on, [`peak_megabytes`] counts anew. Where that is not possible, it goes on.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory held since it was last forgotten, in megabytes; `None` where nobody says.
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1024)
}

/// The time that this process, which has one thread, was at work on a core; `None` where nobody says.
fn on_core() -> Option<Duration> {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    told.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs `run` for each power of ten up to `decades`; it says how long the part that is measured took.
fn grow(what: &str, decades: u32, unit: &str, mut run: impl FnMut(u64) -> Duration) {
    println!("{what}");
    let mut former: Option<Duration> = None;
    for decade in 3..=decades {
        forget_peak();
        let took = run(10u64.pow(decade));
        let factor =
            former.map_or(String::new(), |former| format!("{:5.1}x", took.as_secs_f64() / former.as_secs_f64()));
        let peak = peak_megabytes().map_or(String::new(), |peak| format!("{peak:6} MB"));
        println!("  10^{decade} {unit:12} {:>12} {factor:>7} {peak}", format!("{took:.1?}"));
        former = Some(took);
    }
}

/// Time on a core may be told by the tick of the system's clock: below this the clock itself is better.
const COARSE: Duration = Duration::from_millis(100);

/// The time that `act` takes: on a core where that is told and long enough to be told well, else by the clock.
#[expect(clippy::disallowed_methods, reason = "it measures the machine, and nothing depends on the figures")]
fn timed(act: impl FnOnce()) -> Duration {
    let (started, before) = (Instant::now(), on_core());
    act();
    let elapsed = started.elapsed();
    match (before, on_core()) {
        (Some(before), Some(after)) if after - before >= COARSE => after - before,
        _ => elapsed,
    }
}

/// Reads and judges a history told as text.
fn judge_told(text: &str, wanted: Verdict) {
    let judged = judge_text(text, &Options::default()).expect("a history");
    assert_eq!(judged.verdict, wanted, "{:?}", judged.reasons);
}

fn main() {
    let wanted = std::env::args().skip(1).find_map(|word| word.parse::<u32>().ok());
    let decades = wanted.unwrap_or(6).clamp(3, 7);
    grow("linearizability of logs, L1 to L4: acknowledged appends", decades, "sends", |sends| {
        let history = own::appends(sends);
        timed(|| own::judge_logs(&history))
    });
    grow("every black-box check: acknowledged appends", decades, "sends", |sends| {
        let history = own::appends(sends);
        timed(|| own::judge_all(&history))
    });
    grow("every black-box check: appends, and three deliveries of each", decades.min(6), "sends", |sends| {
        let history = own::with_readers(sends);
        timed(|| own::judge_all(&history))
    });
    grow("every white-box check: 6 observations a batch", decades, "batches", |batches| {
        timed(|| own::observe(batches))
    });
    grow("search, a store of strings in EDN: read and judged", decades.min(5), "operations", |count| {
        let text = told::store(count);
        timed(|| judge_told(&text, Verdict::Pass))
    });
    grow("search, a register in EDN: read and judged", decades.min(5), "operations", |count| {
        let text = told::register(count);
        timed(|| judge_told(&text, Verdict::Pass))
    });
    for (what, is_serial, wanted) in [("serial", true, Verdict::Pass), ("on snapshots", false, Verdict::Violation)] {
        grow(
            &format!("transactions of appends and reads in EDN, {what}: read"),
            decades.min(6),
            "transactions",
            |count| {
                let text = told::transactions(count, is_serial);
                timed(|| assert!(read_operations(&text, Form::Edn).is_ok()))
            },
        );
        grow(&format!("the same, {what}: read and judged"), decades.min(6), "transactions", |count| {
            let text = told::transactions(count, is_serial);
            timed(|| judge_told(&text, wanted))
        });
    }
}
