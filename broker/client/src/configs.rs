//! Requests about topics' configurations.

use crate::admin::{Admin, Verdict, message};
use crate::error::ClientError;
use broker_types::{ErrorCode, NodeId, TopicName};
use broker_wire::messages::convert::{from_error_code, text};
use broker_wire::messages::describe_configs_request::DescribeConfigsResource;
use broker_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use broker_wire::messages::{ApiKey, DescribeConfigsRequest, IncrementalAlterConfigsRequest, Request, Response};

/// The code of topics among resources.
const TOPIC: i8 = 2;
/// IncrementalAlterConfigs: the value is set.
const SET: i8 = 0;
/// IncrementalAlterConfigs: the default is in force again.
const DELETE: i8 = 1;

/// One configuration of a topic, as one broker knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// The value in force, set or default; `None` if it has none, or must not be shown.
    pub value: Option<String>,
    /// Who answered; negative for a bootstrap server, which is only known by its number: the first is -1.
    pub served_by: NodeId,
}

impl Admin {
    /// Sets one configuration of a topic (KIP-339); `None` for its default again.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG and the like; when time runs out, the last reason.
    pub async fn set_topic_config(&self, name: &TopicName, key: &str, value: Option<&str>) -> Result<(), ClientError> {
        let make = |_| {
            let config = AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { SET } else { DELETE })
                .with_value(value.map(text));
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name.as_str()))
                .with_configs(vec![config]);
            Request::IncrementalAlterConfigs(IncrementalAlterConfigsRequest::default().with_resources(vec![resource]))
        };
        let read = |_, response| match response {
            Response::IncrementalAlterConfigs(told) => {
                let result = told.responses.into_iter().next()?;
                Some(match from_error_code(result.error_code) {
                    ErrorCode::None => Verdict::Done(()),
                    code => Verdict::Refused(code, message(result.error_message)),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::IncrementalAlterConfigs, make, read).await
    }

    /// What a configuration of a topic is, as some broker knows it now.
    ///
    /// # Errors
    /// UNKNOWN_TOPIC_OR_PARTITION if that broker does not know it; INVALID_CONFIG if a topic has no such key; when time runs
    /// out, the last reason.
    pub async fn topic_config(&self, name: &TopicName, key: &str) -> Result<TopicConfig, ClientError> {
        let make = |_| {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(name.as_str()))
                .with_configuration_keys(Some(vec![text(key)]));
            Request::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![resource]))
        };
        let read = |served_by, response| match response {
            Response::DescribeConfigs(told) => {
                let result = told.results.into_iter().next()?;
                Some(match from_error_code(result.error_code) {
                    ErrorCode::None => match result.configs.into_iter().find(|config| config.name.as_str() == key) {
                        Some(config) => {
                            Verdict::Done(TopicConfig { value: config.value.map(|value| value.to_string()), served_by })
                        }
                        None => Verdict::Refused(ErrorCode::InvalidConfig, format!("topics have no {key}")),
                    },
                    code => Verdict::Refused(code, message(result.error_message)),
                })
            }
            _ => None,
        };
        self.ask_any(ApiKey::DescribeConfigs, make, read).await
    }
}
