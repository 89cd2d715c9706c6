//! What went wrong, and what that says about the cluster.

use broker_types::ErrorCode;
use std::fmt;

/// What a failed operation leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Outcome {
    /// It surely had and will have no effect: each attempt was refused before it could have one, or was never sent.
    Definite,
    /// It may have had an effect, or may have one later.
    Indeterminate,
}

/// Why an operation failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientError {
    /// Kafka's code; for what no broker said: REQUEST_TIMED_OUT, NETWORK_EXCEPTION, UNSUPPORTED_VERSION.
    pub code: ErrorCode,
    /// What is known of the effect.
    pub outcome: Outcome,
    /// For people: the broker's message, or what the client saw.
    pub detail: String,
}

impl ClientError {
    pub(crate) fn definite(code: ErrorCode, detail: impl Into<String>) -> Self {
        ClientError { code, outcome: Outcome::Definite, detail: detail.into() }
    }

    pub(crate) fn indeterminate(code: ErrorCode, detail: impl Into<String>) -> Self {
        ClientError { code, outcome: Outcome::Indeterminate, detail: detail.into() }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.code, self.outcome)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for ClientError {}
