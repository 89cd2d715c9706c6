//! Running other programs, and saying how long they took.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// `cargo`, as it called us.
pub(crate) fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(args);
    // What this very program was built with is nobody else's business: it would make cargo build everything anew.
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
        command.env_remove(variable);
    }
    command
}

/// Runs to the end; anything but success is an error.
pub(crate) fn succeed(mut command: Command) -> Result<()> {
    let told = told(&command);
    let status = command.status().with_context(|| format!("cannot run {told}"))?;
    if !status.success() {
        bail!("{told}: {status}");
    }
    Ok(())
}

/// Runs to the end and gives its exit code and what it printed.
pub(crate) fn code_and_output_of(mut command: Command) -> Result<(i32, String)> {
    let told = told(&command);
    let output = command.stderr(Stdio::null()).output().with_context(|| format!("cannot run {told}"))?;
    let code = output.status.code().with_context(|| format!("{told}: {}", output.status))?;
    Ok((code, String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Runs to the end and gives what it printed; anything but success is an error.
pub(crate) fn output_of(mut command: Command) -> Result<String> {
    let told = told(&command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {told}"))?;
    if !output.status.success() {
        bail!("{told}: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as one would type it.
fn told(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(program).chain(args).collect();
    let line = words.join(" ");
    if line.len() <= 200 { line } else { format!("{}...", line.chars().take(200).collect::<String>()) }
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Does one stage and tells its time.
#[expect(clippy::disallowed_methods, reason = "a chore runs in the real world")]
pub(crate) fn stage(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {name}");
    let begun = Instant::now();
    let done = work().with_context(|| format!("stage {name}"));
    let verdict = if done.is_ok() { "ok" } else { "FAILED" };
    eprintln!("    {name}: {verdict} after {:.1} s", begun.elapsed().as_secs_f64());
    done
}
