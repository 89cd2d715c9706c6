//! The two worlds, set up alike.

use broker_env::{Disk, Env, TokioEnv};
use sim::{Config, World};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// One node.
pub struct Place {
    /// Its doors.
    pub env: Arc<dyn Env>,
    /// The name under which others reach it.
    pub host: String,
    /// What it listens on.
    pub bind: String,
    /// An empty directory of its own.
    pub dir: PathBuf,
}

impl Place {
    pub fn disk(&self) -> &dyn Disk {
        self.env.disk()
    }
}

/// Two nodes. The test itself runs on the client's.
pub struct Stage {
    pub client: Place,
    pub server: Place,
}

/// Runs `test` on tokio.
#[expect(clippy::disallowed_methods, reason = "the real world has real folders")]
pub fn in_the_real_world<F: Future<Output = ()>>(test: fn(Stage) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let dir = root.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let env = TokioEnv::new(runtime.handle().clone());
        Place { env, host: "127.0.0.1".into(), bind: "127.0.0.1".into(), dir }
    };
    let stage = Stage { client: place("client"), server: place("server") };
    runtime.block_on(test(stage));
    runtime.shutdown_background();
}

/// Seeds that each test is run with: other latencies, another order of tasks.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Runs `test` in a seeded world of two hosts.
pub fn in_a_simulated_world<F>(test: fn(Stage) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    for seed in SEEDS {
        let config = Config { time_limit: Some(Duration::from_secs(3600)), ..Config::default() };
        let outcome = sim::run(seed, config, move |world: World| async move {
            let idle = |name: &str| {
                let host = world.add_node(name, Arc::new(|_, _| Box::pin(std::future::pending())));
                world.start(host);
                host
            };
            let (client, server) = (idle("client"), idle("server"));
            let place = |host, name: &str| Place {
                env: world.env(host).expect("its process was started"),
                host: name.to_owned(),
                bind: "0.0.0.0".to_owned(),
                dir: PathBuf::from("/data"),
            };
            let stage = Stage { client: place(client, "client"), server: place(server, "server") };
            let (tell, told) = oneshot::channel();
            let task = async move {
                for place in [&stage.client, &stage.server] {
                    place.disk().create_dir_all(&place.dir).await.unwrap();
                }
                test(stage).await;
                let _ = tell.send(());
            };
            assert!(world.spawn_on(client, "test", Box::pin(task)));
            // A test that panics ends its process, and is found there.
            told.await.is_ok()
        });
        assert!(outcome.expect_clean(), "seed {seed}: the test ended early");
    }
}
