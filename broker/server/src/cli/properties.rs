//! From server.properties and overrides to a node's configuration.

use anyhow::{Context, bail};
use broker_server::{Config, parse_properties};
use std::collections::BTreeMap;
use std::path::Path;

/// Reads a properties file and lays overrides over it.
pub(super) fn read(file: &Path, overrides: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut properties = parse_properties(&text);
    lay_over(&mut properties, overrides)?;
    Ok(properties)
}

/// Sets what `key=value` arguments say.
pub(super) fn lay_over(properties: &mut BTreeMap<String, String>, overrides: &[String]) -> anyhow::Result<()> {
    for one in overrides {
        match one.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                properties.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            _ => bail!("--override {one}: it takes KEY=VALUE"),
        }
    }
    Ok(())
}

/// Checks properties. Keys that nothing here understands are warned of, each once.
pub(super) fn check(properties: &BTreeMap<String, String>) -> anyhow::Result<Config> {
    let parsed = Config::from_properties(properties)?;
    for key in &parsed.unknown {
        tracing::warn!(key, "unknown configuration key, ignored");
    }
    let mut config = parsed.config;
    // A listener on all interfaces is advertised by this host's name, as Kafka does.
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    for endpoint in &mut config.advertised_listeners {
        if endpoint.host.is_empty() {
            endpoint.host.clone_from(&name);
        }
    }
    Ok(config)
}
