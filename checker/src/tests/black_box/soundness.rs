//! Legal histories pass, however much is known of them and whatever their sessions are called.

use super::super::reference::{run, steps};
use super::super::{fired, told};
use crate::context::Context;
use crate::history::*;
use crate::judge;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_correct_cluster_is_never_accused(steps in steps(0..200)) {
        let (history, ctx) = run(&steps);
        let results = judge(&history, &ctx);
        prop_assert!(fired(&results).is_empty(), "{}", told(&results));
        // Nobody watched the brokers: less is known, and nothing more may be held against them.
        let unwatched = Context { excuses: None, ..ctx };
        let results = judge(&history, &unwatched);
        prop_assert!(fired(&results).is_empty(), "unwatched: {}", told(&results));
    }

    #[test]
    fn less_knowledge_never_accuses(steps in steps(0..120), which in any::<prop::sample::Index>()) {
        let (mut history, ctx) = run(&steps);
        if !history.ops.is_empty() {
            // What returned ok may as well be told as unknown; its interval may be wider.
            let op = which.get_mut(&mut history.ops);
            if let OpKind::Send(send) = &mut op.kind && op.outcome == Outcome::Ok {
                op.outcome = Outcome::Unknown;
                send.offset = None;
            }
            op.returned = op.returned.map(|at| SimTime(at.0 + 50_000_000));
        }
        let results = judge(&history, &ctx);
        prop_assert!(fired(&results).is_empty(), "{}", told(&results));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn another_name_for_each_session_and_another_hour_change_nothing(steps in steps(0..120), hours in 0u64..9) {
        let (history, ctx) = run(&steps);
        let mut other = history.clone();
        let later = |at: SimTime| SimTime(at.0 + hours * 3_600_000_000_000);
        for op in &mut other.ops {
            op.session = SessionId(op.session.0.wrapping_mul(2_654_435_761));
            (op.invoked, op.returned) = (later(op.invoked), op.returned.map(later));
        }
        let mut moved = ctx.clone();
        for excuse in moved.excuses.iter_mut().flat_map(|all| all.values_mut()).flatten() {
            (excuse.at, excuse.until) = (later(excuse.at), excuse.until.map(later));
        }
        let told = |history, ctx| {
            let results = judge(history, ctx);
            results.into_iter().map(|found| (found.id, found.outcome, found.opportunities, found.allowed)).collect()
        };
        let (before, after): (Vec<_>, Vec<_>) = (told(&history, &ctx), told(&other, &moved));
        prop_assert_eq!(before, after);
    }
}
