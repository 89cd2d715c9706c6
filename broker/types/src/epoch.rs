//! Epochs: numbers that only compare.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident($inner:ty), $short:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The epoch after this one.
            #[must_use]
            pub fn next(self) -> Self {
                $name(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($short, "{}"), self.0)
            }
        }
    };
}

epoch!(
    /// The term of one partition's leader, written into each batch (KIP-101). For `__cluster_metadata` it is the
    /// quorum epoch of KRaft (KIP-595). Never negative.
    LeaderEpoch(i32), "e"
);
epoch!(
    /// Counts every change of one partition's registration at the controller (KIP-497).
    PartitionEpoch(i32), "pe"
);
epoch!(
    /// Names one registration of one broker: the offset of its registration record (KIP-631).
    BrokerEpoch(i64), "be"
);
epoch!(
    /// Fences older sessions of one producer id (KIP-98).
    ProducerEpoch(i16), "pre"
);
