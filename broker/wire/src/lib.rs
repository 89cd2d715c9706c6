//! Bytes to typed requests, replies and records, and back.
