//! Bytes to typed requests, replies and records, and back.
//!
//! - [`frame`]: the length-prefixed frames of a connection, bounded by what has arrived.
//! - [`messages`]: every request and response in use, decoded and encoded at the versions of [`api_versions`]. The codec
//!   crate behind it is named nowhere else; its `-1` and its `Option` end in [`messages::convert`].
//! - [`fetch_response`] and [`produce_request`]: the two messages that are not built in one buffer, because their records
//!   leave as they lie on disk or in the producer's accumulator.
//! - [`record_batch`]: records, as opaque checked batches.
//! - [`records`]: what our own logs hold, byte for byte as Kafka writes it.
//!
//! Bytes of a peer never panic this crate, and never make it allocate more than a bounded multiple of their number;
//! [`WireError`] and [`frame::FrameError`] carry a stable reason to count by.

pub mod api_versions;
mod error;
pub mod fetch_response;
pub mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod messages;
pub mod produce_request;
pub mod record_batch;
pub mod records;
mod spliced;

pub use api_versions::Listener;
pub use error::WireError;
pub use frame::next_frame;
pub use messages::{
    ApiKey, Request, RequestHeader, Response, decode_request, decode_response, encode_request, encode_response,
};
pub use spliced::Segment;
