//! Order and identity of records as clients see them.

pub(crate) mod lag;
pub(crate) mod offsets;
pub(crate) mod polls;
pub(crate) mod records;
pub(crate) mod sends;
