use super::*;
use proptest::prelude::*;

const TOPIC: Uuid = Uuid(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
const DIR_A: Uuid = Uuid(0x0000_0000_0000_1111_0000_0000_0000_2222);
const DIR_B: Uuid = Uuid(0x0000_0000_0000_3333_0000_0000_0000_4444);

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn hex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn encoded(record: &MetadataRecord) -> String {
    let mut out = BytesMut::new();
    record.encode(&mut out);
    out.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn register_broker() -> RegisterBrokerRecord {
    RegisterBrokerRecord {
        broker: NodeId(3),
        incarnation: TOPIC,
        broker_epoch: BrokerEpoch(1_234_567_890_123),
        endpoints: vec![Endpoint {
            name: "PLAINTEXT".into(),
            host: "broker-3".into(),
            port: 50092,
            security_protocol: 0,
        }],
        features: vec![SupportedFeature { name: METADATA_VERSION.into(), min: 7, max: 30 }],
        rack: Some("b".into()),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: vec![DIR_A, DIR_B],
        cordoned_log_dirs: None,
    }
}

fn partition() -> PartitionRecord {
    PartitionRecord {
        partition: 4,
        topic: TOPIC,
        replicas: nodes(&[1, 2, 300]),
        isr: nodes(&[2, 300]),
        removing: vec![],
        adding: nodes(&[300]),
        leader: Some(NodeId(2)),
        recovery: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(5),
        partition_epoch: PartitionEpoch(9),
        directories: vec![DIR_A, DIR_B, TOPIC],
        elr: vec![],
        last_known_elr: vec![],
    }
}

fn change() -> PartitionChangeRecord {
    PartitionChangeRecord::new(TOPIC, 4)
}

/// What Kafka 4.3.1's own serializer writes for the same records.
fn vectors() -> Vec<(MetadataRecord, &'static str)> {
    use MetadataRecord as M;
    let moved = BrokerRegistrationChangeRecord::new(NodeId(2), BrokerEpoch(12));
    vec![
        (
            M::RegisterBroker(register_broker()),
            "01000400000003000123456789abcdef00112233445566770000011f71fb04cb020a504c41494e544558540962726f6b65722d33c3ac00000002116d657461646174612e76657273696f6e0007001e0002620100010021030000000000001111000000000000222200000000000033330000000000004444",
        ),
        (
            M::RegisterBroker(RegisterBrokerRecord {
                rack: None,
                fenced: false,
                in_controlled_shutdown: true,
                log_dirs: vec![],
                cordoned_log_dirs: Some(vec![DIR_B]),
                ..register_broker()
            }),
            "01000400000003000123456789abcdef00112233445566770000011f71fb04cb020a504c41494e544558540962726f6b65722d33c3ac00000002116d657461646174612e76657273696f6e0007001e000000010101110200000000000033330000000000004444",
        ),
        (
            M::UnregisterBroker(UnregisterBrokerRecord { broker: NodeId(3), broker_epoch: BrokerEpoch(77) }),
            "01010000000003000000000000004d00",
        ),
        (
            M::Topic(TopicRecord { name: "orders".into(), id: TOPIC }),
            "010200076f72646572730123456789abcdef001122334455667700",
        ),
        (
            M::Partition(partition()),
            "010302000000040123456789abcdef00112233445566770400000001000000020000012c03000000020000012c01020000012c0000000200000005000000090400000000000011110000000000002222000000000000333300000000000044440123456789abcdef001122334455667700",
        ),
        (
            M::Partition(PartitionRecord {
                leader: None,
                recovery: LeaderRecoveryState::Recovering,
                elr: nodes(&[1]),
                last_known_elr: nodes(&[2]),
                ..partition()
            }),
            "010302000000040123456789abcdef00112233445566770400000001000000020000012c03000000020000012c01020000012cffffffff00000005000000090400000000000011110000000000002222000000000000333300000000000044440123456789abcdef0011223344556677030001010105020000000102050200000002",
        ),
        (
            M::Config(ConfigRecord {
                resource: ConfigResource::topic(&"orders".into()),
                key: "min.insync.replicas".into(),
                value: Some("2".into()),
            }),
            "01040002076f7264657273146d696e2e696e73796e632e7265706c69636173023200",
        ),
        (
            M::Config(ConfigRecord {
                resource: ConfigResource::all_brokers(),
                key: "unclean.leader.election.enable".into(),
                value: None,
            }),
            "01040004011f756e636c65616e2e6c65616465722e656c656374696f6e2e656e61626c650000",
        ),
        (
            M::PartitionChange(PartitionChangeRecord {
                isr: Some(nodes(&[2])),
                leader: Some(Some(NodeId(2))),
                ..change()
            }),
            "010502000000040123456789abcdef00112233445566770200050200000002010400000002",
        ),
        (
            M::PartitionChange(PartitionChangeRecord { leader: Some(None), ..change() }),
            "010502000000040123456789abcdef0011223344556677010104ffffffff",
        ),
        (
            M::PartitionChange(PartitionChangeRecord {
                isr: Some(nodes(&[1])),
                leader: Some(Some(NodeId(1))),
                replicas: Some(nodes(&[1, 2])),
                removing: Some(vec![]),
                adding: Some(nodes(&[2])),
                recovery: Some(LeaderRecoveryState::Recovering),
                directories: Some(vec![DIR_A, DIR_B]),
                elr: Some(nodes(&[2])),
                last_known_elr: Some(vec![]),
                ..change()
            }),
            "010502000000040123456789abcdef00112233445566770900050200000001010400000001020903000000010000000203010104050200000002050101060502000000020701010821030000000000001111000000000000222200000000000033330000000000004444",
        ),
        (M::RemoveTopic(RemoveTopicRecord { topic: TOPIC }), "0109000123456789abcdef001122334455667700"),
        (
            M::FeatureLevel(FeatureLevelRecord { name: METADATA_VERSION.into(), level: 30 }),
            "010c00116d657461646174612e76657273696f6e001e00",
        ),
        (
            M::ProducerIds(ProducerIdsRecord {
                broker: Some(NodeId(2)),
                broker_epoch: Some(BrokerEpoch(12)),
                next: ProducerId(3000),
            }),
            "010f0000000002000000000000000c0000000000000bb800",
        ),
        (
            M::ProducerIds(ProducerIdsRecord { broker: None, broker_epoch: None, next: ProducerId(1000) }),
            "010f00ffffffffffffffffffffffff00000000000003e800",
        ),
        (
            M::BrokerRegistrationChange(BrokerRegistrationChangeRecord { fenced: Some(true), ..moved.clone() }),
            "01110000000002000000000000000c01000101",
        ),
        (
            M::BrokerRegistrationChange(BrokerRegistrationChangeRecord { fenced: Some(false), ..moved.clone() }),
            "01110000000002000000000000000c010001ff",
        ),
        (
            M::BrokerRegistrationChange(BrokerRegistrationChangeRecord {
                in_controlled_shutdown: true,
                log_dirs: vec![DIR_A],
                cordoned_log_dirs: Some(vec![]),
                ..moved
            }),
            "01110300000002000000000000000c0301010102110200000000000011110000000000002222030101",
        ),
        (M::NoOp, "01140000"),
        (
            M::BeginTransaction { name: Some("Bootstrap records".into()) },
            "01170001001212426f6f747374726170207265636f726473",
        ),
        (M::BeginTransaction { name: None }, "01170000"),
        (M::EndTransaction, "01180000"),
        (M::AbortTransaction { reason: Some("failover".into()) }, "011900010009096661696c6f766572"),
        (
            M::RegisterController(RegisterControllerRecord {
                controller: NodeId(101),
                incarnation: TOPIC,
                endpoints: vec![Endpoint {
                    name: "CONTROLLER".into(),
                    host: "c1".into(),
                    port: 9093,
                    security_protocol: 0,
                }],
                features: vec![SupportedFeature { name: METADATA_VERSION.into(), min: 7, max: 30 }],
            }),
            "011b00000000650123456789abcdef001122334455667700020b434f4e54524f4c4c4552036331238500000002116d657461646174612e76657273696f6e0007001e0000",
        ),
    ]
}

#[test]
fn every_record_is_what_kafka_writes_and_reads_back() {
    for (record, bytes) in vectors() {
        assert_eq!(encoded(&record), bytes, "{record:?}");
        assert_eq!(MetadataRecord::decode(&hex(bytes)), Ok(record));
    }
}

#[test]
fn records_of_older_versions_are_read() {
    let oldest = "010000000000030123456789abcdef00112233445566770000011f71fb04cb020a504c41494e544558540962726f6b65722d33c3ac00000002116d657461646174612e76657273696f6e0007001e0002620100";
    let expected = RegisterBrokerRecord { log_dirs: vec![], ..register_broker() };
    assert_eq!(MetadataRecord::decode(&hex(oldest)), Ok(MetadataRecord::RegisterBroker(expected)));
    let oldest = "010300000000040123456789abcdef00112233445566770400000001000000020000012c03000000020000012c01020000012c00000002000000050000000900";
    let expected = PartitionRecord { directories: vec![], ..partition() };
    assert_eq!(MetadataRecord::decode(&hex(oldest)), Ok(MetadataRecord::Partition(expected)));
}

#[test]
fn a_frame_that_is_not_ours_is_refused_with_the_reason() {
    let decode = |text| MetadataRecord::decode(&hex(text)).unwrap_err();
    assert_eq!(decode("00140000"), RecordError::FrameVersion(0));
    assert_eq!(decode("01120000"), RecordError::UnknownType(18));
    assert_eq!(decode("01140100"), RecordError::UnknownVersion { key: 20, version: 1 });
    assert_eq!(decode("0114000000"), RecordError::TrailingBytes { left: 1 });
    assert_eq!(decode("0114"), RecordError::Truncated { have: 2, need: 1 });
    assert_eq!(decode("01140001000201"), RecordError::Truncated { have: 7, need: 1 });
}

#[test]
fn a_claimed_length_that_the_bytes_cannot_pay_for_is_refused() {
    // A partition whose replica array claims 2^32 - 2 entries.
    let hostile = "010302000000040123456789abcdef0011223344556677ffffffff0f";
    assert!(matches!(MetadataRecord::decode(&hex(hostile)), Err(RecordError::Truncated { .. })));
    let varint_of_five_bytes_too_large = "0114ffffffffff";
    assert_eq!(MetadataRecord::decode(&hex(varint_of_five_bytes_too_large)), Err(RecordError::InvalidField("varint")));
}

#[test]
fn an_unknown_tag_is_skipped_and_a_repeated_one_refused() {
    assert_eq!(MetadataRecord::decode(&hex("01140001070200ff")), Ok(MetadataRecord::NoOp));
    let twice = "01140002070007 00".replace(' ', "");
    assert_eq!(MetadataRecord::decode(&hex(&twice)), Err(RecordError::InvalidField("tag")));
}

#[test]
fn negative_ids_and_epochs_are_refused() {
    let unregister_minus_one = "010100ffffffff000000000000004d00";
    assert_eq!(MetadataRecord::decode(&hex(unregister_minus_one)), Err(RecordError::InvalidField("BrokerId")));
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = MetadataRecord::decode(&Bytes::from(bytes));
    }

    /// One byte of a good record changed, or its end cut off: an error, or a record that is written and read alike.
    #[test]
    fn damaged_records_never_panic(which in 0usize..25, at in 0usize..200, byte: u8, cut: bool) {
        let vectors = vectors();
        let mut bytes = hex(vectors[which % vectors.len()].1).to_vec();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(record) = MetadataRecord::decode(&Bytes::from(bytes)) {
            let mut again = BytesMut::new();
            record.encode(&mut again);
            prop_assert_eq!(MetadataRecord::decode(&again.freeze()), Ok(record));
        }
    }
}
