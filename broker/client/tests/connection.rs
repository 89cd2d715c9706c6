//! The client against a broker that misbehaves on purpose, over loopback TCP.

use broker_client::{Client, ClientConfig, Outcome};
use broker_env::{Connection, Env, TokioEnv};
use broker_types::{ErrorCode, TopicName};
use broker_wire::api_versions::{Listener, encode_unsupported_version, response};
use broker_wire::frame::FrameReader;
use broker_wire::messages::delete_topics_response::DeletableTopicResult;
use broker_wire::messages::metadata_response::{MetadataResponseBroker, MetadataResponseTopic};
use broker_wire::messages::{BrokerId, DeleteTopicsResponse, MetadataResponse, RequestHeader, StrBytes, convert};
use broker_wire::{Request, Response, decode_request, encode_response};
use bytes::Bytes;
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the broker says to a request; `None` is silence.
type Script = Arc<dyn Fn(u16, &RequestHeader, &Request) -> Option<Bytes> + Send + Sync>;

/// Every request that came, by name and version, and how many connections were opened.
#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicU32,
}

fn with_broker<F: Future<Output = ()>>(script: Script, test: impl FnOnce(Client, Arc<Seen>) -> F) {
    with_retries(u32::MAX, script, test);
}

fn with_retries<F: Future<Output = ()>>(retries: u32, script: Script, test: impl FnOnce(Client, Arc<Seen>) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let env: Arc<dyn Env> = TokioEnv::new(runtime.handle().clone());
    let seen = Arc::new(Seen::default());
    runtime.block_on(async {
        let mut listener = env.network().listen("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().port();
        let (to, record) = (env.clone(), seen.clone());
        env.go("broker", async move {
            while let Ok(connection) = listener.accept().await {
                record.connections.fetch_add(1, Ordering::SeqCst);
                to.go("connection", serve(connection, port, script.clone(), record.clone()));
            }
        });
        let config = ClientConfig {
            bootstrap: vec![("127.0.0.1".into(), port)],
            request_timeout: Duration::from_millis(200),
            default_api_timeout: Duration::from_millis(1500),
            retries,
            ..ClientConfig::default()
        };
        test(Client::new(env.clone(), config), seen.clone()).await;
    });
    runtime.shutdown_background();
}

async fn serve(mut connection: Connection, port: u16, script: Script, seen: Arc<Seen>) {
    let mut frames = FrameReader::new(1 << 20);
    loop {
        while let Ok(Some(frame)) = frames.next_frame() {
            let (header, request) = match decode_request(Listener::Broker, frame) {
                Ok(decoded) => decoded,
                Err(error) => panic!("{error}"),
            };
            seen.requests.lock().unwrap().push(format!("{} {}", header.api_key, header.api_version));
            if let Some(answer) = script(port, &header, &request) {
                connection.writer.write(answer).await.unwrap();
            }
        }
        if !matches!(connection.reader.read(frames.room()).await, Ok(1..)) {
            return;
        }
    }
}

/// A well-behaved answer to the two requests that these tests make.
fn answer(port: u16, header: &RequestHeader, correlation_id: i32) -> Option<Bytes> {
    let body = match header.api_key {
        broker_wire::ApiKey::ApiVersions => Response::ApiVersions(response(Listener::Broker)),
        broker_wire::ApiKey::Metadata => {
            let broker = MetadataResponseBroker::default()
                .with_node_id(BrokerId(1))
                .with_host(StrBytes::from_static_str("127.0.0.1"))
                .with_port(i32::from(port));
            let topic = MetadataResponseTopic::default().with_name(Some(convert::to_topic_name(&topic())));
            Response::Metadata(MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]))
        }
        _ => return None,
    };
    Some(encode_response(header.api_version, correlation_id, &body).unwrap())
}

fn topic() -> TopicName {
    "orders".into()
}

#[test]
fn a_broker_that_finds_api_versions_too_new_is_asked_again_as_it_says() {
    let script: Script = Arc::new(|port, header, request| match request {
        Request::ApiVersions(_) if header.api_version == 4 => {
            Some(older(encode_unsupported_version(header.correlation_id).unwrap()))
        }
        _ => answer(port, header, header.correlation_id),
    });
    with_broker(script, |client, seen| async move {
        client.admin().describe_topic(&topic()).await.unwrap();
        let requests = seen.requests.lock().unwrap().clone();
        assert_eq!(requests[..2], ["ApiVersions 4", "ApiVersions 3"]);
        assert_eq!(seen.connections.load(Ordering::SeqCst), 1);
    });
}

/// The answer's range of ApiVersions, ending at 3.
fn older(answer: Bytes) -> Bytes {
    let mut bytes = answer.to_vec();
    let last = bytes.len();
    bytes[last - 2..].copy_from_slice(&3_i16.to_be_bytes());
    bytes.into()
}

#[test]
fn an_answer_to_another_request_ends_the_connection_and_the_next_one_is_tried() {
    let first = AtomicU32::new(0);
    let script: Script = Arc::new(move |port, header, request| match request {
        Request::Metadata(_) if first.fetch_add(1, Ordering::SeqCst) == 0 => {
            answer(port, header, header.correlation_id + 1)
        }
        _ => answer(port, header, header.correlation_id),
    });
    with_broker(script, |client, seen| async move {
        assert_eq!(client.admin().describe_topic(&topic()).await.unwrap().name, topic());
        assert_eq!(seen.connections.load(Ordering::SeqCst), 2);
    });
}

#[test]
fn silence_ends_the_connection_in_time_and_leaves_the_outcome_open() {
    let script: Script = Arc::new(|port, header, request| match request {
        Request::ApiVersions(_) => answer(port, header, header.correlation_id),
        _ => None,
    });
    with_broker(script, |client, seen| async move {
        let error = client.admin().delete_topic(&topic()).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Indeterminate));
        assert!(seen.connections.load(Ordering::SeqCst) > 1, "a connection that is silent is given up");
    });
}

#[test]
fn without_retries_the_cluster_is_asked_once() {
    let script: Script = Arc::new(|port, header, request| match request {
        Request::ApiVersions(_) => answer(port, header, header.correlation_id),
        _ => None,
    });
    with_retries(0, script, |client, seen| async move {
        let error = client.admin().delete_topic(&topic()).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::RequestTimedOut, Outcome::Indeterminate));
        let requests = seen.requests.lock().unwrap().clone();
        assert_eq!(requests.iter().filter(|request| request.starts_with("DeleteTopics")).count(), 1);
    });
}

/// A request whose answer says nothing of its effect: asked again, it may be told of its own doing.
#[test]
fn a_refusal_after_a_controller_that_lost_its_leadership_leaves_the_outcome_open() {
    let asked = AtomicU32::new(0);
    let script: Script = Arc::new(move |port, header, request| match request {
        Request::DeleteTopics(_) => {
            let code = match asked.fetch_add(1, Ordering::SeqCst) {
                0 => ErrorCode::NotController,
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            let result = DeletableTopicResult::default().with_error_code(code.code());
            let body = Response::DeleteTopics(DeleteTopicsResponse::default().with_responses(vec![result]));
            Some(encode_response(header.api_version, header.correlation_id, &body).unwrap())
        }
        _ => answer(port, header, header.correlation_id),
    });
    with_broker(script, |client, _seen| async move {
        let error = client.admin().delete_topic(&topic()).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::UnknownTopicOrPartition, Outcome::Indeterminate));
    });
}

#[test]
fn nobody_there_is_a_definite_failure() {
    let script: Script = Arc::new(|_, _, _| None);
    with_broker(script, |client, _seen| async move {
        // The handshake is never answered: no request was sent.
        let error = client.admin().delete_topic(&topic()).await.unwrap_err();
        assert_eq!((error.code, error.outcome), (ErrorCode::NetworkException, Outcome::Definite));
    });
}
