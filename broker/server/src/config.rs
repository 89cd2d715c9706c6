//! `server.properties`: Kafka's own keys, those that the code built so far understands.
//!
//! An unknown key is a warning, a wrong value is a refusal that names the key, the value and what is allowed.

use broker_types::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A value that the key does not allow, or a missing one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The key as Kafka names it.
    pub key: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

fn refuse(key: &str, value: &str, allowed: impl fmt::Display) -> ConfigError {
    ConfigError { key: key.to_owned(), problem: format!("`{value}` is not allowed here; allowed: {allowed}") }
}

/// One listener: a name and where it listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Listener name: `PLAINTEXT`, `CONTROLLER`, ...
    pub name: String,
    /// Host; empty means all interfaces.
    pub host: String,
    /// Port; 0 takes an ephemeral one.
    pub port: u16,
}

/// One voter of `controller.quorum.voters`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoterEndpoint {
    /// The voter's node id.
    pub id: NodeId,
    /// Host of its controller listener.
    pub host: String,
    /// Port of its controller listener.
    pub port: u16,
}

macro_rules! keys {
    ($($(#[$doc:meta])* $field:ident: $kind:ident = $key:literal, $default:expr, $min:expr;)*) => {
        /// Numeric and boolean keys, with Kafka's defaults and ranges.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Settings {
            $($(#[$doc])* pub $field: keys!(@type $kind),)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $($field: keys!(@default $kind, $default),)* }
            }
        }

        impl Settings {
            /// Every key of this table.
            pub const KEYS: &'static [&'static str] = &[$($key,)*];

            /// Every key of this table with Kafka's default as text.
            #[must_use]
            pub fn default_values() -> Vec<(&'static str, String)> {
                let defaults = Settings::default();
                vec![$(($key, keys!(@show $kind, defaults.$field)),)*]
            }

            /// Sets one key; `Ok(false)` when it is not in this table.
            fn set(&mut self, key: &str, value: &str) -> Result<bool, ConfigError> {
                match key {
                    $($key => self.$field = keys!(@parse $kind, key, value, $min),)*
                    _ => return Ok(false),
                }
                Ok(true)
            }
        }
    };
    (@type int) => { i64 };
    (@type ms) => { Duration };
    (@type bool) => { bool };
    (@show int, $value:expr) => { $value.to_string() };
    (@show ms, $value:expr) => { $value.as_millis().to_string() };
    (@show bool, $value:expr) => { $value.to_string() };
    (@default int, $d:expr) => { $d };
    (@default ms, $d:expr) => { Duration::from_millis($d) };
    (@default bool, $d:expr) => { $d };
    (@parse int, $key:expr, $value:expr, $min:expr) => { parse_int($key, $value, $min)? };
    (@parse ms, $key:expr, $value:expr, $min:expr) => {
        Duration::from_millis(u64::try_from(parse_int($key, $value, $min)?).unwrap_or(0))
    };
    (@parse bool, $key:expr, $value:expr, $min:expr) => {
        match $value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => return Err(refuse($key, $value, "true, false")),
        }
    };
}

fn parse_int(key: &str, value: &str, min: i64) -> Result<i64, ConfigError> {
    match value.trim().parse::<i64>() {
        Ok(number) if number >= min => Ok(number),
        _ => Err(refuse(key, value, format_args!("a whole number, {min} or more"))),
    }
}

keys! {
    /// Creates a topic that a client asks metadata of.
    auto_create_topics: bool = "auto.create.topics.enable", true, 0;
    /// Partitions of a topic that does not say.
    num_partitions: int = "num.partitions", 1, 1;
    /// Replication factor of a topic that does not say.
    default_replication_factor: int = "default.replication.factor", 1, 1;
    /// Least ISR for acks=all.
    min_insync_replicas: int = "min.insync.replicas", 1, 1;
    /// Lets a replica outside the ISR lead when nobody else can.
    unclean_leader_election: bool = "unclean.leader.election.enable", false, 0;
    /// Between two heartbeats to the controller.
    heartbeat_interval: ms = "broker.heartbeat.interval.ms", 2000, 1;
    /// A broker silent for this long is fenced.
    session_timeout: ms = "broker.session.timeout.ms", 9000, 1;
    /// A leaderless voter stands for election after this long, plus jitter.
    quorum_election_timeout: ms = "controller.quorum.election.timeout.ms", 1000, 1;
    /// A follower that could not fetch for this long seeks a new leader.
    quorum_fetch_timeout: ms = "controller.quorum.fetch.timeout.ms", 2000, 1;
    /// Largest backoff after a lost election.
    quorum_election_backoff_max: ms = "controller.quorum.election.backoff.max.ms", 1000, 0;
    /// A quorum request without an answer fails after this long.
    quorum_request_timeout: ms = "controller.quorum.request.timeout.ms", 2000, 1;
    /// Pause before a failed quorum request is tried again.
    quorum_retry_backoff: ms = "controller.quorum.retry.backoff.ms", 20, 0;
    /// Most bytes in one fetch of the metadata log.
    quorum_fetch_max_bytes: int = "controller.quorum.fetch.max.bytes", 1_048_576, 1;
    /// The active controller writes a no-op record when idle for this long; 0 never.
    metadata_max_idle_interval: ms = "metadata.max.idle.interval.ms", 500, 0;
    /// A follower that was not caught up for this long leaves the ISR.
    replica_lag_time_max: ms = "replica.lag.time.max.ms", 30_000, 1;
    /// How long a follower's fetch waits for data.
    replica_fetch_wait_max: ms = "replica.fetch.wait.max.ms", 500, 0;
    /// Least bytes that answer a follower's fetch before its time.
    replica_fetch_min_bytes: int = "replica.fetch.min.bytes", 1, 0;
    /// Most bytes per partition in a follower's fetch.
    replica_fetch_max_bytes: int = "replica.fetch.max.bytes", 1_048_576, 0;
    /// Most bytes in one follower's fetch.
    replica_fetch_response_max_bytes: int = "replica.fetch.response.max.bytes", 10_485_760, 0;
    /// Pause after a fetch that failed.
    replica_fetch_backoff: ms = "replica.fetch.backoff.ms", 1000, 0;
    /// A follower's fetch without an answer fails after this long.
    replica_socket_timeout: ms = "replica.socket.timeout.ms", 30_000, 1;
    /// Between two writes of the high watermark checkpoint.
    replica_high_watermark_checkpoint_interval: ms = "replica.high.watermark.checkpoint.interval.ms", 5000, 1;
    /// Between two writes of the recovery point checkpoint.
    log_flush_offset_checkpoint_interval: ms = "log.flush.offset.checkpoint.interval.ms", 60_000, 1;
    /// Size at which a segment is rolled.
    log_segment_bytes: int = "log.segment.bytes", 1_073_741_824, 14;
    /// Age at which a segment is rolled, milliseconds.
    log_roll: ms = "log.roll.ms", 604_800_000, 1;
    /// Bytes between two entries of the offset index.
    log_index_interval_bytes: int = "log.index.interval.bytes", 4096, 0;
    /// Largest index file.
    log_index_size_max_bytes: int = "log.index.size.max.bytes", 10_485_760, 4;
    /// Messages after which a log is flushed; 1 flushes before the acknowledgement.
    log_flush_interval_messages: int = "log.flush.interval.messages", i64::MAX, 1;
    /// Largest age of an unflushed message, milliseconds.
    log_flush_interval: int = "log.flush.interval.ms", i64::MAX, 0;
    /// Largest record batch.
    message_max_bytes: int = "message.max.bytes", 1_048_588, 0;
    /// Largest request frame.
    socket_request_max_bytes: int = "socket.request.max.bytes", 104_857_600, 1;
    /// Most bytes in one consumer's fetch.
    fetch_max_bytes: int = "fetch.max.bytes", 57_671_680, 1024;
    /// Most connections.
    max_connections: int = "max.connections", 2_147_483_647, 0;
    /// Most connections from one address.
    max_connections_per_ip: int = "max.connections.per.ip", 2_147_483_647, 0;
    /// A connection that was silent for this long is closed.
    connections_max_idle: ms = "connections.max.idle.ms", 600_000, 1;
    /// Most requests that were decoded and that nobody has taken up yet.
    queued_max_requests: int = "queued.max.requests", 500, 1;
    /// Most bytes of large requests that were not taken up yet; -1 for no limit.
    queued_max_request_bytes: int = "queued.max.request.bytes", -1, -1;
    /// A request between nodes fails after this long.
    request_timeout: ms = "request.timeout.ms", 30_000, 1;
    /// An idle producer id is forgotten after this long.
    producer_id_expiration: ms = "producer.id.expiration.ms", 86_400_000, 1;
    /// Asks the controller to move leaderships away before a stop.
    controlled_shutdown: bool = "controlled.shutdown.enable", true, 0;
}

/// A node's whole configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// `node.id`.
    pub node_id: NodeId,
    /// `process.roles` has `broker`.
    pub is_broker: bool,
    /// `process.roles` has `controller`.
    pub is_controller: bool,
    /// The cluster's id, from `meta.properties`; 22 characters.
    pub cluster_id: String,
    /// `controller.quorum.voters`, in order of id.
    pub voters: Vec<VoterEndpoint>,
    /// `listeners` that serve clients and brokers.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`; as `listeners` where it does not say.
    pub advertised_listeners: Vec<Endpoint>,
    /// `listeners` named in `controller.listener.names`.
    pub controller_listeners: Vec<Endpoint>,
    /// `inter.broker.listener.name`.
    pub inter_broker_listener: String,
    /// `log.dirs`: where partitions live.
    pub log_dirs: Vec<PathBuf>,
    /// `metadata.log.dir`: where `__cluster_metadata-0` lives; the first of `log_dirs` unless said otherwise.
    pub metadata_log_dir: PathBuf,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// All other keys.
    pub settings: Settings,
    /// Keys as they were given, for DescribeConfigs.
    pub given: BTreeMap<String, String>,
}

/// A configuration and what deserves a warning.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// Keys that nothing here understands, in order.
    pub unknown: Vec<String>,
}

/// Reads the text of a properties file: `key=value` lines, `#` and `!` comments, a trailing backslash goes on.
/// The last of two equal keys wins, as in Java.
#[must_use]
pub fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut logical = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        if logical.is_empty() && (line.is_empty() || line.starts_with('#') || line.starts_with('!')) {
            continue;
        }
        if let Some(head) = line.strip_suffix('\\') {
            logical.push_str(head);
            continue;
        }
        logical.push_str(line);
        let (key, value) = match logical.find(['=', ':']) {
            Some(at) => (logical[..at].trim(), logical[at + 1..].trim()),
            None => (logical.trim(), ""),
        };
        properties.insert(key.to_owned(), value.to_owned());
        logical.clear();
    }
    properties
}

const STRUCTURAL: &[&str] = &[
    "node.id",
    "broker.id",
    "process.roles",
    "controller.quorum.voters",
    "listeners",
    "advertised.listeners",
    "controller.listener.names",
    "inter.broker.listener.name",
    "log.dirs",
    "log.dir",
    "metadata.log.dir",
    "broker.rack",
    "listener.security.protocol.map",
    "cluster.id",
];

impl Config {
    /// Builds a configuration from properties. `cluster.id` is ours: `meta.properties` normally brings it.
    ///
    /// # Errors
    /// The first key that is missing or has a value that is not allowed.
    pub fn from_properties(properties: &BTreeMap<String, String>) -> Result<Parsed, ConfigError> {
        let mut settings = Settings::default();
        let mut unknown = Vec::new();
        for (key, value) in properties {
            if !settings.set(key, value)? && !STRUCTURAL.contains(&key.as_str()) {
                unknown.push(key.clone());
            }
        }
        let get = |key: &str| properties.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let require = |key: &str, what: &str| {
            get(key).ok_or_else(|| ConfigError { key: key.to_owned(), problem: format!("missing; it names {what}") })
        };

        let id = get("node.id").or(get("broker.id")).map_or_else(|| require("node.id", "this node"), Ok)?;
        let node_id =
            NodeId(i32::try_from(parse_int("node.id", id, 0)?).map_err(|_| refuse("node.id", id, "0 to 2147483647"))?);
        let (mut is_broker, mut is_controller) = (false, false);
        for role in require("process.roles", "what this node is: broker, controller, or both")?.split(',') {
            match role.trim() {
                "broker" => is_broker = true,
                "controller" => is_controller = true,
                other => return Err(refuse("process.roles", other, "broker, controller, or both with a comma")),
            }
        }
        let voters = parse_voters(require("controller.quorum.voters", "the quorum: id@host:port,...")?)?;
        let controller_names: Vec<&str> =
            require("controller.listener.names", "the controllers' listeners")?.split(',').map(str::trim).collect();
        let all = parse_endpoints("listeners", get("listeners").unwrap_or("PLAINTEXT://:9092"))?;
        let (controller_listeners, listeners): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|endpoint| controller_names.contains(&endpoint.name.as_str()));
        if is_controller && controller_listeners.is_empty() {
            return Err(ConfigError {
                key: "listeners".to_owned(),
                problem: format!(
                    "a controller needs a listener named in controller.listener.names ({controller_names:?})"
                ),
            });
        }
        if is_broker && listeners.is_empty() {
            return Err(ConfigError {
                key: "listeners".to_owned(),
                problem: "a broker needs a listener that is not a controller's".to_owned(),
            });
        }
        if is_controller && !voters.iter().any(|voter| voter.id == node_id) {
            return Err(ConfigError {
                key: "controller.quorum.voters".to_owned(),
                problem: format!("node.id {node_id} is a controller but not among the voters"),
            });
        }
        let advertised_listeners = match get("advertised.listeners") {
            Some(text) => parse_endpoints("advertised.listeners", text)?,
            None => listeners.clone(),
        };
        if let Some(wrong) = advertised_listeners.iter().find(|endpoint| endpoint.host == "0.0.0.0") {
            return Err(refuse("advertised.listeners", &wrong.host, "a host that clients can reach, never 0.0.0.0"));
        }
        let inter_broker_listener = match get("inter.broker.listener.name") {
            Some(name) if !is_broker || listeners.iter().any(|endpoint| endpoint.name == name) => name.to_owned(),
            Some(name) => {
                let names: Vec<_> = listeners.iter().map(|endpoint| endpoint.name.as_str()).collect();
                return Err(refuse("inter.broker.listener.name", name, names.join(", ")));
            }
            None => listeners.first().map_or_else(|| "PLAINTEXT".to_owned(), |endpoint| endpoint.name.clone()),
        };
        let log_dirs: Vec<PathBuf> = get("log.dirs")
            .or(get("log.dir"))
            .unwrap_or("/tmp/kafka-logs")
            .split(',')
            .map(|dir| PathBuf::from(dir.trim()))
            .collect();
        let metadata_log_dir = get("metadata.log.dir").map_or_else(|| log_dirs[0].clone(), PathBuf::from);
        Ok(Parsed {
            config: Config {
                node_id,
                is_broker,
                is_controller,
                cluster_id: get("cluster.id").unwrap_or_default().to_owned(),
                voters,
                listeners,
                advertised_listeners,
                controller_listeners,
                inter_broker_listener,
                log_dirs,
                metadata_log_dir,
                rack: get("broker.rack").map(str::to_owned),
                settings,
                given: properties.clone(),
            },
            unknown,
        })
    }

    /// The voters' ids, in order.
    #[must_use]
    pub fn voter_ids(&self) -> Vec<NodeId> {
        self.voters.iter().map(|voter| voter.id).collect()
    }
}

fn parse_voters(text: &str) -> Result<Vec<VoterEndpoint>, ConfigError> {
    let key = "controller.quorum.voters";
    let allowed = "id@host:port, joined by commas";
    let mut voters = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let voter = part.split_once('@').and_then(|(id, address)| {
            let (host, port) = split_host_port(address)?;
            Some(VoterEndpoint { id: NodeId(id.parse().ok().filter(|id| *id >= 0)?), host, port })
        });
        voters.push(voter.ok_or_else(|| refuse(key, part, allowed))?);
    }
    voters.sort_by_key(|voter| voter.id);
    if let Some(pair) = voters.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(refuse(key, text, format_args!("each id once; {} comes twice", pair[0].id)));
    }
    Ok(voters)
}

/// `host:port` or `[v6]:port`.
fn split_host_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), port.parse().ok()?))
}

fn parse_endpoints(key: &str, text: &str) -> Result<Vec<Endpoint>, ConfigError> {
    let allowed = "NAME://host:port, joined by commas";
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let endpoint = part.split_once("://").and_then(|(name, address)| {
            let (host, port) = split_host_port(address)?;
            (!name.is_empty()).then(|| Endpoint { name: name.to_owned(), host, port })
        });
        let endpoint = endpoint.ok_or_else(|| refuse(key, part, allowed))?;
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            return Err(refuse(key, part, "each listener name once"));
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(text: &str) -> BTreeMap<String, String> {
        parse_properties(text)
    }

    const COMBINED: &str = "node.id=1\nprocess.roles=broker,controller\ncontroller.quorum.voters=1@localhost:9093\n\
        controller.listener.names=CONTROLLER\nlisteners=PLAINTEXT://localhost:9092,CONTROLLER://[::1]:9093\n";

    #[test]
    fn a_combined_node_reads_its_listeners_apart() {
        let parsed = Config::from_properties(&properties(COMBINED)).unwrap();
        assert!(parsed.unknown.is_empty());
        let config = parsed.config;
        assert_eq!((config.is_broker, config.is_controller), (true, true));
        assert_eq!(config.listeners[0].port, 9092);
        assert_eq!(
            config.controller_listeners[0],
            Endpoint { name: "CONTROLLER".into(), host: "::1".into(), port: 9093 }
        );
        assert_eq!(config.inter_broker_listener, "PLAINTEXT");
    }

    #[test]
    fn an_unknown_key_is_named_and_a_wrong_value_is_refused_with_what_is_allowed() {
        let parsed = Config::from_properties(&properties(&format!("{COMBINED}no.such.key=1\n"))).unwrap();
        assert_eq!(parsed.unknown, ["no.such.key"]);
        for (line, expected) in [
            (
                "min.insync.replicas=0",
                "min.insync.replicas: `0` is not allowed here; allowed: a whole number, 1 or more",
            ),
            (
                "auto.create.topics.enable=maybe",
                "auto.create.topics.enable: `maybe` is not allowed here; allowed: true, false",
            ),
            (
                "process.roles=king",
                "process.roles: `king` is not allowed here; allowed: broker, controller, or both with a comma",
            ),
            ("node.id=-3", "node.id: `-3` is not allowed here; allowed: a whole number, 0 or more"),
            (
                "controller.quorum.voters=1:9",
                "controller.quorum.voters: `1:9` is not allowed here; allowed: id@host:port, joined by commas",
            ),
            (
                "advertised.listeners=PLAINTEXT://0.0.0.0:9",
                "advertised.listeners: `0.0.0.0` is not allowed here; allowed: a host that clients can reach, never 0.0.0.0",
            ),
        ] {
            let error = Config::from_properties(&properties(&format!("{COMBINED}{line}\n"))).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn properties_read_as_java_reads_them() {
        let read = properties("# c\n! c\n a = b \nlong=one,\\\n  two\nempty=\na=c\n");
        assert_eq!(read["a"], "c");
        assert_eq!(read["long"], "one,two");
        assert_eq!(read["empty"], "");
        assert_eq!(read.len(), 3);
    }
}
