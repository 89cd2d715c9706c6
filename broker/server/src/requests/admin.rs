//! Requests about topics, configuration and producer ids: what a broker answers itself, and what it forwards.

use super::controller_api;
use super::metadata::distinct;
use crate::config::Settings;
use crate::drivers::forward::Forward;
use crate::drivers::quorum::QuorumMessage;
use crate::node::{ListenerKind, Node};
use broker_core::controller::{ControllerRequest, Refusal};
use broker_types::{ErrorCode, TopicName};
use broker_wire::messages::convert::{text, to_broker_epoch};
use broker_wire::messages::{
    AllocateProducerIdsRequest, BrokerId, DescribeConfigsRequest, DescribeConfigsResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProducerId, describe_configs_response,
};
use broker_wire::records::metadata::ConfigResource;
use broker_wire::{Request, Response};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A request that the active controller answers: a controller asks its own machine, a broker the active controller.
pub(super) async fn ask_controller(
    node: &Arc<Node>,
    kind: ListenerKind,
    version: i16,
    request: Request,
    asked: Result<ControllerRequest, ErrorCode>,
) -> Response {
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) => return controller_api::refused(&request, &error.into()),
    };
    let once = asked.is_asked_once();
    if kind == ListenerKind::Broker {
        let again = request.clone();
        return forward(node, version, request, once, |error| controller_api::refused(&again, &error.into())).await;
    }
    let (reply, answer) = oneshot::channel();
    if node.quorum.send(QuorumMessage::Controller { request: asked, reply }).await.is_err() {
        return controller_api::refused(&request, &Refusal::from(ErrorCode::NotController));
    }
    // The machine ended with the request in it: what it wrote may yet be committed.
    let lost = if once { ErrorCode::RequestTimedOut } else { ErrorCode::NotController };
    let answer = answer.await.unwrap_or_else(|_| Err(Refusal::from(lost)));
    controller_api::to_response(&request, answer)
}

/// Asks the active controller on behalf of a client; `once`: see [`ControllerRequest::is_asked_once`].
pub(super) async fn forward(
    node: &Arc<Node>,
    version: i16,
    request: Request,
    once: bool,
    failed: impl FnOnce(ErrorCode) -> Response,
) -> Response {
    let wish = match &request {
        Request::CreateTopics(body) => body.timeout_ms,
        Request::DeleteTopics(body) => body.timeout_ms,
        Request::CreatePartitions(body) => body.timeout_ms,
        _ => i32::MAX,
    };
    let wish = Duration::from_millis(u64::try_from(wish).unwrap_or(0));
    let deadline = node.env.mono() + wish.min(node.config.settings.request_timeout);
    let (reply, answer) = oneshot::channel();
    if node.forward.send(Forward { request, version, deadline, once, reply }).await.is_err() {
        return failed(ErrorCode::BrokerNotAvailable);
    }
    match answer.await {
        Ok(response) => response,
        // This broker stops, and nobody knows whether the request had been sent.
        Err(_) => failed(ErrorCode::RequestTimedOut),
    }
}

/// InitProducerId for idempotent producers: any broker hands out ids of the blocks it was given (KIP-730).
pub(super) async fn init_producer_id(node: &Arc<Node>, body: &InitProducerIdRequest) -> Response {
    let refused = |error: ErrorCode| {
        let body = InitProducerIdResponse::default().with_error_code(error.code());
        Response::InitProducerId(body.with_producer_id(ProducerId(-1)).with_producer_epoch(-1))
    };
    if body.transactional_id.is_some() {
        // There is no transaction coordinator yet; its keys are not advertised.
        return refused(ErrorCode::InvalidRequest);
    }
    let mut block = node.producer_ids.lock().await;
    if block.is_none_or(|(next, end)| next >= end) {
        let request = Request::AllocateProducerIds(
            AllocateProducerIdsRequest::default()
                .with_broker_id(BrokerId(node.config.node_id.0))
                .with_broker_epoch(to_broker_epoch(*node.broker_epoch.borrow())),
        );
        let version = controller_api::version(&request);
        let failed =
            |error| controller_api::refused(&Request::AllocateProducerIds(Default::default()), &Refusal::from(error));
        match forward(node, version, request, false, failed).await {
            Response::AllocateProducerIds(body) if body.error_code == 0 => {
                let first = body.producer_id_start.0;
                *block = Some((first, first + i64::from(body.producer_id_len)));
            }
            // COORDINATOR_LOAD_IN_PROGRESS makes every client try again, as Kafka's own answer does.
            _ => return refused(ErrorCode::CoordinatorLoadInProgress),
        }
    }
    let (next, _) = block.as_mut().expect("just filled");
    let id = *next;
    *next += 1;
    let body = InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0);
    Response::InitProducerId(body)
}

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// DescribeConfigs: every value in force, with where it comes from.
pub(super) fn describe_configs(node: &Node, body: &DescribeConfigsRequest) -> Response {
    let image = node.image();
    let asked = distinct(&body.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let results = asked.map(|resource| {
        let wire = describe_configs_response::DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_message(None);
        let wanted = |key: &str| {
            resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|wanted| wanted.as_str() == key))
        };
        let entry = |key: &str, value: Option<String>, source: i8, kind: i8| {
            describe_configs_response::DescribeConfigsResourceResult::default()
                .with_name(text(key))
                .with_value(value.as_deref().map(text))
                .with_config_source(source)
                .with_config_type(kind)
                .with_read_only(false)
                .with_documentation(None)
        };
        match resource.resource_type {
            TOPIC => {
                let name = TopicName::from(resource.resource_name.as_str());
                if image.topic_by_name(&name).is_none() {
                    return wire.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
                }
                let own = image.config(&ConfigResource::topic(&name));
                let mut configs = Vec::new();
                for (key, default, kind) in topic_keys() {
                    if !wanted(key) {
                        continue;
                    }
                    let set = own.and_then(|own| own.get(*key)).map(|value| value.to_string());
                    let given = node.config.given.get(broker_synonym(key)).cloned();
                    configs.push(match (set, given) {
                        (Some(value), _) => entry(key, Some(value), 1, *kind),
                        (None, Some(value)) => entry(key, Some(value), 4, *kind),
                        (None, None) => entry(key, default.map(str::to_owned), 5, *kind),
                    });
                }
                wire.with_configs(configs)
            }
            BROKER => {
                if resource.resource_name.as_str() != node.config.node_id.to_string() {
                    return wire
                        .with_error_code(ErrorCode::InvalidRequest.code())
                        .with_error_message(Some(text("a broker describes only its own configuration")));
                }
                let given = node.config.given.iter().map(|(key, value)| (key.as_str(), Some(value.clone()), 4));
                let rest =
                    Settings::default_values().into_iter().filter(|(key, _)| !node.config.given.contains_key(*key));
                let rest = rest.map(|(key, value)| (key, Some(value), 5));
                let configs = given
                    .chain(rest)
                    .filter(|(key, ..)| wanted(key))
                    .map(|(key, value, source)| entry(key, value, source, 0).with_read_only(true))
                    .collect();
                wire.with_configs(configs)
            }
            _ => wire.with_error_code(ErrorCode::InvalidRequest.code()),
        }
    });
    Response::DescribeConfigs(DescribeConfigsResponse::default().with_results(results.collect()))
}

/// Kafka's topic keys with their defaults and types on the wire (1 boolean, 2 string, 3 int, 5 long, 6 double, 7 list).
fn topic_keys() -> &'static [(&'static str, Option<&'static str>, i8)] {
    &[
        ("cleanup.policy", Some("delete"), 7),
        ("compression.type", Some("producer"), 2),
        ("delete.retention.ms", Some("86400000"), 5),
        ("file.delete.delay.ms", Some("60000"), 5),
        ("flush.messages", Some("9223372036854775807"), 5),
        ("flush.ms", Some("9223372036854775807"), 5),
        ("index.interval.bytes", Some("4096"), 3),
        ("max.compaction.lag.ms", Some("9223372036854775807"), 5),
        ("max.message.bytes", Some("1048588"), 3),
        ("message.timestamp.after.max.ms", Some("3600000"), 5),
        ("message.timestamp.before.max.ms", Some("9223372036854775807"), 5),
        ("message.timestamp.type", Some("CreateTime"), 2),
        ("min.cleanable.dirty.ratio", Some("0.5"), 6),
        ("min.compaction.lag.ms", Some("0"), 5),
        ("min.insync.replicas", Some("1"), 3),
        ("preallocate", Some("false"), 1),
        ("retention.bytes", Some("-1"), 5),
        ("retention.ms", Some("604800000"), 5),
        ("segment.bytes", Some("1073741824"), 3),
        ("segment.index.bytes", Some("10485760"), 3),
        ("segment.jitter.ms", Some("0"), 5),
        ("segment.ms", Some("604800000"), 5),
        ("unclean.leader.election.enable", Some("false"), 1),
    ]
}

/// The broker key that stands in for a topic key that is not set.
pub(crate) fn broker_synonym(key: &str) -> &str {
    match key {
        "flush.messages" => "log.flush.interval.messages",
        "flush.ms" => "log.flush.interval.ms",
        "index.interval.bytes" => "log.index.interval.bytes",
        "max.message.bytes" => "message.max.bytes",
        "segment.bytes" => "log.segment.bytes",
        "segment.index.bytes" => "log.index.size.max.bytes",
        "segment.ms" => "log.roll.ms",
        key => key,
    }
}
