//! A history in, a verdict out.
//!
//! The judge shares no logic with the accused: it knows what clients saw ([`History`]) and what brokers admit
//! ([`observed`]), and nothing of how either came about.

mod history;
mod verdict;

pub use history::{
    Acks, History, Isolation, Op, OpId, OpKind, Outcome, Poll, Read, SessionId, SimTime, TailRead, ValueId,
    Send,
};
pub use verdict::{CheckOutcome, CheckResult, Verdict, Violation};
