//! The connection loop: the first byte chooses the listener, the rest is what a client sends to a real node in a
//! simulated world. Whatever it is, the node serves the next one.

#![no_main]

#[allow(dead_code)]
#[path = "../../scenarios/tests/hostile/town.rs"]
mod town;

use broker_wire::Request;
use broker_wire::messages::ApiVersionsRequest;
use std::time::Duration;
use town::{BROKER, CONTROLLER, Heard, Raw, in_a_town};

fn converse(bytes: &[u8]) {
    let [choice, sent @ ..] = bytes else { return };
    let (to, sent) = (if choice & 1 == 0 { BROKER } else { CONTROLLER }, sent.to_vec());
    in_a_town(1, "", move |town| async move {
        let served = town.on(town.somebody(), move |env| async move {
            let mut hostile = Raw::open(&env, to).await.expect("the node takes connections");
            hostile.send(sent).await;
            while let Heard::Frame(_) = hostile.frame(Duration::from_millis(200)).await {}
            let mut honest = Raw::open(&env, to).await.expect("the node takes connections");
            honest.ask(0, &Request::ApiVersions(ApiVersionsRequest::default()), Duration::from_secs(10)).await
        });
        assert!(served.await.is_some());
    });
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| converse(bytes));
