//! Histories as text.

use super::reference::{run, steps};
use crate::history::*;
use crate::{judge, read_history, read_recording, write_history, write_recording};
use proptest::prelude::*;

const OK: &str = r#"{"id":1,"session":1,"invoked":5,"returned":9,"outcome":"ok","kind":{"tail-read":{"partition":{"topic":7,"partition":0},"end":3,"broker":1,"leader_epoch":null}}}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_recording_reads_back_what_was_written(steps in steps(0..60)) {
        let (history, ctx) = run(&steps);
        let (context, read) = read_recording(&write_recording(&ctx, &history)).expect("it was just written");
        prop_assert_eq!(&read, &history);
        prop_assert_eq!(context, Some(ctx.clone()));
        prop_assert_eq!(judge(&read, &ctx), judge(&history, &ctx));
        prop_assert_eq!(read_history(&write_history(&history)).expect("it was just written"), history);
    }

    #[test]
    fn any_text_is_read_or_refused_with_its_line(text in "[ -~\n]{0,200}", at in 0usize..200) {
        if let Err(error) = read_history(&text) {
            prop_assert!(error.starts_with("line "), "{}", error);
        }
        let mut broken = OK.to_owned();
        broken.truncate(at.min(OK.len()));
        let _ = read_history(&broken);
    }
}

#[test]
fn a_wrong_line_is_refused_by_its_number() {
    let refused = |text: &str| read_history(text).expect_err("it is wrong");
    assert_eq!(read_history(OK).expect("one operation").ops.len(), 1);
    assert!(
        refused(&format!("{OK}\n\n{{}}")).starts_with("line 3: missing field"),
        "{}",
        refused(&format!("{OK}\n\n{{}}"))
    );
    assert_eq!(refused(&format!("{OK}\n{OK}")), "line 2: operation 1 was told before");
    assert_eq!(
        refused(&OK.replace("\"returned\":9", "\"returned\":4")),
        "line 1: operation 1 returned before it was invoked"
    );
    assert_eq!(refused(&OK.replace("\"end\":3", "\"end\":-3")), "line 1: operation 1: end -3 is no offset");
    let late =
        OK.replace("\"id\":1", "\"id\":2").replace("\"invoked\":5,\"returned\":9", "\"invoked\":1,\"returned\":4");
    assert_eq!(
        refused(&format!("{OK}\n{late}")),
        "line 2: operation 2 of session 1 is out of order with 1: it stands after it, and was over before that began"
    );
    let other = late.replace("\"session\":1", "\"session\":2");
    assert_eq!(read_history(&format!("{OK}\n{other}")).expect("sessions go their own way").ops[0].id, OpId(1));
    let huge = OK.replace("\"end\":3", "\"end\":9223372036854775807");
    assert!(refused(&huge).ends_with("is no offset"));
}

#[test]
fn a_value_that_was_sent_twice_is_refused() {
    let send = |id: u32| {
        format!(
            r#"{{"id":{id},"session":1,"invoked":5,"returned":null,"outcome":"unknown","kind":{{"send":{{"partition":{{"topic":7,"partition":0}},"value":4,"digest":1,"acks":"all","idempotent":true,"offset":null,"error":"TIMEOUT"}}}}}}"#
        )
    };
    assert!(matches!(read_history(&send(1)).expect("one operation").ops[0].kind, OpKind::Send(_)));
    let error = read_history(&format!("{}\n{}", send(1), send(2))).expect_err("values must be unique");
    assert_eq!(error, "line 2: value 4 was sent before: values must be unique");
}
