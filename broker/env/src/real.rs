//! The real world, on tokio.

/// The real world.
pub struct TokioEnv;
