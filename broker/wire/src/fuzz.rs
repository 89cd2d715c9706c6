//! Targets for fuzzers: any bytes in, no panic, and no memory that the bytes did not pay for.

use crate::messages::{ApiKey, decode_request, decode_response, encode_request, encode_response};
use crate::record_batch::{HEADER_LEN, LOG_OVERHEAD, RecordBatch, split_batches, split_fetched_batches};
use crate::records::control::ControlRecord;
use crate::records::metadata::MetadataRecord;
use crate::{Listener, frame};
use broker_types::{LeaderEpoch, Offset};
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

/// Largest content of a compressed batch that the target looks into.
pub const DECOMPRESSED_MAX_BYTES: usize = 64 << 10;

/// The bytes as record batches: as they are, and with magic, length and CRC put right, so that what is inside is
/// reached too.
pub fn fuzz_record_batch(bytes: &[u8]) {
    let whole = Bytes::copy_from_slice(bytes);
    let fetched = split_fetched_batches(whole.clone());
    match split_batches(whole.clone()) {
        Ok(batches) => {
            assert_eq!(batches.iter().map(RecordBatch::size).sum::<usize>(), bytes.len());
            assert_eq!(fetched.as_ref(), Ok(&batches));
            batches.into_iter().for_each(|batch| look_into(&batch));
        }
        Err(error) => drop(error.code()),
    }
    if bytes.len() >= HEADER_LEN {
        let mut mended = bytes.to_vec();
        let length = i32::try_from(bytes.len() - LOG_OVERHEAD).expect("a fuzzer's input is small");
        mended[8..12].copy_from_slice(&length.to_be_bytes());
        mended[16] = 2;
        let crc = crc_fast::crc32_iscsi(&mended[21..]);
        mended[17..21].copy_from_slice(&crc.to_be_bytes());
        if let Ok(batch) = RecordBatch::parse(mended.into()) {
            look_into(&batch);
        }
    }
}

fn look_into(batch: &RecordBatch) {
    let is_good = batch.validate_deep(DECOMPRESSED_MAX_BYTES).is_ok();
    let records = batch.records(DECOMPRESSED_MAX_BYTES);
    if is_good {
        let records: Vec<_> = records.expect("it was looked into").collect();
        let count = usize::try_from(batch.header().record_count).expect("not negative");
        assert!(records.len() == count && records.iter().all(Result::is_ok), "{:?}", batch.header());
    } else if let Ok(records) = records {
        // Ends after the first error, at the latest.
        assert!(records.take_while(Result::is_ok).count() <= batch.header().record_count as usize);
    }
    let produced = batch.validate_produced().is_ok();
    assert!(!produced || batch.summary().record_count > 0);
    let again = batch.clone().with_offset(Offset(7), LeaderEpoch(3));
    assert_eq!((again.header().base_offset, again.header().leader_epoch), (7, 3));
}

/// The bytes as the value of a record of the metadata log.
pub fn fuzz_metadata_record(bytes: &[u8]) {
    if let Ok(record) = MetadataRecord::decode(&Bytes::copy_from_slice(bytes)) {
        let mut again = BytesMut::new();
        record.encode(&mut again);
        assert_eq!(MetadataRecord::decode(&again.freeze()), Ok(record));
    }
}
