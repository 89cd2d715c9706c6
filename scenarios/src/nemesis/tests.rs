use super::*;
use crate::file::*;
use broker_types::NodeId;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::BTreeSet;

/// A stand-in for the world's named streams: the name is mixed into the seed.
fn streams(seed: u64) -> impl FnMut(&str) -> ChaCha8Rng {
    move |name| {
        let mixed = name.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        ChaCha8Rng::seed_from_u64(mixed)
    }
}

fn scenario(body: &str) -> Scenario {
    let head = "name = \"t\"\n[cluster]\nracks = [\"a\", \"b\", \"c\"]\nconfig = { \"min.insync.replicas\" = 2 }\n[[topic]]\nname = \"orders\"\n";
    parse("t", &format!("{head}{body}")).unwrap_or_else(|errors| panic!("{errors}"))
}

const EVERYTHING: &str = r#"
[[nemesis]]
crash = { nodes = "any broker", every = "1s..4s", down = "1s..10s" }
[[nemesis]]
power-loss = { nodes = ["any broker", "leader(orders-0)"], every = "2s..9s", down = "1s..3s" }
[[nemesis]]
partition = { nodes = "any node", every = "1s..8s", for = "1s..5s" }
[[nemesis]]
pause = { nodes = "any controller", every = "2s..5s", for = "100ms..3s" }
[[nemesis]]
wipe = { nodes = "all", every = "5s..20s", down = "1s..2s" }
[[nemesis]]
lossy-link = { nodes = "rack(a)", every = "1s..8s", loss = "5%", for = "1s..5s" }
[[nemesis]]
clock-skew = { nodes = "any node", every = "1s..8s", by = "-500ms..500ms", for = "1s..5s" }
[[nemesis]]
clock-drift = { nodes = "any node", every = "1s..8s", ppm = 200, for = "1s..5s" }
[run]
duration = "60s"
"#;

/// Whom a step of a schedule takes away, and from when to when; roles by their text.
fn taken(step: &ScheduledStep, cluster: &Cluster) -> Option<(u64, u64, Vec<String>)> {
    let Trigger::At(at) = step.trigger else { return None };
    let (targets, lasts) = match &step.action {
        Action::Crash(fault) | Action::PowerLoss(fault) | Action::Wipe(fault) => (vec![fault.node.clone()], fault.down),
        Action::Pause(fault) => (vec![fault.node.clone()], fault.lasts),
        Action::Partition(Partition::Groups(partition)) => (partition.groups[0].clone(), partition.lasts),
        _ => return None,
    };
    let _ = cluster;
    let end = at.nanos() + lasts.expect("a drawn fault ends").nanos();
    Some((at.nanos(), end, targets.iter().map(ToString::to_string).collect()))
}

proptest! {
    #[test]
    fn the_budget_keeps_a_majority_and_enough_replicas_and_everything_ends_in_time(seed: u64) {
        let scenario = scenario(EVERYTHING);
        let schedule = resolve(&scenario, streams(seed));
        let taken: Vec<_> = schedule.steps.iter().filter_map(|step| taken(step, &scenario.cluster)).collect();
        prop_assert!(!taken.is_empty());
        for (start, end, _) in &taken {
            prop_assert!(*end <= scenario.run.duration.nanos());
            // At the start of each fault, everyone who is away then.
            let mut away: BTreeSet<&String> = BTreeSet::new();
            for (from, to, who) in &taken {
                if from <= start && start < to {
                    for one in who {
                        prop_assert!(away.insert(one), "{} is away twice at {}", one, start);
                    }
                }
            }
            let controllers = away.iter().filter(|name| name.starts_with("controller-")).count();
            prop_assert!(controllers <= 1, "{away:?}");
            prop_assert!(away.len() - controllers <= 1, "{away:?}");
        }
        for step in &schedule.steps {
            if let Action::Wipe(wipe) = &step.action {
                prop_assert!(matches!(wipe.node, Target::Broker(_)), "{}", wipe.node);
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule_and_another_rule_moves_no_moment(seed: u64) {
        let short = scenario("[[nemesis]]\ncrash = { nodes = \"any broker\", every = \"1s..4s\", down = \"1s..10s\" }\n");
        let mut long = short.clone();
        long.nemesis.push(scenario(EVERYTHING).nemesis[7].clone());
        let first = resolve(&short, streams(seed));
        prop_assert_eq!(&first, &resolve(&short, streams(seed)));
        let others = resolve(&long, streams(seed));
        let crashes = others.steps.into_iter().filter(|step| matches!(step.action, Action::Crash(_)));
        prop_assert_eq!(first.steps, crashes.collect::<Vec<_>>());
    }
}

#[test]
fn different_seeds_give_different_schedules_and_without_a_budget_more_breaks_at_once() {
    let mut scenario = scenario(EVERYTHING);
    let within = resolve(&scenario, streams(1));
    assert_ne!(within, resolve(&scenario, streams(2)));
    scenario.run.budget = Budget::None;
    let (mut with, mut without) = (0, 0);
    for seed in 0..20 {
        scenario.run.budget = Budget::Recoverable;
        with += resolve(&scenario, streams(seed)).steps.len();
        scenario.run.budget = Budget::None;
        without += resolve(&scenario, streams(seed)).steps.len();
    }
    assert!(without > with, "{without} > {with}");
}

#[test]
fn drawn_targets_of_a_step_become_names_and_two_of_them_differ() {
    let body = "[[step]]\nat = \"1s\"\nslow-link = { between = [\"any broker\", \"any broker\"], latency = \"1s\", for = \"5s\" }\n\
                [[step]]\nat = \"2s\"\nrolling-restart = { nodes = \"any broker\", pause = \"1s\" }\n\
                [[step]]\nwhen = \"orders-0.acked >= 1\"\ncrash = { node = \"leader(orders-0)\", down = \"1s\" }\n";
    for seed in 0..50 {
        let schedule = resolve(&scenario(body), streams(seed));
        let Action::SlowLink(link) = &schedule.steps[0].action else { panic!("{schedule:?}") };
        assert!(matches!(link.between, [Target::Broker(a), Target::Broker(b)] if a != b), "{link:?}");
        let Action::RollingRestart(restart) = &schedule.steps[1].action else { panic!("{schedule:?}") };
        assert_eq!(restart.nodes.to_string(), "broker-1, broker-2, broker-3");
        assert_eq!(schedule.steps[2].origin, Origin::Step { index: 2 });
        assert!(schedule.steps[2].required);
    }
}

#[test]
fn a_step_of_the_file_uses_up_the_budget_for_as_long_as_it_lasts() {
    let body = "[[step]]\nat = \"1s\"\ncrash = { node = \"broker-1\" }\n\
                [[nemesis]]\ncrash = { nodes = \"any broker\", every = \"1s..4s\", down = \"1s..10s\" }\n";
    for seed in 0..20 {
        let schedule = resolve(&scenario(body), streams(seed));
        let late = schedule.steps.iter().filter(|step| matches!(step.origin, Origin::Nemesis { .. }));
        assert_eq!(late.count(), 0, "broker-1 stays down, and with it the only broker that may be");
    }
}

#[test]
fn a_schedule_written_into_its_scenario_runs_the_same_from_any_seed() {
    let scenario = scenario(EVERYTHING);
    let schedule = resolve(&scenario, streams(7));
    let written = schedule.written_into(&scenario);
    let text = written.to_toml();
    let read = parse("written", &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(read, written);
    let again = resolve(&read, streams(8));
    let what = |schedule: &Schedule| -> Vec<(Trigger, Action)> {
        schedule.steps.iter().map(|step| (step.trigger.clone(), step.action.clone())).collect()
    };
    assert_eq!(what(&again), what(&schedule));
}

#[test]
fn racks_are_dealt_in_turn_to_brokers_and_apart_from_them_to_controllers() {
    let cluster = scenario("").cluster;
    assert_eq!(cluster.nodes_in_rack("b"), vec![NodeId(2), NodeId(102)]);
}
