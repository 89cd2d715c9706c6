//! The search against trying every order, and what must not change a judgement.

use super::models::kv::Key;
use super::models::register::{Access, Register};
use super::objects::{By, Object, check};
use super::search::{Answer, Budget, Model, Span, search};
use super::shrink::shrink;
use crate::CheckOutcome;
use proptest::prelude::*;
use proptest::sample::Index;

/// Tries every order that time permits; what never returns may be left out.
fn some_order_explains<M: Model>(model: &M, spans: &[Span]) -> bool {
    fn go<M: Model>(model: &M, spans: &[Span], state: u64, done: u32) -> bool {
        let left = |op: usize| done & (1 << op) == 0;
        if (0..spans.len()).all(|op| !left(op) || spans[op].returned == u64::MAX) {
            return true;
        }
        (0..spans.len()).any(|next| {
            let waits = (0..spans.len()).any(|other| left(other) && spans[other].returned < spans[next].invoked);
            let step = || model.step(state, next);
            left(next) && !waits && step().is_some_and(|state| go(model, spans, state, done | 1 << next))
        })
    }
    go(model, spans, model.initial(), 0)
}

fn budget() -> Budget {
    Budget { steps: 10_000_000 }
}

fn is_linearizable<M: Model>(model: &M, spans: &[Span]) -> bool {
    match search(model, spans, &mut budget()) {
        Answer::Linearizable(order) => {
            let explained = order.iter().try_fold(model.initial(), |state, op| model.step(state, *op as usize));
            assert!(explained.is_some(), "the order {order:?} explains nothing");
            for (at, op) in order.iter().enumerate() {
                let invoked = spans[*op as usize].invoked;
                assert!(order[at..].iter().all(|later| spans[*later as usize].returned >= invoked), "{order:?}");
            }
            let in_order = |op: usize| order.contains(&(op as u32));
            assert!((0..spans.len()).all(|op| spans[op].returned == u64::MAX || in_order(op)), "{order:?}");
            true
        }
        Answer::Impossible { .. } => false,
        Answer::Unknown => panic!("so few operations need no such budget"),
    }
}

fn spans(count: usize) -> impl Strategy<Value = Vec<Span>> {
    let span = (0u64..12, prop::option::weighted(0.8, 0u64..7))
        .prop_map(|(invoked, lasts)| Span { invoked, returned: lasts.map_or(u64::MAX, |lasts| invoked + lasts) });
    prop::collection::vec(span, count)
}

fn register(accesses: Vec<Access>) -> Register {
    let values = ["nil", "1", "2"].map(str::to_owned).to_vec();
    Register { accesses, values: values.into() }
}

/// Writes and reads of a register in turns, each value once, five at a time; after all of them value 7 is read again.
fn a_long_history_that_ends_wrong(turns: u32) -> (Register, Vec<Span>) {
    let accesses = (1..=turns).flat_map(|value| [Access::Write(value), Access::Read(value)]);
    let accesses: Vec<Access> = accesses.chain([Access::Read(7)]).collect();
    let mut spans: Vec<Span> =
        (0..accesses.len() as u64).map(|op| Span { invoked: 3 * op, returned: 3 * op + 13 }).collect();
    let last = spans.last_mut().expect("the read of 7");
    *last = Span { invoked: last.returned, returned: last.returned + 1 };
    let values: Vec<String> = (0..=turns).map(|value| value.to_string()).collect();
    (Register { accesses, values: values.into() }, spans)
}

#[test]
fn a_contradiction_at_the_end_of_a_long_history_is_told_by_three_operations() {
    let (model, spans) = a_long_history_that_ends_wrong(50_000);
    let mut ample = Budget { steps: 1_000_000_000 };
    let Answer::Impossible { stuck, .. } = search(&model, &spans, &mut ample) else { panic!("it ends wrong") };
    let ops = shrink(&model, &spans, stuck, &mut budget());
    let told: Vec<Access> = ops.iter().map(|op| model.accesses[*op as usize]).collect();
    let [Access::Write(7), Access::Write(other), Access::Read(7)] = told[..] else { panic!("told by {told:?}") };
    assert_ne!(other, 7);
}

#[test]
fn so_is_one_on_a_register_of_five_values_that_everybody_swaps() {
    let value = |turn: u32| 1 + turn % 5;
    let turn = |turn| {
        let (from, to) = (value(turn), value(turn + 1));
        let refused = Access::Refused { from: value(turn + 2), to };
        [Access::Write(from), Access::Swap { from, to }, Access::Read(to), refused]
    };
    let accesses: Vec<Access> = (0..20_000).flat_map(turn).chain([Access::Read(value(3))]).collect();
    let spans: Vec<Span> =
        (0..accesses.len() as u64).map(|op| Span { invoked: 3 * op, returned: 3 * op + 1 }).collect();
    let model = Register { accesses, values: (0..6).map(|value| value.to_string()).collect::<Vec<_>>().into() };
    let mut ample = Budget { steps: 1_000_000_000 };
    let Answer::Impossible { stuck, .. } = search(&model, &spans, &mut ample) else { panic!("it ends wrong") };
    let ops = shrink(&model, &spans, stuck, &mut budget());
    let told: Vec<Access> = ops.iter().map(|op| model.accesses[*op as usize]).collect();
    assert!(told.len() <= 4 && told.last() == Some(&Access::Read(value(3))), "told by {told:?}");
}

fn on_a_register() -> impl Strategy<Value = (Vec<Access>, Vec<Span>)> {
    let value = || 0u32..3;
    let access = prop_oneof![
        3 => value().prop_map(Access::Read),
        2 => value().prop_map(Access::Write),
        1 => (value(), value()).prop_map(|(from, to)| Access::Swap { from, to }),
        1 => (value(), value()).prop_map(|(from, to)| Access::Refused { from, to }),
    ];
    (0usize..=7).prop_flat_map(move |count| (prop::collection::vec(access.clone(), count), spans(count)))
}

type KeyAccess = (&'static str, String);

fn on_a_key() -> impl Strategy<Value = (Vec<KeyAccess>, Vec<Span>)> {
    let access = prop_oneof![
        3 => "[ab]{0,3}".prop_map(|text| ("get", text)),
        1 => "[ab]{0,1}".prop_map(|text| ("put", text)),
        2 => "[ab]{0,1}".prop_map(|text| ("append", text)),
    ];
    (0usize..=7).prop_flat_map(move |count| (prop::collection::vec(access.clone(), count), spans(count)))
}

/// The same with a store's key as anybody would write it.
fn plain_order_explains(accesses: &[KeyAccess], spans: &[Span]) -> bool {
    fn go(accesses: &[KeyAccess], spans: &[Span], state: &str, done: u32) -> bool {
        let left = |op: usize| done & (1 << op) == 0;
        if (0..spans.len()).all(|op| !left(op) || spans[op].returned == u64::MAX) {
            return true;
        }
        (0..spans.len()).any(|next| {
            let waits = (0..spans.len()).any(|other| left(other) && spans[other].returned < spans[next].invoked);
            let (name, text) = &accesses[next];
            let after = match *name {
                "get" => (text == state).then(|| state.to_owned()),
                "put" => Some(text.clone()),
                _ => Some(format!("{state}{text}")),
            };
            left(next) && !waits && after.is_some_and(|state| go(accesses, spans, &state, done | 1 << next))
        })
    }
    go(accesses, spans, "", 0)
}

/// Accesses that some order explains, with spans around the moment at which each took effect.
fn explained() -> impl Strategy<Value = (Vec<Access>, Vec<Span>)> {
    let step = (0u8..4, 0u32..3, 0u32..3, 0u64..40, 0u64..40, prop::bool::weighted(0.15));
    prop::collection::vec(step, 0..60).prop_map(|steps| {
        let mut state = 0;
        let taken = steps.into_iter().enumerate().map(|(at, (kind, a, b, before, after, is_lost))| {
            let access = match kind {
                0 => Access::Read(state),
                1 => Access::Write(a),
                _ if a == state => Access::Swap { from: a, to: b },
                _ => Access::Refused { from: a, to: b },
            };
            if let Access::Write(value) | Access::Swap { to: value, .. } = access {
                state = value;
            }
            let moment = 100 + 10 * at as u64;
            let returned = if is_lost { u64::MAX } else { moment + after };
            (access, Span { invoked: moment - before, returned })
        });
        taken.unzip()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_register_is_judged_as_by_trying_every_order((accesses, spans) in on_a_register()) {
        let model = register(accesses);
        prop_assert_eq!(is_linearizable(&model, &spans), some_order_explains(&model, &spans));
    }

    #[test]
    fn a_key_is_judged_as_by_trying_every_order((accesses, spans) in on_a_key()) {
        let expected = plain_order_explains(&accesses, &spans);
        prop_assert_eq!(is_linearizable(&Key::new(accesses), &spans), expected);
    }

    #[test]
    fn what_is_left_after_shrinking_still_has_no_order((accesses, spans) in on_a_register()) {
        let model = register(accesses.clone());
        if let Answer::Impossible { stuck, .. } = search(&model, &spans, &mut budget()) {
            let ops = shrink(&model, &spans, stuck, &mut budget());
            let left = register(ops.iter().map(|op| accesses[*op as usize]).collect());
            let left_spans: Vec<Span> = ops.iter().map(|op| spans[*op as usize]).collect();
            prop_assert!(!some_order_explains(&left, &left_spans), "{:?}", ops);
        }
    }

    #[test]
    fn a_shrunk_history_of_a_key_still_has_no_order((accesses, spans) in on_a_key()) {
        let model = Key::new(accesses.clone());
        if let Answer::Impossible { stuck, .. } = search(&model, &spans, &mut budget()) {
            let ops = shrink(&model, &spans, stuck, &mut budget());
            let left: Vec<KeyAccess> = ops.iter().map(|op| accesses[*op as usize].clone()).collect();
            let left_spans: Vec<Span> = ops.iter().map(|op| spans[*op as usize]).collect();
            prop_assert!(!plain_order_explains(&left, &left_spans), "{:?}", ops);
        }
    }

    #[test]
    fn dropping_never_makes_an_explained_history_inexplicable(
        (accesses, spans) in explained(),
        which in prop::collection::vec(any::<Index>(), 1..5),
        overwritten_too in any::<bool>(),
    ) {
        prop_assume!(!accesses.is_empty());
        let model = register(accesses.clone());
        prop_assert!(is_linearizable(&model, &spans));
        let all: Vec<u32> = (0..accesses.len() as u32).collect();
        let dropped = which.iter().map(|index| *index.get(&all)).collect();
        let rest = super::shrink::without(&model, &spans, &all, dropped, overwritten_too, &mut budget()).expect("so few");
        let left = register(rest.iter().map(|op| accesses[*op as usize]).collect());
        let left_spans: Vec<Span> = rest.iter().map(|op| spans[*op as usize]).collect();
        prop_assert!(is_linearizable(&left, &left_spans), "{:?}", rest);
    }

    #[test]
    fn what_some_order_explains_stays_so_when_less_is_known(
        (accesses, spans) in explained(), which in any::<Index>(), how in 0u8..5,
    ) {
        prop_assume!(!accesses.is_empty());
        let (mut accesses, mut spans) = (accesses, spans);
        prop_assert!(is_linearizable(&register(accesses.clone()), &spans));
        let at = which.index(accesses.len());
        match how {
            // Its interval is wider.
            0 => spans[at].returned = spans[at].returned.saturating_add(25),
            1 => spans[at].invoked -= spans[at].invoked.min(25),
            // Nobody knows what came of it.
            2 => spans[at].returned = u64::MAX,
            // Everything happens later, and slower.
            3 => for span in &mut spans {
                span.invoked = 7 + 3 * span.invoked;
                span.returned = span.returned.saturating_mul(3).saturating_add(7);
            },
            // A read is not told.
            _ => if matches!(accesses[at], Access::Read(_) | Access::Refused { .. }) {
                accesses.remove(at);
                spans.remove(at);
            },
        }
        prop_assert!(is_linearizable(&register(accesses), &spans));
    }

    #[test]
    fn names_do_not_matter((accesses, spans) in on_a_register()) {
        let expected = is_linearizable(&register(accesses.clone()), &spans);
        // nil is the start, and keeps its name.
        let other = |value: u32| [0, 2, 1][value as usize];
        let renamed = accesses.into_iter().map(|access| match access {
            Access::Read(value) => Access::Read(other(value)),
            Access::Write(value) => Access::Write(other(value)),
            Access::Swap { from, to } => Access::Swap { from: other(from), to: other(to) },
            Access::Refused { from, to } => Access::Refused { from: other(from), to: other(to) },
        });
        prop_assert_eq!(is_linearizable(&register(renamed.rev().collect()), &spans.into_iter().rev().collect::<Vec<_>>()), expected);
    }
}

fn object(accesses: Vec<Access>, spans: Vec<Span>) -> Object<Register> {
    let who = (1..=spans.len()).map(|line| (line as i64, line as u32)).collect();
    Object { spans, who, ..Object::new(String::new(), By::LINE, register(accesses)) }
}

#[test]
fn a_search_beyond_its_budget_is_unknown_and_no_pass() {
    // Thirty writes at once, of values that a reader sees in an order that nothing explains.
    let mut accesses: Vec<Access> = (0..30).map(|at| Access::Write(1 + at % 2)).collect();
    let mut spans = vec![Span { invoked: 0, returned: 100 }; 30];
    for (at, value) in [1, 2].repeat(17).into_iter().enumerate() {
        accesses.push(Access::Read(value));
        spans.push(Span { invoked: 2 * at as u64, returned: 2 * at as u64 });
    }
    let outcome = |budget: u64| check("x", "X.", &[object(accesses.clone(), spans.clone())], budget).outcome;
    assert_eq!(outcome(100), CheckOutcome::Unknown);
    assert_eq!(outcome(100_000_000), CheckOutcome::Violation);
}

#[test]
fn a_counterexample_is_told_in_words_and_drawn() {
    let told = |lines: &[&str]| {
        let text = lines.join("\n");
        let judged = crate::judge_text(&text, &crate::Options::default()).expect("a history");
        judged.checks[0]
            .violations
            .iter()
            .flat_map(|violation| violation.evidence.clone())
            .collect::<Vec<_>>()
            .join("\n")
    };
    let edn = |process: i64, kind: &str, f: &str, rest: &str| {
        format!("{{:process {process}, :type :{kind}, :f :{f}, {rest}}}")
    };
    // A read that goes back behind an acknowledged write, among others that have no part in it.
    let register = [
        edn(0, "invoke", "write", ":value 2"),
        edn(0, "ok", "write", ":value 2"),
        edn(1, "invoke", "write", ":value 7"),
        edn(2, "invoke", "read", ":value nil"),
        edn(2, "ok", "read", ":value 2"),
        edn(1, "info", "write", ":value 7, :error :timeout"),
        edn(0, "invoke", "write", ":value 1"),
        edn(3, "invoke", "cas", ":value [2 5]"),
        edn(0, "ok", "write", ":value 1"),
        edn(3, "fail", "cas", ":value [2 5]"),
        edn(2, "invoke", "read", ":value nil"),
        edn(2, "ok", "read", ":value 2"),
    ];
    // A get that lacks what was appended, and two keys that are as they should be.
    let mut kv = Vec::new();
    for (process, key) in [(0, "a"), (1, "b"), (2, "c")] {
        for (kind, value) in [("invoke", "\"x\""), ("ok", "\"x\"")] {
            kv.push(edn(process, kind, "append", &format!(":key \"{key}\", :value {value}")));
        }
        let found = if key == "b" { "\"\"" } else { "\"x\"" };
        for (kind, value) in [("invoke", "nil"), ("ok", found)] {
            kv.push(edn(process, kind, "get", &format!(":key \"{key}\", :value {value}")));
        }
    }
    let lines = |lines: &[String]| told(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    insta::assert_snapshot!(format!("{}\n\n{}", lines(&register), lines(&kv)));
}

#[test]
fn nothing_told_is_no_opportunity() {
    let writes = object(vec![Access::Write(1), Access::Read(2)], vec![Span { invoked: 0, returned: u64::MAX }; 2]);
    let result = check("x", "X.", &[writes], 1000);
    assert_eq!((result.outcome, result.opportunities), (CheckOutcome::Vacuous, 0));
}

#[test]
fn a_long_history_without_end_takes_no_stack() {
    let count = 200_000;
    let accesses =
        (0..count).map(|at| if at % 2 == 0 { Access::Write(1 + at / 2 % 2) } else { Access::Read(1 + at / 2 % 2) });
    let spans =
        (0..u64::from(count)).map(|at| Span { invoked: at, returned: if at % 1000 == 0 { u64::MAX } else { at } });
    assert!(is_linearizable_quickly(register(accesses.collect()), spans.collect()));
}

fn is_linearizable_quickly(model: Register, spans: Vec<Span>) -> bool {
    matches!(search(&model, &spans, &mut budget()), Answer::Linearizable(_))
}
