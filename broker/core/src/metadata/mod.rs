//! What every node knows of the cluster: the metadata log, replayed.
//!
//! [`MetadataImage`] is the state after a prefix of `__cluster_metadata`; it is a value, cheap to clone and shared
//! between its versions. [`MetadataDelta`] is what differs between two of them, so that a broker touches only the
//! replicas that changed.

mod delta;
mod image;

pub use delta::{BrokerDelta, LocalChanges, MetadataDelta, PartitionDelta};
pub use image::{
    BrokerRegistration, ControllerRegistration, MetadataImage, PartitionRegistration, ReplayError, TopicImage,
    UNASSIGNED_DIRECTORY,
};
