//! A host's disk, its faults, and what a power loss leaves.

use broker_env::{File, OpenMode, SharedEnv};
use bytes::Bytes;
use sim::{Config, DiskConfig, DiskFault, DurationRange, Fault, HostId, SimTime, World};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn host(world: &World) -> (HostId, SharedEnv) {
    let host = world.add_node("host", Arc::new(|_, _| Box::pin(std::future::pending())));
    world.start(host);
    (host, world.env(host).unwrap())
}

async fn create(env: &SharedEnv, path: &str) -> Arc<dyn File> {
    env.disk().open(Path::new(path), OpenMode::Create).await.unwrap()
}

/// Power off and on again.
fn cycle(world: &World, host: HostId) -> SharedEnv {
    assert!(world.power_loss(host));
    world.start(host);
    world.env(host).unwrap()
}

fn some(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

#[test]
fn a_synced_file_in_a_synced_directory_survives_every_power_loss() {
    for seed in 0..50 {
        sim::run(seed, Config::default(), |world| async move {
            let (host, env) = host(&world);
            env.disk().create_dir_all(Path::new("/data/log")).await.unwrap();
            for dir in ["/", "/data", "/data/log"] {
                env.disk().sync_dir(Path::new(dir)).await.unwrap();
            }
            let file = create(&env, "/data/log/a").await;
            file.append(some("synced")).await.unwrap();
            file.sync_data().await.unwrap();
            env.disk().sync_dir(Path::new("/data/log")).await.unwrap();
            file.append(some(" and not")).await.unwrap();
            let _env = cycle(&world, host);
            let left = world.disk_snapshot(host).read("/data/log/a").unwrap();
            assert!(left.starts_with(b"synced"), "{left:?}");
            assert!(left.len() <= 14);
        })
        .expect_clean();
    }
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_with_its_file() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..60 {
        outcomes.insert(
            sim::run(seed, Config::default(), |world| async move {
                let (host, env) = host(&world);
                let old = create(&env, "/state").await;
                old.append(some("old")).await.unwrap();
                old.sync_data().await.unwrap();
                env.disk().sync_dir(Path::new("/")).await.unwrap();
                let new = create(&env, "/state.tmp").await;
                new.append(some("new")).await.unwrap();
                new.sync_data().await.unwrap();
                env.disk().rename(Path::new("/state.tmp"), Path::new("/state")).await.unwrap();
                let _env = cycle(&world, host);
                let left = world.disk_snapshot(host);
                let names: Vec<String> = left.files().map(|(path, _)| path.to_owned()).collect();
                format!("{names:?} {:?}", left.read("/state").unwrap())
            })
            .expect_clean(),
        );
    }
    let expected = [r#"["/state", "/state.tmp"] b"old""#, r#"["/state"] b"new""#, r#"["/state"] b"old""#];
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn a_killed_process_leaves_the_page_cache_alone() {
    sim::run(1, Config::default(), |world| async move {
        let (host, env) = host(&world);
        let file = create(&env, "/a").await;
        file.append(some("not synced")).await.unwrap();
        world.restart(host);
        assert_eq!(file.append(some("from the grave")).await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        let env = world.env(host).unwrap();
        assert_eq!(create(&env, "/a").await.read_at(0, 99).await.unwrap(), "not synced");
        world.wipe_disk(host);
        assert_eq!(world.disk_snapshot(host).files().count(), 0);
    })
    .expect_clean();
}

#[test]
fn a_sync_covers_what_was_written_when_it_was_called_and_holds_when_it_returns() {
    let config = Config {
        disk: DiskConfig {
            sync_latency: DurationRange::fixed(Duration::from_millis(10)),
            bytes_per_second: None,
            ..DiskConfig::default()
        },
        ..Config::default()
    };
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..60 {
        lengths.insert(
            sim::run(seed, config.clone(), |world| async move {
                let (host, env) = host(&world);
                let file = create(&env, "/a").await;
                env.disk().sync_dir(Path::new("/")).await.unwrap();
                file.append(some("before")).await.unwrap();
                let start = world.now();
                let syncing = file.sync_data();
                file.append(some(" after")).await.unwrap();
                syncing.await.unwrap();
                assert!(world.now() - start >= Duration::from_millis(10));
                // This one does not return before the power goes, and promises nothing.
                let _promise = file.sync_data();
                world.sleep(Duration::from_millis(5)).await;
                let _env = cycle(&world, host);
                world.disk_snapshot(host).read("/a").unwrap().len()
            })
            .expect_clean(),
        );
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [6, 12]);
}

#[test]
fn a_full_disk_refuses_and_keeps_what_it_has() {
    let config = Config { disk: DiskConfig { capacity: 10, ..DiskConfig::default() }, ..Config::default() };
    sim::run(1, config, |world| async move {
        let (host, env) = host(&world);
        let file = create(&env, "/a").await;
        file.append(some("12345678")).await.unwrap();
        assert_eq!(env.disk().free_space(Path::new("/")).await.unwrap(), 2);
        assert_eq!(file.append(some("abcd")).await.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(file.read_at(0, 99).await.unwrap(), "12345678ab", "it holds the part that fitted");
        file.truncate(4).await.unwrap();
        let full = world.install(Fault::Disk(host, DiskFault::Full));
        assert_eq!(file.append(some("x")).await.unwrap_err().kind(), ErrorKind::StorageFull);
        let opened = env.disk().open(Path::new("/b"), OpenMode::Create).await.err().unwrap();
        assert_eq!(opened.kind(), ErrorKind::StorageFull);
        world.remove(full);
        file.append(some("x")).await.unwrap();
        assert_eq!(world.fault_effects(full), [("operations-failed", 2)].into());
    })
    .expect_clean();
}

#[test]
fn slow_and_stalled_disks_delay_every_answer() {
    sim::run(1, Config::default(), |world| async move {
        let (host, env) = host(&world);
        let file = create(&env, "/a").await;
        let latency = DurationRange::fixed(Duration::from_millis(50));
        let slow = world.install(Fault::Disk(host, DiskFault::Slow { latency }));
        let start = world.now();
        file.append(some("x")).await.unwrap();
        assert!(world.now() - start >= Duration::from_millis(50));
        world.remove(slow);
        assert!(file.append(some("y")).now().is_ok(), "and is ready at once again");
        assert_eq!(world.fault_effects(slow), [("operations-delayed", 1)].into());

        let stall = world.install(Fault::Disk(host, DiskFault::Stall));
        let (reading, syncing) = (file.read_at(0, 9), file.sync_data());
        let healer = world.clone();
        env.go("heal", async move {
            healer.sleep_until(SimTime::from_secs(5)).await;
            healer.remove(stall);
        });
        assert_eq!(reading.await.unwrap(), "xy");
        syncing.await.unwrap();
        assert!(world.now() >= SimTime::from_secs(5));
        assert_eq!(world.fault_effects(stall), [("operations-delayed", 2)].into());
    })
    .expect_clean();
}

#[test]
fn errors_are_drawn_and_counted() {
    sim::run(1, Config::default(), |world| async move {
        let (host, env) = host(&world);
        let file = create(&env, "/a").await;
        file.append(some("0123456789")).await.unwrap();
        for fault in [
            DiskFault::ReadError { ppm: 300_000 },
            DiskFault::WriteError { ppm: 300_000 },
            DiskFault::SyncError { ppm: 300_000 },
        ] {
            let id = world.install(Fault::Disk(host, fault));
            let mut failed = 0;
            for _ in 0..100 {
                failed += u64::from(file.read_at(0, 5).await.is_err());
                failed += u64::from(file.append(some("abc")).await.is_err());
                failed += u64::from(file.sync_data().await.is_err());
            }
            world.remove(id);
            assert!(failed > 10 && failed < 60, "{failed}");
            assert_eq!(world.fault_effects(id)["operations-failed"], failed);
        }
    })
    .expect_clean();
}

#[test]
fn bits_rot_only_where_they_are_told_to() {
    sim::run(1, Config::default(), |world| async move {
        let (host, env) = host(&world);
        for path in ["/a.log", "/b.index"] {
            let file = create(&env, path).await;
            file.append(some("hello hello")).await.unwrap();
            file.sync_data().await.unwrap();
        }
        let rot = DiskFault::BitRot { path_contains: ".log".to_owned(), bits: 1 };
        let rot = world.install(Fault::Disk(host, rot));
        let left = world.disk_snapshot(host);
        let (log, index) = (left.read("/a.log").unwrap(), left.read("/b.index").unwrap());
        let flipped: u32 = log.iter().zip(b"hello hello").map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((flipped, &index[..]), (1, &b"hello hello"[..]));
        assert_eq!(world.fault_effects(rot), [("bits-flipped", 1)].into());
    })
    .expect_clean();
}

#[test]
fn removed_files_give_their_room_back() {
    let config = Config { disk: DiskConfig { capacity: 1000, ..DiskConfig::default() }, ..Config::default() };
    sim::run(1, config, |world| async move {
        let (_, env) = host(&world);
        for _ in 0..500 {
            let file = create(&env, "/a").await;
            file.append(vec![Bytes::from(vec![1; 900])]).await.unwrap();
            env.disk().remove_file(Path::new("/a")).await.unwrap();
        }
    })
    .expect_clean();
}
