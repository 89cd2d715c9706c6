use super::*;
use broker_types::{ErrorCode, ProducerEpoch, ProducerId, ProducerStamp};
use proptest::prelude::*;

const BOUND: usize = 1 << 20;

type Input = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<RecordHeader>);

fn build(codec: Compression, records: &[Input]) -> RecordBatch {
    let mut builder = RecordBatchBuilder::new(codec);
    for (timestamp, key, value, headers) in records {
        let before = builder.uncompressed_size();
        builder.push(*timestamp, key.as_deref(), value.as_deref(), headers).unwrap();
        let bound = RecordBatchBuilder::record_size_bound(key.as_deref(), value.as_deref(), headers);
        assert!(builder.uncompressed_size() - before <= bound);
    }
    builder.build().unwrap()
}

fn three(codec: Compression) -> RecordBatch {
    let twice = |value: Option<&'static [u8]>| RecordHeader {
        key: Bytes::from_static(b"trace"),
        value: value.map(Bytes::from_static),
    };
    build(
        codec,
        &[
            (1000, Some(b"k".to_vec()), Some(b"first".repeat(40)), vec![twice(Some(b"a")), twice(None)]),
            (999, None, Some(Vec::new()), vec![]),
            (1007, Some(Vec::new()), None, vec![]),
        ],
    )
}

/// The bytes with another value at `position` and the CRC made right again.
fn forge(batch: &RecordBatch, position: usize, bytes: &[u8]) -> Bytes {
    let mut forged = batch.bytes().to_vec();
    forged[position..position + bytes.len()].copy_from_slice(bytes);
    let crc = crc_fast::crc32_iscsi(&forged[ATTRIBUTES_AT..]);
    forged[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    forged.into()
}

/// A batch around these record bytes, with a right CRC, as a liar would make it.
fn around(records: &[u8], attributes: i16, last_offset_delta: i32, record_count: i32) -> Bytes {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(records);
    let mut header = *RecordBatchBuilder::new(Compression::None).build().unwrap().header();
    header.batch_length = (bytes.len() - LOG_OVERHEAD) as i32;
    (header.attributes, header.last_offset_delta, header.record_count) = (attributes, last_offset_delta, record_count);
    header.write(bytes.first_chunk_mut().unwrap());
    header.crc = crc_fast::crc32_iscsi(&bytes[ATTRIBUTES_AT..]);
    header.write(bytes.first_chunk_mut().unwrap());
    bytes.into()
}

#[test]
fn what_goes_in_comes_out_with_every_codec() {
    for codec in Compression::ALL {
        let batch = RecordBatch::parse(three(codec).into_bytes()).unwrap();
        batch.validate_deep(BOUND).unwrap();
        batch.validate_produced().unwrap();
        assert_eq!(batch.compression(), codec);
        let records: Vec<Record> = batch.records(BOUND).unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 3, "{codec:?}");
        assert_eq!(records[0].headers.len(), 2, "a header key may occur twice");
        assert_eq!(records[0].headers[1].value, None);
        assert_eq!(records[0].value.as_deref(), Some(&b"first".repeat(40)[..]));
        assert_eq!((records[1].timestamp, records[1].key.clone()), (999, None));
        assert_eq!(records[1].value, Some(Bytes::new()), "empty is not null");
        assert_eq!((records[2].offset, records[2].value.clone()), (Offset(2), None));
        let summary = batch.summary();
        assert_eq!((summary.base_timestamp, summary.max_timestamp), (1000, 1007));
        assert_eq!((summary.record_count, summary.last_offset_delta), (3, 2));
        assert_eq!((summary.leader_epoch, summary.producer), (None, None));
        assert_eq!(summary.size as usize, batch.bytes().len());
    }
}

#[test]
fn the_bytes_are_those_of_another_implementation() {
    use proto_kafka::records::{RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
    for (codec, theirs) in Compression::ALL.into_iter().zip([
        proto_kafka::records::Compression::None,
        proto_kafka::records::Compression::Gzip,
        proto_kafka::records::Compression::Snappy,
        proto_kafka::records::Compression::Lz4,
        proto_kafka::records::Compression::Zstd,
    ]) {
        let ours = three(codec);
        let decoded = RecordBatchDecoder::decode(&mut ours.bytes().clone()).unwrap();
        assert_eq!(decoded.records.len(), 3);
        let mut encoded = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: theirs };
        RecordBatchEncoder::encode(&mut encoded, decoded.records.iter(), &options).unwrap();
        let encoded = RecordBatch::parse(encoded.freeze()).unwrap();
        let (a, b): (Vec<_>, Vec<_>) =
            (ours.records(BOUND).unwrap().collect(), encoded.records(BOUND).unwrap().collect());
        assert_eq!(a, b, "{codec:?}");
        if codec == Compression::None {
            assert_eq!(&ours.bytes()[HEADER_LEN..], &encoded.bytes()[HEADER_LEN..]);
        }
    }
}

#[test]
fn offset_and_epoch_are_patched_outside_the_crc_and_the_body_is_not_copied() {
    let batch = three(Compression::None);
    let held = batch.bytes().clone();
    let [head, body] = batch.clone().assign(Offset(0x0102_0304_0506), LeaderEpoch(7));
    assert_eq!(head.len(), PATCHABLE);
    assert_eq!(body.as_ptr(), held[PATCHABLE..].as_ptr());
    let whole = RecordBatch::parse([&head[..], &body[..]].concat().into()).unwrap();
    assert_eq!(whole.summary().base_offset, Offset(0x0102_0304_0506));
    assert_eq!(whole.summary().leader_epoch, Some(LeaderEpoch(7)));
    assert_eq!(whole.summary().crc, batch.summary().crc);
    assert_eq!(whole, batch.clone().with_offset(Offset(0x0102_0304_0506), LeaderEpoch(7)));
    drop((held, head, body));

    let address = batch.bytes().as_ptr();
    let [head, body] = batch.assign(Offset(5), LeaderEpoch(1));
    assert_eq!((head.as_ptr(), body.len()), (address, 0), "nobody else holds it: changed in place");
    assert_eq!(RecordBatch::parse(head).unwrap().header().base(), Offset(5));
}

#[test]
fn log_append_time_replaces_every_timestamp_and_keeps_the_crc_right() {
    for codec in [Compression::None, Compression::Zstd] {
        let stamped = three(codec).with_log_append_time(5555);
        let again = RecordBatch::parse(stamped.bytes().clone()).unwrap();
        assert_eq!(again, stamped);
        assert_eq!(again.header().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(again.header().max_timestamp, 5555);
        assert!(again.records(BOUND).unwrap().all(|record| record.unwrap().timestamp == 5555));
    }
}

#[test]
fn a_control_batch_names_its_kind() {
    let stamp = ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(3), base_sequence: None };
    let marker =
        RecordBatchBuilder::control(Offset(4), LeaderEpoch(2), 77, Some(stamp), &[0, 0, 0, 1], &[0, 0]).unwrap();
    let marker = RecordBatch::parse(marker.into_bytes()).unwrap();
    let summary = marker.summary();
    assert!(summary.is_control && summary.is_transactional);
    assert_eq!((summary.producer, summary.end_offset()), (Some(stamp), Offset(5)));
    assert_eq!(marker.validate_produced(), Err(BatchError::Forbidden("control batch")));

    let plain = RecordBatchBuilder::control(Offset(0), LeaderEpoch(1), 77, None, b"k", b"v").unwrap();
    assert!(plain.summary().is_control && !plain.summary().is_transactional);
}

#[test]
fn a_client_may_not_stamp_a_batch_wrongly() {
    let stamp = ProducerStamp { id: ProducerId(9), epoch: ProducerEpoch(3), base_sequence: None };
    let make = |change: fn(RecordBatchBuilder) -> RecordBatchBuilder| {
        let mut builder = change(RecordBatchBuilder::new(Compression::None));
        builder.push(1, None, Some(b"v"), &[]).unwrap();
        builder.build().unwrap()
    };
    let without_sequence = RecordBatchBuilder::new(Compression::None).producer(stamp);
    let mut builder = without_sequence;
    builder.push(1, None, None, &[]).unwrap();
    let code = |batch: RecordBatch| batch.validate_produced().map_err(BatchError::code);
    assert_eq!(code(builder.build().unwrap()), Err(ErrorCode::InvalidRecord));
    assert_eq!(code(make(RecordBatchBuilder::transactional)), Err(ErrorCode::InvalidRecord));
    assert_eq!(code(make(RecordBatchBuilder::control_batch)), Err(ErrorCode::InvalidRecord));
    assert_eq!(code(make(|builder| builder)), Ok(()));

    let mut holes = RecordBatchBuilder::new(Compression::None);
    holes.push_at(1, 5, None, None, &[]).unwrap();
    holes.push_at(4, 5, None, None, &[]).unwrap();
    assert!(holes.push_at(4, 5, None, None, &[]).is_err(), "no offset twice");
    let holes = RecordBatch::parse(holes.build().unwrap().into_bytes()).expect("compaction leaves such batches");
    assert_eq!(code(holes), Err(ErrorCode::InvalidRecord), "but no client sends them");
    let empty = RecordBatch::parse(RecordBatchBuilder::new(Compression::None).build().unwrap().into_bytes()).unwrap();
    assert_eq!(code(empty), Err(ErrorCode::InvalidRecord));
    let hidden = RecordBatch::parse(around(&[1, 2, 3], 1, 0, 0)).unwrap();
    assert!(hidden.records(BOUND).is_err(), "no record, but bytes that are not gzip");
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let batch = three(Compression::None);
    let code = |at: usize, bytes: &[u8]| RecordBatch::parse(forge(&batch, at, bytes)).map_err(BatchError::code).err();
    assert_eq!(code(0, &(-1i64).to_be_bytes()), Some(ErrorCode::InvalidRecord), "negative base offset");
    assert_eq!(code(0, &(i64::MAX - 1).to_be_bytes()), Some(ErrorCode::InvalidRecord), "last offset overflows");
    assert_eq!(code(8, &(-1i32).to_be_bytes()), Some(ErrorCode::CorruptMessage), "negative length");
    assert_eq!(code(8, &48i32.to_be_bytes()), Some(ErrorCode::CorruptMessage), "shorter than a header");
    assert_eq!(code(8, &i32::MAX.to_be_bytes()), Some(ErrorCode::CorruptMessage), "longer than what is here");
    assert_eq!(code(16, &[1]), Some(ErrorCode::InvalidRecord), "magic 1");
    assert_eq!(code(16, &[3]), Some(ErrorCode::CorruptMessage), "magic 3");
    assert_eq!(code(21, &5i16.to_be_bytes()), Some(ErrorCode::UnsupportedCompressionType));
    assert_eq!(code(23, &(-1i32).to_be_bytes()), Some(ErrorCode::InvalidRecord), "last offset before the first");
    assert_eq!(code(23, &1i32.to_be_bytes()), Some(ErrorCode::InvalidRecord), "fewer offsets than records");
    assert_eq!(code(57, &(-1i32).to_be_bytes()), Some(ErrorCode::InvalidRecord), "negative count");
    assert_eq!(code(57, &2i32.to_be_bytes()), Some(ErrorCode::InvalidRecord), "fewer records than are here");
    let more = around(&batch.bytes()[HEADER_LEN..], 0, i32::MAX - 1, i32::MAX);
    assert_eq!(RecordBatch::parse(more).map_err(BatchError::code).err(), Some(ErrorCode::InvalidRecord));
    assert_eq!(
        RecordBatch::parse(batch.into_bytes().slice(..60)).err(),
        Some(BatchError::Truncated { need: 61, have: 60 })
    );
}

#[test]
fn records_that_do_not_fit_are_refused_compressed_or_not() {
    // length 6 = attributes, timestamp delta, offset delta, key length, value length, header count; zigzag doubles.
    let good: &[u8] = &[12, 0, 0, 0, 1, 1, 0];
    assert!(RecordBatch::parse(around(good, 0, 0, 1)).is_ok());
    let wrong: [(&[u8], i32, i32); 9] = [
        (&[12, 0, 0, 2, 1, 1, 0], 0, 1),                       // offset delta beyond the last
        (&[12, 0, 0, 0, 1, 1, 0, 12, 0, 0, 0, 1, 1, 0], 1, 2), // the same offset twice
        (&[12, 0, 0, 1, 1, 1, 0], 0, 1),                       // a negative offset delta
        (&[14, 0, 0, 0, 1, 1, 0], 0, 1),                       // length beyond the bytes
        (&[14, 0, 0, 0, 1, 1, 0, 0], 0, 1),                    // length beyond the fields
        (&[12, 0, 0, 0, 1, 0xfe, 0xff], 0, 1),                 // cut short in a varint
        (&[12, 0, 0, 0, 3, 1, 0], 0, 1),                       // key length -2
        (&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], 0, 1), // two billion headers
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], 0, 1), // a varint beyond 64 bits
    ];
    for (records, last, count) in wrong {
        let plain = RecordBatch::parse(around(records, 0, last, count)).unwrap_err();
        assert_eq!(plain.code(), ErrorCode::InvalidRecord, "{plain}");
        for codec in &Compression::ALL[1..] {
            let mut body = BytesMut::new();
            codec.compress(records, &mut body).unwrap();
            let batch = RecordBatch::parse(around(&body, i16::from(codec.id()), last, count)).unwrap();
            assert_eq!(batch.validate_deep(BOUND), Err(plain), "{codec:?}");
            assert_eq!(batch.records(BOUND).unwrap().find_map(Result::err), Some(plain), "{codec:?}");
        }
    }
}

#[test]
fn decompression_stops_at_the_bound() {
    let big = build(Compression::None, &[(0, None, Some(vec![0; 4 << 20]), vec![])]);
    for codec in &Compression::ALL[1..] {
        let mut body = BytesMut::new();
        codec.compress(&big.bytes()[HEADER_LEN..], &mut body).unwrap();
        let batch = RecordBatch::parse(around(&body, i16::from(codec.id()), 0, 1)).unwrap();
        assert_eq!(batch.validate_deep(BOUND), Err(BatchError::TooLarge { limit: BOUND }), "{codec:?}");
        assert_eq!(batch.validate_deep(BOUND).unwrap_err().code(), ErrorCode::MessageTooLarge);
        batch.validate_deep(8 << 20).unwrap();
    }
    // A raw snappy block that claims 4 GiB.
    let liar = RecordBatch::parse(around(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 2, 0, 1)).unwrap();
    assert_eq!(liar.validate_deep(usize::MAX), Err(BatchError::Decompression));
}

#[test]
fn bytes_split_into_batches_and_only_a_fetch_may_end_inside_one() {
    let one = three(Compression::None).into_bytes();
    let both: Bytes = [&one[..], &three(Compression::Lz4).into_bytes()[..]].concat().into();
    assert_eq!(split_batches(both.clone()).unwrap().len(), 2);
    assert_eq!(split_batches(Bytes::new()).unwrap().len(), 0);
    for cut in one.len() + 1..both.len() {
        let error = split_batches(both.slice(..cut)).unwrap_err();
        assert!(matches!(error, BatchError::Truncated { .. }), "{error}");
        assert_eq!(split_fetched_batches(both.slice(..cut)).unwrap().len(), 1);
    }
    let mut wrong = both.to_vec();
    wrong[one.len() - 1] ^= 1;
    assert_eq!(split_fetched_batches(wrong.into()).unwrap_err().code(), ErrorCode::CorruptMessage);
}

fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..80))
}

fn input() -> impl Strategy<Value = Input> {
    let header = (prop::collection::vec(any::<u8>(), 0..8), field())
        .prop_map(|(key, value)| RecordHeader { key: key.into(), value: value.map(Bytes::from) });
    (any::<i64>(), field(), field(), prop::collection::vec(header, 0..3))
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_survive_the_round_trip(records in prop::collection::vec(input(), 1..12), codec in codec()) {
        let batch = RecordBatch::parse(build(codec, &records).into_bytes()).unwrap();
        batch.validate_produced().unwrap();
        batch.validate_deep(BOUND).unwrap();
        let back: Vec<Input> = batch.records(BOUND).unwrap().map(Result::unwrap).map(|record| {
            (record.timestamp, record.key.map(Vec::from), record.value.map(Vec::from), record.headers)
        }).collect();
        prop_assert_eq!(back, records);
    }

    #[test]
    fn a_changed_byte_under_the_crc_is_refused(at in 0.0..1.0f64, by in 1u8..=255, codec in codec()) {
        let mut bytes = three(codec).into_bytes().to_vec();
        let range = bytes.len() - CRC_AT;
        let at = CRC_AT + ((range as f64 * at) as usize).min(range - 1);
        bytes[at] ^= by;
        prop_assert!(RecordBatch::parse(bytes.into()).is_err());
    }

    #[test]
    fn bytes_from_a_liar_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        codec in 0i16..8, last in any::<i32>(), count in any::<i32>(), small in any::<bool>(),
    ) {
        let _ = RecordBatch::parse(noise.clone().into());
        let _ = split_fetched_batches(noise.clone().into());
        let (last, count) = if small { (last & 7, count & 7) } else { (last, count) };
        if let Ok(batch) = RecordBatch::parse(around(&noise, codec, last, count)) {
            let _ = batch.validate_deep(BOUND);
            if let Ok(records) = batch.records(BOUND) {
                prop_assert!(records.count() <= noise.len().max(BOUND));
            }
        }
    }

    #[test]
    fn changed_records_with_a_right_crc_never_panic(at in 0usize..400, by in any::<u8>(), codec in codec()) {
        let batch = three(codec);
        let at = HEADER_LEN + at % (batch.size() - HEADER_LEN);
        if let Ok(batch) = RecordBatch::parse(forge(&batch, at, &[by])) {
            let deep = batch.validate_deep(BOUND);
            let read: Result<Vec<Record>, BatchError> = match batch.records(BOUND) {
                Ok(records) => records.collect(),
                Err(error) => Err(error),
            };
            prop_assert_eq!(deep.is_ok(), read.is_ok());
        }
    }
}
