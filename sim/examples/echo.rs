//! A world without any Kafka in it: an echo service, a client, and a partition between them.
//!
//! What runs on a host is any code written against `broker_env::Env`; to put another system into a world, write its
//! parts as below and start each on a host of its own. Run it with `cargo run -p sim --example echo -- SEED`: the same
//! seed prints the same lines and the same fingerprint, on every machine.

use broker_env::{Connection, SharedEnv};
use bytes::BytesMut;
use sim::{Config, NetworkFault, World, trace::kind};
use std::sync::Arc;
use std::time::Duration;

/// Our own kinds of events in the trace. The world's own come before `FIRST_FREE`.
const ANSWERED: u16 = kind::FIRST_FREE;
const FAILED: u16 = kind::FIRST_FREE + 1;

const PORT: u16 = 7;

/// The service: sends back whatever it hears. It knows nothing of the simulation.
async fn serve(env: SharedEnv) {
    let mut listener = env.network().listen("0.0.0.0", PORT).await.expect("the port is free");
    while let Ok(connection) = listener.accept().await {
        env.go("connection", async move {
            let Connection { mut reader, mut writer, .. } = connection;
            let mut heard = BytesMut::new();
            // Ends at the end of the stream, or with the connection.
            while reader.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {
                if writer.write(heard.split().freeze()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// One call. `None` is any failure: refused, reset, timed out.
async fn call(env: &SharedEnv, connection: &mut Option<Connection>, word: String) -> Option<String> {
    if connection.is_none() {
        *connection = env.network().connect("echo", PORT).await.ok();
    }
    let Connection { reader, writer, .. } = connection.as_mut()?;
    let expected = word.len();
    writer.write(word.into()).await.ok()?;
    let mut heard = BytesMut::new();
    while heard.len() < expected {
        if reader.read(&mut heard).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&heard).into_owned())
}

/// The client: calls the service every 500 ms, and is not patient. It records what it sees through the world's handle,
/// the one thing that it would not have in the real world.
async fn ask(env: SharedEnv, world: World) {
    let me = world.find("client").expect("the driver has added us");
    let mut connection = None;
    for number in 0.. {
        let word = format!("word {number}");
        let deadline = env.mono() + Duration::from_secs(1);
        let outcome = env.until(deadline, call(&env, &mut connection, word.clone())).await;
        if let Some(Some(answer)) = outcome {
            world.record(me, ANSWERED, answer.as_bytes());
        } else {
            world.record(me, FAILED, word.as_bytes());
            connection = None;
        }
        env.sleep(Duration::from_millis(500)).await;
    }
}

fn main() {
    let seed = std::env::args().nth(1).and_then(|seed| seed.parse().ok()).unwrap_or(42);
    let outcome = sim::run(seed, Config::default(), |world| async move {
        // 1. Two machines. The closure is called for each start of the process.
        let echo = world.add_node("echo", Arc::new(|env, _incarnation| Box::pin(serve(env))));
        let for_client = world.clone();
        let client = world.add_node("client", Arc::new(move |env, _| Box::pin(ask(env, for_client.clone()))));
        world.start(echo);
        world.start(client);

        // 2. The story: well for two seconds, apart for three, well again; then the service dies and comes back.
        world.sleep(Duration::from_secs(2)).await;
        let cut = world.install(NetworkFault::Partition { groups: vec![vec![echo], vec![client]] });
        world.sleep(Duration::from_secs(3)).await;
        world.remove(cut);
        world.sleep(Duration::from_secs(2)).await;
        world.crash(echo);
        world.sleep(Duration::from_secs(1)).await;
        world.start(echo);
        world.sleep(Duration::from_secs(2)).await;

        // 3. A fault that nobody met has proved nothing: its effects say whether it was met.
        world.fault_effects(cut)
    });

    for event in outcome.trace.iter() {
        let what = match event.kind {
            ANSWERED => "answered".to_owned(),
            FAILED => "failed".to_owned(),
            own => kind::name(own).unwrap_or("?").to_owned(),
        };
        let who = if event.host == sim::trace::NOWHERE { "world".to_owned() } else { event.host.to_string() };
        println!("{:>8}  {who:<8} {what:<12} {}", event.at.to_string(), event.payload.escape_ascii());
    }
    println!("fingerprint {:032x} after {} events", outcome.trace.fingerprint, outcome.trace.events);
    println!("the partition's effects: {:?}", outcome.finished());
}
