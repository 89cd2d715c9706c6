//! `trial run`.

use super::{INVALID_FILE, NOTHING_SELECTED, color, progress};
use crate::cli::{Common, Format, Progress, RunArgs};
use crate::file::{self, Diagnostics, Loaded};
use crate::run::{Options, Watch};
use reports::RunReport;
use reports::terminal::seconds;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Finds a scenario by its name in the catalog, or reads a file.
///
/// # Errors
/// The exit code, after the error was told.
pub(crate) fn load(named: &str, color: bool) -> Result<Loaded, ExitCode> {
    let path = Path::new(named);
    let is_file = path.extension().is_some() || path.components().count() > 1 || path.is_file();
    if !is_file {
        if let Some(found) = file::find(named) {
            return checked(found, color);
        }
        let hint = file::nearest_name(named).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        eprintln!("trial: the catalog has no scenario `{named}`{hint}");
        eprintln!("       `trial scenario list` shows the catalog; a file is named with its ending: `{named}.toml`");
        return Err(ExitCode::from(NOTHING_SELECTED));
    }
    match file::check(path) {
        Ok(loaded) => Ok(loaded),
        Err(errors) => Err(refuse(&errors, color)),
    }
}

fn checked(loaded: Loaded, color: bool) -> Result<Loaded, ExitCode> {
    match file::check_supported(&loaded.file, &loaded.text, &loaded.scenario) {
        Ok(()) => Ok(loaded),
        Err(errors) => Err(refuse(&errors, color)),
    }
}

fn refuse(errors: &Diagnostics, color: bool) -> ExitCode {
    eprint!("{}", errors.render(color));
    ExitCode::from(INVALID_FILE)
}

/// A seed that nobody chose.
fn new_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library's per-process random keys; nothing else here is random.
    #[allow(clippy::disallowed_types)]
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

pub(super) fn run(args: &RunArgs, common: &Common) -> ExitCode {
    let colored = color(common);
    let loaded = match load(&args.scenario, colored) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let scenario = &loaded.scenario;
    let seed = args.seed.or(scenario.run.seed).unwrap_or_else(new_seed);
    let bug = match super::bugs::chosen(args.bug.as_deref()) {
        Ok(bug) => bug,
        Err(code) => return code,
    };
    let out = match out_dir(args, &scenario.name, seed) {
        Ok(out) => out,
        Err(code) => return code,
    };
    if !common.quiet {
        eprintln!("{} · seed {seed:016x}", scenario.name);
    }
    let options = Options {
        until: args.until,
        events: args.events.clone(),
        history: (!args.no_files).then(|| out.join(super::check::HISTORY)),
        named: args.scenario.clone(),
        log: args.log.clone().map(|filter| (filter, out.join("logs"))),
        workloads: Vec::new(),
        bug,
    };
    let watch = Arc::new(Watch::default());
    let (report, checkpoints) = with_status(progress(common), &watch, scenario.run.duration.0, || {
        crate::run::run_traced(scenario, seed, &options, &watch)
    });
    print(&report, common, colored);
    if let Some(file) = &args.checkpoints
        && let Err(error) = std::fs::write(file, crate::rerun::checkpoints_text(&checkpoints))
    {
        eprintln!("trial: {}: {error}", file.display());
    }
    if args.no_files {
    } else if let Err(error) = save(&report, &out) {
        eprintln!("trial: {}: {error}", out.display());
    } else if !common.quiet && common.format == Format::Text {
        outln!("Files        {}", out.display());
    }
    ExitCode::from(report.exit_code())
}

fn print(report: &RunReport, common: &Common, colored: bool) {
    match common.format {
        Format::Json => outln!("{:#}", reports::run_json(report)),
        Format::Text => {
            let text = reports::terminal::render(report, colored, common.verbose);
            if common.quiet {
                outln!("{}", text.lines().next().unwrap_or_default());
            } else {
                out!("{text}");
            }
        }
    }
}

/// Where the run's files go: a folder named by hand must not exist, the default one is replaced.
fn out_dir(args: &RunArgs, name: &str, seed: u64) -> Result<PathBuf, ExitCode> {
    match &args.out {
        Some(dir) if dir.exists() => {
            eprintln!("trial: {} exists already; name a folder that does not, or leave --out away", dir.display());
            Err(ExitCode::from(super::USAGE))
        }
        Some(dir) => Ok(dir.clone()),
        None if args.no_files => Ok(PathBuf::new()),
        None => {
            let dir = PathBuf::from("target/trial").join(format!("{name}-{seed:016x}"));
            let _ = std::fs::remove_dir_all(&dir);
            Ok(dir)
        }
    }
}

fn save(report: &RunReport, out: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("run.json"), format!("{:#}\n", reports::run_json(report)))?;
    std::fs::write(out.join("report.txt"), reports::terminal::render(report, false, true))
}

/// Runs `work` while a status line tells how far it is.
fn with_status<T>(progress: Progress, watch: &Arc<Watch>, duration: Duration, work: impl FnOnce() -> T) -> T {
    if progress == Progress::None {
        return work();
    }
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (seen, finished) = (watch.clone(), done.clone());
    #[allow(clippy::disallowed_methods)]
    let teller = std::thread::spawn(move || {
        let started = Instant::now();
        let mut told = Duration::ZERO;
        let live = progress == Progress::Auto;
        while !finished.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
            let elapsed = started.elapsed();
            let due = if live { Duration::from_millis(100) } else { Duration::from_secs(10) };
            if elapsed - told >= due {
                told = elapsed;
                let line = status(&seen, duration, elapsed);
                let mut err = std::io::stderr().lock();
                let _ = if live { write!(err, "\r\x1b[K{line}") } else { writeln!(err, "{line}") };
                let _ = err.flush();
            }
        }
        if live {
            eprint!("\r\x1b[K");
        }
    });
    let result = work();
    done.store(true, Ordering::Relaxed);
    let _ = teller.join();
    result
}

fn status(watch: &Watch, duration: Duration, elapsed: Duration) -> String {
    let ms = watch.simulated_ms.load(Ordering::Relaxed);
    let phase = match watch.phase.load(Ordering::Relaxed) {
        0 => "booting".to_owned(),
        1 => format!("{} of {}", seconds(ms), seconds(u64::try_from(duration.as_millis()).unwrap_or(0))),
        2 => "healing".to_owned(),
        3 => "reading once more".to_owned(),
        _ => "judging".to_owned(),
    };
    let speed = ms / u64::try_from(elapsed.as_millis()).unwrap_or(1).max(1);
    let (acked, read) = (watch.acked.load(Ordering::Relaxed), watch.read.load(Ordering::Relaxed));
    format!("{phase} · {speed}× real time · {acked} acknowledged, {read} read")
}
