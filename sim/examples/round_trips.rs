//! What a round trip costs: 30 connections between 6 hosts, 100-byte calls. Run with `--release`; one figure per line.

use broker_env::Connection;
use bytes::{Bytes, BytesMut};
use sim::{Config, World};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

async fn load(world: World, calls: Arc<AtomicU64>) {
    for index in 0..6_u64 {
        let calls = Arc::clone(&calls);
        let host = world.add_node(
            &format!("host-{index}"),
            Arc::new(move |env, _| {
                let calls = Arc::clone(&calls);
                Box::pin(async move {
                    let mut listener = env.network().listen("", 1).await.expect("free");
                    for peer in (0..6).filter(|peer| *peer != index) {
                        let (caller, calls) = (Arc::clone(&env), Arc::clone(&calls));
                        env.go("call", async move {
                            caller.sleep(Duration::from_millis(100)).await;
                            let connecting = caller.network().connect(&format!("host-{peer}"), 1);
                            let Ok(Connection { mut reader, mut writer, .. }) = connecting.await else { return };
                            let (word, mut heard) = (Bytes::from(vec![7; 100]), BytesMut::new());
                            loop {
                                writer.write(word.clone()).await.expect("open");
                                reader.read(&mut heard).await.expect("open");
                                heard.clear();
                                calls.fetch_add(1, Ordering::Relaxed);
                            }
                        });
                    }
                    while let Ok(Connection { mut reader, mut writer, .. }) = listener.accept().await {
                        env.go("serve", async move {
                            let mut heard = BytesMut::new();
                            let word = Bytes::from(vec![7; 100]);
                            while reader.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {
                                heard.clear();
                                writer.write(word.clone()).await.expect("open");
                            }
                        });
                    }
                })
            }),
        );
        world.start(host);
    }
    world.sleep(Duration::from_secs(60)).await;
}

#[expect(clippy::disallowed_methods, reason = "it measures the machine")]
fn main() {
    let calls = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let counted = Arc::clone(&calls);
    let outcome = sim::run(1, Config::default(), move |world| load(world, counted));
    let (took, calls) = (start.elapsed(), calls.load(Ordering::Relaxed));
    println!("round trips            {calls}");
    println!("ns per round trip      {}", took.as_nanos() as u64 / calls.max(1));
    println!("polls per round trip   {}.{:02}", outcome.polls / calls, outcome.polls * 100 / calls % 100);

    let start = Instant::now();
    for seed in 0..1000 {
        sim::run(seed, Config::default(), |world| async move { world.sleep(Duration::from_secs(1)).await });
    }
    println!("us per empty world     {}", start.elapsed().as_micros() / 1000);
}
