//! Targets for fuzzers: any bytes in, no panic, and no memory that the bytes did not pay for.

use crate::messages::{ApiKey, decode_request, decode_response, encode_request, encode_response};
use crate::records::control::ControlRecord;
use crate::{Listener, frame};
use bytes::{Bytes, BytesMut};

/// The bytes as a request frame, on both listeners. What decodes must encode again, and decode to the same.
pub fn fuzz_decode_request(bytes: &[u8]) {
    let frame = Bytes::copy_from_slice(bytes);
    for listener in [Listener::Broker, Listener::Controller] {
        match decode_request(listener, frame.clone()) {
            Err(error) => assert!(!error.reason().is_empty()),
            Ok((header, request)) => {
                let client_id = header.client_id.as_ref();
                // A body may decode and yet hold what its version must not say; that is for the encoder to refuse.
                if let Ok(again) = encode_request(header.api_version, header.correlation_id, client_id, &request) {
                    let (header_again, request_again) =
                        decode_request(listener, again.slice(frame::PREFIX..)).expect("what we wrote decodes");
                    assert_eq!((header_again, request_again), (header, request));
                }
            }
        }
    }
}

/// The first two bytes choose API and version, the rest is a response frame.
pub fn fuzz_decode_response(bytes: &[u8]) {
    let [key, version, frame @ ..] = bytes else { return };
    let api_key = ApiKey::ALL[usize::from(*key) % ApiKey::ALL.len()];
    let range = api_key.versions();
    let versions = range.max - range.min + 1;
    let version = range.min + i16::from(*version) % versions;
    if let Ok((id, response)) = decode_response(api_key, version, Bytes::copy_from_slice(frame))
        && let Ok(again) = encode_response(version, id, &response)
    {
        let (id_again, response_again) =
            decode_response(api_key, version, again.slice(frame::PREFIX..)).expect("what we wrote decodes");
        assert_eq!((id_again, response_again), (id, response));
    }
}

/// The bytes as a stream of frames of at most 64 KiB, arriving in pieces whose sizes the bytes choose too.
pub fn fuzz_frame(bytes: &[u8]) {
    const MAX: usize = 1 << 16;
    let mut reader = frame::FrameReader::new(MAX);
    let mut whole = BytesMut::from(bytes);
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece = rest.len().min(usize::from(rest[0]) + 1);
        reader.room().extend_from_slice(&rest[..piece]);
        rest = &rest[piece..];
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => assert_eq!(frame::next_frame(&mut whole, MAX), Ok(Some(frame))),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(frame::next_frame(&mut whole, MAX), Err(error));
                    return;
                }
            }
        }
    }
    assert_eq!(frame::next_frame(&mut whole, MAX), Ok(None));
}

/// The first byte says where the key ends and the value begins.
pub fn fuzz_control_record(bytes: &[u8]) {
    let [split, rest @ ..] = bytes else { return };
    let (key, value) = rest.split_at(usize::from(*split).min(rest.len()));
    if let Ok(record) = ControlRecord::decode(key, value)
        && !matches!(record, ControlRecord::Other { .. })
    {
        let (key, value) = record.encode();
        assert_eq!(ControlRecord::decode(&key, &value), Ok(record));
    }
}
