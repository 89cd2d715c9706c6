//! Producer, consumer and admin client for any Kafka cluster.
//!
//! It knows the protocol and nothing of our broker: no decision is shared with it, so the two can disagree. The outside
//! is reached through [`broker_env::Env`], so the same client runs over real TCP and in a simulated world.
//!
//! - [`Client`]: the cluster as one client sees it. Metadata, connections, retries; admin requests in [`Admin`].
//! - [`Producer`]: batching, linger, idempotence, retries. Each record's [`Delivery`] says what became of it, and when
//!   that is not known, it says so: [`Outcome`].
//! - [`Consumer`]: assigned partitions, seek, poll; tells with the records what each fetch was told by the broker.
//!
//! What is decided is decided in plain structs without I/O (`producer::machine`, `consumer::machine`,
//! `metadata_cache`); the loops around them only carry bytes. Configuration is named as Kafka names it.

mod admin;
mod backoff;
mod client;
mod configs;
mod connection;
mod consumer;
mod error;
mod metadata_cache;
mod producer;
mod signal;

pub use admin::{Admin, ClusterDescription, CreatedTopic, ListedOffset, NewTopic, OffsetSpec, TopicDescription};
pub use client::{Client, ClientConfig, MetadataHeard};
pub use configs::TopicConfig;
pub use consumer::{
    AutoOffsetReset, ConsumedRecord, Consumer, ConsumerConfig, ConsumerError, ConsumerEvent, FetchFacts,
    IsolationLevel, Polled,
};
pub use error::{ClientError, Outcome};
pub use metadata_cache::{NodeAddress, PartitionMetadata, TopicMetadata};
pub use producer::{
    Acks, AfterEpochBump, Delivery, ProduceError, Producer, ProducerConfig, ProducerState, Record, RecordHeader,
    RecordMetadata,
};
