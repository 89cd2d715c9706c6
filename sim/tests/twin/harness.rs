//! The two worlds, set up alike.

use broker_env::{Disk, Env, TokioEnv};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

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

/// Runs `test` in a seeded world.
pub fn in_a_simulated_world<F: Future<Output = ()> + Send + 'static>(test: fn(Stage) -> F) {
    sim::run(7, sim::Config::default(), move |world| async move {
        let place = |name: &str| {
            let host = world.add_node(name, Arc::new(|_, _| Box::pin(std::future::pending())));
            world.start(host);
            let env = world.env(host).expect("it was just started");
            Place { env, host: name.into(), bind: name.into(), dir: PathBuf::from("/data") }
        };
        let stage = Stage { client: place("client"), server: place("server") };
        for place in [&stage.client, &stage.server] {
            place.disk().create_dir_all(&place.dir).await.expect("a new disk takes a directory");
        }
        test(stage).await;
    })
    .expect_clean();
}

/// Runs `test` on tokio.
pub fn in_the_real_world<F: Future<Output = ()>>(test: impl FnOnce(Stage) -> F) {
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
