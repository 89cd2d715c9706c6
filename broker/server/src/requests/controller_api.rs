//! Requests that the active controller answers: the wire's structs to its own, and its answers back.

use broker_core::controller::{
    AlterConfigs, AlterOnePartition, AlterPartition, BrokerHeartbeat, ConfigOp, ControllerRequest, ControllerResponse,
    HeartbeatReply, NewPartitions, NewTopic, Refusal, RegisterBroker, RegisterController, TopicRef,
};
use broker_types::{ErrorCode, LeaderEpoch, Offset, PartitionEpoch, TopicIdPartition};
use broker_wire::messages::convert::{
    from_broker_epoch, from_broker_id, from_broker_ids, from_offset, from_topic_name, from_uuid, text, to_broker_id,
    to_broker_ids, to_topic_name, to_uuid,
};
use broker_wire::messages::{
    AllocateProducerIdsResponse, AlterPartitionResponse, BrokerHeartbeatResponse, BrokerRegistrationResponse,
    ControllerRegistrationResponse, CreatePartitionsResponse, CreateTopicsResponse, DeleteTopicsResponse,
    ElectLeadersResponse, IncrementalAlterConfigsResponse, StrBytes, UnregisterBrokerResponse,
    alter_partition_response, broker_registration_request, create_partitions_response, create_topics_response,
    delete_topics_response, elect_leaders_response, incremental_alter_configs_response,
};
use broker_wire::records::metadata::{
    ConfigResource, ConfigResourceType, Endpoint, LeaderRecoveryState, SupportedFeature,
};
use broker_wire::{Request, Response};
use std::sync::Arc;

/// The controller's view of a request; `None` if it is none that the controller answers, `Err` if a field has a value
/// that no client may send.
pub(crate) fn to_controller(request: &Request) -> Option<Result<ControllerRequest, ErrorCode>> {
    Some(match request {
        Request::BrokerRegistration(body) => from_broker_id(body.broker_id)
            .map(|broker| {
                ControllerRequest::RegisterBroker(RegisterBroker {
                    broker,
                    cluster_id: shared(&body.cluster_id),
                    incarnation: from_uuid(body.incarnation_id),
                    endpoints: body.listeners.iter().map(endpoint).collect(),
                    features: body
                        .features
                        .iter()
                        .map(|feature| SupportedFeature {
                            name: shared(&feature.name),
                            min: feature.min_supported_version,
                            max: feature.max_supported_version,
                        })
                        .collect(),
                    rack: body.rack.as_ref().map(shared),
                    log_dirs: body.log_dirs.iter().map(|id| from_uuid(*id)).collect(),
                    previous_epoch: from_broker_epoch(body.previous_broker_epoch),
                })
            })
            .ok_or(ErrorCode::InvalidRequest),
        Request::BrokerHeartbeat(body) => {
            match (from_broker_id(body.broker_id), from_broker_epoch(body.broker_epoch)) {
                (Some(broker), Some(broker_epoch)) => Ok(ControllerRequest::BrokerHeartbeat(BrokerHeartbeat {
                    broker,
                    broker_epoch,
                    metadata_offset: from_offset(body.current_metadata_offset),
                    want_fence: body.want_fence,
                    want_shutdown: body.want_shut_down,
                })),
                _ => Err(ErrorCode::StaleBrokerEpoch),
            }
        }
        Request::UnregisterBroker(body) => from_broker_id(body.broker_id)
            .map(|broker| ControllerRequest::UnregisterBroker { broker })
            .ok_or(ErrorCode::InvalidRequest),
        Request::ControllerRegistration(body) => from_broker_id(broker_wire::messages::BrokerId(body.controller_id))
            .map(|controller| {
                ControllerRequest::RegisterController(RegisterController {
                    controller,
                    incarnation: from_uuid(body.incarnation_id),
                    endpoints: body
                        .listeners
                        .iter()
                        .map(|listener| Endpoint {
                            name: shared(&listener.name),
                            host: shared(&listener.host),
                            port: listener.port,
                            security_protocol: listener.security_protocol,
                        })
                        .collect(),
                    features: body
                        .features
                        .iter()
                        .map(|feature| SupportedFeature {
                            name: shared(&feature.name),
                            min: feature.min_supported_version,
                            max: feature.max_supported_version,
                        })
                        .collect(),
                })
            })
            .ok_or(ErrorCode::InvalidRequest),
        Request::CreateTopics(body) => Ok(ControllerRequest::CreateTopics {
            topics: body
                .topics
                .iter()
                .map(|topic| NewTopic {
                    name: from_topic_name(&topic.name),
                    partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
                    replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
                    assignments: topic
                        .assignments
                        .iter()
                        .map(|assignment| (assignment.partition_index, from_broker_ids(&assignment.broker_ids)))
                        .collect(),
                    configs: topic
                        .configs
                        .iter()
                        .map(|config| (shared(&config.name), config.value.as_ref().map(shared)))
                        .collect(),
                })
                .collect(),
            validate_only: body.validate_only,
        }),
        Request::DeleteTopics(body) => {
            let by_state = body.topics.iter().map(|topic| match &topic.name {
                Some(name) => TopicRef::Name(from_topic_name(name)),
                None => TopicRef::Id(from_uuid(topic.topic_id)),
            });
            let by_name = body.topic_names.iter().map(|name| TopicRef::Name(from_topic_name(name)));
            Ok(ControllerRequest::DeleteTopics { topics: by_state.chain(by_name).collect() })
        }
        Request::CreatePartitions(body) => Ok(ControllerRequest::CreatePartitions {
            topics: body
                .topics
                .iter()
                .map(|topic| NewPartitions {
                    name: from_topic_name(&topic.name),
                    count: topic.count,
                    assignments: topic
                        .assignments
                        .as_ref()
                        .map(|list| list.iter().map(|one| from_broker_ids(&one.broker_ids)).collect()),
                })
                .collect(),
            validate_only: body.validate_only,
        }),
        Request::AlterPartition(body) => match (from_broker_id(body.broker_id), from_broker_epoch(body.broker_epoch)) {
            (Some(broker), Some(broker_epoch)) => {
                Ok(ControllerRequest::AlterPartition(alter_partition(body, broker, broker_epoch)))
            }
            _ => Err(ErrorCode::StaleBrokerEpoch),
        },
        Request::AllocateProducerIds(body) => {
            match (from_broker_id(body.broker_id), from_broker_epoch(body.broker_epoch)) {
                (Some(broker), Some(broker_epoch)) => {
                    Ok(ControllerRequest::AllocateProducerIds { broker, broker_epoch })
                }
                _ => Err(ErrorCode::StaleBrokerEpoch),
            }
        }
        Request::IncrementalAlterConfigs(body) => alter_configs(body),
        _ => return None,
    })
}

fn shared(text: &StrBytes) -> Arc<str> {
    text.as_str().into()
}

fn endpoint(listener: &broker_registration_request::Listener) -> Endpoint {
    Endpoint {
        name: shared(&listener.name),
        host: shared(&listener.host),
        port: listener.port,
        security_protocol: listener.security_protocol,
    }
}

fn alter_partition(
    body: &broker_wire::messages::AlterPartitionRequest,
    broker: broker_types::BrokerId,
    broker_epoch: broker_types::BrokerEpoch,
) -> AlterPartition {
    let partitions = body.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| AlterOnePartition {
            partition: TopicIdPartition { topic: from_uuid(topic.topic_id), partition: partition.partition_index },
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            partition_epoch: PartitionEpoch(partition.partition_epoch),
            isr: if partition.new_isr_with_epochs.is_empty() {
                from_broker_ids(&partition.new_isr).into_iter().map(|broker| (broker, None)).collect()
            } else {
                partition
                    .new_isr_with_epochs
                    .iter()
                    .filter_map(|member| {
                        Some((from_broker_id(member.broker_id)?, from_broker_epoch(member.broker_epoch)))
                    })
                    .collect()
            },
            recovery: if partition.leader_recovery_state == 1 {
                LeaderRecoveryState::Recovering
            } else {
                LeaderRecoveryState::Recovered
            },
        })
    });
    AlterPartition { broker, broker_epoch, partitions: partitions.collect() }
}

fn alter_configs(body: &broker_wire::messages::IncrementalAlterConfigsRequest) -> Result<ControllerRequest, ErrorCode> {
    let mut resources = Vec::new();
    for resource in &body.resources {
        let kind = ConfigResourceType::from_code(resource.resource_type).ok_or(ErrorCode::InvalidRequest)?;
        let mut changes = Vec::new();
        for config in &resource.configs {
            let value = || config.value.as_ref().map(shared).ok_or(ErrorCode::InvalidRequest);
            let change = match config.config_operation {
                0 => ConfigOp::Set(value()?),
                1 => ConfigOp::Delete,
                2 => ConfigOp::Append(value()?),
                3 => ConfigOp::Subtract(value()?),
                _ => return Err(ErrorCode::InvalidRequest),
            };
            changes.push((shared(&config.name), change));
        }
        resources
            .push(AlterConfigs { resource: ConfigResource { kind, name: shared(&resource.resource_name) }, changes });
    }
    Ok(ControllerRequest::IncrementalAlterConfigs { resources, validate_only: body.validate_only })
}

fn message(refusal: &Refusal) -> Option<StrBytes> {
    (!refusal.message.is_empty()).then(|| text(&refusal.message))
}

/// The wire's form of an answer.
pub(crate) fn to_response(request: &Request, answer: Result<ControllerResponse, Refusal>) -> Response {
    match answer {
        Ok(response) => granted(response),
        Err(refusal) => refused(request, &refusal),
    }
}

fn granted(response: ControllerResponse) -> Response {
    match response {
        ControllerResponse::RegisterBroker { broker_epoch } => {
            Response::BrokerRegistration(BrokerRegistrationResponse::default().with_broker_epoch(broker_epoch.0))
        }
        ControllerResponse::BrokerHeartbeat(HeartbeatReply { caught_up, fenced, should_shut_down }) => {
            Response::BrokerHeartbeat(
                BrokerHeartbeatResponse::default()
                    .with_is_caught_up(caught_up)
                    .with_is_fenced(fenced)
                    .with_should_shut_down(should_shut_down),
            )
        }
        ControllerResponse::UnregisterBroker => Response::UnregisterBroker(UnregisterBrokerResponse::default()),
        ControllerResponse::RegisterController => {
            Response::ControllerRegistration(ControllerRegistrationResponse::default())
        }
        ControllerResponse::CreateTopics(results) => Response::CreateTopics(
            CreateTopicsResponse::default().with_topics(
                results
                    .into_iter()
                    .map(|(name, result)| {
                        let wire =
                            create_topics_response::CreatableTopicResult::default().with_name(to_topic_name(&name));
                        match result {
                            Ok(created) => wire
                                .with_topic_id(to_uuid(created.id))
                                .with_num_partitions(created.partitions)
                                .with_replication_factor(created.replication_factor)
                                .with_configs(Some(
                                    created
                                        .configs
                                        .iter()
                                        .map(|(key, value)| {
                                            create_topics_response::CreatableTopicConfigs::default()
                                                .with_name(text(key))
                                                .with_value(Some(text(value)))
                                                .with_config_source(1)
                                        })
                                        .collect(),
                                )),
                            Err(refusal) => wire
                                .with_error_code(refusal.error.code())
                                .with_error_message(message(&refusal))
                                .with_num_partitions(-1)
                                .with_replication_factor(-1)
                                .with_configs(None),
                        }
                    })
                    .collect(),
            ),
        ),
        ControllerResponse::DeleteTopics(results) => Response::DeleteTopics(
            DeleteTopicsResponse::default().with_responses(
                results
                    .into_iter()
                    .map(|(asked, result)| {
                        let wire = delete_topics_response::DeletableTopicResult::default();
                        match (result, asked) {
                            (Ok((id, name)), _) => {
                                wire.with_topic_id(to_uuid(id)).with_name(Some(to_topic_name(&name)))
                            }
                            (Err(refusal), TopicRef::Name(name)) => {
                                refused_topic(wire, &refusal).with_name(Some(to_topic_name(&name)))
                            }
                            (Err(refusal), TopicRef::Id(id)) => {
                                refused_topic(wire, &refusal).with_topic_id(to_uuid(id)).with_name(None)
                            }
                        }
                    })
                    .collect(),
            ),
        ),
        ControllerResponse::CreatePartitions(results) => Response::CreatePartitions(
            CreatePartitionsResponse::default().with_results(
                results
                    .into_iter()
                    .map(|(name, result)| {
                        let wire = create_partitions_response::CreatePartitionsTopicResult::default()
                            .with_name(to_topic_name(&name));
                        match result {
                            Ok(()) => wire.with_error_message(None),
                            Err(refusal) => {
                                wire.with_error_code(refusal.error.code()).with_error_message(message(&refusal))
                            }
                        }
                    })
                    .collect(),
            ),
        ),
        ControllerResponse::AlterPartition(results) => Response::AlterPartition(altered(results)),
        ControllerResponse::AllocateProducerIds { first, count } => Response::AllocateProducerIds(
            AllocateProducerIdsResponse::default()
                .with_producer_id_start(broker_wire::messages::ProducerId(first.0))
                .with_producer_id_len(count),
        ),
        ControllerResponse::IncrementalAlterConfigs(results) => Response::IncrementalAlterConfigs(
            IncrementalAlterConfigsResponse::default().with_responses(
                results
                    .into_iter()
                    .map(|(resource, result)| {
                        let wire = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                            .with_resource_type(resource.kind as i8)
                            .with_resource_name(text(&resource.name));
                        match result {
                            Ok(()) => wire.with_error_message(None),
                            Err(refusal) => {
                                wire.with_error_code(refusal.error.code()).with_error_message(message(&refusal))
                            }
                        }
                    })
                    .collect(),
            ),
        ),
        // Partitions come by id here and go by name there; the broker that forwards puts names in its place when the
        // election is asked for by clients. Until then only the controller's own timer elects.
        ControllerResponse::ElectLeaders(_) => Response::ElectLeaders(
            ElectLeadersResponse::default()
                .with_replica_election_results(Vec::<elect_leaders_response::ReplicaElectionResult>::new()),
        ),
    }
}

fn refused_topic(
    wire: delete_topics_response::DeletableTopicResult,
    refusal: &Refusal,
) -> delete_topics_response::DeletableTopicResult {
    wire.with_error_code(refusal.error.code()).with_error_message(message(refusal))
}

fn altered(
    results: Vec<(TopicIdPartition, Result<broker_core::controller::AlteredPartition, ErrorCode>)>,
) -> AlterPartitionResponse {
    let mut topics: Vec<alter_partition_response::TopicData> = Vec::new();
    for (partition, result) in results {
        let id = to_uuid(partition.topic);
        if topics.last().is_none_or(|topic| topic.topic_id != id) {
            topics.push(alter_partition_response::TopicData::default().with_topic_id(id));
        }
        let wire = alter_partition_response::PartitionData::default().with_partition_index(partition.partition);
        let wire = match result {
            Ok(now) => wire
                .with_leader_id(to_broker_id(now.leader))
                .with_leader_epoch(now.leader_epoch.0)
                .with_isr(to_broker_ids(&now.isr))
                .with_leader_recovery_state(now.recovery.code())
                .with_partition_epoch(now.partition_epoch.0),
            Err(error) => wire.with_error_code(error.code()),
        };
        topics.last_mut().expect("just pushed").partitions.push(wire);
    }
    AlterPartitionResponse::default().with_topics(topics)
}

/// The whole request is refused: the error goes where that API has a place for it, else to each item.
pub(crate) fn refused(request: &Request, refusal: &Refusal) -> Response {
    let code = refusal.error.code();
    match request {
        Request::BrokerRegistration(_) => Response::BrokerRegistration(
            BrokerRegistrationResponse::default().with_error_code(code).with_broker_epoch(-1),
        ),
        Request::BrokerHeartbeat(_) => {
            Response::BrokerHeartbeat(BrokerHeartbeatResponse::default().with_error_code(code).with_is_fenced(true))
        }
        Request::UnregisterBroker(_) => Response::UnregisterBroker(
            UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message(refusal)),
        ),
        Request::ControllerRegistration(_) => Response::ControllerRegistration(
            ControllerRegistrationResponse::default().with_error_code(code).with_error_message(message(refusal)),
        ),
        Request::CreateTopics(body) => granted(ControllerResponse::CreateTopics(
            body.topics.iter().map(|topic| (from_topic_name(&topic.name), Err(refusal.clone()))).collect(),
        )),
        Request::DeleteTopics(body) => granted(ControllerResponse::DeleteTopics(
            body.topics
                .iter()
                .map(|topic| match &topic.name {
                    Some(name) => TopicRef::Name(from_topic_name(name)),
                    None => TopicRef::Id(from_uuid(topic.topic_id)),
                })
                .chain(body.topic_names.iter().map(|name| TopicRef::Name(from_topic_name(name))))
                .map(|topic| (topic, Err(refusal.clone())))
                .collect(),
        )),
        Request::CreatePartitions(body) => granted(ControllerResponse::CreatePartitions(
            body.topics.iter().map(|topic| (from_topic_name(&topic.name), Err(refusal.clone()))).collect(),
        )),
        Request::AllocateProducerIds(_) => {
            Response::AllocateProducerIds(AllocateProducerIdsResponse::default().with_error_code(code))
        }
        Request::IncrementalAlterConfigs(body) => Response::IncrementalAlterConfigs(
            IncrementalAlterConfigsResponse::default().with_responses(
                body.resources
                    .iter()
                    .map(|resource| {
                        incremental_alter_configs_response::AlterConfigsResourceResponse::default()
                            .with_resource_type(resource.resource_type)
                            .with_resource_name(resource.resource_name.clone())
                            .with_error_code(code)
                            .with_error_message(message(refusal))
                    })
                    .collect(),
            ),
        ),
        _ => Response::AlterPartition(AlterPartitionResponse::default().with_error_code(code)),
    }
}

/// Whether an answer says that the one asked is not the active controller.
pub(crate) fn is_not_controller(response: &Response) -> bool {
    let code = match response {
        Response::BrokerRegistration(body) => body.error_code,
        Response::BrokerHeartbeat(body) => body.error_code,
        Response::UnregisterBroker(body) => body.error_code,
        Response::ControllerRegistration(body) => body.error_code,
        Response::CreateTopics(body) => body.topics.first().map_or(0, |topic| topic.error_code),
        Response::DeleteTopics(body) => body.responses.first().map_or(0, |topic| topic.error_code),
        Response::CreatePartitions(body) => body.results.first().map_or(0, |topic| topic.error_code),
        Response::AlterPartition(body) => body.error_code,
        Response::AllocateProducerIds(body) => body.error_code,
        Response::IncrementalAlterConfigs(body) => body.responses.first().map_or(0, |resource| resource.error_code),
        _ => 0,
    };
    code == ErrorCode::NotController.code()
}

/// The version in which our nodes ask each other.
pub(crate) fn version(request: &Request) -> i16 {
    request.api_key().versions().max
}

/// An offset as the heartbeat tells it.
pub(crate) fn heartbeat_offset(applied: Option<Offset>) -> i64 {
    broker_wire::messages::convert::to_offset(applied)
}
