//! Whole messages: header and body, from a frame and into one.

use super::guarded::Guarded;
use super::{ApiKey, Request, Response, StrBytes};
use crate::api_versions::{self, Listener};
use crate::error::WireError;
use bytes::{BufMut, Bytes, BytesMut};
use proto_kafka::error::ProtoError;
use proto_kafka::messages::{RequestHeader as RequestHeaderBytes, ResponseHeader as ResponseHeaderBytes};
use proto_kafka::protocol::{Decodable, Encodable};

/// What stands in front of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// The API asked.
    pub api_key: ApiKey,
    /// At which version: always one that the codec has.
    pub api_version: i16,
    /// What the response must repeat.
    pub correlation_id: i32,
    /// `client.id`, as the client says. A slice of the frame.
    pub client_id: Option<StrBytes>,
}

/// Reads one request from a whole frame, as `listener` takes it.
///
/// # Errors
/// Everything in [`WireError`] but the unencodable and the trailing bytes. Only [`WireError::api_versions_fallback`] has an answer.
pub fn decode_request(listener: Listener, frame: Bytes) -> Result<(RequestHeader, Request), WireError> {
    let (api_key, api_version, correlation_id) = peek_header(&frame)?;
    if !api_versions::is_served(listener, api_key) {
        return Err(WireError::NotOnThisListener { api_key, api_version, correlation_id });
    }
    if !api_key.versions().contains(api_version) {
        return Err(WireError::UnsupportedVersion { api_key, api_version, correlation_id });
    }
    let mut from = Guarded::request(frame);
    let header = RequestHeaderBytes::decode(&mut from, api_key.request_header_version(api_version))
        .map_err(|error| malformed(&from, api_key, api_version, &error))?;
    let body = Request::decode(api_key, &mut from, api_version)
        .map_err(|error| malformed(&from, api_key, api_version, &error))?;
    // Bytes after the body are passed over, as Kafka does: librdkafka 2.16 leaves three when it asks for the metadata
    // of all topics.
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id: header.client_id }, body))
}

/// Reads one response from a whole frame: its correlation id and its body. The asker knows what it asked.
///
/// # Errors
/// A version that the codec lacks, a malformed body, or bytes after it.
pub fn decode_response(api_key: ApiKey, api_version: i16, frame: Bytes) -> Result<(i32, Response), WireError> {
    check_version(api_key, api_version)?;
    let mut from = Guarded::response(frame);
    let header = ResponseHeaderBytes::decode(&mut from, api_key.response_header_version(api_version))
        .map_err(|error| malformed(&from, api_key, api_version, &error))?;
    let body = Response::decode(api_key, &mut from, api_version)
        .map_err(|error| malformed(&from, api_key, api_version, &error))?;
    must_be_over(&from, api_key, api_version)?;
    Ok((header.correlation_id, body))
}

/// The correlation id of a response frame, to find out what it answers. `None` if the frame is too short to have one.
#[must_use]
pub fn response_correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|id| i32::from_be_bytes(*id))
}

/// Writes one request as a whole frame, length prefix included, in one allocation.
///
/// # Errors
/// [`WireError::UnsupportedVersion`] and [`WireError::Unencodable`].
pub fn encode_request(
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&StrBytes>,
    request: &Request,
) -> Result<Bytes, WireError> {
    let api_key = request.api_key();
    let header = request_header(api_key, api_version, correlation_id, client_id);
    encode(api_key, api_version, &header, api_key.request_header_version(api_version), request)
}

/// Writes one response as a whole frame, length prefix included, in one allocation.
///
/// # Errors
/// [`WireError::UnsupportedVersion`] and [`WireError::Unencodable`].
pub fn encode_response(api_version: i16, correlation_id: i32, response: &Response) -> Result<Bytes, WireError> {
    let api_key = response.api_key();
    let header = ResponseHeaderBytes::default().with_correlation_id(correlation_id);
    encode(api_key, api_version, &header, api_key.response_header_version(api_version), response)
}

/// A request header as bytes, without length prefix.
pub(crate) fn encode_request_header(
    into: &mut BytesMut,
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&StrBytes>,
) -> Result<(), WireError> {
    request_header(api_key, api_version, correlation_id, client_id)
        .encode(into, api_key.request_header_version(api_version))
        .map_err(|error| unencodable(api_key, api_version, &error))
}

/// Refuses a version that the codec lacks.
pub(crate) fn check_version(api_key: ApiKey, api_version: i16) -> Result<(), WireError> {
    if api_key.versions().contains(api_version) {
        Ok(())
    } else {
        Err(WireError::UnsupportedVersion { api_key, api_version, correlation_id: 0 })
    }
}

/// A body that the codec can measure and write.
pub(super) trait Body {
    /// Bytes of the body; an error if the version cannot say it.
    fn size(&self, version: i16) -> Result<usize, ProtoError>;
    /// Appends the body.
    fn write(&self, into: &mut BytesMut, version: i16) -> Result<(), ProtoError>;
}

fn encode(
    api_key: ApiKey,
    api_version: i16,
    header: &impl Encodable,
    header_version: i16,
    body: &impl Body,
) -> Result<Bytes, WireError> {
    check_version(api_key, api_version)?;
    let failed = |error| unencodable(api_key, api_version, &error);
    let size = header.compute_size(header_version).map_err(failed)? + body.size(api_version).map_err(failed)?;
    let prefix = frame_length(api_key, api_version, size)?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(prefix);
    header.encode(&mut frame, header_version).map_err(failed)?;
    body.write(&mut frame, api_version).map_err(failed)?;
    // A message that was decoded from a peer's bytes may hold unknown tags above 2^31, which the codec measures and
    // counts but does not write: it would lie about its own tags.
    if frame.len() != 4 + size {
        let detail = format!("{} bytes written, {size} measured", frame.len() - 4);
        return Err(WireError::Unencodable { api_key, api_version, detail });
    }
    Ok(frame.freeze())
}

/// `size` as a length prefix.
pub(crate) fn frame_length(api_key: ApiKey, api_version: i16, size: usize) -> Result<i32, WireError> {
    i32::try_from(size).map_err(|_| WireError::Unencodable {
        api_key,
        api_version,
        detail: format!("{size} bytes in one frame"),
    })
}

fn request_header(
    api_key: ApiKey,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&StrBytes>,
) -> RequestHeaderBytes {
    RequestHeaderBytes::default()
        .with_request_api_key(api_key.code())
        .with_request_api_version(api_version)
        .with_correlation_id(correlation_id)
        .with_client_id(client_id.cloned())
}

/// The first eight bytes, which are the same in every header version.
fn peek_header(frame: &[u8]) -> Result<(ApiKey, i16, i32), WireError> {
    let Some([k0, k1, v0, v1, id @ ..]) = frame.first_chunk::<8>() else {
        return Err(WireError::ShortHeader { len: frame.len() });
    };
    let api_version = i16::from_be_bytes([*v0, *v1]);
    let correlation_id = i32::from_be_bytes(*id);
    let code = i16::from_be_bytes([*k0, *k1]);
    match ApiKey::from_code(code) {
        Some(api_key) => Ok((api_key, api_version, correlation_id)),
        None => Err(WireError::UnknownApiKey { api_key: code, api_version, correlation_id }),
    }
}

fn must_be_over(from: &Guarded, api_key: ApiKey, api_version: i16) -> Result<(), WireError> {
    match from.left() {
        0 => Ok(()),
        count => Err(WireError::TrailingBytes { api_key, api_version, count }),
    }
}

fn malformed(from: &Guarded, api_key: ApiKey, api_version: i16, error: &ProtoError) -> WireError {
    if from.is_spent() {
        WireError::TooManyFields { api_key, api_version }
    } else {
        WireError::Malformed { api_key, api_version, detail: error.to_string() }
    }
}

fn unencodable(api_key: ApiKey, api_version: i16, error: &ProtoError) -> WireError {
    WireError::Unencodable { api_key, api_version, detail: error.to_string() }
}
