//! Which operation belongs to which transaction, and what became of each.

use crate::history::{Op, OpKind, Outcome, SessionId};
use std::collections::BTreeMap;

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Its commit was acknowledged.
    Committed,
    /// Nobody ever asked to commit it, or that was refused for good.
    Aborted,
    /// Its commit was asked for, and nobody knows what came of it.
    Unknown,
}

/// One transaction of one session.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) fate: Fate,
    /// The operations in it, as places in the history: from its beginning to its end.
    pub(crate) begin: u32,
    pub(crate) end: Option<u32>,
    /// Sends and commits of offsets.
    pub(crate) parts: Vec<u32>,
}

/// All transactions of a history.
#[derive(Default)]
pub(crate) struct Transactions {
    pub(crate) all: Vec<Transaction>,
    /// By operation.
    of: BTreeMap<u32, u32>,
}

impl Transactions {
    pub(crate) fn new(ops: &[Op]) -> Self {
        let mut transactions = Transactions::default();
        let mut open: BTreeMap<SessionId, u32> = BTreeMap::new();
        for (at, op) in (0..).zip(ops) {
            match &op.kind {
                OpKind::Begin => {
                    open.insert(op.session, transactions.all.len() as u32);
                    let fate = Fate::Aborted;
                    transactions.all.push(Transaction { fate, begin: at, end: None, parts: Vec::new() });
                }
                OpKind::Send(_) | OpKind::CommitOffsets(_) => {
                    if let Some(number) = open.get(&op.session) {
                        transactions.all[*number as usize].parts.push(at);
                        transactions.of.insert(at, *number);
                    }
                }
                OpKind::EndTransaction(end) => {
                    let Some(number) = open.remove(&op.session) else { continue };
                    let transaction = &mut transactions.all[number as usize];
                    transaction.end = Some(at);
                    transaction.fate = match (end.commit, op.outcome) {
                        (true, Outcome::Ok) => Fate::Committed,
                        (true, Outcome::Unknown) => Fate::Unknown,
                        _ => Fate::Aborted,
                    };
                }
                OpKind::Poll(_)
                | OpKind::TailRead(_)
                | OpKind::InitProducer(_)
                | OpKind::FetchOffsets(_)
                | OpKind::Assign(_)
                | OpKind::Topic(_)
                | OpKind::Voters(_)
                | OpKind::ProducerId(_)
                | OpKind::Metadata(_)
                | OpKind::Config(_) => {}
            }
        }
        transactions
    }

    /// The transaction that an operation belongs to.
    pub(crate) fn of(&self, at: u32) -> Option<&Transaction> {
        self.of.get(&at).map(|number| &self.all[*number as usize])
    }

    /// Its number.
    pub(crate) fn number_of(&self, at: u32) -> Option<u32> {
        self.of.get(&at).copied()
    }
}
