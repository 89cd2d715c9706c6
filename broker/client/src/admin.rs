//! Requests about the cluster and its topics.
//!
//! Any broker can be asked: it forwards what is the controller's. Each call tries again, with backoff, until it gets a
//! lasting answer, `retries` are used up or `default.api.timeout.ms` is over. An error is definite only if every attempt
//! was: a topic that "already exists" after a lost answer may be the one that the lost request created.

use crate::backoff::Backoff;
use crate::client::{Client, read_metadata};
use crate::connection::CallError;
use crate::consumer::IsolationLevel;
use crate::error::{ClientError, Outcome};
use crate::metadata_cache::{NodeAddress, TopicMetadata};
use crate::signal::lock;
use broker_types::{ErrorCode, LeaderEpoch, MonoTime, NodeId, Offset, TopicId, TopicName, TopicPartition};
use broker_wire::messages::convert::{
    from_broker_id, from_error_code, from_leader_epoch, from_offset, from_optional_uuid, text, to_leader_epoch,
    to_topic_name,
};
use broker_wire::messages::create_partitions_request::CreatePartitionsTopic;
use broker_wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use broker_wire::messages::delete_topics_request::DeleteTopicState;
use broker_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use broker_wire::messages::metadata_request::MetadataRequestTopic;
use broker_wire::messages::{
    ApiKey, BrokerId as WireBrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeClusterRequest, ListOffsetsRequest, MetadataRequest, Request, Response, StrBytes,
};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A topic to be created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// `None` for the broker's default.
    pub partitions: Option<i32>,
    /// `None` for the broker's default.
    pub replication_factor: Option<i16>,
    /// Replicas by partition, preferred leader first; instead of the two numbers when not empty.
    pub assignment: BTreeMap<i32, Vec<NodeId>>,
    /// Topic configuration, with Kafka's keys.
    pub config: BTreeMap<String, String>,
}

/// A topic that was created.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    /// Its name.
    pub name: TopicName,
    /// Its id; `None` from brokers before 2.8.
    pub id: Option<TopicId>,
}

/// The cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterDescription {
    /// `cluster.id`.
    pub cluster_id: Option<String>,
    /// Whom the broker names as controller. Under KRaft that is any live broker.
    pub controller: Option<NodeId>,
    /// Live brokers.
    pub nodes: BTreeMap<NodeId, NodeAddress>,
}

/// A topic as one broker knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Id and partitions.
    pub metadata: TopicMetadata,
}

/// Which offset is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark, or the last stable offset with READ_COMMITTED.
    Latest,
    /// The first record with this timestamp (milliseconds) or a later one.
    Timestamp(i64),
}

/// An offset that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    /// `None` if no record is as late as the timestamp.
    pub offset: Option<Offset>,
    /// The record's timestamp, when asked by timestamp.
    pub timestamp: Option<i64>,
    /// The epoch of the record, or of the leader for an end.
    pub leader_epoch: Option<LeaderEpoch>,
    /// Who answered.
    pub served_by: NodeId,
}

/// See the module.
pub struct Admin {
    client: Client,
    backoff: Mutex<Backoff>,
}

/// One call's attempts.
struct Attempts {
    deadline: MonoTime,
    failures: u32,
    /// Some attempt may have had an effect.
    doubtful: bool,
}

/// What one attempt's answer says.
pub(crate) enum Verdict<T> {
    Done(T),
    /// Refused; whether the refusal came surely before any effect.
    Refused(ErrorCode, String),
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        let config = &client.core.config;
        let rng = client.core.env.entropy("client/admin");
        let backoff = Backoff::new(config.retry_backoff, config.retry_backoff_max, rng);
        Admin { backoff: Mutex::new(backoff), client }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// TOPIC_ALREADY_EXISTS, INVALID_REPLICATION_FACTOR, INVALID_CONFIG and the like; when time runs out, the last reason.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let created = self.ask_for_topic(topic, false).await?;
        self.client.refresh_metadata();
        Ok(created)
    }

    /// Asks whether a topic could be created, and creates none (`validate_only`).
    ///
    /// # Errors
    /// As [`Admin::create_topic`].
    pub async fn validate_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        self.ask_for_topic(topic, true).await.map(drop)
    }

    async fn ask_for_topic(&self, topic: &NewTopic, validate_only: bool) -> Result<CreatedTopic, ClientError> {
        let timeout_ms = self.timeout_ms();
        let make = |_| {
            let assignments = topic.assignment.iter().map(|(partition, replicas)| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(*partition)
                    .with_broker_ids(replicas.iter().map(|node| WireBrokerId(node.0)).collect())
            });
            let configs = topic
                .config
                .iter()
                .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
            let explicit = !topic.assignment.is_empty();
            let wanted = CreatableTopic::default()
                .with_name(to_topic_name(&topic.name))
                .with_num_partitions(if explicit { -1 } else { topic.partitions.unwrap_or(-1) })
                .with_replication_factor(if explicit { -1 } else { topic.replication_factor.unwrap_or(-1) })
                .with_assignments(assignments.collect())
                .with_configs(configs.collect());
            let body = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(timeout_ms);
            Request::CreateTopics(body.with_validate_only(validate_only))
        };
        let read = |_, response| match response {
            Response::CreateTopics(told) => {
                let result = told.topics.into_iter().next()?;
                Some(match from_error_code(result.error_code) {
                    ErrorCode::None => Verdict::Done(CreatedTopic {
                        name: topic.name.clone(),
                        id: from_optional_uuid(result.topic_id),
                    }),
                    code => Verdict::Refused(code, message(result.error_message)),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::CreateTopics, make, read).await
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION and the like; when time runs out, the last reason.
    pub async fn delete_topic(&self, name: &TopicName) -> Result<(), ClientError> {
        let timeout_ms = self.timeout_ms();
        let make = |version| {
            let body = DeleteTopicsRequest::default().with_timeout_ms(timeout_ms);
            let wire = to_topic_name(name);
            Request::DeleteTopics(if version >= 6 {
                body.with_topics(vec![DeleteTopicState::default().with_name(Some(wire))])
            } else {
                body.with_topic_names(vec![wire])
            })
        };
        let read = |_, response| match response {
            Response::DeleteTopics(told) => {
                let result = told.responses.into_iter().next()?;
                Some(match from_error_code(result.error_code) {
                    ErrorCode::None => Verdict::Done(()),
                    // Not there is a lasting answer here.
                    code => Verdict::Refused(code, message(result.error_message)),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::DeleteTopics, make, read).await
    }

    /// Raises a topic's number of partitions to `count`.
    ///
    /// # Errors
    /// INVALID_PARTITIONS if it has as many already; when time runs out, the last reason.
    pub async fn create_partitions(&self, name: &TopicName, count: i32) -> Result<(), ClientError> {
        self.ask_for_partitions(name, count, false).await?;
        self.client.refresh_metadata();
        Ok(())
    }

    /// Asks whether a topic's number of partitions could be raised to `count`, and raises nothing (`validate_only`).
    ///
    /// # Errors
    /// As [`Admin::create_partitions`].
    pub async fn validate_partitions(&self, name: &TopicName, count: i32) -> Result<(), ClientError> {
        self.ask_for_partitions(name, count, true).await
    }

    async fn ask_for_partitions(&self, name: &TopicName, count: i32, validate_only: bool) -> Result<(), ClientError> {
        let timeout_ms = self.timeout_ms();
        let make = |_| {
            let topic = CreatePartitionsTopic::default()
                .with_name(to_topic_name(name))
                .with_count(count)
                .with_assignments(None);
            let body = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms);
            Request::CreatePartitions(body.with_validate_only(validate_only))
        };
        let read = |_, response| match response {
            Response::CreatePartitions(told) => {
                let result = told.results.into_iter().next()?;
                Some(match from_error_code(result.error_code) {
                    ErrorCode::None => Verdict::Done(()),
                    code => Verdict::Refused(code, message(result.error_message)),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::CreatePartitions, make, read).await
    }

    /// Describes the cluster.
    ///
    /// # Errors
    /// When time runs out, the last reason.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let make = |_| Request::DescribeCluster(DescribeClusterRequest::default().with_endpoint_type(1));
        let read = |_, response| match response {
            Response::DescribeCluster(told) => Some(match from_error_code(told.error_code) {
                ErrorCode::None => {
                    let nodes = told.brokers.iter().filter_map(|broker| {
                        let address = NodeAddress {
                            host: broker.host.to_string(),
                            port: u16::try_from(broker.port).ok()?,
                            rack: broker.rack.as_ref().map(ToString::to_string),
                        };
                        Some((from_broker_id(broker.broker_id)?, address))
                    });
                    Verdict::Done(ClusterDescription {
                        cluster_id: Some(told.cluster_id.to_string()),
                        controller: from_broker_id(told.controller_id),
                        nodes: nodes.collect(),
                    })
                }
                code => Verdict::Refused(code, message(told.error_message)),
            }),
            _ => None,
        };
        self.ask_any(ApiKey::DescribeCluster, make, read).await
    }

    /// Describes a topic, as some broker knows it now; does not create it.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION at once if that broker does not know it; when time runs out, the last reason.
    pub async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, ClientError> {
        let make = |_| {
            let topic = MetadataRequestTopic::default().with_name(Some(to_topic_name(name)));
            let body = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
            Request::Metadata(body)
        };
        let read = |_, response| match response {
            Response::Metadata(told) => {
                let (name, topic) = read_metadata(&told).topics.into_iter().next()?;
                Some(match topic {
                    Ok(metadata) => Verdict::Done(TopicDescription { name, metadata }),
                    Err(code) => Verdict::Refused(code, String::new()),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::Metadata, make, read).await
    }

    /// Looks up an offset at the partition's leader.
    ///
    /// # Errors
    /// When time runs out, the last reason; definite, as nothing is changed.
    pub async fn list_offset(
        &self,
        partition: &TopicPartition,
        spec: OffsetSpec,
        isolation: IsolationLevel,
    ) -> Result<ListedOffset, ClientError> {
        let core = &self.client.core;
        core.want(&partition.topic);
        let mut attempts = self.attempts();
        let timestamp = match spec {
            OffsetSpec::Latest => -1,
            OffsetSpec::Earliest => -2,
            OffsetSpec::Timestamp(at) => at,
        };
        loop {
            let leader = {
                let cache = lock(&core.metadata);
                cache.partition(partition).and_then(|known| {
                    let node = known.leader?;
                    Some((node, cache.nodes().get(&node)?.clone(), known.leader_epoch))
                })
            };
            let Some((node, address, epoch)) = leader else {
                core.refresh_soon();
                self.pause(&mut attempts, ErrorCode::LeaderNotAvailable, String::new()).await?;
                continue;
            };
            let make = |_| {
                let part = ListOffsetsPartition::default()
                    .with_partition_index(partition.partition)
                    .with_current_leader_epoch(to_leader_epoch(epoch))
                    .with_timestamp(timestamp);
                let topic =
                    ListOffsetsTopic::default().with_name(to_topic_name(&partition.topic)).with_partitions(vec![part]);
                let body = ListOffsetsRequest::default()
                    .with_replica_id(WireBrokerId(-1))
                    .with_isolation_level(isolation.wire())
                    .with_topics(vec![topic]);
                Request::ListOffsets(body)
            };
            let code = match core.lane.call(node, &address, ApiKey::ListOffsets, attempts.deadline, make).await {
                Ok(Response::ListOffsets(told)) => {
                    let part = told.topics.first().and_then(|topic| topic.partitions.first());
                    match part.map(|part| (from_error_code(part.error_code), part)) {
                        Some((ErrorCode::None, part)) => {
                            return Ok(ListedOffset {
                                offset: from_offset(part.offset),
                                timestamp: (part.timestamp >= 0).then_some(part.timestamp),
                                leader_epoch: from_leader_epoch(part.leader_epoch),
                                served_by: node,
                            });
                        }
                        Some((code, _)) if !code.is_retriable() => return Err(ClientError::definite(code, "")),
                        Some((code, _)) => code,
                        None => ErrorCode::UnknownServerError,
                    }
                }
                Ok(_) => ErrorCode::UnknownServerError,
                Err(error) => error.code(),
            };
            core.refresh_soon();
            self.pause(&mut attempts, code, String::new()).await?;
        }
    }

    /// Asks any broker, again and again. `read` is told who answered.
    pub(crate) async fn ask_any<T>(
        &self,
        api: ApiKey,
        make: impl Fn(i16) -> Request,
        read: impl Fn(NodeId, Response) -> Option<Verdict<T>>,
    ) -> Result<T, ClientError> {
        let core = &self.client.core;
        let mut attempts = self.attempts();
        loop {
            let (code, detail) = match core.any_node(attempts.failures) {
                None => (ErrorCode::BrokerNotAvailable, "no bootstrap server".to_owned()),
                Some((node, address)) => {
                    // One attempt may not use up the time of the others.
                    let patience = core.env.mono() + core.config.request_timeout;
                    let deadline = attempts.deadline.min(patience);
                    match core.lane.call(node, &address, api, deadline, &make).await {
                        Ok(response) => match read(node, response) {
                            Some(Verdict::Done(done)) => return Ok(done),
                            Some(Verdict::Refused(code, detail)) => {
                                let passes = code.is_retriable() && code != ErrorCode::UnknownTopicOrPartition;
                                // The controller may have done it and not have been able to say so. One that lost its
                                // leadership meanwhile says NOT_CONTROLLER.
                                attempts.doubtful |= passes || code == ErrorCode::UnknownServerError;
                                if !passes {
                                    return Err(attempts.error(code, detail));
                                }
                                (code, detail)
                            }
                            None => {
                                attempts.doubtful = true;
                                (ErrorCode::UnknownServerError, "an answer to something else".to_owned())
                            }
                        },
                        Err(error) => {
                            attempts.doubtful |= !error.is_definite();
                            if error == CallError::Unsupported {
                                return Err(attempts.error(ErrorCode::UnsupportedVersion, api.name().to_owned()));
                            }
                            (error.code(), format!("{error:?}"))
                        }
                    }
                }
            };
            self.pause(&mut attempts, code, detail).await?;
        }
    }

    fn attempts(&self) -> Attempts {
        let core = &self.client.core;
        Attempts { deadline: core.env.mono() + core.config.default_api_timeout, failures: 0, doubtful: false }
    }

    /// Waits out the backoff; an error when there is to be no other attempt, or no time is left for it.
    async fn pause(&self, attempts: &mut Attempts, code: ErrorCode, detail: String) -> Result<(), ClientError> {
        let env = &self.client.core.env;
        if attempts.failures >= self.client.core.config.retries {
            return Err(attempts.error(code, detail));
        }
        let wait = lock(&self.backoff).delay(attempts.failures);
        attempts.failures += 1;
        if env.mono() + wait >= attempts.deadline {
            return Err(attempts.error(code, detail));
        }
        env.sleep(wait).await;
        Ok(())
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.client.core.config.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

impl Attempts {
    fn error(&self, code: ErrorCode, detail: String) -> ClientError {
        let outcome = if self.doubtful { Outcome::Indeterminate } else { Outcome::Definite };
        match outcome {
            Outcome::Definite => ClientError::definite(code, detail),
            Outcome::Indeterminate => ClientError::indeterminate(code, detail),
        }
    }
}

pub(crate) fn message(text: Option<StrBytes>) -> String {
    text.map(|text| text.to_string()).unwrap_or_default()
}
