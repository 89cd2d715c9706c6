//! `broker format`.

use super::{FormatArgs, directory, env, properties, runtime};
use anyhow::bail;
use broker_types::Uuid;
use std::process::ExitCode;

pub(super) fn run(args: &FormatArgs) -> anyhow::Result<ExitCode> {
    if Uuid::parse(&args.cluster_id).is_none() {
        bail!(
            "--cluster-id `{}` is no cluster id; it has 22 characters of URL-safe base64, as `broker random-uuid` prints",
            args.cluster_id
        );
    }
    let config = properties::check(&properties::read(&args.config, &[])?)?;
    let dirs = directory::all(&config);
    if !args.ignore_formatted
        && let Some(dir) = dirs.iter().find(|dir| directory::is_formatted(dir))
    {
        bail!("{} is already formatted; --ignore-formatted passes over it", dir.display());
    }
    let runtime = runtime()?;
    let fresh: Vec<_> = dirs.iter().filter(|dir| !directory::is_formatted(dir)).collect();
    runtime.block_on(broker_server::format(&env(&runtime), &config, &args.cluster_id))?;
    for dir in fresh {
        println!("formatted {} for node {} of cluster {}", dir.display(), config.node_id, args.cluster_id);
    }
    Ok(ExitCode::SUCCESS)
}
