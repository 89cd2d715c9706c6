//! Hostile bytes and slow clients against a real node in a simulated world, beside an honest client.
//!
//! Whatever they do costs them their connection, for a counted reason; the honest client goes on, and the memory of the
//! whole world (node, network and clients) stays within a bound.

#[path = "hostile/bytes.rs"]
mod bytes;
#[path = "hostile/town.rs"]
mod town;

use ::bytes::Bytes;
use broker_types::TopicId;
use broker_wire::Request;
use broker_wire::messages::convert::to_uuid;
use broker_wire::messages::{ApiKey, ApiVersionsRequest, FetchRequest, MetadataRequest, StrBytes, fetch_request};
use std::time::Duration;
use town::{BROKER, Heard, Raw, Town, held, in_a_town, newest, wire};

/// Longest that the honest client may wait for its record, while others misbehave.
const UNHARMED: Duration = Duration::from_millis(500);
const MB: isize = 1 << 20;

async fn unharmed(honest: town::Honest, at_least: u64) {
    let life = honest.end().await;
    assert!(life.records >= at_least && life.slowest <= UNHARMED, "{life:?}");
}

/// A fetch that waits for records for as long as anybody can ask.
fn long_poll(topic: TopicId) -> Bytes {
    let partition = fetch_request::FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default().with_topic_id(to_uuid(topic)).with_partitions(vec![partition]);
    let fetch = FetchRequest::default()
        .with_max_wait_ms(i32::MAX)
        .with_min_bytes(i32::MAX)
        .with_max_bytes(i32::MAX)
        .with_topics(vec![topic]);
    wire(newest(ApiKey::Fetch), &Request::Fetch(fetch))
}

fn api_versions() -> Request {
    let name = |text| StrBytes::from_static_str(text);
    let body =
        ApiVersionsRequest::default().with_client_software_name(name("c")).with_client_software_version(name("1"));
    Request::ApiVersions(body)
}

/// Connects, each connection from its turn of the hosts, and keeps them.
async fn crowd(town: &Town, hosts: &[sim::HostId], count: usize, first: Option<Bytes>) -> Vec<Raw> {
    let mut crowd = Vec::new();
    for number in 0..count {
        let first = first.clone();
        let joined = town.on(hosts[number % hosts.len()], |env| async move {
            let mut raw = Raw::open(&env, BROKER).await?;
            if let Some(first) = first {
                assert!(raw.send(first).await);
            }
            Some(raw)
        });
        crowd.push(joined.await.unwrap_or_else(|| panic!("connection {number} was refused")));
    }
    crowd
}

#[test]
fn two_thousand_idle_connections_cost_little_and_are_closed_in_the_end() {
    in_a_town(1, "connections.max.idle.ms=60000", |town| async move {
        let honest = town.honest().await;
        let hosts: Vec<_> = (0..8).map(|_| town.somebody()).collect();
        town.sleep(1).await;
        let before = (town.connections(), held());
        let request = wire(newest(ApiKey::ApiVersions), &api_versions());
        // Half of them never say a word, half have asked and been answered.
        let crowd = [crowd(&town, &hosts, 1000, None).await, crowd(&town, &hosts, 1000, Some(request)).await];
        town.sleep(1).await;
        assert_eq!(town.connections() - before.0, 2000);
        let cost = (held() - before.1) / 2000;
        println!("{cost} bytes for each connection, both ends and the network between them");
        assert!(cost < 8 << 10, "{cost} bytes for an idle connection");
        town.sleep(65).await;
        // The honest client has a connection for metadata, which is idle too.
        let idle = town.closed()["idle"];
        assert!((2000..=2002).contains(&idle) && town.connections() <= before.0, "{idle}");
        drop(crowd);
        unharmed(honest, 1000).await;
    });
}

#[test]
fn who_never_reads_replies_holds_one_of_them_and_is_closed_in_the_end() {
    in_a_town(2, "connections.max.idle.ms=60000", |town| async move {
        let honest = town.honest().await;
        let hosts: Vec<_> = (0..5).map(|_| town.somebody()).collect();
        let before = (town.connections(), held());
        // Each asks for much more than fits between him and the node.
        let request = wire(newest(ApiKey::ApiVersions), &api_versions());
        let many: Bytes = request.repeat(5_000).into();
        let crowd = crowd(&town, &hosts, 50, Some(many.clone())).await;
        town.sleep(20).await;
        let cost = (held() - before.1) / 50;
        println!("{cost} bytes for each that does not read");
        // Requests and replies that the network holds, both at its limit, and a little.
        assert!(cost < 2 * 256 * 1024 + (300 << 10), "{cost} bytes for one that does not read");
        town.sleep(65).await;
        assert_eq!(town.closed().get("reply-not-read"), Some(&50), "{:?}", town.closed());
        assert!(town.connections() <= before.0);
        drop(crowd);
        unharmed(honest, 1000).await;
    });
}

#[test]
fn a_request_that_trickles_in_has_to_be_there_in_time() {
    in_a_town(3, "connections.max.idle.ms=30000", |town| async move {
        let honest = town.honest().await;
        let slow = town.somebody();
        let (sent, heard) = town
            .on(slow, |env| async move {
                let mut raw = Raw::open(&env, BROKER).await.unwrap();
                let mut sent = 0;
                raw.send((1_000_000_i32).to_be_bytes().to_vec()).await;
                while raw.send(vec![0]).await && sent < 100 {
                    sent += 1;
                    if raw.frame(Duration::from_secs(1)).await == Heard::Closed {
                        break;
                    }
                }
                (sent, raw.frame(Duration::from_secs(1)).await)
            })
            .await;
        assert_eq!(heard, Heard::Closed);
        assert!((25..35).contains(&sent), "{sent} seconds");
        assert_eq!(town.closed().get("unfinished-frame"), Some(&1), "{:?}", town.closed());
        unharmed(honest, 500).await;
    });
}

#[test]
fn who_asks_for_the_longest_wait_and_leaves_is_forgotten_at_once() {
    in_a_town(4, "", |town| async move {
        let honest = town.honest().await;
        let topic = town.topic("silent").await;
        let hosts: Vec<_> = (0..4).map(|_| town.somebody()).collect();
        town.sleep(2).await;
        let before = (town.connections(), held());
        for _ in 0..10 {
            let crowd = crowd(&town, &hosts, 100, Some(long_poll(topic))).await;
            town.sleep(1).await;
            assert_eq!(town.connections() - before.0, 100, "{:?}", town.closed());
            drop(crowd);
            town.sleep(1).await;
            assert_eq!(town.connections(), before.0);
        }
        // What they asked is forgotten a little later.
        town.sleep(10).await;
        let cost = held() - before.1;
        assert!(cost < 3 * MB, "{cost} bytes are held for nobody");
        unharmed(honest, 500).await;
    });
}

#[test]
fn clients_whose_machines_lose_power_in_a_long_poll_do_not_stay_for_ever() {
    in_a_town(5, "connections.max.idle.ms=120000", |town| async move {
        let honest = town.honest().await;
        let topic = town.topic("silent").await;
        let host = town.somebody();
        town.sleep(2).await;
        let before = town.connections();
        let crowd = crowd(&town, &[host], 200, Some(long_poll(topic))).await;
        town.sleep(1).await;
        assert_eq!(town.connections() - before, 200);
        town.world.power_loss(host);
        drop(crowd);
        town.sleep(125).await;
        assert!(town.connections() <= before, "{:?}", town.closed());
        unharmed(honest, 2000).await;
    });
}

#[test]
fn a_wait_beyond_the_idle_limit_ends_with_it() {
    in_a_town(6, "connections.max.idle.ms=30000", |town| async move {
        let topic = town.topic("silent").await;
        let host = town.somebody();
        let heard = town
            .on(host, move |env| async move {
                let mut raw = Raw::open(&env, BROKER).await.unwrap();
                raw.send(long_poll(topic)).await;
                let begun = env.mono();
                let heard = raw.frame(Duration::from_secs(100)).await;
                (heard, env.mono().since(begun).as_secs())
            })
            .await;
        assert!(matches!(heard, (_, 29..=31)), "{heard:?}");
    });
}

#[test]
fn an_address_and_the_broker_have_as_many_connections_as_they_may() {
    in_a_town(7, "max.connections=40\nmax.connections.per.ip=20\nconnections.max.idle.ms=3600000", |town| async move {
        // The node's own connections to its controller count apart; to make a topic opens one more.
        town.topic("silent").await;
        town.sleep(2).await;
        let own = town.connections();
        let honest = town.honest().await;
        let used = usize::try_from(town.connections() - own).unwrap();
        let [one, two, three] = [town.somebody(), town.somebody(), town.somebody()];
        let first = crowd(&town, &[one], 20, None).await;
        // The twenty-first of an address is closed before it can ask.
        let asks = |env| async move {
            let mut raw = Raw::open(&env, BROKER).await?;
            raw.ask(0, &Request::ApiVersions(ApiVersionsRequest::default()), Duration::from_secs(20)).await
        };
        assert!(town.on(one, asks).await.is_none());
        assert_eq!(town.refused(), 1);
        // The honest client has its own connections; what is left goes to the second, and then nobody comes in.
        let second = crowd(&town, &[two], 20 - used, None).await;
        town.sleep(1).await;
        assert_eq!(town.connections(), 40 + own);
        let mut waiting = town.begin(three, asks);
        town.sleep(10).await;
        assert!(waiting.try_recv().is_err(), "it waits");
        drop(second);
        town.sleep(1).await;
        assert!(waiting.try_recv().expect("it is served").is_some());
        assert_eq!(town.refused(), 1);
        drop(first);
        unharmed(honest, 500).await;
    });
}

#[test]
fn lengths_that_lie_cost_the_connection_and_no_memory() {
    in_a_town(8, "socket.request.max.bytes=10000000", |town| async move {
        let honest = town.honest().await;
        let host = town.somebody();
        let before = held();
        for (length, reason) in [
            (-1, "negative-frame-length"),
            (i32::MIN, "negative-frame-length"),
            (10_000_001, "frame-too-large"),
            (i32::MAX, "frame-too-large"),
            (0, "short-header"),
            (7, "short-header"),
        ] {
            let count = town.closed().get(reason).copied().unwrap_or(0);
            let heard = town.on(host, move |env| async move {
                let mut raw = Raw::open(&env, BROKER).await.unwrap();
                raw.send([length.to_be_bytes().to_vec(), vec![0; 8]].concat()).await;
                raw.frame(Duration::from_secs(5)).await
            });
            assert_eq!(heard.await, Heard::Closed, "{length}");
            assert_eq!(town.closed().get(reason), Some(&(count + 1)), "{length}: {:?}", town.closed());
        }
        // A hundred promise ten megabytes each and send next to nothing of them.
        let promise = [10_000_000_i32.to_be_bytes().to_vec(), vec![0; 100]].concat();
        let crowd = crowd(&town, &[host], 100, Some(promise.into())).await;
        town.sleep(1).await;
        let cost = (held() - before) / 100;
        assert!(cost < 16 << 10, "{cost} bytes for a promise");
        drop(crowd);
        unharmed(honest, 50).await;
    });
}

#[test]
fn large_requests_that_are_not_finished_hold_what_is_allowed_together_and_keep_small_ones_from_nothing() {
    in_a_town(9, "queued.max.request.bytes=4000000\nconnections.max.idle.ms=60000", |town| async move {
        let honest = town.honest().await;
        let hosts: Vec<_> = (0..4).map(|_| town.somebody()).collect();
        let before = held();
        // Forty send all but the end of a megabyte.
        let most = Bytes::from([1_000_000_i32.to_be_bytes().to_vec(), vec![0; 999_000]].concat());
        let tries: Vec<_> = (0..40)
            .map(|number: usize| {
                let most = most.clone();
                town.begin(hosts[number % 4], |env| async move {
                    let mut raw = Raw::open(&env, BROKER).await.unwrap();
                    let taken = raw.send(most).await;
                    raw.frame(Duration::from_secs(100)).await;
                    taken
                })
            })
            .collect();
        town.sleep(30).await;
        // Four were let in and have their megabyte here, as it grew; the others wait in the network.
        let cost = held() - before;
        println!("{cost} bytes for forty large requests");
        assert!(cost < 40 * 700 * 1024 + 16 * MB, "{cost} bytes");
        town.sleep(70).await;
        assert_eq!(town.closed().get("unfinished-frame"), Some(&40), "{:?}", town.closed());
        let mut taken = 0;
        for one in tries {
            taken += usize::from(one.await.unwrap());
        }
        assert!((4..8).contains(&taken), "{taken} were let in");
        // And now that they are gone, a large request is served again.
        let host = town.somebody();
        let served = town.on(host, |env| async move {
            let names = (0..60_000).map(|number| {
                let name = StrBytes::from_string(format!("no-such-topic-{number:08}"));
                broker_wire::messages::metadata_request::MetadataRequestTopic::default()
                    .with_name(Some(broker_wire::messages::TopicName(name)))
            });
            let body = MetadataRequest::default().with_topics(Some(names.collect()));
            let mut raw = Raw::open(&env, BROKER).await.unwrap();
            raw.ask(newest(ApiKey::Metadata), &Request::Metadata(body), Duration::from_secs(30)).await
        });
        assert!(served.await.is_some());
        unharmed(honest, 1000).await;
    });
}

#[test]
fn what_was_asked_for_ten_thousand_times_is_answered_once() {
    in_a_town(10, "", |town| async move {
        let topic = town.topic("wide").await;
        let host = town.somebody();
        let body = {
            use broker_wire::messages::metadata_request::MetadataRequestTopic;
            let one = MetadataRequestTopic::default().with_name(None).with_topic_id(to_uuid(topic));
            MetadataRequest::default().with_topics(Some(vec![one; 10_000]))
        };
        let answer = town.on(host, |env| async move {
            let mut raw = Raw::open(&env, BROKER).await.unwrap();
            raw.ask(newest(ApiKey::Metadata), &Request::Metadata(body), Duration::from_secs(30)).await
        });
        let Some(broker_wire::Response::Metadata(answer)) = answer.await else { panic!("no answer") };
        assert_eq!(answer.topics.len(), 1);
    });
}
