//! What a world does to those who live in it.

use broker_env::{Connection, SharedEnv, Task};
use bytes::{Bytes, BytesMut};
use sim::{
    Config, DurationRange, HostId, LinkConfig, NetworkConfig, NetworkFault, ProcessState, RunEnd, SimTime, World,
};
use std::future::Future;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PORT: u16 = 9000;

fn boot<F, B>(body: B) -> sim::Boot
where
    F: Future<Output = ()> + Send + 'static,
    B: Fn(SharedEnv) -> F + Send + Sync + 'static,
{
    Arc::new(move |env, _| Box::pin(body(env)) as Task)
}

fn idle() -> sim::Boot {
    boot(|_| std::future::pending())
}

/// Accepts connections and sends back whatever it hears.
fn echo() -> sim::Boot {
    boot(|env| async move {
        let mut listener = env.network().listen("0.0.0.0", PORT).await.unwrap();
        loop {
            let Ok(connection) = listener.accept().await else { return };
            env.go("echo", async move {
                let Connection { mut reader, mut writer, .. } = connection;
                let mut heard = BytesMut::new();
                while let Ok(1..) = reader.read(&mut heard).await {
                    if writer.write(heard.split().freeze()).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}

/// A link of exactly one millisecond.
fn exact() -> Config {
    let link =
        LinkConfig { latency: DurationRange::fixed(Duration::from_millis(1)), bytes_per_second: None, loss_ppm: 0 };
    Config { network: NetworkConfig { link, ..NetworkConfig::default() }, ..Config::default() }
}

/// An echo server and an idle client host, both up.
fn pair(world: &World) -> (HostId, HostId, SharedEnv) {
    let server = world.add_node("server", echo());
    let client = world.add_node("client", idle());
    world.start(server);
    world.start(client);
    (server, client, world.env(client).unwrap())
}

async fn say(connection: &mut Connection, text: &'static str) -> Result<String, ErrorKind> {
    connection.writer.write(Bytes::from_static(text.as_bytes())).await.map_err(|error| error.kind())?;
    let mut heard = BytesMut::new();
    while heard.len() < text.len() {
        if connection.reader.read(&mut heard).await.map_err(|error| error.kind())? == 0 {
            return Err(ErrorKind::UnexpectedEof);
        }
    }
    Ok(String::from_utf8_lossy(&heard).into_owned())
}

fn assert_about(actual: Duration, expected: Duration) {
    let slack = Duration::from_micros(50);
    assert!(actual >= expected && actual <= expected + slack, "took {actual:?}, expected {expected:?}");
}

#[test]
fn a_round_trip_takes_two_latencies_and_a_connect_one_more_round_trip() {
    sim::run(1, exact(), |world| async move {
        let (_, _, env) = pair(&world);
        world.sleep(Duration::from_millis(10)).await;
        let start = world.now();
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        assert_about(world.now() - start, Duration::from_millis(2));
        assert_eq!(say(&mut connection, "hello").await.unwrap(), "hello");
        assert_about(world.now() - start, Duration::from_millis(4));
        assert_eq!(connection.peer.ip(), world.ip(world.find("server").unwrap()));
    })
    .expect_clean();
}

#[test]
fn nobody_listening_refuses_and_nobody_there_is_not_found() {
    sim::run(1, exact(), |world| async move {
        let (_, _, env) = pair(&world);
        let start = world.now();
        let refused = env.network().connect("server", 1).await.err().unwrap().kind();
        assert_eq!(refused, ErrorKind::ConnectionRefused);
        assert_about(world.now() - start, Duration::from_millis(2));
        assert_eq!(env.network().connect("nowhere", 1).await.err().unwrap().kind(), ErrorKind::NotFound);
    })
    .expect_clean();
}

#[test]
fn a_connect_into_a_partition_times_out_at_exactly_the_configured_time() {
    for one_way in [false, true] {
        sim::run(1, exact(), move |world| async move {
            let (server, client, env) = pair(&world);
            let fault = if one_way {
                NetworkFault::OneWay { from: vec![server], to: vec![client] }
            } else {
                NetworkFault::Partition { groups: vec![vec![server], vec![client]] }
            };
            let fault = world.install(fault);
            let start = world.now();
            let error = env.network().connect("server", PORT).await.err().unwrap();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_about(world.now() - start, Duration::from_secs(5));
            let effects = world.fault_effects(fault);
            assert_eq!(effects["connects-timed-out"], 1, "{effects:?}");
        })
        .expect_clean();
    }
}

#[test]
fn a_connect_into_a_short_partition_is_late() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        let fault = world.install(NetworkFault::Partition { groups: vec![vec![server], vec![client]] });
        let start = world.now();
        let connecting = env.network().connect("server", PORT);
        world.sleep(Duration::from_secs(2)).await;
        world.remove(fault);
        connecting.await.unwrap();
        assert_about(world.now() - start, Duration::from_millis(3_002));
    })
    .expect_clean();
}

#[test]
fn what_is_sent_into_a_partition_arrives_after_it() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let fault = world.install(NetworkFault::Partition { groups: vec![vec![server], vec![client]] });
        let start = world.now();
        env.go("heal", {
            let world = world.clone();
            async move {
                world.sleep(Duration::from_secs(3)).await;
                world.remove(fault);
            }
        });
        assert_eq!(say(&mut connection, "late").await.unwrap(), "late");
        // Sent again after 0.2, 0.6, 1.4, 3.0 and 6.2 seconds; at 3.0 the way was just about to open.
        let took = world.now() - start;
        assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(6_210), "{took:?}");
        assert_eq!(world.fault_effects(fault)["bytes-blocked"], 4);
    })
    .expect_clean();
}

#[test]
fn what_was_on_its_way_when_the_partition_began_waits_too() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        connection.writer.write(Bytes::from_static(b"hurry")).await.unwrap();
        world.sleep(Duration::from_micros(500)).await;
        let fault = world.install(NetworkFault::OneWay { from: vec![client], to: vec![server] });
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.fault_effects(fault)["bytes-blocked"], 5);
        world.remove(fault);
        let mut heard = BytesMut::new();
        connection.reader.read(&mut heard).await.unwrap();
        assert_eq!(heard, "hurry");
    })
    .expect_clean();
}

#[test]
fn a_long_partition_breaks_both_ends_of_a_connection() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let fault = world.install(NetworkFault::Partition { groups: vec![vec![server], vec![client]] });
        let start = world.now();
        assert_eq!(say(&mut connection, "lost").await, Err(ErrorKind::TimedOut));
        assert_about(world.now() - start, Duration::from_secs(20));
        assert_eq!(world.fault_effects(fault)["connections-timed-out"], 1);
        assert_eq!(say(&mut connection, "again").await, Err(ErrorKind::TimedOut));
    })
    .expect_clean();
}

#[test]
fn an_idle_reader_learns_of_a_long_partition_by_keepalive() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        world.install(NetworkFault::Partition { groups: vec![vec![server], vec![client]] });
        let start = world.now();
        let error = connection.reader.read(&mut BytesMut::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_about(world.now() - start, Duration::from_secs(30));
    })
    .expect_clean();
}

#[test]
fn a_killed_process_resets_its_connections() {
    sim::run(1, exact(), |world| async move {
        let (server, _, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let start = world.now();
        assert!(world.crash(server));
        let error = connection.reader.read(&mut BytesMut::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_about(world.now() - start, Duration::from_millis(1));
        let refused = env.network().connect("server", PORT).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        world.restart(server);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        assert_eq!(say(&mut connection, "back").await.unwrap(), "back");
    })
    .expect_clean();
}

#[test]
fn a_host_without_power_is_silent_until_it_is_back_and_resets_then() {
    sim::run(1, exact(), |world| async move {
        let (server, _, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let start = world.now();
        assert!(world.power_loss(server));
        env.go("power on", {
            let world = world.clone();
            async move {
                world.sleep(Duration::from_secs(3)).await;
                world.start(server);
            }
        });
        assert_eq!(say(&mut connection, "anybody?").await, Err(ErrorKind::ConnectionReset));
        let took = world.now() - start;
        assert!(took > Duration::from_secs(3) && took < Duration::from_millis(6_300), "{took:?}");
    })
    .expect_clean();
}

#[test]
fn a_host_that_stays_without_power_is_given_up() {
    sim::run(1, exact(), |world| async move {
        let (server, _, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        world.power_loss(server);
        let start = world.now();
        assert_eq!(say(&mut connection, "anybody?").await, Err(ErrorKind::TimedOut));
        assert_about(world.now() - start, Duration::from_secs(20));
        let start = world.now();
        assert_eq!(env.network().connect("server", PORT).await.err().unwrap().kind(), ErrorKind::TimedOut);
        assert_about(world.now() - start, Duration::from_secs(5));
    })
    .expect_clean();
}

#[test]
fn a_writer_stalls_while_its_reader_does_not_read() {
    sim::run(1, exact(), |world| async move {
        let server = world.add_node(
            "server",
            boot(|env| async move {
                let mut listener = env.network().listen("server", PORT).await.unwrap();
                let mut connection = listener.accept().await.unwrap();
                env.sleep(Duration::from_secs(10)).await;
                let mut heard = BytesMut::new();
                while connection.reader.read(&mut heard).await.unwrap() > 0 {}
                assert_eq!(heard.len(), 1_000_000);
            }),
        );
        let client = world.add_node("client", idle());
        world.start(server);
        world.start(client);
        world.sleep(Duration::from_millis(1)).await;
        let env = world.env(client).unwrap();
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let start = world.now();
        connection.writer.write(Bytes::from(vec![1; 256 * 1024])).await.unwrap();
        assert_eq!(world.now(), start, "the send buffer takes as much");
        connection.writer.write(Bytes::from(vec![1; 1_000_000 - 256 * 1024])).await.unwrap();
        let took = world.now() - start;
        assert!(took > Duration::from_millis(9_900) && took < Duration::from_millis(10_100), "{took:?}");
        connection.writer.shutdown().await.unwrap();
        assert!(world.wait_for(SimTime::from_secs(20), Duration::from_millis(10), || !world.is_up(server)).await);
        assert_eq!(world.state(server), ProcessState::Exited);
    })
    .expect_clean();
}

#[test]
fn a_flaky_link_resets_connections_and_a_healed_one_does_not() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let every = DurationRange::fixed(Duration::from_secs(1));
        let fault = world.install(NetworkFault::Flaky { a: vec![server], b: vec![client], every });
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let error = connection.reader.read(&mut BytesMut::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(world.fault_effects(fault)["resets"], 1);
        world.remove(fault);
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(say(&mut connection, "well").await.unwrap(), "well");
        assert_eq!(world.fault_effects(fault)["resets"], 1);
    })
    .expect_clean();
}

#[test]
fn slow_throttled_and_lossy_links_take_longer_and_count_it() {
    sim::run(1, exact(), |world| async move {
        let (server, client, env) = pair(&world);
        let (a, b) = (vec![server], vec![client]);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();

        let latency = DurationRange::fixed(Duration::from_millis(100));
        let slow = world.install(NetworkFault::Slow { a: a.clone(), b: b.clone(), latency });
        let start = world.now();
        say(&mut connection, "slow").await.unwrap();
        assert_about(world.now() - start, Duration::from_millis(202));
        world.remove(slow);
        assert_eq!(world.fault_effects(slow)["bytes-delayed"], 8);

        let narrow = world.install(NetworkFault::Throttle { a: a.clone(), b: b.clone(), bytes_per_second: 10 });
        let start = world.now();
        say(&mut connection, "narrow").await.unwrap();
        assert_about(world.now() - start, Duration::from_millis(1_202));
        world.remove(narrow);

        let lossy = world.install(NetworkFault::Lossy { a, b, loss_ppm: 1_000_000 });
        let start = world.now();
        say(&mut connection, "lossy").await.unwrap();
        assert!(world.now() - start > Duration::from_millis(400));
        assert!(world.fault_effects(lossy)["packets-lost"] >= 2);
    })
    .expect_clean();
}

#[test]
fn a_panic_crashes_its_process_and_nobody_else() {
    let outcome = sim::run(1, exact(), |world| async move {
        let (server, client, _) = pair(&world);
        let bad = world.add_node(
            "bad",
            boot(|env| async move {
                env.sleep(Duration::from_secs(1)).await;
                env.go("worse", async { panic!("out of luck") });
                std::future::pending::<()>().await;
            }),
        );
        world.start(bad);
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(world.state(bad), ProcessState::Panicked);
        assert!(world.is_up(server) && world.is_up(client));
        world.start(bad);
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(world.incarnation(bad), Some(sim::Incarnation(2)));
    });
    let told: Vec<_> = outcome.panics.iter().map(|p| (p.name.as_str(), p.message.as_str(), p.incarnation.0)).collect();
    assert_eq!(told, [("bad", "out of luck", 1), ("bad", "out of luck", 2)]);
    assert!(outcome.panics[0].location.contains("world.rs"));
    assert_eq!(outcome.end, RunEnd::Finished(()));
}

#[test]
fn a_drivers_panic_a_time_limit_a_poll_limit_and_a_standstill_end_the_run() {
    let outcome = sim::run(1, exact(), |_| async {
        if true {
            panic!("enough")
        }
    });
    assert!(matches!(outcome.end, RunEnd::DriverPanicked { message, .. } if message == "enough"));

    let config = Config { time_limit: Some(Duration::from_secs(60)), ..exact() };
    let outcome = sim::run(1, config.clone(), |world| async move {
        world.sleep(Duration::from_secs(61)).await;
    });
    assert_eq!(outcome.end, RunEnd::TimeLimit);

    let outcome = sim::run(1, exact(), |world| async move {
        let host = world.add_node("host", idle());
        world.start(host);
        std::future::pending::<()>().await;
    });
    assert_eq!(outcome.end, RunEnd::Stuck);
    assert!(outcome.simulated < SimTime::from_secs(1), "stuck from the beginning, not at the end of time");

    let outcome = sim::run(1, Config { poll_limit: Some(10_000), ..exact() }, |world| async move {
        let host = world.add_node(
            "host",
            boot(|_| async {
                std::future::poll_fn::<(), _>(|cx| {
                    cx.waker().wake_by_ref();
                    std::task::Poll::Pending
                })
                .await;
            }),
        );
        world.start(host);
        world.sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(outcome.end, RunEnd::PollLimit);
}

#[test]
fn a_paused_process_is_late_and_loses_nothing() {
    sim::run(1, exact(), |world| async move {
        let (server, _, env) = pair(&world);
        world.sleep(Duration::from_millis(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        let start = world.now();
        assert!(world.pause(server));
        assert!(!world.pause(server) && world.is_up(server));
        env.go("resume", {
            let world = world.clone();
            async move {
                world.sleep(Duration::from_secs(7)).await;
                assert!(world.resume(server));
            }
        });
        assert_eq!(say(&mut connection, "wake up").await.unwrap(), "wake up");
        assert_about(world.now() - start, Duration::from_millis(7_001));
    })
    .expect_clean();
}

#[test]
fn a_paused_process_can_be_killed_and_started_again() {
    sim::run(1, exact(), |world| async move {
        let (server, _, env) = pair(&world);
        world.sleep(Duration::from_secs(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        world.pause(server);
        connection.writer.write(Bytes::from_static(b"x")).await.unwrap();
        world.sleep(Duration::from_secs(1)).await;
        world.crash(server);
        world.start(server);
        world.sleep(Duration::from_secs(1)).await;
        let mut connection = env.network().connect("server", PORT).await.unwrap();
        assert_eq!(say(&mut connection, "new").await.unwrap(), "new");
    })
    .expect_clean();
}

#[test]
fn what_a_dying_process_does_on_its_way_out_reaches_nobody() {
    struct LastWords(SharedEnv);
    impl Drop for LastWords {
        fn drop(&mut self) {
            let opened = self.0.disk().open("/last".as_ref(), broker_env::OpenMode::Create).now();
            let Ok(Ok(file)) = opened else { return };
            let _ = file.append(vec![Bytes::from_static(b"clean shutdown")]).now();
        }
    }
    sim::run(1, exact(), |world| async move {
        let host = world.add_node(
            "host",
            boot(|env| async move {
                let _words = LastWords(env);
                std::future::pending::<()>().await;
            }),
        );
        world.start(host);
        world.sleep(Duration::from_secs(1)).await;
        world.crash(host);
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(world.disk_snapshot(host).files().count(), 0);
    })
    .expect_clean();
}

/// A busy little world with a fault of every kind, for comparing runs.
async fn busy(world: World) -> u64 {
    let (server, client, env) = pair(&world);
    let done = Arc::new(Mutex::new(0_u64));
    for name in ["a", "b", "c"] {
        let (env, done, recorder) = (Arc::clone(&env), Arc::clone(&done), world.clone());
        env.clone().go("talk", async move {
            let mut rng = env.entropy(name);
            loop {
                env.sleep(DurationRange::millis(1, 50).draw(&mut rng)).await;
                let connecting = env.network().connect("server", PORT);
                let deadline = env.mono() + Duration::from_secs(3);
                let Some(Ok(mut connection)) = env.until(deadline, connecting).await else { continue };
                for _ in 0..20 {
                    let deadline = env.mono() + Duration::from_secs(1);
                    match env.until(deadline, say(&mut connection, "ping")).await {
                        Some(Ok(_)) => *done.lock().unwrap() += 1,
                        _ => break,
                    }
                    recorder.record(client, 300, name.as_bytes());
                }
            }
        });
    }
    let (a, b) = (vec![server], vec![client]);
    for round in 0..5 {
        world.sleep(Duration::from_secs(2)).await;
        let fault = match round {
            0 => NetworkFault::Lossy { a: a.clone(), b: b.clone(), loss_ppm: 200_000 },
            1 => NetworkFault::Partition { groups: vec![a.clone(), b.clone()] },
            2 => NetworkFault::Flaky { a: a.clone(), b: b.clone(), every: DurationRange::millis(10, 100) },
            _ => NetworkFault::Throttle { a: a.clone(), b: b.clone(), bytes_per_second: 1000 },
        };
        let fault = world.install(fault);
        world.sleep(Duration::from_secs(1)).await;
        world.remove(fault);
        if round == 3 {
            world.power_loss(server);
        } else {
            world.crash(server);
        }
        world.sleep(Duration::from_millis(300)).await;
        world.start(server);
    }
    let done = *done.lock().unwrap();
    assert!(done > 100, "only {done} calls");
    done
}

#[test]
fn the_same_seed_is_the_same_run_and_another_seed_another() {
    let [first, second, other] = [5, 5, 6].map(|seed| sim::run(seed, Config::default(), busy));
    assert_eq!(sim::determinism::compare(&first.trace, &second.trace), None);
    assert_eq!((first.polls, first.simulated), (second.polls, second.simulated));
    assert!(sim::determinism::compare(&first.trace, &other.trace).is_some());
    assert_eq!(first.expect_clean(), second.expect_clean());
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine")]
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS: 0 kB").to_owned();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[test]
fn runs_leave_nothing_behind() {
    struct Tracer(Arc<()>);
    let alive = Arc::new(());
    let one = |seed: u64| {
        let tracer = Arc::clone(&alive);
        let config = Config { time_limit: Some(Duration::from_secs(12)), ..Config::default() };
        let outcome = sim::run(seed, config, move |world| async move {
            let held = Tracer(tracer);
            let world_too = world.clone();
            let host = world.add_node(
                "holder",
                Arc::new(move |env, _| {
                    let held = (Tracer(Arc::clone(&held.0)), env, world_too.clone());
                    Box::pin(async move {
                        std::future::pending::<()>().await;
                        drop(held);
                    })
                }),
            );
            world.start(host);
            busy(world).await
        });
        assert_eq!(outcome.panics, []);
    };
    (0..50).for_each(one);
    assert_eq!(Arc::strong_count(&alive), 1, "a run still holds what its processes held");
    let before = resident_kib();
    (50..200).for_each(one);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 30_000, "150 runs have left {grown} KiB");
}
