//! What can be wrong with a message.

use crate::messages::ApiKey;

/// Why bytes are no message, or a message has no bytes.
///
/// All of them close the connection, as in Kafka, except the one of [`WireError::api_versions_fallback`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The frame ends within the first eight bytes: API key, version, correlation id.
    #[error("a frame of {len} bytes holds no header")]
    ShortHeader {
        /// Bytes in the frame.
        len: usize,
    },
    /// No API in use has this key.
    #[error("unknown API key {api_key} (version {api_version})")]
    UnknownApiKey {
        /// The key.
        api_key: i16,
        /// The version asked for.
        api_version: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
    /// The API exists, but not where the request came in.
    #[error("{api_key} is not served on this listener")]
    NotOnThisListener {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        api_version: i16,
        /// The request's correlation id.
        correlation_id: i32,
    },
    /// The API is known, the version is not.
    #[error("{api_key} has no version {api_version} here")]
    UnsupportedVersion {
        /// The API.
        api_key: ApiKey,
        /// The version asked for.
        api_version: i16,
        /// The request's correlation id; of no meaning when encoding.
        correlation_id: i32,
    },
    /// The bytes do not follow the API's schema.
    #[error("malformed {api_key} version {api_version}: {detail}")]
    Malformed {
        /// The API.
        api_key: ApiKey,
        /// The version.
        api_version: i16,
        /// What was wrong first.
        detail: String,
    },
    /// The message has more fields than any honest one; see [`crate::messages`].
    #[error("{api_key} version {api_version} has too many fields")]
    TooManyFields {
        /// The API.
        api_key: ApiKey,
        /// The version.
        api_version: i16,
    },
    /// The message ended before its frame did.
    #[error("{count} bytes follow {api_key} version {api_version}")]
    TrailingBytes {
        /// The API.
        api_key: ApiKey,
        /// The version.
        api_version: i16,
        /// Bytes left over.
        count: usize,
    },
    /// Our own message cannot be said in this version: a field that the version lacks, or a string too long for it.
    #[error("{api_key} version {api_version} cannot say this: {detail}")]
    Unencodable {
        /// The API.
        api_key: ApiKey,
        /// The version.
        api_version: i16,
        /// What was wrong first.
        detail: String,
    },
    /// A control record that does not follow its schema.
    #[error("malformed control record: {detail}")]
    MalformedControlRecord {
        /// What was wrong.
        detail: String,
    },
}

impl WireError {
    /// A name to count by. Stable; lower case, words joined by hyphens.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            WireError::ShortHeader { .. } => "short-header",
            WireError::UnknownApiKey { .. } => "unknown-api-key",
            WireError::NotOnThisListener { .. } => "api-not-on-this-listener",
            WireError::UnsupportedVersion { .. } => "unsupported-version",
            WireError::Malformed { .. } => "malformed-message",
            WireError::TooManyFields { .. } => "too-many-fields",
            WireError::TrailingBytes { .. } => "trailing-bytes",
            WireError::Unencodable { .. } => "unencodable-message",
            WireError::MalformedControlRecord { .. } => "malformed-control-record",
        }
    }

    /// The correlation id to answer with [`crate::api_versions::encode_unsupported_version`], if this is an ApiVersions
    /// request of a version that we lack (KIP-511). Any other error closes the connection.
    #[must_use]
    pub fn api_versions_fallback(&self) -> Option<i32> {
        match *self {
            WireError::UnsupportedVersion { api_key: ApiKey::ApiVersions, correlation_id, .. } => Some(correlation_id),
            _ => None,
        }
    }
}
