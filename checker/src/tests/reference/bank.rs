//! Transfers between accounts, one at a time: each is a transaction that writes both accounts' new balances.

use super::{ACCOUNTS, Cluster, State, Step, sent};
use crate::history::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ACCOUNTS_IN_ALL: u64 = 3;
/// What they hold together.
pub(super) const TOTAL: i64 = 300;

/// What comes of a transfer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) enum Came {
    Committed,
    Aborted,
    /// Nobody is told whether it took effect.
    Unknown(bool),
}

#[derive(Default)]
pub(super) struct Bank {
    balances: BTreeMap<u64, i64>,
    /// Sessions that came to know no more.
    lost: u32,
}

impl Cluster {
    /// The first one opens the accounts.
    pub(super) fn transfer(&mut self, (from, to): (u64, u64), amount: i64, came: Came) {
        let held = |key: u64| self.bank.balances.get(&key).copied().unwrap_or_default();
        if self.bank.balances.is_empty() {
            let each = TOTAL / ACCOUNTS_IN_ALL as i64;
            self.write((0..ACCOUNTS_IN_ALL).map(|key| (key, each)).collect(), Came::Committed);
        } else if from != to {
            self.write(vec![(from, held(from) - amount), (to, held(to) + amount)], came);
        }
    }

    fn write(&mut self, balances: Vec<(u64, i64)>, came: Came) {
        let session = 20_001 + 2 * self.bank.lost;
        self.op(session, Outcome::Ok, 0, OpKind::Begin);
        self.transactions.push(State::Open);
        let transaction = self.transactions.len() - 1;
        for (key, balance) in &balances {
            self.now += 4;
            let offset = Some(self.append(ACCOUNTS, transaction, Some(*key)));
            let send =
                Send { offset, key: Some(*key), balance: Some(*balance), ..sent(ACCOUNTS, ValueId(self.values)) };
            self.op(session, Outcome::Ok, 0, OpKind::Send(send));
        }
        self.now += 4;
        let commits = matches!(came, Came::Committed | Came::Unknown(true));
        self.decide(transaction, if commits { State::Committed } else { State::Aborted });
        if commits {
            self.bank.balances.extend(balances);
        }
        let (outcome, error) = match came {
            Came::Unknown(_) => (Outcome::Unknown, Some("REQUEST_TIMED_OUT".to_owned())),
            _ => (Outcome::Ok, None),
        };
        self.bank.lost += u32::from(outcome == Outcome::Unknown);
        let end = EndTransaction { commit: came != Came::Aborted, error };
        self.op(session, outcome, 0, OpKind::EndTransaction(end));
    }
}

pub(super) fn steps() -> impl Strategy<Value = Step> {
    let came = prop_oneof![
        5 => Just(Came::Committed),
        1 => Just(Came::Aborted),
        1 => any::<bool>().prop_map(Came::Unknown),
    ];
    let account = 0..ACCOUNTS_IN_ALL;
    (account.clone(), account, 1i64..50, came).prop_map(|(from, to, amount, came)| Step::Transfer {
        from,
        to,
        amount,
        came,
    })
}
