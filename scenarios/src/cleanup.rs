//! What brokers owe a log by `cleanup.policy`, and how long they are given for it at the end of a run.

use crate::cluster::Cluster;
use crate::file::ConfigValue;
use broker_types::WallTime;
use checker::{Cleanup, Compaction, Idle};
use sim::World;
use std::time::Duration;

/// How often whoever cleans up comes by while he is given time: once may be too early for a part of it.
const TURNS: u64 = 3;
/// The longest that they are given. Who comes by more rarely than that is not waited for, and owes nothing.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The rules for one topic. `either` finds a value by its topic key, or by the key that brokers have for its default.
///
/// A retention that no record of a run of `longest` can outlive is none.
pub(crate) fn rules(either: impl Fn(&str, &str) -> Option<ConfigValue>, longest: Duration) -> Cleanup {
    let text = |topic_key: &str, cluster_key: &str| either(topic_key, cluster_key).map(|value| value.to_string());
    let number = |topic_key, cluster_key| text(topic_key, cluster_key)?.parse::<u64>().ok();
    let policy = text("cleanup.policy", "log.cleanup.policy").unwrap_or_else(|| "delete".to_owned());
    let has = |word: &str| policy.split(',').any(|policy| policy.trim() == word);
    // A topic's own value comes before all of the brokers'; of theirs the finest unit counts.
    let scale = |cluster_key, millis: u64| Some(number("retention.ms", cluster_key)?.saturating_mul(millis));
    let retention_ms = text("retention.ms", "log.retention.ms").map_or_else(
        || scale("log.retention.minutes", 60_000).or_else(|| scale("log.retention.hours", 3_600_000)),
        |own| own.parse().ok(),
    );
    let dirty_ratio = text("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio");
    let defaults = Compaction::default();
    let compaction = Compaction {
        min_dirty_ppm: dirty_ratio
            .and_then(|ratio| ratio.parse::<f64>().ok())
            .map_or(defaults.min_dirty_ppm, |ratio| (ratio.clamp(0.0, 1.0) * 1e6).round() as u32),
        min_lag_ms: number("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms").unwrap_or(defaults.min_lag_ms),
        max_lag_ms: number("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    };
    Cleanup {
        retention_ms: retention_ms.filter(|ms| has("delete") && u128::from(*ms) < longest.as_millis()),
        retention_bytes: number("retention.bytes", "log.retention.bytes").filter(|_| has("delete")),
        compaction: has("compact").then_some(compaction),
    }
}

/// How long brokers get for it, by their own timers; `None` when nobody would wait for so long.
pub(crate) fn patience(millis: impl Fn(&str, u64) -> u64) -> Option<Duration> {
    let timers = [("log.retention.check.interval.ms", 300_000), ("log.cleaner.backoff.ms", 15_000)];
    let round = timers.iter().fold(0u64, |sum, (key, default)| sum.saturating_add(millis(key, *default)));
    Some(Duration::from_millis(round.saturating_mul(TURNS))).filter(|patience| *patience <= LONGEST)
}

/// Gives them that time. Nobody writes any more.
pub(crate) async fn give_time(world: &World, cluster: &Cluster, patience: Duration) -> Idle {
    let clocks = cluster.hosts.values().filter_map(|host| Some(world.env(*host)?.wall()));
    let WallTime(since_ms) = clocks.min().unwrap_or(WallTime(0));
    world.sleep(patience).await;
    Idle { since_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn of(configs: &[(&str, &str)]) -> Cleanup {
        let configs: BTreeMap<&str, &str> = configs.iter().copied().collect();
        let find = |topic: &str, cluster: &str| {
            let value = configs.get(topic).or_else(|| configs.get(cluster))?;
            Some(ConfigValue::Text((*value).to_owned()))
        };
        rules(find, Duration::from_secs(600))
    }

    #[test]
    fn a_topic_of_which_nothing_is_said_outlives_every_run() {
        assert_eq!(of(&[]), Cleanup::default());
        assert_eq!(of(&[("retention.ms", "604800000"), ("retention.bytes", "-1")]), Cleanup::default());
        assert_eq!(of(&[("retention.ms", "-1"), ("log.retention.ms", "5")]), Cleanup::default());
    }

    #[test]
    fn brokers_get_three_rounds_of_their_timers_and_no_more_than_a_day() {
        assert_eq!(patience(|_, default| default), Some(Duration::from_secs(3 * 315)));
        assert_eq!(patience(|_, _| 4 * 3_600_000), Some(LONGEST));
        assert_eq!(patience(|_, _| 4 * 3_600_000 + 1), None);
        assert_eq!(patience(|_, _| u64::MAX), None);
    }

    #[test]
    fn the_finest_unit_counts_and_a_topics_own_value_before_it() {
        let retention = |configs: &[(&str, &str)]| of(configs).retention_ms;
        assert_eq!(retention(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")]), Some(120_000));
        assert_eq!(retention(&[("log.retention.minutes", "2"), ("log.retention.ms", "7")]), Some(7));
        assert_eq!(retention(&[("log.retention.ms", "7"), ("retention.ms", "9")]), Some(9));
        assert_eq!(retention(&[("log.retention.hours", "1")]), None, "longer than any run");
        assert_eq!(retention(&[("retention.ms", "9"), ("cleanup.policy", "compact")]), None);
    }

    #[test]
    fn a_log_may_be_deleted_from_and_compacted() {
        let both = of(&[("cleanup.policy", "compact, delete"), ("log.retention.bytes", "5")]);
        assert_eq!(
            both,
            Cleanup { retention_ms: None, retention_bytes: Some(5), compaction: Some(Compaction::default()) }
        );
        let compacted = of(&[
            ("log.cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("min.compaction.lag.ms", "10"),
            ("log.cleaner.max.compaction.lag.ms", "20"),
            ("retention.bytes", "5"),
        ]);
        let compaction = Compaction { min_dirty_ppm: 250_000, min_lag_ms: 10, max_lag_ms: Some(20) };
        assert_eq!(compacted, Cleanup { compaction: Some(compaction), ..Cleanup::default() });
    }
}
