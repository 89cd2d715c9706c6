//! Byte streams against a naive model: what arrives is what was sent, in order, whatever the network does.

use crate::{Config, DurationRange, LinkConfig, NetworkConfig, NetworkFault, NetworkTap, Sent, TapVerdict, World};
use broker_env::{Connection, SharedEnv};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Two hosts and a connection between them; what it accepts is put into the slot.
async fn connected(world: &World) -> (Connection, Connection, SharedEnv, SharedEnv) {
    let [a, b] = ["a", "b"].map(|name| {
        let host = world.add_node(name, Arc::new(|_, _| Box::pin(std::future::pending())));
        world.start(host);
        world.env(host).expect("just started")
    });
    let mut listener = b.network().listen("b", 1).await.expect("the port is free");
    let connecting = a.network().connect("b", 1);
    let theirs = listener.accept().await.expect("somebody connects");
    let ours = connecting.await.expect("somebody listens");
    (ours, theirs, a, b)
}

#[derive(Clone, Debug)]
struct Plan {
    seed: u64,
    loss_ppm: u32,
    narrow: bool,
    buffer: usize,
    writes: Vec<(Vec<usize>, u64)>,
    /// When the link is cut, and for how long, in milliseconds.
    cuts: Vec<(u64, u64)>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let write = (proptest::collection::vec(0_usize..9_000, 1..4), 0_u64..3_000);
    (
        any::<u64>(),
        prop_oneof![Just(0), Just(100_000)],
        any::<bool>(),
        prop_oneof![Just(1_000), Just(64_000)],
        proptest::collection::vec(write, 1..30),
        proptest::collection::vec((1_u64..200, 1_u64..8_000), 0..3),
    )
        .prop_map(|(seed, loss_ppm, narrow, buffer, writes, cuts)| Plan {
            seed,
            loss_ppm,
            narrow,
            buffer,
            writes,
            cuts,
        })
}

fn carry(plan: Plan) -> (Vec<u8>, Vec<u8>) {
    let link = LinkConfig {
        latency: DurationRange::micros(100, 5_000),
        bytes_per_second: plan.narrow.then_some(1_000_000),
        loss_ppm: plan.loss_ppm,
    };
    let network =
        NetworkConfig { link, send_buffer: plan.buffer, give_up: Duration::from_secs(300), ..NetworkConfig::default() };
    crate::run(plan.seed, Config { network, ..Config::default() }, move |world| async move {
        let (ours, mut theirs, a, _b) = connected(&world).await;
        let sent: Vec<u8> = {
            let total: usize = plan.writes.iter().flat_map(|(sizes, _)| sizes).sum();
            (0..total).map(|at| (at * 7 + at / 251) as u8).collect()
        };
        let mut rest = Bytes::from(sent.clone());
        let writes = plan.writes;
        let sender = Arc::clone(&a);
        a.go("send", async move {
            let Connection { mut writer, .. } = ours;
            for (sizes, pause) in writes {
                let mut buffers: VecDeque<Bytes> = sizes.into_iter().map(|size| rest.split_to(size)).collect();
                writer.write_all(&mut buffers).await.expect("nothing breaks the connection");
                sender.sleep(Duration::from_micros(pause)).await;
            }
        });
        let cutter = world.clone();
        let cuts = plan.cuts;
        a.go("cut", async move {
            for (at, length) in cuts {
                cutter.sleep(Duration::from_millis(at)).await;
                let groups = vec![vec![crate::HostId(0)], vec![crate::HostId(1)]];
                let cut = cutter.install(NetworkFault::Partition { groups });
                cutter.sleep(Duration::from_millis(length)).await;
                cutter.remove(cut);
            }
        });
        let mut heard = BytesMut::new();
        while theirs.reader.read(&mut heard).await.expect("nothing breaks the connection") > 0 {}
        (sent, heard.to_vec())
    })
    .expect_clean()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_arrives_is_what_was_sent_to_the_last_byte(plan in plan()) {
        let (sent, heard) = carry(plan);
        prop_assert_eq!(sent, heard);
    }

    #[test]
    fn nothing_arrives_through_a_partition(seed in any::<u64>(), length in 1_u64..15_000) {
        let arrived = crate::run(seed, Config::default(), move |world| async move {
            let (mut ours, mut theirs, a, b) = connected(&world).await;
            let groups = vec![vec![crate::HostId(0)], vec![crate::HostId(1)]];
            let heard_at = Arc::new(Mutex::new(None));
            let (hear, watch) = (Arc::clone(&heard_at), world.clone());
            b.go("hear", async move {
                if theirs.reader.read(&mut BytesMut::new()).await.is_ok_and(|bytes| bytes > 0) {
                    *hear.lock().expect("alive") = Some(watch.now());
                }
            });
            ours.writer.write(Bytes::from_static(b"x")).await.expect("open");
            let cut = world.install(NetworkFault::Partition { groups });
            world.sleep(Duration::from_millis(length)).await;
            let healed = world.now();
            let before = *heard_at.lock().expect("alive");
            world.remove(cut);
            world.sleep(Duration::from_secs(60)).await;
            drop((ours, a));
            let after = *heard_at.lock().expect("alive");
            (before, after, healed)
        }).expect_clean();
        prop_assert_eq!(arrived.0, None);
        prop_assert!(arrived.1.is_some_and(|at| at > arrived.2), "{arrived:?}");
    }
}

#[test]
fn a_write_moves_its_bytes_and_a_large_one_is_read_without_a_copy() {
    crate::run(1, Config::default(), |world| async move {
        let (mut ours, mut theirs, ..) = connected(&world).await;
        let bytes = Bytes::from(vec![1; 100_000]);
        let place = bytes.as_ptr() as usize;
        ours.writer.write(bytes).await.expect("open");
        let mut heard = BytesMut::new();
        theirs.reader.read(&mut heard).await.expect("open");
        assert_eq!(heard.as_ptr() as usize, place);
    })
    .expect_clean();
}

#[test]
fn bytes_sent_before_a_crash_can_still_be_read_and_then_comes_the_reset() {
    crate::run(1, Config::default(), |world| async move {
        let (mut ours, mut theirs, ..) = connected(&world).await;
        ours.writer.write(Bytes::from_static(b"last words")).await.expect("open");
        world.crash(crate::HostId(0));
        let mut heard = BytesMut::new();
        assert_eq!(theirs.reader.read(&mut heard).await.expect("they arrived"), 10);
        assert_eq!(theirs.reader.read(&mut heard).await.expect_err("and then").kind(), ErrorKind::ConnectionReset);
        let _ = ours.writer.write(Bytes::new()).await;
    })
    .expect_clean();
}

/// Answers the n-th write of the initiator with a verdict of its own.
struct Nth(u64, TapVerdict, Arc<Mutex<Vec<String>>>);

impl NetworkTap for Nth {
    fn on_send(&mut self, sent: &Sent<'_>) -> TapVerdict {
        let text: Vec<u8> = sent.bytes.concat();
        self.2.lock().expect("alive").push(format!("{}:{}", sent.offset, String::from_utf8_lossy(&text)));
        self.0 = self.0.wrapping_sub(1);
        if self.0 == 0 && sent.by_initiator && sent.port == 1 { self.1 } else { TapVerdict::Pass }
    }
}

#[test]
fn a_tap_sees_every_write_and_may_delay_swallow_or_reset_it() {
    for verdict in [TapVerdict::Delay(Duration::from_secs(2)), TapVerdict::Swallow, TapVerdict::Reset] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tap = Nth(2, verdict, Arc::clone(&seen));
        let heard = crate::run(1, Config::default(), move |world| async move {
            let (mut ours, mut theirs, a, _) = connected(&world).await;
            world.set_tap(Box::new(tap));
            for word in ["one", "two", "three"] {
                let written = ours.writer.write(Bytes::from_static(word.as_bytes())).await;
                if verdict != TapVerdict::Reset {
                    written.expect("open");
                }
                a.sleep(Duration::from_millis(100)).await;
            }
            world.sleep(Duration::from_secs(1)).await;
            let mut heard = BytesMut::new();
            let mut end = None;
            while end.is_none() && heard.len() < 11 {
                match a.until(a.mono() + Duration::from_secs(5), theirs.reader.read(&mut heard)).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => end = Some(error.kind()),
                    None => end = Some(ErrorKind::WouldBlock),
                }
            }
            (String::from_utf8_lossy(&heard).into_owned(), end, world.now().as_secs())
        })
        .expect_clean();
        let expected = match verdict {
            TapVerdict::Delay(_) => ("onetwothree".to_owned(), None, 2),
            TapVerdict::Swallow => ("onethree".to_owned(), Some(ErrorKind::WouldBlock), 6),
            _ => ("one".to_owned(), Some(ErrorKind::ConnectionReset), 1),
        };
        assert_eq!(heard, expected);
        assert_eq!(seen.lock().expect("alive")[..2], ["0:one", "3:two"]);
    }
}

/// Accepts and forgets, for ever.
fn listen_for_ever(env: &SharedEnv) {
    let open = Arc::clone(env);
    env.go("listen", async move {
        let mut listener = open.network().listen("b", 2).await.expect("the port is free");
        let mut accepted = Vec::new();
        while let Ok(connection) = listener.accept().await {
            accepted.push(connection);
        }
    });
}

#[test]
fn a_host_that_is_back_connects_at_once_though_its_old_connections_are_reset_only_later() {
    let connected_after = crate::run(1, Config::default(), |world| async move {
        let (ours, theirs, a, b) = connected(&world).await;
        listen_for_ever(&b);
        let (old, idle) = (a.network().connect("b", 2).await.expect("somebody listens"), (ours, theirs));
        world.sleep(Duration::from_secs(1)).await;
        let host = world.find("a").expect("it is there");
        world.power_loss(host);
        world.sleep(Duration::from_secs(3)).await;
        world.start(host);
        let a = world.env(host).expect("just started");
        let before = world.now();
        a.network().connect("b", 2).await.expect("somebody listens");
        drop((old, idle));
        world.now().since(before)
    })
    .expect_clean();
    assert!(connected_after < Duration::from_millis(100), "it took {connected_after:?}");
}

#[test]
fn what_is_sent_after_a_partition_does_not_wait_for_what_is_sent_again() {
    let connected_after = crate::run(2, Config::default(), |world| async move {
        let (mut ours, theirs, a, b) = connected(&world).await;
        listen_for_ever(&b);
        let [host_a, host_b] = ["a", "b"].map(|name| world.find(name).expect("it is there"));
        let cut = world.install(NetworkFault::Partition { groups: vec![vec![host_a], vec![host_b]] });
        ours.writer.write(Bytes::from_static(b"held back")).await.expect("there is room");
        // The next retransmission is many seconds away when the partition ends.
        world.sleep(Duration::from_secs(15)).await;
        world.remove(cut);
        let before = world.now();
        a.network().connect("b", 2).await.expect("somebody listens");
        drop((ours, theirs));
        world.now().since(before)
    })
    .expect_clean();
    assert!(connected_after < Duration::from_millis(100), "it took {connected_after:?}");
}
