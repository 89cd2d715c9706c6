//! Tasks and entropy.

use super::harness::Stage;
use rand_core::Rng;
use tokio::sync::oneshot;

pub async fn a_spawned_task_runs(stage: Stage) {
    let (tell, told) = oneshot::channel();
    stage.client.env.go("teller", async move { tell.send(42).unwrap() });
    assert_eq!(told.await, Ok(42));
}

pub async fn a_task_may_spawn_another(stage: Stage) {
    let (tell, told) = oneshot::channel();
    let env = stage.client.env.clone();
    stage.client.env.go("parent", async move {
        env.go("child", async move { tell.send(()).unwrap() });
    });
    assert_eq!(told.await, Ok(()));
}

pub async fn streams_of_entropy_differ_by_name_and_by_turn(stage: Stage) {
    let env = &stage.client.env;
    let draws = ["raft", "client", "raft"].map(|name| env.entropy(name).next_u64());
    assert_ne!(draws[0], draws[1]);
    assert_ne!(draws[0], draws[2], "the same name goes on with a fresh sequence");
}
