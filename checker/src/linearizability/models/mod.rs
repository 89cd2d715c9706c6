//! Small objects that are linearizable, or should be.

pub(crate) mod kv;
pub(crate) mod register;
pub(crate) mod topic;
pub(crate) mod voters;
