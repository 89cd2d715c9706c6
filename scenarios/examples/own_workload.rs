//! A workload of one's own, in one file: does a client always read what it was told is written?
//!
//! The courier sends one record with acks=all, waits for the acknowledgement, polls until it reads that very record, and
//! begins again; meanwhile the leader loses power. The code is what you would write against any Kafka cluster; only its
//! sends and polls go through a [`Session`], which writes them down for the judge.
//!
//! ```text
//! cargo run --release -p scenarios --example own_workload -- 42
//! ```

use broker_client::{Acks, Consumer, ConsumerConfig, Producer, ProducerConfig};
use broker_env::SharedEnv;
use broker_types::{TopicName, TopicPartition};
use scenarios::file;
use scenarios::run::{Options, Watch, run};
use scenarios::workload::{Own, Scene, SendAs, Session};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The world around the workload: any scenario file will do. It needs no `[[workload]]`, since we bring our own.
const SCENARIO: &str = r#"
name = "own-workload"
question = "Does a client always read what it was told is written, though the leader loses power?"

[cluster]
brokers = 3
controllers = 3
config = { "min.insync.replicas" = 2 }

[[topic]]
name = "letters"
partitions = 1
replication-factor = 3

[[step]]
when = "letters-0.acked >= 100"
power-loss = { node = "leader(letters-0)", down = "12s" }

[run]
duration = "30s"

[expect]
verdict = "pass"
marks = ["leader-elected"]
"#;

/// One client's life. The world's time is simulated: a sleep or a timeout here costs nothing.
async fn courier(env: SharedEnv, scene: Scene, round_trips: Arc<Mutex<Vec<Duration>>>) {
    let client = scene.client(env.clone(), "courier");
    let topic = TopicName::from("letters");
    let Some(topic_id) = client.topic(&topic).await.ok().and_then(|described| described.id) else { return };
    let letters = TopicPartition { topic, partition: 0 };

    let producer = Producer::new(&client, ProducerConfig { acks: Acks::All, ..ProducerConfig::default() });
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign(std::slice::from_ref(&letters));
    let _ = consumer.seek_to_beginning(&letters);

    let session = Session::new(&env, &scene);
    let how = SendAs { acks: checker::Acks::All, idempotent: true, value_bytes: 100 };
    while !*scene.stop.borrow() {
        let begun = env.mono();
        // A record that was refused is none of ours; one of unknown fate may turn up, and the judge knows it may.
        let Ok(written) = session.send(&producer, &letters, topic_id, None, how).await else { continue };
        let Some(offset) = written.offset else { continue };
        while consumer.position(&letters).is_none_or(|position| position <= offset) && !*scene.stop.borrow() {
            let _ = session.poll(&mut consumer, Duration::from_millis(100)).await;
        }
        round_trips.lock().expect("one thread a world").push(env.mono().since(begun));
        env.sleep(Duration::from_millis(10)).await;
    }
}

fn main() -> ExitCode {
    let seed = std::env::args().nth(1).and_then(|text| file::parse_seed(&text)).unwrap_or(42);
    let scenario = match file::parse("own-workload", SCENARIO) {
        Ok(scenario) => scenario,
        Err(errors) => {
            eprint!("{}", errors.render(false));
            return ExitCode::from(14);
        }
    };
    let round_trips = Arc::new(Mutex::new(Vec::new()));
    let kept = round_trips.clone();
    let workloads = vec![Own::new("courier", move |env, scene| courier(env, scene, kept.clone()))];
    let report = run(&scenario, seed, &Options { workloads, ..Options::default() }, &Arc::new(Watch::default()));

    print!("{}", reports::terminal::render(&report, false, false));
    let round_trips = round_trips.lock().expect("the run is over");
    let longest = round_trips.iter().max().copied().unwrap_or_default();
    println!("Round trips {}, the longest {:.3} s", round_trips.len(), longest.as_secs_f64());
    ExitCode::from(report.exit_code())
}
