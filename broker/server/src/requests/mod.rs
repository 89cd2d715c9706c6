//! One file for each family of APIs: take a request apart, ask a machine, put the answer together.

mod admin;
pub(crate) mod controller_api;
mod data;
pub(crate) use data::timestamp;
mod metadata;
mod quorum;
pub(crate) mod quorum_api;

use crate::net::admission::Hold;
use crate::node::{ListenerKind, Node};
use broker_env::File;
use broker_wire::messages::api_versions_response;
use broker_wire::messages::convert::text;
use broker_wire::{Request, RequestHeader, Response, WireError, api_versions, encode_response};
use bytes::Bytes;
use std::sync::Arc;

/// How a request is answered.
pub(crate) enum Reply {
    /// One frame in one piece.
    Frame(Bytes),
    /// One frame in several, in order.
    Parts(Vec<ReplyPart>),
    /// Nothing, as acks=0 wants it.
    Nothing,
    /// Not at all: the connection is closed for this reason.
    Close(&'static str),
}

/// A piece of a frame.
pub(crate) enum ReplyPart {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes of a file.
    File { file: Arc<dyn File>, position: u64, len: usize },
}

/// Answers one request. `hold` is let go once somebody has taken it up.
pub(crate) async fn handle(
    node: &Arc<Node>,
    kind: ListenerKind,
    header: &RequestHeader,
    request: Request,
    hold: Hold,
) -> Reply {
    match request {
        Request::Produce(body) => data::produce(node, header, body, hold).await,
        Request::Fetch(body) if kind == ListenerKind::Broker => data::fetch(node, header, body, hold).await,
        request => {
            // Whoever answers these has a queue of its own, and may keep them for long.
            drop(hold);
            // Boxed, because the largest of them is what every idle connection would keep room for.
            Box::pin(answer(node, kind, header, request)).await
        }
    }
}

async fn answer(node: &Arc<Node>, kind: ListenerKind, header: &RequestHeader, request: Request) -> Reply {
    let response = match request {
        Request::ListOffsets(body) => data::list_offsets(node, header.api_version, body).await,
        Request::OffsetForLeaderEpoch(body) => data::offset_for_leader_epoch(node, body).await,
        Request::DeleteRecords(body) => data::delete_records(node, body).await,
        Request::ApiVersions(body) => api_versions(node, kind, header, &body),
        Request::Metadata(body) => metadata::metadata(node, header, body).await,
        Request::DescribeCluster(body) => metadata::describe_cluster(node, kind, &body),
        Request::DescribeTopicPartitions(body) => metadata::describe_topic_partitions(node, &body),
        Request::DescribeConfigs(body) => admin::describe_configs(node, &body),
        Request::InitProducerId(body) => admin::init_producer_id(node, &body).await,
        Request::DescribeQuorum(body) => quorum::describe(node, kind, header.api_version, body).await,
        request @ (Request::Vote(_)
        | Request::BeginQuorumEpoch(_)
        | Request::EndQuorumEpoch(_)
        | Request::Fetch(_)
        | Request::FetchSnapshot(_)) => quorum::peer(node, request).await,
        request => match controller_api::to_controller(&request) {
            Some(asked) => admin::ask_controller(node, kind, header.api_version, request, asked).await,
            None => return Reply::Close("api-not-served"),
        },
    };
    frame(header, &response)
}

/// Encodes an answer.
fn frame(header: &RequestHeader, response: &Response) -> Reply {
    match encode_response(header.api_version, header.correlation_id, response) {
        Ok(bytes) => Reply::Frame(bytes),
        Err(error) => {
            tracing::error!(%error, "our own answer cannot be said");
            Reply::Close("unencodable-answer")
        }
    }
}

/// What becomes of bytes that are no request: ApiVersions of an unknown version is told what there is (KIP-511),
/// everything else costs the connection.
pub(crate) fn undecodable(_kind: ListenerKind, error: &WireError) -> Reply {
    match error.api_versions_fallback().map(api_versions::encode_unsupported_version) {
        Some(Ok(bytes)) => Reply::Frame(bytes),
        _ => Reply::Close(error.reason()),
    }
}

fn api_versions(
    node: &Node,
    kind: ListenerKind,
    header: &RequestHeader,
    _body: &broker_wire::messages::ApiVersionsRequest,
) -> Response {
    let mut response = api_versions::response(kind);
    if header.api_version >= 3 {
        let image = node.metadata.borrow();
        response.supported_features = vec![
            api_versions_response::SupportedFeatureKey::default()
                .with_name(text("metadata.version"))
                .with_min_version(7)
                .with_max_version(30),
        ];
        response.finalized_features_epoch = image.last_offset().map_or(-1, |offset| offset.0);
        response.finalized_features = image
            .features()
            .iter()
            .map(|(name, level)| {
                api_versions_response::FinalizedFeatureKey::default()
                    .with_name(text(name))
                    .with_min_version_level(*level)
                    .with_max_version_level(*level)
            })
            .collect();
    }
    Response::ApiVersions(response)
}
