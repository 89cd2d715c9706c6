//! What clients do: loops over our own client, each on a host of its own, that write down what they invoke and get.

mod admin_churn;
mod consume;
mod own;
mod produce;
mod producer_ids;

pub use admin_churn::admin_churn;
pub use consume::{consume, read_to_end};
pub use own::{Own, SendAs, Session};
pub use produce::produce;
pub use producer_ids::ProducerIds;

use crate::cluster::Shared;
use crate::recorder::{Recorder, moment};
use broker_client::{Client, ClientConfig};
use broker_env::SharedEnv;
use broker_env::watch;
use bytes::{BufMut, Bytes, BytesMut};
use checker::ValueId;
use sim::World;
use std::sync::Arc;

/// What every client of a run shares.
#[derive(Clone)]
pub struct Scene {
    /// The world, for its time.
    pub world: World,
    /// Where histories are written.
    pub recorder: Recorder,
    /// The cluster from outside.
    pub shared: Arc<Shared>,
    /// Becomes true when workloads are to stop.
    pub stop: watch::Receiver<bool>,
    /// `bootstrap.servers`.
    pub bootstrap: Vec<(String, u16)>,
}

impl Scene {
    /// A client of this cluster.
    #[must_use]
    pub fn client(&self, env: SharedEnv, client_id: &str) -> Client {
        self.client_of(env, self.client_config(client_id))
    }

    /// A client that behaves so. What brokers tell it of the metadata is written down, in a session of its own.
    #[must_use]
    pub fn client_of(&self, env: SharedEnv, config: ClientConfig) -> Client {
        let client = Client::new(env.clone(), config);
        let (scene, session) = (self.clone(), self.recorder.session());
        client.on_metadata(move |heard| {
            let (asked, now) = (consume::asked_at(&env, &scene)(heard.asked_at), moment(scene.world.now()));
            scene.recorder.metadata(session, asked, now, heard);
        });
        client
    }

    /// How such a client behaves.
    #[must_use]
    pub fn client_config(&self, client_id: &str) -> ClientConfig {
        ClientConfig {
            bootstrap: self.bootstrap.clone(),
            client_id: client_id.to_owned(),
            allow_auto_create_topics: false,
            ..ClientConfig::default()
        }
    }
}

/// Marks values that a workload made.
const MAGIC: u32 = 0x7472_6961;
/// Bytes of a value before its filler.
const HEAD: usize = 12;

/// A value of `size` bytes, at least [`HEAD`], that carries its identity.
#[must_use]
pub fn value_bytes(id: ValueId, size: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(size.max(HEAD));
    bytes.put_u32(MAGIC);
    bytes.put_u64(id.0);
    // A filler that depends on the identity, so that bytes of another record are noticed.
    let filler = (id.0 as u8) | 1;
    bytes.resize(size.max(HEAD), filler);
    bytes.freeze()
}

/// The identity in a value; `None` if no workload made these bytes.
#[must_use]
pub fn value_id(value: Option<&[u8]>) -> Option<ValueId> {
    let value = value?;
    let (magic, rest) = value.split_first_chunk::<4>()?;
    let (id, _) = rest.split_first_chunk::<8>()?;
    (u32::from_be_bytes(*magic) == MAGIC).then(|| ValueId(u64::from_be_bytes(*id)))
}

/// Hash over all that a client may say of a record.
#[must_use]
pub fn digest<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    timestamp: i64,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut part = |bytes: Option<&[u8]>| {
        hash.update(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hash.update(bytes.unwrap_or_default());
    };
    part(key);
    part(value);
    part(Some(&timestamp.to_le_bytes()));
    for (key, value) in headers {
        part(Some(key));
        part(value);
    }
    hash.digest()
}
