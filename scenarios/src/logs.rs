//! `--log`: each node's log in a file of its own, in simulated time. Changes no fingerprint.

use sim::World;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Logs this thread's world into `dir` until the guard is dropped. `None`, with a word on stderr, if it cannot.
pub(crate) fn start(filter: &str, dir: &Path, world: &World) -> Option<tracing::subscriber::DefaultGuard> {
    // The executor's spans cost half a poll each; nobody wants to see them.
    let filter = match EnvFilter::try_new(format!("{filter},madsim=off")) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("trial: --log: {error}");
            return None;
        }
    };
    if let Err(error) = std::fs::create_dir_all(dir) {
        eprintln!("trial: {}: {error}", dir.display());
        return None;
    }
    let files = NodeFiles { dir: dir.to_owned(), world: world.clone(), open: Arc::default() };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_timer(SimulatedTime)
        .with_writer(files)
        .finish();
    Some(tracing::subscriber::set_default(subscriber))
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        match sim::current() {
            Some((_, at)) => {
                // Counted as everything that is told of a run; the boot is before zero.
                let zero = crate::recorder::START.0;
                let (sign, apart) = if at.0 < zero { ("-", zero - at.0) } else { ("", at.0 - zero) };
                write!(w, "{:>13}", format!("{sign}{}.{:06}", apart / 1_000_000_000, apart / 1000 % 1_000_000))
            }
            None => write!(w, "{:>13}", "-"),
        }
    }
}

struct NodeFiles {
    dir: PathBuf,
    world: World,
    open: Arc<Mutex<BTreeMap<String, File>>>,
}

impl<'a> MakeWriter<'a> for NodeFiles {
    type Writer = NodeWriter;

    fn make_writer(&'a self) -> NodeWriter {
        let name = match sim::current() {
            Some((host, _)) => self.world.name(host),
            None => "trial".to_owned(),
        };
        NodeWriter { path: self.dir.join(format!("{name}.log")), name, open: self.open.clone() }
    }
}

struct NodeWriter {
    name: String,
    path: PathBuf,
    open: Arc<Mutex<BTreeMap<String, File>>>,
}

impl Write for NodeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut open = self.open.lock().expect("one thread a world");
        if !open.contains_key(&self.name) {
            open.insert(self.name.clone(), File::create(&self.path)?);
        }
        open.get_mut(&self.name).expect("just opened").write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
